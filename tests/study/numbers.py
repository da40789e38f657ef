"""The numbers of a run folder: what must not change when the code does."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

FIXTURES = Path(__file__).parent.parent / "fixtures"
LOSS_TOLERANCE = 1e-3
"""Relative: another CPU sums in another order. Another mask or batch changes a loss of these studies by more."""
MOST_CHANGED_ANSWERS = 1
"""How many answers of the validation questions may change for the same reason."""
SCORED_STAGES = ("pruned", "rewound", "retrained", "start", "trained")


def read_numbers(root: Path) -> dict[str, dict[str, Any]]:
    """Return the numbers of every finished run in a run folder: id -> correct answers, counts and training losses."""
    numbers: dict[str, dict[str, Any]] = {}
    for path in sorted(root.rglob("result.json")):
        record = json.loads(path.read_text("utf-8"))
        numbers[record["cell"]] = {
            **{stage: _correct(record[stage]) for stage in ("pruned", "rewound", "retrained")},
            **{field: record[field] for field in ("steps", "parameters", "flops", "regrown")},
            **{field: record["sparsity"][field] for field in ("prunable", "kept")},
            "losses": _losses(record),
        }
    for path in sorted(root.rglob("dense.json")):
        record = json.loads(path.read_text("utf-8"))
        correct = {stage: _correct(record[stage]) for stage in ("start", "trained")}
        numbers[f"dense-seed{record['seed']}"] = {**correct, "steps": record["steps"], "losses": _losses(record)}
    return numbers


def assert_recorded(numbers: Mapping[str, Mapping[str, Any]], recorded: Mapping[str, Mapping[str, Any]]) -> None:
    """Assert that the numbers are the recorded ones: counts exactly, accuracies and losses as any CPU gives them."""
    assert numbers.keys() == recorded.keys()
    for name, expected in recorded.items():
        found = dict(numbers[name])
        assert found.keys() == expected.keys(), name
        assert found.pop("losses") == pytest.approx(expected["losses"], rel=LOSS_TOLERANCE), name
        for field, value in found.items():
            tolerance = MOST_CHANGED_ANSWERS if field in SCORED_STAGES else 0
            assert value == pytest.approx(expected[field], abs=tolerance, rel=0), f"{name}: {field}"


def _correct(score: Mapping[str, Any]) -> float:
    """Return an accuracy as a number of correct answers."""
    return round(score["accuracy"] * score["questions"], 4)


def _losses(record: Mapping[str, Any]) -> list[float]:
    """Return the mean training loss of each epoch of the last training."""
    return [epoch["train_loss"] for epoch in record["epochs"]]
