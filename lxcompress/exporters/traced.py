"""A model as converters read it: a module that takes and returns plain tensors. A converter runs it once and traces it.

Shapes: B rows, L tokens, O regions, F features, A answers.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from lxcompress.data.split import Inputs
from lxcompress.models.checkpoints import Model
from lxcompress.quiet import quiet
from lxcompress.shapes import FixedShape


class Answer(nn.Module):
    """A model as a converter calls it: it takes the tensors of Inputs in order, and returns answer scores [B, A]."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.module = model.module
        self.answer = model.family.answer
        self.eval()  # a new module is in training mode, and a converter would set the model inside to that mode

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
    """Return the graph of the operations that answer `example`; it also takes other sizes of B, L and O."""
    with quiet("transformers"), torch.no_grad():
        return torch.jit.trace(Answer(model), tuple(example), check_trace=False, strict=False)


def first_question(model: Model, example: Inputs) -> Inputs:
    """Return the rows of the first question of `example`: one row for each image of the question."""
    images = model.family.count_images(model.config)
    return Inputs(*(tensor[:images] for tensor in example))


def fixed_question(model: Model, example: Inputs, shape: FixedShape) -> Inputs:
    """Return the first question of `example`, with zeros at the end so that it has the tokens and regions of `shape`.

    The masks are zero there too, so the model ignores the padding.
    """
    words, regions = (tuple(first_question(model, example))[part] for part in (slice(2), slice(2, None)))
    padded = [functional.pad(word, (0, shape.tokens - word.shape[1])) for word in words]
    for region in regions:
        missing = shape.objects - region.shape[1]
        padded.append(functional.pad(region, (0, missing) if region.dim() == 2 else (0, 0, 0, missing)))
    return Inputs(*padded)
