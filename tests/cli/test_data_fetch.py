"""`lxcompress data fetch`: the plan is only a plan, an interrupt ends in one sentence, and the same command goes on."""

from __future__ import annotations

import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from lxcompress.cli.data_fetch import fetch_cli
from lxcompress.data.catalogue import CATALOGUE, Collection, RemoteFile
from lxcompress.errors import DataError
from tests.data.file_server import FileServer

app = typer.Typer()
app.command()(fetch_cli)
CONTENT = bytes(range(40, 104))
PAGE = Path(__file__).parents[2] / "docs" / "fetch.md"
ALONE = """
import sys, typer
from lxcompress.cli.data_fetch import fetch_cli
from lxcompress.data.catalogue import CATALOGUE, Collection, RemoteFile
CATALOGUE["toy"] = Collection(what="a toy", licence="toy licence", page="", files=(RemoteFile(sys.argv.pop(1)),))
app = typer.Typer()
app.command()(fetch_cli)
app()
"""


@pytest.fixture
def server(monkeypatch):
    """A server, whose one file is in the catalogue as toy."""
    monkeypatch.setenv("no_proxy", "*")
    with FileServer(files={"/a.bin": CONTENT}) as running:
        toy = Collection(
            what="a toy", licence="toy licence", page="https://toy.org", files=(RemoteFile(running.address("/a.bin")),)
        )
        monkeypatch.setitem(CATALOGUE, "toy", toy)
        yield running


def run(*arguments: str):
    return CliRunner().invoke(app, list(arguments))


@pytest.mark.parametrize("arguments", [["--dry-run", "toy"], ["--list"], ["--list", "toy"]])
def test_a_plan_and_a_list_open_no_connection_and_write_nothing(server, tmp_path, arguments) -> None:
    assert run(*arguments, "--to", str(tmp_path / "data")).exit_code == 0
    assert server.asked == []
    assert list(tmp_path.iterdir()) == []


def test_the_plan_tells_file_size_address_licence_target_and_state(server, tmp_path) -> None:
    said = run("toy", "--dry-run", "--to", str(tmp_path)).stdout
    for part in ("a toy", "toy licence", "unknown", server.address("/a.bin"), f"{tmp_path}/toy/a.bin", "[missing]"):
        assert part in said
    assert "not encrypted" in said, "the toy is on http"
    assert "not encrypted" not in run("vqa2", "--dry-run").stdout
    assert run("toy", "--to", str(tmp_path)).exit_code == 0
    assert "[present]" in run("toy", "--dry-run", "--to", str(tmp_path)).stdout


def test_the_licence_is_told_before_the_download(server, tmp_path) -> None:
    done = run("toy", "--to", str(tmp_path))
    assert done.exit_code == 0, done.output
    assert (tmp_path / "toy/a.bin").read_bytes() == CONTENT
    assert done.output.index("toy licence") < done.output.index("downloading toy/a.bin") < done.output.index("fetched")
    assert "checked" in run("toy", "--to", str(tmp_path)).stdout


def test_the_list_names_everything(server) -> None:
    said = run("--list").stdout
    for name, collection in CATALOGUE.items():
        assert name in said
        assert collection.what in said
        assert collection.licence in said


def test_what_cannot_be_done_is_said(server, tmp_path) -> None:
    assert run().exit_code == 2
    unknown = run("toys", "--to", str(tmp_path))
    assert isinstance(unknown.exception, DataError)
    assert "did you mean toy?" in str(unknown.exception)
    server.status = 404
    assert isinstance(run("toy", "--to", str(tmp_path)).exception, DataError)


def test_an_interrupt_is_one_sentence_and_the_same_command_goes_on(server, tmp_path) -> None:
    command = [sys.executable, "-c", ALONE, server.address("/a.bin"), "toy", "--to", str(tmp_path)]
    server.cuts, server.stalls = [10], True
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        part = tmp_path / "toy/a.bin.part"
        assert server.has_stalled.wait(60)
        while not part.exists() or part.stat().st_size < 10:
            assert process.poll() is None, process.stderr.read()
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert said.splitlines()[-1] == "interrupted; the same command resumes"
    assert "Traceback" not in said
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "toy/a.bin").read_bytes() == CONTENT
    assert [asked.range for asked in server.asked] == [None, "bytes=10-"]


def test_every_command_of_its_page_is_one_that_plans(server, tmp_path) -> None:
    text = PAGE.read_text("utf-8")
    lines = re.findall(r"^lxcompress data fetch .*$", text, re.M)
    assert len(lines) >= 3
    for line in lines:
        arguments = shlex.split(line.split("#")[0])[3:]
        planned = run(*arguments, "--dry-run", "--to", str(tmp_path / "data"))
        assert planned.exit_code == 0, f"{line}: {planned.output} {planned.exception!r}"
    assert all(f"`{name}`" in text for name in CATALOGUE if name != "toy")


def test_help_has_an_example() -> None:
    assert "lxcompress data fetch vqa2" in run("--help").output
