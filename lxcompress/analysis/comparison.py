"""Compare two exported files in size, speed, memory and accuracy, as far as their benches allow it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lxcompress.analysis.alternatives import DENSE_INT8, CandidateFile
from lxcompress.analysis.artifacts import ExportedArtifact, latency_ms
from lxcompress.analysis.words import listed
from lxcompress.errors import MeasureError
from lxcompress.measure.compare import Ratio, compare_apart, compare_in_turns, find_baseline, noise_floor
from lxcompress.records import BenchRecord, Measurement
from lxcompress.units import percent, significant

SAME_SIZE = 0.005
"""Two files count as equally large if their sizes differ by at most this fraction: their vocabularies may differ."""
SAME_MEMORY = 0.02
"""Two processes count as equal if their peak memory differs by at most this fraction: memory comes in pages."""
WORDS = {
    "size": ("smaller", "larger"),
    "speed": ("faster", "slower"),
    "memory": ("less memory", "more memory"),
    "accuracy": ("more accurate", "less accurate"),
}
"""A property -> the words for a file that is better in this property, and for a file that is worse."""


@dataclass(frozen=True)
class MeasurementPair:
    """Measurements of two files in the same bench, at the same task and in the same runtime."""

    one: Measurement
    other: Measurement
    bench: BenchRecord

    @property
    def ratio(self) -> Ratio:
        """The median time of the first file divided by that of the other file, with its interval."""
        again, baseline = self._baselines
        floor = noise_floor(baseline, again) if again is not None and baseline is not None else 0.0
        return compare_in_turns(self.one, self.other, floor=floor)

    @property
    def memory_noise(self) -> float:
        """The fraction by which the peak memory of the bench's two baseline processes differs; 0 if unknown."""
        again, baseline = self._baselines
        if again is None or baseline is None or not again.peak_bytes or not baseline.peak_bytes:
            return 0.0
        return abs(again.peak_bytes / baseline.peak_bytes - 1)

    @property
    def _baselines(self) -> tuple[Measurement | None, Measurement | None]:
        """The second and the first measurement of the bench's baseline at this task; None for one that is missing."""
        again = next((found for found in self.bench.noise if task_key(found) == task_key(self.one)), None)
        return again, find_baseline(self.bench, self.one)


def find_pair(one: ExportedArtifact, other: ExportedArtifact) -> MeasurementPair | None:
    """Return the newest measurements of two files in one bench; None if no bench measured both.

    The task is the default task of `one`, and both files run in the same runtime.
    """
    usual = one.fresh
    if usual is None:
        return None
    for mine, bench in one.benches:
        for its, its_bench in other.benches:
            is_one_task = (mine.task.runtime, task_key(mine)) == (its.task.runtime, task_key(its))
            if bench is its_bench and is_one_task and task_key(mine) == task_key(usual):
                return MeasurementPair(mine, its, bench)
    return None


def compare(one: CandidateFile, other: CandidateFile) -> dict[str, int]:
    """Return for each property that is known of both files: -1 if `one` is better, 0 if they are equal, 1 if worse.

    Speed and memory are compared only if one bench measured both files, at the same task and in the same runtime. The
    speeds count as different only if the difference is larger than the interval of their ratio and the noise floor of
    the bench.
    """
    signs = {"size": _sign(one.size_mb, other.size_mb, SAME_SIZE)}
    pair = find_pair(one.exported, other.exported)
    if pair is not None:
        ratio = pair.ratio
        if ratio.verdict != "unknown":
            signs["speed"] = {"faster": -1, "no difference": 0, "slower": 1}[ratio.verdict]
        mine, its = pair.one.peak_bytes, pair.other.peak_bytes
        if mine is not None and its is not None:
            signs["memory"] = _sign(mine, its, max(SAME_MEMORY, pair.memory_noise))
    if one.accuracy is not None and other.accuracy is not None:
        signs["accuracy"] = (one.accuracy < other.accuracy) - (one.accuracy > other.accuracy)
    return signs


def comparison(one: CandidateFile, other: CandidateFile) -> str:
    """Return how `one` compares with `other`, as in "same size and memory; faster (median 0.31 against 0.50 ms)"."""
    signs = compare(one, other)
    same = [name for name, sign in signs.items() if not sign and name != "accuracy"]
    parts = [f"same {listed(same)}"] if same else []
    parts += [_difference(name, sign, one, other) for name, sign in signs.items() if sign and name != "accuracy"]
    if "accuracy" in signs:
        parts.append(_difference("accuracy", signs["accuracy"], one, other) if signs["accuracy"] else "same accuracy")
    return "; ".join(parts)


def find_dense_int8(picked: ExportedArtifact, others: Sequence[CandidateFile]) -> CandidateFile | None:
    """Return the dense int8 file in the format of `picked`; None if there is none.

    If there are several, one that a bench measured together with `picked` in the same runtime is preferred.
    """
    same = [
        other
        for other in others
        if other.role == DENSE_INT8 and other.exported.artifact.format == picked.artifact.format
    ]
    same = [other for other in same if other.exported != picked]
    return min(same, key=lambda other: find_pair(other.exported, picked) is None, default=None)


def best_free_alternative(picked: CandidateFile, others: Sequence[CandidateFile]) -> CandidateFile | None:
    """Return the dense int8 file of the same format if it is at least as good as `picked` in everything.

    Return None if there is no such file, if it is worse in something, or if too little is known. The accuracy of both
    files must be known. If `picked` was measured, one bench must have measured both at one task and in one runtime.
    """
    free = find_dense_int8(picked.exported, others)
    return free if free is not None and is_no_worse(free, picked) else None


def is_no_worse(one: CandidateFile, other: CandidateFile) -> bool:
    """Return whether `one` is at least as good in accuracy, in size, and in all that was measured of `other`."""
    compared = compare(one, other)
    known = {"accuracy", "size"} | ({"speed"} if other.exported.fresh else set())
    return known <= compared.keys() and all(sign <= 0 for sign in compared.values())


def is_slower(one: ExportedArtifact, other: ExportedArtifact) -> bool:
    """Return whether the answers of the file `one` take longer than those of `other`; both files must be measured.

    If their benches cannot tell, the 90th percentiles of the latency are compared.
    """
    mine, its = one.fresh, other.fresh
    assert mine is not None
    assert its is not None
    pair = find_pair(one, other)
    try:
        verdict = pair.ratio.verdict if pair else compare_apart(mine, its).verdict
    except MeasureError:  # the measurements have different tasks or machines
        verdict = "unknown"
    return latency_ms(mine).p90 > latency_ms(its).p90 if verdict == "unknown" else verdict == "slower"


def _sign(mine: float, its: float, alike: float) -> int:
    """Return -1 if `mine` is smaller than `its`, 1 if it is larger, and 0 if they differ by at most `alike` * `its`."""
    return 0 if abs(mine - its) <= alike * its else -1 if mine < its else 1


def task_key(measured: Measurement) -> tuple[object, ...]:
    """Return the values that two measurements at one task have in common; the runtime is compared separately."""
    task = measured.task
    return task.threads, task.batch, task.tokens, bool(task.lengths), task.objects, task.images


def _difference(name: str, sign: int, one: CandidateFile, other: CandidateFile) -> str:
    """Return in words how two files differ in one property, with the values of both."""
    words = WORDS[name][sign > 0]
    if name == "size":
        return f"{words} ({significant(one.size_mb)} against {significant(other.size_mb)} MB)"
    pair = find_pair(one.exported, other.exported)
    if name == "memory":
        assert pair is not None
        known = [measured.peak_bytes for measured in (pair.one, pair.other) if measured.peak_bytes is not None]
        peaks = [significant(peak / 1e6) for peak in known]
        return f"{words} ({peaks[0]} against {peaks[1]} MB)"
    if name == "speed":
        assert pair is not None
        medians = [significant(latency_ms(measured).p50) for measured in (pair.one, pair.other)]
        return f"{words} (median {medians[0]} against {medians[1]} ms)"
    score = one.exported.artifact.accuracy
    assert score is not None
    assert other.accuracy is not None
    gap, questions = abs(score.accuracy - other.accuracy), score.questions
    return f"{percent(gap)} points {words} ({gap * questions:.3g} of {questions:,} questions)"
