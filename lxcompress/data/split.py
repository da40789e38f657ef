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

from lxcompress.data.tokens import Vocabulary

NO_LABEL = -1
"""Padding of `choices`."""


class Inputs(NamedTuple):
    """What a model reads; the names are those of the exported graph's inputs.

    A question about P images stands P times in a row, once with each of them: B x P rows.
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
        """The same inputs on `device`."""
        return Inputs(*(tensor.to(device, non_blocking=device.type == "cuda") for tensor in self))

    def numpy(self) -> dict[str, np.ndarray]:
        """The same inputs as a runtime takes them."""
        return {name: tensor.cpu().numpy() for name, tensor in self._asdict().items()}


INPUT_NAMES: tuple[str, ...] = Inputs._fields
"""The names of the inputs, in their order."""


@dataclass(frozen=True)
class Regions:
    """What is seen of each image; several splits may share it, and it may be a memory map.

    A picture that is read whole is one region: its features are its pixels, channel after channel, its box the image.
    """

    features: Tensor
    """float32 or float16 [S, O, F]"""
    boxes: Tensor
    """float32 [S, O, 4]"""
    objects: Tensor
    """int64 [S], how many of O are there"""

    @property
    def size_bytes(self) -> int:
        """The bytes of all three tensors."""
        return sum(tensor.numel() * tensor.element_size() for tensor in (self.features, self.boxes, self.objects))

    def to(self, device: torch.device) -> Regions:
        """The same regions on `device`."""
        return Regions(self.features.to(device), self.boxes.to(device), self.objects.to(device))


@dataclass(frozen=True)
class Split:
    """Questions with their answers' credits, each over one image or over P."""

    input_ids: Tensor
    """int32 [Q, L], 0 is padding"""
    scene: Tensor
    """int64 [Q] or [Q, P]: places in `regions`"""
    regions: Regions
    answers: Tensor
    """int64 [Q, K], a label; where the credit is 0, padding"""
    credits: Tensor
    """float32 [Q, K], 0-1"""
    types: tuple[str, ...]
    """Q answer types"""
    ids: tuple[int | str, ...] = ()
    """Q question ids, as the data set gives them; empty where it gives none"""
    choices: Tensor | None = None
    """int64 [Q, C], the labels a multiple-choice question allows, padded with NO_LABEL"""
    families: tuple[str, ...] = ()
    """Q kinds of question by their wording; empty where the data set names none"""

    def __len__(self) -> int:
        return len(self.input_ids)

    @property
    def lengths(self) -> Tensor:
        """int64 [Q], the tokens of each question."""
        return count_tokens(self.input_ids)

    @property
    def images(self) -> int:
        """P, the images of a question."""
        return 1 if self.scene.dim() == 1 else self.scene.shape[1]

    def inputs(self, rows: Tensor) -> Inputs:
        """The inputs of `rows`, cut to the longest question and the fullest image among them."""
        tokens = int(count_tokens(self.input_ids[rows]).max())
        return self._inputs(rows, tokens=tokens, most=int(self.regions.objects[self.scene[rows]].max()))

    def padded_inputs(self, rows: Tensor) -> Inputs:
        """The inputs of `rows` at the split's full width: always the same shape, and nothing waits for a device."""
        return self._inputs(rows, tokens=self.input_ids.shape[1], most=self.regions.features.shape[1])

    def targets(self, rows: Tensor, answers: int) -> Tensor:
        """Soft targets [B, A] of `rows`."""
        empty = torch.zeros(len(rows), answers, device=self.credits.device)
        return empty.scatter_add_(1, self.answers[rows], self.credits[rows])

    def take(self, rows: Tensor) -> Split:
        """The split of `rows` alone, over the same images."""
        places = rows.tolist()
        return replace(
            self,
            input_ids=self.input_ids[rows],
            scene=self.scene[rows],
            answers=self.answers[rows],
            credits=self.credits[rows],
            types=tuple(self.types[row] for row in places),
            ids=tuple(self.ids[row] for row in places) if self.ids else (),
            choices=None if self.choices is None else self.choices[rows],
            families=tuple(self.families[row] for row in places) if self.families else (),
        )

    def to(self, device: torch.device, regions: Regions) -> Split:
        """The split on `device`, over `regions`, which are there already: two splits may share them."""
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
    """What a study trains and scores on."""

    train: Split
    valid: Split
    labels: tuple[str, ...]
    vocabulary: Vocabulary

    @property
    def feature_size(self) -> int:
        """F of both splits."""
        return self.train.regions.features.shape[-1]


def count_tokens(ids: Tensor) -> Tensor:
    """Return the tokens of each question of ids [Q, L], int64 [Q]: up to its last [SEP], which is no padding.

    A [PAD] that is written out in a question is a token of it, as in transformers' attention mask.
    """
    return ((ids != 0) * torch.arange(1, ids.shape[1] + 1, device=ids.device)).amax(1)


def single_answers(labels: Sequence[int]) -> tuple[Tensor, Tensor]:
    """`answers` and `credits` of questions with one right answer each."""
    answers = torch.tensor(labels, dtype=torch.int64)[:, None]
    return answers, torch.ones_like(answers, dtype=torch.float32)
