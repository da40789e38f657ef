"""The runtimes that exported files are loaded and run with.

docs/extending.md shows how another package adds a runtime.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from lxcompress.catalog.extensions import all_names, load_spec, load_spec_or_warn
from lxcompress.catalog.formats import find_format, is_format
from lxcompress.catalog.libraries import describe_missing


@dataclass(frozen=True)
class RuntimeSpec:
    """A runtime, and the formats that it serves."""

    name: str
    library: str
    """the Python package that loads and runs the files"""
    open: str
    """"module:function" of a function (path, *, threads) -> Session; the type is in lxcompress.runtimes"""
    formats: tuple[str, ...] = ()
    """the formats that the runtime serves, in addition to the formats whose own spec names the runtime"""
    extra: str | None = None
    """the extra of lxcompress that installs `library`"""
    base: str | None = None
    """the runtime that this one is a variant of; None if it is not a variant"""

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z0-9][a-z0-9-]{0,39}", self.name):
            raise ValueError(f"name {self.name!r}: expected small letters, digits and hyphens, such as my-runtime")

    def find_missing(self) -> str | None:
        """Return a clause that names the missing library and how to install it; None if it is installed."""
        return describe_missing((self.library,), self.extra)


_MODULE = "lxcompress.runtimes"

RUNTIMES: Mapping[str, RuntimeSpec] = {
    spec.name: spec
    for spec in (
        RuntimeSpec("onnxruntime", "onnxruntime", f"{_MODULE}.onnxruntime:open_onnx", ("onnx", "ort", "onnx-sparse")),
        RuntimeSpec("torch", "torch", f"{_MODULE}.torch:open_torch", ("bitmask", "transformers")),
        RuntimeSpec(
            "torch-compile",
            "torch",
            f"{_MODULE}.torch:open_compiled",
            ("bitmask", "transformers"),
            base="torch",
        ),
        RuntimeSpec(
            "openvino",
            "openvino",
            f"{_MODULE}.openvino:open_openvino",
            ("onnx", "openvino"),
            extra="openvino",
        ),
        RuntimeSpec(
            "openvino-bf16",
            "openvino",
            f"{_MODULE}.openvino:open_bfloat16",
            ("onnx", "openvino"),
            extra="openvino",
            base="openvino",
        ),
        RuntimeSpec(
            "executorch",
            "executorch",
            f"{_MODULE}.executorch:open_executorch",
            ("executorch",),
            extra="executorch",
        ),
        RuntimeSpec("litert", "ai_edge_litert", f"{_MODULE}.litert:open_litert", ("litert",), extra="litert"),
        RuntimeSpec("engine", "lxcompress", f"{_MODULE}.engine:open_engine", ("engine",)),
    )
}
"""The runtimes of lxcompress by name. The default runtime of a format is the first that serves the format."""


def runtime_names() -> tuple[str, ...]:
    """Return the names of all runtimes: those of lxcompress, then those of other installed packages."""
    return all_names("runtimes", RUNTIMES)


def is_runtime(name: str) -> bool:
    """Return whether lxcompress or an installed package has a runtime of this name."""
    return name in RUNTIMES or name in runtime_names()


def find_runtime_spec(name: str) -> RuntimeSpec:
    """Return the spec of a runtime of lxcompress or of another package.

    Raises ExtensionError if no package adds the runtime, or if the package that adds it fails to load.
    """
    return RUNTIMES[name] if name in RUNTIMES else load_spec("runtimes", name, RuntimeSpec)


def list_serving(format: str) -> tuple[str, ...]:
    """Return the names of the runtimes that serve a format, the default first; empty if no runtime does.

    A runtime of another package that fails to load is left out, with a warning.
    """
    named_by_format = find_format(format).runtimes if is_format(format) else ()
    found = (RUNTIMES.get(name) or load_spec_or_warn("runtimes", name, RuntimeSpec) for name in runtime_names())
    return tuple(spec.name for spec in found if spec and (spec.name in named_by_format or format in spec.formats))
