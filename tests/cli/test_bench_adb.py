"""`lxcompress bench --target adb` from the first command to the kept file, and a dry run that touches nothing."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import pytest

from lxcompress.engine.build import fingerprint, list_sources
from lxcompress.measure.device.profile import ENGINE_PROFILE
from lxcompress.records import BenchRecord, read_record
from tests.cli.test_bench import bench
from tests.engine.other.elsewhere import need
from tests.measure.artifacts import build_artifact
from tests.measure.phone import build_phone, write_profile
from tests.web.models import export_engine

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the fake adb is a script with a first line")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder with two artifacts."""
    root = tmp_path_factory.mktemp("run")
    (root / "recipe.yaml").write_text("name: toy\ndata: {kind: scenes}\nbench: {runs: 6}\n", encoding="utf-8")
    for name in ("dense", "picked"):
        build_artifact(root / "artifacts" / name)
    return root


def test_a_device_is_measured_and_its_bench_lies_apart(run: Path, tmp_path: Path) -> None:
    profile = write_profile(tmp_path / "device", thermal={"poll_s": 0.01})
    phone = build_phone(tmp_path / "state", heat=(50_000, 45_000, 30_000))
    device = ("--target", "adb", "--profile", profile)
    done = bench(run / "artifacts" / "dense", run / "artifacts" / "picked", *device, PATH=phone.path, columns=80)
    assert done.returncode == 0, done.stderr
    (file,) = (run / "measurements" / "devices" / "toy-phone").iterdir()
    assert str(file) in done.stdout
    assert list(run.glob("measurements/*.json")) == []
    kept = read_record(file, BenchRecord)
    assert [
        (measurement.artifact, measurement.target, len(measurement.latency.values)) for measurement in kept.measurements
    ] == [
        ("dense", "toy phone", 6),
        ("picked", "toy phone", 6),
    ]
    shown = " ".join(done.stdout.split())
    assert "toy phone: Toy Board, 2 cores, 8 GB, Android 15" in shown
    assert "cores not verified" in shown
    assert max(len(line) for line in done.stdout.splitlines() if str(file) not in line) <= 80


def test_a_dry_run_prints_commands_and_calls_nothing(run: Path, tmp_path: Path) -> None:
    phone, profile = build_phone(tmp_path / "state"), write_profile(tmp_path / "device")
    done = bench(
        run / "artifacts" / "dense", "--target", "adb", "--profile", profile, "--dry-run", PATH=phone.path, columns=40
    )
    assert done.returncode == 0, done.stderr
    assert phone.calls() == []
    commands = [shlex.split(line) for line in done.stdout.splitlines() if not line.startswith("#")]
    assert all(command[0] == "adb" for command in commands)
    turns = [shlex.split(command[-1]) for command in commands if "shell" in command and "/perf -r" in command[-1]]
    assert [turn[2] for turn in turns] == ["5", "1"]
    assert list(run.glob("measurements/*")) == [] or list(run.glob("measurements/*.json")) == []


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"devices": {"PHONE1": "offline"}}, "adb: device PHONE1 is offline"),
        ({"runner_fails": True}, "exit code 134"),
        ({"written": 40}, "expected 5 samples of its turn, got 1"),
    ],
)
def test_what_goes_wrong_there_is_one_sentence_here(run: Path, tmp_path: Path, changes, said: str) -> None:
    phone, profile = build_phone(tmp_path / "state", **changes), write_profile(tmp_path / "device")
    out = tmp_path / "bench.json"
    done = bench(run / "artifacts" / "dense", "--target", "adb", "--profile", profile, "--out", out, PATH=phone.path)
    assert done.returncode == 1
    (sentence,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert said in sentence
    assert not out.exists()


@pytest.mark.native
def test_an_engine_file_is_measured_without_a_profile(tiny_start: Path, tmp_path: Path) -> None:
    """The runner is the one of the package, as 64-bit ARM runs it."""
    need("qemu-aarch64")
    artifact, phone = export_engine(tiny_start, tmp_path), build_phone(tmp_path / "state")
    options = ("--target", "adb", "--runs", "3", "--threads", "2", "--out", tmp_path / "bench.json")
    done = bench(artifact, *options, PATH=phone.path)
    assert done.returncode == 0, done.stderr
    (measured,) = read_record(tmp_path / "bench.json", BenchRecord).measurements
    assert (measured.target, measured.task.runtime, measured.task.threads) == ("android-engine", "engine", 2)
    assert len(measured.latency.values) == 3
    assert measured.load_s
    assert measured.peak_bytes > artifact.joinpath("model.lxe").stat().st_size


@pytest.mark.native
def test_the_shipped_runner_is_of_these_sources(tmp_path: Path) -> None:
    """`make android` builds it again."""
    assert fingerprint(list_sources()).encode() in ENGINE_PROFILE.with_name("engine-bench").read_bytes()
