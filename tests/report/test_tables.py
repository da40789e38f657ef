"""The tables hold what the records hold."""

from __future__ import annotations

import csv
import io
import json

from lxcompress.analysis.artifacts import latency_ms
from lxcompress.analysis.pick import pick_ticket
from lxcompress.analysis.rule import Rule
from lxcompress.analysis.summary import summarise
from lxcompress.records import Artifact, Measurement, Result
from lxcompress.report.tables import COLUMNS, results_csv, results_json
from lxcompress.report.write import write_report
from lxcompress.rundir import read_run
from tests.report.synthetic import write_artifact, write_bench, write_twins


def test_the_csv_reads_back_to_the_same_numbers(summary):
    rows = list(csv.DictReader(io.StringIO(results_csv(summary))))
    cells = {row["cell"]: row for row in rows if row["kind"] == "cell"}
    assert len(cells) == len(summary.results) == 27
    for result in summary.results:
        row = cells[result.cell]
        assert float(row["retrained"]) == result.retrained.accuracy
        assert float(row["achieved_sparsity"]) == result.sparsity.achieved
        assert {name: float(row[f"pruned_{name}"]) for name in result.pruned.by_type} == result.pruned.by_type
        assert float(row["difference"]) == result.retrained.accuracy - float(row["dense"])
    dense = {int(row["seed"]): float(row["dense"]) for row in rows if row["kind"] == "dense"}
    assert dense == {dense_run.seed: dense_run.trained.accuracy for dense_run in summary.dense_runs}


def test_every_column_is_explained(summary):
    header = results_csv(summary).splitlines()[0].split(",")
    types = set(summary.results[0].retrained.by_type)
    assert all(column in COLUMNS or column.partition("_")[2] in types for column in header)


def test_artifacts_are_rows_of_the_csv(run):
    folders = write_twins(run, "low-magnitude-weight-50-seed0")
    summary = summarise(read_run(run.root))
    rows = list(csv.DictReader(io.StringIO(results_csv(summary))))
    found = {row["artifact"]: row for row in rows if row["kind"] == "artifact"}
    assert set(found) == {folder.name for folder in folders}
    assert not any(row["artifact"] for row in rows if row["kind"] != "artifact")
    for cost in summary.artifacts:
        row = found[cost.artifact.name]
        assert int(row["size_bytes"]) == cost.artifact.size_bytes
        assert float(row["exported"]) == cost.artifact.accuracy.accuracy
        assert float(row["latency_p90_ms"]) == latency_ms(cost.fresh).p90
        assert int(row["peak_bytes"]) == cost.fresh.peak_bytes
        assert (row["threads"], row["runtime"]) == ("1", cost.fresh.task.runtime)


def test_the_json_holds_every_measurement_and_the_front(run):
    write_twins(run, "low-magnitude-weight-50-seed0")
    summary = summarise(read_run(run.root))
    tree = json.loads(results_json(summary, pick_ticket(summary, Rule(retain=0.99))))
    for written, cost in zip(tree["summary"]["costs"], summary.artifacts, strict=True):
        kept = [written["measurement"], *written["other_measurements"]]
        assert tuple(Measurement.model_validate(each) for each in kept) == cost.measurements
        assert Artifact.model_validate(written["artifact"]) == cost.artifact
    dense = tree["summary"]["costs"][0]
    assert (dense["stands_for"], dense["ratios"]) == ("dense", {"size": None, "latency": None, "memory": None})
    assert tree["summary"]["costs"][1]["ratios"]["size"] == 207 / 856
    assert any("latency" in cost["on_front"] for cost in tree["summary"]["costs"])
    assert tree["summary"]["lacking_twins"] == []


def test_the_json_holds_every_record(run, summary):
    tree = json.loads(results_json(summary, pick_ticket(summary, Rule(retain=0.99))))
    assert [Result.model_validate(result) for result in tree["results"]] == list(summary.results)
    assert tree["pick"]["picked"]["criterion"] == "low-magnitude"
    assert tree["recipe"]["name"] == "synthetic"
    assert tree["floors"]["question_only"]["accuracy"] == 0.42


def test_the_report_is_three_whole_files(run):
    folder = write_artifact(run, "dense-onnx", cell=None)
    write_bench(run, "bench", [folder])
    written = write_report(read_run(run.root))
    assert [path.name for path in written] == ["report.html", "results.csv", "results.json"]
    assert not list(run.root.glob("*.part"))
    assert json.loads(written[2].read_text(encoding="utf-8"))["summary"]["costs"][0]["latency_p90_ms"]


def test_writing_twice_writes_the_same(run):
    first = [path.read_bytes() for path in write_report(read_run(run.root))]
    assert first == [path.read_bytes() for path in write_report(read_run(run.root))]
