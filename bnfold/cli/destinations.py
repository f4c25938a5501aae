"""Where a command writes: refused before anything else is done, where it must not or cannot."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bnfold.cli.model_options import ModelFlags
from bnfold.cli.models import STDIN
from bnfold.errors import MissingExtraError, OutputError, UsageError

if TYPE_CHECKING:
    from bnfold.files import Use

STDOUT = "-"


def check_paths(
    report: Path | None,
    models: Sequence[str],
    source: ModelFlags,
    *,
    data: str | None = None,
    outputs: Sequence[Path] = (),
    option: str = "-o",
    force: bool = False,
) -> None:
    """Refuses paths that must not or cannot be written, and weights that are not there.

    Raises:
        MissingExtraError: where the page needs Jinja2, which is not installed.
        OutputError: with the path and what to do.
        ModelError: where there are no such weights.
    """
    from bnfold.files import Use, check_destination

    source.check_weights()
    uses = [Use(Path(name), "the input itself", replaceable=True) for name in models]
    if source.weights is not None:
        uses.append(Use(source.weights, "the weights", replaceable=True))
    if data is not None:
        uses.append(Use(Path(data), "the data"))
    for output in outputs:
        check_destination(output, option, uses, force=force)
    uses += [Use(output, "the output of this command") for output in outputs]
    if report is not None:
        _check_page(report, uses)


def _check_page(report: Path, uses: Sequence[Use]) -> None:
    from bnfold.files import check_destination

    if find_spec("jinja2") is None:
        raise MissingExtraError("--report", "html")
    check_destination(report, "--report", (replace(use, replaceable=False) for use in uses))
    if report.suffix.lower() not in (".html", ".htm"):
        raise OutputError(f"{report} is to be a page; name it PAGE.html")


@dataclass(frozen=True)
class Destinations:
    """Which file each model becomes; none where nothing is to be written."""

    names: tuple[str, ...]
    files: Mapping[str, Path]
    option: str = "-o"
    to_stdout: bool = False

    @classmethod
    def of(
        cls,
        names: Sequence[str],
        output: Path | None,
        folder: Path | None,
        *,
        dry_run: bool | None = None,
    ) -> Destinations:
        """What the options say; ``dry_run`` is None where a command always writes.

        Raises:
            UsageError: where they do not go together.
        """
        given = [o for o, v in (("-o", output), ("--output-dir", folder)) if v is not None]
        if len(given) > 1:
            raise UsageError("-o names a file and --output-dir a folder for several; give one")
        if dry_run and given:
            raise UsageError(f"--dry-run writes nothing; leave it out, or leave out {given[0]}")
        if dry_run:
            return cls(tuple(names), {})
        if folder is not None:
            return cls(tuple(names), _in_folder(names, folder), "--output-dir")
        if output is None:
            hint = "" if dry_run is None else ", or use --dry-run to see the plan"
            raise UsageError(f"name the file to write with -o{hint}")
        if len(names) > 1:
            raise UsageError(f"-o names one file, and there are {len(names)} models; --output-dir")
        to_stdout = str(output) == STDOUT
        if to_stdout and sys.stdout.isatty():
            raise UsageError("-o - writes the bytes of a model to stdout, which is a terminal")
        return cls(tuple(names), {} if to_stdout else {names[0]: output}, to_stdout=to_stdout)

    def check(
        self, report: Path | None, source: ModelFlags, *, data: str | None, force: bool
    ) -> None:
        """Refuses paths that must not or cannot be written; see `check_paths`."""
        check_paths(
            report,
            self.names,
            source,
            data=data,
            outputs=list(self.files.values()),
            option=self.option,
            force=force,
        )
        if report is not None and len(self.names) > 1:
            raise UsageError("--report writes the page of one model; name one")

    def check_suffix(self, name: str) -> None:
        """Refuses a name of another kind of file, before the model is opened."""
        from bnfold.formats import is_onnx
        from bnfold.formats.suffixes import check_suffix

        if name in self.files:
            check_suffix(name, self.files[name], onnx=is_onnx(name))

    @property
    def report_stream(self) -> Any:
        """Where the report goes: stdout, unless the model goes there."""
        return sys.stderr if self.to_stdout else None

    @contextmanager
    def of_model(self, name: str) -> Iterator[Path | None]:
        """The file that a model is written to. What goes to stdout goes through one."""
        if not self.to_stdout:
            # A model from stdin comes under the name of a temporary file.
            own = self.files.get(name, next(iter(self.files.values()), None))
            yield own
            return
        from bnfold.files import scratch_folder

        with scratch_folder() as folder:
            file = folder / "model.onnx"
            yield file
            if not file.exists():
                return
            if any(f.name.endswith(".data") for f in folder.iterdir()):
                raise OutputError("a model with external data is several files; name one with -o")
            with file.open("rb") as written:
                shutil.copyfileobj(written, sys.stdout.buffer)
            sys.stdout.buffer.flush()

    def named(self, result: Any) -> Any:
        """``result`` with the output called as the user did."""
        if not self.to_stdout or result.output is None:
            return result
        return replace(result, output=replace(result.output, path=STDOUT))


def _in_folder(names: Sequence[str], folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        raise OutputError(f"the folder {folder} does not exist; create it first")
    files: dict[str, Path] = {}
    for name in names:
        if name == STDIN or (not Path(name).exists() and ":" in name):
            raise UsageError(f"{name} has no file name of its own; name one with -o")
        target = folder / Path(name).name
        if target in files.values():
            other = next(n for n, file in files.items() if file == target)
            raise OutputError(
                f"{other} and {name} would both become {target}; write one by itself, with -o"
            )
        files[name] = target
    return files
