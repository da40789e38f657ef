"""A session answers as the graph says, for any batch and length, and names what is wrong with a file."""

from __future__ import annotations

import logging
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from lxcompress.errors import MeasureError
from lxcompress.runtimes import open_session, runtime_of
from lxcompress.runtimes.onnxruntime import quiet_onnxruntime
from tests.measure.artifacts import build_artifact
from tests.runtimes.broken import check_broken_inputs_are_refused
from tests.runtimes.toy import answer_slowly, draw_feeds

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_artifact(tmp_path_factory.mktemp("runtimes") / "toy")


@pytest.mark.parametrize(("batch", "tokens", "objects"), [(1, 7, 5), (4, 3, 2), (2, 20, 36)])
@pytest.mark.parametrize("threads", [1, 2])
def test_scores_are_those_of_the_graph(artifact: Path, batch: int, tokens: int, objects: int, threads: int) -> None:
    feeds = draw_feeds(batch, tokens, objects)
    scores = open_session(artifact, threads=threads).answer(feeds)
    assert scores.dtype == np.float32
    assert scores.shape == (batch, 3)
    np.testing.assert_allclose(scores, answer_slowly(artifact, feeds), rtol=1e-4, atol=1e-5)


def test_a_folder_and_the_file_in_it_are_the_same(artifact: Path) -> None:
    feeds = draw_feeds(2, 7, 5)
    from_folder = open_session(artifact, threads=1).answer(feeds)
    from_file = open_session(artifact / "model.onnx", threads=1).answer(feeds)
    np.testing.assert_array_equal(from_folder, from_file)


def test_other_inputs_are_refused_by_name(artifact: Path) -> None:
    session = open_session(artifact, threads=1)
    feeds = draw_feeds(1, 7, 5)
    with pytest.raises(MeasureError, match=r"takes the inputs .*visual_pos.* but was given"):
        session.answer({name: value for name, value in feeds.items() if name != "visual_pos"})
    with pytest.raises(MeasureError, match=r"but was given .*token_type_ids"):
        session.answer({**feeds, "token_type_ids": feeds["input_ids"]})
    with pytest.raises(MeasureError, match="failed while answering"):
        session.answer({**feeds, "input_ids": feeds["input_ids"] + 1_000_000})


def test_broken_inputs_and_scores_are_refused(artifact: Path, tmp_path: Path) -> None:
    check_broken_inputs_are_refused(open_session(artifact, threads=1), draw_feeds(2, 7, 5))
    model = onnx.load(artifact / "model.onnx")
    weight = next(initializer for initializer in model.graph.initializer if initializer.name == "b")
    weight.CopyFrom(numpy_helper.from_array(np.full_like(numpy_helper.to_array(weight), np.nan), "b"))
    onnx.save(model, tmp_path / "model.onnx")
    with pytest.raises(MeasureError, match=r"model\.onnx: answers finite inputs with NaN or infinity"):
        open_session(tmp_path, threads=1).answer(draw_feeds(2, 7, 5))


def test_files_that_cannot_be_served_are_one_sentence(artifact: Path, tmp_path: Path) -> None:
    with pytest.raises(MeasureError, match=r"model\.onnx: no such file"):
        open_session(tmp_path, threads=1)
    (tmp_path / "model.onnx").write_bytes(b"noise")
    with pytest.raises(MeasureError, match="cannot load it"):
        open_session(tmp_path, threads=1)
    renamed = onnx.load(artifact / "model.onnx")
    renamed.graph.node[-1].output[0] = renamed.graph.output[0].name = "logits"
    onnx.save(renamed, tmp_path / "model.onnx")
    with pytest.raises(MeasureError, match="expected an output named scores, got logits"):
        open_session(tmp_path, threads=1)


def test_unknown_runtimes_formats_and_thread_counts_are_refused(artifact: Path) -> None:
    with pytest.raises(MeasureError, match="runtime abacus: is unknown; expected one of: engine, executorch"):
        open_session(artifact, threads=1, runtime="abacus")
    with pytest.raises(MeasureError, match="threads: expected 1 or more, got 0"):
        open_session(artifact, threads=0)
    with pytest.raises(MeasureError, match="format holograph: no runtime"):
        runtime_of("holograph")
    assert runtime_of("onnx") == "onnxruntime"


def test_the_registry_loads_no_runtime_until_one_is_asked_for() -> None:
    code = "import sys, lxcompress.runtimes; sys.exit('onnxruntime' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_tools_are_hushed_and_the_log_is_left_as_it_was(capfd: pytest.CaptureFixture[str]) -> None:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    with quiet_onnxruntime():
        print("one")
        logging.warning("two")
        logging.getLogger("tool").error("three")
        warnings.warn("four", stacklevel=1)
        root.setLevel(logging.DEBUG)
    assert (root.handlers, root.level) == (handlers, level)
    assert capfd.readouterr() == ("", "")
    print("five")
    assert capfd.readouterr().out == "five\n"
