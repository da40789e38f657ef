"""Law: a file of a ticket, a dense run or a seed that was changed is refused in one sentence, made again with the same
numbers, or gives the same answer: never another one, and never a traceback.
"""

from __future__ import annotations

import hashlib
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from lxcompress.cli.main import app
from lxcompress.data.split import Inputs
from lxcompress.data.tasks import load_task
from lxcompress.data.tokens import tokenize
from lxcompress.errors import LxError, RunError
from lxcompress.exporters.artifact import open_source
from lxcompress.measure.plan import read_artifacts
from lxcompress.models.checkpoints import load_model
from lxcompress.models.vocabulary import load_vocabulary
from lxcompress.recipe import Recipe, ScenesData, load_recipe
from lxcompress.records import Artifact
from lxcompress.rundir import RunDir, read_run
from lxcompress.study.reporter import SilentReporter
from lxcompress.study.run import run_study
from lxcompress.tickets import load_ticket

CELL, OTHER, LATE = "low-magnitude-weight-50-seed0", "low-magnitude-weight-50-seed1", "late-50-seed0"
TICKET = ("config.json", "vocab.txt", "model.safetensors", "mask.safetensors", "ticket.json", "result.json")
DENSE = ("config.json", "vocab.txt", "model.safetensors", "dense.json")
TOKENIZER = '{"tokenizer_class": "BertTokenizer", "do_lower_case": false}'


@pytest.fixture(scope="module")
def recipe(tiny_recipe_file) -> Recipe:
    late = "{criterion: low-magnitude, name: late, rewind: step, sparsities: [0.5]}"
    overrides = ["prune.criteria=[low-magnitude]", f"prune.methods=[{late}]", "train.epochs=1", "data.train=64"]
    return load_recipe(tiny_recipe_file, overrides)


@pytest.fixture(scope="module")
def run(recipe, tmp_path_factory) -> Path:
    """A run folder of two seeds, a ticket each; the cells of late rewinding are missing."""
    root = tmp_path_factory.mktemp("tamper") / "run"
    run_study(recipe, root, only="low-magnitude-weight-50-*")
    return root


@pytest.fixture(scope="module")
def late(run, recipe, tmp_path_factory) -> dict[str, torch.Tensor]:
    """Return the weights of the missing cell, if nothing was changed."""
    root = tmp_path_factory.mktemp("late") / "run"
    shutil.copytree(run, root)
    run_study(recipe, root, only=LATE)
    return load_file(root / "tickets" / LATE / "model.safetensors")


@pytest.fixture(scope="module")
def inputs() -> Inputs:
    return load_task(ScenesData(kind="scenes", train=4, valid=20)).valid.inputs(torch.arange(20))


@pytest.fixture
def copy(run, tmp_path) -> Path:
    shutil.copytree(run, tmp_path / "run")
    return tmp_path / "run"


def flip(path: Path, other: Path, chance: random.Random) -> None:
    data = bytearray(path.read_bytes())
    data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    path.write_bytes(data)


def cut(path: Path, other: Path, chance: random.Random) -> None:
    path.write_bytes(path.read_bytes()[: chance.randrange(1, path.stat().st_size)])


def empty(path: Path, other: Path, chance: random.Random) -> None:
    path.write_bytes(b"")


def swap(path: Path, other: Path, chance: random.Random) -> None:
    shutil.copyfile(other, path)


CHANGES: tuple[Callable[[Path, Path, random.Random], None], ...] = (flip, flip, flip, cut, empty, swap)


def said(error: LxError, path: Path) -> None:
    text = str(error)
    assert "\n" not in text
    assert len(text) < 500
    assert str(path.parent) in text, text


def answers(folder: Path, inputs: Inputs) -> list[str]:
    """Digests of what each way of reading a model folder gives; an error of a reader is told by its class."""
    scores = []
    readers = (load_ticket, load_model, open_source) if (folder / "ticket.json").exists() else (load_model, open_source)
    for read in readers:
        found = read(folder)
        model = found if hasattr(found, "module") else found.model
        with torch.no_grad():
            answer = model.family.answer(model.module, inputs).numpy().tobytes()
        words = tokenize(["is there a red cube", "How many?"], load_vocabulary(str(folder)), 20).tobytes()
        labels = str(sorted(model.config.id2label.items())).encode()
        about = str(getattr(found, "accuracy", None)) + str(getattr(found, "data", None))
        scores.append(hashlib.sha256(answer + words + labels + about.encode()).hexdigest())
    return scores


def check_folder(copy: Path, inputs: Inputs, folder: str, other: str, name: str, seed: int) -> None:
    """Change one file of a folder in each way; every reader gives what it gave, or one sentence."""
    path, whole = copy / folder / name, (copy / folder / name).read_bytes()
    before = answers(copy / folder, inputs)
    for number, change in enumerate(CHANGES):
        change(path, copy / other / name, random.Random(f"{name} {seed} {number}"))
        if path.read_bytes() != whole:
            try:
                assert answers(copy / folder, inputs) == before, (name, change)
            except LxError as error:
                said(error, path)
        path.write_bytes(whole)


@pytest.mark.parametrize("name", TICKET)
def test_a_changed_ticket_never_answers_otherwise(copy, inputs, name) -> None:
    check_folder(copy, inputs, f"tickets/{CELL}", f"tickets/{OTHER}", name, 0)


@pytest.mark.parametrize("name", DENSE)
def test_a_changed_dense_run_never_answers_otherwise(copy, inputs, name) -> None:
    check_folder(copy, inputs, "seeds/0/dense", "seeds/1/dense", name, 0)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 31))
def test_three_hundred_more_changes(copy, inputs, seed) -> None:
    for name in TICKET:
        check_folder(copy, inputs, f"tickets/{CELL}", f"tickets/{OTHER}", name, seed)
    for name in DENSE:
        check_folder(copy, inputs, "seeds/0/dense", "seeds/1/dense", name, seed)


@pytest.mark.parametrize("folder", [f"tickets/{CELL}", "seeds/0/dense"])
@pytest.mark.parametrize("name", ["tokenizer_config.json", "tokenizer.json", "adapter_config.json", "surgery.json"])
def test_a_file_that_was_added_is_refused(copy, inputs, folder, name) -> None:
    (copy / folder / name).write_text(TOKENIZER, encoding="utf-8")
    with pytest.raises(LxError, match="was added after") as caught:
        answers(copy / folder, inputs)
    said(caught.value, copy / folder / name)


@pytest.mark.parametrize("folder", [f"tickets/{CELL}", "seeds/0/dense"])
def test_an_edited_config_is_named_with_what_to_do(copy, folder) -> None:
    path = copy / folder / "config.json"
    path.write_text(path.read_text("utf-8").replace('"gelu"', '"relu"'), encoding="utf-8")
    for read in (load_model, open_source):
        with pytest.raises(LxError, match=r"config\.json: was changed after .*sha256 .*; restore it, or"):
            read(copy / folder)


def test_records_of_a_run_are_as_written_or_refused_or_not_finished(copy) -> None:
    """A changed number, another cell's record, half a file: no report has them."""
    before, chance = read_run(copy), random.Random(0)
    for name, other in (
        (f"tickets/{CELL}/result.json", f"tickets/{OTHER}/result.json"),
        ("seeds/0/dense/dense.json", "seeds/1/dense/dense.json"),
        ("floors.json", "machine.json"),
    ):
        path, whole = copy / name, (copy / name).read_bytes()
        for change in (*[flip] * 20, cut, empty, swap):
            change(path, copy / other, chance)
            try:
                after = read_run(copy)
                assert after.results.items() <= before.results.items()
                assert after.dense.items() <= before.dense.items()
                assert after.floors == before.floors
            except LxError as error:
                said(error, path)
            path.write_bytes(whole)


class Remarks(SilentReporter):
    """A StudyReporter that keeps the remarks."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def remark(self, what: str) -> None:
        self.said.append(what)


def nothing_finite(path: Path) -> None:
    tensors = load_file(path)
    name = max(tensors, key=lambda each: tensors[each].numel())
    tensors[name].view(-1)[0] = float("nan")
    save_file(tensors, path)


def other_shape(path: Path) -> None:
    tensors = load_file(path)
    name = max(tensors, key=lambda each: tensors[each].numel())
    save_file({**tensors, name: tensors[name][:-1].clone()}, path)


SEED = {
    "flip the start": lambda run: flip(run.start(0), run.start(1), random.Random(1)),
    "another seed's start": lambda run: shutil.copyfile(run.start(1), run.start(0)),
    "no start": lambda run: run.start(0).unlink(),
    "empty the start": lambda run: run.start(0).write_bytes(b""),
    "a start of another shape": lambda run: other_shape(run.start(0)),
    "a start that is not finite": lambda run: nothing_finite(run.start(0)),
    "flip the snapshot": lambda run: flip(run.snapshot(0, 1), run.snapshot(1, 1), random.Random(2)),
    "another seed's snapshot": lambda run: shutil.copyfile(run.snapshot(1, 1), run.snapshot(0, 1)),
    "empty the snapshot": lambda run: run.snapshot(0, 1).write_bytes(b""),
    "a snapshot of another shape": lambda run: other_shape(run.snapshot(0, 1)),
    "empty dense.json": lambda run: run.dense_result(0).write_bytes(b""),
    "flip the dense model": lambda run: flip(run.dense(0) / "model.safetensors", run.start(0), random.Random(3)),
    "another seed's dense.json": lambda run: shutil.copyfile(run.dense_result(1), run.dense_result(0)),
    "a dense model that is gone": lambda run: (run.dense(0) / "model.safetensors").unlink(),
}
REFUSED = {"flip the dense model", "another seed's dense.json", "a dense model that is gone"}


@pytest.mark.parametrize("what", SEED)
def test_a_changed_seed_folder_gives_the_same_ticket_or_is_refused(copy, recipe, late, what) -> None:
    SEED[what](RunDir(copy))
    watch = Remarks()
    if what in REFUSED:
        with pytest.raises(RunError) as caught:
            run_study(recipe, copy, only=LATE, progress=watch)
        said(caught.value, RunDir(copy).dense_result(0))
        return
    run_study(recipe, copy, only=LATE, progress=watch)
    found = load_file(copy / "tickets" / LATE / "model.safetensors")
    assert found.keys() == late.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in late.items())
    assert what == "no start" or len(watch.said) == 1, watch.said


@pytest.mark.parametrize("damage", [b"", b'{"version": 1, "cell": "low'])
def test_a_record_that_is_not_whole_is_not_finished_and_is_made_again(copy, recipe, damage) -> None:
    path, watch = copy / "tickets" / CELL / "result.json", Remarks()
    before = read_run(copy).results[CELL]
    path.write_bytes(damage)
    assert CELL not in read_run(copy).results
    assert run_study(recipe, copy, only=CELL, progress=watch) == 1
    assert read_run(copy).results[CELL].retrained == before.retrained
    assert any(str(path) in line and "done again" in line for line in watch.said)


def test_a_failed_first_start_refuses_nothing(recipe, tiny_recipe_file, tmp_path) -> None:
    """The recipe is written when data and model were read; and an older folder where it was not is taken over."""
    wrong = load_recipe(tiny_recipe_file, [f"model.start={tmp_path / 'mistyped'}"])
    with pytest.raises(LxError):
        run_study(wrong, tmp_path / "run")
    assert not (tmp_path / "run" / "recipe.yaml").exists()


def test_what_another_recipe_began_reaches_no_ticket(run, recipe, tiny_recipe_file, tmp_path) -> None:
    """Start weights, floors, a snapshot, a checkpoint and a half-made ticket of another recipe, and no finished run."""
    root = tmp_path / "run"
    shutil.copytree(run, root)
    for path in (*root.rglob("dense.json"), *root.rglob("result.json"), *root.rglob("ticket.json")):
        path.unlink()
    for path in (root / "seeds/0/start.safetensors", root / "seeds/0/step-1.safetensors"):
        save_file({name: tensor + 1 for name, tensor in load_file(path).items()}, path)
    shutil.copyfile(root / "seeds/0/start.safetensors", root / "seeds/0/dense/checkpoint.safetensors")
    (root / "floors.json").write_text("{}", encoding="utf-8")
    text = (root / "recipe.yaml").read_text("utf-8")
    (root / "recipe.yaml").write_text(text.replace("learning_rate: 0.001", "learning_rate: 0.5"), encoding="utf-8")
    watch = Remarks()
    run_study(recipe, root, only=CELL, progress=watch)
    found, expected = (load_file(each / "tickets" / CELL / "model.safetensors") for each in (root, run))
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())
    assert not (root / "tickets" / OTHER).exists()
    assert any("another recipe began here" in line for line in watch.said)
    with pytest.raises(RunError, match="was made with"):  # now it has a ticket
        run_study(load_recipe(tiny_recipe_file, ["train.epochs=3"]), root)


@pytest.fixture(scope="module")
def artifacts(run, tmp_path_factory) -> Path:
    """Two tickets as bitmask artifacts."""
    out = tmp_path_factory.mktemp("artifacts")
    for cell in (CELL, OTHER):
        options = ["--format", "bitmask", "--out", str(out / cell)]
        made = CliRunner().invoke(app, ["export", str(run / "tickets" / cell), *options])
        assert made.exit_code == 0, made.output
    return out


@pytest.mark.parametrize("name", ["bitmask.safetensors", "config.json", "vocab.txt", "ticket.json", "artifact.json"])
def test_a_changed_artifact_is_refused_or_the_same(artifacts, tmp_path, name) -> None:
    """By whoever measures, scores or loads it; its own record is compared with itself and with its files."""
    shutil.copytree(artifacts / CELL, tmp_path / CELL)
    path, whole = tmp_path / CELL / name, (tmp_path / CELL / name).read_bytes()
    before = read_artifacts([tmp_path / CELL])[0].record
    for number, change in enumerate(CHANGES):
        change(path, artifacts / OTHER / name, random.Random(f"{name} {number}"))
        for read in (lambda: read_artifacts([tmp_path / CELL])[0].record, lambda: load_model(tmp_path / CELL)):
            try:
                found = read()
                assert not isinstance(found, Artifact) or found == before
                assert name == "artifact.json" or path.read_bytes() == whole
            except LxError as error:
                said(error, path)
        path.write_bytes(whole)
