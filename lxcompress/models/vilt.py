"""ViLT (Kim et al. 2021), as transformers implements it.

Shapes: B questions, L tokens, H hidden size, A answers, C channels, S pixels on each side of the picture, P patches.

One stream of layers reads the words and then the patches of the picture; no detector is needed. A picture is given as
the only region of its image. The C * S * S features of that region are its pixels, row by row and channel by channel.
As in ViLT's own processor, 0.5 is subtracted from each value, and the result is divided by 0.5. The model has no boxes,
so it ignores `visual_pos`.

transformers' model reads the patches in a random order, and with a small `max_image_length` it reads only some of them.
Here the model reads all patches in a fixed order, so that an answer is the same each time and can be exported. The
order of the patches changes only the last digits of the scores.
"""

from __future__ import annotations

import torch
from torch import Tensor
from transformers import ViltConfig, ViltForQuestionAnswering

from lxcompress.data.split import Inputs
from lxcompress.models.anatomy import Anatomy, AttentionNames, FeedForward, LayerStack
from lxcompress.models.family import Family

ANATOMY = Anatomy(
    encoder="vilt.",
    words="vilt.embeddings.text_embeddings.word_embeddings.weight",
    head="classifier.",
    first_layer="classifier.0.",
    output_layer="classifier.3.",
    stacks=(
        LayerStack(
            name="vilt.encoder.layer",
            config_field="num_hidden_layers",
            attentions=(AttentionNames("attention.attention", "attention.output.dense"),),
            feed_forwards=(FeedForward("intermediate.dense", "output.dense"),),
        ),
    ),
)


def check_config(config: ViltConfig) -> None:
    """Raise ValueError for a config from which no model can be built."""
    if not isinstance(config.image_size, int) or not isinstance(config.patch_size, int):
        raise ValueError(f"image_size and patch_size are whole numbers, got {config.image_size}, {config.patch_size}")
    if config.patch_size < 1 or config.image_size < 1 or config.image_size % config.patch_size:
        raise ValueError(f"image_size {config.image_size} is not a multiple of patch_size {config.patch_size}")


def answer(model: ViltForQuestionAnswering, inputs: Inputs) -> Tensor:
    """Return answer scores (logits) [B, A] for inputs [B, ...] with one region (the picture) for each question."""
    scores: Tensor = model(**_arguments(model, inputs)).logits
    return scores


def hidden(model: ViltForQuestionAnswering, inputs: Inputs) -> tuple[Tensor, list[Tensor]]:
    """Return answer scores [B, A], and the outputs [B, L + 1 + P, H] of the embeddings and of each layer."""
    output = model(**_arguments(model, inputs), output_hidden_states=True)
    return output.logits, list(output.hidden_states)


def feature_size(config: ViltConfig) -> int:
    """Return the number of values of a picture: pixels times channels."""
    size = picture_size(config)
    return config.num_channels * size * size


def picture_size(config: ViltConfig) -> int:
    """Return the number of pixels on each side of the picture."""
    assert isinstance(config.image_size, int)
    return config.image_size


def _arguments(model: ViltForQuestionAnswering, inputs: Inputs) -> dict[str, Tensor]:
    """Return the inputs of transformers' model by name, with the embeddings of the picture."""
    embedded = _embed_patches(model, inputs.visual_feats)
    return {
        "input_ids": inputs.input_ids,
        "attention_mask": inputs.attention_mask,
        "image_embeds": embedded,
        "pixel_mask": torch.ones_like(embedded[..., 0], dtype=torch.int64),
    }


def _embed_patches(model: ViltForQuestionAnswering, features: Tensor) -> Tensor:
    """Return the embeddings [B, 1 + P, H] of the image token and of all patches, for features [B, 1, C * S * S].

    A picture has the size of the model's config, so the position embeddings need no interpolation.
    """
    embeddings, size = model.vilt.embeddings, picture_size(model.config)
    pixels = features.reshape(-1, model.config.num_channels, size, size)
    patches = embeddings.patch_embeddings(pixels).flatten(2).transpose(1, 2)
    image_token = embeddings.cls_token.expand(patches.shape[0], -1, -1)
    embedded: Tensor = embeddings.dropout(torch.cat([image_token, patches], dim=1) + embeddings.position_embeddings)
    return embedded


FAMILY = Family(
    name="vilt",
    title="ViLT",
    anatomy=ANATOMY,
    config_class=ViltConfig,
    answering=("ViltForQuestionAnswering",),
    make=ViltForQuestionAnswering,
    answer=answer,
    hidden=hidden,
    feature_size=feature_size,
    picture_size=picture_size,
    check_config=check_config,
)
