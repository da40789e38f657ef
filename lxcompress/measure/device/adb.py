"""Measure artifacts on another device over adb: plan all steps, which a dry run prints, then run them."""

from __future__ import annotations

import hashlib
import math
import re
import shlex
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Literal

from lxcompress import __version__
from lxcompress.errors import MeasureError
from lxcompress.measure.artifacts import INTERRUPTED, Keep, plan_rounds
from lxcompress.measure.bench_warnings import sample_warnings
from lxcompress.measure.device.profile import BYTES, SECONDS, ColumnNumber, NumberSource, Profile
from lxcompress.measure.plan import (
    BenchOptions,
    BenchTarget,
    check_options,
    check_positions,
    find_baseline,
    leave_out_unfinished,
    read_artifacts,
)
from lxcompress.progress import Progress, no_progress
from lxcompress.records import LARGEST_AMOUNT, LARGEST_COUNT, Artifact, BenchRecord, Machine, Measurement, Samples, Task
from lxcompress.rundir import sha256

Kind = Literal["find", "facts", "make", "push", "verify", "cool", "clear", "run", "pull"]

UNVERIFIED = "not verified: the device has no sha256sum to check what was pushed"
UNPINNED = "cores not verified: only the profile's command can pin the runner to cores"
_NOT_FOUND = 127
_PROPERTIES = ("ro.product.manufacturer", "ro.product.model", "ro.soc.model", "ro.build.version.release")


@dataclass(frozen=True)
class Case:
    """A row of the bench to measure: an artifact, its threads and question length, and its folder on the device."""

    target: BenchTarget
    threads: int
    tokens: int
    folder: str
    files: tuple[str, ...]


@dataclass(frozen=True)
class DeviceStep:
    """One command and its purpose; `case` and `runs` are set for the steps of a turn."""

    kind: Kind
    command: tuple[str, ...]
    why: str
    case: int = -1
    runs: int = 0
    expected: str = ""


@dataclass
class CaseSamples:
    """The samples of one case so far."""

    seconds: list[float] = field(default_factory=list)
    rounds: list[int] = field(default_factory=list)
    load_s: float | None = None
    peak_bytes: int | None = None


def bench_device(
    paths: Sequence[Path],
    options: BenchOptions,
    profile: Profile,
    *,
    progress: Progress = no_progress,
    sleep: Callable[[float], None] = time.sleep,
    keep: Keep = lambda bench: None,
) -> BenchRecord:
    """Measure each artifact on the profile's device, in rounds whose order rotates; Ctrl-C keeps the samples so far.

    `sleep` waits while a hot device cools. Raises MeasureError.
    """
    began = datetime.now(timezone.utc)
    cases = plan_cases(paths, options, profile, progress)
    samples = [CaseSamples() for _ in cases]
    with tempfile.TemporaryDirectory() as scratch:
        steps = plan_steps(cases, options, profile, Path(scratch))
        work = _DeviceRun(cases, profile, samples, progress, sleep, total=options.runs * len(cases))

        def bench_so_far(warnings: Sequence[str] = (INTERRUPTED,)) -> BenchRecord:
            return BenchRecord(
                started=began.isoformat(timespec="seconds"),
                measurements=[
                    _make_measurement(case, found, work, [*warnings, *work.warnings])
                    for case, found in zip(cases, samples, strict=True)
                    if found.seconds
                ],
                baseline=str(find_baseline([case.target for case in cases], options.baseline).path),
                remarks=list(leave_out_unfinished(paths)[1]),
            )

        was_interrupted = _run_steps(steps, work, lambda: keep(bench_so_far))
    if not any(found.seconds for found in samples):
        raise KeyboardInterrupt
    return bench_so_far([INTERRUPTED] if was_interrupted else [])


def plan_cases(
    paths: Sequence[Path], options: BenchOptions, profile: Profile, progress: Progress = no_progress
) -> list[Case]:
    """Return the rows that a bench on the device will have. Raises MeasureError for what it cannot measure."""
    check_options(options)
    for file in (profile.runner.file, *profile.runner.libraries):
        if not file.is_file():
            raise MeasureError(
                f"{file}: no such file, but the profile {profile.name} pushes it; build it, or correct the path"
            )
    targets = read_artifacts(leave_out_unfinished(paths)[0], progress)
    check_positions(targets, options.lengths)
    cases = []
    for threads in options.threads:
        for target in targets:
            for tokens in _lengths(target.record, options):
                folder = f"{profile.folder}/{target.sha256[:12]}"
                cases.append(Case(target, threads, tokens, folder, _files_to_push(target, profile)))
    return cases


def _lengths(record: Artifact, options: BenchOptions) -> tuple[int, ...]:
    """Return the question lengths to measure; a file of fixed shape has one, because no runner pads questions."""
    return (record.fixed.tokens,) if record.fixed else options.lengths or (record.tokens,)


def _count_objects(record: Artifact) -> int:
    """Return the number of regions of an image that the runner gives to the file."""
    return record.fixed.objects if record.fixed else record.objects


def plan_steps(cases: Sequence[Case], options: BenchOptions, profile: Profile, scratch: Path) -> list[DeviceStep]:
    """Return every command of a bench, in order; sample files are pulled into `scratch`."""
    return [
        *_first_steps(profile),
        *_push_steps(cases, profile),
        *(
            step
            for turns in plan_rounds(len(cases), options.runs)
            for turn in turns
            for step in _turn(*turn, cases, profile, scratch)
        ),
    ]


def _files_to_push(target: BenchTarget, profile: Profile) -> tuple[str, ...]:
    """Return the artifact's files that its runner needs, the model first. Raises MeasureError."""
    record = target.record
    if record.format not in profile.formats:
        raise MeasureError(
            f"{target.path}: has format {record.format}, which the profile {profile.name} does not run "
            f"(it runs {', '.join(profile.formats)}); leave it out, or give another profile"
        )
    wanted = profile.formats[record.format]
    if wanted[0] not in record.files:
        raise MeasureError(
            f"{target.path}: has no {wanted[0]}, which the profile {profile.name} pushes for format {record.format}; "
            f"its files are {', '.join(record.files)}"
        )
    return tuple(name for name in wanted if name in record.files)


def _first_steps(profile: Profile) -> Iterator[DeviceStep]:
    yield DeviceStep("find", ("adb", "devices"), "find the device")
    for name in _PROPERTIES:
        yield DeviceStep("facts", _shell(profile, "getprop", name), f"describe the device: {name}")
    for file in ("/proc/cpuinfo", "/proc/meminfo"):
        yield DeviceStep("facts", _shell(profile, "cat", file), f"describe the device: {file}")


def _push_steps(cases: Sequence[Case], profile: Profile) -> Iterator[DeviceStep]:
    yield DeviceStep("make", _shell(profile, "mkdir", "-p", profile.folder), "make a folder for the runner")
    for file in (profile.runner.file, *profile.runner.libraries):
        yield from _push(file, f"{profile.folder}/{file.name}", sha256(file), profile)
    runner = f"{profile.folder}/{profile.runner.file.name}"
    yield DeviceStep("make", _shell(profile, "chmod", "755", runner), "make the runner executable")
    for folder, case in {case.folder: case for case in cases}.items():
        yield DeviceStep("make", _shell(profile, "mkdir", "-p", folder), f"make a folder for {case.target.record.name}")
        for name in case.files:
            expected = case.target.record.files[name]
            yield from _push(case.target.path / name, f"{folder}/{Path(name).name}", expected, profile)


def _push(file: Path, remote: str, expected: str, profile: Profile) -> Iterator[DeviceStep]:
    yield DeviceStep("push", _adb(profile, "push", str(file), remote), f"push {file.name}")
    yield DeviceStep(
        "verify", _shell(profile, "sha256sum", remote), f"compare the checksum of {file.name}", expected=expected
    )


def _turn(number: int, runs: int, cases: Sequence[Case], profile: Profile, scratch: Path) -> Iterator[DeviceStep]:
    case, name = cases[number], cases[number].target.record.name
    if profile.thermal:
        yield DeviceStep(
            "cool", _shell(profile, "cat", *profile.thermal.zones), "read the temperature; wait while too hot", number
        )
    samples = f"{profile.folder}/samples"
    is_file = isinstance(profile.runner.samples, ColumnNumber)
    if is_file:
        yield DeviceStep("clear", _shell(profile, "rm", "-f", samples), "delete the samples of an earlier turn", number)
    command = _fill(case, profile, runs=runs + profile.runner.discard, samples=samples)
    what = f"{name}: {runs} runs with {case.threads} threads, {case.tokens} tokens"
    yield DeviceStep("run", _shell(profile, *command), what, number, runs)
    if is_file:
        yield DeviceStep(
            "pull",
            _adb(profile, "pull", samples, str(scratch / "samples")),
            f"pull the samples of {name}",
            number,
            runs,
        )


def _fill(case: Case, profile: Profile, *, runs: int, samples: str) -> list[str]:
    """Return the words of the runner's command with their placeholders replaced."""
    record = case.target.record
    values: Mapping[str, object] = {
        "runner": f"{profile.folder}/{profile.runner.file.name}",
        "folder": profile.folder,
        "model": f"{case.folder}/{Path(case.files[0]).name}",
        "samples": samples,
        "threads": case.threads,
        "runs": runs,
        "tokens": case.tokens,
        "objects": _count_objects(record),
        "images": record.images,
        "features": record.feature_size,
    }
    return [word.format(**values) for word in profile.runner.command]


def _shell(profile: Profile, *words: str) -> tuple[str, ...]:
    """Return a command for the device, its words quoted: adb passes them to the device's shell as one line."""
    return _adb(profile, "shell", shlex.join(words))


def _adb(profile: Profile, *words: str) -> tuple[str, ...]:
    return ("adb", *(("-s", profile.serial) if profile.serial else ()), *words)


@dataclass
class _DeviceRun:
    """A running bench on a device: its cases, their samples so far, and the properties of the device."""

    cases: Sequence[Case]
    profile: Profile
    samples: Sequence[CaseSamples]
    progress: Progress
    sleep: Callable[[float], None]
    total: int
    done: int = 0
    facts: dict[str, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=lambda: [UNPINNED])
    printed: str = ""


def _run_steps(steps: Sequence[DeviceStep], work: _DeviceRun, after: Callable[[], None]) -> bool:
    """Run the steps, and call `after` whenever samples were pulled; return whether Ctrl-C ended them early."""
    try:
        for step in steps:
            _run_step(step, work)
            if step.kind == "pull":
                after()
    except KeyboardInterrupt:
        return True
    return False


def _run_step(step: DeviceStep, work: _DeviceRun) -> None:
    """Run one step. Raises MeasureError if it fails."""
    if step.case >= 0:
        work.progress(f"measuring {work.cases[step.case].target.record.name}", work.done, work.total)
    if step.kind == "cool":
        _cool(step, work)
        return
    done = _call(step.command)
    if step.kind == "verify":
        _verify(step, done, work)
        return
    if done.returncode:
        raise MeasureError(_describe_failure(step, done, work.profile))
    if step.kind == "find":
        _check_devices(done.stdout, work.profile)
    elif step.kind == "facts":
        work.facts[step.why.rpartition(" ")[2]] = done.stdout.strip()
    elif step.kind == "run":
        work.printed = done.stdout + done.stderr
        if not isinstance(work.profile.runner.samples, ColumnNumber):
            _keep_samples(step, work, text="")
    elif step.kind == "pull":
        _keep_samples(step, work, text=Path(step.command[-1]).read_text(encoding="utf-8", errors="replace"))


def _call(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            command,
            capture_output=True,
            text=True,
            encoding="utf-8",
            errors="replace",
            stdin=subprocess.DEVNULL,  # otherwise adb shell reads this terminal
            check=False,
        )
    except FileNotFoundError:
        raise MeasureError(
            "adb: not found on the PATH; install Android's platform tools (apt install adb, or developer.android.com)"
        ) from None


def _check_devices(printed: str, profile: Profile) -> None:
    """Raise MeasureError unless the profile's device, or the only one, is connected and answers."""
    states = dict(line.split()[:2] for line in printed.splitlines()[1:] if len(line.split()) >= 2)
    serial = profile.serial or (next(iter(states)) if len(states) == 1 else None)
    if serial is None and states:
        raise MeasureError(
            f"adb: sees {len(states)} devices ({', '.join(states)}); set the key serial of the profile to one of them"
        )
    state = states.get(serial) if serial else None
    if state is None:
        raise MeasureError(
            f"adb: does not see {profile.serial or 'any device'}; plug it in, and allow USB debugging on its screen"
        )
    if state != "device":
        raise MeasureError(
            f"adb: device {serial} is {state}; unlock it, allow USB debugging on its screen, or plug it in again"
        )


def _verify(step: DeviceStep, done: subprocess.CompletedProcess[str], work: _DeviceRun) -> None:
    """Raise MeasureError unless the pushed file is whole; warn if the device has no sha256sum."""
    if done.returncode == _NOT_FOUND:
        if UNVERIFIED not in work.warnings:
            work.warnings.append(UNVERIFIED)
        return
    if done.returncode:
        raise MeasureError(_describe_failure(step, done, work.profile))
    found = (done.stdout.split() or ["nothing"])[0]
    if found != step.expected:
        raise MeasureError(
            f"{work.profile.name}: a pushed file is damaged on the device (`{shlex.join(step.command)}`: expected "
            f"{step.expected}, got {found}); free some space on the device and try again"
        )


def _cool(step: DeviceStep, work: _DeviceRun) -> None:
    """Wait while the device is too hot. Raises MeasureError if it stays hot, or if its temperature cannot be read."""
    thermal = work.profile.thermal
    assert thermal is not None
    waited = 0.0
    while (degrees := _read_degrees(step, work)) >= thermal.highest_c:
        if waited >= thermal.wait_at_most_s:
            raise MeasureError(
                f"{work.profile.name}: is still at {degrees:.1f} °C after {waited:.0f} s, expected less than "
                f"{thermal.highest_c:g}; let it cool, or raise thermal.wait_at_most_s in the profile"
            )
        work.sleep(thermal.poll_s)
        waited += thermal.poll_s


def _read_degrees(step: DeviceStep, work: _DeviceRun) -> float:
    thermal = work.profile.thermal
    assert thermal is not None
    done = _call(step.command)
    if done.returncode:
        raise MeasureError(_describe_failure(step, done, work.profile))
    try:
        return max(float(line) for line in done.stdout.split()) * thermal.scale
    except ValueError:
        raise MeasureError(
            f"{work.profile.name}: expected a number from each of {', '.join(thermal.zones)}, "
            f"got {done.stdout[:60]!r}; correct thermal.zones in the profile"
        ) from None


def _keep_samples(step: DeviceStep, work: _DeviceRun, *, text: str) -> None:
    """Add a turn's samples to those of its case. Raises MeasureError if some are missing."""
    runner, samples = work.profile.runner, work.samples[step.case]
    wanted = step.runs + runner.discard
    values = _read_numbers(runner.samples, text, work.printed)
    if len(values) != wanted:
        raise MeasureError(
            f"{work.cases[step.case].target.record.name}: expected {wanted} samples of its turn, got {len(values)} "
            f"from {work.profile.name}; try `{shlex.join(step.command)}` by hand, and correct runner.samples in the "
            "profile"
        )
    wrong = [value for value in values if not 0 < value <= LARGEST_AMOUNT]
    if wrong:
        raise MeasureError(
            f"{work.cases[step.case].target.record.name}: expected times above 0 from {work.profile.name}, got "
            f"{wrong[0]:g}; correct runner.samples in the profile: its column, its pattern or its unit"
        )
    factor = SECONDS[runner.samples.unit]
    samples.seconds += [factor * value for value in values[runner.discard :]]
    samples.rounds.append(step.runs)
    load = [value for value in _read_numbers(runner.load, text, work.printed) if value <= LARGEST_AMOUNT]
    peak = _read_numbers(runner.peak, text, work.printed)
    if runner.load and load:
        samples.load_s = min(filter(None, (samples.load_s, SECONDS[runner.load.unit] * load[0])))
    if runner.peak and peak:
        peak_bytes = min(LARGEST_COUNT, BYTES[runner.peak.unit] * max(peak))
        samples.peak_bytes = max(samples.peak_bytes or 0, round(peak_bytes)) or None
    work.done += step.runs


def _read_numbers(source: NumberSource | None, text: str, printed: str) -> list[float]:
    """Return the numbers at `source`: in a column of the file's lines, or in the printed output."""
    if source is None:
        return []
    if isinstance(source, ColumnNumber):
        whole = text[: text.rfind("\n") + 1]  # a truncated last line may end in half a number
        rows = [line.split(",") for line in whole.splitlines()]
        found = [row[source.column] for row in rows if len(row) > source.column]
    else:
        found = re.findall(source.pattern, printed)
    return [float(word) for word in found if _is_number(word)]


def _is_number(word: str) -> bool:
    try:
        return 0 <= float(word) < math.inf
    except ValueError:
        return False


def _describe_failure(step: DeviceStep, done: subprocess.CompletedProcess[str], profile: Profile) -> str:
    said = " / ".join((done.stderr or done.stdout).strip().splitlines()[-2:]) or "no output"
    return (
        f"{profile.name}: `{shlex.join(step.command)}` failed ({step.why}; exit code {done.returncode}: {said}); "
        "check that the device is still connected, and try that command by hand"
    )


def _make_measurement(case: Case, samples: CaseSamples, work: _DeviceRun, warnings: list[str]) -> Measurement:
    record = case.target.record
    return Measurement(
        artifact=record.name,
        artifact_path=str(case.target.path),
        artifact_sha256=case.target.sha256,
        cell=record.cell,
        twin=record.twin,
        format=record.format,
        precision=record.precision,
        task=Task(
            runtime=work.profile.runner.runtime,
            threads=case.threads,
            batch=1,
            tokens=case.tokens,
            objects=_count_objects(record),
            images=record.images,
            picture_size=record.picture_size,
            warmup=work.profile.runner.discard,
            runs=len(samples.seconds),
        ),
        machine=describe_device(work.facts, work.profile),
        target=work.profile.name,
        latency=Samples(unit="s", values=samples.seconds),
        rounds=samples.rounds,
        load_s=samples.load_s,
        peak_bytes=samples.peak_bytes,
        size_bytes=case.target.size_bytes,
        parameters=record.parameters,
        flops=record.flops if record.fixed or case.tokens == record.tokens else None,
        doubts=sample_warnings(samples.seconds) + warnings,
    )


def describe_device(facts: Mapping[str, str], profile: Profile) -> Machine:
    """Describe the device from its own properties; 0 cores or bytes of memory where it does not say."""
    cpuinfo, meminfo = facts.get("/proc/cpuinfo", ""), facts.get("/proc/meminfo", "")
    memory = re.search(r"^MemTotal:\s*(\d+) kB", meminfo, re.MULTILINE)
    hardware = re.search(r"^(?:Hardware|model name)\s*:\s*(.+)$", cpuinfo, re.MULTILINE)
    maker, model, chip, release = (facts.get(name, "") for name in _PROPERTIES)
    digest = hashlib.sha256(profile.runner.file.read_bytes()).hexdigest()
    return Machine(
        system=f"Android {release or 'of unknown version'} on {maker} {model}".strip(),
        processor=chip or (hardware[1].strip() if hardware else "unknown"),
        cores=len(re.findall(r"^processor\s*:", cpuinfo, re.MULTILINE)),
        memory_bytes=int(memory[1]) * 1024 if memory else 0,
        python="none",
        accelerator=None,
        packages={"lxcompress": __version__, profile.runner.file.name: f"sha256 {digest[:12]}"},
    )
