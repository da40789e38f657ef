"""The files that a picked file is compared with: the dense model, dense int8 (no pruning needed), and other twins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lxcompress.analysis.artifacts import ExportedArtifact

DENSE_INT8 = "dense int8"


@dataclass(frozen=True)
class CandidateFile:
    """An exported file with the numbers to choose by: accuracy, size, latency and memory. None is unknown.

    `role` says what the file is: dense, dense int8, ticket, ticket int8, structured and so on. `accuracy` is a fraction
    (0-1). `latency_ms` is the 90th percentile (p90) of the latency of one answer, and `memory_mb` is the peak memory of
    the process.
    """

    exported: ExportedArtifact
    role: str
    accuracy: float | None
    size_mb: float
    latency_ms: float | None
    memory_mb: float | None

    @property
    def coordinates(self) -> tuple[float, ...] | None:
        """(-accuracy, size, latency, memory) of the file: smaller is better in each. None unless all four are known."""
        known = [None if self.accuracy is None else -self.accuracy, self.size_mb, self.latency_ms, self.memory_mb]
        found = tuple(value for value in known if value is not None)
        return found if len(found) == len(known) else None


def candidate_of(exported: ExportedArtifact) -> CandidateFile:
    """Return an exported artifact as a CandidateFile."""
    return CandidateFile(
        exported=exported,
        role=role_of(exported),
        accuracy=exported.accuracy,
        size_mb=exported.size_mb,
        latency_ms=exported.latency_p90_ms,
        memory_mb=exported.peak_mb,
    )


def role_of(exported: ExportedArtifact) -> str:
    """Return the role of an artifact, such as "ticket int8".

    It is the name of the twin that the artifact's record has. Without one, it is the kind of the source (dense, ticket
    or structured), followed by the precision unless that is fp32.
    """
    artifact = exported.artifact
    if artifact.twin:
        return artifact.twin
    kind = "dense" if artifact.cell is None else "structured" if exported.is_smaller else "ticket"
    precision = artifact.precision.partition("-")[0]
    return kind if precision == "fp32" else f"{kind} {precision}"


def alternatives(artifacts: Sequence[ExportedArtifact], cell: str, seed: int) -> list[CandidateFile]:
    """Return the files of the ticket `cell`, and the files to compare them with.

    These are the dense files of the ticket's seed (of any seed if that seed has none), the ticket's own files, and the
    files of other tickets that were exported as twins with the same seed.
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
