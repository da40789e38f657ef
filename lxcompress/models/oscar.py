"""OSCAR (Li et al. 2020), VinVL (Zhang et al. 2021) and MiniVLM (Wang et al. 2020): one stream of BERT's layers.

Shapes: B questions, L tokens, O regions, F features, H hidden size, A answers.

transformers has no such model. The authors' code reads features of F + 6 numbers: those of the region, the corners of
its box, its width and its height. Here the 6 numbers are computed from the box. The text can be a question, or a
question and the names of the objects in the image (object tags), as `[CLS] question [SEP] tags [SEP]`. MiniVLM has the
same layers in a smaller size, and other features.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from lxcompress.data.split import Inputs
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

BOX_NUMBERS = 6
PUBLISHED_FIELD = "img_feature_dim"
"""The field of the authors' config.json that states F + 6; their config.json has no model_type."""
_NAMES = {
    "bert.img_embedding.": "oscar.img_embeddings.img_linear.",
    "bert.LayerNorm.": "oscar.img_embeddings.LayerNorm.",
    "bert.": "oscar.",
}
"""Prefix in the authors' files -> prefix here; the first prefix that matches counts."""


class OscarConfig(SingleStreamConfig):
    """The config of an OSCAR model."""

    model_type = "oscar"
    use_img_layernorm: bool = False
    img_layer_norm_eps: float = 1e-12


class OscarRegionEmbeddings(nn.Module):
    """The embedding of regions: a projection of their features and boxes, which VinVL normalises."""

    def __init__(self, config: OscarConfig) -> None:
        super().__init__()
        width = config.hidden_size
        self.img_linear = nn.Linear(config.visual_feat_dim + BOX_NUMBERS, width)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)
        if config.use_img_layernorm:
            self.LayerNorm = nn.LayerNorm(width, eps=config.img_layer_norm_eps)

    def forward(self, features: Tensor, boxes: Tensor, token_types: nn.Embedding) -> Tensor:
        """Return the embeddings [B, O, H] of regions, for features [B, O, F] and boxes [B, O, 4].

        Regions have no token type, so `token_types` is not read.
        """
        embedded = self.img_linear(torch.cat([features, boxes, box_sizes(boxes)], dim=-1))
        if hasattr(self, "LayerNorm"):
            embedded = self.LayerNorm(embedded)
        embedded = self.dropout(embedded)
        return embedded


class OscarForQuestionAnswering(SingleStreamForQuestionAnswering):
    """OSCAR with the authors' linear answer head."""

    config_class = OscarConfig
    base_model_prefix = "oscar"

    def __init__(self, config: OscarConfig) -> None:
        super().__init__(config)
        self.oscar = SingleStreamEncoder(config, OscarRegionEmbeddings(config))
        self.head_dropout = nn.Dropout(config.hidden_dropout_prob)
        self.classifier = nn.Linear(config.hidden_size, config.num_labels)
        self.post_init()

    @property
    def encoder(self) -> SingleStreamEncoder:
        """The encoder, under the name of the family."""
        return self.oscar

    @property
    def head(self) -> nn.Module:
        """The dropout and the answer head."""
        return nn.Sequential(self.head_dropout, self.classifier)

    def token_types(self, inputs: Inputs) -> Tensor:
        """Return the token types [B, L] of the words: 0 up to the first [SEP], and 1 behind it.

        [SEP] is the token that ends the text, so its id need not be known.
        """
        positions = self.oscar.embeddings.position_ids[:, : inputs.input_ids.shape[1]]
        is_last = positions == inputs.attention_mask.sum(dim=1, keepdim=True) - 1
        separator = (inputs.input_ids * is_last).sum(dim=1, keepdim=True)
        is_separator = inputs.input_ids == separator
        first = torch.where(is_separator, positions, self.config.max_position_embeddings).amin(dim=1, keepdim=True)
        return (positions > first).long()


def translate_config(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Return the config.json of the authors with the names of OscarConfig; any other config is returned unchanged.

    Raises ValueError for a model of the authors that is not supported.
    """
    if "model_type" in tree or PUBLISHED_FIELD not in tree:
        return dict(tree)
    for field, expected in (("img_feature_type", "faster_r-cnn"), ("classifier", "linear")):
        if tree.get(field, expected) != expected:
            raise ValueError(f"{field}: {tree[field]} is not supported, only {expected}")
    width = tree[PUBLISHED_FIELD]
    if type(width) is not int or width <= BOX_NUMBERS:
        raise ValueError(f"{PUBLISHED_FIELD}: {width} is not a whole number above {BOX_NUMBERS}, the numbers of a box")
    return {
        **tree,
        "model_type": "oscar",
        "visual_feat_dim": width - BOX_NUMBERS,
        "use_img_layernorm": bool(tree.get("use_img_layernorm")),
    }


def rename_published(name: str) -> str:
    """Return the name here of a tensor of the authors' files."""
    found = next((prefix for prefix in _NAMES if name.startswith(prefix)), None)
    return name if found is None else f"{_NAMES[found]}{name.removeprefix(found)}"


FAMILY = Family(
    name="oscar",
    title="OSCAR",
    anatomy=make_anatomy("oscar", head="classifier.", first_layer="classifier.", output_layer="classifier."),
    config_class=OscarConfig,
    answering=("OscarForQuestionAnswering",),
    make=OscarForQuestionAnswering,
    answer=answer,
    hidden=hidden,
    feature_size=feature_size,
    feature_layer="oscar.img_embeddings.img_linear",
    features_field="visual_feat_dim",
    rename_published=rename_published,
)
