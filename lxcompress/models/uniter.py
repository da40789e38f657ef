"""UNITER (Chen et al. 2020): one stream of BERT's layers over words and regions. transformers has no such model.

Shapes: B questions, O regions, F features, H hidden size, A answers.

The names of the tensors are those of the authors' code. A region is the sum of its projected features, of its projected
box and of token type 1. A box has 7 numbers: its corners, width, height and area. In pre-training the authors mask
regions with an embedding of its own, which no answer depends on.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lxcompress.models.family import Family
from lxcompress.models.single_stream import (
    SingleStreamConfig,
    SingleStreamEncoder,
    SingleStreamForQuestionAnswering,
    answer,
    box_sizes,
    feature_size,
    hidden,
    make_anatomy,
)

BOX_NUMBERS = 7
REGION_TYPE = 1
"""The token type of every region."""

ANATOMY = make_anatomy(
    "uniter",
    head="vqa_output.",
    first_layer="vqa_output.0.",
    output_layer="vqa_output.3.",
    unprunable=("*.embeddings.*", "*.mask_embedding.*"),
    dead=("uniter.img_embeddings.mask_embedding.",),
)


class UniterConfig(SingleStreamConfig):
    """The config of a UNITER model."""

    model_type = "uniter"


class UniterRegionEmbeddings(nn.Module):
    """The embedding of regions from their features and boxes."""

    def __init__(self, config: UniterConfig) -> None:
        super().__init__()
        width, epsilon = config.hidden_size, config.layer_norm_eps
        self.img_linear = nn.Linear(config.visual_feat_dim, width)
        self.img_layer_norm = nn.LayerNorm(width, eps=epsilon)
        self.pos_layer_norm = nn.LayerNorm(width, eps=epsilon)
        self.pos_linear = nn.Linear(BOX_NUMBERS, width)
        self.mask_embedding: nn.Module | None = nn.Embedding(2, config.visual_feat_dim)
        self.LayerNorm = nn.LayerNorm(width, eps=epsilon)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, features: Tensor, boxes: Tensor, token_types: nn.Embedding) -> Tensor:
        """Return the embeddings [B, O, H] of regions, for features [B, O, F] and boxes [B, O, 4]."""
        sizes = box_sizes(boxes)
        numbers = torch.cat([boxes, sizes, sizes[..., :1] * sizes[..., 1:]], dim=-1)
        seen = self.img_layer_norm(self.img_linear(features))
        where = self.pos_layer_norm(self.pos_linear(numbers))
        embedded: Tensor = self.dropout(self.LayerNorm(seen + where + token_types.weight[REGION_TYPE]))
        return embedded


class UniterForQuestionAnswering(SingleStreamForQuestionAnswering):
    """UNITER with the authors' answer head: linear, gelu, layer norm, linear."""

    config_class = UniterConfig
    base_model_prefix = "uniter"

    def __init__(self, config: UniterConfig) -> None:
        super().__init__(config)
        width = config.hidden_size
        self.uniter = SingleStreamEncoder(config, UniterRegionEmbeddings(config))
        self.vqa_output = nn.Sequential(
            nn.Linear(width, 2 * width),
            nn.GELU(),
            nn.LayerNorm(2 * width, eps=config.layer_norm_eps),
            nn.Linear(2 * width, config.num_labels),
        )
        self.post_init()

    @property
    def encoder(self) -> SingleStreamEncoder:
        """The encoder, under the authors' name."""
        return self.uniter

    @property
    def head(self) -> nn.Module:
        """The answer head, under the authors' name."""
        return self.vqa_output


def remove_dead(model: UniterForQuestionAnswering) -> None:
    """Remove the embedding of masked regions, which no answer depends on."""
    regions = model.uniter.img_embeddings
    assert isinstance(regions, UniterRegionEmbeddings)
    regions.mask_embedding = None


FAMILY = Family(
    name="uniter",
    title="UNITER",
    anatomy=ANATOMY,
    config_class=UniterConfig,
    answering=("UniterForQuestionAnswering",),
    make=UniterForQuestionAnswering,
    answer=answer,
    hidden=hidden,
    feature_size=feature_size,
    feature_layer="uniter.img_embeddings.img_linear",
    features_field="visual_feat_dim",
    remove_dead=remove_dead,
)
