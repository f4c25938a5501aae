"""onnxruntime without graph optimisations and without its log."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnxruntime as ort


def quiet_options() -> ort.SessionOptions:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    # Threads that wait by spinning take the processor from everything else.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options


def frugal_options() -> ort.SessionOptions:
    """The same for a few runs: what a run has used goes back at once, not when the session ends."""
    options = quiet_options()
    options.enable_cpu_mem_arena = options.enable_mem_pattern = False
    return options


def small_options() -> ort.SessionOptions:
    """The same for a few small nodes: no threads and no arena, which take longer than the work."""
    options = quiet_options()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.enable_cpu_mem_arena = options.enable_mem_pattern = False
    return options
