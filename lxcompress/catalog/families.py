"""The model families that lxcompress can train, prune and export. A family is known by its model_type in config.json.

docs/extending.md shows how another package adds a family.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from lxcompress.catalog.extensions import all_names, load_spec, load_spec_or_warn

Modality = Literal["language", "vision", "cross", "head"]
"""A part of a model: the layers that read the question, the image, or both; head is the rest (pooler, answer head)."""


@dataclass(frozen=True)
class FamilySpec:
    """A model family: its model_type, the path of its code, and the part of the model that each tensor belongs to."""

    name: str
    """`model_type` in config.json"""
    family: str
    """"module:attribute" of a models.family.Family"""
    parts: Mapping[str, Modality]
    """prefix of a tensor's name -> its part; the first prefix that matches counts; all other tensors are in the head"""
    summary: str = ""
    """the model and its paper, in one line"""

    def __post_init__(self) -> None:
        for prefix, part in self.parts.items():
            if part not in get_args(Modality):
                raise ValueError(
                    f"family {self.name}: parts[{prefix!r}] is {part!r}, expected one of "
                    f"{', '.join(get_args(Modality))}"
                )

    def find_part(self, tensor: str) -> Modality | None:
        """Return the part that a tensor belongs to; None if no prefix matches."""
        return next((part for prefix, part in self.parts.items() if tensor.startswith(prefix)), None)


FAMILIES: Mapping[str, FamilySpec] = {
    spec.name: spec
    for spec in (
        FamilySpec(
            "lxmert",
            "lxcompress.models.lxmert:FAMILY",
            {
                "lxmert.embeddings.": "language",
                "lxmert.encoder.layer.": "language",
                "lxmert.encoder.visn_fc.": "vision",
                "lxmert.encoder.r_layers.": "vision",
                "lxmert.encoder.x_layers.": "cross",
            },
            "LXMERT (Tan & Bansal 2019): reads region features, in two streams",
        ),
        FamilySpec(
            "visual_bert",
            "lxcompress.models.visual_bert:FAMILY",
            {
                "visual_bert.embeddings.visual_": "vision",
                "visual_bert.embeddings.": "language",
                "visual_bert.encoder.": "cross",
            },
            "VisualBERT (Li et al. 2019): reads region features, in one stream",
        ),
        FamilySpec(
            "uniter",
            "lxcompress.models.uniter:FAMILY",
            {
                "uniter.embeddings.": "language",
                "uniter.img_embeddings.": "vision",
                "uniter.encoder.": "cross",
            },
            "UNITER (Chen et al. 2020): reads region features and boxes, in one stream",
        ),
        FamilySpec(
            "oscar",
            "lxcompress.models.oscar:FAMILY",
            {
                "oscar.embeddings.": "language",
                "oscar.img_embeddings.": "vision",
                "oscar.encoder.": "cross",
            },
            "OSCAR, VinVL and MiniVLM (Li et al. 2020): read region features and boxes, in one stream",
        ),
        FamilySpec(
            "vilt",
            "lxcompress.models.vilt:FAMILY",
            {
                "vilt.embeddings.text_embeddings.": "language",
                "vilt.embeddings.": "vision",
                "vilt.encoder.": "cross",
                "vilt.layernorm.": "cross",
            },
            "ViLT (Kim et al. 2021): reads pictures, in one stream",
        ),
    )
}
"""The families of lxcompress by name."""


def family_names() -> tuple[str, ...]:
    """Return the names of all families: those of lxcompress, then those of other installed packages."""
    return all_names("families", FAMILIES)


def find_family_spec(name: str) -> FamilySpec:
    """Return the spec of a family of lxcompress or of another package.

    Raises ExtensionError if no package adds the family, or if the package that adds it fails to load.
    """
    return FAMILIES[name] if name in FAMILIES else load_spec("families", name, FamilySpec)


def modality(tensor: str) -> Modality:
    """Return the part of the model that the tensor with this name belongs to; no model is needed.

    If no family of lxcompress has the tensor, the families of other packages are searched. A family that fails to load
    is left out, with a warning.
    """
    for family in FAMILIES.values():
        if part := family.find_part(tensor):
            return part
    added = (load_spec_or_warn("families", name, FamilySpec) for name in family_names() if name not in FAMILIES)
    return next((part for family in added if family and (part := family.find_part(tensor))), "head")
