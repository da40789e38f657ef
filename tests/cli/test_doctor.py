"""`lxcompress doctor` ends as its diagnosis says, and names a remedy for whatever does not work."""

from __future__ import annotations

import json

import pytest
import typer
from typer.testing import CliRunner

from lxcompress.cli.doctor import doctor_cli

app = typer.Typer()
app.command()(doctor_cli)


@pytest.fixture(scope="module")
def done():
    return CliRunner().invoke(app, ["--json"])


def test_the_exit_code_is_the_verdict_on_the_core(done) -> None:
    diagnosis = json.loads(done.stdout)
    core = [trial["works"] for trial in diagnosis["trials"] if trial["is_core"]]
    required = [package["state"] == "ok" for package in diagnosis["packages"] if package["extra"] is None]
    assert diagnosis["is_sound"] == all(core + required)
    assert done.exit_code == (0 if diagnosis["is_sound"] else 1)
    assert all(trial["works"] or trial["remedy"] for trial in diagnosis["trials"] if trial["is_core"])


def test_the_tables_name_every_package_device_and_trial(done) -> None:
    diagnosis = json.loads(done.stdout)
    shown = CliRunner().invoke(app, []).stdout
    for each in diagnosis["packages"] + diagnosis["devices"] + diagnosis["trials"]:
        assert each["name"] in shown
    assert "lxcompress doctor" in CliRunner().invoke(app, ["--help"]).stdout
