"""Random questions to time an artifact with, of the sizes that its record names."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

# Shapes: N images of the question, L tokens, O objects, F features.

# Ids that every word embedding has: a vocabulary has at least the five special tokens. Id 0 is padding.
_WORDS = (1, 5)


def make_feeds(*, tokens: int, objects: int, feature_size: int, seed: int, images: int = 1) -> dict[str, np.ndarray]:
    """Return one question: words [N, L], and regions [N, O, F] with boxes [N, O, 4] of each of its images.

    Nothing is masked, and each row has the same words. The values do not change the timing: a dense product takes the
    same time for any of them.
    """
    random = np.random.default_rng(seed)
    near, far = np.sort(random.random((2, images, objects, 2), dtype=np.float32), axis=0)
    words = random.integers(*_WORDS, size=(1, tokens), dtype=np.int64)
    return {
        "input_ids": np.repeat(words, images, axis=0),
        "attention_mask": np.ones((images, tokens), dtype=np.int64),
        "visual_feats": random.random((images, objects, feature_size), dtype=np.float32),
        "visual_pos": np.concatenate([near, far], axis=-1),
        "visual_attention_mask": np.ones((images, objects), dtype=np.int64),
    }


def make_questions(
    lengths: Sequence[int], *, objects: int, feature_size: int, seed: int, images: int = 1
) -> dict[int, dict[str, np.ndarray]]:
    """Return a question of each length, as `make_feeds` makes it; all share the memory of the same regions."""
    longest = make_feeds(tokens=max(lengths), objects=objects, feature_size=feature_size, seed=seed, images=images)
    return {length: longest | _first_words(longest, length) for length in set(lengths)}


def _first_words(feeds: dict[str, np.ndarray], tokens: int) -> dict[str, np.ndarray]:
    """Return the first `tokens` words of each row as new arrays, because a runtime may refuse a view."""
    return {name: np.ascontiguousarray(feeds[name][:, :tokens]) for name in ("input_ids", "attention_mask")}
