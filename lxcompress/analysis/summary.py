"""What a run's results and measurements say, as values: groups over seeds, the dense baseline, floors and costs."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import ValidationError

from lxcompress.analysis.usage import UsageTotals, own_runs, total_usage
from lxcompress.catalog.runtimes import list_serving
from lxcompress.errors import RunError
from lxcompress.output import command_line
from lxcompress.recipe import STRUCTURED, Cell, Method, Recipe
from lxcompress.records import Artifact, BenchRecord, Dense, Floors, Machine, Measurement, Result, Score, read_record
from lxcompress.rundir import Run, sha256, twins_of
from lxcompress.stats import Percentiles, percentiles
from lxcompress.units import percent, short_percent

MILLISECONDS: dict[str, float] = {"s": 1e3, "ms": 1.0, "us": 1e-3, "ns": 1e-6}


@dataclass(frozen=True)
class Spread:
    """One value per seed; at least one seed."""

    by_seed: Mapping[int, float]

    @property
    def mean(self) -> float:
        return statistics.fmean(self.by_seed.values())

    @property
    def std(self) -> float | None:
        """Sample standard deviation; None with one seed, of which no spread is known."""
        return statistics.stdev(self.by_seed.values()) if len(self.by_seed) > 1 else None

    @property
    def standard_error(self) -> float | None:
        """Standard error of the mean; None with one seed."""
        return None if self.std is None else self.std / math.sqrt(len(self.by_seed))


@dataclass(frozen=True)
class Stage:
    """Accuracy (0-1) over seeds at one stage of the study, overall and per answer type."""

    overall: Spread
    by_type: Mapping[str, Spread]


@dataclass(frozen=True)
class GroupKey:
    """What a group's cells share: all of a Cell but its seed."""

    method: Method
    target: float

    @property
    def series(self) -> str:
        """How people call the method: low-magnitude; the granularity only where it is not single weights."""
        words = self.method.id if self.method.name else self.method.id.replace("-weight-", "-", 1)
        return words.removesuffix("-weight")

    @property
    def label(self) -> str:
        """low-magnitude at 70 %."""
        return f"{self.series} at {short_percent(self.target)} %"

    def cell(self, seed: int) -> Cell:
        return Cell(self.method, self.target, seed)


@dataclass(frozen=True)
class SeedGroup:
    """The finished cells of one Key; `missing` holds the seeds whose cell, or dense run, is not finished.

    `paired` is retrained minus dense of the same seed; `retained` is the mean over the dense mean of the same seeds.
    `ratios` are retrained over dense of each seed. They are None while no seed of the group has its dense run.
    `removed` is the mean number of weights removed, and `regrown` how many of them are not zero after retraining.
    `parameters` and `flops` are means of the model that answers; `cell_s` is the mean time of a cell, drawing its
    ticket included; `steps` is the mean number of training steps as a multiple of the dense runs'. None where not
    counted.
    """

    key: GroupKey
    missing: tuple[int, ...]
    achieved: Spread
    of_live: float
    of_all: float
    removed: float
    regrown: Spread
    pruned: Stage
    rewound: Stage
    retrained: Stage
    paired: Spread | None
    retained: float | None
    ratios: Spread | None
    parameters: float | None
    flops: float | None
    cell_s: float
    steps: float | None
    taken: UsageTotals

    @property
    def is_complete(self) -> bool:
        return not self.missing

    @property
    def seeds(self) -> tuple[int, ...]:
        return tuple(self.retrained.overall.by_seed)

    @property
    def best_seed(self) -> int:
        """The seed with the best retrained accuracy; the earlier one of equals."""
        scores = self.retrained.overall.by_seed
        return max(scores, key=lambda seed: (scores[seed], -seed))


@dataclass(frozen=True)
class ExportedArtifact:
    """An exported artifact, and what was measured of the file that is there now: the newest of each task, and the usual
    one first. `outdated` is the newest measurement of a file that the artifact was before; None once it is measured
    anew."""

    folder: Path
    artifact: Artifact
    sha256: str
    measurements: tuple[Measurement, ...]
    outdated: Measurement | None
    doubts: tuple[str, ...]
    benches: tuple[tuple[Measurement, BenchRecord], ...] = ()
    """every measurement of the file that is there now, and the bench that it is of; the newest first"""
    is_smaller: bool = False
    """whether its model is a smaller one: structured, and not a mask"""

    @property
    def size_mb(self) -> float:
        return self.artifact.size_bytes / 1e6

    @property
    def accuracy_change(self) -> float | None:
        """Accuracy of the exported file minus its source's, on the same questions; None where either is not known."""
        before, after = self.artifact.source_accuracy, self.artifact.accuracy
        return None if before is None or after is None else after.accuracy - before.accuracy

    @property
    def fresh(self) -> Measurement | None:
        """The usual measurement of the file that is there now."""
        return next(iter(self.measurements), None)

    @property
    def measurement(self) -> Measurement | None:
        """The usual measurement, or else the one of a file that the artifact was before."""
        return self.fresh or self.outdated

    @property
    def is_stale(self) -> bool:
        """Whether all that is known is of a file that is no longer there."""
        return self.outdated is not None


@dataclass(frozen=True)
class RunSummary:
    """A run as values; `dense` and `taken` are None while nothing is finished; `unstarted` groups have no cell yet."""

    root: Path
    recipe: Recipe
    machine: Machine
    floors: Floors | None
    dense: Stage | None
    dense_missing: tuple[int, ...]
    groups: tuple[SeedGroup, ...]
    twins: tuple[SeedGroup, ...]
    """what was drawn to compare the picked ticket with, of one seed each; no part of the grid"""
    unstarted: tuple[GroupKey, ...]
    costs: tuple[ExportedArtifact, ...]
    taken: UsageTotals | None
    dense_runs: tuple[Dense, ...]
    results: tuple[Result, ...]
    twin_results: tuple[Result, ...]
    doubts: tuple[str, ...]

    @property
    def cells_total(self) -> int:
        return len(self.recipe.cells())

    @property
    def is_complete(self) -> bool:
        return not self.dense_missing and len(self.results) == self.cells_total


def summarise(run: Run) -> RunSummary:
    """What `run` says; reads its artifacts too. Raises RunError for a damaged artifact record."""
    dense = {seed: run.dense[seed] for seed in run.recipe.seeds if seed in run.dense}
    cells = [cell for cell in run.recipe.cells() if cell.id in run.results]
    results = [run.results[cell.id] for cell in cells]
    groups, unstarted = [], []
    for key in _keys(run.recipe):
        finished = [run.results[cell.id] for cell in cells if (cell.method, cell.sparsity) == (key.method, key.target)]
        if finished:
            groups.append(_group(key, finished, dense, run.recipe.seeds))
        else:
            unstarted.append(key)
    runs = [*own_runs(run.recipe, dense.values()), *results]
    twin_results = list(twins_of(run).values())
    return RunSummary(
        root=run.dir.root,
        recipe=run.recipe,
        machine=run.machine,
        floors=run.floors,
        dense=_stage({seed: each.trained for seed, each in dense.items()}) if dense else None,
        dense_missing=tuple(seed for seed in run.recipe.seeds if seed not in dense),
        groups=tuple(groups),
        twins=tuple(_twin_groups(twin_results, dense)),
        unstarted=tuple(unstarted),
        costs=tuple(_costs(run)),
        taken=total_usage(runs) if runs else None,
        dense_runs=tuple(dense.values()),
        results=tuple(results),
        twin_results=tuple(twin_results),
        doubts=tuple(_doubts(run.recipe, list(dense.values()), results, run.floors)),
    )


def latency_ms(measurement: Measurement) -> Percentiles:
    """Percentiles of the raw latencies, in milliseconds. Raises RunError for samples of another unit, or none."""
    samples = measurement.latency
    if samples.unit not in MILLISECONDS or not samples.values:
        raise RunError(
            f"{measurement.artifact}: its latency holds {len(samples.values)} samples in '{samples.unit}', expected at "
            f"least one in {', '.join(MILLISECONDS)}; measure again with: "
            f"{command_line('bench', measurement.artifact_path)}"
        )
    return percentiles([value * MILLISECONDS[samples.unit] for value in samples.values])


def kept_words(group: SeedGroup, digits: int = 1) -> str | None:
    """The share of dense accuracy that a group keeps, with its deviation over seeds: '98.1 ± 0.3', in percent."""
    if group.retained is None:
        return None
    std = group.ratios.std if group.ratios else None
    mean = percent(group.retained, digits)
    return mean if std is None else f"{mean} ± {percent(std, digits)}"


def plus_minus(spread: Spread, digits: int = 2) -> str:
    """'62.10 ± 0.35' in percent; the mean alone with one seed."""
    mean = percent(spread.mean, digits)
    return mean if spread.std is None else f"{mean} ± {percent(spread.std, digits)}"


def points(difference: float, digits: int = 2) -> str:
    """A difference of fractions in percentage points, always with a sign; a true minus, and no negative zero."""
    text = f"{100 * difference:+.{digits}f}"
    return text.replace("-", "−") if float(text) else text.replace("-", "+")


def numbered(noun: str, values: Sequence[object]) -> str:
    """'seed 1', 'seeds 0 and 2', 'seeds 0, 1 and 2'."""
    words = [str(value) for value in values]
    if len(words) == 1:
        return f"{noun} {words[0]}"
    return f"{noun}s {', '.join(words[:-1])} and {words[-1]}"


def _keys(recipe: Recipe) -> list[GroupKey]:
    """Every group of the recipe: method by method, sparser and sparser."""
    return [
        GroupKey(method, target)
        for method in recipe.prune.all_methods()
        for target in method.targets(recipe.prune.sparsities)
    ]


def _group(key: GroupKey, results: Sequence[Result], dense: Mapping[int, Dense], seeds: Iterable[int]) -> SeedGroup:
    by_seed = {result.seed: result for result in results}
    shared = [seed for seed in by_seed if seed in dense]
    retrained = {seed: by_seed[seed].retrained.accuracy for seed in shared}
    baseline = {seed: dense[seed].trained.accuracy for seed in shared}
    is_comparable = bool(shared) and statistics.fmean(baseline.values()) > 0
    ratios = {seed: retrained[seed] / baseline[seed] for seed in shared if baseline[seed] > 0}
    return SeedGroup(
        key=key,
        missing=tuple(seed for seed in seeds if seed not in shared),
        achieved=Spread({seed: each.sparsity.achieved for seed, each in by_seed.items()}),
        of_live=statistics.fmean(each.sparsity.of_live for each in results),
        of_all=statistics.fmean(each.sparsity.of_all for each in results),
        removed=statistics.fmean(each.sparsity.prunable - each.sparsity.kept for each in results),
        regrown=Spread({seed: each.regrown for seed, each in by_seed.items()}),
        pruned=_stage({seed: each.pruned for seed, each in by_seed.items()}),
        rewound=_stage({seed: each.rewound for seed, each in by_seed.items()}),
        retrained=_stage({seed: each.retrained for seed, each in by_seed.items()}),
        paired=Spread({seed: retrained[seed] - baseline[seed] for seed in shared}) if shared else None,
        retained=Spread(retrained).mean / Spread(baseline).mean if is_comparable else None,
        ratios=Spread(ratios) if ratios else None,
        parameters=_mean([each.parameters for each in results]),
        flops=_mean([each.flops for each in results]),
        cell_s=statistics.fmean(each.duration_s for each in results),
        steps=_mean([by_seed[seed].steps / dense[seed].steps for seed in shared if dense[seed].steps]),
        taken=total_usage(results),
    )


def _twin_groups(results: Sequence[Result], dense: Mapping[int, Dense]) -> list[SeedGroup]:
    """A group of one seed for each finished twin whose method this version knows."""
    groups = []
    for result in results:
        settings = {name: value for name, value in result.method.items() if name != "id"}
        try:
            key = GroupKey(Method.model_validate(settings), result.target)
        except ValidationError:  # of a version that knew other methods: the grid's tickets are shown all the same
            continue
        if key.cell(result.seed).id == result.cell:
            groups.append(_group(key, [result], dense, [result.seed]))
    return groups


def _mean(values: Iterable[float | None]) -> float | None:
    """The mean of those that are known; None where none is."""
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if known else None


def _stage(scores: Mapping[int, Score]) -> Stage:
    types = {name: None for score in scores.values() for name in score.by_type}
    return Stage(
        overall=Spread({seed: score.accuracy for seed, score in scores.items()}),
        by_type={
            name: Spread({seed: score.by_type[name] for seed, score in scores.items() if name in score.by_type})
            for name in types
        },
    )


def _costs(run: Run) -> list[ExportedArtifact]:
    """Every finished artifact of the run, dense ones first, with what was measured of it."""
    oldest_first = sorted(run.benches, key=lambda bench: bench.started)
    measured = [(each, bench) for bench in oldest_first for each in bench.measurements]
    threads = run.recipe.bench.threads
    smaller = {cell.id for cell in run.recipe.cells() if cell.method.is_structured}
    smaller |= {name for name, result in twins_of(run).items() if result.granularity in STRUCTURED}
    costs = [_cost(path, measured, threads) for path in run.dir.artifact_records()]
    costs = [replace(cost, is_smaller=cost.artifact.cell in smaller) for cost in costs]
    return sorted(
        costs, key=lambda cost: (cost.artifact.cell is not None, cost.artifact.cell or "", cost.artifact.name)
    )


def _cost(path: Path, measured: Sequence[tuple[Measurement, BenchRecord]], threads: int) -> ExportedArtifact:
    """The artifact at `path` and its part of `measured`, the oldest of which come first."""
    artifact, digest = read_record(path, Artifact), sha256(path)
    changed = _changed_file(path.parent, artifact)
    own = [(each, bench) for each, bench in reversed(measured) if each.artifact_sha256 == digest and not changed]
    newest: dict[tuple[object, ...], Measurement] = {}
    for each, _ in own:
        newest.setdefault(_task_key(each), each)
    fresh = sorted(newest.values(), key=lambda each: _unusual(each, artifact, threads))
    # A folder that was exported again keeps its name and cell, and loses its digest.
    namesakes = [
        each
        for each, _ in measured
        if (each.artifact, each.cell, each.format) == (artifact.name, artifact.cell, artifact.format)
    ]
    outdated = namesakes[-1] if namesakes and not fresh else None
    shown = fresh[0] if fresh else outdated
    doubts = [*artifact.doubts, *(shown.doubts if shown else ())]
    if changed:
        doubts.insert(0, f"{changed}: export it again")
    elif outdated:
        doubts.insert(0, "stale: the file was exported again after it was measured")
    if artifact.accuracy is None:
        doubts.append("the accuracy of the exported file is not known")
    return ExportedArtifact(path.parent, artifact, digest, tuple(fresh), outdated, tuple(doubts), tuple(own))


def _changed_file(folder: Path, artifact: Artifact) -> str | None:
    """Return what is wrong with the artifact's files where a look at their names and sizes tells; None if nothing."""
    paths = [folder / name for name in artifact.files]
    lost = [path.name for path in paths if not path.is_file()]
    if lost:
        return f"{lost[0]} is missing"
    size_bytes = sum(path.stat().st_size for path in paths)
    if size_bytes != artifact.size_bytes:
        return f"its files have {size_bytes} bytes, where {artifact.size_bytes} were exported"
    if artifact.name != folder.name and any(sha256(folder / name) != sum_ for name, sum_ in artifact.files.items()):
        return f"its artifact.json is that of {artifact.name}"
    return None


def _task_key(measured: Measurement) -> tuple[object, ...]:
    """What two measurements of a file have in common if the newer one stands for both."""
    task, machine = measured.task, measured.machine
    lengths = "as the data's" if task.lengths else task.tokens
    where = (measured.target, machine.processor, machine.cores, machine.system)
    return (task.runtime, task.threads, task.batch, lengths, task.objects, task.images, *where)


def _unusual(measured: Measurement, artifact: Artifact, threads: int) -> tuple[bool, ...]:
    """In what a measurement differs from the one that charts and pick go by, the weightiest first."""
    task, usual = measured.task, list_serving(artifact.format)[:1]
    return (
        measured.target is not None,
        (task.runtime,) != usual,
        task.threads != threads,
        not task.lengths,
        task.tokens != artifact.tokens,
        task.batch != 1,
    )


def _doubts(recipe: Recipe, dense: Sequence[Dense], results: Sequence[Result], floors: Floors | None) -> list[str]:
    """What a reader of the accuracies should know."""
    doubts = []
    if len(recipe.seeds) == 1:
        doubts.append("one seed: no spread is known, so small differences may be chance")
    kinds = sorted({f"{each.device} ({each.precision})" for each in (*dense, *results)})
    if len(kinds) > 1:
        doubts.append(f"cells ran on different devices or precisions: {', '.join(kinds)}")
    losses = [tuple(epoch.train_loss for epoch in each.epochs) for each in dense]
    if len(dense) > 1 and losses[0] and len(set(losses)) == 1:
        doubts.append("every seed's dense run has the same losses: it looks like one run, so its spread is not known")
    if floors is None:
        doubts.append("the floors were not measured: how much is answered without looking is not known")
    elif dense and Spread({each.seed: each.trained.accuracy for each in dense}).mean <= highest_floor(floors)[1]:
        name, value = highest_floor(floors)
        doubts.append(
            f"the dense model does not beat the {name} floor ({percent(value)} %): the study has nothing to find"
        )
    return doubts


def highest_floor(floors: Floors) -> tuple[str, float]:
    """The name and accuracy of the highest floor."""
    return max(named_floors(floors), key=lambda pair: pair[1])


def named_floors(floors: Floors) -> list[tuple[str, float]]:
    """Each floor's name and accuracy, 0-1."""
    return [
        ("majority", floors.majority.accuracy),
        ("majority per type", floors.majority_per_type.accuracy),
        *_per_question_type(floors),
        ("question-only", floors.question_only.accuracy),
    ]


def _per_question_type(floors: Floors) -> list[tuple[str, float]]:
    found = floors.majority_per_question_type
    return [] if found is None else [("majority per question type", found.accuracy)]


def machine_line(machine: Machine) -> str:
    """The machine in one line."""
    memory = f"{machine.memory_bytes / 1e9:.0f} GB"
    parts = [machine.processor, f"{machine.cores} cores", memory, machine.accelerator or "", machine.system]
    return ", ".join(part for part in parts if part)
