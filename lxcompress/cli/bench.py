"""`lxcompress bench`: what artifacts cost to run, side by side."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from lxcompress.measure.artifacts import Keep
    from lxcompress.measure.device.profile import Profile
    from lxcompress.measure.plan import Ask
    from lxcompress.progress import Progress
    from lxcompress.records import Bench
    from lxcompress.rundir import RunDir

_RUNS = 50
_THREADS = 1


def bench_cli(
    artifacts: Annotated[list[Path], typer.Argument(metavar="ARTIFACT", help="Folders that lxcompress export wrote.")],
    threads: Annotated[
        str | None,
        typer.Option(metavar="N[,N]", help=f"Threads of each process.  [default: the run's recipe, else {_THREADS}]"),
    ] = None,
    lengths: Annotated[
        str | None,
        typer.Option(metavar="N[,N]", help="Tokens of each question.  [default: lengths drawn as the data has them]"),
    ] = None,
    runtimes: Annotated[
        str | None,
        typer.Option(
            metavar="NAME[,NAME]",
            help="torch, torch-compile, onnxruntime, openvino, openvino-bf16, executorch.  [default: a format's own]",
        ),
    ] = None,
    baseline: Annotated[
        Path | None,
        typer.Option(
            help="The artifact to compare with, or a bench kept as JSON.  [default: the dense one, else the first]"
        ),
    ] = None,
    runs: Annotated[
        int | None,
        typer.Option(help=f"Timed runs of each artifact, best 30 or more.  [default: the run's recipe, else {_RUNS}]"),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="File for the raw samples (JSON).  [default: measurements/ of the artifacts' run folder, if any]"
        ),
    ] = None,
    detector_ms: Annotated[
        float | None,
        typer.Option(
            min=0, help="What your region detector takes for a picture, to tell the model's share of an answer."
        ),
    ] = None,
    target: Annotated[str | None, typer.Option(help="adb: measure on a device that adb reaches.")] = None,
    profile: Annotated[Path | None, typer.Option(help="The device's profile (YAML), for --target adb.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print every command for the device, and run none.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the bench with summaries and ratios as JSON.")] = False,
) -> None:
    """Latency (p50, p90, p99), load time, memory and size on disk of exported artifacts.

    Each runs in a process of its own, in turns with the others, one question at a time. See docs/bench.md.

    \b
    Example: lxcompress bench runs/quickstart/artifacts/* --threads 1,2 --runs 100
    Or:      lxcompress bench runs/quickstart/artifacts/* --target adb --profile phone.yaml --dry-run
    """
    _check_target(target, profile, dry_run=dry_run, runtimes=runtimes)
    from lxcompress.cli.bench_table import show, show_steps
    from lxcompress.cli.screen import remarks
    from lxcompress.measure.artifacts import is_interrupted
    from lxcompress.measure.bench_paths import recover, run_of
    from lxcompress.measure.device.profile import read_profile
    from lxcompress.writing import check_out

    device, run = read_profile(profile) if profile else None, run_of(artifacts)
    kept = _read_kept(baseline)
    ask = _make_ask(run, threads, lengths, runtimes, runs, None if kept else baseline)
    if dry_run:
        assert device is not None
        show_steps(artifacts, ask, device)
        return
    for path in recover(run.measurements) if run else ():
        remarks.print(f"saved {path}: the samples of a bench that was cut off", markup=False, soft_wrap=True)
    place = out or _default_place(run, device)
    if out:
        check_out(out, [*artifacts, baseline, profile], kind="file")
    detector_s = None if detector_ms is None else detector_ms / 1000
    if place is None:
        bench = _measure(artifacts, ask, device, kept)
        show(bench, kept, None, detector_s=detector_s, as_json=as_json)
    else:
        bench = _measure_and_save(artifacts, ask, device, kept, place, detector_s=detector_s, as_json=as_json)
    if is_interrupted(bench):
        raise typer.Exit(130)


def _check_target(target: str | None, profile: Path | None, *, dry_run: bool, runtimes: str | None) -> None:
    """Wrong usage: options of a device without one, or the other way round."""
    if target not in (None, "adb"):
        raise typer.BadParameter(f"--target {target}: is unknown; give adb, or leave it out to measure on this machine")
    if target and profile is None:
        raise typer.BadParameter("--target adb needs --profile FILE; examples are in docs/devices/")
    if target is None and (profile is not None or dry_run):
        raise typer.BadParameter("--profile and --dry-run go with --target adb")
    if target and runtimes:
        raise typer.BadParameter("--runtimes is of this machine; on a device the profile says what runs")


def _make_ask(
    run: RunDir | None,
    threads: str | None,
    lengths: str | None,
    runtimes: str | None,
    runs: int | None,
    baseline: Path | None,
) -> Ask:
    """What was asked for, with the recipe's defaults where the artifacts are of a run."""
    from lxcompress.measure.plan import Ask
    from lxcompress.recipe import Bench as BenchDefaults
    from lxcompress.recipe import load_run_recipe

    defaults = load_run_recipe(run.recipe).bench if run else BenchDefaults(threads=_THREADS, runs=_RUNS)
    return Ask(
        threads=(defaults.threads,) if threads is None else _numbers("--threads", threads),
        runs=defaults.runs if runs is None else runs,
        lengths=() if lengths is None else _numbers("--lengths", lengths),
        runtimes=tuple(each.strip() for each in runtimes.split(",")) if runtimes else (),
        baseline=baseline,
    )


def _numbers(option: str, given: str) -> tuple[int, ...]:
    try:
        return tuple(int(each) for each in given.split(","))
    except ValueError:
        raise typer.BadParameter(f"{option}: expected whole numbers such as 1,2, got {given!r}") from None


def _read_kept(baseline: Path | None) -> Bench | None:
    """The bench kept in the file `baseline`; None if that is no file. Raises MeasureError."""
    if baseline is None or not baseline.is_file():
        return None
    from lxcompress.errors import MeasureError
    from lxcompress.records import Bench, read_record

    return read_record(baseline, Bench, MeasureError)


def _default_place(run: RunDir | None, device: Profile | None) -> Path | None:
    """Where a bench is kept that is given no --out: in the run, and apart if it was made on another device."""
    from datetime import datetime, timezone

    from lxcompress.measure.bench_paths import name_bench

    if run is None:
        return None
    return name_bench(run, datetime.now(timezone.utc), device=device.name if device else None)


def _measure_and_save(
    artifacts: Sequence[Path],
    ask: Ask,
    device: Profile | None,
    kept: Bench | None,
    place: Path,
    *,
    detector_s: float | None,
    as_json: bool,
) -> Bench:
    """Measure, with the samples kept as they come; show the table before it is saved, which may fail."""
    from lxcompress.cli.bench_table import show
    from lxcompress.measure.bench_paths import samples_kept, save_bench
    from lxcompress.writing import WriteError

    with samples_kept(place) as samples:
        bench = _measure(artifacts, ask, device, kept, samples.keep)
        try:
            save_bench(place, bench, samples)
        except WriteError:
            show(bench, kept, None, detector_s=detector_s, as_json=as_json)
            raise
    show(bench, kept, place, detector_s=detector_s, as_json=as_json)
    return bench


def _measure(
    artifacts: Sequence[Path],
    ask: Ask,
    device: Profile | None,
    kept: Bench | None,
    keep: Keep = lambda bench: None,
) -> Bench:
    """Measures here or on the device; Ctrl-C before there is anything to keep ends the command."""
    from lxcompress.cli.interrupt import say
    from lxcompress.machine import describe_machine
    from lxcompress.measure.artifacts import bench_artifacts
    from lxcompress.measure.compare import check_same_machine
    from lxcompress.measure.device.adb import bench_device

    if kept and kept.measurements and not device:
        check_same_machine(describe_machine(), kept.measurements[0])  # before minutes are spent
    try:
        with _progress() as progress:
            if device:
                return bench_device(artifacts, ask, device, progress=progress, keep=keep)
            return bench_artifacts(artifacts, ask, progress=progress, keep=keep)
    except KeyboardInterrupt:
        say("interrupted before anything was measured: nothing is kept")
        raise typer.Exit(130) from None


@contextmanager
def _progress() -> Iterator[Progress]:
    """Progress on standard error: a bar on a terminal, else a line now and then."""
    from lxcompress.cli.screen import remarks

    if not remarks.is_terminal:
        yield _print_lines()
        return
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as RichProgress

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with RichProgress(*columns, console=remarks, transient=True) as bar:
        task = bar.add_task("")

        def show(what: str, done: int = 0, total: int = 0, *, value: float | None = None) -> None:
            bar.update(task, description=what, completed=done, total=total)

        yield show


def _print_lines() -> Progress:
    from lxcompress.cli.screen import remarks

    said: set[str] = set()

    def show(what: str, done: int = 0, total: int = 0, *, value: float | None = None) -> None:
        stage = what.partition(" ")[0]  # a line for each stage, not for each artifact, whose runs take turns
        line = f"{stage}, {100 * done // total // 25 * 25}%" if stage == "measuring" else stage
        if line not in said:
            said.add(line)
            remarks.print(line, markup=False)

    return show
