"""Laws of the temporary folder of a study on a node: that of a killed study goes, that of a living one stays."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from lxcompress.claims import describe_this_process
from lxcompress.study.node_folder import (
    PREFIX,
    USERS,
    enter_node_folder,
    find_node_folder,
    list_stale,
    remove_node_folder,
)

ELSEWHERE = replace(describe_this_process(), system="another machine")
ENTER = """
import sys
from pathlib import Path
from dataclasses import replace
from lxcompress.claims import describe_this_process
from lxcompress.study.node_folder import enter_node_folder
enter_node_folder(Path(sys.argv[1]), replace(describe_this_process(), system="another machine"))
print("there", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def temporary(tmp_path, monkeypatch) -> Path:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


def test_a_folder_whose_processes_were_killed_is_removed_by_the_next_study(temporary) -> None:
    left, mine = temporary / f"{PREFIX}left", find_node_folder(ELSEWHERE)
    command = [sys.executable, "-c", ENTER, str(left)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "there\n"
        (left / "seeds").mkdir()
        enter_node_folder(mine, ELSEWHERE)
        assert list_stale(temporary) == []
        other.kill()
        other.wait()
    assert list_stale(temporary) == [left]
    enter_node_folder(mine, ELSEWHERE)
    assert [path.name for path in temporary.glob(f"{PREFIX}*")] == [mine.name]
    remove_node_folder(mine)
    assert list(temporary.glob(f"{PREFIX}*")) == []


def test_a_folder_is_used_while_its_driver_lives_on_this_machine(temporary) -> None:
    folder, driver = temporary / f"{PREFIX}own", describe_this_process()
    enter_node_folder(folder, driver)
    for file in (folder / USERS).iterdir():
        if file.name != driver.token:
            file.unlink()
    assert list_stale(temporary) == []
    (folder / USERS / driver.token).write_text('{"token": "half')
    assert list_stale(temporary) == [folder]
