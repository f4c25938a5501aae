"""Networks that torch.export cannot trace whole: the submodules that do trace are folded each by itself.

A submodule computes the same afterwards, whatever calls it, so that the network does too. That
holds where nobody reaches into it: neither calls a module inside it, nor shares a tensor with it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray
from torch import nn

from bnfold.data import InputSpec, Sample, SampleOptions, open_sample
from bnfold.errors import ModelError, OutputError, UsageError, VerificationError
from bnfold.files import SourceFile, meant
from bnfold.formats.torch.file.factory import is_factory, loaded
from bnfold.formats.torch.file.saving import STATE_DICTS, write_tensors
from bnfold.formats.torch.file.state import read_tensors
from bnfold.formats.torch.file.tensors import same_elements, same_memory
from bnfold.formats.torch.graph.model import TorchModel, digest_of
from bnfold.formats.torch.graph.open import Examples, Given, example_inputs_for, open_module
from bnfold.formats.torch.graph.trace import outputs_of, same_outputs, unwrapped
from bnfold.formats.torch.modules import copied, with_tensors
from bnfold.formats.torch.reaching import reaching
from bnfold.formats.torch.watch import Watch

_ABOVE = 1e-3  # of an output's range, as the cap of a verification


@dataclass(eq=False)
class Parts:
    """The submodules of a network that trace, by name, each opened; ``notes`` on the others.

    ``chosen``: whether the user named them. ``source`` is the checkpoint in a factory.
    """

    network: nn.Module
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    chosen: bool = False
    path: Path = Path()
    source: SourceFile | None = None
    models: dict[str, TorchModel] = field(default_factory=dict)
    modules: dict[str, nn.Module] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    # How often a call of the network calls each module, in the order of the first calls.
    calls: dict[str, int] = field(default_factory=dict)

    @classmethod
    def of(
        cls, network: nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any], only: Sequence[str]
    ) -> Parts:
        """Calls a copy of ``network`` once, and traces what was called in it.

        Args:
            network: a module; not changed.
            args: what to call it with.
            kwargs: and by name.
            only: the names of submodules; none: the largest that trace.

        Raises:
            UsageError: where it has no submodule of such a name.
            ModelError: where it does not run, or no submodule with BatchNorm traces.
        """
        path = Path(type(network).__name__)
        found = cls(network, tuple(args), dict(kwargs), bool(only), path)
        copy = copied(unwrapped(network)).eval()
        names = dict(copy.named_modules())
        unknown = [name for name in only if name not in names]
        if unknown:
            some = ", ".join(name for name, _ in copy.named_children())
            hint = meant(unknown[0], filter(None, names), f"there are {some}, and those in them")
            raise UsageError(
                f"{type(network).__name__} has no submodule {', '.join(unknown)}; {hint}"
            )
        watch = Watch(copy)
        watch.run(found.args, found.kwargs)
        found.calls = {name: len(watch.callers[name]) for name in watch.calls}
        for name in only or [name for name, _ in copy.named_children()]:
            found._open(name, names[name], watch)
        if not found.models:
            raise ModelError(f"no submodule of {type(network).__name__} traces ({found.notes[0]})")
        return found

    @classmethod
    def open(
        cls,
        source: str,
        only: Sequence[str],
        *,
        weights: Path | None = None,
        weights_key: str | None = None,
        inputs: Sequence[str] = (),
        examples: Examples | None = None,
        given: Given | None = None,
        allow_pickle: bool = False,
    ) -> Parts:
        """The submodules of what a factory makes. Arguments as for `open_torch`, errors as for `of`.

        Raises:
            UsageError: where ``source`` is a file, which holds no modules.
        """
        if not is_factory(source):
            raise UsageError(
                f"{source} is no factory, and only modules have submodules; name the code: "
                "package.module:factory or file.py:factory"
            )
        module, file = loaded(source, weights, weights_key, allow_pickle=allow_pickle)
        args, kwargs = example_inputs_for(module, inputs, given, examples)
        found = cls.of(module, args, kwargs, only)
        found.path, found.source = Path(source), file
        return found

    # What the guards and reports of a command ask of a model.
    format = "torch"

    @property
    def file(self) -> Path:
        return self.path if self.source is None else self.source.path

    @property
    def files(self) -> list[Path]:
        return [] if self.source is None else [self.source.path]

    @property
    def sha256(self) -> str:
        if self.source is not None:
            return self.source.sha256()
        return digest_of(self.network.state_dict())

    def check_unchanged(self) -> None:
        if self.source is not None:
            self.source.check()

    def reaching(
        self, name: str, data: Any, sampling: SampleOptions, network: nn.Module | None = None
    ) -> Iterator[dict[str, NDArray[Any]]]:
        """What reaches a submodule where a copy of ``network`` (this one) runs on ``data``.

        Raises as `reaching`.
        """

        def opened(specs: Sequence[InputSpec]) -> Sample:
            return open_sample(data, specs, sampling)

        whole = copied(self.network if network is None else network)
        return reaching(whole, name, self.models[name], opened)

    def in_order_of_calls(self) -> list[str]:
        """The submodules, those first whose outputs the others may get."""
        return sorted(self.models, key=list(self.calls).index)

    def check_called_once(self) -> None:
        """Raises a `UsageError` where a submodule may be given what it computed itself."""
        for name in self.models:
            if self.calls[name] > 1:
                raise UsageError(
                    f"{name} is called {self.calls[name]} times in one run, perhaps on what it "
                    "computed itself, so that it has no statistics of its own; recalibrate the "
                    "network as a whole, or submodules of it"
                )

    def check_models(self, wanted: Iterable[str]) -> None:
        """Raises a `ModelError` where a submodule of another network is none here."""
        missing = [name for name in wanted if name not in self.models]
        if missing:
            why = f" ({self.notes[0]})" if self.notes else ""
            raise ModelError(f"{self.path} has no submodule {missing[0]} that traces{why}")

    def changed(self, name: str, written: Path) -> dict[str, torch.Tensor]:
        """What a file of a submodule's tensors changes, by names in the whole.

        Raises:
            UsageError: where another module holds one of these tensors too.
        """
        own, found = self.modules[name].state_dict(), read_tensors(written)
        changed = {n: t for n, t in found.items() if not same_elements(own[n], t)}
        if self.is_shared(name, list(changed)):
            raise UsageError(f"{name} shares a tensor that would change with another module")
        return {f"{name}.{leaf}": tensor for leaf, tensor in changed.items()}

    def _open(self, name: str, module: nn.Module, watch: Watch) -> None:
        """Traces ``module``, or else the modules in it."""
        if not any(hasattr(inner, "running_mean") for inner in module.modules()):
            return
        why = watch.obstacle(name)
        if why is None:
            args, kwargs = watch.calls[name]
            try:
                self.models[name] = open_module(module, args, kwargs)
                self.modules[name] = module
                return
            except ModelError as error:
                why = str(error)
        self.notes.append(f"{name} is not taken as one: {why}")
        for leaf, child in module.named_children():
            self._open(f"{name}.{leaf}", child, watch)

    def is_shared(self, name: str, changed: Sequence[str]) -> bool:
        """Whether a tensor that a part changes is one of another module as well."""
        tensors = dict(unwrapped(self.network).state_dict())
        own = {f"{name}.{leaf}" for leaf in changed}
        return any(
            same_memory(tensors[mine], other)
            for mine in own
            for theirs, other in tensors.items()
            if theirs != mine
        )

    def with_tensors(self, tensors: Mapping[str, torch.Tensor]) -> nn.Module:
        """A copy of the network with other elements in some parameters and buffers."""
        return with_tensors(self.network, tensors)

    def write(self, path: Path, tensors: Mapping[str, torch.Tensor]) -> None:
        """Writes the state dict of the whole network, with other elements in some of it.

        Raises:
            OutputError: where the suffix of ``path`` is that of no state dict.
        """
        self.check_suffix(path)
        write_tensors(self._state(tensors), path, {"changed": sorted(tensors)})

    def check_suffix(self, path: Path) -> None:
        """Raises an `OutputError` where the suffix of ``path`` is that of no state dict."""
        if path.suffix.lower() not in STATE_DICTS:
            raise OutputError(
                f"{path.name}: with submodules, a state dict of the whole network is written; name "
                f"the file {', '.join(STATE_DICTS)}"
            )

    def read_back(self, path: Path, tensors: Mapping[str, torch.Tensor]) -> nn.Module:
        """A copy of the network with what was written.

        Raises:
            VerificationError: where that is something else than was to be written.
        """
        wanted, found = self._state(tensors), read_tensors(path)
        unlike = [n for n in wanted if n not in found or not same_elements(wanted[n], found[n])]
        unlike += [name for name in found if name not in wanted]
        if unlike:
            raise VerificationError(f"{path.name} does not hold what was written: {unlike[0]}")
        return self.with_tensors({name: found[name] for name in tensors})

    def _state(self, tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        own = unwrapped(self.network).state_dict()
        return {name: tensors.get(name, tensor).detach() for name, tensor in own.items()}

    def computes_the_same(self, result: nn.Module) -> bool:
        """Whether the network as a whole gives the same on the example inputs."""
        own = (self.args, dict(self.kwargs))
        before = outputs_of(copied(unwrapped(self.network)).eval(), own)
        after = outputs_of(copied(unwrapped(result)).eval(), own)
        return same_outputs(before, after, _ABOVE)
