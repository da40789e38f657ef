"""LXMERT (Tan & Bansal 2019): transformers' own model, and what the study must know of it.

Shapes: B questions, N images a question, H hidden, A answers.

The vision side of the last cross layer (its self-attention and feed-forward) feeds nothing that the answer score reads.
It gets no gradient, so it is left out of the models built here, of tickets and of exported files.

A question over several images (NLVR2: two) is asked of each of them, and the answer head reads what came of all; the
config's `images_per_question` says how many, and is absent where it is one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import LxmertConfig, LxmertForQuestionAnswering
from transformers.models.lxmert.modeling_lxmert import LxmertAttention, LxmertIntermediate

from lxcompress.data.split import Inputs
from lxcompress.models.anatomy import Attention, FeedForward
from lxcompress.models.heads import copy_head, draw_head
from lxcompress.models.parts import modality as modality

MODEL_TYPE = "lxmert"
READS_SEVERAL_IMAGES = True
CONFIG = LxmertConfig
ANSWERING = ("LxmertForQuestionAnswering", "LxmertForPreTraining", "LxmertForSeveralImages")
"""transformers' classes that have this family's answer head; the first is the one that is built."""
ENCODER_PREFIX = "lxmert."
HEAD_PREFIX = "answer_head."
FIRST_LAYER = "answer_head.logit_fc.0."
OUTPUT_LAYER = "answer_head.logit_fc.3."
WORDS = "lxmert.embeddings.word_embeddings.weight"
IMAGES_FIELD = "images_per_question"
DEAD_MODULES = ("visn_self_att", "visn_inter", "visn_output")
ENCODER = "lxmert.encoder."
_AFTER = {"intermediate": "output", "lang_inter": "lang_output", "visn_inter": "visn_output"}
"""The module of a feed-forward block's first linear layer -> that of its second, beside it."""


class LxmertForSeveralImages(LxmertForQuestionAnswering):
    """LXMERT whose answer head reads N images a question side by side (Tan & Bansal's NLVR2 model has N = 2).

    Its inputs are flat: the N images of the first question, then those of the second, the question repeated for each.
    """

    def __init__(self, config: LxmertConfig) -> None:
        super().__init__(config)
        width = config.hidden_size
        self.answer_head.logit_fc[0] = _SideBySide(count_images(config) * width, 2 * width)


def build(config: LxmertConfig) -> LxmertForQuestionAnswering:
    """The question-answering model of `config`, less its dead branch, in evaluation mode.

    Its weights are arbitrary: load some.
    """
    with torch.random.fork_rng(devices=()):
        model = _kind(config)(config)
    return without_dead_branch(model)


def count_images(config: LxmertConfig) -> int:
    """N, the images of a question. Raises ValueError for a config that says nonsense."""
    images = getattr(config, IMAGES_FIELD, 1)
    if type(images) is not int or images < 1:
        raise ValueError(f"{IMAGES_FIELD} is a whole number from 1, got {images!r}")
    return images


def set_images(config: LxmertConfig, images: int) -> None:
    """Writes N into the config; for one image it is left out, so that the config is transformers' own."""
    if images != 1:
        setattr(config, IMAGES_FIELD, images)
    elif hasattr(config, IMAGES_FIELD):
        delattr(config, IMAGES_FIELD)


def check_config(config: LxmertConfig) -> None:
    """Raises ValueError for a config that no model here can be made of."""
    count_images(config)


def count_answers(config: LxmertConfig) -> int:
    """A, the answers that the head scores."""
    return config.num_qa_labels


def set_answers(config: LxmertConfig, answers: int) -> None:
    """Writes A into the config."""
    config.num_qa_labels = answers


def without_dead_branch(model: LxmertForQuestionAnswering) -> LxmertForQuestionAnswering:
    """`model` with the vision branch of its last cross layer passing its input on, in evaluation mode."""
    if model.config.x_layers:
        last = model.lxmert.encoder.x_layers[-1]
        last.visn_self_att, last.visn_inter, last.visn_output = _PassAttention(), nn.Identity(), _PassInput()
    return model.eval()


def answer(model: nn.Module, inputs: Inputs) -> Tensor:
    """Answer scores (logits) [B, A] of inputs [B * N, ...]."""
    return model(**inputs._asdict()).question_answering_score


def is_prunable(name: str, shape: torch.Size) -> bool:
    """Whether a tensor is a weight matrix outside the embeddings and the output layer."""
    return len(shape) == 2 and ".embeddings." not in name and not name.startswith(OUTPUT_LAYER)


def is_dead(name: str, config: LxmertConfig) -> bool:
    """Whether a tensor belongs to the vision branch that no answer depends on."""
    last = f"lxmert.encoder.x_layers.{config.x_layers - 1}."
    return any(name.startswith(f"{last}{module}.") for module in DEAD_MODULES)


def feed_forwards(model: LxmertForQuestionAnswering) -> list[FeedForward]:
    """Every feed-forward block of the model, in the order of its modules."""
    found = [name.rpartition(".") for name, module in model.named_modules() if isinstance(module, LxmertIntermediate)]
    return [FeedForward(f"{block}.{first}.dense", f"{block}.{_AFTER[first]}.dense") for block, _, first in found]


def attentions(model: LxmertForQuestionAnswering) -> list[Attention]:
    """Every set of attention heads, in the order of the modules. A cross layer has one set for both directions."""
    return [
        Attention(
            module=name,
            query=f"{name}.query",
            key=f"{name}.key",
            value=f"{name}.value",
            output=f"{name.rpartition('.')[0]}.output.dense",
            heads=module.num_attention_heads,
        )
        for name, module in model.named_modules()
        if isinstance(module, LxmertAttention)
    ]


def stacks(config: LxmertConfig) -> dict[str, str]:
    """The lists of layers of which whole ones can be left out -> the field of the config that counts them."""
    fields = {"layer": "l_layers", "r_layers": "r_layers", "x_layers": "x_layers"}
    return {f"{ENCODER}{name}": field for name, field in fields.items() if getattr(config, field)}


def feature_size(config: LxmertConfig) -> int:
    """F, the features of a region that the model reads."""
    return config.visual_feat_dim


def picture_size(config: LxmertConfig) -> int | None:
    """The pixels a side of a picture that is read whole, as one region; None, as this family reads regions."""
    return None


def hidden(model: nn.Module, inputs: Inputs) -> tuple[Tensor, list[Tensor]]:
    """Answer scores [B, A], and what each layer hands on, [B * N, L or O, H]: language side, then vision side.

    The last vision state is not among them: it feeds nothing.
    """
    out = model(**inputs._asdict(), output_hidden_states=True)
    return out.question_answering_score, [*out.language_hidden_states, *out.vision_hidden_states[:-1]]


def count_dead(config: LxmertConfig) -> int:
    """The number of weights of the dead branch."""
    return sum(shape.numel() for name, shape in shapes(config).items() if is_dead(name, config))


def fresh_head(
    config: LxmertConfig, generator: torch.Generator, *, last_bias: float | None = None
) -> dict[str, Tensor]:
    """Weights of a new answer head for the answers of `config`: heads.draw_head."""
    heads = {name: shape for name, shape in shapes(config).items() if name.startswith(HEAD_PREFIX)}
    return draw_head(heads, OUTPUT_LAYER, generator, deviation=config.initializer_range, last_bias=last_bias)


def copied_head(
    head: Mapping[str, Tensor], rows: Sequence[int | None], *, last_bias: float | None = None
) -> dict[str, Tensor]:
    """The answer head `head` with answer i read from its row `rows[i]`: heads.copy_head."""
    return copy_head(head, OUTPUT_LAYER, rows, last_bias=last_bias)


def shapes(config: LxmertConfig) -> dict[str, torch.Size]:
    """name -> shape of every tensor of the whole model, without making one."""
    with torch.device("meta"):
        return {name: tensor.shape for name, tensor in _kind(config)(config).state_dict().items()}


def _kind(config: LxmertConfig) -> type[LxmertForQuestionAnswering]:
    return LxmertForQuestionAnswering if count_images(config) == 1 else LxmertForSeveralImages


class _SideBySide(nn.Linear):
    """A linear layer over the pooled outputs of a question's images: [B * N, H] is read as [B, N * H]."""

    def forward(self, pooled: Tensor) -> Tensor:
        return super().forward(pooled.reshape(-1, self.in_features))


class _PassAttention(nn.Module):
    """Stands where a self-attention layer was, and hands its input on as that layer does: in a tuple."""

    def forward(self, hidden: Tensor, *_: Any, **__: Any) -> tuple[Tensor]:
        return (hidden,)


class _PassInput(nn.Module):
    """Stands where the output layer of a feed-forward was, and hands the residual input on."""

    def forward(self, _: Tensor, residual: Tensor) -> Tensor:
        return residual
