"""Split and Task: questions over scenes as tensors, ready to batch.

Shapes: Q questions, S scenes, L tokens, O objects, F features, K answers of a question, A answers, B batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor


class Inputs(NamedTuple):
    """What a two-stream model reads; the names are those of the exported graph's inputs."""

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
        return Inputs(*(tensor.to(device, non_blocking=True) for tensor in self))

    def numpy(self) -> dict[str, np.ndarray]:
        """The same inputs as a runtime takes them."""
        return {name: tensor.cpu().numpy() for name, tensor in self._asdict().items()}


@dataclass(frozen=True)
class Split:
    """Questions with their answers' credits, each over one scene."""

    input_ids: Tensor
    """int32 [Q, L], 0 is padding"""
    scene: Tensor
    """int64 [Q]"""
    features: Tensor
    """float32 [S, O, F]"""
    boxes: Tensor
    """float32 [S, O, 4]"""
    objects: Tensor
    """int64 [S], how many of O are there"""
    answers: Tensor
    """int64 [Q, K], a label; where the credit is 0, padding"""
    credits: Tensor
    """float32 [Q, K], 0-1"""
    types: tuple[str, ...]
    """Q answer types"""

    def __len__(self) -> int:
        return len(self.input_ids)

    def inputs(self, rows: Tensor) -> Inputs:
        """The inputs of `rows`, cut to the longest question and the fullest scene among them."""
        ids = self.input_ids[rows].long()
        mask = (ids != 0).long()
        tokens = int(mask.sum(1).max())
        scene = self.scene[rows]
        count = self.objects[scene]
        most = int(count.max())
        seen = (torch.arange(most) < count[:, None]).long()
        return Inputs(ids[:, :tokens], mask[:, :tokens], self.features[scene, :most], self.boxes[scene, :most], seen)

    def targets(self, rows: Tensor, answers: int) -> Tensor:
        """Soft targets [B, A] of `rows`."""
        return torch.zeros(len(rows), answers).scatter_add_(1, self.answers[rows], self.credits[rows])

    def take(self, rows: Tensor) -> Split:
        """The split of `rows` alone, over the same scenes."""
        return Split(
            self.input_ids[rows],
            self.scene[rows],
            self.features,
            self.boxes,
            self.objects,
            self.answers[rows],
            self.credits[rows],
            tuple(self.types[int(row)] for row in rows),
        )


@dataclass(frozen=True)
class Task:
    """What a study trains and scores on."""

    train: Split
    valid: Split
    labels: tuple[str, ...]
    vocabulary: tuple[str, ...]

    @property
    def feature_size(self) -> int:
        """F of both splits."""
        return self.train.features.shape[-1]


def single_answers(labels: Sequence[int]) -> tuple[Tensor, Tensor]:
    """`answers` and `credits` of questions with one right answer each."""
    answers = torch.tensor(labels, dtype=torch.int64)[:, None]
    return answers, torch.ones_like(answers, dtype=torch.float32)
