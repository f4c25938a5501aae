"""The registry, linted; and every rule on its sample and on the nearest healthy neighbour."""

from __future__ import annotations

import re
from dataclasses import fields, replace
from pathlib import Path

import pytest

from bnfold.audit import PARTS, RULES, Finding, Rule, Selection, Severity
from bnfold.audit.rules import FAMILIES, bn207_fold_blocked, find_rule
from bnfold.audit.thresholds import Thresholds, setting_names
from bnfold.planning import Reason

from .networks import conv_bn, findings, healthy, seen
from .samples import SAMPLES

each_rule = pytest.mark.parametrize("rule", RULES, ids=[rule.code for rule in RULES])


def test_codes_and_names_are_unique_and_in_order() -> None:
    codes = [rule.code for rule in RULES]
    assert codes == sorted(set(codes))
    assert len({rule.name for rule in RULES}) == len(RULES)
    assert all(re.fullmatch(r"BN\d{3}", code) and code[:3] in FAMILIES for code in codes)


def test_every_file_of_rules_is_registered() -> None:
    folder = Path(bn207_fold_blocked.__file__).parent
    assert sorted(p.stem[:5].upper() for p in folder.glob("bn*.py")) == [r.code for r in RULES]


@each_rule
def test_documentation_is_complete(rule: Rule) -> None:
    assert tuple(rule.parts) == PARTS
    assert all(len(text.split()) >= 5 for text in rule.parts.values())
    assert 10 < len(rule.title) < 80
    assert rule.remedy.endswith(".")
    assert re.fullmatch(r"[a-z]+(-[a-z]+)*", rule.name)


@each_rule
def test_settings_are_named_in_the_documentation(rule: Rule) -> None:
    assert set(rule.thresholds) <= set(setting_names())
    assert all(f"`{name}`" in (rule.doc or "") for name in rule.thresholds)


def test_every_threshold_belongs_to_a_rule() -> None:
    used = {name for rule in RULES for name in rule.thresholds}
    assert used == set(setting_names()) == {f.name.replace("_", "-") for f in fields(Thresholds)}


def test_every_reason_of_the_plan_is_reported_by_one_rule() -> None:
    claimed = [reason for rule in RULES for reason in rule.reasons]
    assert len(claimed) == len(set(claimed))
    assert {r.name for r in Reason} - {r.name for r in claimed} <= {"NO_GRAPH"}


def test_every_rule_has_a_sample() -> None:
    assert list(SAMPLES) == [rule.code for rule in RULES]


@each_rule
def test_fires_on_its_sample_only(rule: Rule, tmp_path: Path) -> None:
    sample = SAMPLES[rule.code]
    only = Selection(select=(rule.code,))
    sick = findings(sample.sick(), tmp_path, only, sample.sick_data() if sample.sick_data else None)
    well = findings(
        sample.healthy(), tmp_path, only, sample.healthy_data() if sample.healthy_data else None
    )
    assert {f.code for f in sick} == {rule.code}
    assert well == ()
    assert all(f.name == rule.name and f.message.endswith(".") for f in sick)


def test_a_healthy_network_has_no_findings(tmp_path: Path) -> None:
    assert findings(conv_bn(), tmp_path, observed={"bn": seen(healthy(), shift=0.05)}) == ()


@pytest.mark.parametrize(
    ("code", "severities"),
    [("BN101", {Severity.ERROR}), ("BN106", {Severity.INFO}), ("BN210", {Severity.WARNING})],
)
def test_severity(code: str, severities: set[Severity], tmp_path: Path) -> None:
    found = findings(SAMPLES[code].sick(), tmp_path, Selection(select=(code,)))
    assert {f.severity for f in found} == severities


def test_large_drift_is_an_error(tmp_path: Path) -> None:
    observed = {"bn": seen(healthy(), shift=1.5, factor=6.0)}
    found = findings(conv_bn(), tmp_path, Selection(select=("BN4",)), observed)
    assert [(f.code, f.severity) for f in found] == [
        ("BN401", Severity.ERROR), ("BN402", Severity.ERROR), ("BN404", Severity.INFO)
    ]  # fmt: skip


def test_untouched_statistics_do_not_drift(tmp_path: Path) -> None:
    """They may be right: a network trained in evaluation mode works on data far from them."""
    model = SAMPLES["BN105"].sick()
    parameters = healthy()
    parameters["mean"][:], parameters["variance"][:] = 0, 1
    found = findings(model, tmp_path, None, {"bn": seen(parameters, shift=5.0, factor=50.0)})
    assert [(f.code, f.severity) for f in found] == [("BN105", Severity.WARNING)]
    assert found[0].message.endswith(
        "On the data the mean is 5 deviations from 0 and the variance a factor of 50 from 1."
    )


@pytest.mark.parametrize(("samples", "found"), [(2, 1), (32, 0), (None, 0)])
def test_few_samples_are_few_whatever_their_size(
    samples: int | None, found: int, tmp_path: Path
) -> None:
    observed = {"bn": replace(seen(healthy(), count=100_000), samples=samples)}
    hits = findings(conv_bn(), tmp_path, Selection(select=("BN405",)), observed)
    assert len(hits) == found
    assert all(f.message.startswith("The data holds 2 samples;") for f in hits)


@pytest.mark.parametrize(
    ("momentum", "words"),
    [
        (1.0, "The running statistics of 1 of 1 layer (bn) never move in training"),
        (0.0, "The running statistics of 1 of 1 layer (bn) are those of the last batch alone"),
    ],
)
def test_momentum_of_onnx_is_the_weight_of_the_old_value(
    momentum: float, words: str, tmp_path: Path
) -> None:
    only = Selection(select=("BN303",))
    (found,) = findings(conv_bn(momentum=momentum), tmp_path, only)
    assert found.message.startswith(words)
    assert f"{momentum:g} in ONNX" in found.message


def test_channels_are_named(tmp_path: Path) -> None:
    (found,) = findings(SAMPLES["BN101"].sick(), tmp_path, Selection(select=("BN101",)))
    assert found.channels == (0,)
    assert found.message == "The running mean is NaN or infinite in 1 of 8 channels."


def test_one_finding_says_why_a_layer_stays(tmp_path: Path) -> None:
    """Whatever the reason, exactly one rule reports it."""
    why = {code for rule in RULES for code in [rule.code] if rule.reasons} | {"BN204"}
    for code in ("BN101", "BN102", "BN109", "BN201", "BN203", "BN204", "BN205", "BN206", "BN207"):
        found = findings(SAMPLES[code].sick(), tmp_path)
        assert [f.code for f in found if f.code in why] == [code]


def test_findings_are_data() -> None:
    finding = Finding("BN101", Severity.ERROR, "bn", "Bad.", "non-finite", (3,), 1.0)
    assert finding.to_json() == {
        "code": "BN101", "name": "non-finite", "severity": "error", "layer": "bn",
        "message": "Bad.", "channels": [3],
    }  # fmt: skip


def test_rules_are_found_by_code_and_name() -> None:
    rule = find_rule("bn106")
    assert rule is not None
    assert rule is find_rule("dead-channels")
    assert find_rule("BN999") is None
