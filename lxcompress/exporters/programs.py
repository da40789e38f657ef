"""Programs: translate the model of a family into a program for the engine.

Activations are [channels][columns]. A column is a token or a region; tokens and regions that the masks remove have no
column. Values that no answer depends on are not computed. So after the last attention that reads all columns, the
program goes on with one column only: the one that the answer is read from.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from lxcompress.engine.program import Program
from lxcompress.errors import ExportError
from lxcompress.exporters.program_layers import (
    Block,
    Draft,
    Pack,
    Span,
    add_layer,
    attend,
    attend_self,
    embed_words,
    encode,
    feed_forward,
    list_projections,
    split_channels,
    take,
    to_array,
)
from lxcompress.exporters.vilt_program import answer_vilt
from lxcompress.models.checkpoints import Model

ACTIVATIONS = ("gelu", "relu", "tanh")
"""The activation functions that the engine has, by their names in transformers; gelu is the exact one."""
BOX = 4
"""The numbers of a box: x1, y1, x2, y2."""


@dataclass(frozen=True)
class Usual:
    """The number of tokens and of regions of a typical question. The layouts of matrices are chosen for them."""

    tokens: int
    objects: int


def build_program(model: Model, *, pack: Pack, precision: str, usual: Usual, most_objects: int) -> Program:
    """Return the program that answers as `model` does.

    Embeddings are stored in `precision`, and `pack` packs the matrices of products. Raises ExportError for a model that
    the engine cannot run.
    """
    check_model(model)
    config, program = model.config, Program()
    tokens = program.rows("attention_mask", most=config.max_position_embeddings)
    objects = program.rows("visual_attention_mask", most=most_objects)
    draft = Draft(
        program=program,
        pack=pack,
        precision=precision,
        activation=config.hidden_act,
        tokens=Span(tokens, usual.tokens),
        objects=Span(objects, usual.objects),
        one=Span(program.constant(1), 1),
        ids=program.ints("input_ids", tokens),
        features=program.floats("visual_feats", objects, width=model.family.feature_size(config)),
        # VisualBERT and ViLT do not read boxes, but every family has the same inputs.
        boxes=program.floats("visual_pos", objects, width=BOX),
    )
    program.scores(_ANSWERS[model.family.name](draft, model.module))
    return program


def has_program(family: str) -> bool:
    """Return whether the engine has a program for the models of a family."""
    return family in _ANSWERS


def check_model(model: Model) -> None:
    """Raise ExportError for a model that the engine cannot run, before anything is packed."""
    if not has_program(model.family.name):
        raise ExportError(
            f"format engine: does not support {model.family.name} models, only "
            f"{', '.join(_ANSWERS)}; give --format onnx"
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


def _answer_lxmert(draft: Draft, module: Block) -> Any:
    """Return the scores of LXMERT, which are read from its first token."""
    words, encoder = embed_words(draft, module.lxmert.embeddings), module.lxmert.encoder
    layers, crosses = list(encoder.layer), list(encoder.x_layers)
    for layer in layers:
        words = add_layer(draft, words, draft.tokens, layer)
    first = Span(draft.one.size, 1)
    if crosses:
        regions = _embed_regions(draft, encoder.visn_fc)
        for layer in encoder.r_layers:
            regions = add_layer(draft, regions, draft.objects, layer)
        for layer in crosses[:-1]:
            words, regions = _cross_layer(draft, words, regions, layer)
        words = _last_cross_layer(draft, words, regions, crosses[-1])
    pooled = draft.linear(take(words, first), first, [module.lxmert.pooler.dense], activation="tanh")
    between, _, norm, output = module.answer_head.logit_fc
    hidden = draft.linear(pooled, first, [between], activation="gelu")
    return draft.linear(draft.norm(hidden, norm), first, [output])


def _answer_visual_bert(draft: Draft, module: Block) -> Any:
    """Return the scores of VisualBERT, which are read from the last word: the token before [SEP].

    VisualBERT reads tokens and regions as one sequence, tokens first.
    """
    program, encoder = draft.program, module.visual_bert
    embeddings = encoder.embeddings
    words = embed_words(draft, embeddings)
    with torch.no_grad():  # every region has position 0 and token type 1
        same = embeddings.visual_position_embeddings.weight[0] + embeddings.visual_token_type_embeddings.weight[1]
    seen = program.load(draft.features)
    regions = draft.linear(seen, draft.objects, [embeddings.visual_projection], add=to_array(same))
    both = Span(program.sum(draft.tokens.size, draft.objects.size), draft.tokens.usual + draft.objects.usual)
    state = program.join(words, draft.norm(regions, embeddings.LayerNorm))
    last = Span(draft.one.size, 1, start=program.sum(draft.tokens.size, add=-2))
    state = encode(draft, state, both, list(encoder.encoder.layer), only=last, layer=add_layer)
    return draft.linear(state, last, [module.cls])


_ANSWERS: Mapping[str, Callable[[Draft, nn.Module], Any]] = {
    "lxmert": _answer_lxmert,
    "visual_bert": _answer_visual_bert,
    "vilt": answer_vilt,
}
"""Family -> a function (draft, module) that adds the family's layers and returns the scores."""


def _embed_regions(draft: Draft, encoder: Block) -> Any:
    """Return LXMERT's embedded regions: the mean of normalised features and normalised boxes."""
    boxes = draft.linear(draft.program.load(draft.boxes), draft.objects, [encoder.box_fc])
    where = draft.norm(boxes, encoder.box_layer_norm, share=0.5)
    seen = draft.linear(draft.program.load(draft.features), draft.objects, [encoder.visn_fc])
    return draft.norm(seen, encoder.visn_layer_norm, share=0.5, add=where)


def _cross_layer(draft: Draft, words: Any, regions: Any, layer: Block) -> tuple[Any, Any]:
    """Return the words and the regions after a cross layer.

    Words attend to regions and regions to words with the same weights, so these are multiplied with all columns at
    once.
    """
    program, tokens, objects = draft.program, draft.tokens, draft.objects
    both = Span(program.sum(tokens.size, objects.size), tokens.usual + objects.usual)
    behind = Span(objects.size, objects.usual, start=tokens.size)
    cross, state = layer.visual_attention, program.join(words, regions)
    ready = draft.linear(state, both, list_projections(cross.att))
    attended = attend(draft, cross.att, split_channels(ready, tokens, 3)[:1], split_channels(ready, behind, 3)[1:])
    seen = attend(draft, cross.att, split_channels(ready, behind, 3)[:1], split_channels(ready, tokens, 3)[1:])
    mixed = draft.linear(program.join(attended, seen), both, [cross.output.dense], residual=state)
    state = draft.norm(mixed, cross.output.LayerNorm)
    words = attend_self(draft, take(state, tokens), tokens, layer.lang_self_att)
    regions = attend_self(draft, take(state, behind), objects, layer.visn_self_att)
    return (
        feed_forward(draft, words, tokens, layer.lang_inter, layer.lang_output),
        feed_forward(draft, regions, objects, layer.visn_inter, layer.visn_output),
    )


def _last_cross_layer(draft: Draft, words: Any, regions: Any, layer: Block) -> Any:
    """Return the first token after the last cross layer.

    Its self-attention reads all tokens, so the cross-attention is computed for all tokens.
    """
    cross, first = layer.visual_attention, Span(draft.one.size, 1)
    query, *others = list_projections(cross.att)
    queries = draft.linear(words, draft.tokens, [query])
    keys_and_values = split_channels(draft.linear(regions, draft.objects, others), None, 2)
    attended = attend(draft, cross.att, [queries], keys_and_values)
    mixed = draft.linear(attended, draft.tokens, [cross.output.dense], residual=words)
    words = draft.norm(mixed, cross.output.LayerNorm)
    state = attend_self(draft, words, draft.tokens, layer.lang_self_att, only=first)
    return feed_forward(draft, state, first, layer.lang_inter, layer.lang_output)
