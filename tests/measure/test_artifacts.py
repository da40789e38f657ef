"""Every artifact gets its runs, in turns with the others; what is not as it was exported is refused."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import psutil
import pytest

from lxcompress.errors import MeasureError
from lxcompress.machine import usable_cores
from lxcompress.measure.artifacts import (
    CUT_SHORT,
    INTERRUPTED,
    BenchOptions,
    bench_artifacts,
    is_interrupted,
    measure_artifacts,
    plan_rounds,
)
from lxcompress.measure.compare import compare_all
from lxcompress.records import BenchRecord, Measurement, read_record
from lxcompress.rundir import sha256, write_record
from tests.measure.artifacts import build_artifact
from tests.measure.test_energy import build_powercap
from tests.progress import KeptProgress

ROOT = Path(__file__).resolve().parents[2]
# Measures for as long as it is left alone, and says when the first round is over.
ENDLESS = """
import sys
from pathlib import Path
from lxcompress.measure.artifacts import measure_artifacts
paths = [Path(each) for each in sys.argv[1:]]
def progress(what, done, total):
    if what.startswith("measuring") and done == 30:
        print("going", flush=True)
measured = measure_artifacts(paths, threads=1, runs=300_000, progress=progress)
for each in measured:
    print(each.model_dump_json(), flush=True)
"""

# Two groups; says when each artifact has had a turn in the second.
GROUPS = """
import sys
from pathlib import Path
from lxcompress.measure.artifacts import BenchOptions, bench_artifacts
paths = [Path(each) for each in sys.argv[1:]]
def progress(what, done, total):
    if what.startswith("measuring") and done == 3 * 2000 + 15:
        print("going", flush=True)
bench = bench_artifacts(paths, BenchOptions(threads=(1, 2), runs=2000, warmup=1), progress=progress)
print(bench.model_dump_json(), flush=True)
"""
# As version 0.1.0 kept it.
OLD = """
{"version": 1, "started": "2026-01-02T03:04:05+00:00", "measurements": [{"artifact": "dense", "artifact_path": "dense",
"artifact_sha256":
"0000000000000000000000000000000000000000000000000000000000000000", "cell": null, "format": "onnx",
"task": {"runtime": "onnxruntime", "threads": 1, "batch": 1,
"tokens": 9, "objects": 5, "images": 1, "warmup": 10, "runs": 2}, "machine": {"system": "Linux", "processor": "Toy",
"cores": 2, "memory_bytes": 1, "python": "3.12", "accelerator": null, "packages": {}}, "latency": {"unit": "s",
"values": [0.1, 0.2]}, "load_s": 0.5, "peak_bytes": 5, "size_bytes": 4, "doubts": ["only 2 runs: ask for 30 or more"]}]}
"""


@pytest.mark.parametrize("count", [1, 2, 3, 5])
@pytest.mark.parametrize("runs", [1, 4, 5, 17, 50])
def test_every_round_touches_every_artifact_and_all_get_their_runs(count: int, runs: int) -> None:
    rounds = plan_rounds(count, runs)
    given: Counter[int] = Counter()
    for turns in rounds:
        assert sorted(index for index, _ in turns) == list(range(count))
        assert len({size for _, size in turns}) == 1
        given.update(dict(turns))
    assert given == dict.fromkeys(range(count), runs)


@pytest.mark.parametrize("count", [2, 3])
def test_each_artifact_opens_as_many_rounds_as_another(count: int) -> None:
    openers = Counter(turns[0][0] for turns in plan_rounds(count, 5 * 4 * count))
    assert set(openers.values()) == {4}


@pytest.fixture(scope="module")
def both(small: Path, big: Path) -> tuple[list[Measurement], KeptProgress]:
    """Both artifacts in one bench of 29 runs, and what it told."""
    told = KeptProgress()
    return measure_artifacts([small, big], threads=1, runs=29, warmup=2, progress=told), told


def test_samples_are_as_many_as_asked_and_interleaved(both) -> None:
    measured, told = both
    assert [each.artifact for each in measured] == ["small", "big"]
    assert [len(each.latency.values) for each in measured] == [29, 29]
    assert all(value > 0 for each in measured for value in each.latency.values)
    assert [each.task.runs for each in measured] == [29, 29]
    again = "small"  # the baseline, which takes part a second time
    rounds = [["small", "big", again], ["big", again, "small"], [again, "small", "big"]]
    assert told.measured == [name for turns in rounds * 2 for name in turns]


def test_a_measurement_holds_what_is_on_disk_and_survives_its_file(both, small: Path, tmp_path: Path) -> None:
    measured, _ = both
    assert measured[0].size_bytes == (small / "model.onnx").stat().st_size
    assert measured[0].artifact_sha256 == sha256(small / "artifact.json")
    assert measured[0].load_s > 0
    bench = BenchRecord(started="2030-01-02T03:04:05+00:00", measurements=measured)
    write_record(tmp_path / "bench.json", bench)
    assert read_record(tmp_path / "bench.json", BenchRecord) == bench


def test_peak_memory_grows_with_the_artifact(both) -> None:
    less, more = both[0]
    assert more.peak_bytes - less.peak_bytes > 0.8 * (more.size_bytes - less.size_bytes)


def test_peak_memory_is_the_files_and_not_its_paths(big: Path, tmp_path: Path) -> None:
    paths = [tmp_path / ("x" * length) for length in (1, 6, 23)]
    for path in paths:
        shutil.copytree(big, path)
    peaks = [each.peak_bytes for each in measure_artifacts(paths, threads=1, runs=1)]
    assert max(peaks) < 1.05 * min(peaks)


def test_more_threads_than_cores_is_measured_with_a_doubt(small: Path) -> None:
    threads = len(usable_cores()) + 1
    (measured,) = measure_artifacts([small], threads=threads, runs=30)
    assert measured.task.threads == threads
    assert not any("only" in doubt for doubt in measured.doubts)
    assert any(f"{threads} threads share" in doubt for doubt in measured.doubts)


def test_few_runs_are_doubted(both) -> None:
    for measured in both[0]:
        assert any("only 29 runs" in doubt for doubt in measured.doubts)


def test_a_changed_file_is_refused(small: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(small, copy)
    content = bytearray((copy / "model.onnx").read_bytes())
    content[-1] ^= 1
    (copy / "model.onnx").write_bytes(content)
    with pytest.raises(MeasureError, match=r"model\.onnx: has changed .* expected .* got .* export"):
        measure_artifacts([copy], threads=1, runs=1)


def test_a_missing_file_is_refused(small: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(small, copy)
    (copy / "model.onnx").unlink()
    with pytest.raises(MeasureError, match=r"model\.onnx: is missing"):
        measure_artifacts([copy], threads=1, runs=1)


def test_a_file_that_no_runtime_can_load_is_one_sentence(tmp_path: Path) -> None:
    folder = build_artifact(tmp_path / "broken")
    (folder / "model.onnx").write_bytes(b"not a graph")
    _rewrite(folder, files={"model.onnx": sha256(folder / "model.onnx")})
    with pytest.raises(MeasureError, match=r"model\.onnx: ONNX Runtime .* cannot load it"):
        measure_artifacts([folder], threads=1, runs=1)


def test_a_format_of_a_later_version_is_refused(tmp_path: Path) -> None:
    folder = build_artifact(tmp_path / "later")
    _rewrite(folder, format="holograph")
    with pytest.raises(MeasureError, match=r"format holograph: no runtime .* upgrade"):
        measure_artifacts([folder], threads=1, runs=1)


@pytest.mark.parametrize(
    ("file", "expected"),
    [
        ("ticket.json", "is a model, not an exported artifact; export it first with: lxcompress export"),
        ("config.json", "is a model, not an exported artifact; export it first with: lxcompress export"),
        ("notes.txt", r"is not an artifact \(it has no artifact\.json\)"),
    ],
)
def test_another_folder_is_told_apart(tmp_path: Path, file: str, expected: str) -> None:
    (tmp_path / file).write_text("{}", encoding="utf-8")
    with pytest.raises(MeasureError, match=expected):
        measure_artifacts([tmp_path], threads=1, runs=1)


def test_wrong_asks_are_one_sentence(small: Path, tmp_path: Path) -> None:
    with pytest.raises(MeasureError, match="no such folder"):
        measure_artifacts([tmp_path / "absent"], threads=1, runs=1)
    with pytest.raises(MeasureError, match="is a file; give the artifact's folder"):
        measure_artifacts([small / "model.onnx"], threads=1, runs=1)
    with pytest.raises(MeasureError, match="is given twice"):
        measure_artifacts([small, small / ".." / small.name], threads=1, runs=1)
    with pytest.raises(MeasureError, match="at least one"):
        measure_artifacts([], threads=1, runs=1)
    with pytest.raises(MeasureError, match="runs: expected 1 or more"):
        measure_artifacts([small], threads=1, runs=0)
    with pytest.raises(MeasureError, match="threads: expected 1 or more"):
        measure_artifacts([small], threads=0, runs=1)
    with pytest.raises(MeasureError, match="warmup: expected 0 or more"):
        measure_artifacts([small], threads=1, runs=1, warmup=-1)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT to send to another process")
def test_an_interrupt_keeps_what_was_measured_and_ends_the_workers(small: Path, big: Path) -> None:
    with _endless(small, big) as driver:
        assert driver.stdout is not None
        assert driver.stdout.readline() == "going\n"
        workers = psutil.Process(driver.pid).children()
        driver.send_signal(signal.SIGINT)
        measured = [json.loads(line) for line in driver.stdout]
    assert [each["artifact"] for each in measured] == ["small", "big"]
    assert all(len(each["latency"]["values"]) == each["task"]["runs"] >= 10 for each in measured)
    assert all(INTERRUPTED in each["doubts"] for each in measured)
    assert len(workers) == 3  # the baseline has two
    assert psutil.wait_procs(workers, timeout=20)[1] == []


def test_workers_end_with_the_process_that_started_them(small: Path) -> None:
    with _endless(small) as driver:
        assert driver.stdout is not None
        assert driver.stdout.readline() == "going\n"
        workers = psutil.Process(driver.pid).children()
        driver.kill()
    assert psutil.wait_procs(workers, timeout=20)[1] == []


def test_threads_and_lengths_are_groups_of_their_own(small: Path) -> None:
    bench = bench_artifacts([small], BenchOptions(threads=(1, 2), lengths=(4, 9), runs=6, warmup=1))
    tasks = [(each.task.threads, each.task.tokens) for each in bench.measurements]
    assert tasks == [(1, 4), (1, 9), (2, 4), (2, 9)]
    assert all(each.rounds == [5, 1] and each.task.lengths == [] for each in bench.measurements)
    rest = 4 * 10 * 3 + 16
    assert [each.read_bytes for each in bench.measurements[:2]] == [rest + 4 * 8 * (3 + tokens) for tokens in (4, 9)]


def test_real_lengths_are_the_same_for_every_subject(tmp_path: Path) -> None:
    counts = {4: 5, 6: 3, 11: 2}
    paths = [build_artifact(tmp_path / name, lengths=counts, tokens=4, flops=1000, parameters=50) for name in "ab"]
    bench = bench_artifacts(paths, BenchOptions(runs=10, warmup=1))
    first, second = (each.task for each in bench.measurements)
    assert first.lengths == second.lengths
    assert Counter(first.lengths) == counts
    assert [(each.artifact, each.task) for each in bench.noise] == [("a", first)]
    assert bench.baseline == str(paths[0])
    assert (first.tokens, bench.measurements[0].flops, bench.measurements[0].parameters) == (4, 1000, 50)
    (fixed,) = bench_artifacts(paths[:1], BenchOptions(runs=1, warmup=1, lengths=(11,))).measurements
    assert (fixed.flops, fixed.task.lengths) == (None, [])


def test_one_artifact_alone_has_no_noise_to_measure(small: Path) -> None:
    bench = bench_artifacts([small], BenchOptions(runs=1, warmup=1))
    assert bench.noise == []
    assert compare_all(bench) == [None]


def test_memory_held_is_within_the_peak_and_threads_are_kept(small: Path, big: Path) -> None:
    less, more = measure_artifacts([small, big], runs=30)
    assert less.steady_bytes < more.steady_bytes <= more.peak_bytes
    for each in (less, more):
        assert not any("computed" in doubt or "outside its cores" in doubt for doubt in each.doubts)


def test_energy_is_of_the_timed_answers_and_absent_where_it_is_not_told(small: Path, tmp_path: Path) -> None:
    (absent,) = bench_artifacts([small], BenchOptions(runs=2, warmup=1), powercap=tmp_path / "none").measurements
    assert absent.energy_j is None
    (still,) = bench_artifacts([small], BenchOptions(runs=2, warmup=1), powercap=build_powercap(tmp_path)).measurements
    assert still.energy_j == 0


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux drops single files from its cache")
def test_a_cold_load_is_measured_or_doubted(both) -> None:
    measured = both[0][1]
    assert (measured.cold_load_s is None) == any(doubt.startswith("no cold load") for doubt in measured.doubts)


def test_one_bad_artifact_among_good_ones_stops_all_before_measuring(small: Path, tmp_path: Path) -> None:
    garbage = build_artifact(tmp_path / "garbage")
    (garbage / "model.onnx").write_bytes(b"not a graph")
    _rewrite(garbage, files={"model.onnx": sha256(garbage / "model.onnx")})
    newer = build_artifact(tmp_path / "newer")
    _rewrite(newer, version=99)
    for bad, said in ((garbage, "garbage.*cannot load it"), (newer, "newer.*upgrade lxcompress")):
        told = KeptProgress()
        with pytest.raises(MeasureError, match=said):
            measure_artifacts([small, bad], runs=1, progress=told)
        assert not told.measured


def test_a_question_that_the_model_cannot_take_is_one_sentence(tmp_path: Path) -> None:
    folder = build_artifact(tmp_path / "narrow", vocabulary=3)  # the made-up words go beyond its table
    with pytest.raises(MeasureError, match=r"ONNX Runtime .* failed while answering"):
        bench_artifacts([folder], BenchOptions(runs=1))


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT to send to another process")
def test_an_interrupt_in_a_later_group_keeps_the_groups_before_it(small: Path, tmp_path: Path) -> None:
    other = build_artifact(tmp_path / "other")
    with subprocess.Popen(
        [sys.executable, "-c", GROUPS, str(small), str(other)], stdout=subprocess.PIPE, text=True, cwd=ROOT
    ) as driver:
        assert driver.stdout is not None
        assert driver.stdout.readline() == "going\n"
        driver.send_signal(signal.SIGINT)
        bench = BenchRecord.model_validate_json(driver.stdout.read())
    assert is_interrupted(bench)
    assert [each.task.threads for each in bench.measurements] == [1, 1, 2, 2]
    assert all(CUT_SHORT in each.doubts for each in bench.measurements[:2])
    assert all(INTERRUPTED in each.doubts for each in bench.measurements[2:])
    assert [len(each.latency.values) for each in bench.measurements[:2]] == [2000, 2000]
    assert all(5 <= len(each.latency.values) < 2000 for each in bench.measurements[2:])


def test_a_bench_kept_before_this_version_still_reads(tmp_path: Path) -> None:
    (tmp_path / "old.json").write_text(OLD, encoding="utf-8")
    old = read_record(tmp_path / "old.json", BenchRecord)
    assert (old.baseline, old.noise, old.remarks) == (None, [], [])
    assert compare_all(old) == [None]


def _endless(*paths: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", ENDLESS, *map(str, paths)], stdout=subprocess.PIPE, text=True, cwd=ROOT
    )


def _rewrite(folder: Path, **changes: object) -> None:
    path = folder / "artifact.json"
    tree = json.loads(path.read_text(encoding="utf-8"))
    tree.pop("seal", None)
    path.write_text(json.dumps(tree | changes), encoding="utf-8")
