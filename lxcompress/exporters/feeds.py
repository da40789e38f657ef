"""Feeds: the questions that an exported file and its source both answer, real ones if the data are known."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import torch

from lxcompress.data.split import AnswerTask, Split
from lxcompress.exporters.formats import Feeds
from lxcompress.exporters.score import BATCH
from lxcompress.models.checkpoints import Model
from lxcompress.shapes import FixedShape

PARITY_QUESTIONS = 512
"""The most validation questions that the parity check compares."""
RANDOM_BATCHES, RANDOM_TOKENS, RANDOM_OBJECTS = 8, 20, 36
"""The number of random batches for models whose data are not known, and the tokens and regions of their questions.

20 tokens and 36 regions are usual for LXMERT (Tan & Bansal 2019).
"""

CALIBRATION_BATCHES, CALIBRATION_BATCH = 8, 16
"""The number of batches that the ranges of activations are measured on, and the questions of a batch."""


def as_tensors(feeds: Mapping[str, np.ndarray]) -> dict[str, torch.Tensor]:
    """Return the arrays of a batch as torch tensors, by the same names."""
    return {name: torch.from_numpy(array) for name, array in feeds.items()}


def calibration_feeds(task: AnswerTask) -> Iterator[Feeds]:
    """Yield batches of training questions, taken at equal distances from all training data.

    No accuracy is measured on training questions.
    """
    count = min(CALIBRATION_BATCHES * CALIBRATION_BATCH, len(task.train))
    rows = torch.linspace(0, len(task.train) - 1, count).round().long()
    for batch in rows.split(CALIBRATION_BATCH):
        yield task.train.inputs(batch).numpy()


def real_feeds(task: AnswerTask) -> Iterator[dict[str, np.ndarray]]:
    """Yield the first validation questions as inputs: all but question 0 in batches, then question 0 alone.

    A batch has questions of different lengths, so padding is tested too.
    """
    rows = torch.arange(min(PARITY_QUESTIONS, len(task.valid)))
    for batch in rows[1:].split(BATCH) if len(rows) > 1 else ():
        yield task.valid.inputs(batch).numpy()
    yield task.valid.inputs(rows[:1]).numpy()


def random_feeds(model: Model, fixed: FixedShape | None) -> Iterator[dict[str, np.ndarray]]:
    """Yield seeded random inputs of the model's shapes: token ids, features in 0-1, and boxes [x1, y1, x2, y2].

    A box has x1 <= x2 and y1 <= y2, as those of a detector.
    """
    rng, images = np.random.default_rng(0), model.family.count_images(model.config)
    features, (longest, most) = model.family.feature_size(model.config), random_lengths(model, fixed)
    for number in range(RANDOM_BATCHES):
        questions, tokens, objects = (4 if number else 2), max(1, longest - number), max(1, most - number)
        rows = questions * images
        corners = np.sort(rng.random((rows, objects, 2, 2)), axis=2)
        words = rng.integers(1, model.family.count_words(model.config), (questions, tokens))
        yield {
            "input_ids": np.repeat(words, images, axis=0),
            "attention_mask": np.ones((rows, tokens), dtype=np.int64),
            "visual_feats": rng.random((rows, objects, features), dtype=np.float32),
            "visual_pos": corners.reshape(rows, objects, 4).astype(np.float32),
            "visual_attention_mask": np.ones((rows, objects), dtype=np.int64),
        }


def random_lengths(model: Model, fixed: FixedShape | None) -> tuple[int, int]:
    """Return the number of tokens and of regions of random questions; a picture that is read whole is one region.

    They are those of `fixed`, if it is given.
    """
    if fixed:
        return fixed.tokens, fixed.objects
    tokens = min(RANDOM_TOKENS, model.family.count_positions(model.config))
    return tokens, RANDOM_OBJECTS if model.family.picture_size(model.config) is None else 1


def usual_lengths(split: Split) -> tuple[int, int]:
    """Return the median number of tokens of a question, and of regions of its image."""
    tokens = split.lengths
    return int(tokens.median()), int(split.regions.objects[split.scene].median())


def count_lengths(split: Split) -> dict[int, int]:
    """Return {number of tokens: how many questions of `split` have it}."""
    tokens, counts = split.lengths.unique(return_counts=True)
    return dict(zip(tokens.tolist(), counts.tolist(), strict=True))


def largest_shape(task: AnswerTask) -> FixedShape:
    """Return the most tokens of a question, and the most regions of an image, in any split."""
    return FixedShape(
        max(int(split.lengths.max()) for split in task.splits),
        max(int(split.regions.objects[split.scene].max()) for split in task.splits),
    )
