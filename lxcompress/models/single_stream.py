"""Models of one stream with BERT's layers over words and regions: what UNITER and OSCAR have in common.

Shapes: B questions, L tokens, O regions, F features, H hidden size, A answers.

The layers are those of transformers' BERT, and read the words and then the regions. The answer head reads the pooled
state of the first token. models/uniter.py and models/oscar.py add how each model embeds its regions.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers.masking_utils import create_bidirectional_mask
from transformers.models.bert.configuration_bert import BertConfig
from transformers.models.bert.modeling_bert import BertEmbeddings, BertEncoder, BertPooler, BertPreTrainedModel

from lxcompress.data.split import Inputs
from lxcompress.models.anatomy import Anatomy, AttentionNames, FeedForward, LayerStack


class SingleStreamConfig(BertConfig):  # type: ignore[misc]  # mypy cannot read transformers' BERT
    """BERT's config with the number of features of a region, without the numbers of its box."""

    visual_feat_dim: int = 2048


class SingleStreamEncoder(nn.Module):
    """BERT's encoder over words and regions.

    The module `regions` embeds regions: (features [B, O, F], boxes [B, O, 4], table of token types) -> [B, O, H].
    """

    def __init__(self, config: SingleStreamConfig, regions: nn.Module) -> None:
        super().__init__()
        self.config = config
        self.embeddings = BertEmbeddings(config)
        self.img_embeddings = regions
        self.encoder = BertEncoder(config)
        self.pooler = BertPooler(config)

    def forward(self, inputs: Inputs, token_types: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return the pooled state of the first token [B, H], and the states [B, L + O, H].

        The states are the outputs of the embeddings and of each layer. `token_types` are the types of the words.
        """
        words = self.embeddings(input_ids=inputs.input_ids, token_type_ids=token_types)
        regions = self.img_embeddings(inputs.visual_feats, inputs.visual_pos, self.embeddings.token_type_embeddings)
        states = [torch.cat([words, regions], dim=1)]
        mask = create_bidirectional_mask(
            config=self.config,
            inputs_embeds=states[0][:, :1],  # one row of the mask serves all queries
            attention_mask=torch.cat([inputs.attention_mask, inputs.visual_attention_mask], dim=1),
            allow_is_bidirectional_skip=False,  # a mask that is left out would be left out of exported files too
        )
        for layer in self.encoder.layer:
            states.append(layer(states[-1], mask))
        return self.pooler(states[-1]), states


class SingleStreamForQuestionAnswering(BertPreTrainedModel):  # type: ignore[misc]
    """A model of one stream with an answer head; a subclass says which modules these are."""

    @property
    def encoder(self) -> SingleStreamEncoder:
        """The encoder of the subclass."""
        raise NotImplementedError

    @property
    def head(self) -> nn.Module:
        """The answer head of the subclass."""
        raise NotImplementedError

    def token_types(self, inputs: Inputs) -> Tensor:
        """Return the token types [B, L] of the words; 0 for each word."""
        return torch.zeros_like(inputs.input_ids)

    def answer(self, inputs: Inputs) -> tuple[Tensor, list[Tensor]]:
        """Return answer scores (logits) [B, A], and the states [B, L + O, H] of the embeddings and of each layer."""
        pooled, states = self.encoder(inputs, self.token_types(inputs))
        return self.head(pooled), states

    def forward(self, **inputs: Tensor) -> Tensor:
        """Return answer scores (logits) [B, A]; the inputs have the names of lxcompress.data.split.Inputs."""
        return self.answer(Inputs(**inputs))[0]


def make_anatomy(name: str, *, head: str, first_layer: str, output_layer: str, **fields: Any) -> Anatomy:
    """Return the anatomy of a single-stream model whose encoder is the module `name`; `fields` are further fields."""
    return Anatomy(
        encoder=f"{name}.",
        words=f"{name}.embeddings.word_embeddings.weight",
        head=head,
        first_layer=first_layer,
        output_layer=output_layer,
        stacks=(
            LayerStack(
                name=f"{name}.encoder.layer",
                config_field="num_hidden_layers",
                attentions=(AttentionNames("attention.self", "attention.output.dense"),),
                feed_forwards=(FeedForward("intermediate.dense", "output.dense"),),
            ),
        ),
        **fields,
    )


def answer(model: SingleStreamForQuestionAnswering, inputs: Inputs) -> Tensor:
    """Return answer scores (logits) [B, A] for inputs [B, ...]."""
    return model.answer(inputs)[0]


def hidden(model: SingleStreamForQuestionAnswering, inputs: Inputs) -> tuple[Tensor, list[Tensor]]:
    """Return answer scores [B, A], and the outputs [B, L + O, H] of the embeddings and of each layer."""
    return model.answer(inputs)


def feature_size(config: SingleStreamConfig) -> int:
    """Return the number of features of a region."""
    return config.visual_feat_dim


def box_sizes(boxes: Tensor) -> Tensor:
    """Return the width and the height [B, O, 2] of boxes [B, O, 4] (x1 y1 x2 y2)."""
    return boxes[..., 2:] - boxes[..., :2]
