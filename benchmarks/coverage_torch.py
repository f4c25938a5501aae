"""How many BatchNorm are left in torchvision and timm architectures, as a Markdown table.

    pip install 'bnfold[torch]' && pip install --no-deps torchvision timm
    python benchmarks/coverage_torch.py [NAME ...] > table.md

Weights are random; statistics are measured on noise and then perturbed, so that activations stay of
order one and no fold is trivially the identity. Every fold is checked in float64, where only
exactness counts: the folded program's outputs may differ from the original's by 1e-9 of their range.
The column "merged" is with --reparameterize. Beside both stands
torch.fx.experimental.optimization.fuse, on the same network.

``--stub FOLDER`` names a folder with a ``tvstub.py`` that makes torchvision importable beside a
torch without its C++ operators.
"""

from __future__ import annotations

import argparse
import copy
import json
import subprocess
import sys
import warnings
from collections import Counter
from typing import Any

LIMIT = 1e-9
TIMEOUT = 900
TORCHVISION = (
    "resnet18 resnext50_32x4d densenet121 googlenet inception_v3 mnasnet0_5 mobilenet_v2 "
    "mobilenet_v3_small efficientnet_b0 efficientnet_v2_s regnet_y_400mf regnet_x_400mf "
    "shufflenet_v2_x0_5 vgg11_bn"
).split()
TORCHVISION_OTHERS = (
    "segmentation.lraspp_mobilenet_v3_large segmentation.fcn_resnet50 video.r3d_18 video.mc3_18"
).split()
# None of those that stand above under the same name.
TIMM = (
    "halonet_h1 eca_botnext26ts_256 lambda_resnet26t test_byobnet mobileone_s0 mobileone_s2 "
    "eca_resnext26ts repvgg_a0 gernet_s convmixer_768_32 cpubone_nano cs3darknet_focus_s "
    "cs3darknet_s cspnext_tiny cspresnet50 densenetblur121d dla46x_c dla46_c dla34 dpn48b "
    "dpn68 efficientformer_l1 efficientformerv2_s0 efficientformerv2_s1 tinynet_c tinynet_a "
    "mobilenetv2_075 efficientnet_lite0 tf_mixnet_m mixnet_s efficientvim_m1 "
    "efficientvit_b0 efficientvit_b1 efficientvit_m0 efficientvit_m1 fasternet_t0 fasternet_t1 "
    "fastvit_t8 fastvit_t12 fastvit_mci0 ghostnet_050 ghostnetv3_050 ghostnetv2_100 hardcorenas_a "
    "hgnetv2_b0 hgnet_tiny hrnet_w18_small iformer_t inception_next_atto inception_v4 "
    "lcnetv2_small levit_128s levit_conv_128s lowformer_b0 lowformer_e1 test_coatnet "
    "coatnet_nano_rw_224 maxvit_nano_rw_256 mobilenetv3_small_050 lcnet_035 mobilenetv4_conv_small_035 "
    "mobilevit_xxs mobilevitv2_050 mobilevit_xs nextvit_small regnetx_002 regnety_002 regnetz_b16 "
    "repghostnet_050 repghostnet_100 repvit_m1 repvit_m0_9 res2next50 res2net50_14w_8s resnest14d "
    "test_resnet resnet14t ecaresnext26t_32x4d resnet26 resnet50 seresnext26d_32x4d "
    "resnetv2_18 resnetv2_18d rexnet_100 rexnetr_100 selecsls42 selecsls42b legacy_seresnet18 shvit_s1 "
    "skresnet18 starnet_s050 starnet_s100 swiftformer_xs tiny_vit_5m_224 tresnet_m "
    "visformer_tiny vit_small_resnet26d_224 volo_d1_224 ese_vovnet19b_slim_dw ese_vovnet19b_slim "
    "vovnet39a legacy_xception xception41p xception41 xcit_nano_12_p8_224 xcit_nano_12_p16_224"
).split()
NAMES = [
    *(f"torchvision/{name}" for name in (*TORCHVISION, *TORCHVISION_OTHERS)),
    *(f"timm/{name}" for name in TIMM),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", default=NAMES)
    parser.add_argument("--stub", default="", help="folder of tvstub.py")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(measured(arguments.names[0], arguments.stub, arguments.threads)))
        return
    print("| architecture | BN | fx.fuse | bnfold | merged | error (float64) | left, why |")
    print("|---|--:|--:|--:|--:|--:|---|")
    totals: Counter[str] = Counter()
    for name in arguments.names:
        show(name, in_process(name, arguments), totals)
    sums = " | ".join(str(totals[key]) for key in ("before", "fx", "left", "merged"))
    print(f"| **all {totals['done']}** | {sums} | | |")
    shares = [100 * totals[key] / max(totals["before"], 1) for key in ("left", "merged")]
    print(f"\nLeft: {shares[0]:.2f} %, with --reparameterize {shares[1]:.2f} %.")
    print(f"Failed: {totals['failed']}. Wrong: {totals['wrong']}.")
    print(f"fx.fuse: failed on {totals['fx failed']}, wrong on {totals['fx wrong']}.")


def in_process(name: str, arguments: Any) -> dict[str, Any]:
    """One architecture, in a process of its own."""
    command = [sys.executable, __file__, "--one", "--stub", arguments.stub]
    command += ["--threads", str(arguments.threads), name]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, check=False)
    except subprocess.TimeoutExpired:
        return {"failed": "timeout"}
    if done.returncode:
        return {"failed": (done.stderr.strip().splitlines() or ["?"])[-1][:200]}
    result: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return result


def show(name: str, result: dict[str, Any], totals: Counter[str]) -> None:
    if "failed" in result:
        totals["failed"] += 1
        print(f"| {name} | | | | | | failed: {result['failed']} |", flush=True)
        return
    before, left, fx = result["before"], result["left"], result["fx"]
    totals.update(done=1, before=before, left=left, merged=result["merged"])
    totals["fx"] += before if fx is None else fx
    totals["wrong"] += result["error"] > LIMIT
    totals["fx failed"] += fx is None
    totals["fx wrong"] += bool(result["fx wrong"])
    why = ", ".join(f"{code} {count}" for code, count in result["reasons"].items())
    shown = "failed" if fx is None else f"{fx}{' (wrong)' if result['fx wrong'] else ''}"
    counts = f"{before} | {shown} | {left} | {result['merged']}"
    print(f"| {name} | {counts} | {result['error']:.0e} | {why} |", flush=True)


def measured(name: str, stub: str, threads: int) -> dict[str, Any]:
    """BN before and left, the largest relative error in float64, and the same for the peer."""
    import torch

    from bnfold.formats.torch import open_module
    from bnfold.planning import make_plan

    torch.set_num_threads(threads)
    warnings.simplefilter("ignore")
    torch.manual_seed(1)
    module, example = built(name, stub)
    model = open_module(module, (example,))
    plan, merged = (make_plan(model.graph, reparameterize=r) for r in (False, True))
    error = 0.0
    for each in (plan, merged):
        edited = model.edit(each)
        assert edited.batch_norm_count == each.kept
        with torch.no_grad():
            error = max(error, distance(module(example), edited.module()(example)))
    fx, wrong = peer(module, example)
    reasons = Counter(d.reason.reason.code for d in plan.batch_norms if d.reason)
    before = len(plan.batch_norms)
    return {
        "before": before,
        "left": plan.kept,
        "merged": merged.kept,
        "error": error,
        "fx": fx,
        "fx wrong": wrong,
        "reasons": dict(reasons),
        "notes": model.notes,
    }


def built(name: str, stub: str) -> tuple[Any, Any]:
    """A calibrated module in float64 and eval mode, and an input of the smallest size it takes."""
    import torch

    failure: Exception | None = None
    torch.manual_seed(1)
    for shape in shapes(name, made(name, stub)):
        module = made(name, stub)
        try:
            calibrate(module, shape)
        except Exception as error:  # this size is too small for this network
            failure = error
            continue
        return module.double().eval(), torch.randn(shape, dtype=torch.float64)
    assert failure is not None
    raise failure


def shapes(name: str, module: Any) -> list[tuple[int, ...]]:
    """Small sizes first, then the one that the network was made for."""
    if "video" in name:
        return [(2, 3, 8, 64, 64)]
    own = getattr(module, "pretrained_cfg", None) or {}
    *_, size = own.get("input_size", (3, 224, 224))
    sizes = [size] if own.get("fixed_input_size") else [64, 96, 128, size]
    return [(2, 3, n, n) for n in dict.fromkeys(sizes)]


def made(name: str, stub: str) -> Any:
    if stub:
        sys.path.insert(0, stub)
        __import__("tvstub")
    family, _, rest = name.partition("/")
    if family == "timm":
        import timm

        return timm.create_model(rest)
    import torchvision

    home: Any = torchvision.models
    *path, last = rest.split(".")
    for part in path:
        home = getattr(home, part)
    extra = {"weights_backbone": None} if "segmentation" in name else {}
    if last in ("googlenet", "inception_v3"):
        extra = {"init_weights": True}
    return getattr(home, last)(weights=None, **extra)


def calibrate(module: Any, shape: tuple[int, ...]) -> None:
    """Puts statistics of order one into every BN, then perturbs them."""
    import torch

    norms = [m for m in module.modules() if isinstance(m, torch.nn.modules.batchnorm._BatchNorm)]
    with torch.no_grad():
        for norm in norms:
            if norm.affine:
                norm.weight.uniform_(0.5, 1.5)
                norm.bias.normal_(0, 0.2)
            norm.reset_running_stats()
            norm.momentum = None
        module.eval()
        for norm in norms:
            norm.train()
        module(torch.randn(shape))
        module.eval()
        for norm in norms:
            deviation = (norm.running_var + norm.eps).sqrt()
            norm.momentum = 0.1
            norm.running_mean.add_(0.1 * deviation * torch.randn_like(deviation))
            norm.running_var.mul_(torch.empty_like(deviation).uniform_(0.8, 1.25)).add_(1e-4)


def distance(reference: Any, other: Any) -> float:
    """The largest difference over all outputs, relative to the range of each."""
    from torch.utils import _pytree as pytree

    pairs = zip(pytree.tree_leaves(reference), pytree.tree_leaves(other), strict=True)
    return max(float((a - b).abs().max() / a.abs().max().clamp_min(1e-300)) for a, b in pairs)


def peer(module: Any, example: Any) -> tuple[int | None, bool]:
    """What torch.fx.experimental.optimization.fuse leaves, None where it fails, and if it is wrong."""
    import torch
    from torch.fx.experimental.optimization import fuse

    try:
        fused = fuse(copy.deepcopy(module))
        with torch.no_grad():
            wrong = distance(module(example), fused(example)) > LIMIT
    except Exception:  # the peer fails in many ways
        return None, False
    left = 0
    for node in fused.graph.nodes:  # modules that run, and functions called by modules seen through
        if node.op == "call_module":
            called = fused.get_submodule(node.target)
            left += isinstance(called, torch.nn.modules.batchnorm._BatchNorm)
        left += node.target is torch.nn.functional.batch_norm
    return left, wrong


if __name__ == "__main__":
    main()
