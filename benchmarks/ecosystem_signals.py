"""Networks for volumes, speech, signals, series, tables and graphs of `ecosystem`, by library."""

from __future__ import annotations

from typing import Any

import torch

from benchmarks.ecosystem_making import (
    Made,
    Maker,
    found,
    hugging,
    named,
    network,
    networks,
    noise,
    tokens,
)

_NETS = "monai.networks.nets"
MONAI = {
    "monai UNet": network(
        _NETS, "UNet", 1, 1, 16, 16, 16, spatial_dims=3, in_channels=1, out_channels=2,
        channels=(4, 8, 16), strides=(2, 2), norm="batch",
    ),
    "monai SegResNet": network(
        _NETS, "SegResNet", 1, 1, 16, 16, 16, spatial_dims=3, init_filters=4, norm="batch"
    ),
    "monai DenseNet": network(
        _NETS, "DenseNet", 2, 1, 64, 64, spatial_dims=2, in_channels=1, out_channels=2,
        block_config=(2, 2), init_features=8, growth_rate=8,
    ),
    "monai AttentionUnet": network(
        _NETS, "AttentionUnet", 1, 1, 32, 32, spatial_dims=2, in_channels=1, out_channels=2,
        channels=(4, 8, 16), strides=(2, 2),
    ),
    "monai HighResNet": network(
        _NETS, "HighResNet", 1, 1, 16, 16, 16, spatial_dims=3, in_channels=1, out_channels=2
    ),
    "monai EfficientNetBN": network(
        _NETS, "EfficientNetBN", model_name="efficientnet-b0", pretrained=False, spatial_dims=2
    ),
    "monai DynUNet": network(
        _NETS, "DynUNet", 1, 1, 32, 32, spatial_dims=2, in_channels=1, out_channels=2,
        kernel_size=[3, 3, 3], strides=[1, 2, 2], upsample_kernel_size=[2, 2], filters=[4, 8, 16],
        norm_name="batch",
    ),
}  # fmt: skip

_EEG = {"n_chans": 8, "n_outputs": 2, "n_times": 512, "sfreq": 128}
BRAINDECODE = networks(
    "braindecode", "braindecode.models",
    "EEGNet ShallowFBCSPNet Deep4Net EEGConformer ATCNet EEGITNet EEGInceptionMI TIDNet FBCNet SPARCNet "
    "CTNet SincShallowNet",
    2, 8, 512, **_EEG,
)  # fmt: skip

_LOBES = "speechbrain.lobes.models"


def _crdnn() -> Made:
    made = found(f"{_LOBES}.CRDNN", "CRDNN")(
        input_shape=[2, 40, 16], cnn_channels=(4, 8), rnn_neurons=8, dnn_neurons=8,
        time_pooling=True,
    )  # fmt: skip
    return made, (noise(2, 40, 16),), {}


def _contextnet() -> Made:
    made = found(f"{_LOBES}.ContextNet", "ContextNet")(
        input_shape=(2, 40, 16), out_channels=8, inner_dim=8, conv_channels=(8,) * 21
    )
    return made, (noise(2, 40, 16),), {}


SPEECHBRAIN = {
    "speechbrain ECAPA_TDNN": network(
        f"{_LOBES}.ECAPA_TDNN", "ECAPA_TDNN", 2, 60, 40, input_size=40,
        channels=[32, 32, 32, 32, 96], attention_channels=16, lin_neurons=24,
    ),
    "speechbrain Xvector": network(
        f"{_LOBES}.Xvector", "Xvector", 2, 60, 40, device="cpu", in_channels=40
    ),
    "speechbrain ResNet": network(
        f"{_LOBES}.ResNet", "ResNet", 2, 60, 40, input_size=40, channels=[8, 8, 16, 16],
        block_sizes=[1, 1, 1, 1], lin_neurons=16,
    ),
    "speechbrain Cnn14": network(f"{_LOBES}.Cnn14", "Cnn14", 2, 64, 40, mel_bins=40, emb_dim=32),
    "speechbrain CRDNN": _crdnn,
    "speechbrain ContextNet": _contextnet,
    "speechbrain Tacotron2 Postnet": network(
        f"{_LOBES}.Tacotron2", "Postnet", 2, 16, 20, n_mel_channels=16, postnet_embedding_dim=32
    ),
}  # fmt: skip


def _lengths(name: str, *shape: int, **options: Any) -> Maker:
    """A network of torchaudio that takes the length of every sample as well."""
    return lambda: (
        found("torchaudio.models", name)(**options),
        (noise(*shape), torch.tensor([shape[1], shape[1] - 4])),
        {},
    )


def _tacotron() -> Made:
    made = found("torchaudio.models", "Tacotron2")(n_mels=8, encoder_embedding_dim=16,
        decoder_rnn_dim=16, attention_rnn_dim=16, prenet_dim=8, postnet_embedding_dim=16,
        attention_hidden_dim=8, symbol_embedding_dim=16, attention_location_n_filter=4)  # fmt: skip
    lengths = torch.tensor([12, 9])
    return made, (tokens(2, 12), lengths, noise(2, 8, 14), torch.tensor([14, 10])), {}


TORCHAUDIO = {
    "torchaudio Conformer": _lengths(
        "Conformer", 2, 20, 16, input_dim=16, num_heads=2, ffn_dim=32, num_layers=2,
        depthwise_conv_kernel_size=7,
    ),
    "torchaudio Tacotron2": _tacotron,
    "torchaudio WaveRNN": lambda: (
        found("torchaudio.models", "WaveRNN")(
            upsample_scales=[2, 2], n_classes=8, hop_length=4, n_res_block=2, n_rnn=16, n_fc=16,
            n_freq=8, n_hidden=16, n_output=16,
        ),
        (noise(1, 1, 40), noise(1, 1, 8, 14)),
        {},
    ),
}  # fmt: skip


def _click(name: str, **options: Any) -> Maker:
    """A network of deepctr-torch on three sparse and two dense features."""

    def make() -> Made:
        sparse, dense = (found("deepctr_torch.inputs", n) for n in ("SparseFeat", "DenseFeat"))
        columns = [sparse(f"s{i}", 20, embedding_dim=8) for i in range(3)]
        columns += [dense(f"d{i}", 1) for i in range(2)]
        made = found("deepctr_torch.models", name)(columns, columns, **options)
        return made, (torch.cat([tokens(4, 3).float(), noise(4, 2)], 1),), {}

    return make


_DEEP = {"dnn_use_bn": True, "dnn_hidden_units": (16, 8)}
DEEPCTR = {
    "deepctr-torch DeepFM": _click("DeepFM", **_DEEP),
    "deepctr-torch DCN": _click("DCN", **_DEEP),
    "deepctr-torch AutoInt": _click("AutoInt", **_DEEP),
    "deepctr-torch IFM": _click("IFM", **_DEEP),
}


def _graph(name: str, **options: Any) -> Maker:
    edges = torch.tensor([[0, 1, 2, 3, 4, 5], [1, 2, 3, 4, 5, 0]])
    return lambda: (found("torch_geometric.nn", name)(**options), (noise(6, 8), edges), {})


def _batched(name: str, **options: Any) -> Maker:
    def make() -> Made:
        made, given, _ = _graph(name, **options)()
        return made, (*given, torch.zeros(6, dtype=torch.long)), {}

    return make


_SAGE = {"in_channels": 8, "hidden_channels": 16, "num_layers": 3, "norm": "batch_norm"}
GEOMETRIC = {
    "PyG GIN": _graph("GIN", **_SAGE),
    "PyG GCN": _graph("GCN", **_SAGE),
    "PyG GAT": _graph("GAT", **_SAGE),
    "PyG GraphSAGE": _graph("GraphSAGE", **_SAGE),
    "PyG MLP": network("torch_geometric.nn", "MLP", 4, 8, channel_list=[8, 16, 16, 4]),
    "PyG LINKX": _graph(
        "LINKX", num_nodes=6, in_channels=8, hidden_channels=16, out_channels=4, num_layers=2
    ),
    "PyG SGFormer": _batched("SGFormer", in_channels=8, hidden_channels=16, out_channels=4),
    "PyG PMLP": _graph("PMLP", in_channels=8, hidden_channels=16, out_channels=4, num_layers=3),
}

_SPEECH = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32,
    "conv_dim": [16, 16], "conv_stride": [5, 2], "conv_kernel": [10, 3],
    "num_conv_pos_embeddings": 8, "num_conv_pos_embedding_groups": 2,
}  # fmt: skip
TRANSFORMERS: dict[str, Maker] = {
    f"transformers {name}": maker
    for name, maker in {
        "Wav2Vec2-Conformer": hugging(
            "Wav2Vec2ConformerConfig", "Wav2Vec2ConformerModel", named(input_values=(2, 800)), **_SPEECH
        ),
        "Hubert": hugging(
            "HubertConfig", "HubertModel", named(input_values=(2, 800)), **_SPEECH,
            conv_pos_batch_norm=True,
        ),
        "SpeechT5": hugging(
            "SpeechT5Config", "SpeechT5ForTextToSpeech",
            named(input_ids=(2, 9), decoder_input_values=(2, 6, 16), speaker_embeddings=(2, 16)),
            hidden_size=32, encoder_layers=1, encoder_attention_heads=2, encoder_ffn_dim=32,
            decoder_layers=1, decoder_ffn_dim=32, decoder_attention_heads=2, num_mel_bins=16,
            speech_decoder_prenet_units=16, speech_decoder_postnet_units=16, speaker_embedding_dim=16,
        ),
        "FastSpeech2-Conformer": hugging(
            "FastSpeech2ConformerConfig", "FastSpeech2ConformerModel", named(input_ids=(1, 9)),
            hidden_size=32, encoder_layers=1, decoder_layers=1, encoder_num_attention_heads=2,
            decoder_num_attention_heads=2, encoder_linear_units=32, decoder_linear_units=32,
            num_mel_bins=16, vocab_size=40, speech_decoder_postnet_units=16,
            duration_predictor_channels=16, energy_predictor_channels=16, pitch_predictor_channels=16,
        ),
        "CLAP audio": hugging(
            "ClapAudioConfig", "ClapAudioModel", named(input_features=(1, 1, 1001, 64)),
            spec_size=256, patch_embeds_hidden_size=16, hidden_size=32, depths=[1, 1],
            num_attention_heads=[2, 2], enable_fusion=False,
        ),
        "Parakeet": hugging(
            "ParakeetEncoderConfig", "ParakeetEncoder", named(input_features=(2, 40, 80)),
            hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
            subsampling_conv_channels=16,
        ),
        "PatchTST": hugging(
            "PatchTSTConfig", "PatchTSTForPrediction", named(past_values=(2, 32, 2)),
            num_input_channels=2, patch_length=4, patch_stride=4, num_hidden_layers=2, d_model=16,
            num_attention_heads=2, ffn_dim=32, prediction_length=8,
        ),
        "PatchTSMixer": hugging(
            "PatchTSMixerConfig", "PatchTSMixerForPrediction", named(past_values=(2, 32, 2)),
            num_input_channels=2, context_length=32, patch_length=4, patch_stride=4, d_model=16,
            num_layers=2, norm_mlp="BatchNorm", prediction_length=8,
        ),
    }.items()
}  # fmt: skip

SIGNALS: dict[str, Maker] = {
    **MONAI, **BRAINDECODE, **SPEECHBRAIN, **TORCHAUDIO, **DEEPCTR, **GEOMETRIC, **TRANSFORMERS,
}  # fmt: skip
