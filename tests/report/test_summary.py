"""The summary's laws: its numbers are the textbook's, and nothing unfinished passes for whole."""

from __future__ import annotations

import random
import statistics

import pytest

from lxcompress.analysis.artifacts import latency_ms
from lxcompress.analysis.groups import Spread
from lxcompress.analysis.summary import summarise
from lxcompress.analysis.words import numbered, points
from lxcompress.errors import RunError
from lxcompress.recipe import Cell, plain_method
from lxcompress.records import Dense, read_record
from lxcompress.rundir import read_run, write_record
from tests.report.synthetic import Accuracies, curve, recipe, write_artifact, write_bench, write_run


def test_mean_and_deviation_are_the_textbooks(summary):
    for group in summary.groups:
        for stage in ("pruned", "rewound", "retrained"):
            values = [getattr(result, stage).accuracy for result in _results(summary, group)]
            spread = getattr(group, stage).overall
            assert spread.mean == pytest.approx(statistics.fmean(values))
            assert spread.std == pytest.approx(statistics.stdev(values))


def test_differences_are_of_the_same_seed(summary):
    dense = {dense_run.seed: dense_run.trained.accuracy for dense_run in summary.dense_runs}
    for group in summary.groups:
        for result in _results(summary, group):
            assert group.paired.by_seed[result.seed] == result.retrained.accuracy - dense[result.seed]
        assert group.retained == pytest.approx(group.retrained.overall.mean / statistics.fmean(dense.values()))


def test_each_answer_type_is_summarised(summary):
    group = summary.groups[0]
    values = [result.retrained.by_type["number"] for result in _results(summary, group)]
    assert group.retrained.by_type["number"].mean == pytest.approx(statistics.fmean(values))


def test_one_seed_has_no_deviation_and_says_so(tmp_path):
    write_run(tmp_path, recipe(seeds=(4,)))
    summary = summarise(read_run(tmp_path))
    assert all(group.retrained.overall.std is None for group in summary.groups)
    assert any("one seed" in doubt for doubt in summary.warnings)


def test_a_group_that_lacks_a_seed_names_it(part):
    summary = summarise(read_run(part.root))
    missing = {group.key.label: group.missing for group in summary.groups if group.missing}
    assert missing["low-magnitude at 70 %"] == (2,)
    assert [key.label for key in summary.unstarted] == ["high-magnitude at 90 %"]
    assert not summary.is_complete


def test_a_cell_without_its_dense_run_is_not_whole(tmp_path):
    write_run(tmp_path, recipe(), dense=lambda seed: None if seed == 1 else 0.8)
    summary = summarise(read_run(tmp_path))
    assert all(group.missing == (1,) for group in summary.groups)
    assert all(set(group.paired.by_seed) == {0, 2} for group in summary.groups)


def test_a_study_without_any_dense_run_is_summarised(tmp_path):
    write_run(tmp_path, recipe(), dense=lambda seed: None)
    summary = summarise(read_run(tmp_path))
    assert summary.dense is None
    assert all(group.paired is None and group.retained is None for group in summary.groups)


def test_the_newest_measurement_of_an_artifact_wins(run):
    folder = write_artifact(run, "a", cell="low-magnitude-weight-50-seed0")
    write_bench(run, "b-older", [folder], started="2026-01-01T00:00:00Z", latency_s=0.009)
    write_bench(run, "a-newer", [folder], started="2026-02-01T00:00:00Z", latency_s=0.003)
    cost = summarise(read_run(run.root)).artifacts[0]
    assert latency_ms(cost.fresh).p90 == pytest.approx(3.0)


def test_an_artifact_exported_again_is_stale(run):
    folder = write_artifact(run, "a", cell=None)
    write_bench(run, "bench", [folder])
    write_artifact(run, "a", cell=None, size_bytes=4_000_000)
    cost = summarise(read_run(run.root)).artifacts[0]
    assert cost.is_stale
    assert cost.fresh is None
    assert "stale" in cost.warnings[0]


def test_a_measurement_outlives_a_folder_that_moved(run, tmp_path):
    write_bench(run, "bench", [write_artifact(run, "a", cell=None)])
    moved = run.root.rename(tmp_path / "elsewhere")
    assert summarise(read_run(moved)).artifacts[0].fresh is not None


def test_latency_is_read_in_its_unit(run):
    folder = write_artifact(run, "a", cell=None)
    write_bench(run, "bench", [folder], latency_s=0.004)
    measured = summarise(read_run(run.root)).artifacts[0].measurement
    wrong = measured.model_copy(update={"latency": measured.latency.model_copy(update={"unit": "furlongs"})})
    assert latency_ms(measured).p90 == pytest.approx(4.0)
    with pytest.raises(RunError, match="furlongs"):
        latency_ms(wrong)


def test_dense_runs_that_are_one_run_are_doubted(tmp_path):
    run = write_run(tmp_path, recipe(seeds=(0, 1)), dense=lambda seed: 0.8)
    write_record(run.dense_result(1), read_record(run.dense_result(0), Dense).model_copy(update={"seed": 1}))
    assert any("one run" in doubt for doubt in summarise(read_run(tmp_path)).warnings)


def test_a_dense_model_below_a_floor_is_doubted(tmp_path):
    write_run(tmp_path, recipe(), floor=0.9)
    assert any("floor" in doubt for doubt in summarise(read_run(tmp_path)).warnings)


def test_best_seed_is_the_earlier_of_equals(tmp_path):
    write_run(tmp_path, recipe(), score=lambda cell: Accuracies(0.5, 0.3, 0.7))
    assert {group.best_seed for group in summarise(read_run(tmp_path)).groups} == {0}


def test_spread_equals_statistics_for_any_values():
    chance = random.Random(0)
    for size in range(2, 8):
        values = [chance.random() for _ in range(size)]
        spread = Spread(dict(enumerate(values)))
        assert spread.std == statistics.stdev(values)
        assert spread.standard_error == pytest.approx(statistics.stdev(values) / size**0.5)


@pytest.mark.parametrize(("value", "text"), [(-0.0052, "−0.52"), (0.01, "+1.00"), (-0.000001, "+0.00"), (0.0, "+0.00")])
def test_points_have_a_sign_and_no_negative_zero(value, text):
    assert points(value) == text


def test_numbers_are_listed_as_people_do():
    assert [numbered("seed", [1]), numbered("seed", [0, 2]), numbered("seed", [0, 1, 2])] == [
        "seed 1",
        "seeds 0 and 2",
        "seeds 0, 1 and 2",
    ]


def _results(summary, group):
    cells = {Cell(group.key.method, group.key.target, seed).id for seed in (0, 1, 2)}
    found = [result for result in summary.results if result.cell in cells]
    assert len(found) == 3
    assert all(result.pruned.accuracy == round(curve(_cell(result)).pruned, 6) for result in found)
    return found


def _cell(result):
    return Cell(plain_method(result.criterion, result.granularity), result.target, result.seed)
