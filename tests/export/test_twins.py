"""Laws of twins: each is proven and named, none is made twice, and what cannot be made is said."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from lxcompress.cli.main import app
from lxcompress.errors import ExportError
from lxcompress.export.artifact import digest_source
from lxcompress.export.twins import Absent, Exported, export_twins, plan_twins
from lxcompress.recipe import load_recipe
from lxcompress.records import Artifact, read_record
from lxcompress.rundir import RunDir
from lxcompress.study.run import run_study

TICKET = "low-magnitude-weight-50-seed0"
SMALLER = "taylor-neuron+head-global-lr-rewind-50-seed0"
FIVE = ["dense", "dense int8", "ticket", "ticket int8", "structured"]


@pytest.fixture(scope="module")
def study(toy_recipe_file, tmp_path_factory) -> Path:
    """A run folder in which `lxcompress study` picked, and made the twins of what it picked."""
    root = tmp_path_factory.mktemp("twins") / "run"
    path = root.with_name("toy.yaml")
    path.write_text(toy_recipe_file.read_text("utf-8"), encoding="utf-8")
    # Of a retain of nearly nothing the one ticket is picked, whatever the toy learnt; the floors are not in its way.
    settings = ["seeds=[0]", "prune.criteria=[low-magnitude]", "prune.sparsities=[0.5]", "pick.retain=0.01"]
    run_study(load_recipe(path, settings), root)
    RunDir(root).floors.write_text(
        re.sub(r'"accuracy": [0-9.e-]+', '"accuracy": 0.0', RunDir(root).floors.read_text("utf-8")), encoding="utf-8"
    )
    sets = [word for each in [*settings, "export.twins=true"] for word in ("--set", each)]
    result = CliRunner().invoke(app, ["study", str(path), "--out", str(root), *sets])
    assert result.exit_code == 0, result.output
    (root / "said").write_text(result.output, encoding="utf-8")
    return root


def artifacts(root: Path) -> dict[str, Artifact]:
    found = [read_record(path, Artifact) for path in sorted(RunDir(root).artifacts.glob("*/artifact.json"))]
    return {each.twin: each for each in found}


def ticket(root: Path) -> Path:
    return root / "tickets" / TICKET


def test_a_study_ends_with_the_five_twins_of_its_pick(study) -> None:
    made = artifacts(study)
    assert sorted(made) == sorted(FIVE)
    assert (made["dense"].cell, made["ticket"].cell, made["structured"].cell) == (None, TICKET, SMALLER)
    assert [made[twin].precision for twin in FIVE] == ["fp32", "int8", "fp32", "int8", "fp32"]
    for each in made.values():
        assert each.parity.questions == 64
        assert each.accuracy.questions == 64
    assert made["structured"].size_bytes < made["dense"].size_bytes
    assert made["structured"].parameters < made["ticket"].parameters


def test_it_shows_each_beside_dense_and_the_command_that_measures_all(study) -> None:
    said = (study / "said").read_text("utf-8")
    for twin in FIVE:
        assert re.search(rf"^{twin} +[0-9.]+ [kM]B", said, re.M), said
    line = next(line for line in said.splitlines() if "lxcompress bench" in line)
    folders = shlex.split(line.split("bench", 1)[1])
    assert sorted(Path(folder).name for folder in folders) == sorted(each.name for each in artifacts(study).values())


def test_what_is_there_and_of_its_source_is_not_made_again(study) -> None:
    wanted, absent = plan_twins(ticket(study))
    before = {path: path.stat().st_mtime_ns for path in RunDir(study).artifacts.rglob("*") if path.is_file()}
    done = export_twins(wanted)
    assert absent == []
    assert [each.twin for each in done] == FIVE
    assert not any(each.is_new for each in done)
    assert before == {path: path.stat().st_mtime_ns for path in RunDir(study).artifacts.rglob("*") if path.is_file()}


def test_what_is_damaged_or_of_another_source_is_made_again(study, tmp_path) -> None:
    root = tmp_path / "run"
    shutil.copytree(study, root)
    wanted, _ = plan_twins(ticket(root))
    damaged = next(each for each in wanted if each.twin == "dense")
    with (damaged.out / "config.json").open("a", encoding="utf-8") as file:
        file.write(" ")
    shutil.rmtree(next(each for each in wanted if each.twin == "structured").out)
    config = ticket(root) / "config.json"
    config.write_text(config.read_text("utf-8") + "\n", encoding="utf-8")
    made = {each.twin: each.is_new for each in export_twins(wanted)}
    assert made == {"dense": True, "dense int8": False, "ticket": True, "ticket int8": True, "structured": True}
    assert not any(each.is_new for each in export_twins(wanted))


def test_the_digest_is_of_all_that_an_export_reads(study, tmp_path) -> None:
    folder = tmp_path / "ticket"
    shutil.copytree(ticket(study), folder)
    digests = [digest_source(folder)]
    (folder / "result.json").unlink()
    assert digest_source(folder) == digests[0]
    for name in ("config.json", "mask.safetensors", "model.safetensors"):
        with (folder / name).open("ab") as file:
            file.write(b" ")
        digests.append(digest_source(folder))
    assert len(set(digests)) == 4


def test_a_structured_ticket_has_a_masked_one_as_its_twin(study) -> None:
    wanted, absent = plan_twins(study / "twins" / SMALLER)
    assert [each.twin for each in wanted] == [*FIVE[:4], "unstructured"]
    assert wanted[-1].source.name == TICKET
    assert absent == []


def test_outside_of_a_run_what_is_missing_is_said_and_can_be_given(study, tmp_path) -> None:
    alone = tmp_path / "ticket"
    shutil.copytree(ticket(study), alone)
    wanted, absent = plan_twins(alone)
    assert [each.twin for each in wanted] == ["ticket", "ticket int8"]
    assert [each.twin for each in absent] == ["dense", "dense int8", "structured"]
    assert all("--dense" in each.why for each in absent[:2])
    assert "--structured" in absent[2].why
    run = RunDir(study)
    wanted, absent = plan_twins(alone, dense=run.dense(0), other=study / "twins" / SMALLER, out=tmp_path / "out")
    assert absent == []
    assert [each.out.name for each in wanted] == [twin.replace(" ", "-") for twin in FIVE]


def test_a_precision_that_the_format_has_not_is_said(study) -> None:
    wanted, absent = plan_twins(ticket(study), format="transformers")
    assert [each.twin for each in wanted] == ["dense", "ticket", "structured"]
    assert [each.why for each in absent] == ["format transformers has no int8"] * 2


def test_without_a_structured_ticket_the_command_that_draws_one_is_said(study, tmp_path) -> None:
    root = tmp_path / "run"
    shutil.copytree(study, root)
    shutil.rmtree(root / "twins")
    _, (absent,) = plan_twins(ticket(root))
    assert absent.twin == "structured"
    assert "lxcompress study" in absent.why


def test_one_that_fails_keeps_none_from_the_rest(study, tmp_path) -> None:
    wanted, _ = plan_twins(ticket(study), out=tmp_path / "out")
    taken = tmp_path / "out" / "ticket"
    taken.parent.mkdir()
    taken.write_text("a file in the way", encoding="utf-8")
    done = export_twins([each for each in wanted if each.twin in ("ticket", "structured")])
    assert isinstance(done[0], Absent)
    assert "is a file" in done[0].why
    assert isinstance(done[1], Exported)
    result = CliRunner().invoke(app, ["export", str(ticket(study)), "--twins", "--out", str(tmp_path / "out")])
    assert isinstance(result.exception, ExportError)
    assert "1 of 5 twins could not be exported; the others are there" in str(result.exception)
    assert "no ticket: " in result.output


@pytest.mark.parametrize(
    ("give", "sentence"),
    [
        ({"ticket": "dense"}, "is not a ticket"),
        ({"dense": "ticket"}, "is a ticket; give the dense model"),
        ({"dense": "nowhere"}, "is not a transformers folder"),
        ({"other": "ticket"}, "is of granularity weight; give a ticket of a smaller model"),
        ({"other": "dense"}, "is not a ticket"),
        ({"format": "x"}, "--format x: is unknown"),
    ],
)
def test_what_is_no_twin_is_refused(study, give, sentence) -> None:
    known = {"ticket": ticket(study), "dense": RunDir(study).dense(0), "nowhere": study / "nowhere"}
    given = {name: known.get(value, value) for name, value in give.items()}
    with pytest.raises(ExportError, match=re.escape(sentence)):
        plan_twins(given.pop("ticket", ticket(study)), **given)


@pytest.mark.parametrize(
    "options",
    [
        ["--onnx", "--dense", "x"],
        ["--twins", "--precision", "int8"],
        ["--twins", "--opset", "17"],
        ["--twins", "--no-fuse"],
    ],
)
def test_options_that_contradict_each_other_are_wrong_usage(study, options) -> None:
    assert CliRunner().invoke(app, ["export", str(ticket(study)), *options]).exit_code == 2
