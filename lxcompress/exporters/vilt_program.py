"""The program of ViLT for the engine (Kim et al. 2021): one stream of layers reads words and patches.

The embedding of a patch is a product with its pixels. The answer is read from the first token.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from lxcompress.engine.pack import table
from lxcompress.engine.program import POSITION, Window
from lxcompress.exporters.program_layers import (
    Block,
    Draft,
    Span,
    add_pre_norm_layer,
    embed_words,
    encode,
    take,
    to_array,
    to_bias,
)

TEXT, PICTURE = 0, 1
"""The rows of ViLT's embedding of modalities."""


def answer_vilt(draft: Draft, module: Block) -> Any:
    """Return the scores of ViLT."""
    encoder = module.vilt
    modalities = to_array(encoder.embeddings.token_type_embeddings.weight)
    words = embed_words(draft, encoder.embeddings.text_embeddings, shift=modalities[TEXT])
    picture, columns = embed_picture(draft, encoder.embeddings)
    both = Span(draft.program.sum(draft.tokens.size, columns.size), draft.tokens.usual + columns.usual)
    first = Span(draft.one.size, 1)
    state = draft.program.join(words, picture)
    state = encode(draft, state, both, list(encoder.encoder.layer), only=first, layer=add_pre_norm_layer)
    pooled = draft.linear(draft.norm(state, encoder.layernorm), first, [encoder.pooler.dense], activation="tanh")
    between, norm, _, output = module.classifier
    hidden = draft.norm(draft.linear(pooled, first, [between]), norm, activation="gelu")
    return draft.linear(hidden, first, [output])


def embed_picture(draft: Draft, embeddings: Block) -> tuple[Any, Span]:
    """Return the embeddings of the image token and of all patches, and their columns.

    The image token and the modality are the same for all pictures, so they are added to the table of positions.
    """
    program, projection = draft.program, embeddings.patch_embeddings.projection
    window = make_window(embeddings.patch_embeddings.image_size[0], projection)
    with torch.no_grad():
        positions = embeddings.position_embeddings[0] + embeddings.token_type_embeddings.weight[PICTURE]
        positions[0] += embeddings.cls_token[0, 0]
    columns = Span(program.constant(len(positions)), len(positions))
    patches = Span(program.constant(len(positions) - 1), len(positions) - 1, start=draft.one.size)
    added = program.embed(table(to_array(positions), draft.precision), by=POSITION, size=columns.size)
    pixels = program.patches(program.planes(draft.features, window.width**2), window)
    weight = draft.pack(to_array(projection.weight).reshape(projection.out_channels, -1), patches.usual)
    embedded = program.linear(pixels, weight, bias=to_bias(projection), residual=take(added, patches))
    return program.join(take(added, draft.one), embedded), columns


def make_window(side: int, projection: nn.Conv2d) -> Window:
    """Return the kernel that cuts a picture of `side` x `side` pixels into patches."""
    patch = int(projection.kernel_size[0])
    return Window(kernel=patch, stride=patch, width=side, out_width=side // patch, padding=0)
