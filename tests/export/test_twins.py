"""Laws of twins: each is proven and named, none is made twice, and what cannot be made is said."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from lxcompress import machine
from lxcompress.cli.main import app
from lxcompress.cli.twins import show_twins
from lxcompress.errors import ExportError
from lxcompress.exporters.artifact import digest_source
from lxcompress.exporters.quantise import to_int8
from lxcompress.exporters.twins import MissingTwin, TwinExport, export_twins, find_fresh, plan_twins
from lxcompress.filenames import TICKET_FILE
from lxcompress.recipe import load_recipe
from lxcompress.records import Artifact, Provenance, read_record
from lxcompress.rundir import RunDir, sha256, write_record
from lxcompress.study.run import run_study
from lxcompress.workflow import twins as workflow
from lxcompress.workflow.twins import TwinSources
from tests.export.small import save_ticket

TICKET = "low-magnitude-weight-50-seed0"
SMALLER = "taylor-neuron+head-global-lr-rewind-50-seed0"
FORMAT = "bitmask"
"""The one that is written in no time, and has an int8."""
SIX = ["dense", "dense int8", "ticket", "ticket int8", "structured", "structured int8"]


@pytest.fixture(scope="module")
def study(toy_recipe_file, tmp_path_factory) -> Path:
    """A run folder in which `lxcompress study` picked, and made the twins of what it picked."""
    root = tmp_path_factory.mktemp("twins") / "run"
    path = root.with_name("toy.yaml")
    path.write_text(toy_recipe_file.read_text("utf-8"), encoding="utf-8")
    # Of a retain of nearly nothing the one ticket is picked, whatever the toy learnt; the floors are not in its way.
    settings = ["seeds=[0]", "prune.criteria=[low-magnitude]", "prune.sparsities=[0.5]", "pick.retain=0.01"]
    settings += [f"export.format={FORMAT}"]
    run_study(load_recipe(path, settings), root)
    text = re.sub(r'"accuracy": [0-9.e-]+', '"accuracy": 0.0', RunDir(root).floors.read_text("utf-8"))
    RunDir(root).floors.write_text(_unsealed(text), encoding="utf-8")
    sets = [word for each in [*settings, "export.twins=true"] for word in ("--set", each)]
    result = CliRunner().invoke(app, ["study", str(path), "--out", str(root), *sets])
    assert result.exit_code == 0, result.output
    (root / "said").write_text(result.output, encoding="utf-8")
    return root


@pytest.fixture
def two_cores(monkeypatch) -> None:
    monkeypatch.setattr(machine, "usable_cores", lambda: (0, 1))


def models(root: Path) -> dict[Path, str]:
    """Return the checksum of each file of each artifact, except for its record, which has the time of the export."""
    paths = (path for path in RunDir(root).artifacts.glob("*/*") if path.name != "artifact.json")
    return {path.relative_to(root): sha256(path) for path in paths}


def artifacts(root: Path) -> dict[str, Artifact]:
    paths = sorted(RunDir(root).artifacts.glob("*/artifact.json"))
    return {each.twin: each for each in (read_record(path, Artifact) for path in paths)}


def ticket(root: Path) -> Path:
    return root / "tickets" / TICKET


def test_a_study_ends_with_the_six_twins_of_its_pick(study) -> None:
    made = artifacts(study)
    assert sorted(made) == sorted(SIX)
    assert (made["dense"].cell, made["ticket"].cell, made["structured"].cell) == (None, TICKET, SMALLER)
    assert [made[twin].precision for twin in SIX] == ["fp32", "int8"] * 3
    for each in made.values():
        assert each.parity.questions == 64
        assert each.accuracy.questions == 64
    assert made["structured"].size_bytes < made["dense"].size_bytes
    assert made["structured"].parameters < made["ticket"].parameters


def test_it_shows_each_beside_dense_and_the_command_that_measures_all(study) -> None:
    said = (study / "said").read_text("utf-8")
    for twin in SIX:
        assert re.search(rf"^{twin} +[0-9.]+ [kM]B", said, re.M), said
    line = next(line for line in said.splitlines() if "lxcompress bench" in line)
    folders = shlex.split(line.split("bench", 1)[1])
    assert sorted(Path(folder).name for folder in folders) == sorted(each.name for each in artifacts(study).values())


def test_what_is_there_and_of_its_source_is_not_made_again(study) -> None:
    wanted, absent = plan_twins(ticket(study), format=FORMAT)
    before = {path: path.stat().st_mtime_ns for path in RunDir(study).artifacts.rglob("*") if path.is_file()}
    done = export_twins(wanted)
    assert absent == []
    assert [each.twin for each in done] == SIX
    assert not any(each.is_new for each in done)
    assert before == {path: path.stat().st_mtime_ns for path in RunDir(study).artifacts.rglob("*") if path.is_file()}


def draw_again(folder) -> None:
    """Give the ticket another config.json that its record names, as a ticket has that was drawn again."""
    config = folder / "config.json"
    config.write_text(config.read_text("utf-8") + "\n", encoding="utf-8")
    provenance = read_record(folder / TICKET_FILE, Provenance)
    write_record(
        folder / TICKET_FILE, provenance.model_copy(update={"files": provenance.files | {config.name: sha256(config)}})
    )


def test_what_is_damaged_or_of_another_source_is_made_again(study, tmp_path) -> None:
    root = tmp_path / "run"
    shutil.copytree(study, root)
    wanted, _ = plan_twins(ticket(root), format=FORMAT)
    damaged = next(each for each in wanted if each.twin == "dense")
    with (damaged.out / "config.json").open("a", encoding="utf-8") as file:
        file.write(" ")
    shutil.rmtree(next(each for each in wanted if each.twin == "structured").out)
    draw_again(ticket(root))
    made = {each.twin: each.is_new for each in export_twins(wanted)}
    assert made == {
        "dense": True,
        "dense int8": False,
        "ticket": True,
        "ticket int8": True,
        "structured": True,
        "structured int8": False,
    }
    assert not any(each.is_new for each in export_twins(wanted))


def test_what_an_earlier_version_exported_is_up_to_date_until_its_source_changes(study, tmp_path) -> None:
    root = tmp_path / "run"
    shutil.copytree(study, root)
    wanted, _ = plan_twins(ticket(root), format=FORMAT)
    for each in wanted:
        record = json.loads(_unsealed((each.out / "artifact.json").read_text("utf-8")))
        record["source_sha256"] = digest_source(each.source, with_words=False)
        (each.out / "artifact.json").write_text(json.dumps(record), encoding="utf-8")
    assert not any(each.is_new for each in export_twins(wanted))
    config = ticket(root) / "config.json"
    config.write_text(config.read_text("utf-8") + "\n", encoding="utf-8")
    stale = [each.twin for each in wanted if find_fresh(each, digest_source(each.source)) is None]
    assert stale == ["ticket", "ticket int8"]


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
    without_words = digest_source(folder, with_words=False)
    (folder / "vocab.txt").write_text("changed\n", encoding="utf-8")
    digests.append(digest_source(folder))
    assert len(set(digests)) == 5
    assert digest_source(folder, with_words=False) == without_words


def test_a_structured_ticket_has_a_masked_one_as_its_twin(study) -> None:
    wanted, absent = plan_twins(study / "twins" / SMALLER, format=FORMAT)
    assert [each.twin for each in wanted] == [*SIX[:4], "unstructured", "unstructured int8"]
    assert wanted[-1].source.name == TICKET
    assert absent == []


def test_outside_of_a_run_what_is_missing_is_said_and_can_be_given(study, tmp_path) -> None:
    alone = tmp_path / "ticket"
    shutil.copytree(ticket(study), alone)
    wanted, absent = plan_twins(alone, format=FORMAT)
    assert [each.twin for each in wanted] == ["ticket", "ticket int8"]
    assert [each.twin for each in absent] == ["dense", "dense int8", "structured", "structured int8"]
    assert all("--dense" in each.why for each in absent[:2])
    assert "--structured" in absent[2].why
    run = RunDir(study)
    wanted, absent = plan_twins(
        alone, format=FORMAT, dense=run.dense(0), other=study / "twins" / SMALLER, out=tmp_path / "out"
    )
    assert absent == []
    assert [each.out.name for each in wanted] == [twin.replace(" ", "-") for twin in SIX]


def test_a_precision_that_the_format_has_not_is_said(study) -> None:
    wanted, absent = plan_twins(ticket(study), format="transformers")
    assert [each.twin for each in wanted] == ["dense", "ticket", "structured"]
    assert [each.why for each in absent] == ["format transformers has no int8"] * 3


def test_without_a_structured_ticket_the_command_that_draws_one_is_said(study, tmp_path) -> None:
    root = tmp_path / "run"
    shutil.copytree(study, root)
    shutil.rmtree(root / "twins")
    _, absent = plan_twins(ticket(root), format=FORMAT)
    assert [each.twin for each in absent] == ["structured", "structured int8"]
    assert all("lxcompress study" in each.why for each in absent)


def test_one_that_fails_keeps_none_from_the_rest(study, tmp_path) -> None:
    wanted, _ = plan_twins(ticket(study), format=FORMAT, out=tmp_path / "out")
    taken = tmp_path / "out" / "ticket"
    taken.parent.mkdir()
    taken.write_text("a file in the way", encoding="utf-8")
    done = export_twins([each for each in wanted if each.twin in ("ticket", "structured")])
    assert isinstance(done[0], MissingTwin)
    assert "is a file" in done[0].why
    assert isinstance(done[1], TwinExport)
    given = ["--twins", "--format", FORMAT, "--out", str(tmp_path / "out")]
    result = CliRunner().invoke(app, ["export", str(ticket(study)), *given])
    assert isinstance(result.exception, ExportError)
    assert "1 of 6 twins could not be exported; the others are there" in str(result.exception)
    assert "no ticket: " in result.output


@pytest.mark.parametrize(
    ("give", "sentence"),
    [
        ({"ticket": "dense"}, "is not a ticket"),
        ({"dense": "ticket"}, "is a ticket; give the dense model"),
        ({"dense": "nowhere"}, "is not a transformers folder"),
        ({"other": "ticket"}, "has granularity weight; give a ticket with a smaller model"),
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


def again(root: Path, *options: str):
    """The same study once more, in a copy of its folder."""
    settings = ["seeds=[0]", "prune.criteria=[low-magnitude]", "prune.sparsities=[0.5]", "pick.retain=0.01"]
    sets = [word for each in (*settings, "export.twins=true", f"export.format={FORMAT}") for word in ("--set", each)]
    return CliRunner().invoke(app, ["study", str(root.with_name("toy.yaml")), "--out", str(root), *sets, *options])


@pytest.fixture
def copied(study, tmp_path) -> Path:
    """The study and its recipe, to do as one likes with."""
    shutil.copytree(study, tmp_path / "run")
    shutil.copy(study.with_name("toy.yaml"), tmp_path)
    return tmp_path / "run"


def test_a_study_that_was_cut_off_among_its_twins_goes_on_with_them(copied) -> None:
    """As a kill between two exports leaves it: one is not there, and one has no record yet."""
    first, second, *_ = sorted(RunDir(copied).artifacts.iterdir())
    shutil.rmtree(first)
    (second / "artifact.json").unlink()
    result = again(copied)
    assert result.exit_code == 0, result.output
    assert "all runs were done already" in result.output
    assert "4 of 6 already exported and up to date" in result.output
    assert sorted(artifacts(copied)) == sorted(SIX)
    assert "6 of 6 already exported and up to date" in again(copied).output


def test_nothing_is_made_where_nothing_is_picked_and_it_is_said(copied) -> None:
    for folder in ("artifacts", "twins"):
        shutil.rmtree(copied / folder)
    floors = RunDir(copied).floors
    floors.write_text(floors.read_text("utf-8").replace('"accuracy": 0.0', '"accuracy": 1.0'), encoding="utf-8")
    result = again(copied)
    assert result.exit_code == 0, result.output
    assert "twins none, because nothing was picked. No ticket keeps" in " ".join(result.output.split())
    assert not (copied / "twins").exists()
    assert not (copied / "artifacts").exists()


def test_no_twins_leaves_them_out_and_a_dry_run_counts_them(copied) -> None:
    for folder in ("artifacts", "twins"):
        shutil.rmtree(copied / folder)
    assert "1 structured ticket to compare the pick with, and 6 exports" in again(copied, "--dry-run").output
    more = again(copied, "--dry-run", "--set", "export.also=[engine]").output
    assert "1 structured ticket to compare the pick with, and 12 exports" in more
    assert "structured" not in again(copied, "--dry-run", "--no-twins").output
    assert "twins  " not in again(copied, "--no-twins").output
    assert not (copied / "artifacts").exists()


def test_a_part_of_a_study_waits_with_its_twins(copied) -> None:
    result = again(copied, "--set", "seeds=[0, 1]", "--only", "*seed0")
    assert result.exit_code == 0, result.output
    assert "are exported with the pick, when every run is done" in result.output


def test_twins_of_more_formats_are_exported_where_their_libraries_are_installed(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setitem(sys.modules, "executorch", None)
    alone = TwinSources(save_ticket(tmp_path))
    twins = workflow.export_twins(alone, formats=[FORMAT, "executorch", "engine"])
    made = [each for each in twins if isinstance(each, TwinExport)]
    names = [(each.twin, each.artifact.format) for each in made]
    assert names == [(twin, format) for format in (FORMAT, "engine") for twin in ("ticket", "ticket int8")]
    assert len({each.out for each in made}) == 4
    absent = [each for each in twins if isinstance(each, MissingTwin)]
    assert absent[0].twin == "twins in executorch"
    assert "pip install 'lxcompress[executorch]'" in absent[0].why
    workflow.check_twins(twins)
    show_twins(twins)
    assert re.search(r"ticket int8 \(engine\) +[0-9.]+ [kM]B", capsys.readouterr().out)
    again = workflow.export_twins(alone, formats=[FORMAT, "engine"])
    assert [each.is_new for each in again if isinstance(each, TwinExport)] == [False] * 4


@pytest.mark.slow
def test_a_second_process_exports_the_same_files(copied, two_cores) -> None:
    alone = models(copied)
    shutil.rmtree(copied / "artifacts")
    sources = TwinSources(ticket(copied))
    recipe = load_recipe(RunDir(copied).recipe, ["processes=2", "export.twins=true", f"export.format={FORMAT}"])
    with workflow.twin_helper(sources, recipe) as helper:
        assert helper is not None
        assert helper.known == frozenset()
        helper.process.wait()
        assert sorted(artifacts(copied)) == sorted(SIX[:4]), "the second process exports the dense model and the ticket"
        twins = workflow.export_twins(sources, formats=[FORMAT], helper=helper)
    assert [(twin.twin, twin.is_new) for twin in twins] == [(name, True) for name in SIX]
    assert models(copied) == alone
    with workflow.twin_helper(sources, recipe) as helper:
        assert helper is None, "all twins are up to date"


def test_what_a_second_process_fails_to_export_is_exported_by_the_first(copied, two_cores, monkeypatch) -> None:
    shutil.rmtree(copied / "artifacts")
    monkeypatch.setattr(sys, "executable", "/bin/false")
    result = again(copied, "--set", "processes=2")
    assert result.exit_code == 0, result.output
    assert sorted(artifacts(copied)) == sorted(SIX)
    assert "already exported" not in result.output


def test_the_int8_of_an_onnx_file_is_made_of_the_fp32_one(tiny_run, tiny_onnx, tmp_path) -> None:
    """The model is not traced again, and what is made of the file is what its quantiser makes of it."""
    wanted, _ = plan_twins(tiny_run / "tickets" / TICKET, out=tmp_path / "out")
    both = [each for each in wanted if each.twin in ("ticket", "ticket int8")]
    shutil.copytree(tiny_onnx, both[0].out)
    record = read_record(tiny_onnx / "artifact.json", Artifact)
    write_record(both[0].out / "artifact.json", record.model_copy(update={"twin": "ticket"}))
    plain, narrow = export_twins(both)
    assert (plain.is_new, narrow.is_new) == (False, True)
    assert narrow.artifact.notes[0] == "made of the fp32 file in ticket"
    to_int8(plain.out / "model.onnx", tmp_path / "again.onnx")
    assert (narrow.out / "model.onnx").read_bytes() == (tmp_path / "again.onnx").read_bytes()
    assert narrow.artifact.parity.questions == 64


def _unsealed(text: str) -> str:
    """The JSON of a record without its seal: a test may change it."""
    return re.sub(r',\s*"seal": "[0-9a-f]*"', "", text)
