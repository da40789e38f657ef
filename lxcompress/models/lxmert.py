"""LXMERT (Tan & Bansal 2019): transformers' own model, and what the study must know of it.

Shapes: B batch, A answers.

The vision side of the last cross layer (its self-attention and feed-forward) feeds nothing that the answer score reads.
It gets no gradient, so it is left out of the models built here, of tickets and of exported files.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from transformers import LxmertConfig, LxmertForQuestionAnswering, LxmertModel

from lxcompress.data.split import Inputs

MODEL_TYPE = "lxmert"
HEAD_PREFIX = "answer_head."
OUTPUT_LAYER = "answer_head.logit_fc.3."
DEAD_MODULES = ("visn_self_att", "visn_inter", "visn_output")


def build(config: LxmertConfig) -> LxmertForQuestionAnswering:
    """The question-answering model of `config`, less its dead branch, in evaluation mode.

    Its weights are arbitrary: load some.
    """
    with torch.random.fork_rng(devices=()):
        model = LxmertForQuestionAnswering(config)
    return without_dead_branch(model)


def without_dead_branch(model: LxmertForQuestionAnswering) -> LxmertForQuestionAnswering:
    """`model` with the vision branch of its last cross layer passing its input on, in evaluation mode."""
    if model.config.x_layers:
        last = model.lxmert.encoder.x_layers[-1]
        last.visn_self_att, last.visn_inter, last.visn_output = _PassAttention(), nn.Identity(), _PassInput()
    return model.eval()


def load_whole(folder: str) -> tuple[LxmertForQuestionAnswering, Mapping[str, Any]]:
    """The fine-tuned model in a transformers folder or of a hub name, and transformers' account of its tensors."""
    model, account = LxmertForQuestionAnswering.from_pretrained(folder, dtype=torch.float32, output_loading_info=True)
    return model, account


def load_encoder(folder: str) -> tuple[LxmertModel, Mapping[str, Any]]:
    """The encoder alone, with its names below `lxmert.`, and transformers' account of its tensors."""
    model, account = LxmertModel.from_pretrained(folder, dtype=torch.float32, output_loading_info=True)
    return model, account


def answer(model: nn.Module, inputs: Inputs) -> Tensor:
    """Answer scores (logits) [B, A]."""
    return model(**inputs._asdict()).question_answering_score


def is_prunable(name: str, shape: torch.Size) -> bool:
    """Whether a tensor is a weight matrix outside the embeddings and the output layer."""
    return len(shape) == 2 and ".embeddings." not in name and not name.startswith(OUTPUT_LAYER)


def is_dead(name: str, config: LxmertConfig) -> bool:
    """Whether a tensor belongs to the vision branch that no answer depends on."""
    last = f"lxmert.encoder.x_layers.{config.x_layers - 1}."
    return any(name.startswith(f"{last}{module}.") for module in DEAD_MODULES)


def count_dead(config: LxmertConfig) -> int:
    """The number of weights of the dead branch."""
    return sum(shape.numel() for name, shape in _shapes(config).items() if is_dead(name, config))


def fresh_head(config: LxmertConfig, generator: torch.Generator) -> dict[str, Tensor]:
    """Weights of a new answer head: matrices drawn as BERT's (normal, 0.02), unit gains, and no biases but the last.

    The last bias gives each of the A answers the probability 1 / A before training (Lin et al. 2017, section 4.1).
    With 0 the first steps undo A sigmoids at one half, through the whole encoder: docs/decisions/0005 has the numbers.
    """
    shapes = {name: shape for name, shape in _shapes(config).items() if name.startswith(HEAD_PREFIX)}
    head = {}
    for name, shape in shapes.items():
        if len(shape) == 2:
            head[name] = torch.normal(0.0, config.initializer_range, tuple(shape), generator=generator)
        else:
            head[name] = torch.zeros(shape) if name.endswith("bias") else torch.ones(shape)
    head[f"{OUTPUT_LAYER}bias"].fill_(-math.log(max(1, config.num_qa_labels - 1)))
    return head


def _shapes(config: LxmertConfig) -> dict[str, torch.Size]:
    """name -> shape of every tensor of the whole model, without making one."""
    with torch.device("meta"):
        return {name: tensor.shape for name, tensor in LxmertForQuestionAnswering(config).state_dict().items()}


class _PassAttention(nn.Module):
    """Stands where a self-attention layer was, and hands its input on as that layer does: in a tuple."""

    def forward(self, hidden: Tensor, *_: Any, **__: Any) -> tuple[Tensor]:
        return (hidden,)


class _PassInput(nn.Module):
    """Stands where the output layer of a feed-forward was, and hands the residual input on."""

    def forward(self, _: Tensor, residual: Tensor) -> Tensor:
        return residual
