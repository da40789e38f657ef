"""ONNX files, served by ONNX Runtime on the CPU; the only importer of onnxruntime."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime as ort

from lxcompress.errors import MeasureError

MODEL_FILE = "model.onnx"
SCORES = "scores"
_ERRORS_ONLY = 3


@dataclass(frozen=True)
class OnnxSession:
    """An ONNX file, loaded."""

    path: Path
    session: ort.InferenceSession
    inputs: tuple[str, ...]

    def answer(self, feeds: Mapping[str, np.ndarray]) -> np.ndarray:
        """Scores, float32 [B, A], of `feeds`. Raises MeasureError if the file takes other inputs."""
        if set(feeds) != set(self.inputs):
            raise MeasureError(
                f"{self.path}: takes the inputs {', '.join(sorted(self.inputs))}, but was given "
                f"{', '.join(sorted(feeds))}; export it again with this version of lxcompress"
            )
        try:
            (scores,) = self.session.run([SCORES], dict(feeds))
        except Exception as problem:  # ONNX Runtime's exceptions share no base class of their own
            raise MeasureError(
                f"{self.path}: ONNX Runtime {ort.__version__} failed while answering ({_first_line(problem)}); "
                "export it again with this version of lxcompress"
            ) from problem
        return np.asarray(scores, dtype=np.float32)


def open_onnx(path: Path, *, threads: int) -> OnnxSession:
    """The ONNX file at `path`, or in the folder `path`, held to `threads` threads. Raises MeasureError."""
    model = path / MODEL_FILE if path.is_dir() else path
    if not model.is_file():
        raise MeasureError(f"{model}: no such file; make it with: lxcompress export TICKET --onnx --out {path}")
    try:
        session = ort.InferenceSession(str(model), _options(threads), providers=["CPUExecutionProvider"])
    except Exception as problem:  # as above
        raise MeasureError(
            f"{model}: ONNX Runtime {ort.__version__} cannot load it ({_first_line(problem)}); export it again"
        ) from problem
    if SCORES not in [output.name for output in session.get_outputs()]:
        found = ", ".join(output.name for output in session.get_outputs())
        raise MeasureError(f"{model}: expected an output named {SCORES}, got {found}; export it again")
    return OnnxSession(model, session, tuple(each.name for each in session.get_inputs()))


def providers() -> tuple[str, ...]:
    """What this build of ONNX Runtime can compute with."""
    return tuple(ort.get_available_providers())


def _options(threads: int) -> ort.SessionOptions:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = _ERRORS_ONLY
    # Between two runs the pool's threads would go on spinning, and take the cores from whoever runs next.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    return options


def _first_line(problem: Exception) -> str:
    return (str(problem).strip().splitlines() or [type(problem).__name__])[0]
