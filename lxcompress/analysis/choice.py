"""The result of a pick: the picked ticket and its file, and why every other group of runs was not picked.

A group holds the runs of one method and one sparsity, over all seeds.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lxcompress.analysis.alternatives import DENSE_INT8, CandidateFile
from lxcompress.analysis.artifacts import ExportedArtifact
from lxcompress.analysis.equal_accuracy import EqualAccuracy
from lxcompress.analysis.groups import GroupKey, SeedGroup, Spread
from lxcompress.analysis.held_out import HeldOutAccuracy
from lxcompress.analysis.prediction import Prediction
from lxcompress.analysis.rule import Rule
from lxcompress.stats import mean_interval


@dataclass(frozen=True)
class RejectedGroup:
    """A group of runs (one method and sparsity) that was not picked, and the reasons.

    `achieved` is the mean sparsity and `accuracy` the mean accuracy (0-1); both are None if no run is finished.
    `interval` is the 95 % interval of that mean. `broken` names the constraints that the group violates. It is empty
    for a group that satisfies the rule when another group is better. `shortfalls` says, for each violated constraint,
    how far the group is from it, relative to the constraint. `commands` is not empty if exporting and measuring a file
    is all that is missing.
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
    """The picked group of runs, and its ticket to ship: that of the seed with the best accuracy.

    `exported` is the artifact to ship: the best of the artifacts that satisfy the rule; `fitting` is their number. If
    no artifact does, `predicted` is the file to export. `others` are the files to compare the picked file with. `free`
    is the dense int8 file (no pruning needed), if it is at least as good as the picked file in everything. `commands`
    are what is left to do before the file can be shipped. `is_twin` says whether the ticket was drawn as a twin.
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
        """The short name of the method; "structured twin" for a twin, whose method follows from its ticket."""
        return "structured twin" if self.is_twin else self.group.key.series

    @property
    def interval(self) -> tuple[float, float] | None:
        """The 95 % interval of the group's mean accuracy, 0-1; None with one seed."""
        return mean_interval(list(self.group.retrained.overall.by_seed.values()))

    @property
    def missing_twins(self) -> tuple[str, ...]:
        """The roles of the files that the ticket must be compared with and that are not exported."""
        roles = {other.role for other in self.others}
        has_masked = any(not role.startswith(("dense", "structured")) for role in roles)
        missing = [role for role in ("dense", DENSE_INT8) if role not in roles]
        if self.group.key.method.is_structured:
            return (*missing, *(() if has_masked else ("unstructured",)))
        return (*missing, *(() if "structured" in roles else ("structured",)))


@dataclass(frozen=True)
class FrontPoint:
    """One point of the Pareto front: a group of runs (one method and sparsity), or the dense model.

    `accuracy` is the mean accuracy (0-1), and `achieved` the mean sparsity (0-1).
    """

    label: str
    accuracy: float
    achieved: float


@dataclass(frozen=True)
class Choice:
    """The result of a pick by `rule`. `picked` is None if nothing satisfies the rule.

    `dense` is the accuracy of the dense model, and `longer` that of the dense model trained twice as long, if that
    control is complete. `threshold` is the accuracy (0-1) that the rule requires. `nearest` is the group that comes
    closest to the rule, if nothing was picked; `rejected` holds every group that was not picked. `is_final` says
    whether every run of the study is finished. `front` holds the groups, and the dense model, that are Pareto-optimal
    in accuracy and sparsity. `files` holds the measured artifacts that are Pareto-optimal in accuracy, size, p90
    latency and memory. `equal` compares the exported tickets with dense int8 at the accuracy that the rule requires; it
    is None if the run has no tickets, or no dense run is finished. `held_out` has the accuracies on the test split of
    dense, the pick and the tickets with exported files; nothing is picked by them.
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
    equal: EqualAccuracy | None = None
    held_out: tuple[HeldOutAccuracy, ...] = ()
