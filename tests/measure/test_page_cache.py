"""A file that was dropped is not in memory, one that was read is, and a memory file system lets nothing go."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest

from lxcompress.measure.host.page_cache import drop, read_through, resident_share
from lxcompress.measure.messages import ColdLoadRequest
from lxcompress.measure.process import load_cold
from tests.conftest import FLUSH

MEMORY = Path("/dev/shm")

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux drops single files from its cache")


@pytest.fixture(autouse=True)
def real_flush(monkeypatch) -> None:
    """A page that is not on the disk cannot be dropped."""
    monkeypatch.setattr(os, "fsync", FLUSH)


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / "a", tmp_path / "b", tmp_path / "empty"]
    for path, size in zip(paths, (3_000_001, 5_000, 0), strict=True):
        path.write_bytes(os.urandom(size))
    return paths


def test_dropped_pages_are_gone_and_read_ones_are_back(files: list[Path]) -> None:
    assert resident_share(files) == 1
    if drop(files) == 1:
        pytest.skip(f"the file system of {files[0]} lets nothing go")
    assert resident_share(files) == 0
    read_through(files[1:])
    assert 0 < resident_share(files) < 0.01
    read_through(files)
    assert resident_share(files) == 1


def test_nothing_is_no_part_of_nothing(tmp_path: Path) -> None:
    assert drop([]) == resident_share([]) == 0


@pytest.mark.skipif(not os.access(MEMORY, os.W_OK), reason="this system has no file system in memory")
def test_a_file_that_stays_in_memory_has_no_cold_load(small: Path) -> None:
    folder = MEMORY / f"lxcompress-test-{os.getpid()}"
    shutil.copytree(small, folder)
    try:
        loaded = load_cold(ColdLoadRequest(str(folder), "onnxruntime", 1, [0], ["model.onnx"]))
    finally:
        shutil.rmtree(folder)
    assert (loaded.load_s, loaded.resident) == (None, 1)


def test_a_cold_load_is_timed_and_its_process_ends(big: Path) -> None:
    loaded = load_cold(ColdLoadRequest(str(big), "onnxruntime", 1, [0], ["model.onnx"]))
    if loaded.load_s is None:
        pytest.skip(f"the file system of {big} lets nothing go")
    assert loaded.load_s > 0
    assert loaded.resident < 0.02
