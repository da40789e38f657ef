"""OpenVINO answers as the graph says, keeps to its threads and its cores, and tells nobody that it was used."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import openvino
import pytest
from onnx import helper

from lxcompress.errors import MeasureError
from lxcompress.runtimes import open_session
from tests.measure.artifacts import build_artifact
from tests.runtimes.broken import check_broken_inputs_are_refused
from tests.runtimes.toy import answer_slowly, draw_feeds

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_artifact(tmp_path_factory.mktemp("runtimes") / "toy")


@pytest.fixture(scope="module")
def ir(artifact: Path) -> Path:
    """The same as OpenVINO's own files."""
    out = artifact.parent / "ir"
    openvino.save_model(
        openvino.Core().read_model(str(artifact / "model.onnx")), str(out / "model.xml"), compress_to_fp16=False
    )
    return out


@pytest.mark.parametrize(("rows", "tokens", "objects"), [(1, 7, 5), (4, 3, 2), (2, 20, 36)])
@pytest.mark.parametrize("kind", ["onnx", "ir"])
def test_scores_are_those_of_the_graph(
    artifact: Path, ir: Path, kind: str, rows: int, tokens: int, objects: int
) -> None:
    feeds = draw_feeds(rows, tokens, objects)
    scores = open_session(artifact if kind == "onnx" else ir, threads=1, runtime="openvino").answer(feeds)
    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores, answer_slowly(artifact, feeds), rtol=1e-4, atol=1e-5)


def test_bfloat16_rounds_where_the_processor_has_it(artifact: Path) -> None:
    feeds = draw_feeds(4, 7, 5)
    if "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        session = open_session(artifact, threads=1, runtime="openvino-bf16")
        assert session.compiled.get_property("INFERENCE_PRECISION_HINT") == openvino.Type.bf16
        np.testing.assert_allclose(session.answer(feeds), answer_slowly(artifact, feeds), atol=0.1)
    else:
        with pytest.raises(MeasureError, match="no products of bfloat16"):
            open_session(artifact, threads=1, runtime="openvino-bf16")


@pytest.mark.parametrize("threads", [1, 2])
def test_threads_are_as_many_as_asked_for_and_free_to_be_pinned(artifact: Path, threads: int) -> None:
    compiled = open_session(artifact, threads=threads, runtime="openvino").compiled
    assert compiled.get_property("INFERENCE_NUM_THREADS") == threads
    assert compiled.get_property("NUM_STREAMS") == 1
    assert compiled.get_property("ENABLE_CPU_PINNING") is False


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system pins no processes")
def test_a_pinned_process_stays_on_its_core(artifact: Path) -> None:
    code = f"""
import os
from pathlib import Path
core = max(os.sched_getaffinity(0))
os.sched_setaffinity(0, {{core}})
from lxcompress.runtimes import open_session
from tests.runtimes.toy import draw_feeds
open_session(Path({str(artifact)!r}), threads=2, runtime="openvino").answer(draw_feeds(8, 20, 36))
assert {{core}} == set().union(*(os.sched_getaffinity(int(each)) for each in os.listdir("/proc/self/task")))
"""
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_nothing_is_told_or_left_behind(artifact: Path, tmp_path: Path) -> None:
    """Neither OpenVINO nor NNCF opens a connection, or leaves a file in the home folder."""
    code = f"""
import socket
def refuse(*_): raise AssertionError("a connection was tried")
socket.socket.connect = socket.getaddrinfo = refuse
from pathlib import Path
from lxcompress.runtimes import open_session
open_session(Path({str(artifact)!r}), threads=1, runtime="openvino")
import openvino.tools.ovc, nncf, sys
assert not any(name.startswith("openvino_telemetry.") for name in sys.modules)
"""
    environment = {**os.environ, "HOME": str(tmp_path), "LOCALAPPDATA": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, check=True, env=environment, capture_output=True, text=True
    )
    assert done.stdout == ""
    assert not (tmp_path / "intel").exists()


def test_other_inputs_are_refused_by_name(artifact: Path) -> None:
    session = open_session(artifact, threads=1, runtime="openvino")
    feeds = draw_feeds(1, 7, 5)
    with pytest.raises(MeasureError, match=r"takes the inputs .*visual_pos.* but was given"):
        session.answer({name: value for name, value in feeds.items() if name != "visual_pos"})
    with pytest.raises(MeasureError, match="failed while answering"):
        session.answer({**feeds, "visual_feats": feeds["visual_feats"][..., :-1]})


def test_broken_inputs_are_refused(artifact: Path) -> None:
    check_broken_inputs_are_refused(open_session(artifact, threads=1, runtime="openvino"), draw_feeds(2, 7, 5))


def test_operators_of_onnx_runtime_are_refused_with_the_remedy(artifact: Path, tmp_path: Path) -> None:
    model = onnx.load(artifact / "model.onnx")
    last = model.graph.node[-1]
    last.output[0] = "before"
    model.graph.node.append(helper.make_node("Gelu", ["before"], ["scores"], domain="com.microsoft"))
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    onnx.save(model, tmp_path / "model.onnx")
    with pytest.raises(MeasureError, match=r"operators of com\.microsoft.*--no-fuse"):
        open_session(tmp_path, threads=1, runtime="openvino")
    del model.graph.node[-1]
    last.output[0] = "scores"
    onnx.save(model, tmp_path / "model.onnx")  # the domain is declared still, and used by none
    open_session(tmp_path, threads=1, runtime="openvino")


def test_files_that_cannot_be_served_are_one_sentence(artifact: Path, ir: Path, tmp_path: Path) -> None:
    with pytest.raises(MeasureError, match=r"model\.xml: no such file"):
        open_session(tmp_path, threads=1, runtime="openvino")
    whole = (artifact / "model.onnx").read_bytes()
    for length in (1, 100, len(whole) - 1):
        (tmp_path / "model.onnx").write_bytes(whole[:length])
        with pytest.raises(MeasureError, match=r"is cut short|cannot load it"):
            open_session(tmp_path, threads=1, runtime="openvino")
    (tmp_path / "model.xml").write_bytes((ir / "model.xml").read_bytes())
    weights = (ir / "model.bin").read_bytes()
    for length in (0, 10, len(weights) - 1):
        (tmp_path / "model.bin").write_bytes(weights[:length])
        with pytest.raises(MeasureError, match=r"^[^\n]*cannot load it[^\n]*$"):
            open_session(tmp_path, threads=1, runtime="openvino")
    (tmp_path / "model.xml").write_bytes((ir / "model.xml").read_bytes()[:500])
    with pytest.raises(MeasureError, match=r"^[^\n]*cannot load it[^\n]*$"):
        open_session(tmp_path, threads=1, runtime="openvino")
    renamed = onnx.load(artifact / "model.onnx")
    renamed.graph.node[-1].output[0] = renamed.graph.output[0].name = "logits"
    onnx.save(renamed, tmp_path / "logits.onnx")
    with pytest.raises(MeasureError, match="expected an output named scores, got logits"):
        open_session(tmp_path / "logits.onnx", threads=1, runtime="openvino")
