"""Measure artifacts on another device, over adb: every step is planned first, shown by a dry run, then carried out."""

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
from lxcompress.measure.device.profile import BYTES, SECONDS, Column, Profile, Told
from lxcompress.measure.plan import (
    Ask,
    Subject,
    check_ask,
    check_positions,
    find_baseline,
    leave_out_unfinished,
    read_artifacts,
)
from lxcompress.progress import Progress, no_progress
from lxcompress.records import LARGEST_AMOUNT, LARGEST_COUNT, BenchRecord, Machine, Measurement, Samples, Task
from lxcompress.rundir import sha256

Kind = Literal["find", "facts", "make", "push", "verify", "cool", "clear", "run", "pull"]

UNVERIFIED = "not verified: the device has no sha256sum to check what was pushed"
UNPINNED = "cores not verified: whether the runner stays on them is the profile's affair"
_NOT_FOUND = 127
_PROPERTIES = ("ro.product.manufacturer", "ro.product.model", "ro.soc.model", "ro.build.version.release")


@dataclass(frozen=True)
class Case:
    """One row to come: an artifact, on so many threads, over questions of so many tokens, and its place over there."""

    subject: Subject
    threads: int
    tokens: int
    folder: str
    files: tuple[str, ...]


@dataclass(frozen=True)
class Step:
    """One command, and what it is for; `case` and `runs` say whose turn it is where it is one's."""

    kind: Kind
    command: tuple[str, ...]
    why: str
    case: int = -1
    runs: int = 0
    expected: str = ""


@dataclass
class Tally:
    """What has come back of one case so far."""

    seconds: list[float] = field(default_factory=list)
    rounds: list[int] = field(default_factory=list)
    load_s: float | None = None
    peak_bytes: int | None = None


def bench_device(
    paths: Sequence[Path],
    ask: Ask,
    profile: Profile,
    *,
    progress: Progress = no_progress,
    sleep: Callable[[float], None] = time.sleep,
    keep: Keep = lambda bench: None,
) -> BenchRecord:
    """Measures each artifact on the profile's device, in rounds whose order rotates; Ctrl-C keeps what came back.

    `sleep` passes the seconds that a hot device is given to cool. Raises MeasureError.
    """
    began = datetime.now(timezone.utc)
    cases = plan_cases(paths, ask, profile, progress)
    tallies = [Tally() for _ in cases]
    with tempfile.TemporaryDirectory() as scratch:
        steps = plan_steps(cases, ask, profile, Path(scratch))
        work = _Work(cases, profile, tallies, progress, sleep, total=ask.runs * len(cases))

        def so_far(doubts: Sequence[str] = (INTERRUPTED,)) -> BenchRecord:
            return BenchRecord(
                started=began.isoformat(timespec="seconds"),
                measurements=[
                    _measurement(case, tally, ask, work, [*doubts, *work.doubts])
                    for case, tally in zip(cases, tallies, strict=True)
                    if tally.seconds
                ],
                baseline=str(find_baseline([case.subject for case in cases], ask.baseline).path),
                remarks=list(leave_out_unfinished(paths)[1]),
            )

        was_interrupted = _carry_out(steps, work, lambda: keep(so_far))
    if not any(tally.seconds for tally in tallies):
        raise KeyboardInterrupt
    return so_far([INTERRUPTED] if was_interrupted else [])


def plan_cases(paths: Sequence[Path], ask: Ask, profile: Profile, progress: Progress = no_progress) -> list[Case]:
    """The rows that a bench on the device will have. Raises MeasureError for what it could not measure."""
    check_ask(ask)
    for file in (profile.runner.file, *profile.runner.libraries):
        if not file.is_file():
            raise MeasureError(
                f"{file}: no such file, but the profile {profile.name} pushes it; build it, or mend the path"
            )
    subjects = read_artifacts(leave_out_unfinished(paths)[0], progress)
    check_positions(subjects, ask.lengths)
    cases = []
    for threads in ask.threads:
        for subject in subjects:
            for tokens in ask.lengths or (subject.record.tokens,):
                folder = f"{profile.folder}/{subject.sha256[:12]}"
                cases.append(Case(subject, threads, tokens, folder, _files_to_push(subject, profile)))
    return cases


def plan_steps(cases: Sequence[Case], ask: Ask, profile: Profile, scratch: Path) -> list[Step]:
    """Every command of a bench, in order; what comes back is pulled into `scratch`."""
    return [
        *_first_steps(profile),
        *_push_steps(cases, profile),
        *(
            step
            for turns in plan_rounds(len(cases), ask.runs)
            for turn in turns
            for step in _turn(*turn, cases, profile, scratch)
        ),
    ]


def _files_to_push(subject: Subject, profile: Profile) -> tuple[str, ...]:
    """The artifact's files that its runner needs, the model first. Raises MeasureError."""
    record = subject.record
    if record.format not in profile.formats:
        raise MeasureError(
            f"{subject.path}: has format {record.format}, which the profile {profile.name} does not run "
            f"(it runs {', '.join(profile.formats)}); leave it out, or give another profile"
        )
    wanted = profile.formats[record.format]
    if wanted[0] not in record.files:
        raise MeasureError(
            f"{subject.path}: has no {wanted[0]}, which the profile {profile.name} pushes for format {record.format}; "
            f"its files are {', '.join(record.files)}"
        )
    return tuple(name for name in wanted if name in record.files)


def _first_steps(profile: Profile) -> Iterator[Step]:
    yield Step("find", ("adb", "devices"), "is the device there, and only it")
    for name in _PROPERTIES:
        yield Step("facts", _shell(profile, "getprop", name), f"what it is: {name}")
    for file in ("/proc/cpuinfo", "/proc/meminfo"):
        yield Step("facts", _shell(profile, "cat", file), f"what it is: {file}")


def _push_steps(cases: Sequence[Case], profile: Profile) -> Iterator[Step]:
    yield Step("make", _shell(profile, "mkdir", "-p", profile.folder), "a place for the runner")
    for file in (profile.runner.file, *profile.runner.libraries):
        yield from _push(file, f"{profile.folder}/{file.name}", sha256(file), profile)
    runner = f"{profile.folder}/{profile.runner.file.name}"
    yield Step("make", _shell(profile, "chmod", "755", runner), "the runner may run")
    for folder, case in {case.folder: case for case in cases}.items():
        yield Step("make", _shell(profile, "mkdir", "-p", folder), f"a place for {case.subject.record.name}")
        for name in case.files:
            expected = case.subject.record.files[name]
            yield from _push(case.subject.path / name, f"{folder}/{Path(name).name}", expected, profile)


def _push(file: Path, there: str, expected: str, profile: Profile) -> Iterator[Step]:
    yield Step("push", _adb(profile, "push", str(file), there), f"push {file.name}")
    yield Step("verify", _shell(profile, "sha256sum", there), f"is {file.name} whole over there", expected=expected)


def _turn(number: int, runs: int, cases: Sequence[Case], profile: Profile, scratch: Path) -> Iterator[Step]:
    case, name = cases[number], cases[number].subject.record.name
    if profile.thermal:
        yield Step("cool", _shell(profile, "cat", *profile.thermal.zones), "how hot it is; waits while too hot", number)
    samples = f"{profile.folder}/samples"
    is_file = isinstance(profile.runner.samples, Column)
    if is_file:
        yield Step("clear", _shell(profile, "rm", "-f", samples), "no samples of an earlier turn", number)
    command = _fill(case, profile, runs=runs + profile.runner.discard, samples=samples)
    what = f"{name}: {runs} runs on {case.threads} threads, {case.tokens} tokens"
    yield Step("run", _shell(profile, *command), what, number, runs)
    if is_file:
        yield Step(
            "pull", _adb(profile, "pull", samples, str(scratch / "samples")), f"{name}: its samples", number, runs
        )


def _fill(case: Case, profile: Profile, *, runs: int, samples: str) -> list[str]:
    """The words of the runner's command, each filled in."""
    record = case.subject.record
    filled: Mapping[str, object] = {
        "runner": f"{profile.folder}/{profile.runner.file.name}",
        "folder": profile.folder,
        "model": f"{case.folder}/{Path(case.files[0]).name}",
        "samples": samples,
        "threads": case.threads,
        "runs": runs,
        "tokens": case.tokens,
        "objects": record.objects,
        "images": record.images,
        "features": record.feature_size,
    }
    return [word.format(**filled) for word in profile.runner.command]


def _shell(profile: Profile, *words: str) -> tuple[str, ...]:
    """A command on the device. adb hands its words to a shell over there as one line, so they are quoted for it."""
    return _adb(profile, "shell", shlex.join(words))


def _adb(profile: Profile, *words: str) -> tuple[str, ...]:
    return ("adb", *(("-s", profile.serial) if profile.serial else ()), *words)


@dataclass
class _Work:
    """What carrying out the steps needs, and what it finds out about the device."""

    cases: Sequence[Case]
    profile: Profile
    tallies: Sequence[Tally]
    progress: Progress
    sleep: Callable[[float], None]
    total: int
    done: int = 0
    facts: dict[str, str] = field(default_factory=dict)
    doubts: list[str] = field(default_factory=lambda: [UNPINNED])
    printed: str = ""


def _carry_out(steps: Sequence[Step], work: _Work, after: Callable[[], None]) -> bool:
    """Carries out the steps, and calls `after` where samples came back; True if Ctrl-C cut them short."""
    try:
        for step in steps:
            _take(step, work)
            if step.kind == "pull":
                after()
    except KeyboardInterrupt:
        return True
    return False


def _take(step: Step, work: _Work) -> None:
    """Carries out one step. Raises MeasureError if it fails."""
    if step.case >= 0:
        work.progress(f"measuring {work.cases[step.case].subject.record.name}", work.done, work.total)
    if step.kind == "cool":
        _cool(step, work)
        return
    done = _call(step.command)
    if step.kind == "verify":
        _verify(step, done, work)
        return
    if done.returncode:
        raise MeasureError(_failure(step, done, work.profile))
    if step.kind == "find":
        _check_devices(done.stdout, work.profile)
    elif step.kind == "facts":
        work.facts[step.why.rpartition(" ")[2]] = done.stdout.strip()
    elif step.kind == "run":
        work.printed = done.stdout + done.stderr
        if not isinstance(work.profile.runner.samples, Column):
            _keep(step, work, text="")
    elif step.kind == "pull":
        _keep(step, work, text=Path(step.command[-1]).read_text(encoding="utf-8", errors="replace"))


def _call(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            command,
            capture_output=True,
            text=True,
            encoding="utf-8",
            errors="replace",
            stdin=subprocess.DEVNULL,  # adb shell would read this terminal
            check=False,
        )
    except FileNotFoundError:
        raise MeasureError(
            "adb: is not on the PATH; install Android's platform tools (apt install adb, or developer.android.com)"
        ) from None


def _check_devices(printed: str, profile: Profile) -> None:
    """Raises MeasureError unless the profile's device, or the only one, is there and answers."""
    states = dict(line.split()[:2] for line in printed.splitlines()[1:] if len(line.split()) >= 2)
    serial = profile.serial or (next(iter(states)) if len(states) == 1 else None)
    if serial is None and states:
        raise MeasureError(
            f"adb: sees {len(states)} devices ({', '.join(states)}); say which with serial: in the profile"
        )
    state = states.get(serial) if serial else None
    if state is None:
        raise MeasureError(
            f"adb: does not see {profile.serial or 'any device'}; plug it in, and allow USB debugging on its screen"
        )
    if state != "device":
        raise MeasureError(
            f"adb: device {serial} is {state}; unlock it, allow USB debugging on its screen, or plug it in anew"
        )


def _verify(step: Step, done: subprocess.CompletedProcess[str], work: _Work) -> None:
    """Raises MeasureError unless the file over there is the one here; a device that cannot tell earns a doubt."""
    if done.returncode == _NOT_FOUND:
        if UNVERIFIED not in work.doubts:
            work.doubts.append(UNVERIFIED)
        return
    if done.returncode:
        raise MeasureError(_failure(step, done, work.profile))
    found = (done.stdout.split() or ["nothing"])[0]
    if found != step.expected:
        raise MeasureError(
            f"{work.profile.name}: what was pushed is not whole over there (`{shlex.join(step.command)}`: expected "
            f"{step.expected}, got {found}); free some space on the device and try again"
        )


def _cool(step: Step, work: _Work) -> None:
    """Waits while the device is too hot. Raises MeasureError if it stays so, or does not tell."""
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


def _read_degrees(step: Step, work: _Work) -> float:
    thermal = work.profile.thermal
    assert thermal is not None
    done = _call(step.command)
    if done.returncode:
        raise MeasureError(_failure(step, done, work.profile))
    try:
        return max(float(line) for line in done.stdout.split()) * thermal.scale
    except ValueError:
        raise MeasureError(
            f"{work.profile.name}: expected a number from each of {', '.join(thermal.zones)}, "
            f"got {done.stdout[:60]!r}; mend thermal.zones in the profile"
        ) from None


def _keep(step: Step, work: _Work, *, text: str) -> None:
    """Adds a turn's samples to those of its case. Raises MeasureError if some are missing."""
    runner, tally = work.profile.runner, work.tallies[step.case]
    wanted = step.runs + runner.discard
    told = _numbers(runner.samples, text, work.printed)
    if len(told) != wanted:
        raise MeasureError(
            f"{work.cases[step.case].subject.record.name}: expected {wanted} samples of its turn, got {len(told)} from "
            f"{work.profile.name}; try `{shlex.join(step.command)}` by hand, and mend runner.samples in the profile"
        )
    wrong = [each for each in told if not 0 < each <= LARGEST_AMOUNT]
    if wrong:
        raise MeasureError(
            f"{work.cases[step.case].subject.record.name}: expected times above 0 from {work.profile.name}, got "
            f"{wrong[0]:g}; mend runner.samples in the profile: its column, its pattern or its unit"
        )
    factor = SECONDS[runner.samples.unit]
    tally.seconds += [factor * each for each in told[runner.discard :]]
    tally.rounds.append(step.runs)
    load = [each for each in _numbers(runner.load, text, work.printed) if each <= LARGEST_AMOUNT]
    peak = _numbers(runner.peak, text, work.printed)
    if runner.load and load:
        tally.load_s = min(filter(None, (tally.load_s, SECONDS[runner.load.unit] * load[0])))
    if runner.peak and peak:
        peak_bytes = min(LARGEST_COUNT, BYTES[runner.peak.unit] * max(peak))
        tally.peak_bytes = max(tally.peak_bytes or 0, round(peak_bytes)) or None
    work.done += step.runs


def _numbers(told: Told | None, text: str, printed: str) -> list[float]:
    """The numbers that stand where `told` says: in a column of the file's lines, or in what was printed."""
    if told is None:
        return []
    if isinstance(told, Column):
        whole = text[: text.rfind("\n") + 1]  # a line that was cut off may end in half a number
        rows = [line.split(",") for line in whole.splitlines()]
        found = [row[told.column] for row in rows if len(row) > told.column]
    else:
        found = re.findall(told.pattern, printed)
    return [float(each) for each in found if _is_number(each)]


def _is_number(word: str) -> bool:
    try:
        return 0 <= float(word) < math.inf
    except ValueError:
        return False


def _failure(step: Step, done: subprocess.CompletedProcess[str], profile: Profile) -> str:
    said = " / ".join((done.stderr or done.stdout).strip().splitlines()[-2:]) or "it said nothing"
    return (
        f"{profile.name}: `{shlex.join(step.command)}` failed ({step.why}; exit code {done.returncode}: {said}); "
        "see that the device is still there, and try that command by hand"
    )


def _measurement(case: Case, tally: Tally, ask: Ask, work: _Work, doubts: list[str]) -> Measurement:
    record = case.subject.record
    return Measurement(
        artifact=record.name,
        artifact_path=str(case.subject.path),
        artifact_sha256=case.subject.sha256,
        cell=record.cell,
        twin=record.twin,
        format=record.format,
        precision=record.precision,
        task=Task(
            runtime=work.profile.runner.runtime,
            threads=case.threads,
            batch=1,
            tokens=case.tokens,
            objects=record.objects,
            images=record.images,
            picture_size=record.picture_size,
            warmup=work.profile.runner.discard,
            runs=len(tally.seconds),
        ),
        machine=describe_device(work.facts, work.profile),
        target=work.profile.name,
        latency=Samples(unit="s", values=tally.seconds),
        rounds=tally.rounds,
        load_s=tally.load_s,
        peak_bytes=tally.peak_bytes,
        size_bytes=case.subject.size_bytes,
        parameters=record.parameters,
        flops=record.flops if case.tokens == record.tokens else None,
        doubts=sample_warnings(tally.seconds) + doubts,
    )


def describe_device(facts: Mapping[str, str], profile: Profile) -> Machine:
    """The device by what it says of itself; 0 cores or bytes of memory where it does not say."""
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
