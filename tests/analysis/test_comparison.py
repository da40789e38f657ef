"""Two files compared at the edges: what counts as the same, what is not known, and what one bench can tell."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lxcompress.analysis.alternatives import alternatives, candidate_of, role_of
from lxcompress.analysis.comparison import (
    best_free_alternative,
    compare,
    comparison,
    find_dense_int8,
    find_pair,
    is_no_worse,
    is_slower,
)
from tests.analysis.handmade import bench, exported, measured, score


def pair(one=(2.0, 100.0), other=(2.0, 100.0), *, again=(), one_size=1000, other_size=1000, accuracies=(0.8, 0.8)):
    """Two files measured in one bench: (latency in ms, peak in MB), sizes in MB."""
    files = bench(
        exported("one", measured("one", *one), size_bytes=one_size * 10**6, accuracy=score(accuracies[0])),
        exported("other", measured("other", *other), size_bytes=other_size * 10**6, accuracy=score(accuracies[1])),
        again=again,
    )
    return [candidate_of(file) for file in files]


@pytest.mark.parametrize(("size", "sign"), [(1000, 0), (1005, 0), (995, 0), (1006, 1), (994, -1), (2000, 1), (500, -1)])
def test_sizes_within_half_a_percent_are_the_same(size, sign):
    one, other = pair(one_size=size)
    assert compare(one, other)["size"] == sign


@pytest.mark.parametrize(("peak", "sign"), [(100, 0), (102, 0), (98, 0), (102.5, 1), (97.5, -1)])
def test_peaks_within_two_percent_are_the_same(peak, sign):
    one, other = pair((2.0, peak))
    assert compare(one, other)["memory"] == sign


@pytest.mark.parametrize(("again", "sign"), [(None, 1), (104.0, 1), (111.0, 0), (89.0, 0)])
def test_peaks_within_the_noise_of_the_bench_are_the_same(again, sign):
    """The baseline, which is the first one, had 110 MB; the other 100 MB: ten percent are the noise or are not."""
    noise = () if again is None else (measured("one", 2.0, 110.0 * again / 100),)
    one, other = pair((2.0, 110.0), again=noise)
    assert compare(one, other)["memory"] == sign


def test_noise_of_unknown_memory_is_none():
    one, other = pair((2.0, 110.0), again=(measured("one", 2.0, None),))
    found = find_pair(one.exported, other.exported)
    assert (found.memory_noise, compare(one, other)["memory"]) == (0.0, 1)
    one, other = pair((2.0, None), again=(measured("one", 2.0, 100.0),))
    assert find_pair(one.exported, other.exported).memory_noise == 0.0
    assert "memory" not in compare(one, other)
    assert "memory" not in compare(other, one)


@pytest.mark.parametrize(("latency", "sign"), [(2.0, 0), (1.0, -1), (3.0, 1)])
def test_speeds_are_compared_within_one_bench(latency, sign):
    one, other = pair((latency, 100.0))
    assert compare(one, other)["speed"] == sign
    assert is_slower(one.exported, other.exported) == (sign > 0)


@pytest.mark.parametrize(("again", "sign"), [(2.1, 1), (3.1, 0)])
def test_speeds_within_the_noise_floor_are_the_same(again, sign):
    one, other = pair((3.0, 100.0), (2.0, 100.0), again=(measured("one", 3.0 * again / 2.0),))
    assert compare(one, other)["speed"] == sign


@pytest.mark.parametrize(
    "given",
    [{"threads": 2}, {"batch": 2}, {"tokens": 7}, {"lengths": [9]}, {"objects": 6}, {"images": 2}, {"runtime": "x"}],
    ids=str,
)
def test_other_tasks_and_runtimes_are_no_pair(given):
    one, other = bench(exported("one", measured("one", 1.0)), exported("other", measured("other", 9.0, **given)))
    assert find_pair(one, other) is None
    assert set(compare(candidate_of(one), candidate_of(other))) == {"size", "accuracy"}
    other_first = replace(one, measurements=(measured("one", 1.0, **given), *one.measurements))
    assert find_pair(other_first, other) is None  # the default task of the first one was not measured with the other


def test_two_benches_are_no_pair_and_the_newest_bench_is_taken():
    (one,), (other,) = bench(exported("one", measured("one", 1.0))), bench(exported("other", measured("other", 9.0)))
    assert find_pair(one, other) is None
    assert is_slower(other, one)
    assert not is_slower(one, other)
    assert find_pair(exported("one"), other) is None
    old, new = bench(one, other)
    assert find_pair(old, new).one is one.fresh
    assert len({id(found) for _, found in old.benches}) == 2


@pytest.mark.parametrize(("latency", "slower"), [(1.9, False), (2.0, False), (2.1, True)])
def test_what_cannot_be_compared_is_ordered_by_its_p90(latency, slower):
    """Of two numbers of threads, or of too few rounds for an interval."""
    other = exported("other", measured("other", 2.0))
    assert is_slower(exported("one", measured("one", latency, threads=2)), other) == slower
    few = {"rounds": [8]}
    one, other = bench(
        exported("one", measured("one", latency, **few)), exported("other", measured("other", 2.0, **few))
    )
    assert is_slower(one, other) == slower
    assert "speed" not in compare(candidate_of(one), candidate_of(other))


@pytest.mark.parametrize(("accuracies", "sign"), [((0.8, 0.8), 0), ((0.81, 0.8), -1), ((0.8, 0.81), 1)])
def test_accuracies_differ_if_they_are_not_equal(accuracies, sign):
    one, other = pair(accuracies=accuracies)
    assert compare(one, other)["accuracy"] == sign


def test_the_words_hold_the_figures_of_every_difference():
    one, other = pair((1.0, 80.0), (2.0, 100.0), one_size=500, accuracies=(0.81, 0.8))
    assert comparison(one, other) == (
        "smaller (500 against 1000 MB); faster (median 1.00 against 2.00 ms); less memory (80.0 against 100 MB); "
        "1.00 points more accurate (10 of 1,000 questions)"
    )
    assert comparison(other, one) == (
        "larger (1000 against 500 MB); slower (median 2.00 against 1.00 ms); more memory (100 against 80.0 MB); "
        "1.00 points less accurate (10 of 1,000 questions)"
    )
    assert comparison(*pair()) == "same size, speed and memory; same accuracy"
    assert comparison(*pair(one_size=500)) == "same speed and memory; smaller (500 against 1000 MB); same accuracy"
    apart = [candidate_of(exported("one", accuracy=None)), candidate_of(exported("other"))]
    assert comparison(*apart) == "same size"


@pytest.mark.parametrize(
    ("given", "better"),
    [
        ({}, True),
        ({"one": (1.0, 90.0), "one_size": 900, "accuracies": (0.9, 0.8)}, True),
        ({"one": (3.0, 100.0)}, False),
        ({"one": (2.0, 110.0)}, False),
        ({"one_size": 1100}, False),
        ({"accuracies": (0.79, 0.8)}, False),
    ],
)
def test_a_file_is_no_worse_if_it_is_worse_in_nothing(given, better):
    one, other = pair(**given)
    assert is_no_worse(one, other) == better


def test_what_was_not_compared_in_speed_is_not_known_to_be_no_worse():
    (one,), (other,) = bench(exported("one", measured("one", 1.0))), bench(exported("other", measured("other", 1.0)))
    assert not is_no_worse(candidate_of(one), candidate_of(other))
    assert is_no_worse(candidate_of(one), candidate_of(exported("other")))
    assert not is_no_worse(candidate_of(one), candidate_of(exported("other", accuracy=None)))


def test_dense_int8_is_of_the_same_format_and_preferably_of_the_same_bench():
    ticket = exported("ticket", measured("ticket", 2.0), cell="cell", precision="int8")
    near = exported("near", measured("near", 1.0), precision="int8")
    far = exported("far", precision="int8")
    other_format = exported("other", precision="int8", format="openvino")
    ticket, near = bench(ticket, near)
    others = [candidate_of(file) for file in (exported("fp32"), other_format, far, near, ticket)]
    assert find_dense_int8(ticket, others).exported is near
    assert find_dense_int8(ticket, others[:3]).exported is far
    assert find_dense_int8(ticket, others[:2]) is None
    assert find_dense_int8(near, [candidate_of(near)]) is None
    assert best_free_alternative(candidate_of(ticket), others).exported is near
    assert best_free_alternative(candidate_of(ticket), others[:3]) is None  # its speed is not known
    slow, near = bench(replace(ticket, measurements=(measured("ticket", 0.5),)), near)
    assert best_free_alternative(candidate_of(slow), [candidate_of(near)]) is None


@pytest.mark.parametrize(
    ("given", "role"),
    [
        ({}, "dense"),
        ({"precision": "int8"}, "dense int8"),
        ({"precision": "int8-static"}, "dense int8"),
        ({"cell": "cell"}, "ticket"),
        ({"cell": "cell", "precision": "fp16"}, "ticket fp16"),
        ({"cell": "cell", "is_smaller": True}, "structured"),
        ({"is_smaller": True}, "dense"),
        ({"cell": "cell", "twin": "unstructured int8"}, "unstructured int8"),
    ],
    ids=str,
)
def test_a_role_is_told_by_the_twin_or_by_the_source(given, role):
    assert role_of(exported("file", **given)) == role


def test_alternatives_are_of_the_tickets_seed_where_it_has_any():
    files = {
        "dense0": {"source": "seeds/0/dense"},
        "dense1": {"source": "seeds/1/dense"},
        "own": {"cell": "cell-seed1"},
        "twin": {"cell": "small-seed1", "twin": "structured"},
        "of another seed": {"cell": "small-seed0", "twin": "structured"},
        "no twin": {"cell": "low-seed1"},
    }
    artifacts = [exported(name, **given) for name, given in files.items()]

    def names(cell: str, seed: int) -> list[str]:
        return [found.exported.name for found in alternatives(artifacts, cell, seed)]

    assert names("cell-seed1", 1) == ["dense1", "own", "twin"]
    assert names("cell-seed2", 2) == ["dense0", "dense1"]
    assert names("small-seed1", 1) == ["dense1", "twin"]


def test_the_coordinates_of_a_candidate_are_all_known_or_none():
    one, _ = pair((2.0, 100.0), one_size=7)
    assert one.coordinates == (-0.8, 7.0, 2.0, 100.0)
    for lacking in (
        exported("a", accuracy=None, size_bytes=1),
        exported("a"),
        exported("a", measured("a", 2.0, None)),
    ):
        assert candidate_of(lacking).coordinates is None
