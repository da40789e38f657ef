"""Answer heads: draw the weights of a new one, or copy those of a pre-trained one. It is the same in every family."""

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
    """Return the weights of a new answer head: matrices drawn as BERT's (normal), gains of 1, biases of 0 but the last.

    The last bias gives each of the A answers the probability 1 / A before training (Lin et al. 2017, section 4.1). With
    a bias of 0 all A sigmoids start at one half, and the first steps change the whole encoder to correct that:
    docs/decisions/0005 has the numbers.
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
    """Return the answer head `head` with row `rows[i]` for answer i, or with weights of zero where that is None.

    An answer without a row has the bias 0, or `last_bias`. Source: load_lxmert_qa of Tan & Bansal's code.
    """
    has_row = torch.tensor([row is not None for row in rows])
    indices = torch.tensor([row for row in rows if row is not None], dtype=torch.int64)
    copied = {name: tensor for name, tensor in head.items() if not name.startswith(output_layer)}
    for part, rest in (("weight", 0.0), ("bias", last_bias or 0.0)):
        source = head[output_layer + part]
        copied[output_layer + part] = source.new_full((len(rows), *source.shape[1:]), rest)
        copied[output_layer + part][has_row] = source[indices]
    return copied
