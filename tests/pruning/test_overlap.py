"""Laws of overlaps: bounds, symmetry, and chance."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lxcompress.errors import PruneError
from lxcompress.pruning.mask import Mask, keep_top
from lxcompress.pruning.overlap import kept_by_matrix, kept_by_part, overlap


def drawn(seed: int, kept: dict[str, int]) -> Mask:
    generator = torch.Generator().manual_seed(seed)
    return Mask({name: keep_top(torch.rand(100, 80, generator=generator), count) for name, count in kept.items()})


def test_a_mask_shares_all_with_itself_and_nothing_with_its_rest() -> None:
    mask = drawn(0, {"a": 3000, "b": 500})
    assert overlap(mask, mask).shared == 1
    rest = Mask({name: ~kept for name, kept in mask.kept.items()})
    assert overlap(mask, rest).shared == 0


def test_an_overlap_is_symmetric_and_counts_pairs_of_weights() -> None:
    one, other = drawn(1, {"a": 3000, "b": 500}), drawn(2, {"a": 2000, "b": 700})
    assert overlap(one, other) == overlap(other, one)
    first = torch.cat([kept.flatten() for kept in one.kept.values()]).tolist()
    second = torch.cat([kept.flatten() for kept in other.kept.values()]).tolist()
    both = sum(a and b for a, b in zip(first, second, strict=True))
    either = sum(a or b for a, b in zip(first, second, strict=True))
    assert overlap(one, other).shared == both / either


def test_masks_drawn_at_random_overlap_as_by_chance() -> None:
    one, other = drawn(3, {"a": 3000, "b": 500}), drawn(4, {"a": 2000, "b": 700})
    found = overlap(one, other)
    assert found.shared == pytest.approx(found.by_chance, abs=0.02)
    assert 0 < found.by_chance < 1


def test_the_overlap_by_chance_is_the_ratio_of_expected_numbers() -> None:
    """Of 4 weights, 2 and 1 are kept: half a weight is shared on average, and 2.5 are kept by one mask or the other."""
    one, other = np.array([[True, True, False, False]]), np.array([[True, False, False, False]])
    assert overlap({"a": one}, {"a": other}).by_chance == 0.2


def test_what_is_kept_adds_up_by_part() -> None:
    mask = drawn(5, {"x.one": 3000, "x.two": 500, "y.three": 40})
    parts = kept_by_part(mask, lambda name: name.partition(".")[0])
    assert (parts["x"].kept, parts["x"].weights, parts["y"].share) == (3500, 16000, 40 / 8000)
    assert sum(each.kept for each in kept_by_matrix(mask).values()) == 3540


def test_masks_of_other_weights_are_refused() -> None:
    with pytest.raises(PruneError, match="no weight b"):
        overlap(drawn(0, {"a": 10, "b": 10}), drawn(0, {"a": 10}))
    with pytest.raises(PruneError, match="neither mask"):
        overlap(drawn(0, {"a": 0}), drawn(0, {"a": 0}))
