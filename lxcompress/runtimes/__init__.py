"""What exported files are served by: a runtime a file, all behind one Session."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from lxcompress.errors import MeasureError

if TYPE_CHECKING:
    import numpy as np

# Shapes: B batch, L tokens, O objects, F features, A answers.


class Session(Protocol):
    """An exported file, loaded and ready to answer."""

    def answer(self, feeds: Mapping[str, np.ndarray]) -> np.ndarray:
        """Scores, float32 [B, A], of `feeds`: input_ids, attention_mask int64 [B, L]; visual_feats float32 [B, O, F];
        visual_pos float32 [B, O, 4], boxes x1 y1 x2 y2 in 0..1; visual_attention_mask int64 [B, O].

        Raises MeasureError if the file takes other inputs than these.
        """
        ...


class Open(Protocol):
    """What a runtime offers: an artifact's path and a thread count in, a Session out."""

    def __call__(self, path: Path, *, threads: int) -> Session: ...


def open_session(path: Path, *, threads: int, runtime: str = "onnxruntime") -> Session:
    """The artifact at `path` (its folder, or the model file in it), loaded by `runtime` and held to `threads` threads.

    Raises MeasureError for an unknown runtime, or a file that it cannot load.
    """
    if threads < 1:
        raise MeasureError(f"threads: expected 1 or more, got {threads}; give --threads 1")
    return find_runtime(runtime)(path, threads=threads)


def find_runtime(name: str) -> Open:
    """The `open` function of a runtime, its library imported. Raises MeasureError if there is no such runtime."""
    if name not in RUNTIMES:
        raise MeasureError(f"runtime {name}: is unknown; expected one of: {', '.join(sorted(RUNTIMES))}")
    return RUNTIMES[name]()


def _onnxruntime() -> Open:
    from lxcompress.runtimes.onnxruntime import open_onnx

    return open_onnx


def _torch() -> Open:
    from lxcompress.runtimes.torch import open_torch

    return open_torch


def _torch_compile() -> Open:
    from lxcompress.runtimes.torch import open_compiled

    return open_compiled


def _openvino() -> Open:
    from lxcompress.runtimes.openvino import open_openvino

    return open_openvino


def _openvino_bf16() -> Open:
    from lxcompress.runtimes.openvino import open_bfloat16

    return open_bfloat16


def _executorch() -> Open:
    from lxcompress.runtimes.executorch import open_executorch

    return open_executorch


def _engine() -> Open:
    from lxcompress.runtimes.engine import open_engine

    return open_engine


# Each value imports its runtime when called, so that one runtime's library never loads for another's sake.
RUNTIMES: dict[str, Callable[[], Open]] = {
    "onnxruntime": _onnxruntime,
    "torch": _torch,
    "torch-compile": _torch_compile,
    "openvino": _openvino,
    "openvino-bf16": _openvino_bf16,
    "executorch": _executorch,
    "engine": _engine,
}

# Which runtimes serve a format of artifact, the usual one first; none where that runs on other machines only.
SERVED_BY: dict[str, tuple[str, ...]] = {
    "onnx": ("onnxruntime", "openvino", "openvino-bf16"),
    "ort": ("onnxruntime",),
    "onnx-sparse": ("onnxruntime",),
    "bitmask": ("torch", "torch-compile"),
    "transformers": ("torch", "torch-compile"),
    "openvino": ("openvino", "openvino-bf16"),
    "executorch": ("executorch",),
    "engine": ("engine",),
    "coreml": (),
}


def runtimes_of(format: str) -> tuple[str, ...]:
    """The runtimes that serve a format, the usual one first. Raises MeasureError for a format that is unknown."""
    if format not in SERVED_BY:
        raise MeasureError(
            f"format {format}: no runtime of this lxcompress serves it (it knows: {', '.join(sorted(SERVED_BY))}); "
            "upgrade lxcompress, or export with --onnx"
        )
    return SERVED_BY[format]


def runtime_of(format: str) -> str:
    """The usual runtime of a format. Raises MeasureError if none here serves it."""
    found = runtimes_of(format)
    if not found:
        raise MeasureError(f"format {format}: nothing on this machine can run it; measure it on a device that does")
    return found[0]
