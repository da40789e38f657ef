"""A model as converters read it: a module of plain tensors, run once and traced, without their remarks.

Shapes: B rows, L tokens, O regions, F features, A answers.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lxcompress.data.split import Inputs
from lxcompress.models.checkpoints import Model
from lxcompress.quiet import quiet


class Answer(nn.Module):
    """The model as a converter calls it: the tensors of Inputs in their order, answer scores [B, A] out."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.module = model.module
        self.answer = model.family.answer
        self.eval()  # a wrapper is born in training mode, and a converter sets its parts to the mode of the whole

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        visual_feats: Tensor,
        visual_pos: Tensor,
        visual_attention_mask: Tensor,
    ) -> Tensor:
        inputs = Inputs(input_ids, attention_mask, visual_feats, visual_pos, visual_attention_mask)
        return self.answer(self.module, inputs)


def trace(model: Model, example: Inputs) -> torch.jit.ScriptModule:
    """The operations that `example` goes through, as a graph that holds for other sizes of batch, L and O too."""
    with quiet("transformers"), torch.no_grad():
        return torch.jit.trace(Answer(model), tuple(example), check_trace=False, strict=False)


def first_question(model: Model, example: Inputs) -> Inputs:
    """The rows of the first question of `example`: a row for each image that it is about."""
    images = model.family.count_images(model.config)
    return Inputs(*(tensor[:images] for tensor in example))
