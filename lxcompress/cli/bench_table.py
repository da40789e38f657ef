"""Show a bench: a table for each task (threads and lengths), and below it the remarks and warnings."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
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
from lxcompress.measure.table import BenchRow, read_rows, rows_json
from lxcompress.output import json_text
from lxcompress.units import GIGABYTE, MEGABYTE, significant, size_text

if TYPE_CHECKING:
    from lxcompress.measure.device.profile import Profile
    from lxcompress.measure.plan import BenchOptions
    from lxcompress.records import BenchRecord, Measurement, Task

_RUNS_FOR_P99 = 100
"""With fewer runs than this, the 99th percentile is close to the slowest run."""
_TIMES = ("p50\nms", "p90\nms", "p99\nms", "answers\n/s")
_SIZES = ("load\ns", "cold\nstart s", "peak\nMB", "steady\nMB", "disk\nMB")
_RATIO = "p50 vs\nbaseline"
_LEAST_NAME = 14
"""The number of characters of a name that stay on one line; a longer name may be folded."""
_ABSENT = "-"
Subject = tuple[str, str]
"""The path of an artifact, and its runtime."""
Labels = dict[Subject, str]


@dataclass(frozen=True)
class BenchView:
    """The settings for showing a bench.

    `earlier` is the saved bench that the bench is compared with, or None. `detector_s` is the time of the region
    detector or extractor in seconds, if it is known. With `as_json`, the bench is printed as JSON. `extractor` says
    which extractor was measured; None if the user gave the time.
    """

    earlier: BenchRecord | None
    detector_s: float | None
    as_json: bool
    extractor: str | None = None

    def show(self, bench: BenchRecord, path: Path | None) -> None:
        """Show a bench, and the file `path` that it was saved in. Raises MeasureError for two different machines."""
        rows = read_rows(bench, kept=self.earlier, detector_s=self.detector_s)
        console = remarks if self.as_json else screen
        if self.as_json:
            typer.echo(json_text(rows_json(bench, rows, detector_s=self.detector_s)))
        else:
            self._show_rows(rows, bench)
        if path:
            console.print(f"saved with its raw samples: {path}", soft_wrap=True, markup=False)
        else:
            console.print("not saved: the artifacts share no run folder; give --out FILE to save the raw samples")

    def _show_rows(self, rows: Sequence[BenchRow], bench: BenchRecord) -> None:
        """Show the tables of the bench, and below them the subjects, the baseline, the machine and the warnings."""
        groups, labels = _groups(rows), _names(rows)
        _show_tables(groups, labels)
        _show_subjects(rows, labels)
        _show_baseline(rows, bench, self.earlier, labels)
        _show_detector(rows, labels, self)
        _show_machine(rows)
        for remark in bench.remarks:
            screen.print(Text(f"note: {remark}", style="yellow"))
        for doubt in _doubts(rows, labels):
            screen.print(Text(f"warning: {doubt}", style="yellow"))


def show_steps(artifacts: Sequence[Path], options: BenchOptions, profile: Profile) -> None:
    """Print every command of a bench on a device, each below its purpose. Raises MeasureError."""
    from lxcompress.measure.device.adb import plan_cases, plan_steps

    for step in plan_steps(plan_cases(artifacts, options, profile), options, profile, Path("SCRATCH")):
        screen.print(Text(f"# {step.why}", style="dim"), soft_wrap=True)
        screen.print(Text(shlex.join(step.command)), soft_wrap=True)


def _show_tables(groups: Mapping[str, Sequence[BenchRow]], labels: Labels) -> None:
    """Show one table for each task. If it is too wide, show two tables, or a few lines for each row."""
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


def _fit(tables: dict[str, list[Table]]) -> bool:
    """Return whether all tables fit into the width of the screen, with folded names."""
    wide = screen.options.update(max_width=1000)
    return all(Width.get(screen, wide, table).minimum <= screen.width for group in tables.values() for table in group)


def _groups(rows: Sequence[BenchRow]) -> dict[str, list[BenchRow]]:
    """Return {task in words: rows of the bench with this task}."""
    groups: dict[str, list[BenchRow]] = {}
    for row in rows:
        groups.setdefault(_task_words(row.measurement.task), []).append(row)
    return groups


def _task_words(task: Task) -> str:
    """Return the threads and the lengths of a task as text."""
    threads = "1 thread" if task.threads == 1 else f"{task.threads} threads"
    return f"{threads}, {_question_words(task)}"


def _question_words(task: Task) -> str:
    """Return the lengths of a task's questions as text."""
    if not task.lengths:
        return f"questions of {task.tokens} tokens"
    return f"questions of {min(task.lengths)} to {max(task.lengths)} tokens (median {task.tokens})"


def _names(rows: Sequence[BenchRow]) -> Labels:
    """Return a short label for each artifact and runtime; all labels differ.

    The label is the twin; if twins are equal, the twin and its format; else the name of the artifact, or its path. If
    these are equal too, the runtime is added.
    """
    subjects = {_subject(row.measurement): row.measurement for row in rows}
    ways: list[Callable[[Measurement], str]] = [lambda measurement: _name(measurement, rows)]
    if all(measurement.twin for measurement in subjects.values()):
        with_format: Callable[[Measurement], str] = lambda measurement: f"{measurement.twin} {measurement.format}"  # noqa: E731
        ways = [lambda measurement: measurement.twin or "", with_format, *ways]
    for way in ways:
        names = {subject: way(measurement) for subject, measurement in subjects.items()}
        if len(set(names.values())) == len(names):
            return names
    return {subject: f"{name} {subjects[subject].task.runtime}" for subject, name in names.items()}


def _subject(measurement: Measurement) -> Subject:
    """Return the artifact and the runtime of a measurement, which share a label."""
    return measurement.artifact_path, measurement.task.runtime


def _table(rows: Sequence[BenchRow], labels: Labels, columns: Sequence[str]) -> Table:
    """Return a table with the headings `columns` and a row for each measurement; long names are folded."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    names = [labels[_subject(row.measurement)] for row in rows]
    table.add_column("artifact", overflow="fold", min_width=min(max(map(len, names)), _LEAST_NAME))
    for heading in columns:
        table.add_column(heading, justify="right", no_wrap=True)
    for row, name in zip(rows, names, strict=True):
        figures = _figures(row)
        table.add_row(Text(name), *(figures[heading] for heading in columns))
    return table


def _figures(row: BenchRow) -> dict[str, str]:
    """Return {heading: number as text} for one row of the bench."""
    made = row.measurement
    times = [1000 * row.summary.p50, 1000 * row.summary.p90, 1000 * row.summary.p99, row.answers_per_s]
    memory = [_scaled(value, 1 / MEGABYTE) for value in (made.peak_bytes, made.steady_bytes, made.size_bytes)]
    sizes = [_scaled(made.load_s, 1), _scaled(made.cold_load_s, 1), *memory]
    headings = (*_TIMES, _RATIO, *_SIZES)
    return dict(zip(headings, (*map(_short, times), _ratio_words(row), *sizes), strict=True))


def _show_cards(group: Sequence[BenchRow], labels: Labels) -> None:
    """Show a few lines for each row of the bench, for a screen that is too narrow for a table."""
    for row in group:
        p50, p90, p99, per_s, ratio, load, cold, peak, steady, disk = _figures(row).values()
        screen.print(Text(labels[_subject(row.measurement)]))
        screen.print(Text(f"  p50 {p50}, p90 {p90}, p99 {p99} ms"))
        screen.print(Text(f"  {per_s} answers per second"))
        screen.print(Text(f"  load {load}, cold start {cold} s"))
        screen.print(Text(f"  peak {peak}, steady {steady}, disk {disk} MB"))
        screen.print(Text(f"  p50 vs baseline: {ratio}"))


def _ratio_words(row: BenchRow) -> str:
    """Return the ratio of the median time to that of the baseline as text, with its interval."""
    ratio = row.ratio
    if ratio is None:
        return "baseline"
    if ratio.verdict == "no difference":
        return "no difference"
    within = "" if ratio.low is None or ratio.high is None else f" {ratio.low:.2f}-{ratio.high:.2f}"
    return f"x{ratio.value:.2f}{within}"


def _show_subjects(rows: Sequence[BenchRow], labels: Labels) -> None:
    """Show for each label the format, precision and runtime, and the operations and energy of one answer."""
    shown: set[Subject] = set()
    for row in rows:
        made = row.measurement
        subject = _subject(made)
        if subject in shown:
            continue
        shown.add(subject)
        label, name = labels[subject], _name(made, rows)
        name = f"{label}: " if label.startswith(name) else f"{label}: {name}, "
        energy = _energy_words([other for other in rows if _subject(other.measurement) == subject], rows)
        screen.print(Text(f"{name}{made.format} {made.precision} in {made.task.runtime}{_work_words(made)}{energy}"))


def _name(measurement: Measurement, rows: Sequence[BenchRow]) -> str:
    """Return the name of a measured artifact, or its path if another artifact of the bench has the same name."""
    paths = {row.measurement.artifact_path for row in rows if row.measurement.artifact == measurement.artifact}
    return measurement.artifact if len(paths) == 1 else measurement.artifact_path


def _work_words(measurement: Measurement) -> str:
    """Return as text the operations of one answer and the weights that it reads; empty if both are unknown."""
    parts = []
    if measurement.flops is not None:
        parts.append(f"{significant(measurement.flops / 1e9)} GFLOP")
    if measurement.read_bytes is not None:
        parts.append(f"{size_text(measurement.read_bytes)} of weights read")
    return f"; per answer: {', '.join(parts)}" if parts else ""


def _energy_words(some: Sequence[BenchRow], rows: Sequence[BenchRow]) -> str:
    """Return as text the energy of one answer in each task; empty if the machine does not measure energy."""
    energies = [
        f"{significant(row.measurement.energy_j)} J{_task_suffix(row, rows)}"
        for row in some
        if row.measurement.energy_j is not None
    ]
    return f"; {', '.join(energies)}" if energies else ""


def _show_baseline(rows: Sequence[BenchRow], bench: BenchRecord, earlier: BenchRecord | None, labels: Labels) -> None:
    """Show what the ratios are relative to, and how much two processes of the baseline differ (the noise floor)."""
    ratios = [row.ratio for row in rows if row.ratio]
    if not ratios:
        return
    if earlier is not None:
        screen.print(
            Text(f"ratios: relative to the bench of {earlier.started}; part of a ratio may be drift since then")
        )
    elif bench.noise:
        floors = {_task_suffix(row, rows): row.ratio.floor for row in rows if row.ratio}
        words = ", ".join(f"{100 * floor:.1f} %{suffix}" for suffix, floor in floors.items())
        screen.print(Text(f"noise floor: {words} (baseline measured twice); ratios have 95 % intervals"))
    for doubt in dict.fromkeys(doubt for ratio in ratios for doubt in ratio.doubts):
        owners = _labels_of([row for row in rows if row.ratio and doubt in row.ratio.doubts], rows, labels)
        screen.print(Text(f"warning: {owners}: {doubt}", style="yellow"))
    if any(ratio.low is None for ratio in ratios):
        screen.print(Text("warning: too few runs for intervals of the ratios; give --runs 30 or more", style="yellow"))


def _show_detector(rows: Sequence[BenchRow], labels: Labels, view: BenchView) -> None:
    """Show the extractor's share of a whole answer, or the options that show this share."""
    detector_s = view.detector_s
    if view.extractor is None and all(row.measurement.task.picture_size for row in rows):
        if detector_s is not None:
            words = "warning: --detector-ms has no effect: these models read whole images, without a detector"
            screen.print(Text(words, style="yellow"))
        return
    if detector_s is None:
        words = (
            "region features come from an extractor, which is not measured; --extractor FOLDER measures it, "
            "--detector-ms X gives its time"
        )
        screen.print(Text(words, style="dim"))
        return
    baseline = next((row for row in rows if row.ratio is None), rows[0])
    fastest = min(rows, key=lambda row: row.summary.p50)
    for row in (baseline, fastest) if fastest is not baseline else (baseline,):
        label = _label_of(row, rows, labels)
        answer, share = 1000 * row.summary.p50, 100 * (1 - (row.share or 0))
        name = "extractor" if view.extractor else "detector"
        how = f"({view.extractor})" if view.extractor else "(as given)"
        screen.print(
            Text(
                f"{label}: {name} {_short(1000 * detector_s)} ms {how} + model {_short(answer)} ms: the {name} takes "
                f"{share:.0f} % of the answer"
            )
        )


def _show_machine(rows: Sequence[BenchRow]) -> None:
    """Show the machine, the versions of the libraries, and the number of runs."""
    first = rows[0].measurement
    machine, task = first.machine, first.task
    runs = min(row.measurement.task.runs for row in rows)
    target = f"{first.target}: " if first.target else ""
    memory = f", {machine.memory_bytes / GIGABYTE:.0f} GB" if machine.memory_bytes else ""
    screen.print(Text(f"one question of {name_images(task)} at a time, {runs} runs each", style="dim"))
    cores = "1 core" if machine.cores == 1 else f"{machine.cores} cores"
    screen.print(Text(f"{target}{machine.processor}, {cores}{memory}, {machine.system}", style="dim"))
    screen.print(Text(", ".join(f"{name} {version}" for name, version in _versions(rows).items()), style="dim"))
    if runs < _RUNS_FOR_P99:
        screen.print(Text(f"with fewer than {_RUNS_FOR_P99} runs, p99 is close to the slowest run", style="dim"))


def _versions(rows: Sequence[BenchRow]) -> dict[str, str]:
    """Return {library: version} for the libraries that were used; for another device, all known versions."""
    first = rows[0].measurement
    used = {row.measurement.task.runtime.partition("-")[0] for row in rows} | {"lxcompress"}
    return {name: version for name, version in first.machine.packages.items() if first.target or name in used}


def _label_of(row: BenchRow, rows: Sequence[BenchRow], labels: Labels) -> str:
    """Return the label of a row, with its tokens and threads if the rows of the bench differ in them."""
    return labels[_subject(row.measurement)] + _task_suffix(row, rows)


def _task_suffix(row: BenchRow, rows: Sequence[BenchRow]) -> str:
    """Return the tokens and threads of a row as text, so far as the rows of the bench differ in them."""
    task, words = row.measurement.task, ""
    if len({other.measurement.task.tokens for other in rows}) > 1:
        words += f" with {task.tokens} tokens"
    if len({other.measurement.task.threads for other in rows}) > 1:
        words += f" on {task.threads} threads" if task.threads > 1 else " on 1 thread"
    return words


def _doubts(rows: Sequence[BenchRow], labels: Labels) -> list[str]:
    """Return one line for each kind of warning: the labels that it concerns, and the text of the first such warning."""
    kinds: dict[str, list[tuple[BenchRow, str]]] = {}
    for row in rows:
        for doubt in row.measurement.doubts:
            kinds.setdefault(doubt.partition(":")[0], []).append((row, doubt))
    lines = []
    for kind, found in kinds.items():
        first, words = found[0]
        owners = "all" if len(found) == len(rows) > 1 else _labels_of([row for row, _ in found], rows, labels)
        if len({doubt for _, doubt in found}) == 1:
            lines.append(f"{owners}: {words}")
        else:
            lines.append(f"{owners}: {kind}; for example {_label_of(first, rows, labels)}:{words.partition(':')[2]}")
    return lines


def _labels_of(some: Sequence[BenchRow], rows: Sequence[BenchRow], labels: Labels) -> str:
    """Return the labels of the rows `some` as text, grouped by task."""
    by_task: dict[str, list[str]] = {}
    for row in some:
        by_task.setdefault(_task_suffix(row, rows), []).append(labels[_subject(row.measurement)])
    return "; ".join(", ".join(names) + suffix for suffix, names in by_task.items())


def _scaled(value: float | None, factor: float) -> str:
    """Return a value times `factor` as text; "-" if it is unknown."""
    return _ABSENT if value is None else _short(factor * value)


def _short(value: float) -> str:
    """Return a number with three significant digits, without an exponent."""
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"
