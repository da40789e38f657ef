"""Made-up questions to time an artifact with: seeded, and of the sizes that its record names."""

from __future__ import annotations

import numpy as np

# Shapes: B batch (1), L tokens, O objects, F features.

# Word ids that every vocabulary has, however small; 0 to 4 are [PAD] [UNK] [CLS] [SEP] [MASK].
_WORDS = (5, 30)


def make_feeds(*, tokens: int, objects: int, feature_size: int, seed: int) -> dict[str, np.ndarray]:
    """One question of `tokens` words [B, L] over `objects` regions [B, O, F] and boxes [B, O, 4], nothing masked.

    Which words and regions these are moves no timing: a dense product takes as long for any values.
    """
    random = np.random.default_rng(seed)
    near, far = np.sort(random.random((2, 1, objects, 2), dtype=np.float32), axis=0)
    return {
        "input_ids": random.integers(*_WORDS, size=(1, tokens), dtype=np.int64),
        "attention_mask": np.ones((1, tokens), dtype=np.int64),
        "visual_feats": random.random((1, objects, feature_size), dtype=np.float32),
        "visual_pos": np.concatenate([near, far], axis=-1),
        "visual_attention_mask": np.ones((1, objects), dtype=np.int64),
    }
