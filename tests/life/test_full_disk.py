"""Laws of a full disk: each command names the file in one sentence, and leaves no partial output."""

from __future__ import annotations

import json
import resource
import subprocess
from pathlib import Path

import pytest
import yaml

from tests import children
from tests.data.regions.pictures import pictures, row, write_tsv
from tests.export.small import save_small

LIMITED = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({{0}}, {{0}}))\n{children.COMMAND}"
"""The program of a command in which no file may grow beyond so many bytes."""
WORDS = (
    "Traceback",
    "report it with",
    "report this",
    "is damaged",
    "SafetensorError",
    "os error",
    "Errno",
    ".lxcompress-",
)
EXPORTS = ("onnx", "ort", "openvino", "executorch", "coreml", "engine", "bitmask", "transformers")


def run(words: list[str], limit: int) -> subprocess.CompletedProcess[str]:
    """Run a command in which no file may grow beyond `limit` bytes."""
    return children.run(LIMITED.format(limit), *words)


def check(words: list[str], out: Path, limit: int) -> None:
    """Assert the law for one command, whose output goes below `out`."""
    done = run(words, limit)
    assert done.returncode == 1, f"{words}: {done.stdout}{done.stderr}"
    said = done.stderr.strip().splitlines()[-1]
    assert said.startswith("error: "), said
    assert len(said) < 500
    assert "cannot be written" in said, said
    assert str(out) in said, said
    assert not any(word in done.stdout + done.stderr for word in WORDS), done.stdout + done.stderr
    assert list(out.iterdir()) == []


@pytest.fixture
def recipe(toy_start, tmp_path) -> Path:
    tree = {"name": "small", "data": {"kind": "scenes", "train": 32, "valid": 32}, "model": {"start": str(toy_start)}}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(tree), encoding="utf-8")
    return tmp_path / "recipe.yaml"


@pytest.fixture
def model(tmp_path) -> Path:
    return save_small(tmp_path / "model")


@pytest.fixture
def out(tmp_path) -> Path:
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


@pytest.mark.skipif(not hasattr(resource, "RLIMIT_FSIZE"), reason="needs a limit on the size of files")
def test_prune_and_prepare_name_what_could_not_be_written(model, out, tmp_path) -> None:
    check(["prune", str(model), "--sparsity", "0.5", "--out", str(out / "ticket")], out, 3000)
    regions = write_tsv(tmp_path / "regions.tsv", list(map(row, pictures(200))))
    done = run(["data", "prepare", str(regions), "--objects", "6", "--out", str(out / "store")], 3000)
    assert done.returncode == 1
    assert f"{out / 'store.part'}: cannot be written" in done.stderr
    assert "which resumes" in done.stderr


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("format", EXPORTS)
def test_each_format_names_what_could_not_be_written(format, model, out) -> None:
    for limit in (10, 3000):
        check(["export", str(model), "--format", format, "--out", str(out / "artifact")], out, limit)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_study_and_pretrain_go_on_once_there_is_room(recipe, out) -> None:
    done = run(["study", str(recipe), "--out", str(out / "run")], 30_000)
    assert done.returncode == 1
    assert "cannot be written" in done.stderr.strip().splitlines()[-1]
    assert not any(word in done.stderr for word in WORDS), done.stderr
    assert not any(path.name.startswith(".lxcompress-") for path in out.rglob("*"))
    status = run(["status", str(out / "run"), "--json"], 1 << 30)
    assert status.returncode == 1 or not json.loads(status.stdout)["busy"]
