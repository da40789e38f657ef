"""Law: the same ticket gives the same bytes in any process, in every format but ort, which docs/format.md explains."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from lxcompress.engine.build import find_compiler
from lxcompress.rundir import sha256
from tests import children
from tests.export.small import save_small

ROOT = Path(__file__).resolve().parents[2]
TABLE = "table"
"""The engine's files, of layouts by the table."""
FAST = ("bitmask:fp32", "bitmask:int8", "transformers:fp32", *((TABLE,) if find_compiler() else ()))
SLOW = {
    "onnx": ("fp32", "fp16", "int8", "int8-static"),
    "onnx-sparse": ("fp32",),
    "openvino": ("fp32", "int8"),
    "executorch": ("fp32", "int8"),
    "coremltools": ("fp16", "int8"),
    "litert_torch": ("fp32", "int8"),
}
EXPORT = """
import sys
from pathlib import Path
from lxcompress.exporters.artifact import export, open_source
from lxcompress.exporters.formats import ExportOptions
source = open_source(Path("ticket"))
wanted = sys.argv[3:]
if "table" in wanted:
    import torch
    from tests.export.test_engine import write_by_table
    wanted.remove("table")
    before = torch.get_num_threads()
    torch.set_num_threads(int(sys.argv[2]))
    write_by_table(Path(sys.argv[1], "table"))
    torch.set_num_threads(before)
for each in wanted:
    format, precision = each.split(":")
    export(source, Path(sys.argv[1], f"{format}-{precision}"), ExportOptions(format=format, precision=precision))
"""


def sums(home: Path, seed: str, wanted: tuple[str, ...]) -> dict[str, str]:
    """The SHA-256 of every file that a process of its own exports: of a hash seed, or the fork of one of another.

    The engine's files are made with one thread in the fork, and with two in the other.
    """
    if seed:
        command = [sys.executable, "-c", EXPORT, f"out{seed}", "2", *wanted]
        paths = (str(ROOT), os.environ.get("PYTHONPATH", ""))
        environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
        done = subprocess.run(command, cwd=home, env=environment, capture_output=True, text=True)
    else:
        done = children.run(f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{EXPORT}", "out", 1, *wanted, cwd=home)
    assert done.returncode == 0, done.stderr[-2000:]
    out = home / f"out{seed}"
    return {path.relative_to(out).as_posix(): sha256(path) for path in out.rglob("*") if path.is_file()}


def check_same(home: Path, wanted: tuple[str, ...]) -> None:
    from lxcompress.study.options import PruneOptions
    from lxcompress.study.prune import prune_model

    start = save_small(home / "start")
    prune_model(
        str(start), home / "ticket", PruneOptions(criterion="low-magnitude", sparsity=0.9, granularity="weight")
    )
    other = "2" if os.environ.get("PYTHONHASHSEED") == "1" else "1"
    first = sums(home, "", wanted)
    assert len(first) >= 2 * len(wanted)
    assert sum(name.endswith(".lxe") for name in first) == (6 if TABLE in wanted else 0)
    assert first == sums(home, other, wanted)


def test_the_same_ticket_gives_the_same_bytes_in_two_processes(tmp_path) -> None:
    check_same(tmp_path, FAST)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("library", SLOW)
def test_so_it_does_in_every_other_format(tmp_path, library) -> None:
    if library in ("openvino", "executorch", "coremltools", "litert_torch"):
        pytest.importorskip(library)
    format = {"coremltools": "coreml", "litert_torch": "litert"}.get(library, library)
    check_same(tmp_path, tuple(f"{format}:{precision}" for precision in SLOW[library]))
