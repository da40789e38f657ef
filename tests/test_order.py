"""The order of the house: a module imports only what stands above it."""

from __future__ import annotations

import ast
from pathlib import Path

import lxcompress

ORDER = (
    "filenames",
    "text",
    "errors",
    "writing",
    "claims",
    "leases",
    "units",
    "shapes",
    "unset",
    "output",
    "progress",
    "helper_process",
    "quiet",
    "stats",
    "settings",
    "catalog",
    "recipe",
    "records",
    "machine",
    "rundir",
    "checksums",
    "confidence",
    "bitmask",
    "engine",
    "data",
    "extractors",
    "models",
    "pruning",
    "training",
    "tickets",
    "trackers",
    "study",
    "runtimes",
    "exporters",
    "measure",
    "doctor",
    "analysis",
    "report",
    "web",
    "workflow",
    "api",
    "cli",
    "__main__",
)
ONLY_IMPORTERS = {
    "onnxruntime": {
        "runtimes/onnxruntime.py",
        "doctor/devices.py",
        "exporters/quantise.py",
        "exporters/fuse.py",
        "exporters/ort.py",
    },
    "openvino": {"runtimes/openvino.py", "exporters/openvino.py"},
    "nncf": {"exporters/openvino.py"},
    "executorch": {"runtimes/executorch.py", "exporters/executorch.py"},
    "coremltools": {"exporters/coreml.py"},
    "ai_edge_litert": {"runtimes/litert.py", "exporters/litert.py"},
    "ai_edge_quantizer": {"exporters/litert.py"},
    "litert_torch": {"exporters/litert.py"},
    "ctypes": {"engine/library.py", "exporters/fuse.py", "measure/host/page_cache.py"},
    "hatchling": {"engine/build.py"},
    "matplotlib": {"report/chart/drawing.py", "report/chart/axes.py"},
    "ray": {"study/ray_pool.py"},
    "submitit": {"cli/submit.py"},
    "yaml": {"settings.py", "recipe/load.py"},
    "typer": {"cli"},
    "rich": {"cli"},
    "torch_pruning": {"pruning/surgery.py"},
    "PIL": {"extractors/photo.py"},
    "pyarrow": {"data/tables.py"},
    "trackio": {"trackers.py"},
    "mlflow": {"trackers.py"},
    "wandb": {"trackers.py"},
}
PACKAGE = Path(lxcompress.__file__).parent
FILES = sorted(path for path in PACKAGE.rglob("*.py") if path.name != "__init__.py" or path.parent != PACKAGE)


def imported(path: Path) -> set[str]:
    """Every module that a file imports, at its top or inside a function."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= (
                {f"{node.module}.{alias.name}" for alias in node.names}
                if node.module == "lxcompress"
                else {node.module}
            )
    return names


IMPORTED = {path: imported(path) for path in FILES}


def place(path: Path) -> str:
    first = path.relative_to(PACKAGE).parts[0]
    return first.removesuffix(".py")


def test_a_module_imports_only_what_stands_above_it() -> None:
    wrong = [
        f"{path.relative_to(PACKAGE)} imports {name}, which stands below it"
        for path, names in IMPORTED.items()
        for name in names
        if name.startswith("lxcompress.") and name != "lxcompress.__version__"
        if ORDER.index(name.split(".")[1]) > ORDER.index(place(path))
    ]
    assert not wrong


def test_some_libraries_have_one_address() -> None:
    wrong = [
        f"{path.relative_to(PACKAGE)} imports {name}"
        for path, names in IMPORTED.items()
        for name in names
        for allowed in [ONLY_IMPORTERS.get(name.split(".")[0])]
        if allowed is not None and not {str(path.relative_to(PACKAGE)), place(path)} & allowed
    ]
    assert not wrong


def test_every_module_has_its_place() -> None:
    assert {place(path) for path in FILES} <= set(ORDER)
