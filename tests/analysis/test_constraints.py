"""The constraints of a rule at their edges: equal is allowed, a little more is not, and how far off is told exactly."""

from __future__ import annotations

import pytest

from lxcompress.analysis.constraints import (
    Violation,
    check_export,
    check_file,
    check_group,
    check_limit,
    check_prediction,
    figure,
    total_shortfall,
)
from lxcompress.analysis.rule import Rule
from lxcompress.recipe import Method
from tests.analysis.handmade import exported, floors, group, measured, prediction, summary
from tests.report.synthetic import recipe

RETAIN = Rule(retain=0.99)
ALL = Rule(retain=0.99, max_size_mb=5, max_latency_ms=4, max_memory_mb=100)


def told(broken: list[Violation]) -> dict[str, float]:
    """The broken constraints and by how much."""
    return {violation.constraint: violation.shortfall for violation in broken}


@pytest.mark.parametrize(
    ("value", "limit", "shortfall"),
    [(5, 5, None), (4.999, 5, None), (6, 5, 0.2), (7.5, 5, 0.5), (0, 0, None), (3, 0, 3.0)],
)
def test_a_limit_allows_its_own_value(value, limit, shortfall):
    broken = check_limit("size", "file: size on disk", value, limit, "MB")
    assert told(broken) == ({} if shortfall is None else {"size": pytest.approx(shortfall)})
    assert all(violation.commands == () for violation in broken)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.1234, "0.123"), (45.67, "45.7"), (99.4, "99.4"), (100, "100"), (1234.4, "1234"), (100.4, "100")],
)
def test_a_figure_has_three_digits_or_more_and_no_exponent(value, text):
    assert figure(value) == text


@pytest.mark.parametrize(
    ("size_mb", "latency", "memory", "names"),
    [
        (5, 4, 100, ()),
        (5.01, 4, 100, ("size",)),
        (5, 4.01, 100, ("latency",)),
        (5, 4, 100.5, ("memory",)),
        (10, 8, 200, ("size", "latency", "memory")),
    ],
)
def test_each_limit_is_checked_alone(size_mb, latency, memory, names):
    file = exported("file", measured("file", latency, memory), size_bytes=round(size_mb * 1e6))
    broken = check_file(file, group(0.8), ALL, 0.7)
    assert tuple(told(broken)) == names
    if len(names) == 3:
        assert told(broken) == dict.fromkeys(names, pytest.approx(1.0))
    assert check_file(file, group(0.8), RETAIN, 0.7) == []


@pytest.mark.parametrize("limit", [{"max_latency_ms": 9}, {"max_memory_mb": 900}])
def test_what_is_not_measured_satisfies_no_limit_on_time_or_memory(limit):
    rule = Rule(retain=0.99, **limit)
    (broken,) = check_file(exported("file"), group(0.8), rule, 0.7)
    assert (broken.constraint, broken.shortfall) == ("measurement", 0)
    assert broken.reason == "file is not measured"
    assert broken.commands == ("lxcompress bench run/artifacts/file",)
    (stale,) = check_file(exported("file", outdated=measured("file", 1.0)), group(0.8), rule, 0.7)
    assert stale.reason == "file was exported again after it was measured"
    assert check_file(exported("file"), group(0.8), Rule(retain=0.99, max_size_mb=5), 0.7) == []


def test_memory_that_a_bench_could_not_measure_satisfies_no_limit_on_it():
    file = exported("file", measured("file", 1.0, None))
    (broken,) = check_file(file, group(0.8), Rule(retain=0.99, max_memory_mb=900), 0.7)
    assert (broken.constraint, broken.shortfall, broken.commands) == ("measurement", 0, ())
    assert check_file(file, group(0.8), Rule(retain=0.99, max_latency_ms=9), 0.7) == []


@pytest.mark.parametrize(
    ("mean", "threshold", "source", "shortfall"),
    [
        (0.80, 0.79, 0.80, None),  # the export changes nothing
        (0.80, 0.79, 0.70, None),  # the file is more accurate than its source
        (0.80, 0.70, 0.90, None),  # it loses exactly what may be lost
        (0.80, 0.75, 0.90, 0.05 / 0.75),
        (0.74, 0.75, 0.90, None),  # the ticket itself is below: that is another constraint
        (0.75 - 1e-9, 0.75, 0.90, (0.1 + 1e-9) / 0.75),  # the threshold is reached, to rounding
        (0.75 - 1e-9, 0.75, 0.80, None),
        (0.80, None, 0.90, None),
    ],
)
def test_an_export_is_charged_for_what_it_loses(mean, threshold, source, shortfall):
    file = exported("file", source_accuracy={"accuracy": source, "by_type": {}, "questions": 1000})
    broken = check_export(file, group(mean), threshold)
    assert told(broken) == ({} if shortfall is None else {"export accuracy": pytest.approx(shortfall)})
    assert check_file(file, group(mean), RETAIN, threshold) == broken


def test_a_file_of_unknown_accuracy_is_not_charged():
    assert check_export(exported("file", accuracy=None), group(0.8), 0.8) == []


@pytest.mark.parametrize(
    ("mean", "threshold", "shortfall"),
    [(0.8, 0.8, None), (0.8 - 1e-9, 0.8, None), (0.8 - 2e-9, 0.8, 2.5e-9), (0.6, 0.8, 0.25), (0.9, 0.8, None)],
)
def test_a_threshold_allows_its_own_value_to_rounding(mean, threshold, shortfall):
    broken = told(check_group(group(mean), summary(), RETAIN, threshold))
    assert broken == ({} if shortfall is None else {"accuracy": pytest.approx(shortfall, rel=1e-4)})


@pytest.mark.parametrize(
    ("mean", "names", "shortfall"),
    [(0.41, {}, None), (0.4, {"floor"}, 0.0), (0.3, {"floor"}, 0.25)],
)
def test_a_ticket_must_be_better_than_the_highest_floor(mean, names, shortfall):
    broken = told(check_group(group(mean), summary(floors=floors(0.2, 0.4, per_type=0.3)), RETAIN, 0.1))
    assert set(broken) == set(names)
    assert broken.get("floor") == (None if shortfall is None else pytest.approx(shortfall))


def test_the_reason_tells_what_is_kept_where_it_is_known():
    (broken,) = check_group(group(0.6), summary(), Rule(retain=0.95), 0.76)
    assert broken.reason == "accuracy 60.00 % (75.00 % kept) is below 76.00 % (at least 95 % of dense accuracy)"
    (_, broken) = check_group(group(0.6, missing=(1,), retained=None), summary(), Rule(retain=0.95), 0.76)
    assert broken.reason == "accuracy 60.00 % is below 76.00 % (at least 95 % of dense accuracy)"


def test_a_floor_of_nothing_is_beaten_by_anything():
    nothing = summary(floors=floors(0.0, 0.0))
    assert told(check_group(group(0.0, dense=(0.8,)), nothing, RETAIN, None)) == {"accuracy": 1, "floor": 0}
    assert check_group(group(0.001), nothing, RETAIN, 0.0) == []


def test_a_group_without_its_seeds_or_a_dense_accuracy_breaks_a_constraint():
    assert told(check_group(group(0.8, missing=(1, 2)), summary(), RETAIN, None)) == {"seeds": 2}
    assert told(check_group(group(0.8, dense=(0.0,)), summary(), RETAIN, 0.0)) == {"accuracy": 1}
    assert told(check_group(group(0.8), summary(), RETAIN, None)) == {"accuracy": 1}
    assert check_group(group(0.8), summary(), RETAIN, 0.7) == []


def test_controls_and_models_that_are_dense_again_are_no_tickets():
    control = group(0.8, method=Method(control="shuffled"))
    assert told(check_group(control, summary(), RETAIN, 0.7)) == {"control": 1}
    faulty = summary(recipe=recipe(seeds=(0,), protocol=["mask-applied-once"]))
    assert told(check_group(group(0.8), faulty, RETAIN, 0.7)) == {"protocol": 1}


PREDICTED = {
    "fits": ({"size_mb": 5.0}, {"max_size_mb": 5}, {}),
    "too large": ({"size_mb": 6.0}, {"max_size_mb": 5}, {"size": 0.2}),
    "of unknown size": ({"size_mb": None}, {"max_size_mb": 5}, {"export": 0}),
    "no limit on size": ({"size_mb": None}, {}, {}),
    "needs a package": ({"missing": "needs x"}, {}, {"extra": 1}),
    "fast enough, as a sibling": ({"sibling": (4.0, 100.0)}, {"max_latency_ms": 4}, {"export": 0}),
    "slow, as a sibling": ({"sibling": (8.0, 100.0)}, {"max_latency_ms": 4}, {"latency": 1}),
    "large in memory, as a sibling": ({"sibling": (8.0, 200.0)}, {"max_memory_mb": 100}, {"memory": 1}),
    "small enough in memory": ({"sibling": (8.0, 100.0)}, {"max_memory_mb": 100}, {"export": 0}),
    "of a sibling of unknown memory": ({"sibling": (8.0, None)}, {"max_memory_mb": 100}, {"export": 0}),
    "both limits": (
        {"sibling": (8.0, 200.0)},
        {"max_latency_ms": 4, "max_memory_mb": 100},
        {"latency": 1, "memory": 1},
    ),
    "no faster": ({"precision": "fp16"}, {"max_latency_ms": 4}, {"measurement": 1}),
    "no smaller in memory": ({"precision": "bf16"}, {"max_memory_mb": 4}, {"measurement": 1}),
    "no faster, but only its size counts": ({"precision": "fp16"}, {"max_size_mb": 5}, {}),
    "fp32 may be fast": ({"precision": "fp32"}, {"max_latency_ms": 4}, {"export": 0}),
    "of another format": ({"format": "openvino"}, {"max_latency_ms": 4}, {"export": 1e-6}),
    "too large and unknown speed": ({"size_mb": 6.0}, {"max_size_mb": 5, "max_latency_ms": 4}, {"size": 0.2}),
}


@pytest.mark.parametrize("name", PREDICTED)
def test_what_a_file_will_break_is_known_before_it_is_exported(name):
    given, limits, expected = PREDICTED[name]
    if "sibling" in given:
        given = {**given, "sibling": exported("like", measured("like", *given["sibling"]))}
    broken = check_prediction(prediction(**given), Rule(retain=0.99, **limits), usual="onnx")
    assert told(broken) == pytest.approx(expected)
    for violation in broken:
        assert bool(violation.commands) == (violation.constraint == "export")


def test_a_sibling_that_was_exported_again_tells_nothing():
    stale = prediction(sibling=exported("like", outdated=measured("like", 9.0)))
    (broken,) = check_prediction(stale, Rule(retain=0.99, max_latency_ms=4), usual="onnx")
    assert broken.commands == (stale.command, "lxcompress bench run/artifacts/cell-onnx-int8")


def test_the_total_shortfall_prefers_what_is_only_to_be_measured():
    over, little = Violation("size", "", 0.5), Violation("latency", "", 0.25)
    unknown = Violation("export", "", 0, ("command",))
    assert total_shortfall([]) == (0, 0)
    assert total_shortfall([over, little]) == (0.75, 0)
    assert total_shortfall([unknown, unknown]) == (0, -2)
    assert sorted([[over], [unknown], [little]], key=total_shortfall) == [[unknown], [little], [over]]
