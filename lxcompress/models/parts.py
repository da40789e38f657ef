"""The parts of each family's models by the names of their tensors; known without importing torch."""

from __future__ import annotations

from collections.abc import Mapping

PARTS: Mapping[str, str] = {
    "lxmert.embeddings.": "language",
    "lxmert.encoder.layer.": "language",
    "lxmert.encoder.visn_fc.": "vision",
    "lxmert.encoder.r_layers.": "vision",
    "lxmert.encoder.x_layers.": "cross",
    "visual_bert.embeddings.visual_": "vision",
    "visual_bert.embeddings.": "language",
    "visual_bert.encoder.": "cross",
    "vilt.embeddings.text_embeddings.": "language",
    "vilt.embeddings.": "vision",
    "vilt.encoder.": "cross",
    "vilt.layernorm.": "cross",
}
"""Prefix of a tensor's name -> its part of the model; all others (poolers, answer heads) are the head."""


def modality(name: str) -> str:
    """Return the part of the model that a tensor belongs to: language, vision, cross or head."""
    return next((part for prefix, part in PARTS.items() if name.startswith(prefix)), "head")
