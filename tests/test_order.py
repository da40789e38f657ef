"""The order of the house: a module imports only what stands above it."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import lxcompress

ORDER = (
    "text",
    "errors",
    "writing",
    "units",
    "output",
    "progress",
    "quiet",
    "stats",
    "settings",
    "catalog",
    "recipe",
    "records",
    "machine",
    "rundir",
    "checksums",
    "bitmask",
    "engine",
    "data",
    "models",
    "pruning",
    "training",
    "tickets",
    "study",
    "runtimes",
    "exporters",
    "measure",
    "doctor",
    "report",
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
    "ctypes": {"engine/library.py", "exporters/fuse.py", "measure/host/page_cache.py"},
    "hatchling": {"engine/build.py"},
    "matplotlib": {"report/chart.py"},
    "yaml": {"settings.py", "recipe/load.py"},
    "typer": {"cli"},
    "rich": {"cli"},
    "torch_pruning": {"pruning/surgery.py"},
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


def place(path: Path) -> str:
    first = path.relative_to(PACKAGE).parts[0]
    return first.removesuffix(".py")


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_imports_only_what_stands_above_it(path: Path) -> None:
    own = ORDER.index(place(path))
    for name in imported(path):
        if name.startswith("lxcompress.") and name != "lxcompress.__version__":
            other = name.split(".")[1]
            assert ORDER.index(other) <= own, f"{path} imports {name}, which stands below it"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_some_libraries_have_one_address(path: Path) -> None:
    where = str(path.relative_to(PACKAGE))
    for name in imported(path):
        allowed = ONLY_IMPORTERS.get(name.split(".")[0])
        assert allowed is None or where in allowed or place(path) in allowed, f"{path} imports {name}"


def test_every_module_has_its_place() -> None:
    assert {place(path) for path in FILES} <= set(ORDER)
