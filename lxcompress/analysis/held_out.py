"""Accuracies on the test split: of the dense model, of what was picked, and of the tickets that have exported files.

Everything else in an analysis reads the validation split. What is picked there looks better there than on other
questions, so its accuracy is reported on the test split too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lxcompress.analysis.groups import SeedGroup, Spread
from lxcompress.analysis.summary import RunSummary
from lxcompress.analysis.words import plus_minus, points
from lxcompress.stats import paired_interval
from lxcompress.units import percent, short_percent


@dataclass(frozen=True)
class HeldOutAccuracy:
    """The accuracies (0-1) of a model on the `questions` questions of the test split, by seed.

    `dense` has the accuracies of the dense models of the same seeds, `difference` is the mean of this model's accuracy
    minus theirs, and `interval` its 95 % interval, paired by seed and by question. These three are None for the dense
    model itself. `seed` is the seed that ships; it is None for every model but the picked one. `valid` is the mean
    accuracy on the validation split.
    """

    label: str
    questions: int
    accuracy: Spread
    valid: float
    dense: Spread | None = None
    difference: float | None = None
    interval: tuple[float, float] | None = None
    seed: int | None = None

    @property
    def difference_words(self) -> str:
        """Return the difference from dense in points with its 95 % interval; empty for the dense model."""
        if self.difference is None or self.interval is None:
            return ""
        low, high = map(points, self.interval)
        return f"{points(self.difference)} points, 95 % interval {low} to {high}"


def held_out_models(
    summary: RunSummary, picked: SeedGroup | None = None, label: str = ""
) -> tuple[HeldOutAccuracy, ...]:
    """Return the models that are reported on the test split: dense, the pick, and the tickets that have exported files.

    `label` is the label of the picked group. The other groups are left out: to choose among them by test accuracy would
    make the test split a second validation split.
    """
    exported = {found.artifact.cell for found in summary.artifacts}
    found = [_held_out_dense(summary)]
    if picked is not None:
        found.append(held_out_group(summary, picked, label, picked.best_seed))
    others = [(group, group.key.label) for group in summary.groups]
    others += [(twin, f"structured twin at {short_percent(twin.key.target)} %") for twin in summary.twins]
    for group, name in others:
        if group is not picked and any(group.key.cell(seed).id in exported for seed in group.seeds):
            found.append(held_out_group(summary, group, name))
    return tuple(model for model in found if model is not None)


def held_out_group(
    summary: RunSummary, group: SeedGroup, label: str, seed: int | None = None
) -> HeldOutAccuracy | None:
    """Return the test accuracies of a group of runs, compared with the dense models of its seeds.

    Return None if a run of the group, or the dense run of its seed, has no test score.
    """
    dense = {run.seed: run for run in summary.dense_runs}
    cells = {group.key.cell(number).id: number for number in group.seeds}
    results = {cells[found.cell]: found for found in (*summary.results, *summary.twin_results) if found.cell in cells}
    mine, theirs, differences = {}, {}, []
    for number in group.seeds:
        score, base = (getattr(record, "test", None) for record in (results.get(number), dense.get(number)))
        if score is None or base is None or score.questions != base.questions:
            return None
        mine[number], theirs[number] = score.accuracy, base.accuracy
        differences.append(np.subtract(score.credit_of_each(), base.credit_of_each()))
    if len({len(values) for values in differences}) > 1:
        return None
    return HeldOutAccuracy(
        label=label,
        questions=len(differences[0]),
        accuracy=Spread(mine),
        valid=group.retrained.overall.mean,
        dense=Spread(theirs),
        difference=Spread(mine).mean - Spread(theirs).mean,
        interval=paired_interval(np.stack(differences)),
        seed=seed,
    )


def held_out_words(tested: Sequence[HeldOutAccuracy]) -> str:
    """Return a sentence with the test accuracies of dense and the pick, and which split is which; empty without any."""
    if not tested:
        return ""
    parts = [f"dense {plus_minus(model.accuracy)} %" for model in tested if model.dense is None]
    for model in tested:
        if model.seed is None:
            continue
        parts.append(f"{model.label} {plus_minus(model.accuracy)} % ({model.difference_words})")
        if len(model.accuracy.by_seed) > 1:
            parts.append(f"its seed {model.seed}, which ships, {percent(model.accuracy.by_seed[model.seed])} %")
    return (
        f"On the test split ({tested[0].questions:,} questions that nothing was trained on or picked with): "
        f"{', '.join(parts)}. Every other accuracy is of the validation split, by which tickets are picked."
    )


def _held_out_dense(summary: RunSummary) -> HeldOutAccuracy | None:
    """Return the test accuracies of the dense model; None if a dense run has none, or if their splits differ."""
    scores = {run.seed: run.test for run in summary.dense_runs if run.test is not None}
    counts = {score.questions for score in scores.values()}
    if summary.dense is None or len(scores) < len(summary.dense_runs) or len(counts) != 1:
        return None
    accuracy = Spread({seed: score.accuracy for seed, score in scores.items()})
    return HeldOutAccuracy("dense", counts.pop(), accuracy, summary.dense.overall.mean)
