"""What artifacts cost: the usual measurement, ratios that compare like with like, fronts by their definition."""

from __future__ import annotations

import math

import pytest

from lxcompress.analysis.artifact_costs import (
    COST_AXES,
    find_dense,
    find_front,
    find_missing_baselines,
    number_artifacts,
    ratio,
)
from lxcompress.analysis.artifacts import latency_ms
from lxcompress.analysis.pick import pick_ticket
from lxcompress.analysis.rule import Rule
from lxcompress.analysis.summary import summarise
from lxcompress.report.costs import cost_panels, cost_rows, has_more, measurement_rows, not_drawn_words
from lxcompress.report.html import render_html
from lxcompress.rundir import read_run
from tests.report.synthetic import TWINS, recipe, write_artifact, write_bench, write_run, write_twins

CELL = "low-magnitude-weight-50-seed0"
SIZE, LATENCY, MEMORY = COST_AXES


def entries_of(run):
    return number_artifacts(summarise(read_run(run.root)))


@pytest.fixture(scope="module")
def twins(tmp_path_factory):
    run = write_run(tmp_path_factory.mktemp("twins") / "run", recipe())
    write_twins(run, CELL)
    return run


def test_each_artifact_keeps_the_measurements_of_every_task(twins):
    entries = entries_of(twins)
    assert len(entries) == len(TWINS)
    for entry in entries:
        assert [measurement.task.threads for measurement in entry.exported.measurements] == [1, 2]
        assert entry.exported.fresh is entry.exported.measurements[0]
        assert entry.exported.measurement is entry.exported.fresh
    assert has_more(entries)
    rows = measurement_rows(entries)
    assert len(rows) == 2 * len(entries)
    assert sum(row.is_default for row in rows) == len(entries)


@pytest.mark.parametrize(
    "given",
    [
        {"threads": 2},
        {"runtime": "openvino"},
        {"target": "phone"},
        {"lengths": ()},
    ],
    ids=str,
)
def test_the_usual_measurement_is_of_the_recipes_threads_the_formats_runtime_and_the_datas_lengths(run, given):
    folder = write_artifact(run, "a", cell=None)
    usual = {"lengths": (7, 9), "latency_s": 0.004}
    write_bench(run, "usual", [folder], started="2026-01-01T00:00:00Z", **usual)
    write_bench(run, "other", [folder], started="2026-02-01T00:00:00Z", **{**usual, "latency_s": 0.001, **given})
    cost = entries_of(run)[0].exported
    assert latency_ms(cost.fresh).p90 == pytest.approx(4.0)
    assert len(cost.measurements) == 2


def test_of_one_task_the_newest_measurement_stands(run):
    folder = write_artifact(run, "a", cell=None)
    write_bench(run, "z-older", [folder], started="2026-01-01T00:00:00Z", latency_s=0.009)
    write_bench(run, "a-newer", [folder], started="2026-02-01T00:00:00Z", latency_s=0.003)
    (measured,) = entries_of(run)[0].exported.measurements
    assert latency_ms(measured).p90 == pytest.approx(3.0)


def test_the_recipes_threads_decide(tmp_path):
    two = recipe().model_copy(update={"bench": recipe().bench.model_copy(update={"threads": 2})})
    run = write_run(tmp_path / "run", two)
    write_twins(run, CELL)
    assert {entry.exported.fresh.task.threads for entry in entries_of(run)} == {2}


def test_ratios_are_beside_the_dense_model(twins):
    entries = entries_of(twins)
    dense = find_dense(entries)
    assert dense.role == "dense"
    for entry in entries:
        if entry is dense:
            assert [ratio(entry, dense, axis) for axis in COST_AXES] == [None] * 3
        else:
            assert ratio(entry, dense, SIZE) == entry.exported.artifact.size_bytes / dense.exported.artifact.size_bytes
            assert ratio(entry, dense, LATENCY) == entry.exported.latency_p90_ms / dense.exported.latency_p90_ms
            assert ratio(entry, dense, MEMORY) == entry.exported.peak_mb / dense.exported.peak_mb


@pytest.mark.parametrize("given", [{"threads": 2}, {"lengths": (7, 9)}, {"target": "phone"}], ids=str)
def test_times_of_other_tasks_and_machines_have_no_ratio(run, given):
    write_bench(run, "one", [write_artifact(run, "a", cell=None)])
    write_bench(run, "two", [write_artifact(run, "b", cell=None, precision="int8", size_bytes=3_000_000)], **given)
    dense, int8 = entries_of(run)
    assert ratio(int8, dense, SIZE) == pytest.approx(1 / 3)
    assert ratio(int8, dense, LATENCY) is None
    assert ratio(int8, dense, MEMORY) is None


def test_the_front_is_what_nothing_beats(twins):
    entries = entries_of(twins)
    for axis in COST_AXES:
        front = find_front(entries, axis)
        values = [axis.value(each.exported) for each in front]
        assert values == sorted(values)
        for entry in entries:
            beaten = any(
                axis.value(other.exported) <= axis.value(entry.exported)
                and other.accuracy >= entry.accuracy
                and (axis.value(other.exported), other.accuracy) != (axis.value(entry.exported), entry.accuracy)
                for other in entries
            )
            assert (entry in front) != beaten


def test_what_cannot_be_placed_is_named(run):
    write_bench(run, "bench", [write_artifact(run, "a", cell=None)], peak_bytes=None)
    write_artifact(run, "b", cell=CELL, accuracy=None)
    entries = entries_of(run)
    assert not_drawn_words(entries) == ["accuracy of 2", "latency of 2", "memory of 1, 2"]
    assert cost_panels(entries) == []
    assert cost_rows(entries)[0].times.peak is None
    assert math.isclose(entries[0].exported.latency_p90_ms, 4.0)


def test_a_ticket_is_not_shown_without_what_costs_nothing(run):
    write_artifact(run, "a", cell=CELL)
    summary = summarise(read_run(run.root))
    (lacking,) = find_missing_baselines(summary, number_artifacts(summary))
    assert lacking.ticket == CELL
    assert lacking.twins == ("dense", "the dense model in int8")
    assert lacking.command == f"lxcompress export {run.root / 'tickets' / CELL} --twins"
    text = render_html(summary, pick_ticket(summary, Rule(retain=0.99)))
    assert (
        "must be compared with dense and with the dense model in int8 (no pruning needed), which are not exported"
        in text
    )
    assert lacking.command in text
    write_artifact(run, "b", cell=None)
    assert [baseline.twins for baseline in find_missing_baselines(summarise(read_run(run.root)), entries_of(run))] == [
        ("the dense model in int8",)
    ]
    write_artifact(run, "c", cell=None, precision="int8")
    assert find_missing_baselines(summarise(read_run(run.root)), entries_of(run)) == []


def test_the_page_marks_the_twins_and_folds_the_rest(twins):
    summary = summarise(read_run(twins.root))
    text = render_html(summary, pick_ticket(summary, Rule(retain=0.99)))
    for number, entry in enumerate(number_artifacts(summary), 1):
        assert f'<span class="number">{number}</span>{entry.label}' in text
        assert f"<small>{entry.exported.name}" in text
        assert f"{number} {entry.role}" in text
    assert f"All {2 * len(TWINS)} measurements" in text
    assert "Pareto front" in text
    assert "energy, mJ" in text
    assert "must be compared with" not in text


def test_an_unproven_artifact_says_why_and_asks_for_no_bench_that_cannot_be(run):
    write_artifact(run, "phone", cell=CELL, format="coreml", accuracy=None, unproven="it runs on phones alone")
    (row,) = cost_rows(entries_of(run))
    assert (row.parity, row.notes[-1], row.command) == (None, "it runs on phones alone", None)
    summary = summarise(read_run(run.root))
    text = render_html(summary, pick_ticket(summary, Rule(retain=0.99)))
    assert "it runs on phones alone" in text
    assert "not proven" in text


def test_kinds_are_told_by_what_an_artifact_is_where_it_names_no_twin(tmp_path):
    run = write_run(tmp_path / "run", recipe(methods=[{"granularity": "neuron", "name": "cut"}]))
    for name, cell, precision in (
        ("a", None, "fp32"),
        ("b", None, "int8-static"),
        ("c", CELL, "fp16"),
        ("d", "cut-50-seed0", "int8"),
    ):
        write_artifact(run, name, cell=cell, precision=precision)
    kinds = {entry.exported.artifact.name: entry.role for entry in entries_of(run)}
    assert kinds == {"a": "dense", "b": "dense int8", "c": "ticket fp16", "d": "structured int8"}
