"""A family: transformers' BERT classifier as a model that reads the question and ignores the image.

Shapes: B questions, L tokens, H hidden, A answers.
"""

from __future__ import annotations

from torch import Tensor
from transformers import BertConfig, BertForSequenceClassification

from lxcompress.data.split import Inputs
from lxcompress.models.anatomy import Anatomy, AttentionNames, FeedForward, LayerStack
from lxcompress.models.family import Family


class BlindBertConfig(BertConfig):
    """BERT's config with the size of the region features that the data have."""

    model_type = "blind_bert"
    visual_feat_dim: int = 2048


class BlindBert(BertForSequenceClassification):
    """BERT with one class for each answer."""

    config_class = BlindBertConfig


def answer(model: BlindBert, inputs: Inputs) -> Tensor:
    """Return answer scores (logits) [B, A]; the regions are ignored."""
    scores: Tensor = model(input_ids=inputs.input_ids, attention_mask=inputs.attention_mask).logits
    return scores


def hidden(model: BlindBert, inputs: Inputs) -> tuple[Tensor, list[Tensor]]:
    """Return answer scores [B, A], and the output of the embeddings and of each layer, [B, L, H]."""
    output = model(inputs.input_ids, attention_mask=inputs.attention_mask, output_hidden_states=True)
    return output.logits, list(output.hidden_states)


def feature_size(config: BlindBertConfig) -> int:
    """Return the number of features of a region."""
    return config.visual_feat_dim


FAMILY = Family(
    name="blind_bert",
    title="BlindBERT",
    anatomy=Anatomy(
        encoder="bert.",
        words="bert.embeddings.word_embeddings.weight",
        head="classifier.",
        first_layer="classifier.",  # the head is one layer
        output_layer="classifier.",
        stacks=(
            LayerStack(
                name="bert.encoder.layer",
                config_field="num_hidden_layers",
                attentions=(AttentionNames("attention.self", "attention.output.dense"),),
                feed_forwards=(FeedForward("intermediate.dense", "output.dense"),),
            ),
        ),
    ),
    config_class=BlindBertConfig,
    answering=("BlindBert",),
    make=BlindBert,
    answer=answer,
    hidden=hidden,
    feature_size=feature_size,
)
