"""Split and AnswerTask: questions over images as tensors, ready to batch.

Shapes: Q questions, P images of a question, S images, L tokens, O regions, F features, K answers of a question,
C choices, A answers, B batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from lxcompress.data.regions.identity import ExtractorRecord
from lxcompress.data.tokens import Vocabulary

NO_LABEL = -1
"""The padding of `choices`."""


class Inputs(NamedTuple):
    """The inputs of a model for a batch of questions, with the names that exported models use.

    A question about P images has P rows, one for each image; the tensors then have B x P rows.
    """

    input_ids: Tensor
    """int64 [B, L], 0 is padding"""
    attention_mask: Tensor
    """int64 [B, L]"""
    visual_feats: Tensor
    """float32 [B, O, F]"""
    visual_pos: Tensor
    """float32 [B, O, 4], boxes x1 y1 x2 y2, 0-1"""
    visual_attention_mask: Tensor
    """int64 [B, O]"""

    def to(self, device: torch.device) -> Inputs:
        """Return the same inputs on `device`."""
        return Inputs(*(tensor.to(device, non_blocking=device.type == "cuda") for tensor in self))

    def numpy(self) -> dict[str, np.ndarray]:
        """Return the inputs as numpy arrays, as a runtime needs them: name -> array."""
        return {name: tensor.cpu().numpy() for name, tensor in self._asdict().items()}


INPUT_NAMES: tuple[str, ...] = Inputs._fields
"""The names of a model's inputs, in order."""


@dataclass(frozen=True)
class Regions:
    """The regions of all images. Splits may share the tensors, which may be memory maps.

    A whole picture is one region: its features are the pixels, channel after channel, and its box is the image.
    """

    features: Tensor
    """float32 or float16 [S, O, F]"""
    boxes: Tensor
    """float32 [S, O, 4]"""
    objects: Tensor
    """int64 [S], how many of the O regions an image has; the rest is padding"""

    @property
    def size_bytes(self) -> int:
        """Return the bytes of all three tensors."""
        return sum(tensor.numel() * tensor.element_size() for tensor in (self.features, self.boxes, self.objects))

    def to(self, device: torch.device) -> Regions:
        """Return the same regions on `device`."""
        return Regions(self.features.to(device), self.boxes.to(device), self.objects.to(device))


@dataclass(frozen=True)
class Split:
    """The questions of one split as tensors, with their images and the credits of their answers."""

    input_ids: Tensor
    """int32 [Q, L], 0 is padding"""
    scene: Tensor
    """int64 [Q] or [Q, P]: the rows of the question's images in `regions`"""
    regions: Regions
    answers: Tensor
    """int64 [Q, K], the labels of the answers with a credit; padding has the credit 0"""
    credits: Tensor
    """float32 [Q, K], 0-1"""
    types: tuple[str, ...]
    """the type of each question, Q texts"""
    ids: tuple[int | str, ...] = ()
    """the id of each question, Q ids; empty if the data set has no ids"""
    choices: Tensor | None = None
    """int64 [Q, C], the labels that a multiple-choice question offers, padded with NO_LABEL"""
    families: tuple[str, ...] = ()
    """the group of each question by its wording, Q texts; empty if the data set names no groups"""

    def __len__(self) -> int:
        return len(self.input_ids)

    @property
    def lengths(self) -> Tensor:
        """Return the number of tokens of each question, int64 [Q]."""
        return count_tokens(self.input_ids)

    @property
    def images(self) -> int:
        """Return P, the number of images that each question is about."""
        return 1 if self.scene.dim() == 1 else self.scene.shape[1]

    def inputs(self, rows: Tensor) -> Inputs:
        """Return the Inputs of the questions `rows`, padded to the longest of them and to their most regions."""
        tokens = int(count_tokens(self.input_ids[rows]).max())
        return self._inputs(rows, tokens=tokens, most=int(self.regions.objects[self.scene[rows]].max()))

    def padded_inputs(self, rows: Tensor) -> Inputs:
        """Return the Inputs of the questions `rows`, padded to the longest question and most regions of the split.

        So all batches have one shape, and the CPU need not wait for a GPU to know it.
        """
        return self._inputs(rows, tokens=self.input_ids.shape[1], most=self.regions.features.shape[1])

    def targets(self, rows: Tensor, answers: int) -> Tensor:
        """Return the soft targets of the questions `rows`: the credit of each of `answers` labels, float32 [B, A]."""
        empty = torch.zeros(len(rows), answers, device=self.credits.device)
        return empty.scatter_add_(1, self.answers[rows], self.credits[rows])

    def take(self, rows: Tensor) -> Split:
        """Return a Split of only the questions `rows`, with all the images."""
        kept = rows.tolist()
        return replace(
            self,
            input_ids=self.input_ids[rows],
            scene=self.scene[rows],
            answers=self.answers[rows],
            credits=self.credits[rows],
            types=tuple(self.types[row] for row in kept),
            ids=tuple(self.ids[row] for row in kept) if self.ids else (),
            choices=None if self.choices is None else self.choices[rows],
            families=tuple(self.families[row] for row in kept) if self.families else (),
        )

    def to(self, device: torch.device, regions: Regions) -> Split:
        """Return the split on `device`; `regions` are its regions, moved before, because two splits may share them."""
        return replace(
            self,
            input_ids=self.input_ids.to(device),
            scene=self.scene.to(device),
            regions=regions,
            answers=self.answers.to(device),
            credits=self.credits.to(device),
            choices=None if self.choices is None else self.choices.to(device),
        )

    def _inputs(self, rows: Tensor, *, tokens: int, most: int) -> Inputs:
        """Return the Inputs of the questions `rows`, with `tokens` tokens and `most` regions."""
        ids = self.input_ids[rows].long()
        is_word = torch.arange(tokens, device=ids.device) < count_tokens(ids)[:, None]
        scene = self.scene[rows].flatten()
        seen = torch.arange(most, device=scene.device) < self.regions.objects[scene][:, None]
        return Inputs(
            input_ids=ids[:, :tokens].repeat_interleave(self.images, dim=0),
            attention_mask=is_word.long().repeat_interleave(self.images, dim=0),
            visual_feats=self.regions.features[scene, :most].float(),
            visual_pos=self.regions.boxes[scene, :most],
            visual_attention_mask=seen.long(),
        )


@dataclass(frozen=True)
class AnswerTask:
    """The questions, images and answers that a study trains and scores on."""

    train: Split
    valid: Split
    labels: tuple[str, ...]
    vocabulary: Vocabulary
    test: Split | None = None
    """the questions that only what was picked is scored on; None without a test split"""
    extractor: ExtractorRecord | None = None
    """the extractor of the features; None if it is unknown"""

    @property
    def splits(self) -> tuple[Split, ...]:
        """Return the splits that there are: train, valid, and test if there is one."""
        return (self.train, self.valid) if self.test is None else (self.train, self.valid, self.test)

    @property
    def feature_size(self) -> int:
        """Return F, the number of features of a region; it is the same in all splits."""
        return self.train.regions.features.shape[-1]


def count_tokens(ids: Tensor) -> Tensor:
    """Return the number of tokens of each question in `ids` [Q, L]: int64 [Q]. Padding at the end is not counted.

    A "[PAD]" in the text of a question counts as a token, as in the attention mask of transformers.
    """
    return ((ids != 0) * torch.arange(1, ids.shape[1] + 1, device=ids.device)).amax(1)


def single_answers(labels: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Return `answers` and `credits` [Q, 1] of a Split, for questions with one right answer each (`labels`)."""
    answers = torch.tensor(labels, dtype=torch.int64)[:, None]
    return answers, torch.ones_like(answers, dtype=torch.float32)
