"""VisualBERT (Li et al. 2019): transformers' own model, and what the study must know of it.

Shapes: B questions, L tokens, O regions, F features, H hidden, A answers.

One stream reads the words and then the regions, in the order of their features: there are no boxes in this model, so
`visual_pos` goes unread. The answer is scored from the state of the last word, as its authors do, and the pooler, which
feeds nothing then, is left out of the models built here, of tickets and of exported files.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from transformers import VisualBertConfig, VisualBertForQuestionAnswering

from lxcompress.data.split import Inputs
from lxcompress.errors import ModelError
from lxcompress.models.anatomy import Attention, FeedForward
from lxcompress.models.heads import copy_head, draw_head
from lxcompress.models.parts import modality as modality

MODEL_TYPE = "visual_bert"
READS_SEVERAL_IMAGES = False
CONFIG = VisualBertConfig
ANSWERING = ("VisualBertForQuestionAnswering",)
"""transformers' classes that have this family's answer head; the first is the one that is built."""
ENCODER_PREFIX = "visual_bert."
HEAD_PREFIX = "cls."
FIRST_LAYER = OUTPUT_LAYER = "cls."
"""The head is one layer, which scores the answers."""
WORDS = "visual_bert.embeddings.word_embeddings.weight"
POOLER = "visual_bert.pooler."
LAYERS = "visual_bert.encoder.layer"


def build(config: VisualBertConfig) -> VisualBertForQuestionAnswering:
    """The question-answering model of `config`, less its dead pooler, in evaluation mode.

    Its weights are arbitrary: load some.
    """
    with torch.random.fork_rng(devices=()):
        model = VisualBertForQuestionAnswering(config)
    return without_dead_branch(model)


def check_config(config: VisualBertConfig) -> None:
    """Raises ValueError for a config that no model here can be made of."""
    if config.bypass_transformer:
        raise ValueError("bypass_transformer is on, which leaves the regions out of the encoder and is not read here")


def count_images(config: VisualBertConfig) -> int:
    """The images of a question: one."""
    return 1


def set_images(config: VisualBertConfig, images: int) -> None:
    """Raises ModelError unless questions are about one image."""
    if images != 1:
        raise ModelError(
            f"VisualBERT: answers questions about one image, but the data have {images} a question; "
            "start from an LXMERT (model.start=mini)"
        )


def count_answers(config: VisualBertConfig) -> int:
    """A, the answers that the head scores."""
    return config.num_labels


def set_answers(config: VisualBertConfig, answers: int) -> None:
    """Writes A into the config."""
    config.num_labels = answers


def without_dead_branch(model: VisualBertForQuestionAnswering) -> VisualBertForQuestionAnswering:
    """`model` without its pooler, in evaluation mode."""
    model.visual_bert.pooler = None
    return model.eval()


def answer(model: nn.Module, inputs: Inputs) -> Tensor:
    """Answer scores (logits) [B, A] of inputs [B, ...]."""
    return model(**_read(inputs)).logits


def hidden(model: nn.Module, inputs: Inputs) -> tuple[Tensor, list[Tensor]]:
    """Answer scores [B, A], and what the embeddings and each layer hand on, [B, L + O, H]: words, then regions."""
    out = model(**_read(inputs), output_hidden_states=True)
    return out.logits, list(out.hidden_states)


def is_prunable(name: str, shape: torch.Size) -> bool:
    """Whether a tensor is a weight matrix outside the embeddings and the output layer; what projects the regions is."""
    return len(shape) == 2 and not name.endswith("_embeddings.weight") and not name.startswith(OUTPUT_LAYER)


def is_dead(name: str, config: VisualBertConfig) -> bool:
    """Whether a tensor belongs to the pooler, which no answer depends on."""
    return name.startswith(POOLER)


def count_dead(config: VisualBertConfig) -> int:
    """The number of weights of the pooler."""
    return sum(shape.numel() for name, shape in shapes(config).items() if is_dead(name, config))


def feed_forwards(model: VisualBertForQuestionAnswering) -> list[FeedForward]:
    """Every feed-forward block of the model, in the order of its layers."""
    layers = (f"{LAYERS}.{number}" for number in range(len(model.visual_bert.encoder.layer)))
    return [FeedForward(f"{layer}.intermediate.dense", f"{layer}.output.dense") for layer in layers]


def attentions(model: VisualBertForQuestionAnswering) -> list[Attention]:
    """Every set of attention heads, in the order of the layers."""
    return [
        Attention(
            module=f"{LAYERS}.{number}.attention.self",
            query=f"{LAYERS}.{number}.attention.self.query",
            key=f"{LAYERS}.{number}.attention.self.key",
            value=f"{LAYERS}.{number}.attention.self.value",
            output=f"{LAYERS}.{number}.attention.output.dense",
            heads=layer.attention.self.num_attention_heads,
        )
        for number, layer in enumerate(model.visual_bert.encoder.layer)
    ]


def stacks(config: VisualBertConfig) -> dict[str, str]:
    """The list of layers of which whole ones can be left out -> the field of the config that counts them."""
    return {LAYERS: "num_hidden_layers"}


def feature_size(config: VisualBertConfig) -> int:
    """F, the features of a region that the model reads."""
    return config.visual_embedding_dim


def picture_size(config: VisualBertConfig) -> int | None:
    """The pixels a side of a picture that is read whole, as one region; None, as this family reads regions."""
    return None


def fresh_head(
    config: VisualBertConfig, generator: torch.Generator, *, last_bias: float | None = None
) -> dict[str, Tensor]:
    """Weights of a new answer head for the answers of `config`: heads.draw_head."""
    heads = {name: shape for name, shape in shapes(config).items() if name.startswith(HEAD_PREFIX)}
    return draw_head(heads, OUTPUT_LAYER, generator, deviation=config.initializer_range, last_bias=last_bias)


def copied_head(
    head: Mapping[str, Tensor], rows: Sequence[int | None], *, last_bias: float | None = None
) -> dict[str, Tensor]:
    """The answer head `head` with answer i read from its row `rows[i]`: heads.copy_head."""
    return copy_head(head, OUTPUT_LAYER, rows, last_bias=last_bias)


def shapes(config: VisualBertConfig) -> dict[str, torch.Size]:
    """name -> shape of every tensor of the whole model, without making one."""
    with torch.device("meta"):
        return {name: tensor.shape for name, tensor in VisualBertForQuestionAnswering(config).state_dict().items()}


def _read(inputs: Inputs) -> dict[str, Tensor]:
    """The inputs by the names of transformers' model; the authors give every region the token type 1."""
    return {
        "input_ids": inputs.input_ids,
        "attention_mask": inputs.attention_mask,
        "visual_embeds": inputs.visual_feats,
        "visual_attention_mask": inputs.visual_attention_mask,
        "visual_token_type_ids": torch.ones_like(inputs.visual_attention_mask),
    }
