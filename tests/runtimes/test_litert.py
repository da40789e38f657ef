"""LiteRT's runtime keeps to its threads, keeps the terminal clean, and names what is wrong with a file."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from lxcompress.errors import MeasureError
from lxcompress.runtimes import open_session
from lxcompress.runtimes.fixed import FixedShapeSession
from lxcompress.shapes import FixedShape
from tests.runtimes.broken import check_broken_inputs_are_refused

pytest.importorskip("ai_edge_litert", reason="ai-edge-litert is not installed: pip install 'lxcompress[litert]'")

ROOT = Path(__file__).resolve().parents[2]
SUMS = ROOT / "tests" / "fixtures" / "sums.tflite"
"""A file of one product and LXMERT's inputs: scores = W (sum of features) + b + (sum of words, boxes and masks).

exporters.litert.convert wrote it, for 4 tokens and 3 regions of 6 features.
"""
TOKENS, OBJECTS, FEATURES = 4, 3, 6


def _feeds(rows: int, tokens: int = TOKENS, objects: int = OBJECTS) -> dict[str, np.ndarray]:
    random = np.random.default_rng(rows)
    return {
        "input_ids": random.integers(0, 30, (rows, tokens)),
        "attention_mask": random.integers(0, 2, (rows, tokens)),
        "visual_feats": random.random((rows, objects, FEATURES), dtype=np.float32),
        "visual_pos": random.random((rows, objects, 4), dtype=np.float32),
        "visual_attention_mask": random.integers(0, 2, (rows, objects)),
    }


def _counted(feeds: dict[str, np.ndarray]) -> np.ndarray:
    words = (feeds["input_ids"] * feeds["attention_mask"]).sum(1)
    return words + feeds["visual_attention_mask"].sum(1) + feeds["visual_pos"].sum((1, 2))


def test_a_batch_is_answered_as_its_questions_alone() -> None:
    session, feeds = open_session(SUMS, threads=1, runtime="litert"), _feeds(5)
    together = session.answer(feeds)
    assert together.shape == (5, 3)
    assert together.dtype == np.float32
    alone = [session.answer({name: array[row : row + 1] for name, array in feeds.items()}) for row in range(5)]
    np.testing.assert_array_equal(together, np.concatenate(alone))
    products = together - _counted(feeds)[:, None]
    feeds["visual_feats"][:] = 0
    bias = session.answer(feeds) - _counted(feeds)[:, None]
    np.testing.assert_allclose(bias, np.broadcast_to(bias[0], bias.shape), atol=1e-5)
    assert np.abs(products - bias).min() > 1e-4


def test_smaller_questions_are_padded() -> None:
    session = FixedShapeSession(SUMS, open_session(SUMS, threads=1, runtime="litert"), FixedShape(TOKENS, OBJECTS))
    small = _feeds(2, tokens=2, objects=1)
    wide = {
        name: np.concatenate([array, np.zeros_like(array), np.zeros_like(array)], axis=1)
        for name, array in small.items()
    }
    whole = {name: array[:, : (TOKENS if name[0] in "ia" else OBJECTS)] for name, array in wide.items()}
    np.testing.assert_array_equal(session.answer(small), session.session.answer(whole))


def test_a_folder_and_the_file_in_it_are_the_same(tmp_path: Path) -> None:
    shutil.copy(SUMS, tmp_path / "model.tflite")
    feeds = _feeds(2)
    from_file = open_session(SUMS, threads=1, runtime="litert").answer(feeds)
    np.testing.assert_array_equal(open_session(tmp_path, threads=1, runtime="litert").answer(feeds), from_file)


@pytest.mark.skipif(sys.platform != "linux", reason="the threads of a process are counted in /proc")
def test_threads_are_as_many_as_asked_for() -> None:
    tasks = Path("/proc/self/task")
    before = len(list(tasks.iterdir()))
    one = open_session(SUMS, threads=1, runtime="litert")
    assert len(list(tasks.iterdir())) == before
    three = open_session(SUMS, threads=3, runtime="litert")
    assert len(list(tasks.iterdir())) == before + 2
    np.testing.assert_array_equal(one.answer(_feeds(1)), three.answer(_feeds(1)))


def test_broken_inputs_are_refused() -> None:
    check_broken_inputs_are_refused(open_session(SUMS, threads=1, runtime="litert"), _feeds(2))


def test_inputs_of_another_shape_are_one_sentence() -> None:
    session = open_session(SUMS, threads=1, runtime="litert")
    with pytest.raises(MeasureError, match=r"^[^\n]*takes attention_mask of exactly 1 x 4, [^\n]* given 1 x 5; keep"):
        session.answer(_feeds(1, tokens=5))
    with pytest.raises(MeasureError, match=r"takes the inputs .* but was given"):
        session.answer({**_feeds(1), "token_type_ids": _feeds(1)["input_ids"]})


def test_the_terminal_stays_clean_and_the_converter_away() -> None:
    """The runtime's remarks are held back, and a measured process is charged with nothing but the runtime."""
    code = f"""
import sys
from pathlib import Path
from lxcompress.runtimes import open_session
open_session(Path({str(SUMS)!r}), threads=1, runtime="litert")
assert not any(name.partition(".")[0] in ("litert_torch", "jax", "torch", "transformers") for name in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True)
    assert done.stdout == done.stderr == ""


def test_files_that_cannot_be_served_are_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(MeasureError, match=r"model\.tflite: no such file; make it with: .* --format litert"):
        open_session(tmp_path, threads=1, runtime="litert")
    whole = SUMS.read_bytes()
    for length in (0, 3, 8, 30, len(whole) // 2, len(whole) - 1):
        (tmp_path / "model.tflite").write_bytes(whole[:length])
        with pytest.raises(MeasureError, match=r"^[^\n]*(is not a LiteRT file|LiteRT cannot load it)[^\n]*$"):
            open_session(tmp_path, threads=1, runtime="litert")
    (tmp_path / "model.tflite").write_bytes(whole[:64] + bytes(len(whole) - 64))
    with pytest.raises(MeasureError, match=r"^[^\n]*LiteRT cannot load it[^\n]*$"):
        open_session(tmp_path, threads=1, runtime="litert")
