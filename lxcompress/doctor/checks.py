"""Check what the commands need by running each part on a tiny example."""

from __future__ import annotations

import importlib.metadata
import io
import platform
import tempfile
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import lxcompress
from lxcompress.catalog.extensions import added_names
from lxcompress.catalog.formats import FORMATS
from lxcompress.catalog.runtimes import find_runtime_spec, list_serving
from lxcompress.doctor.requirements import add_extra, reinstall
from lxcompress.filenames import CONFIG_FILE, WEIGHTS_FILE
from lxcompress.quiet import quiet
from lxcompress.text import first_line

_MINI = Path(lxcompress.__file__).parent / "models" / "mini"
_FROM_SOURCE = "in the folder of the source: pip install ."


@dataclass(frozen=True)
class FeatureCheck:
    """A check of a feature: `run` returns the detail to show, or raises; `remedy` is the command that repairs it."""

    name: str
    is_core: bool
    needed_for: str
    run: Callable[[], str]
    remedy: str | None


@dataclass(frozen=True)
class CheckResult:
    """The result of a check; `needed_for` names the commands that fail without the feature."""

    name: str
    works: bool
    is_core: bool
    detail: str
    needed_for: str
    remedy: str | None


def run_check(check: FeatureCheck) -> CheckResult:
    """Run the check; an exception in it becomes its result."""
    try:
        detail, works = check.run(), True
    except Exception as problem:
        detail, works = first_line(problem), False
    return CheckResult(check.name, works, check.is_core, detail, check.needed_for, None if works else check.remedy)


def _torch_product() -> str:
    import torch

    ones = torch.ones(64, 64)
    if (ones @ ones).sum().item() != 64**3:
        raise ArithmeticError("a matrix product of ones is wrong")
    return f"torch {torch.__version__} multiplies, {torch.get_num_threads()} threads"


def _tiny_lxmert() -> str:
    """Run the smallest LXMERT once."""
    import torch

    with (
        redirect_stdout(io.StringIO()),
        quiet("torchao", "torch.utils._pytree"),
    ):  # which transformers imports where it is installed
        from transformers import LxmertConfig, LxmertForQuestionAnswering, __version__

    config = LxmertConfig(
        vocab_size=8,
        hidden_size=8,
        num_attention_heads=2,
        num_qa_labels=3,
        intermediate_size=8,
        l_layers=1,
        x_layers=1,
        r_layers=1,
        visual_feat_dim=4,
        max_position_embeddings=8,
    )
    model = LxmertForQuestionAnswering(config).eval()
    with torch.no_grad():
        answer = model(
            input_ids=torch.ones(1, 4, dtype=torch.long),
            visual_feats=torch.ones(1, 2, 4),
            visual_pos=torch.ones(1, 2, 4),
        )
    shape = tuple(answer.question_answering_score.shape)
    if shape != (1, 3):
        raise ArithmeticError(f"expected scores of shape (1, 3), got {shape}")
    return f"transformers {__version__} answers"


def _tiny_onnx() -> str:
    """Write, load and run a graph of one node."""
    import onnx

    _run_tiny_onnx("onnxruntime")
    return f"onnx {onnx.__version__} writes, onnxruntime {importlib.metadata.version('onnxruntime')} answers"


def _run_tiny_onnx(runtime: str) -> None:
    """Let `runtime` double 0.5 with a tiny graph; raise whatever goes wrong."""
    import numpy as np
    import onnx
    from onnx import TensorProto, helper

    from lxcompress.runtimes import open_session

    graph = helper.make_graph(
        [helper.make_node("Add", ["half", "half"], ["scores"])],
        "twice",
        [helper.make_tensor_value_info("half", TensorProto.FLOAT, [1, 2])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, [1, 2])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        onnx.save(model, path)
        scores = open_session(path, threads=1, runtime=runtime).answer({"half": np.full((1, 2), 0.5, dtype=np.float32)})
    if scores.tolist() != [[1.0, 1.0]]:
        raise ArithmeticError(f"expected [[1.0, 1.0]], got {scores.tolist()}")


def _openvino() -> str:
    """Run a graph in OpenVINO, and look for NNCF, which only int8 needs."""
    _run_tiny_onnx("openvino")
    return (
        f"openvino {importlib.metadata.version('openvino')} answers, nncf {importlib.metadata.version('nncf')} is here"
    )


def _executorch() -> str:
    """Load ExecuTorch's runtime, and look for the kernels that exported programs need."""
    from lxcompress.runtimes.executorch import has_xnnpack

    if not has_xnnpack():
        raise OSError("ExecuTorch is installed without XNNPACK, which exported programs need")
    return f"executorch {importlib.metadata.version('executorch')} has XNNPACK's kernels"


def _engine() -> str:
    """Write, load and run a file of one product with each instruction set."""
    import numpy as np

    from lxcompress.engine import ModelFile, instruction_sets
    from lxcompress.engine.pack import dense
    from lxcompress.engine.program import Program

    names = instruction_sets()
    program = Program()
    rows = program.rows("mask", most=2)
    half = program.load(program.floats("half", rows, width=2))
    program.scores(program.linear(half, dense(np.full((2, 2), 2, dtype=np.float32), "fp32")))
    feeds: dict[str, np.ndarray] = {
        "mask": np.ones((1, 2), dtype=np.int64),
        "half": np.full((1, 2, 2), 0.5, dtype=np.float32),
    }
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.lxe"
        program.write(path)
        model = ModelFile(path)
        for name in names:
            (scores,) = model.session(instructions=name).run(None, feeds)
            if scores.tolist() != [[2.0, 2.0]]:
                raise ArithmeticError(f"{name}: expected [[2.0, 2.0]], got {scores.tolist()}")
    return f"answers with {', '.join(names)}"


def _coreml() -> str:
    """Convert one product."""
    from lxcompress.exporters.coreml import convert_tiny

    convert_tiny()
    return f"coremltools {importlib.metadata.version('coremltools')} converts"


def _litert() -> str:
    """Convert one product, and run the file."""
    from lxcompress.exporters.litert import convert_tiny
    from lxcompress.runtimes import open_session

    with tempfile.TemporaryDirectory() as folder:
        feeds = convert_tiny(Path(folder))
        scores = open_session(Path(folder), threads=1, runtime="litert").answer(feeds)
    if scores.shape != (1, 1):
        raise ArithmeticError(f"expected scores of shape (1, 1), got {scores.shape}")
    return (
        f"litert-torch {importlib.metadata.version('litert-torch')} converts, ai-edge-litert "
        f"{importlib.metadata.version('ai-edge-litert')} answers"
    )


def _exporter() -> str:
    """Export one product with torch's dynamo exporter, which needs onnxscript."""
    import torch

    with redirect_stdout(io.StringIO()), quiet("torch.onnx"):
        program = torch.onnx.export(torch.nn.Linear(2, 1).eval(), (torch.ones(1, 2),), dynamo=True, verbose=False)
    if program is None:
        raise RuntimeError("torch.onnx.export returned nothing")
    return f"onnxscript {importlib.metadata.version('onnxscript')} exports"


def _mini_model() -> str:
    from safetensors import safe_open

    for name in (CONFIG_FILE, WEIGHTS_FILE):
        if not (_MINI / name).is_file():
            raise FileNotFoundError(f"{_MINI / name} is missing")
    with safe_open(_MINI / WEIGHTS_FILE, framework="numpy") as file:
        return f"{len(file.keys())} tensors, {(_MINI / WEIGHTS_FILE).stat().st_size / 1e6:.1f} MB"


def _pinning() -> str:
    import psutil

    if not hasattr(psutil.Process, "cpu_affinity"):
        raise OSError(f"{platform.system()} cannot pin processes to cores; timings have a warning")
    return f"{len(psutil.Process().cpu_affinity())} cores to choose from"


def _installed() -> str:
    try:
        return f"version {importlib.metadata.version('lxcompress')}"
    except importlib.metadata.PackageNotFoundError:
        raise ModuleNotFoundError("runs from its source, so the required versions are unknown") from None


def _format_check(title: str, format: str, run: Callable[[], str]) -> FeatureCheck:
    """Return the check of a built-in format; the catalog tells its commands and its extra."""
    spec = FORMATS[format]
    commands = f"export --format {format}" + (", bench" if list_serving(format) else "")
    return FeatureCheck(title, False, commands, run, add_extra(spec.extra) if spec.extra else None)


def added_checks() -> tuple[FeatureCheck, ...]:
    """Return a check of each format and each runtime that other packages add: their libraries and functions load."""
    formats = [
        FeatureCheck(f"format {name}", False, f"export --format {name}", partial(_load_format, name), None)
        for name in added_names("formats")
    ]
    runtimes = [
        FeatureCheck(f"runtime {name}", False, f"bench --runtimes {name}", partial(_load_runtime, name), None)
        for name in added_names("runtimes")
    ]
    return (*formats, *runtimes)


def _load_format(name: str) -> str:
    from lxcompress.exporters.formats import load_writer

    load_writer(name)
    return f"its writer loads; served by {', '.join(list_serving(name)) or 'no runtime here'}"


def _load_runtime(name: str) -> str:
    from lxcompress.runtimes import load_runtime

    load_runtime(name)
    return f"it loads; serves {', '.join(find_runtime_spec(name).formats)}"


CHECKS: tuple[FeatureCheck, ...] = (
    FeatureCheck("torch", True, "study, prune", _torch_product, reinstall("torch")),
    FeatureCheck("LXMERT", True, "study, prune", _tiny_lxmert, reinstall("transformers")),
    FeatureCheck("exporter", True, "export", _exporter, reinstall("onnxscript")),
    FeatureCheck("ONNX Runtime", True, "export, bench", _tiny_onnx, reinstall("onnx", "onnxruntime")),
    FeatureCheck("engine", False, "export --format engine, bench", _engine, "python -m lxcompress.engine.build"),
    _format_check("OpenVINO", "openvino", _openvino),
    _format_check("ExecuTorch", "executorch", _executorch),
    _format_check("LiteRT", "litert", _litert),
    _format_check("Core ML", "coreml", _coreml),
    FeatureCheck("mini model", True, "model.start: mini", _mini_model, f"{_FROM_SOURCE} --force-reinstall --no-deps"),
    FeatureCheck("pinned threads", False, "bench without a warning", _pinning, None),
    FeatureCheck("installed", False, "the lxcompress command", _installed, _FROM_SOURCE),
)
