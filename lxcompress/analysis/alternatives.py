"""What a picked file is compared with: the dense model, dense int8, which needs no pruning, and its other twins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lxcompress.analysis.summary import ExportedArtifact, latency_ms
from lxcompress.errors import MeasureError
from lxcompress.measure.compare import Ratio, compare_apart, compare_in_turns, find_baseline, noise_floor
from lxcompress.records import BenchRecord, Measurement
from lxcompress.units import percent, significant

DENSE_INT8 = "dense int8"
ALIKE = {"size": 0.005, "memory": 0.02}
"""How far two files may differ in a cost and still be called the same, as a share: a vocabulary, pages of memory."""
WORDS = {
    "size": ("smaller", "larger"),
    "speed": ("faster", "slower"),
    "memory": ("less memory", "more memory"),
    "accuracy": ("more accurate", "less accurate"),
}


@dataclass(frozen=True)
class CandidateFile:
    """An exported file by what it is chosen for; None is not known. Latency is the p90 of one answer, memory the peak.

    `role` is what the file stands for: dense, dense int8, ticket, ticket int8, structured.
    """

    cost: ExportedArtifact
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


def candidate_of(cost: ExportedArtifact) -> CandidateFile:
    """The file in the coordinates that a person decides by."""
    measured, score = cost.fresh, cost.artifact.accuracy
    return CandidateFile(
        cost=cost,
        role=role_of(cost),
        accuracy=None if score is None else score.accuracy,
        size_mb=cost.size_mb,
        latency_ms=latency_ms(measured).p90 if measured else None,
        memory_mb=measured.peak_bytes / 1e6 if measured and measured.peak_bytes is not None else None,
    )


def role_of(cost: ExportedArtifact) -> str:
    """Return what a file stands for: its twin's name, or the same made of what it was exported from."""
    artifact = cost.artifact
    if artifact.twin:
        return artifact.twin
    kind = "dense" if artifact.cell is None else "structured" if cost.is_smaller else "ticket"
    precision = artifact.precision.partition("-")[0]
    return kind if precision == "fp32" else f"{kind} {precision}"


def alternatives(costs: Sequence[ExportedArtifact], cell: str, seed: int) -> list[CandidateFile]:
    """Return the files to compare those of the ticket `cell` with, and its own among them.

    They are its seed's dense ones (any seed's where there are none), and those of the tickets that were exported as
    twins of its seed.
    """
    dense = [cost for cost in costs if cost.artifact.cell is None]
    dense = [cost for cost in dense if cost.artifact.seed == seed] or dense
    own = [cost for cost in costs if cost.artifact.cell == cell]
    other = [
        cost
        for cost in costs
        if cost.artifact.twin
        and cost.artifact.role in ("structured", "unstructured", "ticket")
        and cost.artifact.seed == seed
        and cost not in own
    ]
    return [candidate_of(cost) for cost in (*dense, *own, *other)]


def find_dense_int8(picked: ExportedArtifact, others: Sequence[CandidateFile]) -> CandidateFile | None:
    """Return the dense int8 file of the picked one's format, the one measured in the same runtime first."""
    same = [each for each in others if each.role == DENSE_INT8 and each.cost.artifact.format == picked.artifact.format]
    same = [each for each in same if each.cost != picked]
    return min(same, key=lambda each: find_pair(each.cost, picked) is None, default=None)


def best_free_alternative(picked: CandidateFile, others: Sequence[CandidateFile]) -> CandidateFile | None:
    """Return the dense int8 file, of the same format and runtime, that the picked one beats in nothing.

    None where the two were not measured at one task, so that it is not known.
    """
    free = find_dense_int8(picked.cost, others)
    return free if free is not None and is_no_worse(free, picked) else None


def is_no_worse(one: CandidateFile, other: CandidateFile) -> bool:
    """Whether `one` is at least the same in accuracy and in all that is measured of `other`."""
    compared = compare(one, other)
    known = {"accuracy", "size"} | ({"speed"} if other.cost.fresh else set())
    return known <= compared.keys() and all(sign <= 0 for sign in compared.values())


def compare(one: CandidateFile, other: CandidateFile) -> dict[str, int]:
    """Each coordinate that is known of both -> -1 where `one` is better, 0 where they are the same, 1 where worse.

    Speed and memory are compared only where both were measured in one bench, at one task, in one runtime; speeds
    differ only beyond the interval of their ratio and the noise of that bench.
    """
    signs = {"size": _sign(one.size_mb, other.size_mb, ALIKE["size"])}
    pair = find_pair(one.cost, other.cost)
    if pair is not None:
        ratio = pair.ratio
        if ratio.verdict != "unknown":
            signs["speed"] = {"faster": -1, "no difference": 0, "slower": 1}[ratio.verdict]
        mine, its = pair.one.peak_bytes, pair.other.peak_bytes
        if mine is not None and its is not None:
            signs["memory"] = _sign(mine, its, max(ALIKE["memory"], pair.memory_noise))
    if one.accuracy is not None and other.accuracy is not None:
        signs["accuracy"] = (one.accuracy < other.accuracy) - (one.accuracy > other.accuracy)
    return signs


def comparison(one: CandidateFile, other: CandidateFile) -> str:
    """Return how `one` compares, with the figures: same size and memory; faster (median 0.31 against 0.50 ms); ..."""
    signs = compare(one, other)
    same = [name for name, sign in signs.items() if not sign and name != "accuracy"]
    parts = [f"same {_listed(same)}"] if same else []
    parts += [_difference(name, sign, one, other) for name, sign in signs.items() if sign and name != "accuracy"]
    if "accuracy" in signs:
        parts.append(_difference("accuracy", signs["accuracy"], one, other) if signs["accuracy"] else "same accuracy")
    return "; ".join(parts)


@dataclass(frozen=True)
class Pair:
    """Two measurements of one bench, at one task, in one runtime."""

    one: Measurement
    other: Measurement
    bench: BenchRecord

    @property
    def ratio(self) -> Ratio:
        """The ratio of the median times, with its interval."""
        again, baseline = self._noise
        floor = noise_floor(baseline, again) if again is not None and baseline is not None else 0.0
        return compare_in_turns(self.one, self.other, floor=floor)

    @property
    def memory_noise(self) -> float:
        """The share by which the peaks of two processes of the bench's baseline differed; 0 if not known."""
        again, baseline = self._noise
        if again is None or baseline is None or not again.peak_bytes or not baseline.peak_bytes:
            return 0.0
        return abs(again.peak_bytes / baseline.peak_bytes - 1)

    @property
    def _noise(self) -> tuple[Measurement | None, Measurement | None]:
        again = next((each for each in self.bench.noise if _task(each) == _task(self.one)), None)
        return again, find_baseline(self.bench, self.one)


def find_pair(one: ExportedArtifact, other: ExportedArtifact) -> Pair | None:
    """Return the newest measurements of both in one bench, at the usual task of `one`; None where there are none."""
    usual = one.fresh
    if usual is None:
        return None
    for mine, bench in one.benches:
        for its, its_bench in other.benches:
            is_one_task = (mine.task.runtime, _task(mine)) == (its.task.runtime, _task(its))
            if bench is its_bench and is_one_task and _task(mine) == _task(usual):
                return Pair(mine, its, bench)
    return None


def is_slower(one: ExportedArtifact, other: ExportedArtifact) -> bool:
    """Whether a file's answers take longer than another's, beyond what the bench, or two of them, can tell."""
    mine, its = one.fresh, other.fresh
    assert mine is not None
    assert its is not None
    pair = find_pair(one, other)
    try:
        verdict = pair.ratio.verdict if pair else compare_apart(mine, its).verdict
    except MeasureError:  # of two tasks or machines
        verdict = "unknown"
    return latency_ms(mine).p90 > latency_ms(its).p90 if verdict == "unknown" else verdict == "slower"


def _sign(mine: float, its: float, alike: float) -> int:
    """Return -1 where `mine` is less by more than a share `alike`, 0 where the two are the same, else 1."""
    return 0 if abs(mine - its) <= alike * its else -1 if mine < its else 1


def _task(measured: Measurement) -> tuple[object, ...]:
    task = measured.task
    return task.threads, task.batch, task.tokens, bool(task.lengths), task.objects, task.images


def _difference(name: str, sign: int, one: CandidateFile, other: CandidateFile) -> str:
    """Return one difference in words, with its figures."""
    words = WORDS[name][sign > 0]
    if name == "size":
        return f"{words} ({significant(one.size_mb)} against {significant(other.size_mb)} MB)"
    pair = find_pair(one.cost, other.cost)
    if name == "memory":
        assert pair is not None
        peaks = [significant((each.peak_bytes or 0) / 1e6) for each in (pair.one, pair.other)]
        return f"{words} ({peaks[0]} against {peaks[1]} MB)"
    if name == "speed":
        assert pair is not None
        medians = [significant(latency_ms(each).p50) for each in (pair.one, pair.other)]
        return f"{words} (median {medians[0]} against {medians[1]} ms)"
    assert one.accuracy is not None
    assert other.accuracy is not None
    gap, score = abs(one.accuracy - other.accuracy), one.cost.artifact.accuracy
    questions = score.questions if score else 0
    return f"{percent(gap)} points {words} ({gap * questions:.3g} of {questions:,} questions)"


def _listed(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
