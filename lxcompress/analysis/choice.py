"""What a rule chose: the picked ticket and file, and why each other group was not picked."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lxcompress.analysis.alternatives import DENSE_INT8, CandidateFile
from lxcompress.analysis.artifacts import ExportedArtifact
from lxcompress.analysis.groups import GroupKey, SeedGroup, Spread
from lxcompress.analysis.prediction import Prediction
from lxcompress.analysis.rule import Rule
from lxcompress.stats import mean_interval


@dataclass(frozen=True)
class RejectedGroup:
    """A group that was not picked, and why; `commands` are set if measuring is all that it lacks.

    `broken` names the constraints that it broke; it is empty for a group that satisfies the rule and was beaten.
    `shortfalls` tell, for each broken constraint, how far off the group was, relative to the constraint.
    """

    key: GroupKey
    label: str
    achieved: float | None
    accuracy: float | None
    broken: tuple[str, ...]
    reasons: tuple[str, ...]
    commands: tuple[str, ...] = ()
    shortfalls: tuple[float, ...] = ()
    interval: tuple[float, float] | None = None


@dataclass(frozen=True)
class PickedTicket:
    """The picked group and its ticket to ship: the seed that scored best.

    `exported` is the artifact to ship, the best of `fitting` artifacts that satisfy the rule. If there is none,
    `predicted` is the file to export. `others` are the files that it is compared with. `free` is the dense int8 file,
    if it is at least as good in everything.
    """

    group: SeedGroup
    label: str
    seed: int
    cell: str
    ticket: Path
    exported: ExportedArtifact | None
    predicted: Prediction | None
    commands: tuple[str, ...]
    fitting: int = 0
    others: tuple[CandidateFile, ...] = ()
    free: CandidateFile | None = None
    is_twin: bool = False

    @property
    def series(self) -> str:
        """The short name of the method; that of a twin, whose method follows from the pick, is not shown."""
        return "structured twin" if self.is_twin else self.group.key.series

    @property
    def interval(self) -> tuple[float, float] | None:
        """The 95 % interval of the group's accuracy, 0-1; None with one seed."""
        return mean_interval(list(self.group.retrained.overall.by_seed.values()))

    @property
    def missing_twins(self) -> tuple[str, ...]:
        """The alternatives that are not exported; a ticket must be compared with them."""
        roles = {other.role for other in self.others}
        has_masked = any(not role.startswith(("dense", "structured")) for role in roles)
        missing = [role for role in ("dense", DENSE_INT8) if role not in roles]
        if self.group.key.method.is_structured:
            return (*missing, *(() if has_masked else ("unstructured",)))
        return (*missing, *(() if "structured" in roles else ("structured",)))


@dataclass(frozen=True)
class FrontPoint:
    """A group, or the dense model, by accuracy (0-1) and sparsity (0-1)."""

    label: str
    accuracy: float
    achieved: float


@dataclass(frozen=True)
class Choice:
    """What the rule chose (`picked` is None if nothing satisfies it), and why each other group was not picked.

    `longer` is the accuracy of the dense model that was trained twice as long, if that control is complete. `front`
    holds the tickets, and the dense model, that are Pareto-optimal in accuracy and sparsity; `files` the measured
    artifacts that are Pareto-optimal in accuracy, size, p90 latency and memory.
    """

    rule: Rule
    dense: Spread | None
    longer: Spread | None
    threshold: float | None
    picked: PickedTicket | None
    nearest: RejectedGroup | None
    rejected: tuple[RejectedGroup, ...]
    warnings: tuple[str, ...]
    is_final: bool
    front: tuple[FrontPoint, ...] = ()
    files: tuple[CandidateFile, ...] = ()
