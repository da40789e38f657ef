"""VisualBERT (Li et al. 2019), as transformers implements it.

Shapes: B questions, L tokens, O regions, H hidden size, A answers.

One stream of layers reads the words and then the regions, in the order of their features. The model has no boxes, so it
ignores `visual_pos`. As in the authors' code, the answer is computed from the state of the last word. So no answer
depends on the pooler, and it is left out of the models built here, of tickets and of exported files.
"""

from __future__ import annotations

import torch
from torch import Tensor
from transformers import VisualBertConfig, VisualBertForQuestionAnswering

from lxcompress.data.split import Inputs
from lxcompress.models.anatomy import Anatomy, AttentionNames, FeedForward, LayerStack
from lxcompress.models.family import Family

ANATOMY = Anatomy(
    encoder="visual_bert.",
    words="visual_bert.embeddings.word_embeddings.weight",
    head="cls.",
    first_layer="cls.",  # the head is one layer
    output_layer="cls.",
    stacks=(
        LayerStack(
            name="visual_bert.encoder.layer",
            config_field="num_hidden_layers",
            attentions=(AttentionNames("attention.self", "attention.output.dense"),),
            feed_forwards=(FeedForward("intermediate.dense", "output.dense"),),
        ),
    ),
    unprunable=("*_embeddings.weight",),  # the projection of the regions is an embedding too, but it is pruned
    dead=("visual_bert.pooler.",),
)


def remove_dead(model: VisualBertForQuestionAnswering) -> None:
    """Remove the pooler, which no answer depends on."""
    model.visual_bert.pooler = None


def check_config(config: VisualBertConfig) -> None:
    """Raise ValueError for a config from which no model can be built."""
    if config.bypass_transformer:
        raise ValueError("bypass_transformer: true is not supported: the encoder would not read the regions")


def answer(model: VisualBertForQuestionAnswering, inputs: Inputs) -> Tensor:
    """Return answer scores (logits) [B, A] for inputs [B, ...]."""
    scores: Tensor = model(**_arguments(inputs)).logits
    return scores


def hidden(model: VisualBertForQuestionAnswering, inputs: Inputs) -> tuple[Tensor, list[Tensor]]:
    """Return answer scores [B, A], and the outputs [B, L + O, H] of the embeddings and of each layer."""
    output = model(**_arguments(inputs), output_hidden_states=True)
    return output.logits, list(output.hidden_states)


def feature_size(config: VisualBertConfig) -> int:
    """Return the number of features of a region."""
    return config.visual_embedding_dim


def _arguments(inputs: Inputs) -> dict[str, Tensor]:
    """Return the inputs of transformers' model by name; every region has token type 1, as in the authors' code."""
    return {
        "input_ids": inputs.input_ids,
        "attention_mask": inputs.attention_mask,
        "visual_embeds": inputs.visual_feats,
        "visual_attention_mask": inputs.visual_attention_mask,
        "visual_token_type_ids": torch.ones_like(inputs.visual_attention_mask),
    }


FAMILY = Family(
    name="visual_bert",
    title="VisualBERT",
    anatomy=ANATOMY,
    config_class=VisualBertConfig,
    answering=("VisualBertForQuestionAnswering",),
    make=VisualBertForQuestionAnswering,
    answer=answer,
    hidden=hidden,
    feature_size=feature_size,
    feature_layer="visual_bert.embeddings.visual_projection",
    features_field="visual_embedding_dim",
    remove_dead=remove_dead,
    check_config=check_config,
)
