"""The layers of transformer encoders as operations of the engine, for the programs of model families (programs.py).

Activations are [channels][columns]; a column is a token or a region. `only` names the columns of a result that are read
later: the last layer of an encoder computes no others.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from lxcompress.engine.pack import PackedWeight, table
from lxcompress.engine.program import POSITION, Program

Block = Any
"""A module of transformers; torch types each of its attributes as a tensor or a module."""
Pack = Callable[[np.ndarray, int], PackedWeight]
"""(matrix [outputs, inputs], usual number of columns of its product) -> the packed matrix."""


@dataclass(frozen=True)
class Span:
    """Some consecutive columns of an activation.

    `size` is their number, and `start` the index of the first (None: 0); both are values of the program, known at run
    time. `usual` is the number of columns for a typical question.
    """

    size: Any
    usual: int
    start: Any = None


@dataclass(frozen=True)
class Draft:
    """A program that is being written for a model, and the values that all functions of this module need.

    `pack` packs the matrices of products, and `precision` is that of embeddings. `tokens` and `objects` are all tokens
    and all regions; `one` is a single column. `ids`, `features` and `boxes` are the program's inputs.
    """

    program: Program
    pack: Pack
    precision: str
    activation: str
    tokens: Span
    objects: Span
    one: Span
    ids: Any
    features: Any
    boxes: Any

    def linear(
        self,
        state: Any,
        span: Span,
        layers: Sequence[nn.Linear],
        *,
        add: np.ndarray | None = None,
        residual: Any = None,
        activation: str | None = None,
    ) -> Any:
        """Return the outputs of `layers`, joined along the channels; one product with the joined matrix computes them.

        `state` has the columns of `span`. `add` is added to the bias.
        """
        weight = np.concatenate([to_array(layer.weight) for layer in layers])
        bias = np.concatenate([to_bias(layer) for layer in layers])
        packed = self.pack(weight, span.usual)
        return self.program.linear(
            state, packed, bias=bias if add is None else bias + add, residual=residual, activation=activation
        )

    def norm(
        self,
        state: Any,
        layer: nn.LayerNorm,
        *,
        share: float = 1.0,
        shift: np.ndarray | None = None,
        add: Any = None,
        activation: str | None = None,
    ) -> Any:
        """Return activation(`share` x (layer norm of `state`) + `shift` + `add`).

        `shift` has a number for each channel, and `add` is a value with the columns of `state`.
        """
        gain, bias = to_array(layer.weight) * np.float32(share), to_array(layer.bias) * np.float32(share)
        if shift is not None:
            bias = bias + shift
        return self.program.norm(state, gain, bias, layer.eps, add=add, activation=activation)


Layer = Callable[..., Any]
"""A function like `add_layer`."""


def embed_words(draft: Draft, embeddings: Block, *, shift: np.ndarray | None = None) -> Any:
    """Return the normalised sum of the embeddings of word, position and token type, plus `shift`.

    The token type is 0 for every token, so its embedding is added to the table of positions.
    """
    with torch.no_grad():
        positions = embeddings.position_embeddings.weight + embeddings.token_type_embeddings.weight[0]
    words, position_table = (
        table(to_array(weight), draft.precision) for weight in (embeddings.word_embeddings.weight, positions)
    )
    state = draft.program.embed(words, by=draft.ids, size=draft.tokens.size)
    state = draft.program.embed(position_table, by=POSITION, size=draft.tokens.size, onto=state)
    return draft.norm(state, embeddings.LayerNorm, shift=shift)


def encode(draft: Draft, state: Any, span: Span, layers: Sequence[Block], *, only: Span, layer: Layer) -> Any:
    """Return the columns of `only` after all layers; `layer` is `add_layer` or `add_pre_norm_layer`."""
    for block in layers[:-1]:
        state = layer(draft, state, span, block)
    return layer(draft, state, span, layers[-1], only=only) if layers else take(state, only)


def add_layer(draft: Draft, state: Any, span: Span, layer: Block, *, only: Span | None = None) -> Any:
    """Return the output of a layer whose norms follow its residual sums, as in BERT (Devlin et al. 2018)."""
    state = attend_self(draft, state, span, layer.attention, only=only)
    return feed_forward(draft, state, only or span, layer.intermediate, layer.output)


def add_pre_norm_layer(draft: Draft, state: Any, span: Span, layer: Block, *, only: Span | None = None) -> Any:
    """Return the output of a layer whose norms come before its attention and its feed-forward, as in ViT and ViLT."""
    columns, attention = only or span, layer.attention
    mixed = mix_columns(draft, draft.norm(state, layer.layernorm_before), span, attention.attention, only=only)
    before = state if only is None else take(state, only)
    state = draft.linear(mixed, columns, [attention.output.dense], residual=before)
    ready = draft.norm(state, layer.layernorm_after)
    hidden = draft.linear(ready, columns, [layer.intermediate.dense], activation=draft.activation)
    return draft.linear(hidden, columns, [layer.output.dense], residual=state)


def attend_self(draft: Draft, state: Any, span: Span, block: Block, *, only: Span | None = None) -> Any:
    """Return self-attention over the columns of `span`, with output layer, residual and norm."""
    mixed = mix_columns(draft, state, span, block.self, only=only)
    before = state if only is None else take(state, only)
    return draft.norm(draft.linear(mixed, only or span, [block.output.dense], residual=before), block.output.LayerNorm)


def mix_columns(draft: Draft, state: Any, span: Span, attention: Block, *, only: Span | None = None) -> Any:
    """Return self-attention over the columns of `span`, before the output layer.

    With `only`, the result has these columns alone; they still attend to all columns of `span`.
    """
    query, *others = list_projections(attention)
    if only is None:
        queries, *keys_and_values = split_channels(draft.linear(state, span, [query, *others]), None, 3)
    else:
        keys_and_values = split_channels(draft.linear(state, span, others), None, 2)
        queries = draft.linear(take(state, only), only, [query])
    return attend(draft, attention, [queries], keys_and_values)


def feed_forward(draft: Draft, state: Any, span: Span, first: Block, second: Block) -> Any:
    """Return the feed-forward of a layer over the columns of `span`, with residual and norm."""
    hidden = draft.linear(state, span, [first.dense], activation=draft.activation)
    return draft.norm(draft.linear(hidden, span, [second.dense], residual=state), second.LayerNorm)


def attend(draft: Draft, attention: Block, queries: Sequence[Any], keys_and_values: Sequence[Any]) -> Any:
    """Return the attention of the queries over the keys and values, before the output layer."""
    heads, size = attention.num_attention_heads, attention.attention_head_size
    return draft.program.attend(*queries, *keys_and_values, heads=heads, scale=size**-0.5)


def list_projections(attention: Block) -> tuple[nn.Linear, nn.Linear, nn.Linear]:
    """Return the linear layers of an attention: query, key and value."""
    return attention.query, attention.key, attention.value


def split_channels(state: Any, span: Span | None, count: int) -> list[Any]:
    """Return `state` split into `count` parts with equal numbers of channels.

    The parts have the columns of `span`, or all columns if it is None.
    """
    width = state.rows // count
    parts = [state.take(rows=(number * width, width)) for number in range(count)]
    return parts if span is None else [take(part, span) for part in parts]


def take(state: Any, span: Span) -> Any:
    """Return the columns of `span` from `state`."""
    return state.take(start=span.start, columns=span.size)


def to_bias(layer: nn.Linear | nn.Conv2d) -> np.ndarray:
    """Return the bias of a layer as float32; zeros if it has none."""
    return np.zeros(len(layer.weight), np.float32) if layer.bias is None else to_array(layer.bias)


def to_array(tensor: torch.Tensor) -> np.ndarray:
    """Return a tensor as a float32 array on the CPU."""
    return tensor.detach().cpu().float().numpy()
