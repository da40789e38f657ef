"""LXMERT (Tan & Bansal 2019), as transformers implements it.

Shapes: B questions, N images for each question, L tokens, O regions, H hidden size, A answers.

No answer depends on the vision side of the last cross layer (its self-attention and its feed-forward). This branch is
called dead. It gets no gradient. It is left out of the models built here, of tickets and of exported files.

For a question about several images (NLVR2: two), the encoder runs once for each image, and the answer head reads the
pooled outputs of all images. The config's `images_per_question` states the number of images; it is absent for one.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from transformers import LxmertConfig, LxmertForQuestionAnswering

from lxcompress.data.split import Inputs
from lxcompress.models.anatomy import Anatomy, AttentionNames, FeedForward, LayerStack
from lxcompress.models.family import Family, read_images

IMAGES_FIELD = "images_per_question"
_SELF_ATTENTION = AttentionNames("attention.self", "attention.output.dense")
_FEED_FORWARD = FeedForward("intermediate.dense", "output.dense")

ANATOMY = Anatomy(
    encoder="lxmert.",
    words="lxmert.embeddings.word_embeddings.weight",
    head="answer_head.",
    first_layer="answer_head.logit_fc.0.",
    output_layer="answer_head.logit_fc.3.",
    stacks=(
        LayerStack("lxmert.encoder.layer", "l_layers", (_SELF_ATTENTION,), (_FEED_FORWARD,)),
        LayerStack("lxmert.encoder.r_layers", "r_layers", (_SELF_ATTENTION,), (_FEED_FORWARD,)),
        LayerStack(
            "lxmert.encoder.x_layers",
            "x_layers",
            (
                AttentionNames("visual_attention.att", "visual_attention.output.dense"),  # one for both directions
                AttentionNames("lang_self_att.self", "lang_self_att.output.dense"),
                AttentionNames("visn_self_att.self", "visn_self_att.output.dense"),
            ),
            (
                FeedForward("lang_inter.dense", "lang_output.dense"),
                FeedForward("visn_inter.dense", "visn_output.dense"),
            ),
        ),
    ),
    dead=(
        "lxmert.encoder.x_layers.{x_layers}.visn_self_att.",
        "lxmert.encoder.x_layers.{x_layers}.visn_inter.",
        "lxmert.encoder.x_layers.{x_layers}.visn_output.",
    ),
)


class LxmertForSeveralImages(LxmertForQuestionAnswering):
    """LXMERT with an answer head that reads the N images of a question together (Tan & Bansal's NLVR2 model: N = 2).

    Its inputs have B * N rows: the N images of the first question, then those of the second question, and so on. The
    tokens of a question are repeated for each of its images.
    """

    def __init__(self, config: LxmertConfig) -> None:
        super().__init__(config)
        width = config.hidden_size
        self.answer_head.logit_fc[0] = _JoinImages(read_images(config, IMAGES_FIELD) * width, 2 * width)


def make(config: LxmertConfig) -> LxmertForQuestionAnswering:
    """Return the whole question-answering model of `config`, for one image or for several."""
    is_single = read_images(config, IMAGES_FIELD) == 1
    return (LxmertForQuestionAnswering if is_single else LxmertForSeveralImages)(config)


def remove_dead(model: LxmertForQuestionAnswering) -> None:
    """Replace the modules of the dead branch by modules that return their input."""
    if model.config.x_layers:
        last = model.lxmert.encoder.x_layers[-1]
        last.visn_self_att, last.visn_inter, last.visn_output = _PassAttention(), nn.Identity(), _PassInput()


def check_config(config: LxmertConfig) -> None:
    """Raise ValueError for a config from which no model can be built."""
    read_images(config, IMAGES_FIELD)


def answer(model: LxmertForQuestionAnswering, inputs: Inputs) -> Tensor:
    """Return answer scores (logits) [B, A] for inputs [B * N, ...]."""
    scores: Tensor = model(**inputs._asdict()).question_answering_score
    return scores


def hidden(model: LxmertForQuestionAnswering, inputs: Inputs) -> tuple[Tensor, list[Tensor]]:
    """Return answer scores [B, A], and the outputs [B * N, L or O, H] of the layers: language side, then vision side.

    The last output of the vision side is left out, because no answer depends on it.
    """
    output = model(**inputs._asdict(), output_hidden_states=True)
    return output.question_answering_score, [*output.language_hidden_states, *output.vision_hidden_states[:-1]]


def feature_size(config: LxmertConfig) -> int:
    """Return the number of features of a region."""
    return config.visual_feat_dim


class _JoinImages(nn.Linear):
    """A linear layer that reads the pooled outputs of all images of a question: [B * N, H] as [B, N * H]."""

    def forward(self, pooled: Tensor) -> Tensor:
        return super().forward(pooled.reshape(-1, self.in_features))


class _PassAttention(nn.Module):
    """A module in place of a self-attention layer: it returns its input, in a tuple as that layer does."""

    def forward(self, hidden: Tensor, *_: Any, **__: Any) -> tuple[Tensor]:
        return (hidden,)


class _PassInput(nn.Module):
    """A module in place of the output layer of a feed-forward block: it returns the residual input."""

    def forward(self, _: Tensor, residual: Tensor) -> Tensor:
        return residual


FAMILY = Family(
    name="lxmert",
    title="LXMERT",
    anatomy=ANATOMY,
    config_class=LxmertConfig,
    answering=("LxmertForQuestionAnswering", "LxmertForPreTraining", "LxmertForSeveralImages"),
    make=make,
    answer=answer,
    hidden=hidden,
    feature_size=feature_size,
    feature_layer="lxmert.encoder.visn_fc.visn_fc",
    features_field="visual_feat_dim",
    remove_dead=remove_dead,
    check_config=check_config,
    answers_field="num_qa_labels",
    images_field=IMAGES_FIELD,
)
