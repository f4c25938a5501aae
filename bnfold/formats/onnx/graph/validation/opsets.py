"""Versions: that of the file format, and one of each operator set."""

from __future__ import annotations

import onnx

from bnfold.errors import ModelError

_LARGEST = (1 << 31) - 1  # what the libraries count with


def validate_opsets(model: onnx.ModelProto) -> None:
    """The versions by which the file says what its operators mean.

    Raises:
        ModelError: where one is no version, or two contradict each other.
    """
    if not -_LARGEST <= model.ir_version <= _LARGEST:
        raise ModelError(f"its format is of version {model.ir_version}, which does not exist")
    versions: dict[str, int] = {}
    for opset in model.opset_import:
        domain = "" if opset.domain == "ai.onnx" else opset.domain
        said = f"operator set {opset.domain or 'ai.onnx'!r}"
        if not (-_LARGEST if domain else 1) <= opset.version <= _LARGEST:
            raise ModelError(f"{said} is imported at version {opset.version}, which does not exist")
        if versions.setdefault(domain, opset.version) != opset.version:
            raise ModelError(
                f"{said} is imported at versions {versions[domain]} and {opset.version}"
            )
    uses_standard = any(node.domain in ("", "ai.onnx") for node in model.graph.node)
    if uses_standard and "" not in versions:
        raise ModelError(
            "no version of the standard operator set is imported, so that its nodes mean nothing"
        )
