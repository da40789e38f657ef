"""The floors of a study by name: accuracies that a baseline reaches without the image."""

from __future__ import annotations

from lxcompress.records import Floors


def named_floors(floors: Floors) -> list[tuple[str, float]]:
    """Return (name, accuracy 0-1) of each floor."""
    by_question_type = floors.majority_per_question_type
    return [
        ("majority", floors.majority.accuracy),
        ("majority per type", floors.majority_per_type.accuracy),
        *([] if by_question_type is None else [("majority per question type", by_question_type.accuracy)]),
        ("question-only", floors.question_only.accuracy),
    ]


def highest_floor(floors: Floors) -> tuple[str, float]:
    """Return (name, accuracy 0-1) of the highest floor."""
    return max(named_floors(floors), key=lambda pair: pair[1])
