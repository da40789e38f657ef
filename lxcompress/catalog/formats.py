"""The formats of exported files: their precisions, the functions that write them, and the libraries that they need.

docs/extending.md shows how another package adds a format.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from lxcompress.catalog.extensions import all_names, load_spec, load_spec_or_warn
from lxcompress.catalog.libraries import describe_missing


@dataclass(frozen=True)
class FormatSpec:
    """The settings of a format: its precisions, its functions, and its properties."""

    name: str
    precisions: tuple[str, ...]
    """the first one is the default"""
    write: str
    """"module:function" of a function (Job) -> WrittenFiles; both types are in exporters/formats.py"""
    count_zeros: str
    """"module:function" of a function (folder) -> (number of zeros, number of elements) of the prunable matrices"""
    extra: str | None = None
    """the extra of lxcompress that installs `libraries`"""
    libraries: tuple[str, ...] = ()
    runtimes: tuple[str, ...] = ()
    """runtimes that serve the format, in addition to the runtimes whose own spec names the format"""
    unserved: str | None = None
    """the reason why no runtime serves the format; None if a runtime does"""
    families: tuple[str, ...] | None = None
    """the model families that the format's converter reads; None for all families"""
    is_onnx: bool = False
    """whether the export makes an ONNX graph, so that the user can choose the opset and the fusions"""
    is_shippable: bool = True
    """whether the file is for use in an application; `pick` and recipes leave out the other formats"""
    leaves_zeros_out: bool = False
    """whether zeros take fewer bytes than other values, in all precisions that are not in `keeps_zeros_in`"""
    keeps_zeros_in: Mapping[str, str] = field(default_factory=dict)
    """precision in which zeros take as many bytes as other values -> the reason in words"""
    fixes_shapes: bool = False
    """whether the writer reads `Job.fixed`, and can write a file for questions of one shape only"""
    is_one_shape: bool = False
    """whether it can write no other files, so that an export without a shape takes the largest of its data"""
    keeps_embeddings: bool = False
    """whether int8 leaves the embeddings in float32"""
    title: str = ""
    """the name in sentences; by default `name`"""
    note: str = ""
    """a clause for the user: what a runtime does with a file that leaves zeros out"""

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z0-9][a-z0-9-]{0,39}", self.name):  # the name becomes a part of folder names
            raise ValueError(f"name {self.name!r}: expected small letters, digits and hyphens, such as my-format")
        if not self.precisions:
            raise ValueError(f"precisions of {self.name}: expected one or more, such as ('fp32',)")

    @property
    def plain_precision(self) -> str:
        """The precision that rounds no weights, fp32; the default precision if the format has no fp32."""
        return "fp32" if "fp32" in self.precisions else self.precisions[0]

    def leaves_zeros_out_in(self, precision: str) -> bool:
        """Return whether zeros take fewer bytes than other values in this precision."""
        return self.leaves_zeros_out and precision not in self.keeps_zeros_in

    def find_missing(self) -> str | None:
        """Return a clause that names the missing libraries and how to install them; None if all are installed."""
        return describe_missing(self.libraries, self.extra)


def _built_in(name: str, module: str, *precisions: str, **settings: object) -> FormatSpec:
    path = f"lxcompress.exporters.{module}"
    return FormatSpec(name, precisions, f"{path}:write", f"{path}:count_zeros", **settings)  # type: ignore[arg-type]


FORMATS: Mapping[str, FormatSpec] = {
    spec.name: spec
    for spec in (
        _built_in("onnx", "onnx", "fp32", "fp16", "int8", "int8-static", "int4", is_onnx=True, fixes_shapes=True),
        _built_in("ort", "ort", "fp32", "fp16", "int8", "int8-static", "int4", is_onnx=True, fixes_shapes=True),
        _built_in(
            "onnx-sparse",
            "onnx_sparse",
            "fp32",
            "fp16",
            "int8",
            is_onnx=True,
            is_shippable=False,
            leaves_zeros_out=True,
            title="ONNX COO",
            note="ONNX Runtime makes it dense when it loads it",
        ),
        _built_in(
            "bitmask",
            "bitmask",
            "fp32",
            "fp16",
            "int8",
            leaves_zeros_out=True,
            note="it is made dense when it is loaded",
        ),
        _built_in(
            "engine",
            "engine",
            "fp32",
            "bf16",
            "int8",
            leaves_zeros_out=True,
            keeps_zeros_in={
                "int8": "a zero is stored and multiplied like any value, except in blocks of 1 x 4 zeros",
            },
            note="zeros are neither read nor multiplied",
        ),
        _built_in("transformers", "transformers", "fp32", "fp16", is_shippable=False),
        _built_in("openvino", "openvino", "fp32", "fp16", "int8", extra="openvino", libraries=("openvino", "nncf")),
        _built_in(
            "executorch",
            "executorch",
            "fp32",
            "int8",
            extra="executorch",
            libraries=("executorch",),
            keeps_embeddings=True,
            fixes_shapes=True,
        ),
        _built_in(
            "litert",
            "litert",
            "fp32",
            "int8",
            extra="litert",
            libraries=("ai_edge_litert", "litert_torch"),
            fixes_shapes=True,
            is_one_shape=True,
        ),
        _built_in(
            "coreml",
            "coreml",
            "fp16",
            "fp32",
            "int8",
            extra="coreml",
            libraries=("coremltools",),
            unserved="Core ML predicts on Apple's systems only: its scores and its accuracy are not proven here",
            families=("lxmert",),
            fixes_shapes=True,
            leaves_zeros_out=True,
            note="not measured, because Core ML runs on Apple's systems only",
        ),
    )
}
"""The formats of lxcompress by name, in the order in which they are shown."""


def format_names() -> tuple[str, ...]:
    """Return the names of all formats: those of lxcompress, then those of other installed packages."""
    return all_names("formats", FORMATS)


def is_format(name: str) -> bool:
    """Return whether lxcompress or an installed package has a format of this name."""
    return name in FORMATS or name in format_names()


def find_format(name: str) -> FormatSpec:
    """Return the spec of a format of lxcompress or of another package.

    Raises ExtensionError if no package adds the format, or if the package that adds it fails to load.
    """
    return FORMATS[name] if name in FORMATS else load_spec("formats", name, FormatSpec)


def stores_zeros(format: str, precision: str) -> bool:
    """Return whether zeros take as many bytes as other values in files of this format and precision.

    Returns True for an unknown format, such as a format of a package that is no longer installed.
    """
    return not (is_format(format) and find_format(format).leaves_zeros_out_in(precision))


def all_formats() -> tuple[FormatSpec, ...]:
    """Return the spec of every format. A format of another package that fails to load is left out, with a warning."""
    found = (FORMATS.get(name) or load_spec_or_warn("formats", name, FormatSpec) for name in format_names())
    return tuple(spec for spec in found if spec is not None)
