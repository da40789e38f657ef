"""ViLT (Kim et al. 2021): transformers' own model, and what the study must know of it.

Shapes: B questions, L tokens, F features, H hidden, A answers, C channels, S the picture's pixels a side, P patches.

One stream reads the words and then the patches of the picture: no detector stands before it. A picture comes as the one
region of its image, whose F = C * S * S features are its pixels, rows after rows, channel after channel, less 0.5 and
over 0.5 as ViLT's own processor leaves them. Boxes go unread.

transformers' model looks at a picture's patches in an order that it draws anew each time, and at some of them only
where `max_image_length` says so. All of them are handed to it here, in one order, so that an answer is the same each
time and can be exported; their order changes nothing but the last digits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from transformers import ViltConfig, ViltForQuestionAnswering

from lxcompress.data.split import Inputs
from lxcompress.errors import ModelError
from lxcompress.models.anatomy import Attention, FeedForward
from lxcompress.models.heads import copy_head, draw_head
from lxcompress.models.parts import modality as modality

MODEL_TYPE = "vilt"
READS_SEVERAL_IMAGES = False
CONFIG = ViltConfig
ANSWERING = ("ViltForQuestionAnswering",)
"""transformers' classes that have this family's answer head; the first is the one that is built."""
ENCODER_PREFIX = "vilt."
HEAD_PREFIX = "classifier."
FIRST_LAYER = "classifier.0."
OUTPUT_LAYER = "classifier.3."
WORDS = "vilt.embeddings.text_embeddings.word_embeddings.weight"
LAYERS = "vilt.encoder.layer"


def build(config: ViltConfig) -> ViltForQuestionAnswering:
    """The question-answering model of `config` in evaluation mode. Its weights are arbitrary: load some."""
    with torch.random.fork_rng(devices=()):
        return without_dead_branch(ViltForQuestionAnswering(config))


def check_config(config: ViltConfig) -> None:
    """Raises ValueError for a config that no model here can be made of."""
    if not isinstance(config.image_size, int) or not isinstance(config.patch_size, int):
        raise ValueError(f"image_size and patch_size are whole numbers, got {config.image_size}, {config.patch_size}")
    if config.patch_size < 1 or config.image_size < 1 or config.image_size % config.patch_size:
        raise ValueError(f"image_size {config.image_size} is no multiple of patch_size {config.patch_size}")


def count_images(config: ViltConfig) -> int:
    """The images of a question: one."""
    return 1


def set_images(config: ViltConfig, images: int) -> None:
    """Raises ModelError unless questions are about one image."""
    if images != 1:
        raise ModelError(
            f"ViLT: answers questions about one image, but the data have {images} a question; "
            "start from an LXMERT (model.start=mini)"
        )


def count_answers(config: ViltConfig) -> int:
    """A, the answers that the head scores."""
    return config.num_labels


def set_answers(config: ViltConfig, answers: int) -> None:
    """Writes A into the config."""
    config.num_labels = answers


def without_dead_branch(model: ViltForQuestionAnswering) -> ViltForQuestionAnswering:
    """`model` as it is, in evaluation mode: every weight of it feeds the answer."""
    return model.eval()


def answer(model: nn.Module, inputs: Inputs) -> Tensor:
    """Answer scores (logits) [B, A] of inputs [B, ...] of one region each."""
    return model(**_read(model, inputs)).logits


def hidden(model: nn.Module, inputs: Inputs) -> tuple[Tensor, list[Tensor]]:
    """Answer scores [B, A], and what the embeddings and each layer hand on, [B, L + 1 + P, H]: words, then picture."""
    out = model(**_read(model, inputs), output_hidden_states=True)
    return out.logits, list(out.hidden_states)


def is_prunable(name: str, shape: torch.Size) -> bool:
    """Whether a tensor is a weight matrix outside the embeddings (the patches' among them) and the output layer."""
    return len(shape) == 2 and ".embeddings." not in name and not name.startswith(OUTPUT_LAYER)


def is_dead(name: str, config: ViltConfig) -> bool:
    """Whether no answer depends on a tensor: there is none such."""
    return False


def count_dead(config: ViltConfig) -> int:
    """The number of weights that no answer depends on: none."""
    return 0


def feed_forwards(model: ViltForQuestionAnswering) -> list[FeedForward]:
    """Every feed-forward block of the model, in the order of its layers."""
    layers = (f"{LAYERS}.{number}" for number in range(len(model.vilt.encoder.layer)))
    return [FeedForward(f"{layer}.intermediate.dense", f"{layer}.output.dense") for layer in layers]


def attentions(model: ViltForQuestionAnswering) -> list[Attention]:
    """Every set of attention heads, in the order of the layers."""
    return [
        Attention(
            module=f"{LAYERS}.{number}.attention.attention",
            query=f"{LAYERS}.{number}.attention.attention.query",
            key=f"{LAYERS}.{number}.attention.attention.key",
            value=f"{LAYERS}.{number}.attention.attention.value",
            output=f"{LAYERS}.{number}.attention.output.dense",
            heads=layer.attention.attention.num_attention_heads,
        )
        for number, layer in enumerate(model.vilt.encoder.layer)
    ]


def stacks(config: ViltConfig) -> dict[str, str]:
    """The list of layers of which whole ones can be left out -> the field of the config that counts them."""
    return {LAYERS: "num_hidden_layers"}


def feature_size(config: ViltConfig) -> int:
    """F, the pixels of a picture, its channels counted."""
    return config.num_channels * config.image_size**2


def picture_size(config: ViltConfig) -> int | None:
    """The pixels a side of the picture that is read whole, as one region."""
    return config.image_size


def fresh_head(config: ViltConfig, generator: torch.Generator, *, last_bias: float | None = None) -> dict[str, Tensor]:
    """Weights of a new answer head for the answers of `config`: heads.draw_head."""
    heads = {name: shape for name, shape in shapes(config).items() if name.startswith(HEAD_PREFIX)}
    return draw_head(heads, OUTPUT_LAYER, generator, deviation=config.initializer_range, last_bias=last_bias)


def copied_head(
    head: Mapping[str, Tensor], rows: Sequence[int | None], *, last_bias: float | None = None
) -> dict[str, Tensor]:
    """The answer head `head` with answer i read from its row `rows[i]`: heads.copy_head."""
    return copy_head(head, OUTPUT_LAYER, rows, last_bias=last_bias)


def shapes(config: ViltConfig) -> dict[str, torch.Size]:
    """name -> shape of every tensor of the whole model, without making one."""
    with torch.device("meta"):
        return {name: tensor.shape for name, tensor in ViltForQuestionAnswering(config).state_dict().items()}


def _read(model: ViltForQuestionAnswering, inputs: Inputs) -> dict[str, Tensor]:
    """The inputs by the names of transformers' model, the picture embedded already."""
    seen = _embed_patches(model, inputs.visual_feats)
    return {
        "input_ids": inputs.input_ids,
        "attention_mask": inputs.attention_mask,
        "image_embeds": seen,
        "pixel_mask": torch.ones_like(seen[..., 0], dtype=torch.int64),
    }


def _embed_patches(model: ViltForQuestionAnswering, features: Tensor) -> Tensor:
    """The picture's own token and its patches, each at its place, [B, 1 + P, H], of features [B, 1, C * S * S].

    A picture has the size that the model was made for, so that its positions need no interpolation.
    """
    config, embeddings = model.config, model.vilt.embeddings
    pixels = features.reshape(-1, config.num_channels, config.image_size, config.image_size)
    patches = embeddings.patch_embeddings(pixels).flatten(2).transpose(1, 2)
    own = embeddings.cls_token.expand(patches.shape[0], -1, -1)
    return embeddings.dropout(torch.cat([own, patches], dim=1) + embeddings.position_embeddings)
