"""Encoders of transformers with a few thousand random weights, whose families are derived."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
import transformers
from transformers import PreTrainedConfig, PreTrainedModel

SIZES = {"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 32, "num_hidden_layers": 2}
WORDS = {"vocab_size": 64, "max_position_embeddings": 40, "bos_token_id": 0, "eos_token_id": 2, "pad_token_id": 1}
PICTURE = {"image_size": 16, "patch_size": 8, "num_channels": 3}
DISTIL = {"dim": 16, "n_heads": 2, "hidden_dim": 32, "n_layers": 2}
BERT, TEXT, VISION = {**SIZES, **WORDS}, {**SIZES, **WORDS}, {**SIZES, **PICTURE}

ENCODERS: Mapping[str, PreTrainedConfig] = {
    "BertForSequenceClassification": transformers.BertConfig(**BERT, num_labels=5),
    "CLIPVisionModel": transformers.CLIPVisionConfig(**VISION),
    "BertModel": transformers.BertConfig(**BERT),
    "RobertaForSequenceClassification": transformers.RobertaConfig(**BERT, num_labels=5),
    "XLMRobertaModel": transformers.XLMRobertaConfig(**BERT),
    "DistilBertForSequenceClassification": transformers.DistilBertConfig(**DISTIL, **WORDS, num_labels=5),
    "ElectraForSequenceClassification": transformers.ElectraConfig(**BERT, embedding_size=8, num_labels=5),
    "AlbertForSequenceClassification": transformers.AlbertConfig(**BERT, embedding_size=8, num_labels=5),
    "DebertaV2ForSequenceClassification": transformers.DebertaV2Config(**BERT, num_labels=5),
    "MPNetModel": transformers.MPNetConfig(**BERT),
    "MobileBertForSequenceClassification": transformers.MobileBertConfig(
        **BERT, embedding_size=8, true_hidden_size=8, intra_bottleneck_size=8, num_labels=5
    ),
    "CLIPTextModel": transformers.CLIPTextConfig(**TEXT),
    "CLIPModel": transformers.CLIPConfig(text_config=TEXT, vision_config=VISION, projection_dim=12),
    "SiglipTextModel": transformers.SiglipTextConfig(**TEXT),
    "SiglipVisionModel": transformers.SiglipVisionConfig(**VISION),
    "ViTForImageClassification": transformers.ViTConfig(**VISION, num_labels=5),
    "DeiTForImageClassification": transformers.DeiTConfig(**VISION, num_labels=5),
    "BeitForImageClassification": transformers.BeitConfig(**VISION, num_labels=5),
    "Dinov2Model": transformers.Dinov2Config(**VISION),
    "SwinForImageClassification": transformers.SwinConfig(
        image_size=16, patch_size=2, embed_dim=8, depths=[1, 1], num_heads=[2, 2], window_size=4, num_labels=5
    ),
    "ConvNextForImageClassification": transformers.ConvNextConfig(
        image_size=16, patch_size=2, num_stages=2, hidden_sizes=[8, 16], depths=[1, 1], num_labels=5
    ),
    "BlipVisionModel": transformers.BlipVisionConfig(**VISION),
}
FAST = ("BertForSequenceClassification", "CLIPVisionModel")
"""The encoders that `make test` reads; `make test-slow` reads all."""


UNCUT: Mapping[str, Mapping[str, str]] = {
    "AlbertForSequenceClassification": {"layer": "has no such units"},
    "BeitForImageClassification": {"layer": "has no such units"},
    "BlipVisionModel": {"head": "has no such units", "layer": "has no such units"},
    "CLIPModel": {"layer": "has no such units"},
    "CLIPTextModel": {"layer": "has no such units"},
    "CLIPVisionModel": {"layer": "has no such units"},
    "ConvNextForImageClassification": {"head": "has no such units", "layer": "has no such units"},
    "Dinov2Model": {"layer": "has no such units"},
    "MPNetModel": {"head": "cannot be pruned by units"},
    "MobileBertForSequenceClassification": {
        "neuron": "cannot be pruned by units",
        "head": "can remove at most",
    },
    "SwinForImageClassification": {"head": "cannot be pruned by units", "layer": "has no such units"},
}
"""Name -> {granularity of a smaller model that is refused: a part of the reason}."""


def save_encoder(name: str, folder: Path) -> PreTrainedModel:
    """Save an encoder as transformers does, and return it."""
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(7)
        model: PreTrainedModel = getattr(transformers, name)(ENCODERS[name]).eval()
        with torch.no_grad():
            for weight in model.parameters():  # biases and gains too, which transformers starts level
                weight.add_(0.1 * torch.randn_like(weight))
    model.save_pretrained(folder)
    return model
