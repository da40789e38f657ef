"""A file has the format that its operators came with, so that the runtimes of their time load it."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from lxcompress.catalog.formats import FORMATS
from lxcompress.exporters import onnx as writer
from lxcompress.exporters.fold import opset_of
from lxcompress.exporters.formats import OLDEST_OPSET, Job
from lxcompress.exporters.onnx_sparse import leave_zeros_out
from lxcompress.exporters.ort import convert
from lxcompress.runtimes import open_session
from tests.export.graphs import questions, traced

FORMAT_OF_OPSET = {17: 8, 18: 8, 19: 9, 20: 9, 21: 10, 22: 10, 23: 11}
"""Of ONNX 1.12 to 1.18, each with its IR version (https://github.com/onnx/onnx/blob/main/docs/Versioning.md)."""
OLD_PYTHON, OLD = "python3.11", ("onnxruntime==1.17.*", "numpy<2")
"""Of January 2024: it loads formats up to 9."""
NEAR = 2e-6
ASK = """
import sys
import numpy as np
import onnxruntime
session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
feeds = dict(np.load(sys.argv[2]))
np.save(sys.argv[3], session.run(["scores"], feeds)[0])
print(onnxruntime.__version__)
"""


def write(
    out: Path,
    precision: str,
    opset: int | None,
    *,
    fuse: bool = True,
    fp32: Path | None = None,
    name: str = "visual_bert",
) -> Path:
    """The file of a small model."""
    given = traced(name)
    feeds = [questions(given, 4, tokens, 6).numpy() for tokens in (5, 9)]
    job = Job(given.model, given.example, precision, out, out, None, lambda: iter(feeds), fuse, opset, fp32)
    writer.write(job)
    return out / "model.onnx"


def version_of(path: Path) -> tuple[int, int]:
    model = onnx.load(path)
    return opset_of(model), model.ir_version


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int | None], Path]:
    """The fp32 file of an opset: made once, and only read."""

    @functools.cache
    def make(opset: int | None) -> Path:
        if opset is None:
            return traced("visual_bert").path
        return write(tmp_path_factory.mktemp("fp32"), "fp32", opset)

    return make


@pytest.mark.parametrize("opset", [17, pytest.param(20, marks=pytest.mark.slow), None])
def test_a_file_has_the_format_of_its_operators_in_every_precision(tmp_path: Path, opset: int | None, plain) -> None:
    found, version = version_of(plain(opset))
    assert found == opset or opset is None
    assert version == FORMAT_OF_OPSET[found]
    for precision in ("fp16", "int8"):
        made = write(tmp_path / precision, precision, opset, fp32=plain(opset).parent)
        assert version_of(made) == (found, version)


@pytest.mark.parametrize("opset", [17, None])
def test_a_sparse_file_has_the_format_of_its_operators(tmp_path: Path, opset: int | None, plain) -> None:
    """Sparse initializers are of ONNX 1.6, so they ask for no newer format."""
    path, before = tmp_path / "model.onnx", version_of(plain(opset))
    model = onnx.load(plain(opset))
    for tensor in model.graph.initializer:
        if len(tensor.dims) == 2:
            values = onnx.numpy_helper.to_array(tensor).copy()
            values.flat[1:] = 0
            tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
    onnx.save(model, path)
    leave_zeros_out(tmp_path, tmp_path / "sparse", "fp32")
    made = tmp_path / "sparse" / "model.onnx"
    assert onnx.load(made).graph.sparse_initializer
    assert version_of(made) == before


def test_a_mobile_file_has_the_format_of_its_operators(tmp_path: Path, plain) -> None:
    from onnxruntime.tools.ort_format_model.ort_flatbuffers_py.fbs.InferenceSession import InferenceSession

    out = tmp_path / "ort"
    out.mkdir()
    files = convert(plain(17), out, keep_half=False)
    model = InferenceSession.GetRootAsInferenceSession(bytearray(files[0].read_bytes()), 0).Model()
    imports = (model.OpsetImport(index) for index in range(model.OpsetImportLength()))
    assert {each.Domain(): each.Version() for each in imports}[b""] == 17
    assert model.IrVersion() == FORMAT_OF_OPSET[17]


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("precision", [name for name in FORMATS["onnx"].precisions if name != "int4"])  # is newer
def test_a_runtime_of_the_operators_time_answers_as_todays(tmp_path: Path, precision: str, old_python: Path) -> None:
    """Opsets 17 to 20, fused and plain, in ONNX Runtime 1.17."""
    given = traced("lxmert")
    feeds = questions(given, 5, 11, 7).numpy()
    np.savez(tmp_path / "feeds.npz", **feeds)
    for opset in range(OLDEST_OPSET, 21):
        for fuse in (True, False):
            path = write(tmp_path / f"{opset}-{fuse}", precision, opset, fuse=fuse, name="lxmert")
            assert version_of(path) == (opset, FORMAT_OF_OPSET[opset])
            command = [str(old_python), "-c", ASK, str(path), str(tmp_path / "feeds.npz"), str(tmp_path / "old.npy")]
            done = subprocess.run(command, capture_output=True, text=True)
            assert done.returncode == 0, f"{opset} {fuse}: {done.stderr[-2000:]}"
            assert done.stdout.startswith("1.17.")
            old, new = np.load(tmp_path / "old.npy"), open_session(path, threads=1).answer(feeds)
            off = float(np.abs(old - new).max() / max(1.0, np.abs(new).max()))
            print(f"opset {opset}, {precision}, {'fused' if fuse else 'plain'}: off by {off:.2g}")
            assert off <= (NEAR if precision == "fp32" else 0.02)


@pytest.fixture(scope="module")
def old_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python with an old ONNX Runtime."""
    found = os.environ.get("LXCOMPRESS_OLD_ONNXRUNTIME")
    if found:
        return Path(found)
    if shutil.which(OLD_PYTHON) is None:
        pytest.skip(f"{OLD_PYTHON} is not installed, the newest that {OLD[0]} was built for here")
    folder = tmp_path_factory.mktemp("old") / "venv"
    made = subprocess.run([OLD_PYTHON, "-m", "venv", str(folder)], capture_output=True, text=True)
    if made.returncode:
        pytest.skip(f"{OLD_PYTHON} makes no virtual environment: {(made.stdout + made.stderr).strip()[-200:]}")
    python = folder / "bin" / "python"
    got = subprocess.run([str(python), "-m", "pip", "install", "-q", *OLD], capture_output=True, text=True)
    if got.returncode:
        pytest.skip(f"{OLD[0]} cannot be had: {got.stderr.strip()[-200:]}")
    return python
