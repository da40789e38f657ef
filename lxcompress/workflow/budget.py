"""Prune one model to a budget: find the smallest sparsity whose exported file is small or fast enough.

Every size and every latency is that of a real file: the model is pruned, exported and, for a latency, measured on this
machine. Sizes and latencies between two tried sparsities are interpolated to choose the next sparsity to try.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from lxcompress.errors import PruneError
from lxcompress.progress import no_progress

if TYPE_CHECKING:
    from lxcompress.exporters.formats import ExportOptions
    from lxcompress.progress import Progress
    from lxcompress.records import Artifact, Provenance
    from lxcompress.study.options import PruneOptions

MOST = (0.95, 0.9, 0.8, 0.7, 0.5, 0.3, 0.15)
"""The sparsities to begin with, highest first: the first that the model can be pruned to."""
NARROW = 0.01
"""The search ends when the sparsity is known to this width."""
MOST_TRIALS = 10
"""The most files that the search makes between the dense one and the sparsest one."""
RUNS = 50
"""The number of questions of each measurement."""
MB = 1e6


@dataclass(frozen=True)
class PruneBudget:
    """The file to ship, and what it may cost; at least one of the limits is given."""

    format: str = "onnx"
    precision: str | None = None
    """the precision of the file; None is the default of the format"""
    max_size_mb: float | None = None
    max_latency_ms: float | None = None
    """the largest median latency of one question, on one thread of this machine"""

    def check(self, options: PruneOptions) -> None:
        """Raise LxError for a limit that is not positive, an unknown format, and `options` that fix the sparsity."""
        from lxcompress.exporters.formats import check_format

        limits = {"--max-size-mb": self.max_size_mb, "--max-latency-ms": self.max_latency_ms}
        given = {name: limit for name, limit in limits.items() if limit is not None}
        if not given:
            raise PruneError("--format: is for a budget; give --max-size-mb or --max-latency-ms with it")
        for name, limit in given.items():
            if not 0 < limit < float("inf"):
                raise PruneError(f"{name} {limit:g}: expected a number above 0")
        check_format(self.format, self.precision)
        if options.first and options.first.sparsity >= MOST[0]:
            raise PruneError(
                f"--first {options.first.granularity}:{options.first.sparsity:g}: expected less than {MOST[0]:g}, the "
                "highest that a budget tries; lower it, or give --sparsity without a budget"
            )
        fixed = {"--sparsity": options.sparsity, "--like": options.like}
        known = [name for name, value in fixed.items() if value is not None]
        known += [f"--granularity {options.granularity}"] if ":" in options.granularity else []
        if known:
            raise PruneError(
                f"{known[0]}: says how much is removed, but {next(iter(given))} finds it; give one of the two"
            )

    @property
    def file(self) -> str:
        """Return the file in words, such as engine int8."""
        return f"{self.format} {self.precision}" if self.precision else self.format


@dataclass(frozen=True)
class Trial:
    """The file at one sparsity (0-1; 0 is the dense model): its bytes, and its median latency if it was measured."""

    sparsity: float
    size_bytes: int
    latency_s: float | None

    def excess(self, budget: PruneBudget) -> float:
        """Return the largest ratio of a cost to its limit: the file is within the budget if it is at most 1."""
        ratios = []
        if budget.max_size_mb is not None:
            ratios.append(self.size_bytes / (budget.max_size_mb * MB))
        if budget.max_latency_ms is not None and self.latency_s is not None:
            ratios.append(self.latency_s * 1000 / budget.max_latency_ms)
        return max(ratios)

    @property
    def costs(self) -> str:
        """Return the costs in words, such as 58.7 MB, 12.1 ms."""
        size = f"{self.size_bytes / MB:.4g} MB"
        return size if self.latency_s is None else f"{size}, {self.latency_s * 1000:.3g} ms"


@dataclass(frozen=True)
class PrunedToBudget:
    """The result: the records of the ticket and of its file, the file's folder, and all files that were tried.

    `final` has the costs of the file itself; a latency is the median of its three measurements. `assumed` says in words
    what the budget was compared with.
    """

    ticket: Provenance
    artifact: Artifact
    folder: Path
    trials: tuple[Trial, ...]
    final: Trial
    assumed: tuple[str, ...]


def check_budget(model: str, out: Path, options: PruneOptions, budget: PruneBudget) -> None:
    """Raise LxError for limits and options that contradict each other, and if the file's folder is not empty."""
    from lxcompress.workflow.checks import check_empty

    budget.check(options)
    check_empty(_file_folder(out, budget))


def with_valid_sparsity(options: PruneOptions) -> PruneOptions:
    """Return the options with a sparsity that they allow, so that they can be checked before the search finds one."""
    first = options.first.sparsity if options.first else 0.0
    return replace(options, sparsity=(first + 1) / 2)


def prune_to_budget(
    model: str, out: Path, options: PruneOptions, budget: PruneBudget, *, progress: Progress = no_progress
) -> PrunedToBudget:
    """Prune the model to the smallest sparsity whose file is within the budget; write the ticket and the file.

    The ticket is written to `out`, and the file next to it. Retraining changes no size, so the search is made without
    it. A latency is measured three times, and its median counts, because other programs can slow down a measurement.
    Raises PruneError, with the smallest reachable cost, if no sparsity is within the budget.
    """
    from lxcompress.machine import describe_machine
    from lxcompress.study.prune import prune_model

    with tempfile.TemporaryDirectory(prefix="lxcompress-") as scratch:
        files = _Files(model, options, budget, Path(scratch), progress)
        trials = find_sparsity(files.cost, budget, first=options.first.sparsity if options.first else 0.0)
        confirmed = confirm(files.cost, trials, budget)
    sparsity = confirmed[0].sparsity
    made = prune_model(model, out, replace(options, sparsity=sparsity), progress=progress)
    folder = _file_folder(out, budget)
    artifact, written = _export(out, folder, sparsity, budget, progress)
    final = _with_median_latency(written, confirmed)
    if final.excess(budget) > 1:
        raise PruneError(f"{folder}: has {final.costs}, over the budget that the same file met before; raise the limit")
    assumed = ["every file was written and checked"]
    if budget.format == "engine" and budget.max_size_mb is not None:
        assumed.append("matrices in the layouts of the table, which are the same on every machine (--layouts table)")
    if budget.max_latency_ms is not None:
        machine = describe_machine()
        assumed.append(
            f"median of {RUNS} questions on 1 thread of this machine ({machine.processor or machine.system}), and of 3 "
            "such measurements"
        )
    if options.retraining is not None:
        assumed.append("retraining changes neither size nor latency: the files of the search were not retrained")
    return PrunedToBudget(made, artifact, folder, tuple(trials), final, tuple(assumed))


def find_sparsity(cost: Callable[[float], Trial], budget: PruneBudget, *, first: float = 0.0) -> list[Trial]:
    """Return the trials of a search for the smallest sparsity within the budget, in the order of their sparsity.

    `cost` makes the file of a sparsity, and raises PruneError if the model cannot be pruned so far. `first` is the
    sparsity of the first step alone, less than the highest in MOST; 0 if there is none. Raises PruneError if the dense
    file or that of the first step is within the budget, or if no file is.
    """
    low = cost(0.0)
    if low.excess(budget) <= 1:
        raise PruneError(
            f"the budget needs no pruning: the dense file ({budget.file}) has {low.costs}; export the model, or lower "
            "the limit"
        )
    trials = [low]
    if first:
        low = cost(first)
        if low.excess(budget) <= 1:
            raise PruneError(
                f"the budget needs no second step: the file of --first alone ({budget.file}) has {low.costs}; give its "
                "granularity as --granularity, without --first, or lower the limit"
            )
        trials.append(low)
    high = _sparsest(cost, first)
    trials.append(high)
    if high.excess(budget) > 1:
        best, other = (high, low) if high.excess(budget) <= low.excess(budget) else (low, high)
        raise PruneError(
            f"no sparsity meets the budget: the smallest cost in {budget.file} is {best.costs}, at "
            f"{best.sparsity:.0%} sparsity (at {other.sparsity:.0%}: {other.costs}); raise the limit, or give another "
            "--precision, --granularity or --format"
        )
    for number in range(MOST_TRIALS):
        width = high.sparsity - low.sparsity
        if width <= NARROW:
            break
        share = (low.excess(budget) - 1) / (low.excess(budget) - high.excess(budget)) if number % 2 == 0 else 0.5
        # At an end of the bracket the next trial would teach little.
        step = min(max(share * width + NARROW / 4, NARROW / 2), width - NARROW / 2)
        middle = cost(round(low.sparsity + step, 4))
        trials.append(middle)
        low, high = (low, middle) if middle.excess(budget) <= 1 else (middle, high)
    return sorted(trials, key=lambda trial: trial.sparsity)


def confirm(cost: Callable[[float], Trial], trials: Sequence[Trial], budget: PruneBudget) -> tuple[Trial, ...]:
    """Return the trials of the smallest sparsity that is within the budget: one, or two if a latency is limited.

    A latency is measured again, and the sparsity counts only if both measurements are within the budget; if not, the
    next one is measured again. Raises PruneError if none is within the budget twice.
    """
    again = []
    for trial in sorted(trials, key=lambda trial: trial.sparsity):
        if trial.excess(budget) > 1:
            continue
        if budget.max_latency_ms is None:
            return (trial,)
        again.append(cost(trial.sparsity))
        if again[-1].excess(budget) <= 1:
            return trial, again[-1]
    found = ", ".join(f"{trial.sparsity:.1%} {trial.costs}" for trial in again)
    raise PruneError(
        f"the latency varies: no {budget.file} file met --max-latency-ms {budget.max_latency_ms:g} twice (the second "
        f"time: {found}); close other programs and repeat, or raise the limit"
    )


def _with_median_latency(written: Trial, others: Sequence[Trial]) -> Trial:
    """Return the trial `written` with the median latency of its own and of `others`, if it was measured."""
    from statistics import median

    latencies = [trial.latency_s for trial in (written, *others) if trial.latency_s is not None]
    return replace(written, latency_s=median(latencies)) if latencies else written


def _sparsest(cost: Callable[[float], Trial], first: float) -> Trial:
    """Return the trial of the highest sparsity of MOST, above `first`, that the model can be pruned to.

    Raises PruneError if there is none.
    """
    *higher, lowest = (sparsity for sparsity in MOST if sparsity > first)
    for sparsity in higher:
        try:
            return cost(sparsity)
        except PruneError:
            continue
    return cost(lowest)


@dataclass(frozen=True)
class _Files:
    """The files of a search, each in a folder of its own in `scratch`, which is empty again after each."""

    model: str
    options: PruneOptions
    budget: PruneBudget
    scratch: Path
    progress: Progress

    def cost(self, sparsity: float) -> Trial:
        """Prune, export and measure the model at a sparsity. Raises LxError.

        Sparsity 0 stands for the model itself. The sparsity of the first step stands for the smaller model without a
        mask.
        """
        from lxcompress.study.prune import prune_model

        self.progress(f"trying {sparsity:.1%} sparsity" if sparsity else "measuring the dense file")
        with tempfile.TemporaryDirectory(dir=self.scratch) as folder:
            source = Path(self.model)
            if sparsity:
                source = Path(folder) / "ticket"
                prune_model(self.model, source, self._options(sparsity), progress=self.progress)
            return _export(source, Path(folder) / "file", sparsity, self.budget, self.progress)[1]

    def _options(self, sparsity: float) -> PruneOptions:
        """Return the options of one trial, without retraining.

        A criterion that reads questions still reads those of its recipe.
        """
        from lxcompress.catalog.criteria import find_criterion

        calibration = self.options.calibration
        if calibration is None and not find_criterion(self.options.criterion).reads_weights_only:
            calibration = self.options.retraining
        options = replace(self.options, sparsity=sparsity, retraining=None, calibration=calibration)
        return options.first_alone() if options.first and sparsity == options.first.sparsity else options


def _export(
    source: Path, folder: Path, sparsity: float, budget: PruneBudget, progress: Progress
) -> tuple[Artifact, Trial]:
    """Write the file of a ticket or a model, and return its record and its costs."""
    from lxcompress.exporters.artifact import export, open_source

    artifact = export(open_source(source), folder, _export_options(budget), progress=progress)
    latency = None if budget.max_latency_ms is None else _measure([folder], progress)
    return artifact, Trial(sparsity, artifact.size_bytes, latency)


def _export_options(budget: PruneBudget) -> ExportOptions:
    """Return the options of every file of the budget."""
    from lxcompress.exporters.formats import ExportOptions

    has_layouts = budget.format == "engine" and budget.max_size_mb is not None
    return ExportOptions(budget.format, budget.precision, layouts="table" if has_layouts else None)


def _measure(folders: Sequence[Path], progress: Progress) -> float:
    """Return the median latency of an artifact in seconds, on one thread."""
    from statistics import median

    from lxcompress.measure.artifacts import measure_artifacts

    (measured,) = measure_artifacts(folders, threads=1, runs=RUNS, progress=progress)
    return median(measured.latency.values)


def _file_folder(out: Path, budget: PruneBudget) -> Path:
    """Return the folder of the file: next to the ticket `out`."""
    from lxcompress.exporters.formats import name_artifact

    return out.absolute().with_name(name_artifact(out.absolute().name, budget.format, budget.precision, None))
