"""Laws of `lxcompress push`: what is pushed is pulled unchanged, the card is true, and the token stays secret."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from lxcompress.analysis.floors import highest_floor
from lxcompress.cli.main import app
from lxcompress.errors import LxError
from lxcompress.filenames import TICKET_FILE, WEIGHTS_FILE
from lxcompress.rundir import RunDir, read_result, read_run
from lxcompress.tickets import load_ticket
from lxcompress.workflow.tickets import compare_tickets
from tests.conftest import TOY_CELL
from tests.hub import TOKEN, Hub


@pytest.fixture
def hub(tmp_path, monkeypatch) -> Iterator[Hub]:
    """A hub on this machine, with a token, and an empty cache."""
    from huggingface_hub import constants

    with Hub() as served:
        monkeypatch.setattr(constants, "ENDPOINT", served.origin)
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", served.origin + "/{repo_id}/resolve/{revision}/{filename}"
        )
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        yield served


@pytest.fixture
def ticket(tiny_run) -> Path:
    return tiny_run / "tickets" / TOY_CELL


def push(*words: object) -> str:
    result = CliRunner().invoke(app, ["push", *map(str, words)])
    assert TOKEN not in result.output
    if result.exception and not isinstance(result.exception, SystemExit):
        assert TOKEN not in str(result.exception)
        raise result.exception
    return result.output


def head(card: str) -> dict:
    return yaml.safe_load(card.split("---\n")[1])


def test_what_is_pushed_is_pulled_unchanged(hub, ticket, tmp_path, monkeypatch) -> None:
    address = push(ticket, "ada/pruned").strip().splitlines()[-1]
    assert address == f"{hub.origin}/ada/pruned"
    assert set(hub.tokens) == {f"Bearer {TOKEN}"}
    sent = hub.repos["ada/pruned"]
    assert {name: data for name, data in sent.items() if name != "README.md"} == {
        path.name: path.read_bytes() for path in ticket.iterdir()
    }
    assert not [name for name, data in sent.items() if TOKEN.encode() in data]
    from lxcompress.exporters.artifact import open_source

    pulled = open_source(Path("hub:ada/pruned")).ticket
    assert pulled is not None
    assert pulled.provenance == load_ticket(ticket).provenance
    by_name = compare_tickets([Path("hub:ada/pruned"), ticket])
    assert by_name.kept["pruned"] == by_name.kept[TOY_CELL]


def test_the_card_says_what_the_records_and_the_file_say(hub, ticket) -> None:
    shown = push(ticket, "ada/pruned", "--license", "mit", "--benchmark", "ada/scenes:default", "--dry-run")
    assert not hub.repos
    assert "nothing was sent" in shown
    fields = head(shown)
    run = RunDir(ticket.parents[1])
    [cell] = [cell for cell in _recipe(run).cells() if cell.id == TOY_CELL]
    result = read_result(run, cell)
    [entry] = fields["model-index"][0]["results"]
    assert entry["metrics"][0]["value"] == round(100 * result.retrained.accuracy, 2)
    assert (fields["license"], fields["library_name"]) == ("mit", "lxcompress")
    removed = result.sparsity.prunable - result.sparsity.kept
    assert f"{removed:,} of {result.sparsity.prunable:,} weights" in shown
    assert "- The spread over seeds." in shown  # the toy has one seed
    assert f"value: {100 * result.retrained.accuracy:.2f}" in shown
    assert "from_pretrained" in shown
    assert str(ticket) not in shown
    name, floor = highest_floor(read_run(run.root).floors)
    assert f"| floor: {name} | {100 * floor:.2f} |" in shown


def _recipe(run: RunDir):
    from lxcompress.recipe import load_run_recipe

    return load_run_recipe(run.recipe)


def test_a_taken_name_and_a_refused_token_are_one_sentence(hub, ticket) -> None:
    hub.repos["ada/pruned"] = {"old.txt": b"kept"}
    with pytest.raises(LxError, match="ada/pruned: exists on the hub; give another name, or --update"):
        push(ticket, "ada/pruned")
    push(ticket, "ada/pruned", "--update")
    assert {"old.txt", TICKET_FILE, WEIGHTS_FILE, "README.md"} <= set(hub.repos["ada/pruned"])
    for status in (401, 403):
        hub.refuses = status
        with pytest.raises(LxError, match=rf"the hub refuses the token \({status}\); give a token that may write"):
            push(ticket, "ada/other")


def test_a_missing_token_is_one_sentence(hub, ticket, monkeypatch) -> None:
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(LxError, match="no token of the Hugging Face hub was found; run hf auth login, or set HF_TOKEN"):
        push(ticket, "ada/pruned")
    assert not hub.repos


def test_other_folders_and_names_are_refused(hub, ticket, tmp_path) -> None:
    with pytest.raises(LxError, match="is neither a ticket"):
        push(tmp_path, "ada/pruned")
    with pytest.raises(LxError, match="is not a repository, expected OWNER/NAME"):
        push(ticket, "pruned")
    with pytest.raises(LxError, match="expected OWNER/DATASET:TASK"):
        push(ticket, "ada/pruned", "--benchmark", "vqa", "--dry-run")
    changed = tmp_path / "changed"
    shutil.copytree(ticket, changed)
    (changed / WEIGHTS_FILE).write_bytes((changed / WEIGHTS_FILE).read_bytes()[:-1] + b"!")
    with pytest.raises(LxError, match="was changed after the ticket was made"):
        push(changed, "ada/pruned")
    assert not hub.repos
