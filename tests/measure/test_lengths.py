"""Drawn lengths are the data's, and a longer question is no noise."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from lxcompress.data.bert_rules import SPECIAL
from lxcompress.measure.bench_warnings import sample_warnings
from lxcompress.measure.inputs import make_feeds, make_questions
from lxcompress.measure.lengths import at_one_length, draw_lengths
from lxcompress.measure.worker import warmup_lengths

VQA_LIKE = {6: 10, 7: 30, 8: 35, 9: 20, 12: 4, 20: 1}


def test_as_many_draws_as_questions_are_the_questions() -> None:
    assert Counter(draw_lengths(VQA_LIKE, 100, seed=0)) == VQA_LIKE
    assert Counter(draw_lengths(VQA_LIKE, 300, seed=5)) == {length: 3 * count for length, count in VQA_LIKE.items()}


@pytest.mark.parametrize("runs", [1, 7, 50])
def test_few_draws_have_the_quantiles_of_the_data(runs: int) -> None:
    drawn = draw_lengths(VQA_LIKE, runs, seed=0)
    data = sorted(length for length, count in VQA_LIKE.items() for _ in range(count))
    assert sorted(drawn) == [data[int((place + 0.5) / runs * len(data))] for place in range(runs)]


def test_a_seed_is_an_order_and_the_order_mixes() -> None:
    assert draw_lengths(VQA_LIKE, 50, seed=1) == draw_lengths(VQA_LIKE, 50, seed=1)
    assert draw_lengths(VQA_LIKE, 50, seed=1) != draw_lengths(VQA_LIKE, 50, seed=2)
    assert sorted(draw_lengths(VQA_LIKE, 50, seed=1)) != draw_lengths(VQA_LIKE, 50, seed=1)


def test_what_only_length_moves_is_steady_at_one_length() -> None:
    lengths = draw_lengths({5: 50, 20: 50}, 60, seed=0)
    values = [0.080 + 0.002 * length for length in lengths]
    assert sample_warnings(values) != []
    assert at_one_length(values, lengths) == pytest.approx([0.080 + 0.002 * 12.5] * 60)
    assert sample_warnings(at_one_length(values, lengths)) == []


def test_slow_answers_stay_slow_and_equal_lengths_change_nothing() -> None:
    lengths = draw_lengths(VQA_LIKE, 60, seed=0)
    values = [0.080 + 0.002 * length + (0.2 if place % 5 == 0 else 0) for place, length in enumerate(lengths)]
    assert any(doubt.startswith("long tail") for doubt in sample_warnings(at_one_length(values, lengths)))
    assert at_one_length([1.0, 2.0], []) == at_one_length([1.0, 2.0], [7, 7]) == [1.0, 2.0]


def test_questions_differ_in_their_words_alone_and_hold_their_regions_once() -> None:
    questions = make_questions([9, 4, 9], objects=3, feature_size=2, seed=1, images=2)
    assert sorted(questions) == [4, 9]
    longest = make_feeds(tokens=9, objects=3, feature_size=2, seed=1, images=2)
    for length, feeds in questions.items():
        assert feeds["input_ids"].shape == feeds["attention_mask"].shape == (2, length)
        assert np.array_equal(feeds["input_ids"], longest["input_ids"][:, :length])
        assert feeds["input_ids"].flags.c_contiguous
        assert feeds["visual_feats"] is questions[9]["visual_feats"]


@pytest.mark.parametrize(("lengths", "runs"), [([7], 3), ([5, 9, 6], 2), ([5, 9, 6], 10), ([4, 8], 0)])
def test_each_length_is_met_before_it_is_timed(lengths: list[int], runs: int) -> None:
    warm = warmup_lengths(lengths, runs)
    assert warm[0] == max(lengths)
    assert set(warm) == set(lengths)
    assert len(warm) == max(runs, len(lengths))


def test_made_up_words_are_rows_of_the_smallest_word_embedding() -> None:
    words = make_feeds(tokens=500, objects=1, feature_size=1, seed=0)["input_ids"]
    assert words.min() >= 1, "id 0 is padding"
    assert words.max() < len(SPECIAL), "a vocabulary has at least the special tokens"
