"""Programs: translate the model of a family into a program for the engine.

Activations are [channels][columns]. A column is a token or a region; tokens and regions that the masks remove have no
column. Values that no answer depends on are not computed. So after the last attention that reads all columns, the
program goes on with one column only: the one that the answer is read from.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from lxcompress.engine.pack import PackedWeight, table
from lxcompress.engine.program import POSITION, Program
from lxcompress.errors import ExportError
from lxcompress.models.checkpoints import Model

Block = Any
"""A module of transformers; torch types each of its attributes as a tensor or a module."""
Pack = Callable[[np.ndarray, int], PackedWeight]
"""(matrix [outputs, inputs], usual number of columns of its product) -> the packed matrix."""
ACTIVATIONS = ("gelu", "relu", "tanh")
"""The activation functions that the engine has, by their names in transformers; gelu is the exact one."""
BOX = 4
"""The numbers of a box: x1, y1, x2, y2."""


@dataclass(frozen=True)
class Usual:
    """The number of tokens and of regions of a typical question. The layouts of matrices are chosen for them."""

    tokens: int
    objects: int


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

    `tokens` and `objects` are all tokens and all regions; `one` is a single column. `ids`, `features` and `boxes` are
    the program's inputs.
    """

    program: Program
    pack: Pack
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
        weight = np.concatenate([_array(layer.weight) for layer in layers])
        bias = np.concatenate([_bias(layer) for layer in layers])
        packed = self.pack(weight, span.usual)
        return self.program.linear(
            state, packed, bias=bias if add is None else bias + add, residual=residual, activation=activation
        )


def build_program(model: Model, *, pack: Pack, precision: str, usual: Usual, most_objects: int) -> Program:
    """Return the program that answers as `model` does.

    Embeddings are stored in `precision`, and `pack` packs the matrices of products. Raises ExportError for a model that
    the engine cannot run.
    """
    check_model(model)
    config, embeddings = model.config, getattr(model.module, model.family.name).embeddings
    program = Program()
    tokens = program.rows("attention_mask", most=embeddings.position_embeddings.num_embeddings)
    objects = program.rows("visual_attention_mask", most=most_objects)
    draft = Draft(
        program=program,
        pack=pack,
        activation=config.hidden_act,
        tokens=Span(tokens, usual.tokens),
        objects=Span(objects, usual.objects),
        one=Span(program.constant(1), 1),
        ids=program.ints("input_ids", tokens),
        features=program.floats("visual_feats", objects, width=model.family.feature_size(config)),
        # VisualBERT does not read boxes, but every family has the same inputs.
        boxes=program.floats("visual_pos", objects, width=BOX),
    )
    program.scores(_ANSWERS[model.family.name](draft, model.module, _embed_words(draft, embeddings, precision)))
    return program


def check_model(model: Model) -> None:
    """Raise ExportError for a model that the engine cannot run, before anything is packed."""
    if model.family.name not in _ANSWERS:
        raise ExportError(
            f"format engine: does not support {model.family.name} models, only "
            f"{' and '.join(_ANSWERS)}; give --format onnx"
        )
    images = model.family.count_images(model.config)
    if images != 1:
        raise ExportError(
            f"format engine: supports one image per question, but this {model.family.name} model reads {images}; "
            "give --format onnx"
        )
    activation = model.config.hidden_act
    if activation not in ACTIVATIONS:
        raise ExportError(
            f"format engine: does not support the activation {activation}, only {', '.join(ACTIVATIONS)}; give "
            "--format onnx"
        )


def _answer_lxmert(draft: Draft, module: Block, words: Any) -> Any:
    """Return the scores of LXMERT, which are read from its first token."""
    encoder = module.lxmert.encoder
    layers, crosses = list(encoder.layer), list(encoder.x_layers)
    for layer in layers:
        words = _layer(draft, words, draft.tokens, layer)
    first = Span(draft.one.size, 1)
    if crosses:
        regions = _embed_regions(draft, encoder.visn_fc)
        for layer in encoder.r_layers:
            regions = _layer(draft, regions, draft.objects, layer)
        for layer in crosses[:-1]:
            words, regions = _cross_layer(draft, words, regions, layer)
        words = _last_cross_layer(draft, words, regions, crosses[-1])
    pooled = draft.linear(_take(words, first), first, [module.lxmert.pooler.dense], activation="tanh")
    between, _, norm, output = module.answer_head.logit_fc
    hidden = draft.linear(pooled, first, [between], activation="gelu")
    return draft.linear(_norm(draft, hidden, norm), first, [output])


def _answer_visual_bert(draft: Draft, module: Block, words: Any) -> Any:
    """Return the scores of VisualBERT, which are read from the last word: the token before [SEP].

    VisualBERT reads tokens and regions as one sequence, tokens first.
    """
    program, encoder = draft.program, module.visual_bert
    embeddings = encoder.embeddings
    with torch.no_grad():  # every region has position 0 and token type 1
        same = embeddings.visual_position_embeddings.weight[0] + embeddings.visual_token_type_embeddings.weight[1]
    seen = program.load(draft.features)
    regions = draft.linear(seen, draft.objects, [embeddings.visual_projection], add=_array(same))
    both = Span(program.sum(draft.tokens.size, draft.objects.size), draft.tokens.usual + draft.objects.usual)
    state = program.join(words, _norm(draft, regions, embeddings.LayerNorm))
    last = Span(draft.one.size, 1, start=program.sum(draft.tokens.size, add=-2))
    layers = list(encoder.encoder.layer)
    for layer in layers[:-1]:
        state = _layer(draft, state, both, layer)
    state = _layer(draft, state, both, layers[-1], only=last) if layers else _take(state, last)
    return draft.linear(state, last, [module.cls])


_ANSWERS: Mapping[str, Callable[[Draft, nn.Module, Any], Any]] = {
    "lxmert": _answer_lxmert,
    "visual_bert": _answer_visual_bert,
}
"""Family -> a function (draft, module, embedded words) that adds the family's layers and returns the scores."""


def _embed_words(draft: Draft, embeddings: Block, precision: str) -> Any:
    """Return the normalised sum of the embeddings of word, position and token type.

    The token type is 0 for every token, so its embedding is added to the table of positions.
    """
    with torch.no_grad():
        positions = embeddings.position_embeddings.weight + embeddings.token_type_embeddings.weight[0]
    words, position_table = (
        table(_array(weight), precision) for weight in (embeddings.word_embeddings.weight, positions)
    )
    state = draft.program.embed(words, by=draft.ids, size=draft.tokens.size)
    state = draft.program.embed(position_table, by=POSITION, size=draft.tokens.size, onto=state)
    return _norm(draft, state, embeddings.LayerNorm)


def _embed_regions(draft: Draft, encoder: Block) -> Any:
    """Return LXMERT's embedded regions: the mean of normalised features and normalised boxes."""
    boxes = draft.linear(draft.program.load(draft.boxes), draft.objects, [encoder.box_fc])
    where = _norm(draft, boxes, encoder.box_layer_norm, share=0.5)
    seen = draft.linear(draft.program.load(draft.features), draft.objects, [encoder.visn_fc])
    return _norm(draft, seen, encoder.visn_layer_norm, share=0.5, add=where)


def _layer(draft: Draft, state: Any, span: Span, layer: Block, *, only: Span | None = None) -> Any:
    """Return the output of an encoder layer for the columns of `span`, or only for those of `only`."""
    state = _attend_self(draft, state, span, layer.attention, only=only)
    return _feed_forward(draft, state, only or span, layer.intermediate, layer.output)


def _cross_layer(draft: Draft, words: Any, regions: Any, layer: Block) -> tuple[Any, Any]:
    """Return the words and the regions after a cross layer.

    Words attend to regions and regions to words with the same weights, so these are multiplied with all columns at
    once.
    """
    program, tokens, objects = draft.program, draft.tokens, draft.objects
    both = Span(program.sum(tokens.size, objects.size), tokens.usual + objects.usual)
    behind = Span(objects.size, objects.usual, start=tokens.size)
    cross, state = layer.visual_attention, program.join(words, regions)
    ready = draft.linear(state, both, _projections(cross.att))
    attended = _attend(draft, cross.att, _parts(ready, tokens, 3)[:1], _parts(ready, behind, 3)[1:])
    seen = _attend(draft, cross.att, _parts(ready, behind, 3)[:1], _parts(ready, tokens, 3)[1:])
    mixed = draft.linear(program.join(attended, seen), both, [cross.output.dense], residual=state)
    state = _norm(draft, mixed, cross.output.LayerNorm)
    words = _attend_self(draft, _take(state, tokens), tokens, layer.lang_self_att)
    regions = _attend_self(draft, _take(state, behind), objects, layer.visn_self_att)
    return (
        _feed_forward(draft, words, tokens, layer.lang_inter, layer.lang_output),
        _feed_forward(draft, regions, objects, layer.visn_inter, layer.visn_output),
    )


def _last_cross_layer(draft: Draft, words: Any, regions: Any, layer: Block) -> Any:
    """Return the first token after the last cross layer.

    Its self-attention reads all tokens, so the cross-attention is computed for all tokens.
    """
    cross, first = layer.visual_attention, Span(draft.one.size, 1)
    query, *others = _projections(cross.att)
    queries = draft.linear(words, draft.tokens, [query])
    keys_and_values = _parts(draft.linear(regions, draft.objects, others), None, 2)
    attended = _attend(draft, cross.att, [queries], keys_and_values)
    words = _norm(
        draft, draft.linear(attended, draft.tokens, [cross.output.dense], residual=words), cross.output.LayerNorm
    )
    state = _attend_self(draft, words, draft.tokens, layer.lang_self_att, only=first)
    return _feed_forward(draft, state, first, layer.lang_inter, layer.lang_output)


def _attend_self(draft: Draft, state: Any, span: Span, block: Block, *, only: Span | None = None) -> Any:
    """Return self-attention over the columns of `span`, with output layer, residual and norm.

    With `only`, the result has these columns alone; they still attend to all columns of `span`.
    """
    attention, output = block.self, block.output
    query, *others = _projections(attention)
    if only is None:
        queries, *keys_and_values = _parts(draft.linear(state, span, [query, *others]), None, 3)
    else:
        keys_and_values = _parts(draft.linear(state, span, others), None, 2)
        state = _take(state, only)
        queries = draft.linear(state, only, [query])
    mixed = _attend(draft, attention, [queries], keys_and_values)
    return _norm(draft, draft.linear(mixed, only or span, [output.dense], residual=state), output.LayerNorm)


def _feed_forward(draft: Draft, state: Any, span: Span, first: Block, second: Block) -> Any:
    """Return the feed-forward of a layer over the columns of `span`, with residual and norm."""
    hidden = draft.linear(state, span, [first.dense], activation=draft.activation)
    return _norm(draft, draft.linear(hidden, span, [second.dense], residual=state), second.LayerNorm)


def _attend(draft: Draft, attention: Block, queries: Sequence[Any], keys_and_values: Sequence[Any]) -> Any:
    """Return the attention of the queries over the keys and values, before the output layer."""
    heads, size = attention.num_attention_heads, attention.attention_head_size
    return draft.program.attend(*queries, *keys_and_values, heads=heads, scale=size**-0.5)


def _projections(attention: Block) -> tuple[nn.Linear, nn.Linear, nn.Linear]:
    """Return the linear layers of an attention: query, key and value."""
    return attention.query, attention.key, attention.value


def _parts(state: Any, span: Span | None, count: int) -> list[Any]:
    """Return `state` split into `count` parts with equal numbers of channels.

    The parts have the columns of `span`, or all columns if it is None.
    """
    width = state.rows // count
    parts = [state.take(rows=(number * width, width)) for number in range(count)]
    return parts if span is None else [_take(part, span) for part in parts]


def _take(state: Any, span: Span) -> Any:
    """Return the columns of `span` from `state`."""
    return state.take(start=span.start, columns=span.size)


def _norm(draft: Draft, state: Any, norm: nn.LayerNorm, *, share: float = 1.0, add: Any = None) -> Any:
    """Return the normalised columns of `state`, multiplied by `share`, plus `add`."""
    gain, bias = _array(norm.weight) * np.float32(share), _array(norm.bias) * np.float32(share)
    return draft.program.norm(state, gain, bias, norm.eps, add=add)


def _bias(layer: nn.Linear) -> np.ndarray:
    """Return the bias of a linear layer as float32; zeros if it has none."""
    return np.zeros(layer.out_features, np.float32) if layer.bias is None else _array(layer.bias)


def _array(tensor: torch.Tensor) -> np.ndarray:
    """Return a tensor as a float32 array on the CPU."""
    return tensor.detach().cpu().float().numpy()
