"""The comparison at equal accuracy: which files take part, what counts as fair, and what the sentence says."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lxcompress.analysis.equal_accuracy import compare_at_equal_accuracy
from lxcompress.analysis.equal_accuracy_words import (
    COLUMNS,
    equal_accuracy_json,
    equal_accuracy_rows,
    equal_accuracy_sentence,
)
from lxcompress.analysis.groups import GroupKey
from lxcompress.analysis.pick import pick_ticket
from lxcompress.analysis.rule import Rule
from lxcompress.analysis.verdict import headlines
from lxcompress.recipe import Method
from tests.analysis.at_equal_accuracy import AGREES, CELL, RULE, compared, dense, on_test, ticket
from tests.analysis.handmade import bench, group, measured, score, summary
from tests.report.synthetic import Accuracies, dense_record, result_record


def test_a_ticket_that_is_faster_and_smaller_beats_dense_int8():
    found = compared(*bench(dense(2.0, 3.0), ticket(1.0, 2.0)))
    assert (found.speed.times, found.speed.interval, found.speed.verdict) == (2.0, (2.0, 2.0), "faster")
    assert found.size.times == 1.5
    assert equal_accuracy_sentence(found) == (
        "At >= 99 % of dense accuracy, ticket int8 50 % (onnx) is 2.00 times (95 % interval 2.00 to 2.00) as fast as "
        "the fastest dense int8 (onnx, 2.00 ms) and 1.50 times as small as the smallest (onnx, 3.00 MB); it keeps "
        "100.0 % on validation (seed 0 alone)."
    )
    assert found.is_decided
    assert found.command is None


def test_the_interval_of_a_gain_is_that_of_the_ratio_of_times_upside_down():
    times = [0.9, 1.0, 1.0, 1.0, 1.1, 1.0, 1.2, 1.0]
    varied = ticket()
    noisy = measured("ticket-int8", 1.0)
    noisy = noisy.model_copy(update={"latency": noisy.latency.model_copy(update={"values": times})})
    found = compared(*bench(dense(2.0), replace(varied, measurements=(noisy,))))
    low, high = found.speed.interval
    assert low < found.speed.times == 2.0 < high
    assert "(95 % interval " in equal_accuracy_sentence(found)


def test_the_rivals_are_the_fastest_and_the_smallest_dense_int8_file():
    fast, small = dense(1.5, 4.0, name="fast"), dense(3.0, 1.5, name="small", format="openvino")
    found = compared(*bench(fast, small, ticket(1.0, 1.0)))
    assert (found.speed.rival.exported.name, found.size.rival.exported.name) == ("fast", "small")
    assert (found.speed.times, found.size.times) == (1.5, 1.5)


def test_a_rival_counts_whatever_its_accuracy_but_int4_must_keep_it():
    poor = dense(1.0, 1.0, accuracy=0.4)
    assert compared(*bench(poor, ticket(2.0, 2.0))).speed.times == 0.5
    half = {"precision": "int4", "name": "half"}
    found = compared(*bench(dense(4.0, 4.0), dense(1.0, 1.0, accuracy=0.7, **half), ticket(2.0, 2.0)))
    assert (found.speed.times, found.size.times) == (2.0, 2.0)
    found = compared(*bench(dense(4.0, 4.0), dense(1.0, 1.0, **half), ticket(2.0, 2.0)))
    assert (found.speed.times, found.size.times) == (0.5, 0.5)
    assert "nothing beats dense int8 or int4" in equal_accuracy_sentence(found)


def test_nothing_beats_dense_int8():
    words = equal_accuracy_sentence(compared(*bench(dense(1.0, 1.0), ticket(2.0, 2.0))))
    assert words == (
        "At >= 99 % of dense accuracy, nothing beats dense int8: the fastest ticket, ticket int8 50 % (onnx), takes "
        "2.00 times (95 % interval 2.00 to 2.00) as long as the fastest (onnx, 1.00 ms), and the smallest, ticket int8 "
        "50 % (onnx), has 2.00 times the size of the smallest (onnx, 1.00 MB)."
    )


@pytest.mark.parametrize(
    ("ms", "mb", "words"),
    [
        (1.0, 2.0, "2.00 times (95 % interval 2.00 to 2.00) as fast as the fastest dense int8 (onnx, 2.00 ms) but it "
         "has 1.00 times the size of the smallest (onnx, 2.00 MB)"),
        (1.0, 4.0, "as fast as the fastest dense int8 (onnx, 2.00 ms) but it has 2.00 times the size of the smallest"),
        (2.0, 1.0, "is 2.00 times as small as the smallest dense int8 (onnx, 2.00 MB); it keeps 100.0 % on validation "
         "(seed 0 alone); no ticket is faster: ticket int8 50 % (onnx) is as fast as the fastest (onnx, 2.00 ms), "
         "within the noise of the bench."),
        (4.0, 1.0, "no ticket is faster: ticket int8 50 % (onnx) takes 2.00 times"),
        (2.0, 1.995, "nothing beats dense int8"),
    ],
)  # fmt: skip
def test_a_gain_in_one_of_the_two_is_said_with_the_other(ms, mb, words):
    assert words in equal_accuracy_sentence(compared(*bench(dense(2.0, 2.0), ticket(ms, mb))))


def test_a_difference_within_the_noise_of_the_bench_is_none():
    again = [measured("dense-int8", 2.6)]
    found = compared(*bench(dense(2.0, 1.0), ticket(1.8, 1.0), again=again))
    assert found.speed.verdict == "no difference"
    assert "within the noise of the bench" in equal_accuracy_sentence(found)


def test_too_few_rounds_give_a_gain_without_an_interval():
    few = {"rounds": [4, 4]}
    files = bench(
        replace(dense(), measurements=(measured("dense-int8", 2.0, **few),)),
        replace(ticket(), measurements=(measured("ticket-int8", 1.0, **few),)),
    )
    found = compared(*files)
    assert (found.speed.verdict, found.speed.interval) == ("unknown", None)
    assert "is 2.00 times as fast as" in equal_accuracy_sentence(found)


def test_of_files_that_are_equally_fast_the_smallest_is_shown():
    large, small = ticket(1.0, 3.0, name="large"), ticket(1.0, 1.0, name="small", format="openvino")
    slow = ticket(1.5, 0.5, name="slow", precision="fp16")
    found = compared(*bench(dense(), large, small, slow))
    assert {found.speed.file.exported.name, found.size.file.exported.name} == {"small"}


def test_if_the_fastest_file_gains_nothing_the_smallest_one_is_compared_in_size():
    fast, small = ticket(2.0, 3.0, name="fast"), ticket(9.0, 1.0, name="small", format="bitmask")
    found = compared(*bench(dense(2.0, 2.0), fast, small))
    assert (found.speed.file.exported.name, found.size.file.exported.name) == ("fast", "small")
    assert "ticket int8 50 % (bitmask in onnxruntime) is 2.00 times as small" in equal_accuracy_sentence(found)


@pytest.mark.parametrize(
    "other",
    [{"threads": 2}, {"tokens": 5}, {"lengths": [3]}, {"objects": 9}, {"batch": 4}],
    ids=lambda other: next(iter(other)),
)
def test_times_of_other_tasks_are_not_compared(other):
    mine = replace(ticket(), measurements=(measured("ticket-int8", 1.0, **other),))
    found = compared(*bench(dense(), mine))
    assert found.speed is None
    assert found.command == "lxcompress bench run/artifacts/*"
    assert "2.00 times as small" in equal_accuracy_sentence(found)


def test_times_of_two_benches_are_not_compared():
    found = compared(*bench(dense()), *bench(ticket()))
    assert found.speed is None
    assert equal_accuracy_sentence(found).endswith("speed is not compared: one bench must measure both.")


def test_a_bench_without_one_of_the_rivals_compares_no_speeds():
    """It might be the fastest one. A format that no runtime serves cannot be; neither can one of another seed."""
    hidden = dense(None, name="hidden", format="openvino")
    found = compared(*bench(dense(), ticket()), hidden)
    assert found.speed is None
    assert found.missing.endswith("and no bench of the tickets has dense int8 (openvino)")
    assert compared(*bench(dense(), ticket()), dense(None, name="apple", format="coreml")).speed
    assert compared(*bench(dense(), ticket()), dense(None, name="seed1", source="seeds/1/dense")).speed


def test_a_ticket_that_the_bench_lacks_is_named_as_missing():
    found = compared(*bench(dense(2.0), ticket(1.0)), ticket(None, name="engine", format="engine"))
    assert found.speed.times == 2.0
    assert found.command == "lxcompress bench run/artifacts/*"


def test_the_threads_of_the_recipe_come_first_and_then_the_newer_bench():
    def both(at, **task):
        files = [
            replace(file, measurements=(measured(file.name, ms, **task),))
            for file, ms in ((dense(), at), (ticket(), 1.0))
        ]
        return bench(*files)

    def join(*benches):
        return [
            replace(files[0], benches=tuple(pair for file in files for pair in file.benches))
            for files in zip(*benches, strict=True)
        ]

    one, two, newer = both(2.0), both(3.0, threads=2), both(4.0)
    newer = [
        replace(file, benches=tuple((found, newest) for found, _ in file.benches))
        for newest in [newer[0].benches[0][1].model_copy(update={"started": "2027-01-02T03:04:05Z"})]
        for file in newer
    ]
    assert compared(*join(two, one)).speed.times == 2.0
    assert compared(*join(one, newer)).speed.times == compared(*join(newer, one)).speed.times == 4.0
    assert compared(*join(two)).speed.times == 3.0


def test_of_two_runtimes_of_a_file_the_faster_one_counts_and_is_named():
    slow, quick = measured("dense-int8", 4.0), measured("dense-int8", 2.0, runtime="openvino")
    found = compared(*bench(replace(dense(), measurements=(slow, quick)), ticket()))
    assert found.speed.times == 2.0
    assert "the fastest dense int8 (onnx in openvino, 2.00 ms)" in equal_accuracy_sentence(found)


@pytest.mark.parametrize(("accuracies", "is_enough"), [((0.8, 0.784), True), ((0.8, 0.7839), False)])
def test_the_accuracy_is_the_mean_over_seeds_of_each_seeds_ratio(accuracies, is_enough):
    """The best seed alone would pass; the file of seed 1 is not on record, so its ticket counts."""
    found = compared(*bench(dense(), ticket()), accuracies=accuracies)
    kept = next(file for file in found.files if file.is_ticket)
    assert kept.keeps_enough == is_enough
    assert kept.kept.scored == (0,)
    assert kept.kept.ratios.by_seed == {0: 1.0, 1: pytest.approx(accuracies[1] / 0.8)}
    assert ("Nothing beats" in equal_accuracy_sentence(found)) != is_enough
    if is_enough:
        spread = "(mean of 2 seeds, 86.3 to 111.7 %; seed 0 as a file, the rest as tickets)"
        assert equal_accuracy_sentence(found).endswith(f"it keeps 99.0 % on validation {spread}.")


def test_the_file_of_another_seed_counts_before_its_ticket_and_an_export_that_loses_is_added():
    lost = ticket(accuracy=0.76)
    kept = next(file for file in compared(*bench(dense(), lost), accuracies=(0.8, 0.8)).files if file.is_ticket).kept
    assert kept.ratios.by_seed == {0: pytest.approx(0.95), 1: pytest.approx(0.95)}
    other = ticket(cell="low-magnitude-weight-50-seed1", name="other", accuracy=0.8)
    found = compared(*bench(dense(), lost, other), accuracies=(0.8, 0.8))
    kept = next(file for file in found.files if file.exported.name == "ticket-int8").kept
    assert (kept.scored, kept.ratios.by_seed) == ((0, 1), {0: pytest.approx(0.95), 1: 1.0})


def test_a_file_that_was_not_scored_has_the_accuracy_of_its_ticket_and_one_not_checked_has_none():
    found = compared(*bench(dense(), ticket(accuracy=None, parity=AGREES)))
    assert "100.0 % on validation (seed 0 alone; as a ticket)" in equal_accuracy_sentence(found)
    assert "no exported ticket keeps" in equal_accuracy_sentence(compared(*bench(dense(), ticket(accuracy=None))))


@pytest.mark.parametrize(
    ("accuracy", "start", "end"),
    [
        (0.6, "At >= 99 % of dense accuracy, ticket int8 50 %", "it keeps 100.0 % on test (seed 0 alone)."),
        (0.588, "At >= 99 % of dense accuracy on validation, but less on test, ticket", "keeps 98.0 % on test (seed 0"),
    ],
)
def test_what_was_chosen_in_validation_is_reported_on_test(accuracy, start, end):
    """The test split chooses nothing: a file that is better on it is not chosen for that."""
    mine = ticket(test=score(accuracy))
    runs = (dense_record(0, 0.8, ()).model_copy(update={"test": on_test(0.6)}),)
    poor = ticket(0.5, name="poor", format="openvino", accuracy=0.7, test=score(0.6))
    found = compared(*bench(dense(test=score(0.6)), mine, poor), dense_runs=runs)
    assert equal_accuracy_sentence(found).startswith(start)
    assert end in equal_accuracy_sentence(found)
    assert equal_accuracy_json(found)["is_confirmed"] == (accuracy == 0.6)


def test_the_test_accuracy_of_another_seed_is_that_of_its_ticket_after_such_an_export():
    cells = [GroupKey(Method(), 0.5).cell(seed) for seed in (0, 1)]
    results = [
        result_record(cell, Accuracies(0.8, 0.8, 0.8), (), 1000).model_copy(update={"test": on_test(0.6)})
        for cell in cells
    ]
    runs = tuple(dense_record(seed, 0.8, ()).model_copy(update={"test": on_test(0.6)}) for seed in (0, 1))
    files = bench(dense(), ticket(accuracy=0.797, test=score(0.594)))
    found = compared(*files, accuracies=(0.8, 0.8), dense_runs=runs, results=tuple(results))
    kept = next(file for file in found.files if file.is_ticket).tested
    assert (kept.ratios.by_seed, kept.scored) == ({0: pytest.approx(0.99), 1: pytest.approx(0.995)}, (0,))


def test_no_ticket_keeps_the_accuracy():
    words = equal_accuracy_sentence(compared(*bench(dense(), ticket(accuracy=0.7)), accuracies=(0.7,)))
    assert words == (
        "Nothing beats dense int8: no exported ticket keeps >= 99 % of dense accuracy; the nearest, ticket int8 50 % "
        "(onnx), keeps 87.5 % on validation."
    )


def test_controls_and_other_models_are_no_tickets():
    control = Method(control="shuffled")
    cell = f"{control.id}-50-seed0"
    found = compared(*bench(dense(), ticket(cell=cell)), groups=(group(0.8, method=control),))
    assert [file.exported.name for file in found.files] == ["dense-int8"]
    assert equal_accuracy_sentence(found) == "Not compared with dense int8 at equal accuracy: no ticket is exported."


def test_without_a_rival_the_command_exports_one():
    found = compared(*bench(dense(precision="fp32"), ticket(source=f"tickets/{CELL}", format="engine")))
    assert equal_accuracy_sentence(found) == (
        "Not compared with dense int8 at equal accuracy: the dense model in int8 is not exported."
    )
    assert found.command == f"lxcompress export run/tickets/{CELL} --twins --format engine"
    assert not found.is_decided


def test_a_decided_comparison_comes_before_the_verdict():
    run = summary(group(0.8), artifacts=tuple(bench(dense(), ticket())))
    first, second = headlines(run, pick_ticket(run, RULE))
    assert first.startswith("At >= 99 % of dense accuracy, ")
    assert second.startswith("Ship ")
    run = summary(group(0.8), artifacts=())
    first, second = headlines(run, pick_ticket(run, RULE))
    assert first.startswith("Ship ")
    assert second.startswith("Not compared ")


def test_a_largest_drop_is_a_share_of_the_dense_accuracy():
    found = compared(*bench(dense(), ticket()), rule=Rule(max_drop=0.02))
    assert found.floor == pytest.approx(0.975)
    assert "At >= 97.5 % of dense accuracy" in equal_accuracy_sentence(found)


def test_without_dense_runs_there_is_no_comparison():
    assert compare_at_equal_accuracy(summary(group(0.8), artifacts=(ticket(),)), RULE) is not None
    run = replace(summary(group(0.8), artifacts=(ticket(),)), dense=None, dense_missing=(0,))
    assert compare_at_equal_accuracy(run, RULE) is None


def test_the_table_has_a_row_for_each_file_with_its_figures_and_the_front():
    found = compared(*bench(dense(2.0, 2.0), ticket(1.0, 1.0)), dense(None, name="more", format="openvino"))
    rows = equal_accuracy_rows(found)
    assert rows == [
        ("dense int8 (onnx)", "100.0", "–", "2.00", "2.00", "2.00", "100", ""),
        ("ticket int8 50 % (onnx)", "100.0", "–", "1.00", "1.00", "1.00", "100", "*"),
        ("dense int8 (openvino)", "100.0", "–", "–", "–", "2.00", "–", ""),
    ]
    assert {len(row) for row in rows} == {len(COLUMNS)}
    assert [file.label for file in found.front] == ["ticket int8 50 %"]


def test_json_has_the_sentence_and_every_number():
    found = compared(*bench(dense(2.0, 2.0), ticket(1.0, 1.0)))
    tree = equal_accuracy_json(found)
    assert tree["sentence"] == equal_accuracy_sentence(found)
    assert (tree["speed"]["times_as_fast"], tree["size"]["times_as_small"], tree["floor"]) == (2.0, 2.0, 0.99)
    kept = {"kept": 1.0, "interval": None, "by_seed": {"0": 1.0}, "scored_seeds": [0]}
    assert (tree["files"][1]["validation"], tree["files"][1]["test"], tree["is_confirmed"]) == (kept, None, True)
    assert (tree["files"][1]["latency_p50_ms"], tree["files"][1]["size_bytes"]) == (1.0, 1_000_000)
