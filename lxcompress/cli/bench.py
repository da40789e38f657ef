"""`lxcompress bench`: measure the latency, load time, memory and size of artifacts, side by side."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lxcompress.catalog.runtimes import RUNTIMES

if TYPE_CHECKING:
    from lxcompress.cli.bench_table import BenchView
    from lxcompress.measure.extractor import ExtractorTime
    from lxcompress.measure.plan import BenchOptions
    from lxcompress.progress import Progress
    from lxcompress.records import BenchRecord
    from lxcompress.rundir import RunDir
    from lxcompress.workflow.bench import BenchRequest

IMPORT_OPTIONS = ("artifacts", "--import", "--json")
"""The argument and the options of the command that --import uses."""


def bench_cli(
    context: typer.Context,
    artifacts: Annotated[
        list[Path], typer.Argument(metavar="ARTIFACT", help="Folders that `lxcompress export` wrote.")
    ],
    threads: Annotated[
        str | None,
        typer.Option(metavar="N[,N]", help="Threads of each process.  [default: the run's recipe, else 1]"),
    ] = None,
    lengths: Annotated[
        str | None,
        typer.Option(metavar="N[,N]", help="Tokens of each question.  [default: lengths drawn from the data's]"),
    ] = None,
    runtimes: Annotated[
        str | None,
        typer.Option(
            metavar="NAME[,NAME]",
            help=f"{', '.join(RUNTIMES)}, or one that another package adds.  [default: the usual one of each format]",
        ),
    ] = None,
    baseline: Annotated[
        Path | None,
        typer.Option(
            help="The artifact to compare with, or a saved bench (JSON).  [default: the dense one, else the first]"
        ),
    ] = None,
    runs: Annotated[
        int | None,
        typer.Option(
            help="Timed runs of each artifact, at least 30 for intervals.  [default: the run's recipe, else 50]"
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="File for the raw samples (JSON).  [default: in measurements/ of the artifacts' run folder]"),
    ] = None,
    detector_ms: Annotated[
        float | None,
        typer.Option(
            min=0, help="Milliseconds of your region detector per image; shows the model's share of an answer."
        ),
    ] = None,
    extractor: Annotated[
        Path | None,
        typer.Option(help="An exported extractor to measure too; shows its share of an answer."),
    ] = None,
    target: Annotated[str | None, typer.Option(help="adb: measure on an Android device that adb reaches.")] = None,
    profile: Annotated[
        Path | None,
        typer.Option(help="The device's profile (YAML), for --target adb; by default, that of engine files."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print every command for the device; run none of them.")
    ] = False,
    import_: Annotated[
        Path | None,
        typer.Option("--import", help="Instead of measuring, save a measurement of the page in the run folder RUN."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the bench with summaries and ratios as JSON.")] = False,
) -> None:
    """Measure latency (p50, p90, p99), load time, memory and size of exported artifacts.

    Each artifact runs in a separate process, in turns with the others, one question at a time. See docs/bench.md.

    \b
    Example: lxcompress bench runs/quickstart/artifacts/* --threads 1,2 --runs 100
    Or:      lxcompress bench runs/quickstart/artifacts/*-engine-int8 --target adb
    Or:      lxcompress bench runs/quickstart --import phone.json
    """
    if import_ is not None:
        _check_import(context)
        _import_measurement(artifacts, import_, as_json=as_json)
        return
    _check_target(target, profile, dry_run=dry_run, runtimes=runtimes)
    if extractor is not None and (detector_ms is not None or target):
        raise typer.BadParameter("--extractor is measured on this machine; leave --detector-ms and --target out")
    from lxcompress.cli.bench_table import BenchView, show_steps
    from lxcompress.cli.screen import remarks
    from lxcompress.measure.artifacts import is_interrupted
    from lxcompress.measure.bench_paths import find_common_run, recover
    from lxcompress.measure.device.profile import ENGINE_PROFILE, read_profile
    from lxcompress.workflow.bench import BenchRequest, default_file, read_earlier
    from lxcompress.writing import check_out

    device, run = read_profile(profile or ENGINE_PROFILE) if target else None, find_common_run(artifacts)
    earlier = read_earlier(baseline)
    options = _read_options(run, threads, lengths, runtimes, runs)
    options = replace(options, baseline=None if earlier else baseline)
    if dry_run:
        assert device is not None
        show_steps(artifacts, options, device)
        return
    for saved in recover(run.measurements) if run else ():
        remarks.print(f"saved {saved}: the samples of an interrupted bench", markup=False, soft_wrap=True)
    path = out or default_file(run, device)
    if out:
        check_out(out, [*artifacts, baseline, profile], kind="file")
    request = BenchRequest(artifacts, options, device, earlier)
    found = None if extractor is None else _time_extractor(extractor, options)
    detector_s = found.median_s if found else None if detector_ms is None else detector_ms / 1000
    view = BenchView(earlier, detector_s=detector_s, as_json=as_json, extractor=found.words if found else None)
    if is_interrupted(_measure(request, path, view)):
        raise typer.Exit(130)


def _check_import(context: typer.Context) -> None:
    """Raise BadParameter if an option is given that has no effect with --import."""
    sources = {option.opts[-1]: context.get_parameter_source(option.name or "") for option in context.command.params}
    given = [name for name, source in sources.items() if source and source.name == "COMMANDLINE"]
    given = [name for name in given if name not in IMPORT_OPTIONS]
    if given:
        raise typer.BadParameter(
            f"{', '.join(given)}: has no effect with --import, which saves a finished measurement; leave it out"
        )


def _import_measurement(runs: list[Path], file: Path, *, as_json: bool) -> None:
    """Save a measurement that the page of `lxcompress app` saved in a file, as a bench of its device; show it."""
    from lxcompress.cli.bench_table import BenchView
    from lxcompress.rundir import open_run
    from lxcompress.web.inbox import keep_measurement
    from lxcompress.web.records import read_measurement

    if len(runs) != 1:
        raise typer.BadParameter(f"--import saves in one run folder, and {len(runs)} were given")
    path, bench = keep_measurement(read_measurement(file), open_run(runs[0]))
    BenchView(None, detector_s=None, as_json=as_json).show(bench, path)


def _time_extractor(folder: Path, options: BenchOptions) -> ExtractorTime:
    """Return the measured time of an exported extractor, on the first of the numbers of threads."""
    from lxcompress.cli.progress import working

    with working(f"measuring {folder.name}"):
        from lxcompress.measure.extractor import measure_extractor

        return measure_extractor(folder, threads=options.threads[0], runs=options.runs)


def _check_target(target: str | None, profile: Path | None, *, dry_run: bool, runtimes: str | None) -> None:
    """Raise BadParameter if an option needs a device and no device is given, or if an option does not fit a device."""
    if target not in (None, "adb"):
        raise typer.BadParameter(f"--target {target}: is unknown; give adb, or leave it out to measure on this machine")
    if target is None and (profile is not None or dry_run):
        raise typer.BadParameter("--profile and --dry-run need --target adb")
    if target and runtimes:
        raise typer.BadParameter("--runtimes is for this machine; on a device the profile names the runtime")


def _read_options(
    run: RunDir | None, threads: str | None, lengths: str | None, runtimes: str | None, runs: int | None
) -> BenchOptions:
    """Return the options of the command line; threads and runs that are not given are those of the run's recipe."""
    from lxcompress.workflow.bench import default_options

    default = default_options(run)
    return replace(
        default,
        threads=default.threads if threads is None else _numbers("--threads", threads),
        runs=default.runs if runs is None else runs,
        lengths=() if lengths is None else _numbers("--lengths", lengths),
        runtimes=tuple(name.strip() for name in runtimes.split(",")) if runtimes else (),
    )


def _numbers(option: str, given: str) -> tuple[int, ...]:
    """Return the whole numbers in a text such as "1,2". Raises BadParameter."""
    try:
        return tuple(int(number) for number in given.split(","))
    except ValueError:
        raise typer.BadParameter(f"{option}: expected whole numbers such as 1,2, got {given!r}") from None


def _measure(request: BenchRequest, path: Path | None, view: BenchView) -> BenchRecord:
    """Measure the artifacts, save the bench in the file `path` unless that is None, and show it; return the bench.

    Ends the command if an interrupt comes before anything was measured.
    """
    from lxcompress.cli.interrupt import say
    from lxcompress.workflow.bench import measure, measure_and_save

    try:
        with _progress() as progress:
            if path is None:
                bench = measure(request, progress=progress)
            else:
                bench = measure_and_save(
                    request, path, progress=progress, show_unsaved=lambda bench: view.show(bench, None)
                )
    except KeyboardInterrupt:
        say("interrupted before anything was measured; nothing is saved")
        raise typer.Exit(130) from None
    view.show(bench, path)
    return bench


@contextmanager
def _progress() -> Iterator[Progress]:
    """Yield a function that shows the progress: a bar on a terminal, else a line for each quarter of the runs."""
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
    """Return a function that prints a line when a stage of the bench begins, and one for each quarter of the runs."""
    from lxcompress.cli.screen import remarks

    printed: set[str] = set()

    def show(what: str, done: int = 0, total: int = 0, *, value: float | None = None) -> None:
        stage = what.partition(" ")[0]  # one line for each stage: the artifacts take turns
        line = f"{stage}, {100 * done // total // 25 * 25}%" if stage == "measuring" else stage
        if line not in printed:
            printed.add(line)
            remarks.print(line, markup=False)

    return show
