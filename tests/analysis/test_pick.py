"""The pick by hand-made groups: ties, limits, missing baselines, one seed, equal sizes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lxcompress.analysis.choice import PickedTicket
from lxcompress.analysis.commands import export_commands, next_commands
from lxcompress.analysis.constraints import Violation
from lxcompress.analysis.fronts import file_front, ticket_front
from lxcompress.analysis.groups import GroupKey
from lxcompress.analysis.pick import (
    Judgement,
    best_file,
    find_nearest,
    find_smaller,
    judge,
    longer_dense,
    pick_of_grid,
    pick_ticket,
    preference,
    ticket_of,
)
from lxcompress.analysis.pick_warnings import narrow_margin, pick_warnings
from lxcompress.analysis.rule import Rule, default_rule
from lxcompress.analysis.verdict import compared_words, verdict
from lxcompress.recipe import Cell, Method
from lxcompress.stats import mean_interval
from lxcompress.units import percent
from tests.analysis.handmade import (
    ROOT,
    bench,
    exported,
    floors,
    group,
    measured,
    prediction,
    score,
    spread,
    summary,
)
from tests.report.synthetic import Accuracies, recipe, result_record

RETAIN = Rule(retain=0.9)
RANDOM, HIGH = Method(criterion="random"), Method(criterion="high-magnitude")
STRUCTURED = Method(granularity="neuron")
CELL = "low-magnitude-weight-50-seed0"


def done(count: int):
    """So many results of another method, for a run whose cells are all finished."""
    cells = [Cell(RANDOM, 0.5, seed) for seed in range(count)]
    return tuple(result_record(cell, Accuracies(0.7, 0.4, 0.5), ("a",), 1500) for cell in cells)


def picked_of(*groups, rule=RETAIN, **given):
    return pick_ticket(summary(*groups, **given), rule)


# The preference -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("first", "second", "wins"),
    [
        ({"achieved": 0.5}, {"achieved": 0.6}, 1),
        ({"achieved": 0.6}, {"achieved": 0.5}, 0),
        # 0.48 and 0.52 round to the same step of 0.05, so the smaller model wins, and then the more accurate one.
        ({"achieved": 0.48, "parameters": 1e6}, {"achieved": 0.52, "parameters": 2e6}, 0),
        ({"achieved": 0.52, "parameters": 2e6}, {"achieved": 0.48, "parameters": 1e6}, 1),
        ({"achieved": 0.47}, {"achieved": 0.53}, 1),
        ({"parameters": 1_000_400.0, "accuracy": 0.79}, {"parameters": 1_000_000.0}, 1),
        ({"parameters": 1_000_000.0}, {"parameters": 1_000_400.0, "accuracy": 0.79}, 0),
        ({"parameters": 1_001_000.0}, {"parameters": 1_000_000.0, "accuracy": 0.79}, 1),
        ({"accuracy": 0.79}, {"accuracy": 0.8}, 1),
        ({"accuracy": 0.8}, {"accuracy": 0.8}, 0),
        ({"parameters": None}, {"parameters": 9e9, "accuracy": 0.75}, 1),
    ],
)
def test_the_sparser_then_the_smaller_then_the_more_accurate_group_wins(first, second, wins):
    methods = [Method(), RANDOM]
    groups = [
        group(given.get("accuracy", 0.8), method=method, **{k: v for k, v in given.items() if k != "accuracy"})
        for given, method in zip((first, second), methods, strict=True)
    ]
    choice = picked_of(*groups)
    assert choice.picked.group is groups[wins]
    assert [found.key for found in choice.rejected] == [groups[1 - wins].key]


def test_the_reason_names_the_first_thing_in_which_the_pick_is_better():
    best = group(0.8, achieved=0.7, parameters=1e6)
    others = [
        group(0.85, method=RANDOM, achieved=0.5, parameters=2e6),
        group(0.85, method=HIGH, achieved=0.7, parameters=2e6),
        group(0.79, method=Method(criterion="movement"), achieved=0.7, parameters=1e6),
    ]
    reasons = [found.reasons for found in picked_of(best, *others).rejected]
    assert reasons == [
        ("less sparse than the pick (50.0 % < 70.0 %)",),
        ("as sparse as the pick, but not a smaller model (2 against 1 million weights)",),
        ("as sparse as the pick and not more accurate (79.00 % against 80.00 %)",),
    ]
    assert all(found.broken == found.commands == found.shortfalls == () for found in picked_of(best, *others).rejected)
    unknown = group(0.79, method=RANDOM, achieved=0.7, parameters=None)
    (rejected,) = picked_of(best, unknown).rejected
    assert "not more accurate" in rejected.reasons[0]


def test_preference_is_a_step_a_size_and_an_accuracy():
    judged = Judgement(group(0.8, achieved=0.7, parameters=1_234_567.0), "", ())
    assert preference(judged) == (14, -1_235_000, 0.8)


# What can be picked at all ------------------------------------------------------------------------------------------


def test_without_every_dense_run_nothing_is_picked():
    twin = group(0.8, method=STRUCTURED)
    for given in ({"dense_missing": (1,)}, {"dense": ()}):
        if "dense" in given:
            run = replace(summary(), dense=None, twins=(twin,))
        else:
            run = summary(group(0.8, missing=(1,)), twins=(twin,), **given)
        choice = pick_ticket(run, RETAIN)
        assert choice.picked is choice.threshold is choice.dense is None
        assert verdict(choice) == "Nothing can be picked yet: the dense baseline is not finished for every seed."


@pytest.mark.parametrize(("accuracy", "is_picked"), [(0.72, True), (0.72 - 1e-6, False), (0.9, True)])
def test_the_threshold_is_a_share_of_the_dense_mean(accuracy, is_picked):
    choice = picked_of(group(accuracy), dense=(0.8,))
    assert (choice.picked is not None) == is_picked
    assert choice.threshold == pytest.approx(0.72)


def test_twins_take_part_and_the_grid_does_not_know_them():
    twin = group(0.8, method=STRUCTURED, parameters=5e5)
    run = summary(group(0.8), twins=(twin,))
    choice = pick_ticket(run, RETAIN)
    assert choice.picked.group is twin
    assert (choice.picked.label, choice.picked.is_twin) == ("the structured twin at 50 %", True)
    assert choice.picked.ticket == ROOT / "twins" / "low-magnitude-neuron-50-seed0"
    assert choice.picked.series == "structured twin"
    plain = pick_of_grid(run, RETAIN).picked
    assert (plain.label, plain.is_twin, plain.series) == ("low-magnitude at 50 %", False, "low-magnitude")
    assert plain.ticket == ticket_of(run, run.groups[0]) == ROOT / "tickets" / CELL


def test_the_best_seed_is_shipped_and_the_first_of_equals():
    choice = picked_of(group(0.8, 0.82, 0.82), dense=(0.8, 0.8, 0.8), results=done(3))
    assert choice.picked.seed == 1
    assert choice.picked.cell == "low-magnitude-weight-50-seed1"
    assert choice.is_final


def test_a_control_is_rejected_as_one_and_told_whether_it_has_begun_or_not():
    control = Method(control="shuffled")
    run = summary(group(0.8), group(0.9, method=control), unstarted=(GroupKey(control, 0.7), GroupKey(RANDOM, 0.7)))
    choice = pick_ticket(run, RETAIN)
    assert [found.broken for found in choice.rejected] == [("control",), ("control",), ("seeds",)]
    assert choice.rejected[2].reasons == ("incomplete: no run is finished",)
    assert choice.nearest is None


@pytest.mark.parametrize(("length", "complete", "is_found"), [(2, True, True), (3, True, False), (2, False, False)])
def test_the_dense_model_trained_twice_as_long_is_found(length, complete, is_found):
    control = Method(control="dense-longer", epochs_factor=length)
    longer = group(0.85, method=control, missing=() if complete else (1,))
    run = summary(group(0.8), longer)
    assert (longer_dense(run) is not None) == is_found
    assert longer_dense(summary(group(0.8))) is None
    said = " Dense trained twice as long scores 85.00."
    assert verdict(pick_ticket(run, RETAIN)).endswith(said) == is_found


@pytest.mark.parametrize(("longer", "is_said"), [(0.81, True), (0.8, False), (0.79, False)])
def test_longer_training_is_told_if_it_beats_the_pick(longer, is_said):
    control = group(longer, method=Method(control="dense-longer"))
    assert ("twice as long" in verdict(picked_of(group(0.8), control))) == is_said


@pytest.mark.parametrize(
    ("accuracy", "words"),
    [(0.8, "matches dense (80.00 against 80.00 %, seed 0 alone)"), (0.79, "keeps 98.8 % of dense accuracy (79.00")],
)
def test_a_pick_that_is_as_accurate_matches_dense(accuracy, words):
    assert words in verdict(picked_of(group(accuracy)))


def test_the_dense_figures_are_those_of_the_groups_seeds():
    twin = group(0.7, dense=(0.7,), method=STRUCTURED, parameters=5e5)
    choice = picked_of(group(0.9, 0.9), twins=(twin,), dense=(0.7, 0.8))
    assert "matches dense (70.00 against 70.00 %, seed 0 alone)" in verdict(choice)
    whole = picked_of(group(0.9, 0.9), dense=(0.7, 0.8))
    assert "matches dense (90.00 ± 0.00 against 75.00 ± 7.07 %, 2 seeds)" in verdict(whole)


# The nearest --------------------------------------------------------------------------------------------------------


def judged(*shortfalls, method=RANDOM, **given):
    broken = tuple(Violation(f"c{index}", f"r{index}", value) for index, value in enumerate(shortfalls))
    return Judgement(group(0.8, method=method, **given), "label", broken)


def test_the_nearest_breaks_the_fewest_then_the_least_then_is_the_sparsest():
    two = judged(0.1, 0.1)
    one = judged(0.5)
    less = judged(0.4)
    sparse = judged(0.4, achieved=0.7)
    assert find_nearest([two, one]).shortfalls == (0.5,)
    assert find_nearest([one, less]).shortfalls == (0.4,)
    assert find_nearest([less, sparse]).achieved == 0.7
    assert find_nearest([sparse, less]).achieved == 0.7
    assert find_nearest([judged(0.1, 0.5), judged(0.4, 0.4)]).shortfalls == (0.4, 0.4)


def test_the_nearest_is_complete_if_any_is_and_never_a_control():
    part = judged(0.1, missing=(1,))
    whole = judged(0.2, 0.3)
    control = judged(0.01, method=Method(control="shuffled"))
    assert find_nearest([part, whole, control]).shortfalls == (0.2, 0.3)
    assert find_nearest([part, control]).shortfalls == (0.1,)
    assert find_nearest([control]) is None


def test_a_group_can_still_win_if_measuring_is_all_that_it_lacks():
    unknown = Violation("export", "r", 0, ("export it", "bench it"))
    over = Violation("size", "r", 0.2)
    can = find_nearest([Judgement(group(0.8), "label", (unknown,))])
    cannot = find_nearest([Judgement(group(0.8), "label", (unknown, over))])
    assert can.commands == ("export it", "bench it")
    assert cannot.commands == ()
    assert (cannot.broken, cannot.shortfalls, cannot.accuracy) == (("export", "size"), (0, 0.2), 0.8)


# The file -----------------------------------------------------------------------------------------------------------


def test_the_best_file_is_the_smallest_of_those_that_are_not_slower():
    def files(*given):
        return bench(
            *(exported(name, measured(name, latency), size_bytes=size * 10**6) for name, latency, size in given)
        )

    names = [file.name for file in (best_file(files(("a", 1.0, 9), ("b", 1.0, 7), ("c", 2.0, 3))),)]
    assert names == ["b"]
    assert best_file(files(("a", 1.0, 9), ("b", 1.1, 7))).name == "a"
    noisy = bench(
        exported("a", measured("a", 1.0), size_bytes=9_000_000),
        exported("b", measured("b", 1.05), size_bytes=7_000_000),
        exported("c", measured("c", 1.3), size_bytes=5_000_000),
        again=[measured("a", 1.1)],
    )
    assert best_file(noisy).name == "b"
    equal = files(("a", 1.0, 7), ("b", 1.0, 7))
    assert best_file(equal).name == "a"
    unmeasured = [exported("x", size_bytes=9_000_000), exported("y", size_bytes=8_000_000)]
    assert best_file(unmeasured).name == "y"
    unknown = exported("z", size_bytes=1_000_000, accuracy=None)
    assert best_file([*unmeasured, unknown]).name == "y"
    assert best_file([unknown, exported("w", size_bytes=2_000_000, accuracy=None)]).name == "z"
    assert best_file([*unmeasured, *files(("a", 50.0, 99))]).name == "a"
    assert best_file([*files(("a", 1.0, 99)), exported("y", size_bytes=1_000_000)]).name == "a"


def run_with(*artifacts, accuracy=0.8, rule_seeds=1):
    """A run of one group, its result and its artifacts: predictions are part of its choice."""
    seeds = range(rule_seeds)
    own = group(*[accuracy] * rule_seeds)
    results = tuple(
        result_record(Cell(Method(), 0.5, seed), Accuracies(0.7, 0.4, accuracy), ("a",), 1500) for seed in seeds
    )
    return summary(own, artifacts=artifacts, results=results, dense=(0.8,) * rule_seeds)


def test_an_exported_file_goes_before_one_that_is_predicted():
    file = exported("own", cell=CELL)
    choice = pick_ticket(run_with(file), RETAIN)
    assert (choice.picked.exported, choice.picked.predicted, choice.picked.fitting) == (file, None, 1)
    nothing = pick_ticket(run_with(), RETAIN).picked
    assert (nothing.exported, nothing.fitting) == (None, 0)
    assert (nothing.predicted.format, nothing.predicted.precision) == ("onnx", "int8")
    assert nothing.commands == (f"lxcompress export {nothing.ticket} --twins", "lxcompress bench run/artifacts/*")
    assert choice.picked.commands == ("lxcompress bench run/artifacts/own",)


def test_the_files_that_could_be_exported_are_those_that_break_no_known_limit():
    run = run_with(exported("like", precision="int8", parameters=2_000_000))

    def possible(**limits):
        return {file.name for file in judge(run.groups[0], run, replace(RETAIN, **limits), 0.72).possible}

    assert "onnx int8" in possible()
    assert "onnx int8" in possible(max_size_mb=5.3)
    assert "onnx int8" not in possible(max_size_mb=5.2)
    words = verdict(pick_ticket(run, RETAIN))
    assert words.startswith("Ship low-magnitude at 50 % (as onnx int8: predicted, about 5.25 MB, not exported yet): ")
    assert verdict(pick_ticket(run_with(), RETAIN)).startswith(
        "Ship low-magnitude at 50 % (as onnx int8: predicted, not exported yet): "
    )
    own = run_with(exported("own", cell=CELL))
    assert verdict(pick_ticket(own, RETAIN)).startswith("Ship low-magnitude at 50 %: ")


def test_nothing_picked_is_told_with_the_nearest_and_what_is_not_known():
    slow = run_with(exported("own", measured("own", 9.0), cell=CELL), accuracy=0.1)
    words = verdict(pick_ticket(slow, RETAIN))
    assert words.startswith("No ticket keeps at least 90 % of dense accuracy. Nearest: low-magnitude at 50 %, accuracy")
    unknown = verdict(pick_ticket(run_with(), replace(RETAIN, max_latency_ms=5)))
    assert unknown.startswith("It is not known whether a file keeps at least 90 % of dense accuracy within 5 ms p90")
    assert "Nearest: low-magnitude at 50 %, onnx int8: not exported" in unknown
    assert verdict(picked_of()) == "No ticket keeps at least 90 % of dense accuracy."


def test_a_ticket_below_a_floor_is_not_said_to_lose_accuracy():
    words = verdict(picked_of(group(0.6, 0.6), dense=(0.6, 0.6), floors=floors(0.1, 0.65)))
    assert words.startswith("No ticket keeps at least 90 % of dense accuracy and answers better than the floors. ")
    assert "accuracy 60.00 % is no better than the question-only floor of 65.00 %" in words


def test_another_seeds_file_is_judged_only_if_the_ticket_has_none():
    other = exported("other", cell="low-magnitude-weight-50-seed1", size_bytes=4_000_000)
    own = exported("own", cell=CELL, size_bytes=6_000_000)
    rule = replace(RETAIN, max_size_mb=5)
    run = run_with(other, rule_seeds=2)
    choice = pick_ticket(run, rule)
    assert (choice.picked.exported, choice.picked.predicted) == (None, None)
    assert any("another seed's file" in warning for warning in choice.warnings)
    assert not any("another seed's file" in warning for warning in pick_ticket(run, RETAIN).warnings)
    assert choice.picked.commands == export_commands(choice.picked.ticket)
    both = judge(run.groups[0], run_with(own, other, rule_seeds=2), rule, 0.7)
    assert both.fitting == 0


def test_one_file_must_satisfy_all_limits_and_the_nearest_file_is_told():
    small, fast = bench(
        exported("small", measured("small", 9.0), cell=CELL, size_bytes=4_000_000),
        exported("fast", measured("fast", 1.0), cell=CELL, size_bytes=9_000_000),
    )
    run = run_with(small, fast)
    for limits, name in (
        ({"max_size_mb": 5}, "small"),
        ({"max_latency_ms": 5}, "fast"),
        ({"max_latency_ms": 10, "max_size_mb": 10}, "fast"),
    ):
        picked = pick_ticket(run, replace(RETAIN, **limits)).picked
        assert picked.exported.name == name
    found = judge(run.groups[0], run, replace(RETAIN, max_size_mb=5), 0.72)
    assert (found.fitting, found.broken) == (1, ())
    assert judge(run.groups[0], run, RETAIN, 0.72).fitting == 2


def test_a_ticket_that_breaks_the_rule_is_not_to_be_exported_for_it():
    run = run_with(accuracy=0.1)
    found = judge(run.groups[0], run, replace(RETAIN, max_latency_ms=5), 0.72)
    assert [violation.constraint for violation in found.broken] == ["accuracy"]
    enough = run_with()
    found = judge(enough.groups[0], enough, replace(RETAIN, max_latency_ms=5), 0.72)
    assert [violation.constraint for violation in found.broken] == ["export"]
    slow = run_with(exported("own", measured("own", 9.0), cell=CELL), accuracy=0.1)
    found = judge(slow.groups[0], slow, replace(RETAIN, max_latency_ms=5), 0.72)
    assert [violation.constraint for violation in found.broken] == ["accuracy", "latency"]
    assert judge(slow.groups[0], slow, RETAIN, 0.72).broken[0].constraint == "accuracy"
    unmeasured = run_with(exported("own", cell=CELL), accuracy=0.1)
    found = judge(unmeasured.groups[0], unmeasured, replace(RETAIN, max_latency_ms=5), 0.72)
    assert [violation.constraint for violation in found.broken] == ["accuracy", "measurement"]


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ([{"size_mb": 4.7}], 4.7),
        ([{"size_mb": 4.75}], None),  # five percent less of 5 MB is not less enough
        ([{"size_mb": 4.9}], None),
        ([{"size_mb": None}], None),
        ([{"size_mb": 1.0, "format": "openvino"}], None),
        ([{"size_mb": 4.9}, {"size_mb": 3.0}, {"size_mb": 2.0}], 3.0),
        ([], None),
    ],
)
def test_a_file_to_export_is_offered_if_it_will_be_smaller_than_dense_int8(files, expected):
    from lxcompress.analysis.alternatives import candidate_of

    free = candidate_of(exported("free", precision="int8", size_bytes=5_000_000))
    found = find_smaller([prediction(**given) for given in files], free)
    assert (found.size_mb if found else None) == expected


def free_run(size_mb: int = 4):
    """The ticket's int8 file of 5 MB, and dense int8 of so many MB that is as good in all else."""
    ticket, free = bench(
        exported("own", measured("own", 1.0), cell=CELL, precision="int8", size_bytes=5_000_000),
        exported("free", measured("free", 1.0), precision="int8", size_bytes=size_mb * 10**6),
    )
    return run_with(ticket, free)


def test_dense_int8_that_is_as_good_is_shipped_in_place_of_the_ticket():
    choice = pick_ticket(free_run(), RETAIN)
    assert choice.picked.free.exported.name == "free"
    assert verdict(choice).startswith("Ship dense int8, which needs no pruning: same speed and memory; smaller (4.00")
    assert compared_words(choice.picked) == ("", None)
    choice = pick_ticket(free_run(6), RETAIN)
    assert choice.picked.free is None
    assert compared_words(choice.picked) == (
        "Compared with dense int8 (no pruning needed): same speed and memory; smaller (5.00 against 6.00 MB); "
        "same accuracy.",
        None,
    )


# What to run next ---------------------------------------------------------------------------------------------------


def test_the_commands_are_those_that_are_left():
    from lxcompress.analysis.alternatives import candidate_of

    ticket = ROOT / "tickets" / CELL
    assert next_commands(ROOT, ticket, None, []) == export_commands(ticket)
    made = exported("made", measured("made", 1.0), cell=CELL)
    assert next_commands(ROOT, ticket, made, []) == ()
    unmeasured, phone = exported("file", cell=CELL), exported("phone", format="coreml")
    others = [candidate_of(file) for file in (unmeasured, phone, exported("dense"))]
    assert next_commands(ROOT, ticket, unmeasured, others) == (
        "lxcompress bench run/artifacts/file run/artifacts/dense",
    )
    assert next_commands(ROOT, ticket, phone, others) == ()
    free = candidate_of(exported("free", precision="int8"))
    assert next_commands(ROOT, ticket, prediction(), [free]) == (
        prediction().command,
        "lxcompress bench run/artifacts/cell-onnx-int8 run/artifacts/free",
    )
    twins = next_commands(ROOT, ticket, prediction(), others)
    assert twins == (f"lxcompress export {ticket} --twins", "lxcompress bench run/artifacts/*")
    (command, _) = next_commands(ROOT, ticket, prediction(format="openvino"), [free])
    assert command == f"lxcompress export {ticket} --twins --format openvino"
    half = prediction(precision="fp16")
    assert next_commands(ROOT, ticket, half, []) == (half.command, "lxcompress bench run/artifacts/cell-onnx-int8")
    whole = prediction(precision="fp32")
    assert next_commands(ROOT, ticket, whole, [])[0] == f"lxcompress export {ticket} --twins"


def test_a_comparison_names_what_it_lacks():
    ticket = exported("own", cell=CELL, precision="int8")
    free = exported("free", precision="int8", size_bytes=6_000_000)
    picked = pick_ticket(run_with(ticket), RETAIN).picked
    assert compared_words(picked)[1] == f"lxcompress export {picked.ticket} --twins --format onnx"
    picked = pick_ticket(run_with(ticket, free), RETAIN).picked
    words, command = compared_words(picked)
    assert words.endswith("smaller (5.00 against 6.00 MB); same accuracy; speed not measured side by side.")
    assert command == "lxcompress bench run/artifacts/own run/artifacts/free"
    packed = pick_ticket(run_with(exported("own", cell=CELL, format="transformers")), RETAIN).picked
    assert compared_words(packed) == ("", None)
    assert compared_words(pick_ticket(run_with(), RETAIN).picked) == ("", None)
    dense = replace(picked, exported=free, others=())
    assert compared_words(dense) == ("", None)


@pytest.mark.parametrize(
    ("method", "roles", "missing"),
    [
        (Method(), (), ("dense", "dense int8", "structured")),
        (Method(), ("dense", "dense int8", "structured"), ()),
        (Method(), ("dense int8", "ticket"), ("dense", "structured")),
        (STRUCTURED, ("dense", "dense int8", "structured"), ("unstructured",)),
        (STRUCTURED, ("dense", "dense int8", "structured", "unstructured int8"), ()),
        (STRUCTURED, ("dense", "ticket"), ("dense int8",)),
    ],
)
def test_the_twins_that_are_missing_are_named(method, roles, missing):
    from lxcompress.analysis.alternatives import candidate_of

    others = tuple(candidate_of(exported(role, twin=role)) for role in roles)
    picked = PickedTicket(group(0.8, method=method), "", 0, CELL, ROOT, None, None, (), others=others)
    assert picked.missing_twins == missing


# The fronts and the warnings ----------------------------------------------------------------------------------------


def test_the_front_of_tickets_has_the_dense_model_and_no_control_and_no_unfinished_group():
    groups = (
        group(0.7, achieved=0.5),
        group(0.7, method=RANDOM, achieved=0.50004),  # a weight or two more is not sparser
        group(0.69, method=HIGH, achieved=0.4),
        group(0.6, method=Method(criterion="movement"), achieved=0.9, missing=(1,)),
        group(0.9, method=Method(control="shuffled"), achieved=0.9),
    )
    names = [point.label for point in ticket_front(summary(*groups))]
    assert names == ["dense", "low-magnitude at 50 %", "random at 50 %"]
    assert [point.achieved for point in ticket_front(summary(*groups))] == [0.0, 0.5, 0.50004]
    assert "dense" not in [point.label for point in ticket_front(summary(*groups, dense_missing=(1,)))]
    assert [point.label for point in ticket_front(replace(summary(), dense=None))] == []
    dense_again = summary(*groups, recipe=recipe(protocol=["mask-applied-once"]))
    assert [point.label for point in ticket_front(dense_again)] == ["dense"]


def test_the_front_of_files_has_what_no_file_beats_in_all_four():
    def file(name, latency, size, accuracy=0.8, peak=100.0):
        return exported(name, measured(name, latency, peak), size_bytes=size * 10**6, accuracy=score(accuracy))

    files = (
        file("fast", 1.0, 9),
        file("small", 2.0, 5),
        file("beaten", 2.0, 9),
        file("accurate", 3.0, 9, 0.9),
        file("light", 3.0, 9, 0.8, 90.0),
        exported("unmeasured"),
    )
    assert [found.exported.name for found in file_front(summary(artifacts=files))] == [
        "fast",
        "small",
        "accurate",
        "light",
    ]


@pytest.mark.parametrize(
    ("margins", "is_told"),
    [((0.01,), False), ((0.02, 0.02), False), ((0.0, 0.02), True), ((0.01, 0.03), False), ((-0.01, 0.02), True)],
)
def test_a_margin_that_is_smaller_than_its_standard_error_is_told(margins, is_told):
    """Of 0 and 0.02 both are 0.01: as large as the error is not smaller than it."""
    told = narrow_margin("threshold", spread(*margins))
    assert bool(told) == (is_told and margins != (0.0, 0.02))
    assert all("smaller than its standard error" in warning for warning in told)


def warnings_of(run, rule=RETAIN):
    picked = pick_ticket(run, rule).picked
    assert picked is not None
    return pick_warnings(picked, run, rule, rule.threshold(run.dense.overall.mean))


def test_a_pick_without_doubts_has_no_warnings():
    assert warnings_of(summary(group(0.8, 0.8), dense=(0.8, 0.8), results=done(2))) == []


def test_the_margin_is_that_of_each_seed_against_its_own_dense_run():
    run = summary(group(0.80, 0.60, dense=(0.80, 0.60)), dense=(0.80, 0.60), results=done(2))
    told = " ".join(warnings_of(run))
    assert "the margin over the threshold" not in told  # 0.08 and 0.06 above: no spread to speak of
    low, _ = mean_interval([0.80, 0.60])
    assert f"over 2 seeds the mean may be as low as {percent(low)} %, below the threshold" in told
    run = summary(group(0.80, 0.60), dense=(0.70, 0.70), results=done(2))
    assert "the margin over the threshold of 63.00 %" in " ".join(warnings_of(run))


def test_an_interval_that_begins_at_the_threshold_is_not_below_it():
    run = summary(group(0.8, 0.8), dense=(0.8, 0.8), results=done(2))
    assert warnings_of(run, Rule(retain=1.0)) == []


def test_each_floor_that_is_near_is_told():
    run = summary(group(0.8, 0.6), dense=(0.6, 0.6), floors=floors(0.1, 0.65), results=done(2))
    told = [warning for warning in warnings_of(run) if "floor" in warning]
    assert told == [
        "the margin over the question-only floor of 65.00 % (5.00 points) is smaller than its standard error "
        "(10.00 points)"
    ]


def test_what_is_unfinished_or_of_one_seed_is_told():
    run = summary(group(0.8, 0.8), dense=(0.8, 0.8))
    assert warnings_of(run) == ["the study is not finished: a sparser ticket may still come"]
    twin = group(0.8, method=STRUCTURED, parameters=5e5)
    told = warnings_of(summary(group(0.8, 0.8), twins=(twin,), dense=(0.8, 0.8), results=done(2)))
    assert told == ["the structured twin has seed 0 alone: no spread of its accuracy is known"]
    alone = summary(group(0.8), dense=(0.8,), results=done(1), warnings=("one seed",))
    assert warnings_of(alone) == ["one seed"]


def test_what_is_told_of_the_file():
    file = exported("own", cell=CELL, warnings=("busy",), accuracy=score(0.7))
    run = run_with(file)
    told = [warning for warning in warnings_of(run, Rule(retain=0.95)) if "unfinished" not in warning]
    assert told[0] == "onnx fp32: busy"
    assert "the export costs accuracy, which leaves 70.00 %, but the rule asks for 76.00 %" in told[1]
    assert warnings_of(run_with()) == []
    like = exported("like", precision="int8", parameters=2_000_000)
    run = run_with(like)
    assert warnings_of(run) == []
    limited = replace(RETAIN, max_size_mb=100)
    assert pick_ticket(run, limited).picked.predicted.size_mb == pytest.approx(5.25)
    assert warnings_of(run, limited) == [
        "the file is not exported yet: its size is predicted, its accuracy is not known"
    ]


def test_mixed_measurements_are_told_where_times_matter():
    one, other = exported("own", measured("own", 1.0), cell=CELL), exported("b", measured("b", 1.0, threads=2))
    for others in ((other,), (other, exported("c"))):  # one measured alternative is enough
        assert any("different tasks" in warning for warning in warnings_of(run_with(one, *others)))
    assert not any("different" in warning for warning in warnings_of(run_with(one)))
    elsewhere = measured("b", 1.0, machine=one.artifact.machine.model_copy(update={"cores": 64}))
    assert any("different machines" in warning for warning in warnings_of(run_with(one, exported("b", elsewhere))))


# The rule -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rule", "words", "threshold"),
    [
        (Rule(retain=0.99), "at least 99 % of dense accuracy", 0.792),
        (Rule(max_drop=0.01), "all but 1 point of dense accuracy", 0.79),
        (Rule(max_drop=0.02), "all but 2 points of dense accuracy", 0.78),
        (Rule(max_drop=0.0), "all but 0 points of dense accuracy", 0.8),
        (
            Rule(retain=1.0, max_size_mb=5, max_latency_ms=2.5, max_memory_mb=100),
            "at least 100 % of dense accuracy within 5 MB on disk and 2.5 ms p90 latency and 100 MB peak memory",
            0.8,
        ),
    ],
)
def test_a_rule_says_what_it_asks_for(rule, words, threshold):
    assert rule.words == words
    assert rule.threshold(0.8) == pytest.approx(threshold)


@pytest.mark.parametrize(
    ("limits", "has_limits", "needs"),
    [
        ({}, False, False),
        ({"max_size_mb": 0}, True, False),
        ({"max_latency_ms": 0}, True, True),
        ({"max_memory_mb": 0}, True, True),
    ],
)
def test_a_limit_of_zero_is_a_limit(limits, has_limits, needs):
    rule = Rule(retain=0.9, **limits)
    assert (rule.has_limits, rule.needs_measurement) == (has_limits, needs)


@pytest.mark.parametrize("given", [{}, {"retain": 0.9, "max_drop": 0.1}])
def test_a_rule_has_one_way_to_say_how_much_accuracy_is_kept(given):
    with pytest.raises(AssertionError):
        Rule(**given)


def test_the_default_rule_is_the_recipes():
    assert default_rule(summary(recipe=recipe(retain=0.97))) == Rule(retain=0.97)
