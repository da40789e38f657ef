"""A bench on a device does what its dry run says, waits while it is hot, and takes no half samples."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import pytest

from lxcompress.errors import MeasureError
from lxcompress.measure.artifacts import INTERRUPTED
from lxcompress.measure.compare import compare_all
from lxcompress.measure.device.adb import UNVERIFIED, bench_device, plan_cases, plan_steps
from lxcompress.measure.device.profile import read_profile
from lxcompress.measure.plan import BenchOptions
from lxcompress.records import BenchRecord, read_record
from lxcompress.rundir import sha256, write_record
from lxcompress.shapes import FixedShape
from tests.measure.artifacts import build_artifact
from tests.measure.phone import Phone, build_phone, write_profile
from tests.progress import KeptProgress

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the fake adb is a script with a first line")


@pytest.fixture
def profile(tmp_path: Path):
    return read_profile(write_profile(tmp_path / "device"))


def measure(
    phone: Phone, monkeypatch: pytest.MonkeyPatch, paths, options: BenchOptions, profile, **more: object
) -> BenchRecord:
    monkeypatch.setenv("PATH", phone.path)
    slept = more.pop("slept", [])
    return bench_device(paths, options, profile, sleep=slept.append, **more)


def test_samples_come_back_with_the_device_they_are_of(small, tmp_path, profile, monkeypatch) -> None:
    phone = build_phone(tmp_path / "state")
    bench = measure(phone, monkeypatch, [small], BenchOptions(runs=7), profile)
    (measured,) = bench.measurements
    assert measured.latency.values == pytest.approx([0.01, 0.02, 0.03, 0.04, 0.05, 0.01, 0.02])
    assert (measured.rounds, measured.task.runs) == ([5, 2], 7)
    assert (measured.load_s, measured.peak_bytes, measured.cold_load_s) == (0.25, 50_000_005, None)
    assert (measured.target, measured.task.runtime) == ("toy phone", "onnxruntime")
    machine = measured.machine
    assert (machine.processor, machine.cores, machine.memory_bytes) == ("Toy Board", 2, 8_000_000 * 1024)
    assert machine.system == "Android 15 on  Toy 8"
    assert machine.packages["perf"] == f"sha256 {sha256(tmp_path / 'device' / 'perf')[:12]}"
    write_record(tmp_path / "bench.json", bench)
    assert read_record(tmp_path / "bench.json", BenchRecord) == bench


def test_the_dry_run_is_the_run(small, tmp_path, profile, monkeypatch) -> None:
    other = build_artifact(tmp_path / "it's an artifact; rm -rf $HOME", width=12)
    options = BenchOptions(runs=12, threads=(1, 2))
    phone = build_phone(tmp_path / "state")
    planned = plan_steps(plan_cases([small, other], options, profile), options, profile, Path("SCRATCH"))
    assert phone.calls() == []
    measure(phone, monkeypatch, [small, other], options, profile)
    made = [["adb", *call] for call in phone.calls()]
    assert [call[:-1] if "pull" in call else call for call in made] == [
        list(step.command[:-1] if step.kind == "pull" else step.command) for step in planned
    ]


def test_a_file_of_fixed_shape_is_measured_at_that_shape_only(tmp_path, profile, monkeypatch) -> None:
    fixed = build_artifact(tmp_path / "fixed", fixed=FixedShape(16, 8), positions=16, flops=100)
    bench = measure(build_phone(tmp_path / "state"), monkeypatch, [fixed], BenchOptions(lengths=(4, 9)), profile)
    (measured,) = bench.measurements
    assert (measured.task.tokens, measured.task.objects, measured.flops) == (16, 8, 100)


def test_turns_go_round_and_each_file_is_pushed_once(small, tmp_path, profile, monkeypatch) -> None:
    other = build_artifact(tmp_path / "other", width=12)
    phone, told = build_phone(tmp_path / "state"), KeptProgress()
    bench = measure(phone, monkeypatch, [small, other], BenchOptions(runs=10), profile, progress=told)
    assert [Path(call[3]).name for call in phone.calls() if "push" in call] == ["perf", "model.onnx", "model.onnx"]
    turns = [call for call in told.calls if call[0].startswith("measuring")]
    assert list(dict.fromkeys(turns)) == [
        (f"measuring {name}", done, 20) for name, done in (("small", 0), ("other", 5), ("other", 10), ("small", 15))
    ]
    ratios = compare_all(bench)
    assert [each and (each.value, each.verdict) for each in ratios] == [None, (1, "unknown")]


def test_a_hot_device_is_waited_for(small, tmp_path, profile, monkeypatch) -> None:
    phone, slept = build_phone(tmp_path / "state", heat=(45_000, 41_000, 40_000, 39_900)), []
    measure(phone, monkeypatch, [small], BenchOptions(runs=5), profile, slept=slept)
    assert slept == [7, 7, 7]


def test_a_device_that_stays_hot_is_given_up(small, tmp_path, monkeypatch) -> None:
    profile = read_profile(write_profile(tmp_path / "device", thermal={"wait_at_most_s": 20}))
    phone, slept = build_phone(tmp_path / "state", heat=(50_000,)), []
    with pytest.raises(
        MeasureError, match=r"toy phone: is still at 50\.0 °C after 21 s, expected less than 40; let it"
    ):
        measure(phone, monkeypatch, [small], BenchOptions(runs=5), profile, slept=slept)
    assert slept == [7, 7, 7]


def test_the_hottest_zone_counts_and_words_are_no_degrees(small, tmp_path, monkeypatch) -> None:
    zones = ["/sys/class/thermal/a/temp", "/sys/class/thermal/b/temp"]
    profile = read_profile(write_profile(tmp_path / "device", thermal={"zones": zones}))
    slept: list[float] = []
    measure(
        build_phone(tmp_path / "one", heat=(20_000, 60_000, 20_000)),
        monkeypatch,
        [small],
        BenchOptions(runs=1),
        profile,
        slept=slept,
    )
    assert slept == [7]
    with pytest.raises(MeasureError, match=r"expected a number from each of .*got 'None"):
        measure(build_phone(tmp_path / "two", heat=(None,)), monkeypatch, [small], BenchOptions(runs=1), profile)


@pytest.mark.parametrize(
    ("devices", "said"),
    [
        ({}, "adb: does not see PHONE1; plug it in"),
        ({"OTHER": "device"}, "adb: does not see PHONE1"),
        ({"PHONE1": "offline"}, "adb: device PHONE1 is offline; unlock it"),
        ({"PHONE1": "unauthorized"}, "allow USB debugging on its screen"),
    ],
)
def test_a_device_that_does_not_answer_is_one_sentence(small, tmp_path, profile, monkeypatch, devices, said) -> None:
    phone = build_phone(tmp_path / "state", devices=devices)
    with pytest.raises(MeasureError, match=said):
        measure(phone, monkeypatch, [small], BenchOptions(runs=1), profile)
    assert phone.calls() == [["devices"]]


def test_without_a_serial_the_only_device_is_meant(small, tmp_path, monkeypatch) -> None:
    profile = read_profile(write_profile(tmp_path / "device", serial=None))
    one = build_phone(tmp_path / "one")
    assert len(measure(one, monkeypatch, [small], BenchOptions(runs=1), profile).measurements) == 1
    assert not any("-s" in call[:1] for call in one.calls())
    two = build_phone(tmp_path / "two", devices={"A": "device", "B": "device"})
    with pytest.raises(MeasureError, match=r"sees 2 devices \(A, B\); set the key serial"):
        measure(two, monkeypatch, [small], BenchOptions(runs=1), profile)


def test_a_file_that_arrived_short_is_refused_and_one_that_cannot_be_checked_is_doubted(
    small, tmp_path, profile, monkeypatch
) -> None:
    full = build_phone(tmp_path / "full", room=100)
    with pytest.raises(MeasureError, match=r"a pushed file is damaged .*expected .* got .*; free some space"):
        measure(full, monkeypatch, [small], BenchOptions(runs=1), profile)
    plain = build_phone(tmp_path / "plain", has_sha256sum=False)
    (measured,) = measure(plain, monkeypatch, [small], BenchOptions(runs=1), profile).measurements
    assert UNVERIFIED in measured.doubts


def test_a_runner_that_fails_is_told_with_its_last_words(small, tmp_path, profile, monkeypatch) -> None:
    phone = build_phone(tmp_path / "state", runner_fails=True)
    with pytest.raises(MeasureError, match=r"failed \(small: 1 runs with 1 threads.*exit code 134.*Ort::Exception"):
        measure(phone, monkeypatch, [small], BenchOptions(runs=1), profile)


@pytest.mark.parametrize(("written", "got"), [(0, 0), (30, 1), (50, 2), (97, 4)])
def test_half_a_line_is_no_sample(small, tmp_path, profile, monkeypatch, written, got) -> None:
    phone = build_phone(tmp_path / "state", written=written)
    with pytest.raises(
        MeasureError, match=f"small: expected 5 samples of its turn, got {got} from toy phone; try `adb"
    ):
        measure(phone, monkeypatch, [small], BenchOptions(runs=5), profile)


def test_samples_that_are_printed_are_found_and_first_runs_are_discarded(small, tmp_path, monkeypatch) -> None:
    runner = {"samples": {"pattern": r"Iteration \d+ of \d+: ([0-9.]+) ms", "unit": "ms"}, "discard": 2, "peak": None}
    path = write_profile(tmp_path / "device", runner=runner, thermal=None)
    text = path.read_text(encoding="utf-8").replace("    column: 1\n", "")
    path.write_text(text, encoding="utf-8")
    phone = build_phone(tmp_path / "state")
    (measured,) = measure(phone, monkeypatch, [small], BenchOptions(runs=3), read_profile(path)).measurements
    assert measured.latency.values == pytest.approx([0.03, 0.04, 0.05])
    assert (measured.peak_bytes, measured.load_s, measured.task.warmup) == (None, 0.25, 2)
    assert not any("pull" in call or "thermal" in call[-1] for call in phone.calls())


def test_an_interrupt_keeps_what_came_back(small, tmp_path, profile, monkeypatch) -> None:
    phone = build_phone(tmp_path / "state")

    def progress(what: str, done: int = 0, total: int = 0, *, value: float | None = None) -> None:
        if done >= 5:
            raise KeyboardInterrupt

    (measured,) = measure(phone, monkeypatch, [small], BenchOptions(runs=50), profile, progress=progress).measurements
    assert len(measured.latency.values) == 5
    assert INTERRUPTED in measured.doubts
    with pytest.raises(KeyboardInterrupt):
        measure(
            build_phone(tmp_path / "again"), monkeypatch, [small], BenchOptions(runs=5), profile, progress=_interrupt
        )


def _interrupt(what: str, done: int = 0, total: int = 0, *, value: float | None = None) -> None:
    if what.startswith("measuring"):
        raise KeyboardInterrupt


def test_what_the_profile_does_not_run_is_refused_before_the_device_is_touched(
    small, tmp_path, profile, monkeypatch
) -> None:
    other = build_artifact(tmp_path / "other", format="executorch")
    phone = build_phone(tmp_path / "state")
    with pytest.raises(MeasureError, match="has format executorch, which the profile toy phone does not run"):
        measure(phone, monkeypatch, [small, other], BenchOptions(runs=1), profile)
    (tmp_path / "device" / "perf").unlink()
    with pytest.raises(MeasureError, match="perf: no such file, but the profile toy phone pushes it"):
        measure(phone, monkeypatch, [small], BenchOptions(runs=1), profile)
    assert phone.calls() == []


def test_no_adb_is_one_sentence(small, tmp_path, profile, monkeypatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MeasureError, match="adb: not found on the PATH; install Android's platform tools"):
        bench_device([small], BenchOptions(runs=1), profile)


def test_two_devices_are_never_compared(small, tmp_path, profile, monkeypatch) -> None:
    bench = measure(build_phone(tmp_path / "state"), monkeypatch, [small], BenchOptions(runs=1), profile)
    elsewhere = [each.model_copy(update={"target": None}) for each in bench.measurements]
    with pytest.raises(MeasureError, match="another machine"):
        compare_all(bench, bench.model_copy(update={"measurements": elsewhere}))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"colour": "red"}, "colour: unknown key"),
        ({"runner": {"speed": 1}}, "runner.speed: unknown key"),
        ({"folder": "tmp"}, "folder: expected a plain absolute path"),
        ({"folder": "/data/../etc"}, "folder: expected a plain absolute path"),
        ({"folder": "/data/$(reboot)"}, "folder: expected a plain absolute path"),
        ({"version": 9}, "version: .*less than or equal to 1"),
        ({"runner": {"command": ["{runner}", "{runs}", "{flags}"]}}, "placeholder {flags}, expected one of runner"),
        ({"runner": {"command": ["{runner.__class__}", "{runs}"]}}, "placeholder {runner.__class__}"),
        ({"runner": {"command": ["{runner}"]}}, "no word has {runs}"),
        ({"runner": {"command": ["{runner"]}}, "is not a valid template"),
        ({"runner": {"samples": {"column": 1, "unit": "min"}}}, "samples.unit: expected one of s, ms, us, ns, got"),
        ({"runner": {"load": {"pattern": "cost", "unit": "s"}}}, "has 0 groups, expected one"),
        ({"runner": {"load": {"pattern": "(", "unit": "s"}}}, "is not a regular expression"),
        ({"runner": {"peak": {"column": 2, "unit": "pages"}}}, "peak.unit: expected one of B, kB"),
        ({"formats": {"onnx": []}}, "formats.onnx"),
    ],
)  # fmt: skip
def test_a_profile_that_cannot_be_used_is_one_sentence(tmp_path, changes, said) -> None:
    path = write_profile(tmp_path, **changes)
    with pytest.raises(MeasureError, match=f"--profile .*phone.yaml: .*{said}") as problem:
        read_profile(path)
    assert "\n" not in str(problem.value)


def test_a_profile_that_is_none_is_one_sentence(tmp_path) -> None:
    with pytest.raises(MeasureError, match="no such file"):
        read_profile(tmp_path / "none.yaml")
    (tmp_path / "bad.yaml").write_text("a: [1", encoding="utf-8")
    with pytest.raises(MeasureError, match="is not valid YAML"):
        read_profile(tmp_path / "bad.yaml")


def test_the_example_profiles_are_profiles() -> None:
    examples = sorted((Path(__file__).resolve().parents[2] / "docs" / "devices").glob("*.yaml"))
    assert len(examples) >= 2
    for path in examples:
        profile = read_profile(path)
        assert "we did not run it on a phone" in path.read_text(encoding="utf-8")
        assert profile.thermal is not None
        assert shlex.join(profile.runner.command)
