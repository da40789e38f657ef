"""Releases: how the checkpoint files of a family's authors name their tensors, and which of them are not used.

models/original.py reads such files.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from lxcompress.models import lxmert, uniter
from lxcompress.models.family import Family

_PARTS = ("weight", "bias")
_TRANSFORM = tuple(f"transform.{layer}.{part}" for layer in ("dense", "LayerNorm") for part in _PARTS)
_MASKED_WORDS = {
    "masked words": ("cls.predictions.bias", *(f"cls.predictions.{name}" for name in _TRANSFORM)),
    "masked words: the word embeddings again": ("cls.predictions.decoder.weight",),
}
"""The head of BERT's own pre-training task, which both releases have."""


@dataclass(frozen=True)
class Release:
    """The names and shapes of the tensors in the files that the authors of a family published."""

    family: Family
    prefixes: Mapping[str, str]
    """prefix in the authors' files -> prefix in the family's model; the first prefix that matches counts"""
    encoder_prefix: str
    """prefix of the encoder's tensors in the pre-trained release"""
    aside: Mapping[str, tuple[str, ...]]
    """pre-training task -> the tensors of its head; question answering does not use these heads"""
    dead_branch: str
    """what the tensors are that no answer depends on"""
    sizes: Mapping[str, tuple[str, int]]
    """field of the config -> the tensor, and the axis of that tensor, whose length is the value of the field"""
    stacks: Mapping[str, str]
    """field of the config -> the name of the stack of layers that the field counts"""
    head: str
    """the name of the answer head in the authors' files"""

    def rename(self, name: str) -> str:
        """Return the name in the family's model of a tensor of the authors' files."""
        found = next((prefix for prefix in self.prefixes if name.startswith(prefix)), None)
        return name if found is None else f"{self.prefixes[found]}{name.removeprefix(found)}"

    def name_in_release(self, name: str) -> str:
        """Return the name in the pre-trained release of a tensor of the family's model."""
        encoder = self.family.anatomy.encoder
        return f"{self.encoder_prefix}{name.removeprefix(encoder)}" if name.startswith(encoder) else name


LXMERT = Release(
    family=lxmert.FAMILY,
    prefixes={
        "lxrt_encoder.model.bert.": "lxmert.",
        "bert.": "lxmert.",
        "logit_fc.": f"{lxmert.ANATOMY.head}logit_fc.",
    },
    encoder_prefix="bert.",
    aside={
        **_MASKED_WORDS,
        "sentence and image match": tuple(f"cls.seq_relationship.{part}" for part in _PARTS),
        "masked objects": (
            *(f"obj_predict_head.{name}" for name in _TRANSFORM),
            *(f"obj_predict_head.decoder_dict.{task}.{part}" for task in ("obj", "attr", "feat") for part in _PARTS),
        ),
    },
    dead_branch="vision side of the last cross layer",
    sizes={
        "vocab_size": ("lxmert.embeddings.word_embeddings.weight", 0),
        "hidden_size": ("lxmert.embeddings.word_embeddings.weight", 1),
        "max_position_embeddings": ("lxmert.embeddings.position_embeddings.weight", 0),
        "type_vocab_size": ("lxmert.embeddings.token_type_embeddings.weight", 0),
        "visual_feat_dim": ("lxmert.encoder.visn_fc.visn_fc.weight", 1),
        "visual_pos_dim": ("lxmert.encoder.visn_fc.box_fc.weight", 1),
        "intermediate_size": ("lxmert.encoder.layer.0.intermediate.dense.weight", 0),
    },
    stacks={
        "l_layers": "lxmert.encoder.layer",
        "r_layers": "lxmert.encoder.r_layers",
        "x_layers": "lxmert.encoder.x_layers",
    },
    head="logit_fc",
)
"""model_LXRT.pth, which is pre-trained, and BEST.pth, which is fine-tuned."""

UNITER = Release(
    family=uniter.FAMILY,
    prefixes={},
    encoder_prefix="uniter.",
    aside={
        **_MASKED_WORDS,
        "features of masked regions": (
            *(f"feat_regress.net.{layer}.{part}" for layer in (0, 2) for part in _PARTS),
            "feat_regress.bias",
        ),
        "features of masked regions: the projection of the regions again": ("feat_regress.weight",),
        "classes of masked regions": tuple(
            f"region_classifier.net.{layer}.{part}" for layer in (0, 2, 3) for part in _PARTS
        ),
        "sentence and image match": tuple(f"itm_output.{part}" for part in _PARTS),
    },
    dead_branch="embedding of masked regions",
    sizes={
        "vocab_size": ("uniter.embeddings.word_embeddings.weight", 0),
        "hidden_size": ("uniter.embeddings.word_embeddings.weight", 1),
        "max_position_embeddings": ("uniter.embeddings.position_embeddings.weight", 0),
        "type_vocab_size": ("uniter.embeddings.token_type_embeddings.weight", 0),
        "visual_feat_dim": ("uniter.img_embeddings.img_linear.weight", 1),
        "intermediate_size": ("uniter.encoder.layer.0.intermediate.dense.weight", 0),
    },
    stacks={"num_hidden_layers": "uniter.encoder.layer"},
    head="vqa_output",
)
"""uniter-base.pt and uniter-large.pt, which are pre-trained, and models fine-tuned on VQA by the authors' code."""


def find_release(names: Iterable[str]) -> Release:
    """Return the release that tensors with these names belong to; LXMERT's if no name is one of UNITER's encoder."""
    return UNITER if any(name.startswith(UNITER.encoder_prefix) for name in names) else LXMERT
