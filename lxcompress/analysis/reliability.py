"""The reliability of the models of a run: how well they know when they are wrong, and which answers pruning changed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any

from lxcompress.analysis.groups import GroupKey, SeedGroup, Spread
from lxcompress.analysis.summary import RunSummary
from lxcompress.confidence.measures import ChangedAnswers, area_under_risk, excess_area, risk_at_coverage
from lxcompress.confidence.record import AnswerConfidence
from lxcompress.recipe import dense_id

MEASURES: Mapping[str, Callable[[AnswerConfidence], float]] = {
    "accuracy": lambda found: float(found.credits.mean()),
    "raw_calibration_error": lambda found: found.raw_calibration_error,
    "calibration_error": lambda found: found.calibration_error,
    "temperature": lambda found: found.temperature,
    "area": lambda found: area_under_risk(found.confidences, found.credits),
    "excess_area": lambda found: excess_area(found.confidences, found.credits),
    "coverage_at_1": lambda found: found.coverage(0.01),
    "coverage_at_5": lambda found: found.coverage(0.05),
    "coverage_at_10": lambda found: found.coverage(0.10),
    "majority_rate": lambda found: found.majority_rate,
}
"""The measures of a model's confidence; docs/reliability.md says what each one means."""
CHANGES = ("right_to_wrong", "wrong_to_right")
"""The measures that need the dense model of the same seed: shares of all questions (0-1)."""


@dataclass(frozen=True)
class ChangeRate:
    """The shares of the questions of a type (0-1) whose answers became wrong or right, as means over seeds."""

    questions: int
    right_to_wrong: float
    wrong_to_right: float


@dataclass(frozen=True)
class Reliability:
    """The reliability of the dense model, of a group of tickets or of an exported file, over the seeds measured.

    `measures` maps each name of MEASURES, and of CHANGES if they are known, to its values. `changes` maps a type of
    question, or "all", to the changes beside the dense model of the same seed; it is empty for the dense model, or if
    that is not measured. `missing` are the seeds that are not measured. `key` is None for the dense model and files.
    """

    label: str
    key: GroupKey | None
    missing: tuple[int, ...]
    measures: Mapping[str, Spread]
    changes: Mapping[str, ChangeRate]
    answers: Mapping[int, AnswerConfidence]

    @property
    def flips(self) -> float | None:
        """The share of all questions whose answer became wrong beside dense; None if it is not known."""
        return self.changes["all"].right_to_wrong if self.changes else None

    def risk_at(self, coverage: float) -> float:
        """Return the risk when the share `coverage` of the questions is answered, as the mean over seeds."""
        return fmean(risk_at_coverage(found.confidences, found.credits, coverage) for found in self.answers.values())


def measured_reliability(summary: RunSummary) -> list[Reliability]:
    """Return the reliability of the dense model and of every group that was measured, the dense model first."""
    dense = {run.seed: summary.confidences.get(dense_id(run.seed)) for run in summary.dense_runs}
    rows = [_make_row("dense", None, dense, {})] if dense else []
    rows += [group_reliability(summary, group) for group in summary.groups]
    return [row for row in rows if row.answers]


def group_reliability(summary: RunSummary, group: SeedGroup) -> Reliability:
    """Return the reliability of a group of tickets, over the seeds that were measured."""
    found = {seed: summary.confidences.get(group.key.cell(seed).id) for seed in group.seeds}
    return _make_row(group.key.label, group.key, found, _dense_answers(summary))


def file_reliability(summary: RunSummary, name: str) -> Reliability:
    """Return the reliability of the exported file of that name, beside the dense model of its seed."""
    artifact = next(exported.artifact for exported in summary.artifacts if exported.name == name)
    found = {artifact.seed or 0: summary.confidences.get(name)}
    return _make_row(name, None, found, _dense_answers(summary))


def reliability_json(summary: RunSummary) -> dict[str, Any]:
    """Return the reliability of all models and exported files of a run as plain JSON values."""
    files = [file_reliability(summary, exported.name) for exported in summary.artifacts]
    return {
        "models": [_row_json(row) for row in measured_reliability(summary)],
        "files": [_row_json(row) for row in files if row.answers],
    }


def _dense_answers(summary: RunSummary) -> dict[int, AnswerConfidence]:
    """Return the answers of the dense models that were measured, by seed."""
    found = {run.seed: summary.confidences.get(dense_id(run.seed)) for run in summary.dense_runs}
    return {seed: answers for seed, answers in found.items() if answers is not None}


def _make_row(
    label: str,
    key: GroupKey | None,
    found: Mapping[int, AnswerConfidence | None],
    dense: Mapping[int, AnswerConfidence],
) -> Reliability:
    """Return the Reliability of the answers `found`, by seed; None stands for a seed that is not measured."""
    answers = {seed: measured for seed, measured in found.items() if measured is not None}
    measures = {
        name: Spread({seed: measure(measured) for seed, measured in answers.items()})
        for name, measure in MEASURES.items()
        if answers
    }
    changes = _changes_by_seed(answers, dense)
    if changes:
        measures |= {
            name: Spread({seed: _share(by_type.values(), name) for seed, by_type in changes.items()})
            for name in CHANGES
        }
    return Reliability(
        label=label,
        key=key,
        missing=tuple(seed for seed, measured in found.items() if measured is None),
        measures=measures,
        changes=_change_rates(list(changes.values())),
        answers=answers,
    )


def _changes_by_seed(
    answers: Mapping[int, AnswerConfidence], dense: Mapping[int, AnswerConfidence]
) -> dict[int, dict[str, ChangedAnswers]]:
    """Return the changes beside dense by seed and type of question; empty unless every seed can be compared."""
    compared = {seed: found.changes_from(dense[seed]) if seed in dense else None for seed, found in answers.items()}
    known = {seed: changes for seed, changes in compared.items() if changes is not None}
    return known if len(known) == len(compared) else {}


def _change_rates(by_seed: Sequence[Mapping[str, ChangedAnswers]]) -> dict[str, ChangeRate]:
    """Return the changes by type of question and over all types ("all"), as means over seeds."""
    rates = {}
    for kind in ("all", *by_seed[0]) if by_seed else ():
        chosen = [change for changes in by_seed for name, change in changes.items() if kind in ("all", name)]
        questions = sum(change.questions for change in chosen) // len(by_seed)
        rates[kind] = ChangeRate(questions, *(_share(chosen, name) for name in CHANGES))
    return rates


def _share(changes: Iterable[ChangedAnswers], name: str) -> float:
    """Return the sum of one of CHANGES over the questions of `changes`, as a share of these questions."""
    chosen = list(changes)
    return float(sum(getattr(change, name) for change in chosen) / sum(change.questions for change in chosen))


def _row_json(row: Reliability) -> dict[str, Any]:
    """Return a Reliability as plain JSON values."""
    return {
        "label": row.label,
        "method": row.key.method.id if row.key else None,
        "target": row.key.target if row.key else None,
        "missing_seeds": list(row.missing),
        **{
            name: {"mean": spread.mean, "std": spread.std, "by_seed": {str(k): v for k, v in spread.by_seed.items()}}
            for name, spread in row.measures.items()
        },
        "changes": {kind: asdict(rate) for kind, rate in row.changes.items()},
    }
