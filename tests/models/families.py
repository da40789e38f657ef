"""Toys of each family, a few thousand random weights, in the layout in which the hub has pre-trained ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import (
    LxmertConfig,
    LxmertForPreTraining,
    LxmertForQuestionAnswering,
    PreTrainedConfig,
    PreTrainedModel,
    ViltConfig,
    ViltForMaskedLM,
    ViltForQuestionAnswering,
    VisualBertConfig,
    VisualBertForPreTraining,
    VisualBertForQuestionAnswering,
)

from lxcompress.data.objects import FEATURES
from lxcompress.data.split import Inputs
from lxcompress.data.tokens import shipped_vocabulary
from lxcompress.models.oscar import OscarConfig, OscarForQuestionAnswering
from lxcompress.models.uniter import UniterConfig, UniterForQuestionAnswering

SIZES = {"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 32}
WORDS = {"vocab_size": len(shipped_vocabulary()), "max_position_embeddings": 40}
PIXELS = 16


def ask_lxmert(model: nn.Module, inputs: Inputs) -> Tensor:
    return model(**inputs._asdict()).question_answering_score


def ask_visual_bert(model: nn.Module, inputs: Inputs) -> Tensor:
    return model(
        input_ids=inputs.input_ids,
        attention_mask=inputs.attention_mask,
        visual_embeds=inputs.visual_feats,
        visual_attention_mask=inputs.visual_attention_mask,
    ).logits


def ask_single_stream(model: nn.Module, inputs: Inputs) -> Tensor:
    return model(**inputs._asdict())


def ask_vilt(model: nn.Module, inputs: Inputs) -> Tensor:
    pixels = inputs.visual_feats.reshape(-1, 3, PIXELS, PIXELS)
    mask = torch.ones(len(pixels), PIXELS, PIXELS, dtype=torch.int64)
    own = {"input_ids": inputs.input_ids, "attention_mask": inputs.attention_mask}
    return model(**own, pixel_values=pixels, pixel_mask=mask).logits


@dataclass(frozen=True)
class Toy:
    """A family as transformers has it, and the data that its toy reads."""

    config: PreTrainedConfig
    pretraining: type[PreTrainedModel]
    answering: type[PreTrainedModel]
    ask: Callable[[nn.Module, Inputs], Tensor]
    """What plain transformers answers"""
    prefix: str
    data: Mapping[str, Any]
    features: int
    regions: int

    @property
    def is_of_transformers(self) -> bool:
        """Whether transformers has the answering model, so that it can load an exported folder."""
        return self.answering.__module__.startswith("transformers.")


TOYS = {
    "lxmert": Toy(
        LxmertConfig(**SIZES, **WORDS, l_layers=1, r_layers=1, x_layers=2, visual_feat_dim=FEATURES),
        LxmertForPreTraining,
        LxmertForQuestionAnswering,
        ask_lxmert,
        "lxmert.",
        {},
        FEATURES,
        5,
    ),
    "visual_bert": Toy(
        VisualBertConfig(**SIZES, **WORDS, num_hidden_layers=2, visual_embedding_dim=FEATURES, pad_token_id=0),
        VisualBertForPreTraining,
        VisualBertForQuestionAnswering,
        ask_visual_bert,
        "visual_bert.",
        {},
        FEATURES,
        5,
    ),
    "uniter": Toy(
        UniterConfig(**SIZES, **WORDS, num_hidden_layers=2, visual_feat_dim=FEATURES),
        UniterForQuestionAnswering,
        UniterForQuestionAnswering,
        ask_single_stream,
        "uniter.",
        {},
        FEATURES,
        5,
    ),
    "oscar": Toy(
        OscarConfig(**SIZES, **WORDS, num_hidden_layers=2, visual_feat_dim=FEATURES, use_img_layernorm=True),
        OscarForQuestionAnswering,
        OscarForQuestionAnswering,
        ask_single_stream,
        "oscar.",
        {},
        FEATURES,
        5,
    ),
    "vilt": Toy(
        ViltConfig(**SIZES, **WORDS, num_hidden_layers=2, image_size=PIXELS, patch_size=8),
        ViltForMaskedLM,
        ViltForQuestionAnswering,
        ask_vilt,
        "vilt.",
        {"pixels": PIXELS},
        3 * PIXELS**2,
        1,
    ),
}

SINGLE_STREAMS = ("uniter", "oscar")


def family_params(slow: Sequence[str] = SINGLE_STREAMS) -> list[Any]:
    """The names of the toys as parameters of a test; those of `slow`, which share their layers, have the mark slow."""
    return [pytest.param(name, marks=pytest.mark.slow) if name in slow else name for name in TOYS]


def save_start(toy: Toy, folder: Path) -> Path:
    """A pre-trained model of random weights, as transformers saves it."""
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(7)
        model = toy.pretraining(toy.config)
        with torch.no_grad():
            for weight in model.parameters():  # gains, biases and positions too, which transformers starts level
                weight.add_(0.1 * torch.randn_like(weight))
    model.save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(shipped_vocabulary()) + "\n", encoding="utf-8")
    return folder


def some_inputs(toy: Toy, rows: int = 6, tokens: int = 9, regions: int | None = None) -> Inputs:
    """Questions and regions, the second of each shorter than the others."""
    draw = torch.Generator().manual_seed(rows * 100 + tokens)
    regions = regions or toy.regions
    words = torch.randint(5, WORDS["vocab_size"], (rows, tokens), generator=draw)
    said = torch.ones(rows, tokens, dtype=torch.int64)
    seen = torch.ones(rows, regions, dtype=torch.int64)
    if rows > 1:
        said[1, tokens // 2 + 1 :] = 0
        seen[1, regions // 2 + 1 :] = 0
    return Inputs(
        words * said,
        said,
        torch.randn(rows, regions, toy.features, generator=draw),
        torch.rand(rows, regions, 4, generator=draw),
        seen,
    )
