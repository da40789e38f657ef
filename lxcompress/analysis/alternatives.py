"""The files that a picked file is compared with: the dense model, dense int8 (no pruning needed), other twins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lxcompress.analysis.artifacts import ExportedArtifact

DENSE_INT8 = "dense int8"


@dataclass(frozen=True)
class CandidateFile:
    """An exported file by the numbers that people choose by; None is unknown.

    `role` is what the file is: dense, dense int8, ticket, ticket int8, structured and so on. Latency is the p90 of one
    answer, memory the peak of the process.
    """

    exported: ExportedArtifact
    role: str
    accuracy: float | None
    size_mb: float
    latency_ms: float | None
    memory_mb: float | None

    @property
    def coordinates(self) -> tuple[float, ...] | None:
        """Minus the accuracy, then size, latency and memory: smaller is better; None unless all are known."""
        known = [None if self.accuracy is None else -self.accuracy, self.size_mb, self.latency_ms, self.memory_mb]
        found = tuple(value for value in known if value is not None)
        return found if len(found) == len(known) else None


def candidate_of(exported: ExportedArtifact) -> CandidateFile:
    """Return the artifact as a candidate."""
    return CandidateFile(
        exported=exported,
        role=role_of(exported),
        accuracy=exported.accuracy,
        size_mb=exported.size_mb,
        latency_ms=exported.latency_p90_ms,
        memory_mb=exported.peak_mb,
    )


def role_of(exported: ExportedArtifact) -> str:
    """Return what an artifact is: the twin that its record names, or else its source's kind and its precision."""
    artifact = exported.artifact
    if artifact.twin:
        return artifact.twin
    kind = "dense" if artifact.cell is None else "structured" if exported.is_smaller else "ticket"
    precision = artifact.precision.partition("-")[0]
    return kind if precision == "fp32" else f"{kind} {precision}"


def alternatives(artifacts: Sequence[ExportedArtifact], cell: str, seed: int) -> list[CandidateFile]:
    """Return the files to compare those of the ticket `cell` with, and its own.

    They are the dense files of its seed (of any seed if that one has none), the files of the ticket, and the files of
    the tickets that were exported as twins of that seed.
    """
    dense = [exported for exported in artifacts if exported.artifact.cell is None]
    dense = [exported for exported in dense if exported.artifact.seed == seed] or dense
    own = [exported for exported in artifacts if exported.artifact.cell == cell]
    twins = [
        exported
        for exported in artifacts
        if exported.artifact.twin
        and exported.artifact.role in ("structured", "unstructured", "ticket")
        and exported.artifact.seed == seed
        and exported not in own
    ]
    return [candidate_of(exported) for exported in (*dense, *own, *twins)]
