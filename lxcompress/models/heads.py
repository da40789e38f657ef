"""Answer heads: how the weights of a new one are drawn, and how a pre-trained one is copied, in every family alike."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor


def draw_head(
    shapes: Mapping[str, torch.Size],
    output_layer: str,
    generator: torch.Generator,
    *,
    deviation: float,
    last_bias: float | None = None,
) -> dict[str, Tensor]:
    """Weights of a new answer head of `shapes`: matrices drawn as BERT's (normal), unit gains, no biases but the last.

    The last bias gives each of the A answers the probability 1 / A before training (Lin et al. 2017, section 4.1).
    With 0 the first steps undo A sigmoids at one half, through the whole encoder: docs/decisions/0005 has the numbers.
    """
    head = {}
    for name, shape in shapes.items():
        if len(shape) == 2:
            head[name] = torch.normal(0.0, deviation, tuple(shape), generator=generator)
        else:
            head[name] = torch.zeros(shape) if name.endswith("bias") else torch.ones(shape)
    rare = -math.log(max(1, len(head[f"{output_layer}bias"]) - 1))
    head[f"{output_layer}bias"].fill_(rare if last_bias is None else last_bias)
    return head


def copy_head(
    head: Mapping[str, Tensor], output_layer: str, rows: Sequence[int | None], *, last_bias: float | None = None
) -> dict[str, Tensor]:
    """The answer head `head` with answer i read from its row `rows[i]`; where that is None, weights of zero.

    Such an answer's bias is 0, or `last_bias`. Source: load_lxmert_qa of Tan & Bansal's code.
    """
    found = torch.tensor([row is not None for row in rows])
    taken = torch.tensor([row for row in rows if row is not None], dtype=torch.int64)
    copied = {name: tensor for name, tensor in head.items() if not name.startswith(output_layer)}
    for part, rest in (("weight", 0.0), ("bias", last_bias or 0.0)):
        source = head[output_layer + part]
        copied[output_layer + part] = source.new_full((len(rows), *source.shape[1:]), rest)
        copied[output_layer + part][found] = source[taken]
    return copied
