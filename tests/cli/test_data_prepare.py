"""`lxcompress data prepare` says what came of it, is loud about what it left out, and survives interrupts."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from lxcompress.cli.data_prepare import prepare_cli
from lxcompress.data.regions.store import open_store, part_of
from lxcompress.data.regions.verify import verify_store
from lxcompress.errors import DataError
from tests.data.regions.pictures import Picture, pictures, real_file, row, write_tsv

ROOT = Path(__file__).resolve().parents[2]
# As the command, but with pieces so small that many are kept a second, and each is told.
SLOW = """
import typer
from lxcompress.cli import data_prepare, store
from lxcompress.data.regions import write
store.LINE_PERIOD_S = 0
write.PIECE_BYTES, write.CHECKPOINT_S = 2000, 0.01
typer.run(data_prepare.prepare_cli)
"""

app = typer.Typer()
app.command()(prepare_cli)


def prepare(*arguments: object, code: int = 0) -> str:
    done = CliRunner(env={"COLUMNS": "200"}).invoke(app, [str(argument) for argument in arguments])
    if isinstance(done.exception, DataError):
        raise done.exception
    assert done.exit_code == code, done.output
    return done.output


@pytest.fixture
def source(tmp_path) -> Path:
    return write_tsv(tmp_path / "a.tsv", list(map(row, pictures(20))))


def test_it_says_what_was_made_and_how_to_use_it(source, tmp_path) -> None:
    said = prepare(source, "--out", tmp_path / "store", "--objects", 6)
    assert "20 images, 6 regions of 12 features" in said
    assert "converted 20 images" in said
    assert "no row was skipped" in said
    assert f"data.features: {tmp_path / 'store'}" in said
    verify_store(tmp_path / "store")


def test_boxes_that_were_divided_twice_are_doubted(tmp_path) -> None:
    made = [
        Picture(picture.image, picture.width, picture.height, picture.features, picture.scaled)
        for picture in pictures(20)
    ]
    source = write_tsv(tmp_path / "a.tsv", list(map(row, made)))
    said = prepare(source, "--out", tmp_path / "store", "--objects", 6)
    assert "warning: in 20 of 20 images all boxes" in said
    assert "--boxes normalised" in said
    assert "doubt" not in prepare(source, "--out", tmp_path / "other", "--objects", 6, "--boxes", "normalised")


def test_done_is_not_done_again(source, tmp_path) -> None:
    prepare(source, "--out", tmp_path / "store", "--objects", 6)
    assert "the store exists and has the same sources; nothing was done" in prepare(
        source, "--out", tmp_path / "store", "--objects", 6
    )


def test_a_bad_row_is_an_error_and_skipped_rows_are_shouted(tmp_path) -> None:
    rows = [row(picture) for picture in pictures(30)]
    for index in range(4, 18):
        rows[index][9] = "?"
    path = write_tsv(tmp_path / "a.tsv", rows)
    with pytest.raises(DataError, match=r"line 5 .*not base64"):
        prepare(path, "--out", tmp_path / "store", "--objects", 6)
    said = prepare(path, "--out", tmp_path / "store", "--objects", 6, "--skip-bad")
    assert f"14 bad rows were SKIPPED; {tmp_path / 'store' / 'bad_rows.json'} lists them" in said
    assert "a.tsv, line 5 (image 'COCO_train2014_000000000005'): its features are not base64" in said
    assert "and 4 more" in said
    assert "4 were done before" in said
    assert "no row was skipped" not in said
    assert len(open_store(tmp_path / "store")) == 16


def test_wrong_usage_is_exit_code_2(source) -> None:
    prepare(source, code=2)
    prepare("--out", "store", code=2)


def test_the_help_has_an_example() -> None:
    assert "lxcompress data prepare train2014_obj36.zip val2014_obj36.zip --out coco-obj36" in prepare("--help")


def test_the_published_rows_need_no_option(tmp_path) -> None:
    said = prepare(real_file(), "--out", tmp_path / "store")
    assert "6 images, 36 regions of 2,048 features" in said
    assert "largest feature 35.28" in said


@pytest.fixture(scope="module")
def long_source(tmp_path_factory) -> Path:
    """A source that takes long enough to be interrupted: only read it."""
    return write_tsv(tmp_path_factory.mktemp("long") / "a.tsv", list(map(row, pictures(6_000))))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_interrupted_and_killed_go_on_with_the_same_command(long_source, tmp_path, number) -> None:
    path = long_source
    command = [sys.executable, "-c", SLOW, str(path), "--objects", "6", "--out"]
    env = {**os.environ, "COLUMNS": "200"}
    command.append(str(tmp_path / "store"))
    with subprocess.Popen(command, cwd=ROOT, env=env, stderr=subprocess.PIPE, text=True) as work:
        assert work.stderr is not None
        for _ in range(20):
            assert "a.tsv: " in work.stderr.readline()
        work.send_signal(number)
        rest = work.stderr.read()
        assert work.wait() == (130 if number == signal.SIGINT else -signal.SIGKILL), rest
    if number == signal.SIGINT:
        assert rest.splitlines()[-1] == "interrupted; the same command resumes"
        assert "Traceback" not in rest
    assert part_of(tmp_path / "store").is_dir()
    said = prepare(path, "--objects", 6, "--out", tmp_path / "store")
    assert "were done before" in said
    prepare(path, "--objects", 6, "--out", tmp_path / "at-once")
    for each in (tmp_path / "at-once").iterdir():
        assert each.read_bytes() == (tmp_path / "store" / each.name).read_bytes()
