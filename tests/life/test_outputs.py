"""Laws of what commands write: never onto what they read, and what is refused changes nothing."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from lxcompress.cli.main import app
from lxcompress.errors import LxError
from tests.data.regions.pictures import pictures, row, write_tsv

FILE, FOLDER, RUN = "file", "folder", "run"
COMMANDS = {
    "predict {model} {recipe} --out {out}": (FILE, ("model", "recipe", "start")),
    "predict {model} {recipe} --questions {questions} --out {out}": (FILE, ("questions",)),
    "score {questions} --questions {recipe} --annotations {other} --per-question {out}": (
        FILE,
        ("questions", "recipe", "other"),
    ),
    "bench {model} {other_model} --baseline {other} --out {out}": (FILE, ("model", "other_model", "other")),
    "prune {model} --sparsity 0.5 --out {out}": (FOLDER, ("model",)),
    "prune {model} --criterion taylor --sparsity 0.5 --calibrate {recipe} --out {out}": (FOLDER, ("recipe", "start")),
    "prune {model} --like {other_model} --out {out}": (FOLDER, ("other_model",)),
    "export {model} --onnx --out {out}": (FOLDER, ("model",)),
    "export {model} --onnx --recipe {recipe} --out {out}": (FOLDER, ("recipe", "start")),
    "export {model} --twins --dense {other_model} --out {out}": (FOLDER, ("model", "other_model")),
    "pretrain {pretrain} --out {out}": (FOLDER, ("pretrain",)),
    "data prepare {regions} --out {out}": (FOLDER, ("regions",)),
    "study {recipe} --out {out}": (RUN, ("recipe", "start")),
    "data fetch clevr --to {out}": (RUN, ()),
}
"""Command -> what it writes, and which of its inputs are tried as its output."""


@pytest.fixture
def world(tiny_start, tiny_recipe_file, tmp_path) -> dict[str, Path]:
    """Copies of what commands read."""
    for name in ("model", "other_model"):
        shutil.copytree(tiny_start, tmp_path / "inputs" / name)
    start = shutil.copytree(tiny_start, tmp_path / "inputs/start")
    text = tiny_recipe_file.read_text("utf-8").replace(str(tiny_start), str(start))
    (tmp_path / "inputs/recipe.yaml").write_text(text, encoding="utf-8")
    (tmp_path / "inputs/pretrain.yaml").write_text("name: mini\n", encoding="utf-8")
    for name in ("questions.json", "other.json"):
        (tmp_path / "inputs" / name).write_text("[]\n", encoding="utf-8")
    write_tsv(tmp_path / "inputs/regions.tsv", list(map(row, pictures(3))))
    found = {path.stem: path for path in (tmp_path / "inputs").iterdir()}
    (tmp_path / "inputs/loop").symlink_to("loop")
    return found


def digest(folder: Path) -> dict[str, str]:
    """Every file, folder and link below `folder`, and what is in it."""
    return {
        path.relative_to(folder).as_posix(): (
            f"-> {path.readlink()}"
            if path.is_symlink()
            else hashlib.sha256(path.read_bytes()).hexdigest()
            if path.is_file()
            else "folder"
        )
        for path in sorted(folder.rglob("*"))
    }


def bad_outputs(kind: str, inputs: list[Path], folder: Path) -> list[Path]:
    """Outputs that no command may take: an input by any of its names, a path in it or around it, and wrong kinds."""
    found = [folder / "loop", folder / "loop/new", folder / ("x" * 300), folder / "other.json/new"]
    found += [folder] if kind == FILE else [folder / "other.json"]
    for number, path in enumerate(inputs):
        soft = folder.parent / f"soft{number}"
        soft.symlink_to(path)
        found += [path, soft, path.parent / "model" / ".." / path.name]
        if path.is_dir():
            found += [path / "new", soft / "new", path / "deep/new"]
        else:
            hard = folder.parent / f"hard{number}"
            hard.hardlink_to(path)
            found.append(hard)
        if kind == FOLDER:
            found.append(path.parent)
    return found


@pytest.mark.parametrize("command", COMMANDS)
def test_no_command_writes_onto_what_it_reads(command, world, tmp_path) -> None:
    kind, names = COMMANDS[command]
    outputs = bad_outputs(kind, [world[name] for name in names], tmp_path / "inputs")
    before = digest(tmp_path)
    for out in outputs:
        words = [word.format(**world, out=out) for word in command.split()]
        result = CliRunner().invoke(app, words)
        assert isinstance(result.exception, LxError), f"{words}: {result.output} {result.exception!r}"
        assert len(str(result.exception)) < 500
        assert str(out)[:40] in str(result.exception), words
        assert digest(tmp_path) == before, words


def test_a_study_does_not_replace_its_own_recipe(world, tmp_path) -> None:
    before = digest(tmp_path)
    result = CliRunner().invoke(app, ["study", str(world["recipe"]), "--out", str(tmp_path / "inputs")])
    assert "would be replaced" in str(result.exception)
    assert digest(tmp_path) == before


@pytest.mark.parametrize("name", ["ticket.json", "artifact.json", "config.json"])
def test_a_study_writes_into_no_ticket_model_or_artifact(world, tmp_path, name) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / name).write_text("{}", encoding="utf-8")
    before = digest(tmp_path)
    result = CliRunner().invoke(app, ["study", str(world["recipe"]), "--out", str(tmp_path / "other")])
    assert isinstance(result.exception, LxError)
    assert f"it has {name}" in str(result.exception)
    assert digest(tmp_path) == before
