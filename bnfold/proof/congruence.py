"""Congruence: a structural diff that shows the written file to be the original plus the plan, bit for bit.

Both files are walked side by side. An operator that no edit touches has to be there with its name,
settings and connections; a tensor that no edit changes has the same bits; a changed tensor holds
exactly the elements that the plan computed. That proves the writer. Which value of the written file
stands for which of the original falls out on the way, independently of the writer's own notes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from bnfold.planning.decision import Plan
from bnfold.proof.correspondence import Tensors, Values
from bnfold.proof.expected import Changes, changes_of
from bnfold.proof.listing import Call, Listing, Places, made_of_tensors

_SHOWN = 5


@dataclass(frozen=True)
class Congruence:
    """What was compared, and what differs. ``names``: the written value for each original one."""

    calls: int
    tensors: int
    changed_tensors: int
    differences: tuple[str, ...]
    names: Mapping[str, str] = field(repr=False, compare=False, default_factory=dict)

    @property
    def passed(self) -> bool:
        """Whether something was compared, and nothing differs."""
        return not self.differences and self.calls > 0

    def to_json(self) -> dict[str, Any]:
        return {
            "passed": self.passed,
            "nodes": self.calls,
            "tensors": self.tensors,
            "changed_tensors": self.changed_tensors,
            "differences": list(self.differences),
        }


def compare_files(original: Listing, written: Listing, plan: Plan, places: Places) -> Congruence:
    """Walks two files side by side; see the head of this module."""
    return _Comparison(original, written, changes_of(plan, places), places).run()


class _Comparison:
    def __init__(
        self, original: Listing, written: Listing, changes: Changes, places: Places
    ) -> None:
        self.original, self.written = original, written
        self.changes, self.places = changes, places
        self.values = Values(changes.moved)
        self.tensors = Tensors(original.tensors, written.tensors)
        self.differences: list[str] = []
        self.calls = 0
        self.maker = {n: i for i, call in enumerate(original.calls) for n in call.outputs}
        self.readers: dict[str, list[int]] = {}
        self.known: dict[tuple[str, str], list[int]] = {}
        for index, call in enumerate(original.calls):
            self.known.setdefault(self._key(call), []).append(index)
            for name in filter(None, call.inputs):
                self.readers.setdefault(name, []).append(index)
        self.fixed = made_of_tensors(original)
        self.made = {name for call in written.calls for name in call.outputs}

    def run(self) -> Congruence:
        self._signature()
        position = 0
        for index, call in enumerate(self.original.calls):
            if index in self.changes.gone or self._only_hands_on(call):
                continue
            position = self._skip_inserted(position, index)
            theirs = self.written.calls[position] if position < len(self.written.calls) else None
            if theirs is not None and self._is(index, theirs):
                self._match(index, theirs)
                position += 1
            elif not self._may_be_missing(index):
                self._differs(f"{call.op} '{call.name}' is missing")
        position = self._skip_inserted(position, None)
        for extra in self.written.calls[position:]:
            self._differs(f"{extra.op} '{extra.name}' was not in the original")
        self._outputs()
        self._all_expected_are_there()
        self._unchanged_tensors()
        count = len(self.differences)
        shown = self.differences[:_SHOWN]
        if count > _SHOWN:
            shown.append(f"and {count - _SHOWN} more")
        expected = {id(e): e for each in self.changes.expected.values() for e in each}
        changed = sum(each.found for each in expected.values())
        compared = len(self.tensors.compared)
        return Congruence(self.calls, compared, changed, tuple(shown), self.values.names())

    def _only_hands_on(self, call: Call) -> bool:
        """Whether it picks the result of a bypassed operator that has several."""
        return bool(call.outputs) and all(name in self.changes.moved for name in call.outputs)

    def _differs(self, sentence: str) -> None:
        self.differences.append(sentence)

    def _signature(self) -> None:
        for key in sorted({*self.original.facts, *self.written.facts}):
            if self.original.facts.get(key) != self.written.facts.get(key):
                self._differs(f"{key} differs")
        for key, remark in self.written.remarks.items():
            if self.original.remarks.get(key) != remark:
                self._differs(f"{key} differs")
        if self.original.inputs != self.written.inputs:
            self._differs("the inputs differ")
        if len(self.original.outputs) != len(self.written.outputs):
            self._differs("the number of outputs differs")
        for name in self.original.inputs:
            self.values.stand(name, name)

    def _is(self, index: int, theirs: Call) -> bool:
        """Whether ``theirs`` can be the original's call ``index``: operator, name, and the names of
        what it computes (many files leave operators without a name)."""
        ours, edited = self.original.calls[index], index in self.changes.expected
        becomes = edited and self.places.becomes(ours.op, theirs.op)
        if index in self.changes.lowered:
            becomes = theirs.op == self._lowers_to(index)[0]
        if theirs.name != ours.name or (theirs.op != ours.op and not becomes):
            return False
        pairs = zip(ours.outputs, theirs.outputs, strict=False)
        as_many = len(ours.outputs) == len(theirs.outputs) or index in self.changes.lowered
        return as_many and all(a == b or self._may_be_named(a, b, edited) for a, b in pairs)

    def _skip_inserted(self, position: int, index: int | None) -> int:
        """Walks over operators that carrying out an edit may need."""
        while position < len(self.written.calls):
            call = self.written.calls[position]
            own = index is not None and self._is(index, call)
            if own or self._is_yet_to_come(call, index) or not self._take_inserted(call):
                break
            position += 1
        return position

    def _key(self, call: Call) -> tuple[str, str]:
        """What it is found by: its own name, or, where files leave that out, what it computes."""
        return call.op, call.name or (self.values.now(call.outputs[0]) if call.outputs else "")

    def _is_yet_to_come(self, theirs: Call, index: int | None) -> bool:
        """Whether it is an operator of the original, behind some that have gone."""
        later = (
            i for i in self.known.get(self._key(theirs), ()) if index is not None and i > index
        )
        return any(i not in self.changes.gone and self._is(i, theirs) for i in later)

    def _take_inserted(self, call: Call) -> bool:
        """A copy, a padding that an edited layer will read, or a bias that an edit computed."""
        places, (source, *rest) = self.places, (*call.inputs, None)
        if source is None or len(call.outputs) != 1:
            return False
        if call.op in places.copies or call.op in places.pads:
            table = self.values.copied if call.op in places.copies else self.values.padded
            table[call.outputs[0]] = self.values.seen(source)
            return self.values.seen(source) in self.values.original
        if call.op not in places.adds or not rest or rest[0] is None:
            return False
        ours = self.values.original.get(source)
        maker = self.maker.get(ours or "", -1)
        if ours is None or not self.tensors.take(rest[0], self.changes.expected.get(maker, [])):
            return False
        self.values.stand(ours, call.outputs[0])
        return True

    def _match(self, index: int, theirs: Call) -> None:
        ours = self.original.calls[index]
        self.calls += not ours.op.startswith("(")  # borders of bodies are no operators
        if index in self.changes.lowered:
            self._match_lowered(index, theirs)
            return
        edited = index in self.changes.expected
        free: frozenset[str] = (
            self.places.adjustable(ours.op, index in self.changes.merged) if edited else frozenset()
        )
        for key in {*ours.settings, *theirs.settings} - free:
            if ours.settings.get(key) != theirs.settings.get(key):
                self._differs(f"{key} of {ours.op} '{ours.name}' differs")
        self._inputs(index, ours, theirs)
        for a, b in zip(ours.outputs, theirs.outputs, strict=True):
            self.values.stand(a, b)

    def _lowers_to(self, index: int) -> tuple[str, Mapping[str, Any]]:
        """The operator that stands for a lowered norm, and its settings."""
        found = self.changes.lowered[index]
        call = self.original.calls[index]
        return self.places.lowers_to(call, found.role, found.channels, found.rank)

    def _match_lowered(self, index: int, theirs: Call) -> None:
        """One operator in place of a norm: everything about it is known."""
        ours, lowered = self.original.calls[index], self.changes.lowered[index]
        source, *tensors = theirs.inputs
        if not self._input_agrees(-1, ours.inputs[0], source):
            self._differs(f"{theirs.op} '{theirs.name}' reads '{source}'")
        if dict(theirs.settings) != dict(self._lowers_to(index)[1]):
            self._differs(f"the settings of {theirs.op} '{theirs.name}' differ")
        pairs = zip(tensors, lowered.reads, strict=False)
        taken = [
            name is not None and self.tensors.take(name, [expected]) for name, expected in pairs
        ]
        if len(tensors) != len(lowered.reads) or not all(taken):
            self._differs(f"the inputs of {theirs.op} '{theirs.name}' differ")
        self.values.stand(ours.outputs[0], theirs.outputs[0])

    def _may_be_named(self, ours: str, theirs: str, edited: bool) -> bool:
        """A value may take the name of one that came down to it, or, before an added bias, any new
        name."""
        if theirs in self.changes.moved:
            return self.values.now(theirs) == ours
        fresh = theirs not in self.readers and theirs not in self.maker
        return edited and fresh and theirs not in self.original.tensors

    def _inputs(self, index: int, ours: Call, theirs: Call) -> None:
        gone = self.changes.dropped.get(index, set())
        wanted = [name for name in ours.inputs if name not in gone]
        given = list(theirs.inputs)
        edited = index in self.changes.expected
        if len(given) > len(wanted) and edited:
            wanted += [None] * (len(given) - len(wanted))
        if len(given) != len(wanted):
            self._differs(f"the inputs of {ours.op} '{ours.name}' differ")
            return
        for a, b in zip(wanted, given, strict=True):
            if not self._input_agrees(index, a, b):
                self._differs(f"{ours.op} '{ours.name}' reads '{b}' in place of '{a}'")

    def _input_agrees(self, index: int, ours: str | None, theirs: str | None) -> bool:
        if ours is not None and theirs is not None:
            if standing := self.values.standing(ours):
                seen = self.values.seen(theirs)
                if index in self.changes.expected:
                    seen = self.values.padded.get(seen, seen)
                if seen in standing:
                    return True
                # A weight that operators make of stored tensors; these stay where others read it.
                fixed = ours in self.fixed and ours not in self.changes.flows
                computed = self.changes.expected.get(index, []) if fixed else []
                return self.tensors.take(theirs, computed)
            now = self.values.now(ours)
            if now != ours and (revalued := self.changes.revalued.get(now)) is not None:
                self.values.stand(now, theirs)
                return self.tensors.take(theirs, [revalued])
        if theirs is not None and self.tensors.take(theirs, self.changes.expected.get(index, [])):
            return True
        return ours == theirs and (ours is None or self.tensors.same(ours))

    def _may_be_missing(self, index: int) -> bool:
        """Whether everything that read its outputs is gone, was given something else, or may be
        missing itself."""
        call = self.original.calls[index]
        if any(name in self.made for name in call.outputs):
            return False
        readers = [r for name in call.outputs for r in self.readers.get(name, ())]
        if any(name in self.original.outputs for name in call.outputs):
            return False
        if not readers:
            return self.places.drops_unread
        allowed = (self.changes.gone, self.changes.expected)
        return all(any(r in a for a in allowed) or self._may_be_missing(r) for r in readers)

    def _outputs(self) -> None:
        for a, b in zip(self.original.outputs, self.written.outputs, strict=False):
            stands = self.values.seen(b) in self.values.standing(a)
            if not stands and not (a == b and self.tensors.same(a)):
                self._differs(f"the output '{a}' is '{b}'")

    def _all_expected_are_there(self) -> None:
        for index, arrays in self.changes.expected.items():
            for expected in arrays if index not in self.changes.gone else ():
                if not expected.found and np.any(expected.load() != 0):
                    call = self.original.calls[index]
                    self._differs(f"{call.op} '{call.name}' lacks a tensor that the plan computed")

    def _unchanged_tensors(self) -> None:
        """Tensors that stand in the written file beside those already compared."""
        for name in self.written.tensors:
            if name in self.tensors.compared:
                continue
            if name not in self.original.tensors:
                self._differs(f"tensor '{name}' was not in the original")
            elif not self.tensors.same(name):
                self._differs(f"tensor '{name}' differs")
