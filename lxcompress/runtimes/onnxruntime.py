"""The runtime of ONNX files and of files in ONNX Runtime's mobile format: ONNX Runtime on the CPU."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime as ort

from lxcompress.errors import MeasureError
from lxcompress.output import command_line
from lxcompress.quiet import quiet, quiet_root_logger
from lxcompress.runtimes.feeds import check_feeds, check_scores
from lxcompress.text import first_line

MODEL_FILE, MOBILE_FILE = "model.onnx", "model.ort"
SCORES = "scores"
_ERRORS_ONLY, _AS_IT_WAS = 3, 2
"""Levels of ONNX Runtime's log: errors only, and warnings too. ONNX Runtime starts with the second level.

The current level cannot be read, so it is assumed to be the second one.
"""


@dataclass(frozen=True)
class OnnxSession:
    """A loaded ONNX file, or a loaded file in ONNX Runtime's mobile format."""

    path: Path
    session: ort.InferenceSession
    inputs: tuple[str, ...]

    def answer(self, feeds: Mapping[str, np.ndarray]) -> np.ndarray:
        """Return the scores, float32 [B, A], of the questions in `feeds`.

        Raises MeasureError if the file has other inputs, and for NaN or infinity in inputs or scores.
        """
        check_feeds(self.path, feeds, self.inputs)
        try:
            (scores,) = self.session.run([SCORES], dict(feeds))
        except Exception as problem:  # ONNX Runtime's exceptions share no base class
            raise MeasureError(
                f"{self.path}: ONNX Runtime {ort.__version__} failed while answering ({first_line(problem)}); "
                "export it again with this version of lxcompress"
            ) from problem
        return check_scores(self.path, np.asarray(scores, dtype=np.float32))


def open_onnx(path: Path, *, threads: int) -> OnnxSession:
    """Load the ONNX or mobile file at `path`, or in the folder `path`, to run on `threads` threads.

    Raises MeasureError.
    """
    model = _find_model(path)
    try:
        session = ort.InferenceSession(str(model), _options(threads), providers=["CPUExecutionProvider"])
    except Exception as problem:  # ONNX Runtime's exceptions share no base class
        raise MeasureError(
            f"{model}: ONNX Runtime {ort.__version__} cannot load it ({first_line(problem)}); export it again"
        ) from problem
    if SCORES not in [output.name for output in session.get_outputs()]:
        found = ", ".join(output.name for output in session.get_outputs())
        raise MeasureError(f"{model}: expected an output named {SCORES}, got {found}; export it again")
    return OnnxSession(model, session, tuple(node.name for node in session.get_inputs()))


def providers() -> tuple[str, ...]:
    """Return the execution providers that this build of ONNX Runtime has."""
    return tuple(ort.get_available_providers())


@contextlib.contextmanager
def quiet_onnxruntime() -> Iterator[None]:
    """Hide the output, log messages and warnings of ONNX Runtime and its Python tools: users cannot act on them.

    The tools log to Python's root logger. They also configure it for the whole process, if it is not configured yet.
    """
    ort.set_default_logger_severity(_ERRORS_ONLY)
    try:
        with quiet(), quiet_root_logger(), contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        ort.set_default_logger_severity(_AS_IT_WAS)


def _find_model(path: Path) -> Path:
    """Return `path` if it is a file, or the model file in the folder `path`. Raises MeasureError if there is none."""
    in_folder = path / (MOBILE_FILE if (path / MOBILE_FILE).is_file() else MODEL_FILE)
    model = in_folder if path.is_dir() else path
    if not model.is_file():
        raise MeasureError(
            f"{model}: no such file; make it with: {command_line('export', 'TICKET', '--onnx', '--out', path)}"
        )
    return model


def _options(threads: int) -> ort.SessionOptions:
    """Return the settings of a session on `threads` threads."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = _ERRORS_ONLY
    # Without this entry, idle threads would spin between two runs, and take the cores from other processes.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    return options
