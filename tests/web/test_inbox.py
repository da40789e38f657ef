"""A measurement of a page becomes a bench of its device in the run folder."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lxcompress.analysis.devices import read_device_rows
from lxcompress.errors import MeasureError
from lxcompress.measure.compare import compare_all
from lxcompress.records import BenchRecord, read_record
from lxcompress.rundir import RunDir, sha256
from lxcompress.web.inbox import find_page_run, keep_measurement
from lxcompress.web.records import PageMeasurement, read_measurement
from tests.measure.artifacts import build_artifact
from tests.web.measured import make_measurement


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    """A run folder with two artifacts."""
    run = RunDir(tmp_path / "run")
    for name in ("dense", "picked"):
        build_artifact(run.artifacts / name, format="engine")
    run.recipe.write_text("name: toy\ndata: {kind: scenes}\n", encoding="utf-8")
    return run


def _digests(run: RunDir) -> list[str]:
    return [sha256(path) for path in run.artifact_records()]


def test_a_bench_has_the_samples_of_the_page(run: RunDir) -> None:
    sent = make_measurement(*_digests(run))
    path, bench = keep_measurement(PageMeasurement.model_validate(sent), run)
    assert path.parent == run.measurements / "devices" / "Pixel-8-Chrome"
    assert read_record(path, BenchRecord) == bench
    assert [found.artifact for found in bench.measurements] == ["dense", "picked"]
    assert [found.latency.values for found in bench.measurements] == [model["samples"] for model in sent["models"]]
    assert {found.target for found in bench.measurements} == {"Pixel 8, Chrome"}
    assert run.bench_records() == []
    _, ratio = compare_all(bench)
    assert ratio is not None
    assert (ratio.value, ratio.verdict) == (pytest.approx(0.5), "faster")


def test_an_onnx_file_has_a_row_for_each_runtime(run: RunDir) -> None:
    build_artifact(run.artifacts / "rival")
    dense, picked, rival = _digests(run)
    sent = make_measurement(dense, rival, rival)
    for model, runtime in zip(sent["models"][1:], ("onnxruntime-web", "onnxruntime-web-webgpu"), strict=True):
        model |= {"runtime": runtime, "runtime_version": "1.30.0", "objects": 9}
    bench = keep_measurement(PageMeasurement.model_validate(sent), run)[1]
    rows = read_device_rows(run.root)["Pixel-8-Chrome"]
    assert [(row.measurement.artifact, row.measurement.task.runtime) for row in rows] == [
        ("dense", "engine-web"),
        ("rival", "onnxruntime-web"),
        ("rival", "onnxruntime-web-webgpu"),
    ]
    assert bench.measurements[1].machine.packages["onnxruntime-web"] == "1.30.0"
    assert [measured.task.objects for measured in bench.measurements] == [5, 9, 9]
    sent = make_measurement(dense, picked)
    sent["models"][1]["runtime"] = "onnxruntime-web"
    with pytest.raises(MeasureError, match="measured picked in onnxruntime-web, which does not run the format engine"):
        keep_measurement(PageMeasurement.model_validate(sent), run)


def test_what_disturbed_a_measurement_is_a_warning(run: RunDir) -> None:
    sent = make_measurement(_digests(run)[0], tick_s=0.001)
    sent["models"][0]["repeats"] = 7
    sent["conditions"] |= {"hidden": True, "pressure": "critical", "battery": {"level": 0.31, "charging": False}}
    bench = keep_measurement(PageMeasurement.model_validate(sent), run)[1]
    assert bench.measurements[0].doubts == [
        "coarse clock (1 ms): a sample is the mean of 7 answers, so p99 is too low",
        "the page was hidden while it measured: measure again",
        "the processor was under critical pressure: let the device cool, and repeat",
        "on battery (31 %): the device may save energy",
    ]


def test_a_measurement_of_other_artifacts_is_refused(run: RunDir) -> None:
    with pytest.raises(MeasureError, match="Pixel 8, Chrome: measured the artifact with SHA-256 aaaa"):
        keep_measurement(PageMeasurement.model_validate(make_measurement("a" * 64)), run)
    assert not run.measurements.exists()


def test_a_name_without_letters_is_refused(run: RunDir) -> None:
    sent = make_measurement(*_digests(run), device="تلفن")
    with pytest.raises(MeasureError, match="has no Latin letter or digit"):
        keep_measurement(PageMeasurement.model_validate(sent), run)


def test_a_file_that_is_no_measurement_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "saved.json"
    path.write_text("{}", encoding="utf-8")
    with pytest.raises(MeasureError, match="save it again from the page"):
        read_measurement(path)


def test_a_page_knows_its_run_as_long_as_both_stay(run: RunDir, tmp_path: Path) -> None:
    page = tmp_path / "page"
    page.mkdir()
    assert find_page_run(page) is None
    (page / "source.json").write_text(json.dumps({"run": "../run"}), encoding="utf-8")
    assert find_page_run(page) == run
    run.root.rename(tmp_path / "elsewhere")
    assert find_page_run(page) is None
