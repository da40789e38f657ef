"""What a picked file is held against: the dense model, dense int8, which costs nothing, and its other twins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lxcompress.records import Artifact
from lxcompress.report.summary import Cost, latency_ms

DENSE_INT8 = "dense int8"
ALIKE = {"size": 0.005, "latency": 0.02, "memory": 0.02}
"""How far two files may differ in a cost and still be called alike, as a share: a vocabulary, the noise of a bench."""
WORDS = {
    "size": ("smaller", "as small", "larger"),
    "latency": ("faster", "as fast", "slower"),
    "memory": ("smaller in memory", "as small in memory", "larger in memory"),
    "accuracy": ("more accurate", "as accurate", "less accurate"),
}


@dataclass(frozen=True)
class Point:
    """An exported file by what it is chosen for; None is not known. Latency is the p90 of one answer, memory the peak.

    `role` is what the file stands for: dense, dense int8, ticket, ticket int8, structured.
    """

    cost: Cost
    role: str
    accuracy: float | None
    size_mb: float
    latency_ms: float | None
    memory_mb: float | None

    @property
    def costs(self) -> dict[str, float | None]:
        return {"size": self.size_mb, "latency": self.latency_ms, "memory": self.memory_mb}

    @property
    def coordinates(self) -> tuple[float, ...] | None:
        """Accuracy with its sign turned, size, latency, memory: smaller is better; None unless all are known."""
        known = [None if self.accuracy is None else -self.accuracy, *self.costs.values()]
        found = tuple(value for value in known if value is not None)
        return found if len(found) == len(known) else None


def point(cost: Cost) -> Point:
    """The file in the coordinates that a person decides by."""
    measured, score = cost.fresh, cost.artifact.accuracy
    return Point(
        cost=cost,
        role=role_of(cost.artifact),
        accuracy=None if score is None else score.accuracy,
        size_mb=cost.size_mb,
        latency_ms=latency_ms(measured).p90 if measured else None,
        memory_mb=measured.peak_bytes / 1e6 if measured and measured.peak_bytes is not None else None,
    )


def role_of(artifact: Artifact) -> str:
    """What an artifact stands for: its twin's name, or the same made of what it was exported from."""
    if artifact.twin:
        return artifact.twin
    kind = "dense" if artifact.cell is None else "ticket"
    precision = artifact.precision.partition("-")[0]
    return kind if precision == "fp32" else f"{kind} {precision}"


def seed_of(artifact: Artifact) -> int | None:
    """The seed that an artifact is of: its cell's, or that of the dense run that it was exported from."""
    if artifact.cell is not None:
        number = artifact.cell.rpartition("-seed")[2]
    else:
        source = Path(artifact.source)
        number = source.parent.name if source.parent.parent.name == "seeds" else ""
    return int(number) if number.isdecimal() else None


def alternatives(costs: Sequence[Cost], cell: str, seed: int) -> list[Point]:
    """The files beside the ticket `cell`: its own, its seed's dense ones (any seed's where there are none), and the
    structured or masked ticket that was exported as its twin."""
    dense = [cost for cost in costs if cost.artifact.cell is None]
    dense = [cost for cost in dense if seed_of(cost.artifact) == seed] or dense
    own = [cost for cost in costs if cost.artifact.cell == cell]
    other = [
        cost
        for cost in costs
        if cost.artifact.twin in ("structured", "unstructured") and seed_of(cost.artifact) == seed and cost not in own
    ]
    return [point(cost) for cost in (*dense, *own, *other)]


def best_for_nothing(picked: Point, others: Sequence[Point]) -> Point | None:
    """The dense int8 file that the picked one beats in nothing measured; the fastest of several, None where none is."""
    free = [each for each in others if each.role == DENSE_INT8 and each.cost != picked.cost]
    better = [each for each in free if is_no_worse(each, picked)]
    return min(better, key=lambda each: (each.latency_ms or 0.0, each.size_mb), default=None)


def is_no_worse(one: Point, other: Point) -> bool:
    """Whether `one` is at least alike in accuracy, in size, and in all that is measured of both."""
    compared = compare(one, other)
    return "accuracy" in compared and all(sign <= 0 for sign in compared.values())


def compare(one: Point, other: Point) -> dict[str, int]:
    """Each coordinate that is known of both -> -1 where `one` is better, 0 where they are alike, 1 where it is worse.

    Latency and memory are compared only where both were measured at one task on one machine.
    """
    signs = {}
    theirs = other.costs
    for name, mine in one.costs.items():
        its = theirs[name]
        if mine is None or its is None or (name != "size" and not _same_bench(one.cost, other.cost)):
            continue
        is_alike = abs(mine - its) <= ALIKE[name] * its
        signs[name] = 0 if is_alike else -1 if mine < its else 1
    if one.accuracy is not None and other.accuracy is not None:
        signs["accuracy"] = (one.accuracy < other.accuracy) - (one.accuracy > other.accuracy)
    return signs


def comparison(one: Point, other: Point) -> str:
    """How `one` compares: smaller, faster and as accurate."""
    words = [WORDS[name][sign + 1] for name, sign in compare(one, other).items()]
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def _same_bench(one: Cost, other: Cost) -> bool:
    """Whether both were measured at one task on one machine; they may be served by different runtimes."""
    mine, its = one.fresh, other.fresh
    assert mine is not None
    assert its is not None
    places = [(each.machine.processor, each.machine.cores, each.machine.system, each.target) for each in (mine, its)]
    tasks = [(each.task.threads, each.task.batch, sorted(each.task.lengths)) for each in (mine, its)]
    shapes = [(each.task.tokens, each.task.objects) for each in (mine, its)]
    return places[0] == places[1] and tasks[0] == tasks[1] and shapes[0] == shapes[1]
