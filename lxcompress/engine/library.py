"""Call the engine's C library through ctypes; source/engine.h declares its functions.

ctypes releases Python's global lock during a call, so sessions in several Python threads run at the same time.
"""

from __future__ import annotations

import ctypes
import functools
import os
import threading
import weakref
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from lxcompress.errors import MeasureError

# Shapes: B batch, A answers.

LIBRARY = Path(__file__).with_name("_engine.dll" if os.name == "nt" else "_engine.so")
"""The library that engine/build.py builds. The environment variable LXCOMPRESS_ENGINE gives another, for tests."""
HEADER = Path(__file__).with_name("source") / "engine.h"
BUILD = "python -m lxcompress.engine.build"
SCORES = "scores"

_TYPES: tuple[type[np.generic], ...] = (np.int64, np.float32)  # LX_INT64, LX_FLOAT32
_TYPE_NAMES = ("tensor(int64)", "tensor(float)")
_KINDS = ("biu", "f")
"""The kinds of numpy types that each input type accepts: integers, and floating-point numbers."""
_ERROR_BYTES = 512
_NOT_FINITE = -2
"""LX_NOT_FINITE of engine.h."""
_MOST_THREADS = 1024
_MOST_WORDS = 200
"""The most characters of a caller's text that an error repeats."""


class _Input(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_char_p),
        ("type", ctypes.c_int),
        ("rank", ctypes.c_int),
        ("width", ctypes.c_int64),
        ("most_rows", ctypes.c_int64),
    )


class _Feed(ctypes.Structure):
    _fields_ = (("data", ctypes.c_void_p), ("rows", ctypes.c_int64), ("width", ctypes.c_int64))


_ERROR = (ctypes.c_char_p, ctypes.c_size_t)
_SIGNATURES: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "lx_open": (ctypes.c_void_p, (ctypes.c_char_p, *_ERROR)),
    "lx_verify": (ctypes.c_int, (ctypes.c_void_p, *_ERROR)),
    "lx_close": (None, (ctypes.c_void_p,)),
    "lx_count_inputs": (ctypes.c_int, (ctypes.c_void_p,)),
    "lx_get_input": (_Input, (ctypes.c_void_p, ctypes.c_int)),
    "lx_count_scores": (ctypes.c_int64, (ctypes.c_void_p,)),
    "lx_instruction_sets": (ctypes.c_char_p, ()),
    "lx_session_open": (ctypes.c_void_p, (ctypes.c_void_p, ctypes.c_int, ctypes.c_char_p, *_ERROR)),
    "lx_run": (ctypes.c_int, (ctypes.c_void_p, ctypes.POINTER(_Feed), ctypes.c_int64, ctypes.c_void_p, *_ERROR)),
    "lx_see": (ctypes.c_int, (ctypes.c_void_p, ctypes.POINTER(_Feed), *_ERROR)),
    "lx_session_close": (None, (ctypes.c_void_p,)),
}


@dataclass(frozen=True)
class InputInfo:
    """An input of a model, as ONNX Runtime describes it; a name in the shape is a size that each question sets."""

    name: str
    type: str
    shape: list[int | str]
    most_rows: int


@dataclass(frozen=True)
class OutputInfo:
    """An output of a model, described in the same way."""

    name: str
    type: str
    shape: list[int | str]


def is_built() -> bool:
    """Return whether the library is built, and of the version that this lxcompress calls."""
    try:
        load_library()
    except MeasureError:
        return False
    return True


def instruction_sets() -> tuple[str, ...]:
    """Return the instruction sets of the library that this processor has, best first. Raises MeasureError."""
    return tuple(load_library().lx_instruction_sets().decode().split())


@functools.cache
def load_library() -> ctypes.CDLL:
    """Load the library and declare its functions. Raises MeasureError if it is not built, or of another version."""
    path = Path(os.environ.get("LXCOMPRESS_ENGINE") or LIBRARY)
    if not path.is_file():
        raise MeasureError(
            f"runtime engine: its library ({path}) was not built, because the C compiler was missing or too old; "
            f"install one (on Debian: apt install gcc libc6-dev) and build the library with: {BUILD}"
        )
    try:
        library = ctypes.CDLL(str(path))
        interface = read_text(library, "lx_interface")
    except (OSError, ValueError) as problem:
        raise MeasureError(
            f"runtime engine: its library {path} cannot be loaded ({problem}); build it again with: {BUILD}"
        ) from problem
    if interface != f"{zlib.crc32(HEADER.read_bytes()):08x}":
        raise MeasureError(
            f"runtime engine: its library {path} is of another version than {HEADER}; build it again with: {BUILD}"
        )
    for name, (result, arguments) in _SIGNATURES.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library


def read_text(library: ctypes.CDLL, name: str) -> str:
    """Return the eight characters that engine/build.py wrote into a library as lx_interface or lx_sources.

    Raises ValueError if they are not there.
    """
    return (ctypes.c_char * 9).in_dll(library, name).value.decode()


class _Mapped:
    """A file mapped into memory, until no open session and no model refers to it."""

    def __init__(self, library: ctypes.CDLL, path: Path) -> None:
        error = _Error()
        if b"\0" in os.fsencode(path):  # C would read the path only up to there
            raise MeasureError(f"{str(path)!r}: contains a NUL character, which no path can; give another path")
        self.library = library
        self.pointer = library.lx_open(os.fsencode(path), *error)
        if not self.pointer:
            raise MeasureError(f"{path}: the engine cannot read it ({error}); export it again")
        _call_at_end(self, library.lx_close, self.pointer)


class ModelFile:
    """A model file in memory, its structure checked. Any number of sessions may share it, in any threads.

    Raises MeasureError for a damaged file.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self._mapped: _Mapped | None = _Mapped(load_library(), self.path)
        library, pointer = self._mapped.library, self._mapped.pointer
        count = library.lx_count_inputs(pointer)
        self._inputs = [_read_input(library.lx_get_input(pointer, index)) for index in range(count)]
        self._answers: int = library.lx_count_scores(pointer)

    def session(self, *, threads: int = 1, instructions: str | None = None) -> InferenceSession:
        """Open a session on this model, as InferenceSession does on a file."""
        return InferenceSession(self, threads=threads, instructions=instructions)

    def verify(self) -> None:
        """Read all weights once, and compare their checksum. Raises MeasureError if they were changed."""
        error, mapped = _Error(), self._open_mapped()
        if mapped.library.lx_verify(mapped.pointer, *error):
            raise MeasureError(f"{self.path}: the engine cannot use it ({error}); export or copy it again")

    def close(self) -> None:
        """Release the file; open sessions keep it until they are closed."""
        self._mapped = None

    def _open_mapped(self) -> _Mapped:
        if self._mapped is None:
            raise MeasureError(f"{self.path}: this model was closed; open it again")
        return self._mapped


class InferenceSession:
    """A model that is ready to answer, with `threads` threads including the caller's, and the best instruction set.

    `instructions` names another instruction set. Several Python threads may call a session; they wait for each other.
    Raises MeasureError for a damaged file, or an instruction set that this processor does not have.
    """

    def __init__(self, path: Path | str | ModelFile, *, threads: int = 1, instructions: str | None = None) -> None:
        _check_options(threads, instructions)
        model = path if isinstance(path, ModelFile) else ModelFile(path)
        mapped = model._open_mapped()
        self.path, self.threads = model.path, threads
        self._library, self._lock, self._process = mapped.library, threading.Lock(), os.getpid()
        self._error, self._inputs, self._answers = _Error(), model._inputs, model._answers
        self._feeds = (_Feed * len(model._inputs))()
        self._seen: frozenset[str] = frozenset()
        named = None if instructions is None else instructions.encode()
        self._pointer = self._library.lx_session_open(mapped.pointer, threads, named, *self._error)
        if not self._pointer:
            raise MeasureError(
                f"{self.path}: the engine cannot open a session ({self._error}); give other threads or instructions"
            )
        self._close = _call_at_end(self, _close_session, self._library, self._pointer, mapped, self._process)

    def get_inputs(self) -> list[InputInfo]:
        """Return the inputs of `run`."""
        return list(self._inputs)

    def get_outputs(self) -> list[OutputInfo]:
        """Return the outputs of `run`."""
        return [OutputInfo(SCORES, "tensor(float)", ["batch", self._answers])]

    def run(self, output_names: Sequence[str] | None, feeds: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        """Return [scores], float32 [B, A], for `feeds`, one array for each input.

        Raises MeasureError for feeds of wrong names, shapes or types, for NaN and infinity in them, and for an overflow
        of the computation.
        """
        if output_names and (isinstance(output_names, str) or list(output_names) != [SCORES]):
            raise MeasureError(
                f"{self.path}: has the output {SCORES}, but was asked for {_join(output_names)}; ask for None"
            )
        return [self._answer(feeds, self._inputs)]

    def see(self, feeds: Mapping[str, np.ndarray]) -> None:
        """Compute what depends on some inputs alone, such as those of one image, and keep it for the calls of `ask`.

        `feeds` has these inputs with a batch size of 1, each together with its mask. A later call replaces what is
        kept. `run` works as before. Raises MeasureError as `run` does; then nothing is kept.
        """
        self._check_process()
        with self._lock:
            self._check_open()
            self._seen = frozenset()
            known = [wanted for wanted in self._inputs if isinstance(feeds, Mapping) and wanted.name in feeds]
            arrays = self._fit(feeds, known or self._inputs)
            if len(known) == len(self._inputs):
                raise MeasureError(f"{self.path}: was given all its inputs to see; give those of the image alone")
            if len(arrays[0]) != 1:
                raise MeasureError(
                    f"{self.path}: sees one image at a time, but was given {len(arrays[0])}; give arrays [1, ...]"
                )
            self._set_feeds(known, arrays)
            self._check_status(self._library.lx_see(self._pointer, self._feeds, *self._error), "see this")
            self._seen = frozenset(wanted.name for wanted in known)

    def ask(self, feeds: Mapping[str, np.ndarray]) -> np.ndarray:
        """Return the scores, float32 [B, A], of B questions about what was seen: the same as those of `run`.

        `feeds` has the inputs that were not seen. Raises MeasureError as `run` does, and before `see`.
        """
        seen = self._seen
        if not seen:
            raise MeasureError(f"{self.path}: was asked before it has seen an image; call see first, or run")
        return self._answer(feeds, [wanted for wanted in self._inputs if wanted.name not in seen])

    def close(self) -> None:
        """End the session's threads and free its memory; it cannot answer any more."""
        with self._lock:
            self._close()

    def __enter__(self) -> InferenceSession:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _answer(self, feeds: Mapping[str, np.ndarray], inputs: Sequence[InputInfo]) -> np.ndarray:
        """Return the scores of `feeds`, which has an array for each of `inputs`."""
        self._check_process()
        arrays = self._fit(feeds, inputs)
        batch = len(arrays[0])
        scores = np.empty((batch, self._answers), dtype=np.float32)
        with self._lock:
            self._check_open()
            self._set_feeds(inputs, arrays)
            status = self._library.lx_run(self._pointer, self._feeds, batch, scores.ctypes.data, *self._error)
            self._check_status(status, "answer")
        return scores

    def _set_feeds(self, inputs: Sequence[InputInfo], arrays: Sequence[np.ndarray]) -> None:
        """Point the feeds of `inputs` to `arrays`; the feeds of other inputs get no data."""
        given = {wanted.name: array for wanted, array in zip(inputs, arrays, strict=True)}
        for feed, wanted in zip(self._feeds, self._inputs, strict=True):
            array = given.get(wanted.name)
            if array is None:
                feed.data = None
                continue
            feed.data, feed.rows = array.ctypes.data, array.shape[1]
            feed.width = array.shape[2] if array.ndim == 3 else 1

    def _check_status(self, status: int, verb: str) -> None:
        """Raise MeasureError if the library could not do what `verb` says."""
        if status:
            remedy = _VALUE_REMEDY if status == _NOT_FINITE else _SIZE_REMEDY
            raise MeasureError(f"{self.path}: the engine cannot {verb} ({self._error}); {remedy}")

    def _check_open(self) -> None:
        if not self._close.alive:
            raise MeasureError(f"{self.path}: this session was closed; open another")

    def _check_process(self) -> None:
        if self.threads > 1 and os.getpid() != self._process:
            # A fork copies only the caller's thread, which would wait for the others forever.
            raise MeasureError(f"{self.path}: this session was opened in another process, before a fork; open one here")

    def _fit(self, feeds: Mapping[str, np.ndarray], inputs: Sequence[InputInfo]) -> list[np.ndarray]:
        """Return the feeds in the order of `inputs`, contiguous and in their types.

        Raises MeasureError for feeds that do not fit these inputs.
        """
        names = [wanted.name for wanted in inputs]
        if not isinstance(feeds, Mapping) or set(feeds) != set(names):
            given = _join(feeds) if isinstance(feeds, Mapping) else f"a {type(feeds).__name__}"
            raise MeasureError(
                f"{self.path}: takes the inputs {', '.join(sorted(names))}, but was given {given or 'none'}; "
                "give an array for each, by its name"
            )
        arrays = [self._fit_one(wanted, feeds[wanted.name]) for wanted in inputs]
        batches = {len(array) for array in arrays}
        if len(batches) > 1:
            told = ", ".join(f"{name} {len(array)}" for name, array in zip(names, arrays, strict=True))
            raise MeasureError(
                f"{self.path}: expected the same batch size for all inputs, got {told}; give arrays of one batch size"
            )
        return arrays

    def _fit_one(self, wanted: InputInfo, given: Any) -> np.ndarray:
        kind = _TYPE_NAMES.index(wanted.type)
        shape = " x ".join(str(size) for size in wanted.shape)
        takes = f"{self.path}: takes {wanted.name} as {_TYPES[kind].__name__} of {shape}, but was given"
        try:
            array = np.asarray(given)
        except (ValueError, TypeError) as problem:
            raise MeasureError(
                f"{takes} a {type(given).__name__} that is not a rectangular array; pad its rows"
            ) from problem
        if array.dtype.kind not in _KINDS[kind] or array.ndim != len(wanted.shape):
            found = f"{str(array.dtype)[:_MOST_WORDS]} of {' x '.join(map(str, array.shape)) or 'no dimension'}"
            raise MeasureError(f"{takes} {found}; convert or reshape the array")
        with np.errstate(over="ignore"):  # a value too large for float32 becomes infinity, which is refused later
            return np.ascontiguousarray(array, dtype=_TYPES[kind])


_SIZE_REMEDY = "give inputs of the sizes that the model was exported for"
_VALUE_REMEDY = "check the detector, or other source of the inputs; if the inputs are right, export the model again"


def _check_options(threads: Any, instructions: Any) -> None:
    """Raise MeasureError for options that C would misread: it uses the last 32 bits of a number."""
    is_whole = isinstance(threads, (int, np.integer)) and not isinstance(threads, bool)
    if not is_whole or not 1 <= threads <= _MOST_THREADS:
        is_long = is_whole and abs(threads) > 1 << 64  # Python refuses to print a number of thousands of digits
        told = "a far larger number" if is_long else repr(threads)
        raise MeasureError(f"threads: expected 1 to {_MOST_THREADS}, got {told[:_MOST_WORDS]}; give threads=1")
    if instructions is not None and instructions not in instruction_sets():
        raise MeasureError(
            f"instructions: this processor has no {str(instructions)[:_MOST_WORDS]!r}; it has "
            f"{', '.join(instruction_sets())}"
        )


def _join(words: Any) -> str:
    """Return a caller's words, sorted and shortened to fit in a sentence."""
    text = words if isinstance(words, str) else ", ".join(sorted(map(str, words)))
    return text if len(text) <= _MOST_WORDS else f"{text[: _MOST_WORDS - 3]}..."


class _Error:
    """A buffer for one error sentence of the library; passed to a function as `*error`."""

    def __init__(self) -> None:
        self._text = ctypes.create_string_buffer(_ERROR_BYTES)

    def __iter__(self) -> Any:
        return iter((self._text, _ERROR_BYTES))

    def __str__(self) -> str:
        return self._text.value.decode(errors="replace")


def _read_input(found: _Input) -> InputInfo:
    shape: list[int | str] = ["batch", "rows"] if found.rank == 2 else ["batch", "rows", found.width]
    return InputInfo(found.name.decode(errors="replace"), _TYPE_NAMES[found.type], shape, found.most_rows)


def _close_session(library: ctypes.CDLL, pointer: int, mapped: _Mapped, process: int) -> None:
    """Close a session; the argument `mapped` keeps its file in memory until then."""
    if os.getpid() == process:  # after a fork, its threads do not exist in the other process
        library.lx_session_close(pointer)


def _call_at_end(owner: object, function: Any, *arguments: Any) -> weakref.finalize[..., object]:
    """Call `function` when `owner` is deleted, but not when Python exits.

    At exit the system frees all memory, and a thread that is still answering must keep its own.
    """
    end = weakref.finalize(owner, function, *arguments)
    end.atexit = False
    return end
