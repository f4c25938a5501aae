"""A pass for Microsoft Olive: fold the BatchNorm of an ONNX model, proved, before other passes.

Olive finds it by its package configuration: ``olive_package.json`` beside this file holds the entry.
"""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Any

from bnfold.api import fold
from bnfold.errors import UsageError, VerificationError

try:
    from olive.model import ONNXModelHandler
    from olive.model.utils import resolve_onnx_path
    from olive.passes import Pass
    from olive.passes.pass_config import PassConfigParam
except ImportError as error:
    raise UsageError(f"this module is for Olive ({error}): pip install olive-ai") from None


def package_config() -> Path:
    """The file for ``olive run --package-config``, and for ``package_config`` of ``olive.run``.

    It replaces Olive's own list of passes; merge the two where others are wanted as well.
    """
    return Path(str(resources.files(__package__).joinpath("olive_package.json")))


class BatchNormFold(Pass):  # type: ignore[misc]
    """Folds every BatchNorm that can go exactly; the model is handed on only where that is proved."""

    @classmethod
    def _default_config(cls, accelerator_spec: Any) -> dict[str, PassConfigParam]:
        return {
            "reparameterize": PassConfigParam(
                type_=bool, default_value=False, description="Merge parallel branches (RepVGG)."
            ),
            "strict": PassConfigParam(
                type_=bool, default_value=False, description="Fail where a BatchNorm has to stay."
            ),
        }

    def _run_for_config(self, model: Any, config: Any, output_model_path: str) -> Any:
        if not isinstance(model, ONNXModelHandler):
            raise UsageError(
                "BatchNormFold takes ONNX models: let a conversion pass come before it"
            )
        target = Path(resolve_onnx_path(output_model_path))
        done = fold(
            model.model_path,
            target,
            strict=config.strict,
            reparameterize=config.reparameterize,
        )
        if not done.ok:
            raise VerificationError(f"{model.model_path} was not folded: {done.plan.kept} stay")
        external = any(path != target for path in target.parent.iterdir() if path.is_file())
        if external:
            return ONNXModelHandler(str(target.parent), onnx_file_name=target.name)
        return ONNXModelHandler(str(target))
