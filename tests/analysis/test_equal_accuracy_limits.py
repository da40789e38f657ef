"""The comparison at equal accuracy where it is decided: which bench and which file count, and its JSON values."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lxcompress.analysis.equal_accuracy_words import equal_accuracy_json, equal_accuracy_sentence
from lxcompress.analysis.groups import GroupKey
from lxcompress.analysis.pick import pick_ticket
from lxcompress.analysis.verdict import headlines
from lxcompress.recipe import Method
from tests.analysis.at_equal_accuracy import CELL, RULE, compared, dense, on_test, ticket
from tests.analysis.handmade import bench, group, measured, score, summary
from tests.report.synthetic import dense_record

RANDOM = Method(criterion="random")
RANDOM_CELL = GroupKey(RANDOM, 0.5).cell(0).id


def both_methods(*files, accuracies=(0.8, 0.8)):
    """The comparison of a run with a ticket of low magnitude and a random one."""
    low, random = accuracies
    return compared(*files, groups=(group(low), group(random, method=RANDOM)))


def test_no_ticket_that_keeps_the_accuracy_decides_the_comparison_and_the_best_one_is_named():
    files = bench(dense(), ticket(accuracy=0.7), ticket(cell=RANDOM_CELL, name="random", accuracy=0.72))
    found = both_methods(*files, accuracies=(0.7, 0.72))
    assert found.is_decided
    assert found.size is None
    assert "the nearest, ticket int8 random 50 % (onnx), keeps 90.0 %" in equal_accuracy_sentence(found)


def test_one_ticket_that_keeps_the_accuracy_leaves_it_undecided_until_there_is_a_rival():
    poor = ticket(cell=RANDOM_CELL, name="random", accuracy=0.7, source=f"tickets/{RANDOM_CELL}")
    kept = ticket(source=f"tickets/{CELL}", format="engine")
    found = both_methods(poor, kept, accuracies=(0.8, 0.7))
    assert not found.is_decided
    assert found.command == f"lxcompress export run/tickets/{CELL} --twins --format engine"


def test_a_method_is_named_if_another_one_is_exported_too():
    labels = {file.exported.name: file.label for file in compared(dense(), ticket()).files}
    assert labels == {"dense-int8": "dense int8", "ticket-int8": "ticket int8 50 %"}
    labels = {
        file.exported.name: file.label for file in both_methods(ticket(), ticket(cell=RANDOM_CELL, name="b")).files
    }
    assert labels == {"ticket-int8": "ticket int8 low-magnitude 50 %", "b": "ticket int8 random 50 %"}
    found = compared(ticket(), ticket(cell=RANDOM_CELL, name="b"))  # a ticket of no group of the run
    assert [file.label for file in found.files if file.exported.name == "ticket-int8"] == ["ticket int8 50 %"]


@pytest.mark.parametrize(
    "newer_times",
    [
        [measured("dense-int8", 8.0)],
        [measured("dense-int8", 8.0, target="adb:phone"), measured("ticket-int8", 2.0, target="adb:phone")],
    ],
    ids=["without-tickets", "of-another-machine"],
)
def test_a_newer_bench_counts_less_without_tickets_or_from_another_machine(newer_times):
    files = bench(dense(2.0), ticket(1.0))
    newer = files[0].benches[0][1].model_copy(update={"started": "2027-01-02T03:04:05Z", "measurements": newer_times})
    files = [
        replace(file, benches=(*((time, newer) for time in newer_times if time.artifact == file.name), *file.benches))
        for file in files
    ]
    found = compared(*files)
    assert found.speed is not None
    assert found.speed.times == 2.0


def test_a_faster_file_is_compared_in_size_too_although_another_one_is_smaller():
    fast, small = ticket(1.0, 3.0, name="fast"), ticket(9.0, 1.0, name="small", format="openvino")
    found = compared(*bench(dense(2.0, 2.0), fast, small))
    assert (found.speed.file.exported.name, found.size.file.exported.name) == ("fast", "fast")
    assert found.missing == ""


def test_files_that_no_common_bench_measured_are_counted():
    found = compared(*bench(dense(), ticket()), ticket(None, name="engine", format="engine"))
    assert found.missing == "1 of the files that keep enough accuracy was not measured in that bench"
    more = ticket(None, name="openvino", format="openvino")
    found = compared(*bench(dense(), ticket()), ticket(None, name="engine", format="engine"), more)
    assert found.missing == "2 of the files that keep enough accuracy were not measured in that bench"


def test_the_front_is_of_accuracy_latency_size_and_memory():
    def front(*files):
        return {file.exported.name for file in compared(*files).files if file.is_optimal}

    worse = ticket(1.5, 1.5, name="worse", format="openvino")
    assert front(*bench(dense(2.0, 2.0), ticket(1.0, 1.0), worse)) == {"ticket-int8"}
    accurate = dense(2.0, 2.0, accuracy=0.85)
    assert front(*bench(accurate, ticket(1.0, 1.0), worse)) == {"dense-int8", "ticket-int8"}
    small = replace(worse, measurements=(measured("worse", 1.5, peak_mb=50.0),))
    assert front(*bench(dense(), ticket(1.0, 1.0), small)) == {"ticket-int8", "worse"}
    unknown = replace(worse, measurements=(measured("worse", 1.5, peak_mb=None),))
    assert front(*bench(dense(), ticket(1.0, 1.0), unknown)) == {"ticket-int8"}


@pytest.mark.parametrize(("ms", "mb"), [(1.0, 2.0), (4.0, 1.0), (1.0, 1.0)], ids=["faster", "smaller", "both"])
@pytest.mark.parametrize(("accuracy", "is_confirmed"), [(0.594, True), (0.588, False)])
def test_the_test_split_confirms_the_file_of_the_sentence(ms, mb, accuracy, is_confirmed):
    runs = (dense_record(0, 0.8, ()).model_copy(update={"test": on_test(0.6)}),)
    other = ticket(9.0, 9.0, name="other", format="openvino", test=score(0.6 if accuracy < 0.59 else 0.5))
    files = bench(dense(2.0, 2.0, test=score(0.6)), ticket(ms, mb, test=score(accuracy)), other)
    found = compared(*files, dense_runs=runs)
    assert equal_accuracy_json(found)["is_confirmed"] == is_confirmed
    assert ("but less on test" in equal_accuracy_sentence(found)) != is_confirmed


def test_a_file_that_is_smaller_and_as_fast_is_praised_for_its_size_alone():
    again = [measured("dense-int8", 2.6)]
    words = equal_accuracy_sentence(compared(*bench(dense(2.0, 2.0), ticket(1.8, 1.0), again=again)))
    assert "is 2.00 times as small" in words
    assert "no ticket is faster" in words


def test_too_few_rounds_of_equal_times_are_no_gain():
    few = {"rounds": [4, 4]}
    files = (replace(file, measurements=(measured(file.name, 2.0, **few),)) for file in (dense(), ticket()))
    assert "no ticket is faster: ticket int8 50 % (onnx) takes 1.00 times as long" in equal_accuracy_sentence(
        compared(*bench(*files))
    )


def test_the_interval_of_a_loss_begins_with_its_lower_end():
    noisy = measured("ticket-int8", 4.0)
    times = [3.6, 4.0, 4.0, 4.0, 4.4, 4.0, 4.8, 4.0]
    noisy = noisy.model_copy(update={"latency": noisy.latency.model_copy(update={"values": times})})
    found = compared(*bench(dense(2.0, 2.0), replace(ticket(), measurements=(noisy,))))
    low, high = (2.0 / time for time in (4.8, 3.6))
    assert low < found.speed.interval[0] < 0.5 < found.speed.interval[1] < high
    ends = f"{1 / found.speed.interval[1]:.2f} to {1 / found.speed.interval[0]:.2f}"
    assert f"takes 2.00 times (95 % interval {ends}) as long" in equal_accuracy_sentence(found)


def test_the_json_values_of_a_file_are_those_of_the_shared_bench():
    slow = measured("ticket-int8", 1.0, peak_mb=30.0, runtime="openvino")
    files = bench(dense(2.0), replace(ticket(), measurements=(slow,)))
    found = equal_accuracy_json(compared(*files, ticket(None, name="engine", format="engine")))
    by_name = {file["artifact"].rpartition("/")[2]: file for file in found["files"]}
    fields = ("runtime", "latency_p50_ms", "latency_p90_ms", "peak_bytes")
    assert [by_name["ticket-int8"][name] for name in fields] == ["openvino", 1.0, 1.0, 30_000_000]
    assert [by_name["dense-int8"][name] for name in fields] == ["onnxruntime", 2.0, 2.0, 100_000_000]
    assert [by_name["engine"][name] for name in fields] == [None] * 4
    assert [by_name[name]["is_rival"] for name in ("ticket-int8", "dense-int8")] == [False, True]


def test_a_run_whose_dense_models_are_missing_has_one_headline():
    run = replace(summary(group(0.8), artifacts=(ticket(),)), dense=None, dense_missing=(0,))
    assert len(headlines(run, pick_ticket(run, RULE))) == 1
