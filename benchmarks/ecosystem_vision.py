"""Networks for images of `ecosystem`, by library."""

from __future__ import annotations

from typing import Any

from benchmarks.ecosystem_making import Made, Maker, found, hugging, named, network, networks, noise

_TV = "torchvision.models"
_DETECTION = {"weights": None, "weights_backbone": None}


_TWO_STAGES = {
    "min_size": 64,
    "max_size": 64,
    "rpn_pre_nms_top_n_test": 20,
    "rpn_post_nms_top_n_test": 5,
    "box_score_thresh": 0.0,
}


def _detector(name: str, **options: Any) -> Maker:
    def make() -> Made:
        made = found(f"{_TV}.detection", name)(**_DETECTION, **options)
        return made, ([noise(3, 64, 64)],), {}

    return make


def _timm(names: str, *shape: int) -> dict[str, Maker]:
    def maker(name: str) -> Maker:
        return lambda: (
            found("timm", "create_model")(name, pretrained=False),
            (noise(*shape),),
            {},
        )

    return {f"timm {name}": maker(name) for name in names.split()}


def _ultralytics(task: str, name: str) -> Maker:
    return lambda: (
        found("ultralytics.nn.tasks", task)(f"{name}.yaml", verbose=False),
        (noise(),),
        {},
    )


def _cv(name: str, *shape: int) -> Maker:
    provider = "pytorchcv.model_provider"
    return lambda: (found(provider, "get_model")(name, pretrained=False), (noise(*shape),), {})


TORCHVISION: dict[str, Maker] = {
    **networks("torchvision", _TV, "resnet18 mobilenet_v3_small shufflenet_v2_x0_5"),
    "torchvision googlenet": network(_TV, "googlenet", init_weights=False, aux_logits=False),
    "torchvision r3d_18": network(f"{_TV}.video", "r3d_18", 1, 3, 4, 32, 32),
    "torchvision r2plus1d_18": network(f"{_TV}.video", "r2plus1d_18", 1, 3, 4, 32, 32),
    "torchvision lraspp": network(
        f"{_TV}.segmentation", "lraspp_mobilenet_v3_large", weights_backbone=None
    ),
    "torchvision fasterrcnn": _detector("fasterrcnn_mobilenet_v3_large_320_fpn", **_TWO_STAGES),
    "torchvision ssdlite": _detector(
        "ssdlite320_mobilenet_v3_large", topk_candidates=9, score_thresh=0.0
    ),
    "torchvision retinanet": _detector(
        "retinanet_resnet50_fpn", min_size=64, max_size=64, topk_candidates=9, score_thresh=0.0
    ),
}
TIMM = {
    **_timm("resnetv2_18 ghostnet_100 repvit_m0_9 mixnet_s"),
    **_timm("levit_128s", 2, 3, 224, 224),
}
SEGMENTATION = networks(
    "segmentation-models-pytorch", "segmentation_models_pytorch",
    "Unet UnetPlusPlus FPN PAN DeepLabV3Plus UPerNet", 2, 3, 128, 128,
    encoder_name="resnet18", encoder_weights=None,
)  # fmt: skip
PYTORCHCV = {
    f"pytorchcv {name}": _cv(name, 2, 3, 224, 224)
    for name in (
        "preresnet10 mobilenet_wd4 shufflenet_g1_wd4 sqnxt23_w1 diaresnet10 "
        "menet108_8x1_g3 igcv3_wd4"
    ).split()
}
ULTRALYTICS = {
    f"ultralytics {name}": _ultralytics(task, name)
    for task, name in (
        ("DetectionModel", "yolov5n"),
        ("DetectionModel", "yolov8n"),
        ("DetectionModel", "yolov10n"),
        ("DetectionModel", "yolo11n"),
        ("SegmentationModel", "yolo11n-seg"),
        ("ClassificationModel", "yolo11n-cls"),
    )
}
KORNIA = {
    "kornia HardNet": network("kornia.feature", "HardNet", 2, 1, 32, 32, pretrained=False),
    "kornia HyNet": network("kornia.feature", "HyNet", 2, 1, 32, 32, pretrained=False),
    "kornia SOSNet": network("kornia.feature", "SOSNet", 2, 1, 32, 32, pretrained=False),
    "kornia KeyNet": network("kornia.feature", "KeyNet", 1, 1, 48, 48, pretrained=False),
    "kornia OriNet": network("kornia.feature", "OriNet", 2, 1, 32, 32, pretrained=False),
    "kornia XFeat": network("kornia.feature.xfeat", "XFeatModel", 1, 3, 64, 64),
}
OTHERS = {
    "open_clip ModifiedResNet": network(
        "open_clip.modified_resnet", "ModifiedResNet", layers=[1, 1, 1, 1], output_dim=32, heads=2,
        image_size=64, width=16,
    ),
    "efficientnet-pytorch b0": lambda: (
        found("efficientnet_pytorch", "EfficientNet").from_name("efficientnet-b0"),
        (noise(),),
        {},
    ),
}  # fmt: skip

_SMALL = {"depths": [1, 1, 1, 1], "embedding_size": 16, "hidden_sizes": [16, 32, 64, 64]}
_STAGES = {**_SMALL, "out_features": ["stage4"]}
_DETR = {
    "d_model": 32, "encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": 32,
    "decoder_ffn_dim": 32, "encoder_attention_heads": 2, "decoder_attention_heads": 2,
    "num_queries": 5,
}  # fmt: skip
_RT = {
    "d_model": 32, "encoder_hidden_dim": 32, "encoder_ffn_dim": 32, "encoder_attention_heads": 2,
    "decoder_layers": 2, "decoder_ffn_dim": 32, "decoder_attention_heads": 2, "num_queries": 5,
    "encoder_in_channels": [32, 64, 64], "decoder_in_channels": [32, 32, 32],
    "backbone_config": ("RTDetrResNetConfig", {**_SMALL, "out_indices": [2, 3, 4]}),
}  # fmt: skip
_BACK = {"backbone_config": ("ResNetConfig", _STAGES)}
_FOUR = {**_SMALL, "out_features": ["stage1", "stage2", "stage3", "stage4"]}
_VIT = {"image_size": 64, "hidden_size": 32, "num_hidden_layers": 4, "num_attention_heads": 2,
        "intermediate_size": 32}  # fmt: skip

TRANSFORMERS: dict[str, Maker] = {
    f"transformers {name}": maker
    for name, maker in {
        "ResNet": hugging("ResNetConfig", "ResNetForImageClassification", **_SMALL),
        "RegNet": hugging(
            "RegNetConfig", "RegNetForImageClassification", **_SMALL, groups_width=8
        ),
        "MobileNetV1": hugging(
            "MobileNetV1Config", "MobileNetV1ForImageClassification", depth_multiplier=0.25
        ),
        "MobileNetV2": hugging(
            "MobileNetV2Config", "MobileNetV2ForImageClassification", depth_multiplier=0.35
        ),
        "MobileViT": hugging(
            "MobileViTConfig", "MobileViTForImageClassification", image_size=64,
            hidden_sizes=[16, 24, 32], neck_hidden_sizes=[8, 8, 8, 16, 16, 16, 32],
        ),
        "MobileViTV2": hugging(
            "MobileViTV2Config", "MobileViTV2ForSemanticSegmentation", image_size=64,
            width_multiplier=0.25, aspp_out_channels=32,
        ),
        "EfficientNet": hugging(
            "EfficientNetConfig", "EfficientNetForImageClassification", width_coefficient=0.25,
            depth_coefficient=0.25, hidden_dim=320,
        ),
        "LeViT": hugging(
            "LevitConfig", "LevitForImageClassification", named(pixel_values=(2, 3, 64, 64)),
            image_size=64, hidden_sizes=[32, 48, 64], num_attention_heads=[2, 3, 4], depths=[1, 1, 1],
            key_dim=[8, 8, 8],
        ),
        "SegFormer": hugging(
            "SegformerConfig", "SegformerForSemanticSegmentation", depths=[1, 1, 1, 1],
            hidden_sizes=[8, 16, 24, 32], num_attention_heads=[1, 2, 2, 2], decoder_hidden_size=16,
        ),
        "CvT": hugging(
            "CvtConfig", "CvtForImageClassification", embed_dim=[16, 32, 32], num_heads=[1, 2, 2],
            depth=[1, 2, 3],
        ),
        "SwiftFormer": hugging(
            "SwiftFormerConfig", "SwiftFormerForImageClassification", image_size=64,
            depths=[1, 1, 1, 1], embed_dims=[8, 16, 24, 32],
        ),
        "HGNetV2": hugging("HGNetV2Config", "HGNetV2ForImageClassification"),
        "TextNet": hugging("TextNetConfig", "TextNetForImageClassification"),
        "PPLCNet": hugging("PPLCNetConfig", "PPLCNetForImageClassification"),
        "BEiT": hugging(
            "BeitConfig", "BeitForSemanticSegmentation", **_VIT, patch_size=16,
            out_indices=[1, 2, 3, 4], auxiliary_channels=16,
        ),
        "Data2VecVision": hugging(
            "Data2VecVisionConfig", "Data2VecVisionForSemanticSegmentation", **_VIT, patch_size=16,
            out_indices=[0, 1, 2, 3], auxiliary_channels=16,
        ),
        "UperNet": hugging(
            "UperNetConfig", "UperNetForSemanticSegmentation", hidden_size=16,
            auxiliary_channels=16, auxiliary_in_channels=64,
            backbone_config=("ResNetConfig", _FOUR),
        ),
        "DPT": hugging(
            "DPTConfig", "DPTForDepthEstimation", **_VIT, patch_size=16, is_hybrid=False,
            backbone_out_indices=[0, 1, 2, 3], neck_hidden_sizes=[8, 16, 24, 32],
            fusion_hidden_size=16, use_batch_norm_in_fusion_residual=True,
        ),
        "VitMatte": hugging(
            "VitMatteConfig", "VitMatteForImageMatting", named(pixel_values=(1, 4, 64, 64)),
            hidden_size=32, convstream_hidden_sizes=[8, 16, 24], fusion_hidden_sizes=[32, 16, 8, 8],
            backbone_config=("VitDetConfig", {
                "num_channels": 4, "image_size": 64, "hidden_size": 32, "num_hidden_layers": 2,
                "num_attention_heads": 2, "out_features": ["stage2"], "window_size": 0,
                "use_relative_position_embeddings": False,
            }),
        ),
        "VitPose": hugging(
            "VitPoseConfig", "VitPoseForPoseEstimation", use_simple_decoder=False, num_labels=5,
            backbone_config=("VitPoseBackboneConfig", {
                "image_size": [64, 64], "patch_size": [16, 16], "hidden_size": 32,
                "num_hidden_layers": 2, "num_attention_heads": 2, "out_features": ["stage2"],
            }),
        ),
        "DETR": hugging("DetrConfig", "DetrForObjectDetection", **_DETR, **_BACK),
        "Conditional DETR": hugging(
            "ConditionalDetrConfig", "ConditionalDetrForObjectDetection", **_DETR, **_BACK
        ),
        "Deformable DETR": hugging(
            "DeformableDetrConfig", "DeformableDetrForObjectDetection",
            **{**_DETR, "decoder_layers": 2},
            backbone_config=("ResNetConfig", {**_SMALL, "out_features": ["stage2", "stage3", "stage4"]}),
        ),
        "Table Transformer": hugging(
            "TableTransformerConfig", "TableTransformerForObjectDetection", **_DETR, **_BACK
        ),
        "RT-DETR": hugging("RTDetrConfig", "RTDetrForObjectDetection", **_RT),
        "RT-DETRv2": hugging("RTDetrV2Config", "RTDetrV2ForObjectDetection", **_RT),
        "D-FINE": hugging(
            "DFineConfig", "DFineForObjectDetection",
            **{**_RT, "backbone_config": ("HGNetV2Config", {"out_features": ["stage2", "stage3", "stage4"]}),
               "encoder_in_channels": [512, 1024, 2048]},
        ),
        "EfficientLoFTR": hugging(
            "EfficientLoFTRConfig", "EfficientLoFTRModel", named(pixel_values=(1, 2, 3, 64, 64)),
        ),
    }.items()
}  # fmt: skip

VISION = {
    **TORCHVISION, **TIMM, **SEGMENTATION, **PYTORCHCV, **ULTRALYTICS, **KORNIA, **OTHERS,
    **TRANSFORMERS,
}  # fmt: skip
