"""The table of `lxcompress bench`: a block for each task, and below it what the table does not show."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich import box
from rich.measure import Measurement as Width
from rich.table import Table
from rich.text import Text

from lxcompress.cli.screen import out as screen
from lxcompress.cli.screen import remarks
from lxcompress.measure.compare import name_images
from lxcompress.measure.table import Row, read_rows, rows_json
from lxcompress.output import json_text
from lxcompress.units import GIGABYTE, MEGABYTE, significant, size_text

if TYPE_CHECKING:
    from lxcompress.measure.device.profile import Profile
    from lxcompress.measure.plan import Ask
    from lxcompress.records import Bench, Measurement, Task

# Below this the slowest run alone decides the 99th percentile.
_RUNS_FOR_P99 = 100
_TIMES = ("p50\nms", "p90\nms", "p99\nms", "answers\n/s")
_SIZES = ("load\ns", "cold\nstart s", "peak\nMB", "steady\nMB", "disk\nMB")
_RATIO = "p50 vs\nbaseline"
_LEAST_NAME = 14
"""Letters of a name that stay on one line; the rest is folded below them."""
_ABSENT = "-"


def show(bench: Bench, kept: Bench | None, place: Path | None, *, detector_s: float | None, as_json: bool) -> None:
    """Shows a bench, and where it is kept. Raises MeasureError if `kept` is of another machine."""
    rows = read_rows(bench, kept=kept, detector_s=detector_s)
    where = remarks if as_json else screen
    if as_json:
        typer.echo(json_text(rows_json(bench, rows, detector_s=detector_s)))
    else:
        _show_rows(rows, bench, kept, detector_s)
    if place:
        where.print(f"kept with its raw samples: {place}", soft_wrap=True, markup=False)
    else:
        where.print("not kept: these artifacts are of no one run folder; give --out FILE to keep the raw samples")


def show_steps(artifacts: Sequence[Path], ask: Ask, profile: Profile) -> None:
    """Prints every command of a bench on a device, each below what it is for. Raises MeasureError."""
    from lxcompress.measure.device.adb import plan_cases, plan_steps

    for step in plan_steps(plan_cases(artifacts, ask, profile), ask, profile, Path("SCRATCH")):
        screen.print(Text(f"# {step.why}", style="dim"), soft_wrap=True)
        screen.print(Text(shlex.join(step.command)), soft_wrap=True)


def _show_rows(rows: Sequence[Row], bench: Bench, kept: Bench | None, detector_s: float | None) -> None:
    groups, labels = _groups(rows), _names(rows)
    tables = {task: [_table(group, labels, (*_TIMES, _RATIO, *_SIZES))] for task, group in groups.items()}
    if not _fit(tables):
        tables = {
            task: [_table(group, labels, columns) for columns in ((*_TIMES, _RATIO), _SIZES)]
            for task, group in groups.items()
        }
    fits = _fit(tables)
    for task, group in groups.items():
        screen.print(Text(task, style="bold"))
        if fits:
            screen.print(*tables[task])
        else:
            _show_cards(group, labels)
    _show_subjects(rows, labels)
    _show_baseline(rows, bench, kept, labels)
    _show_detector(rows, labels, detector_s)
    _show_machine(rows)
    for remark in bench.remarks:
        screen.print(Text(f"note: {remark}", style="yellow"))
    for doubt in _doubts(rows, labels):
        screen.print(Text(f"warning: {doubt}", style="yellow"))


def _fit(tables: dict[str, list[Table]]) -> bool:
    """Whether the screen holds all tables, names folded but nothing cut."""
    wide = screen.options.update(max_width=1000)
    return all(Width.get(screen, wide, each).minimum <= screen.width for found in tables.values() for each in found)


def _groups(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """The rows of each task, which its words stand for."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(_task_words(row.measurement.task), []).append(row)
    return found


def _task_words(task: Task) -> str:
    threads = "1 thread" if task.threads == 1 else f"{task.threads} threads"
    return f"{threads}, {_question_words(task)}"


def _question_words(task: Task) -> str:
    if not task.lengths:
        return f"questions of {task.tokens} tokens"
    return f"questions of {min(task.lengths)} to {max(task.lengths)} tokens, half of them of {task.tokens} or fewer"


def _names(rows: Sequence[Row]) -> dict[tuple[str, str], str]:
    """The shortest words that tell artifacts and runtimes apart: what they stand for, their format, else their name."""
    subjects = {_subject(row.measurement): row.measurement for row in rows}
    ways: list[Callable[[Measurement], str]] = [lambda each: _name(each, rows)]
    if all(each.twin for each in subjects.values()):
        ways = [lambda each: each.twin or "", lambda each: f"{each.twin} {each.format}", *ways]
    for way in ways:
        names = {subject: way(each) for subject, each in subjects.items()}
        if len(set(names.values())) == len(names):
            return names
    return {subject: f"{name} {subjects[subject].task.runtime}" for subject, name in names.items()}


def _subject(measurement: Measurement) -> tuple[str, str]:
    return measurement.artifact_path, measurement.task.runtime


def _table(rows: Sequence[Row], labels: dict[tuple[str, str], str], columns: Sequence[str]) -> Table:
    """A row for each measurement, with the figures of `columns`; long names are folded."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    names = [labels[_subject(row.measurement)] for row in rows]
    table.add_column("artifact", overflow="fold", min_width=min(max(map(len, names)), _LEAST_NAME))
    for heading in columns:
        table.add_column(heading, justify="right", no_wrap=True)
    for row, name in zip(rows, names, strict=True):
        figures = _figures(row)
        table.add_row(Text(name), *(figures[heading] for heading in columns))
    return table


def _figures(row: Row) -> dict[str, str]:
    """The numbers of a row by their headings."""
    each = row.measurement
    times = [1000 * row.summary.p50, 1000 * row.summary.p90, 1000 * row.summary.p99, row.answers_per_s]
    memory = [_scaled(value, 1 / MEGABYTE) for value in (each.peak_bytes, each.steady_bytes, each.size_bytes)]
    sizes = [_scaled(each.load_s, 1), _scaled(each.cold_load_s, 1), *memory]
    headings = (*_TIMES, _RATIO, *_SIZES)
    return dict(zip(headings, (*map(_short, times), _ratio_words(row), *sizes), strict=True))


def _show_cards(group: Sequence[Row], labels: dict[tuple[str, str], str]) -> None:
    """A few lines for each row of a group, where a table has no room."""
    for row in group:
        p50, p90, p99, per_s, ratio, load, cold, peak, steady, disk = _figures(row).values()
        screen.print(Text(labels[_subject(row.measurement)]))
        screen.print(Text(f"  p50 {p50}, p90 {p90}, p99 {p99} ms"))
        screen.print(Text(f"  {per_s} answers a second"))
        screen.print(Text(f"  load {load}, cold start {cold} s"))
        screen.print(Text(f"  peak {peak}, steady {steady}, disk {disk} MB"))
        screen.print(Text(f"  p50 vs baseline: {ratio}"))


def _ratio_words(row: Row) -> str:
    ratio = row.ratio
    if ratio is None:
        return "baseline"
    if ratio.verdict == "no difference":
        return "no difference"
    within = "" if ratio.low is None or ratio.high is None else f" {ratio.low:.2f}-{ratio.high:.2f}"
    return f"x{ratio.value:.2f}{within}"


def _show_subjects(rows: Sequence[Row], labels: dict[tuple[str, str], str]) -> None:
    """What each label stands for, and what one answer takes of it."""
    shown: set[tuple[str, str]] = set()
    for row in rows:
        each = row.measurement
        if _subject(each) in shown:
            continue
        shown.add(_subject(each))
        label, name = labels[_subject(each)], _name(each, rows)
        name = f"{label}: " if label.startswith(name) else f"{label}: {name}, "
        energy = _energy_words([other for other in rows if _subject(other.measurement) == _subject(each)], rows)
        screen.print(Text(f"{name}{each.format} {each.precision} in {each.task.runtime}{_work_words(each)}{energy}"))


def _name(measurement: Measurement, rows: Sequence[Row]) -> str:
    """The artifact's name, or its path where two share a name."""
    paths = {row.measurement.artifact_path for row in rows if row.measurement.artifact == measurement.artifact}
    return measurement.artifact if len(paths) == 1 else measurement.artifact_path


def _work_words(measurement: Measurement) -> str:
    parts = []
    if measurement.flops is not None:
        parts.append(f"{significant(measurement.flops / 1e9)} GFLOP")
    if measurement.read_bytes is not None:
        parts.append(f"{size_text(measurement.read_bytes)} of weights read")
    return f"; an answer: {', '.join(parts)}" if parts else ""


def _energy_words(some: Sequence[Row], rows: Sequence[Row]) -> str:
    """What an answer takes of the processor, in each task; empty where this machine does not tell."""
    told = [
        f"{significant(row.measurement.energy_j)} J{_task_suffix(row, rows)}"
        for row in some
        if row.measurement.energy_j is not None
    ]
    return f"; {', '.join(told)}" if told else ""


def _show_baseline(rows: Sequence[Row], bench: Bench, kept: Bench | None, labels: dict[tuple[str, str], str]) -> None:
    """What the ratios mean, and how far apart two equals came."""
    ratios = [row.ratio for row in rows if row.ratio]
    if not ratios:
        return
    if kept is not None:
        screen.print(Text(f"ratios: to the bench of {kept.started}, made at another time: part of them may be drift"))
    elif bench.noise:
        floors = {_task_suffix(row, rows): row.ratio.floor for row in rows if row.ratio}
        words = ", ".join(f"{100 * floor:.1f} %{suffix}" for suffix, floor in floors.items())
        screen.print(Text(f"noise floor: {words} (baseline measured twice); ratios have 95 % intervals"))
    for doubt in dict.fromkeys(doubt for ratio in ratios for doubt in ratio.doubts):
        whose = _whose([row for row in rows if row.ratio and doubt in row.ratio.doubts], rows, labels)
        screen.print(Text(f"warning: {whose}: {doubt}", style="yellow"))
    if any(ratio.low is None for ratio in ratios):
        screen.print(Text("warning: ratios of so few runs have no interval; give --runs 30 or more", style="yellow"))


def _show_detector(rows: Sequence[Row], labels: dict[tuple[str, str], str], detector_s: float | None) -> None:
    """What part of a whole answer the model is, or that this is not known."""
    if all(row.measurement.task.picture_size for row in rows):
        if detector_s is not None:
            words = "warning: --detector-ms has no effect: these models read pictures whole, without a detector"
            screen.print(Text(words, style="yellow"))
        return
    if detector_s is None:
        words = (
            "region features come from a detector that is not measured here: --detector-ms X tells the model's share"
        )
        screen.print(Text(words, style="dim"))
        return
    baseline = next((row for row in rows if row.ratio is None), rows[0])
    fastest = min(rows, key=lambda row: row.summary.p50)
    for row in (baseline, fastest) if fastest is not baseline else (baseline,):
        label = _label_of(row, rows, labels)
        answer, share = 1000 * row.summary.p50, 100 * (row.share or 0)
        screen.print(
            Text(
                f"{label}: answer {_short(answer)} ms + detector {1000 * detector_s:g} ms given by you: "
                f"the model is {share:.0f} %"
            )
        )


def _show_machine(rows: Sequence[Row]) -> None:
    first = rows[0].measurement
    machine, task = first.machine, first.task
    runs = min(row.measurement.task.runs for row in rows)
    where = f"{first.target}: " if first.target else ""
    memory = f", {machine.memory_bytes / GIGABYTE:.0f} GB" if machine.memory_bytes else ""
    screen.print(Text(f"one question of {name_images(task)} at a time, {runs} runs each", style="dim"))
    cores = "1 core" if machine.cores == 1 else f"{machine.cores} cores"
    screen.print(Text(f"{where}{machine.processor}, {cores}{memory}, {machine.system}", style="dim"))
    screen.print(Text(", ".join(f"{name} {found}" for name, found in _versions(rows).items()), style="dim"))
    if runs < _RUNS_FOR_P99:
        screen.print(Text(f"p99 of fewer than {_RUNS_FOR_P99} runs is nearly the slowest run", style="dim"))


def _versions(rows: Sequence[Row]) -> dict[str, str]:
    """The libraries that had a part in it; on another device all that is known."""
    first = rows[0].measurement
    used = {row.measurement.task.runtime.partition("-")[0] for row in rows} | {"lxcompress"}
    return {name: found for name, found in first.machine.packages.items() if first.target or name in used}


def _label_of(row: Row, rows: Sequence[Row], labels: dict[tuple[str, str], str]) -> str:
    """A row's label, with its threads or tokens where the bench has more than one of them."""
    return labels[_subject(row.measurement)] + _task_suffix(row, rows)


def _task_suffix(row: Row, rows: Sequence[Row]) -> str:
    """What tells a row from others of its artifact and runtime; empty if nothing needs to."""
    task, words = row.measurement.task, ""
    if len({each.measurement.task.tokens for each in rows}) > 1:
        words += f" with {task.tokens} tokens"
    if len({each.measurement.task.threads for each in rows}) > 1:
        words += f" on {task.threads} threads" if task.threads > 1 else " on 1 thread"
    return words


def _doubts(rows: Sequence[Row], labels: dict[tuple[str, str], str]) -> list[str]:
    """Each kind of doubt once: whose it is, and its words; those of the first where they differ from row to row."""
    kinds: dict[str, list[tuple[Row, str]]] = {}
    for row in rows:
        for doubt in row.measurement.doubts:
            kinds.setdefault(doubt.partition(":")[0], []).append((row, doubt))
    lines = []
    for kind, said in kinds.items():
        first, words = said[0]
        whose = "all" if len(said) == len(rows) > 1 else _whose([row for row, _ in said], rows, labels)
        if len({doubt for _, doubt in said}) == 1:
            lines.append(f"{whose}: {words}")
        else:
            lines.append(f"{whose}: {kind}; for example {_label_of(first, rows, labels)}:{words.partition(':')[2]}")
    return lines


def _whose(some: Sequence[Row], rows: Sequence[Row], labels: dict[tuple[str, str], str]) -> str:
    """The labels of some of the rows, those of one task together."""
    by_task: dict[str, list[str]] = {}
    for row in some:
        by_task.setdefault(_task_suffix(row, rows), []).append(labels[_subject(row.measurement)])
    return "; ".join(", ".join(names) + suffix for suffix, names in by_task.items())


def _scaled(value: float | None, factor: float) -> str:
    return _ABSENT if value is None else _short(factor * value)


def _short(value: float) -> str:
    """Three significant digits, never in powers of ten."""
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"
