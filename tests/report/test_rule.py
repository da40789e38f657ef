"""The pick's laws: the sparsest that satisfies, never an unfinished one, and a reason for every other."""

from __future__ import annotations

import functools
import json
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from lxcompress.analysis.choice_json import choice_json
from lxcompress.analysis.pick import pick_of_grid, pick_ticket
from lxcompress.analysis.rule import Rule
from lxcompress.analysis.summary import RunSummary, summarise
from lxcompress.analysis.verdict import compared_words, verdict
from lxcompress.recipe import Cell, Method
from lxcompress.rundir import RunDir, read_run, write_record
from tests.report.synthetic import Accuracies, recipe, result_record, write_artifact, write_bench, write_run

SPARSITIES = (0.3, 0.6, 0.9)


def chance_run(root: Path, seed: int) -> None:
    """A run of chance: scores that follow nothing, cells that are missing, some exported, some measured."""
    chance = random.Random(seed)
    run = write_run(
        root,
        recipe(sparsities=SPARSITIES, seeds=(0, 1)),
        score=lambda cell: None if chance.random() < 0.1 else Accuracies(0.5, 0.3, chance.uniform(0.35, 0.85)),
        dense=lambda seed: chance.uniform(0.6, 0.8),
    )
    for cell in recipe(sparsities=SPARSITIES, seeds=(0, 1)).cells():
        if chance.random() < 0.7:
            folder = write_artifact(run, f"{cell.id}-onnx", cell=cell.id, size_bytes=chance.randint(2, 9) * 1_000_000)
            if chance.random() < 0.8:
                latency, memory = chance.uniform(0.001, 0.009), chance.randint(50, 150) * 1_000_000
                write_bench(run, cell.id, [folder], latency_s=latency, peak_bytes=memory)


@pytest.fixture(scope="module")
def chance_summary(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], RunSummary]:
    """A function from a seed to the summary of its run of chance: made once, and only read."""

    @functools.cache
    def make(seed: int) -> RunSummary:
        root = tmp_path_factory.mktemp("chance")
        chance_run(root, seed)
        return summarise(read_run(root))

    return make


def obvious_winner(summary, rule):
    """The rule by brute force over raw records: (sparsity, accuracy) of the winner, or None."""
    if summary.dense_missing:
        return None
    dense = sum(dense_run.trained.accuracy for dense_run in summary.dense_runs) / len(summary.dense_runs)
    least = dense * rule.retain if rule.retain is not None else dense - rule.max_drop
    measured = {cost.artifact.cell: cost for cost in summary.artifacts}
    won = []
    for criterion in (method.criterion for method in summary.recipe.prune.all_methods()):
        for sparsity in SPARSITIES:
            found = [
                result for result in summary.results if result.criterion == criterion and result.target == sparsity
            ]
            if len(found) < len(summary.recipe.seeds):
                continue
            mean = sum(each.retrained.accuracy for each in found) / len(found)
            best = max(found, key=lambda each: each.retrained.accuracy)
            own = measured.get(best.cell)
            costs = [own] if own else [measured[each.cell] for each in found if each.cell in measured]
            fits = not rule.has_limits or any(fits_limits(cost, rule) for cost in costs)
            if mean >= least and mean > summary.floors.question_only.accuracy and fits:
                won.append((round(found[0].sparsity.achieved, 4), mean))
    return max(won, default=None)


def fits_limits(cost, rule):
    if rule.max_size_mb is not None and cost.artifact.size_bytes > rule.max_size_mb * 1e6:
        return False
    if rule.max_latency_ms is None and rule.max_memory_mb is None:
        return True
    if cost.measurement is None:
        return False
    values = sorted(cost.measurement.latency.values)
    p90_ms = 1000 * values[36]  # of 41 values, the 37th
    return (rule.max_latency_ms is None or p90_ms <= rule.max_latency_ms) and (
        rule.max_memory_mb is None or cost.measurement.peak_bytes <= rule.max_memory_mb * 1e6
    )


def chance_rule(seed: int) -> Rule:
    chance = random.Random(1000 + seed)
    size, latency, memory = chance.uniform(3, 9), chance.uniform(2, 9), chance.uniform(60, 150)
    accuracy = Rule(retain=chance.uniform(0.6, 1)) if chance.random() < 0.5 else Rule(max_drop=chance.uniform(0, 0.2))
    return replace(
        accuracy,
        max_size_mb=size if chance.random() < 0.4 else None,
        max_latency_ms=latency if chance.random() < 0.4 else None,
        max_memory_mb=memory if chance.random() < 0.4 else None,
    )


@pytest.mark.parametrize("seed", range(25))
def test_the_pick_is_the_obvious_one_and_each_other_has_a_reason(chance_summary, seed):
    summary = chance_summary(seed)
    for rule in (chance_rule(seed), chance_rule(100 + seed), Rule(retain=0.7)):
        choice = pick_ticket(summary, rule)
        group = choice.picked.group if choice.picked else None
        mine = group and (round(group.achieved.mean, 4), group.retrained.overall.mean)
        assert mine == (pytest.approx(obvious_winner(summary, rule)) if mine else obvious_winner(summary, rule))
        assert group is None or group.is_complete
        keys = {group.key for group in summary.groups} | set(summary.unstarted)
        assert {group.key for group in choice.rejected} == keys - ({group.key} if group else set())
        assert all(group.reasons and all(group.reasons) for group in choice.rejected)
        json.dumps(choice_json(choice), allow_nan=False)


@pytest.mark.parametrize("seed", range(12))
def test_tightening_never_yields_a_sparser_pick(chance_summary, seed):
    summary = chance_summary(seed)
    loose = Rule(retain=0.6, max_size_mb=9, max_latency_ms=9, max_memory_mb=150)
    for tight in (
        replace(loose, retain=0.8),
        replace(loose, max_size_mb=5),
        replace(loose, max_latency_ms=4),
        replace(loose, max_memory_mb=90),
    ):
        assert _sparsity(summary, tight) <= _sparsity(summary, loose) <= _sparsity(summary, Rule(retain=0.6))


def test_an_incomplete_group_never_wins(tmp_path):
    def score(cell):
        return None if cell.sparsity == 0.9 and cell.seed == 1 else Accuracies(0.7, 0.4, 0.8)

    write_run(tmp_path, recipe(), score=score)
    choice = pick_ticket(summarise(read_run(tmp_path)), Rule(retain=0.9))
    assert choice.picked.group.key.target == 0.7
    reasons = [group.reasons for group in choice.rejected if group.key.target == 0.9]
    assert reasons == [("incomplete: seed 1 not finished",)] * 3
    assert any("not finished" in doubt for doubt in choice.warnings)


def test_of_equally_sparse_groups_the_more_accurate_wins(tmp_path):
    write_run(
        tmp_path,
        recipe(sparsities=(0.5,)),
        score=lambda cell: Accuracies(0.7, 0.4, 0.79 if cell.method.criterion == "random" else 0.78),
    )
    choice = pick_ticket(summarise(read_run(tmp_path)), Rule(retain=0.9))
    assert choice.picked.group.key.method.criterion == "random"
    assert all("as sparse as the pick" in group.reasons[0] for group in choice.rejected)


def test_a_ticket_no_better_than_blind_is_refused(tmp_path):
    write_run(tmp_path, recipe(), score=lambda cell: Accuracies(0.5, 0.3, 0.42), floor=0.42)
    choice = pick_ticket(summarise(read_run(tmp_path)), Rule(retain=0.1))
    assert choice.picked is None
    assert all("floor" in group.broken for group in choice.rejected)


def test_the_shipped_ticket_is_the_best_seeds(summary):
    picked = pick_ticket(summary, Rule(retain=0.99)).picked
    scores = picked.group.retrained.overall.by_seed
    assert scores[picked.seed] == max(scores.values())
    assert picked.ticket == summary.root / "tickets" / picked.cell


def test_what_is_not_measured_cannot_satisfy_a_limit_and_says_how_to(run):
    summary = summarise(read_run(run.root))
    choice = pick_ticket(summary, Rule(retain=0.99, max_latency_ms=100))
    assert choice.picked is None
    export, bench = choice.nearest.commands
    ticket = summary.root / "tickets" / summary.groups[0].key.cell(summary.groups[0].best_seed).id
    assert export == f"lxcompress export {ticket} --format onnx --precision int8"
    assert bench == f"lxcompress bench {summary.root / 'artifacts' / ticket.name}-onnx-int8"


def test_a_stale_measurement_satisfies_no_limit(run):
    cell = _best_cell(run)
    folder = write_artifact(run, "a", cell=cell)
    write_bench(run, "bench", [folder])
    rule = Rule(retain=0.99, max_latency_ms=100)
    assert pick_ticket(summarise(read_run(run.root)), rule).picked is not None
    write_artifact(run, "a", cell=cell, size_bytes=1)
    stale = pick_ticket(summarise(read_run(run.root)), rule)
    assert stale.picked is None
    assert "exported again" in stale.nearest.reasons[0]
    assert stale.nearest.commands == (f"lxcompress bench {folder}",)


def test_a_file_that_is_not_the_exported_one_is_not_measured(run):
    folder = write_artifact(run, "a", cell=_best_cell(run))
    write_bench(run, "bench", [folder])
    rule = Rule(retain=0.99, max_latency_ms=100)
    for change in (lambda path: path.write_bytes(b"x"), lambda path: path.unlink()):
        change(folder / "model.onnx")
        summary = summarise(read_run(run.root))
        assert pick_ticket(summary, rule).picked is None
        assert any("export it again" in doubt for doubt in pick_ticket(summary, Rule(retain=0.99)).warnings)


def test_what_an_export_loses_is_charged(run):
    folder = write_artifact(run, "a", cell=_best_cell(run), source=0.8, accuracy=0.7)
    write_bench(run, "bench", [folder])
    summary = summarise(read_run(run.root))
    limited = pick_ticket(summary, Rule(retain=0.99, max_size_mb=100))
    assert limited.picked is None
    assert limited.nearest.broken == ("export",)  # another file of it may lose less
    assert any("export costs accuracy" in doubt for doubt in pick_ticket(summary, Rule(retain=0.99)).warnings)


def test_every_constraint_that_broke_is_named_with_its_numbers(run):
    folder = write_artifact(run, "a", cell=_best_cell(run), size_bytes=9_000_000)
    write_bench(run, "bench", [folder], latency_s=0.004, peak_bytes=120_000_000)
    rule = Rule(retain=1.0, max_size_mb=5, max_latency_ms=3, max_memory_mb=100)
    group = pick_ticket(summarise(read_run(run.root)), rule).rejected[0]
    assert group.broken == ("accuracy", "size", "latency", "memory")
    assert "9 MB is over 5 MB" in group.reasons[1]
    assert "p90 latency 4 ms is over 3 ms" in group.reasons[2]
    assert "120 MB is over 100 MB" in group.reasons[3]


def test_one_seed_is_doubted(tmp_path):
    write_run(tmp_path, recipe(seeds=(0,)))
    assert any("one seed" in doubt for doubt in pick_ticket(summarise(read_run(tmp_path)), Rule(retain=0.9)).warnings)


def test_a_margin_within_its_standard_error_is_doubted(tmp_path):
    scores = {0: 0.80, 1: 0.76, 2: 0.79}
    write_run(tmp_path, recipe(), score=lambda cell: Accuracies(0.7, 0.4, scores[cell.seed]), dense=lambda seed: 0.8)
    summary = summarise(read_run(tmp_path))
    assert any("standard error" in doubt for doubt in pick_ticket(summary, Rule(max_drop=0.02)).warnings)
    assert not any("standard error" in doubt for doubt in pick_ticket(summary, Rule(max_drop=0.1)).warnings)


def test_without_every_dense_run_nothing_is_picked(tmp_path):
    write_run(tmp_path, recipe(), dense=lambda seed: None if seed == 2 else 0.8)
    choice = pick_ticket(summarise(read_run(tmp_path)), Rule(retain=0.5))
    assert choice.picked is None
    assert "dense" in verdict(choice)


def test_a_dense_model_that_answers_nothing_gives_no_pick(tmp_path):
    write_run(tmp_path, recipe(), dense=lambda seed: 0.0, floor=None)
    assert pick_ticket(summarise(read_run(tmp_path)), Rule(retain=0.5)).picked is None


def test_max_drop_counts_exactly(tmp_path):
    write_run(tmp_path, recipe(), score=lambda cell: Accuracies(0.7, 0.4, 0.69), dense=lambda seed: 0.7)
    assert pick_ticket(summarise(read_run(tmp_path)), Rule(max_drop=0.01)).picked is not None


def _best_cell(run) -> str:
    return pick_ticket(summarise(read_run(run.root)), Rule(retain=0.99)).picked.cell


def _sparsity(summary, rule) -> float:
    picked = pick_ticket(summary, rule).picked
    return picked.group.achieved.mean if picked else 0.0


def test_a_ticket_fits_if_one_of_its_files_satisfies_all_limits_together(run):
    """One file is small enough, another fast enough: neither is both, until a third is."""
    cell, limits = _best_cell(run), {"max_size_mb": 5.0, "max_latency_ms": 3.0}
    small = write_artifact(run, "small", cell=cell, size_bytes=4_000_000, precision="int8")
    fast = write_artifact(run, "fast", cell=cell, size_bytes=9_000_000)
    write_bench(run, "slow", [small], latency_s=0.004)
    write_bench(run, "fast", [fast], latency_s=0.002)
    for one in ({"max_size_mb": 5.0}, {"max_latency_ms": 3.0}):
        assert pick_ticket(summarise(read_run(run.root)), Rule(retain=0.99, **one)).picked is not None
    assert pick_ticket(summarise(read_run(run.root)), Rule(retain=0.99, **limits)).picked is None
    both = write_artifact(run, "both", cell=cell, size_bytes=5_000_000, format="openvino", precision="int8")
    write_bench(run, "both", [both], latency_s=0.003)
    picked = pick_ticket(summarise(read_run(run.root)), Rule(retain=0.99, **limits)).picked
    assert picked.exported.folder == both
    assert picked.fitting == 1


def test_of_the_files_that_fit_the_fastest_is_shipped_or_the_smallest_where_none_is_measured(run):
    cell = _best_cell(run)
    sizes = {"a": 9_000_000, "b": 7_000_000, "c": 8_000_000}
    folders = [write_artifact(run, name, cell=cell, size_bytes=size) for name, size in sizes.items()]
    assert pick_ticket(summarise(read_run(run.root)), Rule(retain=0.99)).picked.exported.folder == folders[1]
    for folder, latency in zip(folders, (0.002, 0.004, 0.003), strict=True):
        write_bench(run, folder.name, [folder], latency_s=latency)
    assert pick_ticket(summarise(read_run(run.root)), Rule(retain=0.99)).picked.exported.folder == folders[0]
    lossy = write_artifact(run, "lossy", cell=cell, source=0.8, accuracy=0.6)
    write_bench(run, "lossy", [lossy], latency_s=0.001)
    picked = pick_ticket(summarise(read_run(run.root)), Rule(retain=0.99)).picked
    assert picked.exported.folder == folders[0]
    assert picked.fitting == 3


def beside(run, *, accuracy=0.8, size=4_000_000, latency=0.002, memory=100_000_000):
    """The choice where the ticket (0.8, 5 MB, 3 ms, 110 MB) stands beside such a dense int8."""
    ticket = write_artifact(run, "ticket", cell=_best_cell(run), size_bytes=5_000_000, precision="int8")
    free = write_artifact(run, "free", cell=None, size_bytes=size, accuracy=accuracy, precision="int8")
    write_bench(run, "both", [ticket, free], latency_s=[0.003, latency], peak_bytes=[110_000_000, memory])
    return pick_ticket(summarise(read_run(run.root)), Rule(retain=0.99))


@pytest.mark.parametrize(
    ("better", "words"),
    [
        ({}, "smaller (4.00 against 5.00 MB); faster (median 1.68 against 2.52 ms); less memory"),
        ({"accuracy": 0.81}, "smaller (4.00 against 5.00 MB); faster (median 1.68 against 2.52 ms); less memory"),
        ({"size": 5_010_000, "latency": 0.003, "memory": 111_000_000}, "same size, speed and memory; same accuracy"),
    ],
)
def test_dense_int8_that_is_as_good_in_everything_is_what_to_ship(run, better, words):
    choice = beside(run, **better)
    assert choice.picked.free.role == "dense int8"
    assert verdict(choice).startswith(f"Ship dense int8, which needs no pruning: {words}")
    assert choice_json(choice)["picked"]["free"]["artifact"].endswith("/free")


@pytest.mark.parametrize(
    "worse", [{"accuracy": 0.79}, {"size": 6_000_000}, {"latency": 0.004}, {"memory": 120_000_000}]
)
def test_dense_int8_that_is_worse_in_anything_is_shown_and_not_preferred(run, worse):
    choice = beside(run, **worse)
    assert choice.picked.free is None
    assert verdict(choice).startswith("Ship ")
    assert "dense int8" in {other.role for other in choice.picked.others}


@pytest.mark.parametrize("apart", [{"threads": 2}, {}, {"runtime": "openvino"}])
def test_what_was_not_measured_side_by_side_is_compared_by_size_and_accuracy_alone(run, apart):
    """Faster on another number of threads, in another runtime or another bench is not faster."""
    ticket = write_artifact(run, "ticket", cell=_best_cell(run), size_bytes=5_000_000)
    free = write_artifact(run, "free", cell=None, size_bytes=4_000_000, precision="int8")
    write_bench(run, "ticket", [ticket], latency_s=0.001, threads=1)
    write_bench(run, "free", [free], latency_s=0.009, **apart)
    choice = pick_ticket(summarise(read_run(run.root)), Rule(retain=0.99))
    words, command = compared_words(choice.picked)
    assert words.endswith("larger (5.00 against 4.00 MB); same accuracy; speed not measured side by side.")
    assert command == f"lxcompress bench {ticket} {free}"
    assert not any(word in words for word in ("faster", "slower", "memory"))
    assert any("different tasks" in doubt for doubt in choice.warnings) == ("threads" in apart)


def test_dense_int8_of_another_format_is_no_comparison(run):
    ticket = write_artifact(run, "ticket", cell=_best_cell(run), format="openvino")
    free = write_artifact(run, "free", cell=None, size_bytes=1_000, precision="int8")
    write_bench(run, "ticket", [ticket, free], runtime="openvino")
    choice = pick_ticket(summarise(read_run(run.root)), Rule(retain=0.99))
    words, command = compared_words(choice.picked)
    assert words == "Not compared with dense int8 (no pruning needed): no openvino file of it is exported."
    assert command == f"lxcompress export {choice.picked.ticket} --twins --format openvino"


def test_twins_that_are_missing_are_named(run):
    seed = int(_best_cell(run).rpartition("-seed")[2])
    assert pick_ticket(summarise(read_run(run.root)), Rule(retain=0.99)).picked.missing_twins == (
        "dense",
        "dense int8",
        "structured",
    )
    write_artifact(run, "a", cell=None)
    write_artifact(run, "b", cell=None, precision="int8")
    write_artifact(run, "c", cell=f"taylor-neuron+head-50-seed{seed}", twin="structured")
    picked = pick_ticket(summarise(read_run(run.root)), Rule(retain=0.99)).picked
    assert picked.missing_twins == ()
    assert [other.role for other in picked.others] == ["dense", "dense int8", "structured"]


@pytest.mark.parametrize("seed", range(8))
def test_the_fronts_hold_what_nothing_beats(tmp_path, seed):
    chance_run(tmp_path, seed)
    summary = summarise(read_run(tmp_path))
    choice = pick_ticket(summary, Rule(retain=0.7))
    measured = [cost for cost in summary.artifacts if cost.fresh]
    rows = {
        cost.folder: (
            -cost.artifact.accuracy.accuracy,
            cost.artifact.size_bytes,
            sorted(cost.fresh.latency.values)[36],
            cost.fresh.peak_bytes,
        )
        for cost in measured
    }
    unbeaten = {name for name, row in rows.items() if not any(_beats(other, row) for other in rows.values())}
    assert {file.exported.folder for file in choice.files} == unbeaten
    whole = [group for group in summary.groups if group.is_complete]
    points = {group.key.label: (-group.retrained.overall.mean, -round(group.achieved.mean, 4)) for group in whole}
    points["dense"] = (-summary.dense.overall.mean, 0.0)
    unbeaten = {name for name, row in points.items() if not any(_beats(other, row) for other in points.values())}
    assert {point.label for point in choice.front} == unbeaten


def _beats(one, other) -> bool:
    return one != other and all(mine <= its for mine, its in zip(one, other, strict=True))


def test_memory_that_is_not_known_satisfies_no_limit_on_it(run):
    folder = write_artifact(run, "a", cell=_best_cell(run))
    write_bench(run, "bench", [folder], peak_bytes=None)
    choice = pick_ticket(summarise(read_run(run.root)), Rule(retain=0.99, max_memory_mb=1000))
    assert choice.picked is None
    assert all("memory" in reason or "below" in reason for group in choice.rejected for reason in group.reasons)


def test_accuracy_has_its_interval_over_seeds(run, tmp_path):
    picked = pick_ticket(summarise(read_run(run.root)), Rule(retain=0.99)).picked
    low, high = picked.interval
    assert low < picked.group.retrained.overall.mean < high
    alone = write_run(tmp_path / "alone", recipe(seeds=(0,)))
    choice = pick_ticket(summarise(read_run(alone.root)), Rule(retain=0.9))
    assert choice.picked.interval is None
    assert choice_json(choice)["picked"]["interval"] is None


TWIN_CELL = "taylor-neuron+head-global-lr-rewind-50-seed0"
TWIN_METHOD = {"criterion": "taylor", "granularity": "neuron+head", "scope": "global", "rewind": "learning-rate"}


def write_twin(run, *, retrained=0.8, parameters=1_100_000, cell=TWIN_CELL) -> Path:
    """A structured twin drawn beside the grid, as a study draws it."""
    method = Method.model_validate(TWIN_METHOD)
    made = result_record(Cell(method, 0.5, 0), Accuracies(0.7, 0.4, retrained), ("a",), 1500)
    path = run.root / "twins" / cell / "result.json"
    write_record(path, made.model_copy(update={"cell": cell, "parameters": parameters}))
    return path.parent


def test_a_structured_twin_is_a_candidate_and_its_file_is_predicted(run):
    """It is as sparse as the pick of the grid and a smaller model; what its int8 file takes is known beforehand."""
    ticket = write_twin(run)
    write_artifact(run, "dense", cell=None, size_bytes=2_000_000, precision="int8", parameters=2_000_000)
    summary = summarise(read_run(run.root))
    choice = pick_ticket(summary, Rule(retain=0.97, max_size_mb=1.5))
    assert choice.picked.ticket == ticket
    assert choice.picked.predicted.size_mb == pytest.approx(1.1)
    assert choice.picked.commands[0] == f"lxcompress export {ticket} --format onnx --precision int8"
    assert "predicted, about 1.1 MB, not exported yet" in verdict(choice)
    assert any("seed 0 alone" in doubt for doubt in choice.warnings)
    assert pick_ticket(summary, Rule(retain=0.97, max_size_mb=1.0)).picked is None
    assert pick_of_grid(summary, Rule(retain=0.97)).picked.ticket.parent.name == "tickets"


def test_a_file_that_takes_as_long_as_a_measured_one_is_not_offered(run):
    """A ticket's zeros are multiplied in ONNX Runtime: one that is not measured is as slow as one that is."""
    cell = _best_cell(run)
    other = cell.replace(f"seed{cell[-1]}", f"seed{(int(cell[-1]) + 1) % 3}")
    folder = write_artifact(run, "other", cell=other, precision="int8", parameters=2_100_000)
    write_artifact(run, "own", cell=cell, parameters=2_100_000)
    write_bench(run, "bench", [folder], latency_s=0.004)
    choice = pick_ticket(summarise(read_run(run.root)), Rule(retain=0.99, max_latency_ms=3))
    assert choice.picked is None
    assert not any("--format onnx --precision int8" in command for command in choice.nearest.commands)


@pytest.mark.parametrize("seed", range(8))
def test_nothing_is_offered_that_cannot_run_here(tmp_path, seed, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    chance_run(tmp_path, seed)
    summary = summarise(read_run(tmp_path))
    for rule in (chance_rule(seed), chance_rule(200 + seed), Rule(retain=0.7)):
        choice = pick_ticket(summary, rule)
        commands = [command for group in choice.rejected for command in group.commands]
        commands += choice.picked.commands if choice.picked else choice.nearest.commands if choice.nearest else ()
        assert not any(name in command for command in commands for name in ("coreml", "openvino", "executorch"))


@pytest.mark.parametrize("seed", range(12))
def test_a_tighter_limit_on_size_never_picks_a_larger_file_and_every_pick_satisfies_its_limits(tmp_path, seed):
    chance_run(tmp_path, seed)
    write_twin(RunDir(tmp_path), retrained=random.Random(seed).uniform(0.5, 0.9))
    write_artifact(RunDir(tmp_path), "dense", cell=None, size_bytes=2_000_000, precision="int8", parameters=2_000_000)
    summary, before = summarise(read_run(tmp_path)), float("inf")
    for limit in (20, 9, 7, 5, 3, 2, 1.5, 1, 0.1):
        picked = pick_ticket(summary, Rule(retain=0.6, max_size_mb=limit)).picked
        if picked is None:
            before = 0.0
            continue
        size_mb = (
            picked.exported.size_mb if picked.exported else picked.predicted.size_mb if picked.predicted else limit
        )
        assert size_mb <= min(limit, before)
        before = size_mb
    for limit in (9, 6, 4, 2):
        picked = pick_ticket(summary, Rule(retain=0.6, max_latency_ms=limit, max_memory_mb=120)).picked
        if picked is not None and picked.exported is not None:
            assert sorted(picked.exported.fresh.latency.values)[36] * 1000 <= limit
            assert picked.exported.fresh.peak_bytes <= 120_000_000
