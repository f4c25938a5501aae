"""Which constraint keeps a BatchNorm where it is, in few words: what the tables count.

The sentence of a decision names what stands before a BatchNorm and behind it; where a choice of gauges
was tried, it ends in the law that fails. That law is the constraint.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

_MERGES = "--reparameterize"
_LAW = re.compile(r"around it: (\S+) '[^']*' needs another (scale|shift) of the same values")


def constraint(reason: Mapping[str, Any]) -> str:
    """In short, of a reason as JSON has it: the law or the code, and the kind of operator to blame."""
    if _MERGES in reason["message"]:
        return f"parallel branches ({_MERGES})"
    law = _LAW.search(reason["message"])
    if law is not None:
        return f"another {law[2]} ({law[1]})"
    operator = (reason["culprit"] or "").partition(" ")[0]
    return f"{reason['code']} ({operator})" if operator else str(reason["code"])


def constraints(reasons: Iterable[Mapping[str, Any]]) -> Counter[str]:
    """How many BatchNorm each constraint keeps."""
    return Counter(constraint(reason) for reason in reasons)


def told(counts: Mapping[str, int]) -> str:
    """The largest first."""
    return ", ".join(f"{n} {what}" for what, n in Counter(counts).most_common())


def table(results: Iterable[Mapping[str, int]]) -> str:
    """A table of what all networks together keep, and of how many networks that is true."""
    total: Counter[str] = Counter()
    networks: Counter[str] = Counter()
    for counts in results:
        total.update(counts)
        networks.update(counts.keys())
    rows = [f"| {what} | {n} | {networks[what]} |" for what, n in total.most_common()]
    return "\n".join(["| constraint | BatchNorm | networks |", "|---|--:|--:|", *rows])
