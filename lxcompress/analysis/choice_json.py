"""Write a choice as plain JSON values, with the keys of `lxcompress pick --json`."""

from __future__ import annotations

from typing import Any

from lxcompress.analysis.alternatives import CandidateFile, candidate_of
from lxcompress.analysis.choice import Choice, PickedTicket, RejectedGroup
from lxcompress.analysis.equal_accuracy_words import equal_accuracy_json
from lxcompress.analysis.groups import GroupKey, Spread
from lxcompress.analysis.held_out import HeldOutAccuracy
from lxcompress.analysis.prediction import Prediction


def choice_json(choice: Choice) -> dict[str, Any]:
    """Return the choice as plain JSON values; accuracies and sparsities are fractions 0-1."""
    rule = choice.rule
    return {
        "version": 1,
        "rule": {
            "retain": rule.retain,
            "max_drop": rule.max_drop,
            "max_size_mb": rule.max_size_mb,
            "max_latency_p90_ms": rule.max_latency_ms,
            "max_memory_mb": rule.max_memory_mb,
            "max_risk": rule.max_risk,
            "coverage": rule.coverage,
            "max_flips": rule.max_flips,
        },
        "dense": spread_json(choice.dense),
        "dense_longer": spread_json(choice.longer),
        "threshold": choice.threshold,
        "picked": _picked_json(choice.picked) if choice.picked else None,
        "nearest": _rejected_json(choice.nearest) if choice.nearest else None,
        "rejected": [_rejected_json(group) for group in choice.rejected],
        "front": [vars(point) for point in choice.front],
        "files": [_candidate_json(file) for file in choice.files],
        "equal_accuracy": equal_accuracy_json(choice.equal) if choice.equal else None,
        "doubts": list(choice.warnings),
        "study_complete": choice.is_final,
        "test": [held_out_json(model) for model in choice.held_out],
    }


def spread_json(spread: Spread | None) -> dict[str, Any] | None:
    """Return as JSON the mean, the sample standard deviation (null with one seed) and the value of each seed."""
    if spread is None:
        return None
    by_seed = {str(seed): value for seed, value in spread.by_seed.items()}
    return {"mean": spread.mean, "std": spread.std, "by_seed": by_seed}


def _picked_json(picked: PickedTicket) -> dict[str, Any]:
    """Return the picked ticket and its file as plain JSON values."""
    return {
        **_key_json(picked.group.key),
        "achieved": picked.group.achieved.mean,
        "accuracy": spread_json(picked.group.retrained.overall),
        "interval": picked.interval,
        "paired": spread_json(picked.group.paired),
        "retained": picked.group.retained,
        "cell": picked.cell,
        "seed": picked.seed,
        "ticket": picked.ticket.as_posix(),
        "artifact": picked.exported.folder.as_posix() if picked.exported else None,
        "predicted": _predicted_json(picked.predicted) if picked.predicted and not picked.exported else None,
        "commands": list(picked.commands),
        "file": _candidate_json(candidate_of(picked.exported)) if picked.exported else None,
        "beside": [_candidate_json(other) for other in picked.others],
        "free": _candidate_json(picked.free) if picked.free else None,
        "missing_twins": list(picked.missing_twins),
    }


def held_out_json(model: HeldOutAccuracy) -> dict[str, Any]:
    """Return the test accuracy of a model as plain JSON values."""
    return {
        "label": model.label,
        "picked": model.seed is not None,
        "seed": model.seed,
        "questions": model.questions,
        "accuracy": spread_json(model.accuracy),
        "dense": spread_json(model.dense),
        "difference": model.difference,
        "interval": model.interval,
        "validation_accuracy": model.valid,
    }


def _predicted_json(file: Prediction) -> dict[str, Any]:
    """Return a file that is not exported yet as plain JSON values."""
    return {"format": file.format, "precision": file.precision, "size_mb": file.size_mb, "command": file.command}


def _candidate_json(candidate: CandidateFile) -> dict[str, Any]:
    """Return an exported file, and the numbers to choose by, as plain JSON values."""
    artifact = candidate.exported.artifact
    return {
        "artifact": candidate.exported.folder.as_posix(),
        "role": candidate.role,
        "cell": artifact.cell,
        "format": artifact.format,
        "precision": artifact.precision,
        "accuracy": candidate.accuracy,
        "size_mb": candidate.size_mb,
        "latency_p90_ms": candidate.latency_ms,
        "memory_mb": candidate.memory_mb,
    }


def _rejected_json(rejected: RejectedGroup) -> dict[str, Any]:
    """Return a group that was not picked, and the reasons, as plain JSON values."""
    return {
        **_key_json(rejected.key),
        "achieved": rejected.achieved,
        "accuracy": rejected.accuracy,
        "interval": rejected.interval,
        "broken": list(rejected.broken),
        "reasons": list(rejected.reasons),
        "commands": list(rejected.commands),
    }


def _key_json(key: GroupKey) -> dict[str, Any]:
    """Return the method and the target sparsity of a group as plain JSON values."""
    method = key.method
    return {
        "method": method.id,
        "criterion": method.criterion,
        "granularity": method.granularity,
        "target": key.target,
    }
