"""An interval holds the truth as often as it says, equals are no difference, and a tenth is one."""

from __future__ import annotations

import numpy as np
import pytest

from lxcompress.errors import MeasureError
from lxcompress.measure.compare import (
    compare_all,
    compare_apart,
    compare_in_turns,
    find_baseline,
    name_images,
    noise_floor,
)
from lxcompress.records import BenchRecord, Machine, Measurement, Samples, Task
from lxcompress.stats import bootstrap_interval, resample, student_t

MACHINE = Machine(
    system="Linux", processor="Toy", cores=2, memory_bytes=8 * 2**30, python="3.12", accelerator=None, packages={}
)
OTHER = MACHINE.model_copy(update={"processor": "Other"})
SIZE, ROUNDS = 5, 12


def measurement(values: list[float], name: str = "toy", **changes: object) -> Measurement:
    task = {"runtime": "onnxruntime", "threads": 1, "batch": 1, "tokens": 9, "objects": 5, "warmup": 1}
    task |= {key: changes.pop(key) for key in ("threads", "tokens", "images", "runtime") if key in changes}
    fields = {"machine": MACHINE, "rounds": [SIZE] * (len(values) // SIZE)} | changes
    return Measurement(
        artifact=name,
        artifact_path=name,
        artifact_sha256="0" * 64,
        cell=None,
        format="onnx",
        task=Task(**task, runs=len(values)),
        latency=Samples(unit="s", values=values),
        load_s=0.1,
        peak_bytes=1,
        size_bytes=1,
        doubts=[],
        **fields,
    )


def pair(seed: int, ratio: float = 1.0, rounds: int = ROUNDS, shared: float = 0.1) -> tuple[Measurement, Measurement]:
    """Two measurements in turns: each round has a speed of its own, of which both share a part, and one is slower."""
    random = np.random.default_rng(seed)
    drift = np.repeat(random.lognormal(0, shared, rounds), SIZE)
    own = random.lognormal(0, 0.02, (2, rounds, 1)) * random.lognormal(0, 0.03, (2, rounds, SIZE))
    ours, theirs = own.reshape(2, -1) * drift
    return measurement(list(ratio * ours)), measurement(list(theirs))


@pytest.mark.parametrize(("ratio", "rounds"), [(1.0, 6), (0.5, ROUNDS)])
def test_nineteen_of_twenty_intervals_hold_the_true_ratio(ratio: float, rounds: int) -> None:
    ratios = [compare_in_turns(*pair(seed, ratio, rounds, shared=0)) for seed in range(200)]
    held = np.mean([each.low <= ratio <= each.high for each in ratios])
    assert 0.93 <= held <= 0.985


def test_drift_that_both_share_costs_no_coverage() -> None:
    ratios = [compare_in_turns(*pair(seed)) for seed in range(100)]
    assert np.mean([each.low <= 1 <= each.high for each in ratios]) >= 0.95


def test_equals_are_no_difference_and_a_tenth_is_one() -> None:
    equal = [compare_in_turns(*pair(seed)).verdict for seed in range(100)]
    assert equal.count("no difference") >= 90
    assert [compare_in_turns(*pair(seed, 1.1)).verdict for seed in range(20)] == ["slower"] * 20
    assert [compare_in_turns(*pair(seed, 0.9)).verdict for seed in range(20)] == ["faster"] * 20


def test_turns_say_more_than_two_times_of_day() -> None:
    one, other = pair(0, 1.02)
    in_turns, apart = compare_in_turns(one, other), compare_apart(one, other)
    assert in_turns.value == apart.value
    assert in_turns.high - in_turns.low < 0.5 * (apart.high - apart.low)


def test_a_measurement_beside_itself_is_one_exactly() -> None:
    one, _ = pair(3)
    ratio = compare_in_turns(one, one)
    assert (ratio.value, ratio.low, ratio.high, ratio.verdict) == (1, 1, 1, "no difference")


def test_the_same_samples_give_the_same_interval_in_any_unit() -> None:
    one, other = pair(4, 1.05)
    thousandfold = Samples(unit="ms", values=[1000 * value for value in one.latency.values])
    again = compare_in_turns(one.model_copy(update={"latency": thousandfold}), other)
    assert (again.low, again.high) == pytest.approx(
        (compare_in_turns(one, other).low, compare_in_turns(one, other).high)
    )
    with pytest.raises(MeasureError, match="'furlongs'"):
        compare_in_turns(one.model_copy(update={"latency": Samples(unit="furlongs", values=[1.0])}), other)


def test_what_is_within_the_noise_is_no_difference() -> None:
    one, other = pair(5, 1.1)
    assert compare_in_turns(one, other, floor=0.05).verdict == "slower"
    assert compare_in_turns(one, other, floor=0.2).verdict == "no difference"
    assert noise_floor(one, one) == 0
    again, baseline = pair(6, 1.3)
    assert noise_floor(baseline, again) > 0.25


def test_few_rounds_have_no_interval_and_no_verdict() -> None:
    ratio = compare_in_turns(*pair(0, 2.0, rounds=5))
    assert (ratio.low, ratio.high, ratio.verdict) == (None, None, "unknown")
    assert compare_in_turns(*pair(0, 2.0, rounds=6)).verdict == "slower"


def test_a_cut_off_round_and_samples_without_rounds_are_compared_all_the_same() -> None:
    one, other = pair(7, 1.2)
    cut = one.model_copy(
        update={"latency": Samples(unit="s", values=one.latency.values[:-8]), "rounds": [5] * 10 + [2]}
    )
    assert compare_in_turns(cut, other).verdict == "slower"
    assert compare_in_turns(*(each.model_copy(update={"rounds": []}) for each in (one, other))).verdict == "slower"


def test_student_quantiles_are_those_of_the_tables() -> None:
    known = {5: 2.571, 9: 2.262, 11: 2.201, 29: 2.045, 100: 1.984}
    for degrees, value in known.items():
        assert student_t(degrees) == pytest.approx(value, abs=2e-3)


def test_two_machines_are_never_compared() -> None:
    one, other = pair(0)
    for strange in (
        other.model_copy(update={"machine": OTHER}),
        other.model_copy(update={"machine": MACHINE.model_copy(update={"cores": 8})}),
        other.model_copy(update={"target": "phone"}),
    ):
        for compare in (compare_in_turns, compare_apart):
            with pytest.raises(MeasureError, match=r"measured on another machine \(.*this one is Toy, 2 cores, 8 GB"):
                compare(one, strange)
    upgraded = MACHINE.model_copy(update={"system": "Linux 7", "python": "3.13"})
    assert compare_apart(one, other.model_copy(update={"machine": upgraded})).doubts == ()


def test_unlike_tasks_are_refused_or_doubted() -> None:
    values = pair(0)[0].latency.values
    with pytest.raises(MeasureError, match="of 9 tokens on 2 threads, but b of 20 on 1; measure both in one bench"):
        compare_in_turns(measurement(values, "a", threads=2), measurement(values, "b", tokens=20))
    (doubt,) = compare_in_turns(measurement(values, images=2), measurement(values)).doubts
    assert doubt == "different input: 2 images of 5 regions; the baseline has 5 regions"
    newer = MACHINE.model_copy(update={"packages": {"onnxruntime": "2", "numpy": "2"}})
    older = MACHINE.model_copy(update={"packages": {"onnxruntime": "1", "numpy": "2"}})
    (doubt,) = compare_apart(measurement(values, machine=newer), measurement(values, machine=older)).doubts
    assert doubt == "different versions: onnxruntime 2, was 1"


def test_each_row_is_compared_with_the_baseline_of_its_own_task() -> None:
    slow, fast = (list(values * np.ones(60)) for values in (2.0, 1.0))
    rows = [
        measurement(value, name, threads=threads)
        for threads in (1, 2)
        for name, value in (("a", fast), ("b", slow), ("c", fast))
    ]
    bench = BenchRecord(started="2030-01-01T00:00:00+00:00", measurements=rows, baseline="b")
    ratios = compare_all(bench)
    assert [each and each.value for each in ratios] == [0.5, None, 0.5] * 2
    assert find_baseline(bench, rows[3]) is rows[4]
    assert [each and each.value for each in compare_all(bench.model_copy(update={"baseline": None}))] == [
        None, 2, 1, None, 2, 1,
    ]  # fmt: skip


def test_the_noise_of_a_task_is_the_floor_of_its_rows_alone() -> None:
    one, other = pair(8, 1.1)
    two = [each.model_copy(update={"task": each.task.model_copy(update={"threads": 2})}) for each in (other, one)]
    rows = [
        other.model_copy(update={"artifact_path": "base"}),
        one,
        two[0].model_copy(update={"artifact_path": "base"}),
        two[1],
    ]
    noisy = measurement([1.5 * value for value in other.latency.values])
    bench = BenchRecord(started="", measurements=rows, baseline="base", noise=[noisy])
    assert [each and each.verdict for each in compare_all(bench)] == [None, "no difference", None, "slower"]


def test_a_kept_bench_is_a_baseline_on_its_own_machine_only() -> None:
    one, other = pair(9, 1.5)
    bench = BenchRecord(started="", measurements=[one])
    kept = BenchRecord(started="", measurements=[other])
    assert compare_all(bench, kept)[0].verdict == "slower"
    strange = BenchRecord(started="", measurements=[other.model_copy(update={"machine": OTHER})])
    with pytest.raises(MeasureError, match="another machine"):
        compare_all(bench, strange)


def test_the_interval_is_that_of_the_medians_of_resampled_rounds() -> None:
    """Against numpy's median of each resample, with rounds of unlike lengths; in turns both draw the same rounds."""
    one, other = pair(10, 1.2)
    short = one.model_copy(
        update={"latency": Samples(unit="s", values=one.latency.values[:-8]), "rounds": [5] * 10 + [2]}
    )

    def medians(measured: Measurement, seed: int, rounds: int) -> np.ndarray:
        ends = np.cumsum(measured.rounds)
        parts = np.split(np.asarray(measured.latency.values), ends[:-1])
        return np.array([np.median(np.concatenate([parts[k] for k in drawn])) for drawn in resample(rounds, seed=seed)])

    for compare, rounds, seed, least in ((compare_in_turns, (11, 11), 0, 11), (compare_apart, (11, 12), 1, 11)):
        expected = bootstrap_interval(medians(short, 0, rounds[0]) / medians(other, seed, rounds[1]), least)
        ratio = compare(short, other)
        assert (ratio.low, ratio.high) == pytest.approx(expected, rel=1e-12)
    assert compare_apart(other, short).low == pytest.approx(
        bootstrap_interval(medians(other, 0, 12) / medians(short, 1, 11), 11)[0], rel=1e-12
    )


def test_what_reaches_the_noise_or_an_interval_that_touches_one_is_no_difference() -> None:
    quarter, one = (measurement([value] * 60) for value in (1.25, 1.0))
    assert compare_in_turns(quarter, one, floor=0.25).verdict == "no difference"
    for value in (1.5, 0.5):
        often = measurement([value] * 35 + [1.0] * 25)
        ratio = compare_in_turns(often, one)
        assert (ratio.value, sorted((ratio.low, ratio.high))) == (value, sorted((1.0, value)))
        assert ratio.verdict == "no difference"


def test_a_library_that_one_machine_lacks_is_no_other_version() -> None:
    values = pair(0)[0].latency.values
    more = MACHINE.model_copy(update={"packages": {"numpy": "2", "onnxruntime": "2"}})
    less = MACHINE.model_copy(update={"packages": {"numpy": "2"}})
    for one, other in ((more, less), (less, more)):
        assert compare_apart(measurement(values, machine=one), measurement(values, machine=other)).doubts == ()


@pytest.mark.parametrize(("unit", "per_second"), [("ms", 1e3), ("us", 1e6), ("ns", 1e9)])
def test_every_unit_of_time_is_a_part_of_a_second(unit: str, per_second: float) -> None:
    one, other = pair(11, 1.5)
    samples = Samples(unit=unit, values=[per_second * value for value in one.latency.values])
    same = compare_in_turns(one.model_copy(update={"latency": samples}), other)
    assert same.value == pytest.approx(compare_in_turns(one, other).value)


@pytest.mark.parametrize("rounds", [5, 12])
def test_the_noise_reaches_to_the_far_end_of_its_interval(rounds: int) -> None:
    baseline, again = pair(12, 1.1, rounds)
    ratio = compare_in_turns(again, baseline)
    ends = [end for end in (ratio.value, ratio.low, ratio.high) if end is not None]
    assert noise_floor(baseline, again) == max(abs(end - 1) for end in ends)


def test_measurements_of_one_phone_are_compared() -> None:
    one, other = (each.model_copy(update={"target": "phone"}) for each in pair(13))
    assert compare_apart(one, other).doubts == ()


def test_a_kept_bench_without_measurements_compares_nothing() -> None:
    one, _ = pair(14)
    empty = BenchRecord(started="", measurements=[])
    assert compare_all(BenchRecord(started="", measurements=[one]), empty) == [None]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"images": 1, "objects": 1}, "1 region"),
        ({"images": 1, "objects": 5}, "5 regions"),
        ({"images": 2, "objects": 5}, "2 images of 5 regions"),
        ({"images": 1, "objects": 1, "picture_size": 32}, "a picture of 32 x 32 pixels"),
        ({"images": 2, "objects": 1, "picture_size": 32}, "2 pictures of 32 x 32 pixels"),
    ],
)
def test_what_a_question_is_about_is_told_in_words(changes: dict[str, int], words: str) -> None:
    assert name_images(pair(0)[0].task.model_copy(update=changes)) == words
