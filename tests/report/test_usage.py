"""What a study took: totals are sums, and what nothing counted is shown nowhere."""

from __future__ import annotations

import csv
import io
import json
import statistics
from collections.abc import Callable
from pathlib import Path

import pytest

from lxcompress.analysis.pick import pick_ticket
from lxcompress.analysis.rule import Rule
from lxcompress.analysis.study_progress import study_progress
from lxcompress.analysis.summary import RunSummary, summarise
from lxcompress.analysis.usage import UsageTotals, total_usage, usage_warnings
from lxcompress.recipe import Cell
from lxcompress.records import Dense, Result, Usage
from lxcompress.report.html import render_html
from lxcompress.report.tables import results_csv, results_json
from lxcompress.rundir import read_run
from tests.report.synthetic import PRUNABLE, curve, gpu_usage, recipe, write_run

COUNTED = ("GPU hours", "GPU memory at most", "utilisation", "energy", "peak memory, GB", "Wh per run")


def of_a_gpu(root: Path, usage: Callable[[str], Usage | None] = gpu_usage) -> RunSummary:
    return summarise(read_run(write_run(root, recipe(seeds=(0, 1)), usage=usage).root))


def page(summary: RunSummary) -> str:
    return render_html(summary, pick_ticket(summary, Rule(retain=0.99)))


def runs_of(summary: RunSummary) -> list[Dense | Result]:
    return [*summary.dense_runs, *summary.results]


@pytest.mark.parametrize(
    "usage", [gpu_usage, lambda name: None, lambda name: gpu_usage(name) if "seed1" in name else None]
)
def test_totals_are_the_sums_of_their_runs(usage, tmp_path) -> None:
    summary = of_a_gpu(tmp_path, usage)
    used = [run.usage for run in runs_of(summary) if run.usage is not None]
    taken = summary.usage
    assert taken is not None
    assert taken.runs == len(runs_of(summary)) == 20
    assert taken.duration_s == pytest.approx(2 * 61 + 18 * 63)
    assert taken.gpu_s == pytest.approx(sum(run.duration_s for run in runs_of(summary) if run.device == "cuda"))
    assert (taken.energy_j or 0) == pytest.approx(sum(usage.energy_j or 0 for usage in used))
    assert taken.peak_bytes == max((usage.peak_bytes for usage in used), default=None)
    assert taken.counted == len(used)
    busy = [(usage.utilisation or 0) * usage.duration_s for usage in used]
    if used:
        assert taken.utilisation == pytest.approx(sum(busy) / sum(usage.duration_s for usage in used))
        assert taken.energy_each_j == pytest.approx(statistics.fmean(usage.energy_j or 0 for usage in used))
    else:
        assert taken.utilisation is taken.energy_j is taken.energy_each_j is None


def test_groups_and_dense_runs_add_up_to_the_whole(tmp_path) -> None:
    summary = of_a_gpu(tmp_path)
    parts = [total_usage(summary.dense_runs), *(group.usage for group in summary.groups)]
    whole = summary.usage
    assert whole is not None
    for name in ("runs", "duration_s", "gpu_s", "energy_j", "counted"):
        assert sum(getattr(part, name) for part in parts) == pytest.approx(getattr(whole, name))
    assert max(part.peak_bytes or 0 for part in parts) == whole.peak_bytes
    low, high = min(part.utilisation or 0 for part in parts), max(part.utilisation or 0 for part in parts)
    assert low <= (whole.utilisation or 0) <= high


def test_the_csv_adds_up_to_the_json(tmp_path) -> None:
    summary = of_a_gpu(tmp_path)
    rows = list(csv.DictReader(io.StringIO(results_csv(summary))))
    taken = json.loads(results_json(summary, pick_ticket(summary, Rule(retain=0.99))))["summary"]["taken"]
    assert sum(float(row["usage_energy_j"]) for row in rows) == pytest.approx(taken["energy_j"])
    assert sum(float(row["duration_s"]) for row in rows) == pytest.approx(taken["duration_s"])
    assert max(int(row["usage_peak_bytes"]) for row in rows) == taken["peak_bytes"]
    assert all(0 <= float(row["usage_utilisation"]) <= 1 for row in rows)
    assert taken["gpu_hours"] == pytest.approx(taken["gpu_s"] / 3600)


def test_what_nothing_counted_is_shown_nowhere(summary, tmp_path) -> None:
    text, counted = page(summary), page(of_a_gpu(tmp_path))
    assert "Resources used" in text
    assert [words for words in COUNTED if words in text] == []
    assert [words for words in COUNTED if words not in counted] == []
    rows = list(csv.DictReader(io.StringIO(results_csv(summary))))
    assert {row["usage_energy_j"] + row["usage_peak_bytes"] + row["usage_utilisation"] for row in rows} == {""}
    without_energy = of_a_gpu(
        tmp_path / "part", lambda name: gpu_usage(name).model_copy(update={"energy_j": None, "utilisation": None})
    )
    text = page(without_energy)
    assert [words for words in ("kWh", "Wh per run", "mean GPU utilisation", "<th>utilisation") if words in text] == []
    assert "GPU memory at most" in text


def test_a_run_that_went_on_says_that_its_first_part_was_not_counted(tmp_path) -> None:
    def usage(name: str) -> Usage:
        return gpu_usage(name).model_copy(update={"duration_s": 20.0} if name == "dense-seed1" else {})

    summary = of_a_gpu(tmp_path, usage)
    assert summary.usage is not None
    assert summary.usage.resumed == 1
    assert "1 of 20 runs were resumed" in page(summary)
    assert "were resumed" not in page(of_a_gpu(tmp_path / "other"))


def test_a_sum_of_some_runs_says_of_which(tmp_path) -> None:
    taken = of_a_gpu(tmp_path, lambda name: gpu_usage(name) if "seed1" in name else None).usage
    assert taken is not None
    assert usage_warnings(taken) == ["energy was counted in 10 of 20 runs; the sum is over those"]


def test_one_dense_run_under_three_names_is_counted_once(tmp_path) -> None:
    run = write_run(tmp_path, recipe(protocol=["one-dense-run"]), usage=lambda name: gpu_usage("dense"))
    summary = summarise(read_run(run.root))
    assert len(summary.dense_runs) == 3
    assert summary.usage is not None
    assert summary.usage.duration_s == pytest.approx(61 + 27 * 63)


def test_what_grew_back_is_said_in_its_row_alone(summary, tmp_path) -> None:
    def regrown(cell: Cell) -> int:
        return round(0.75 * cell.sparsity * PRUNABLE) if cell.id.startswith("random-weight-50") else 0

    faulty = summarise(read_run(write_run(tmp_path, recipe(protocol="published"), regrown=regrown).root))
    text = page(faulty)
    assert text.count("% grew back") == 1
    assert "75.0 % grew back</small><small>675,000 weights" in text
    assert "rew back" not in page(summary)
    rows = list(csv.DictReader(io.StringIO(results_csv(faulty))))
    assert {row["cell"]: int(row["regrown"] or 0) for row in rows if int(row["regrown"] or 0)} == {
        f"random-weight-50-seed{seed}": 675_000 for seed in (0, 1, 2)
    }


def test_the_study_so_far_is_what_is_finished(tmp_path) -> None:
    run = write_run(
        tmp_path,
        recipe(seeds=(0, 1)),
        score=lambda cell: curve(cell) if cell.seed == 0 else None,
        usage=gpu_usage,
    )
    taken = study_progress(read_run(run.root), busy=False).usage
    assert isinstance(taken, UsageTotals)
    assert (taken.runs, taken.duration_s) == (11, pytest.approx(2 * 61 + 9 * 63))


def test_the_words_of_a_cpu_are_its_time() -> None:
    taken = UsageTotals(2, 7200.0, 0.0, (), None, None, None, counted=0, resumed=0)
    assert taken.words == "2 h 00 min for 2 runs"
    gpu = UsageTotals(1, 7200.0, 7200.0, ("H100",), 12_300_000_000, 0.834, 3_600_000.0, counted=1, resumed=0)
    assert gpu.words == (
        "2 h 00 min for 1 run, 2.00 GPU hours (H100), at most 12.3 GB of GPU memory, 83 % utilised, 1.00 kWh"
    )
