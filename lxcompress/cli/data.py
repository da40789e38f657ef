"""`lxcompress data`: download, convert and check the data sets that a study reads."""

from __future__ import annotations

import typer

from lxcompress.cli.data_check import check_cli
from lxcompress.cli.data_fetch import fetch_cli
from lxcompress.cli.data_prepare import prepare_cli

data_app = typer.Typer(
    help="Data sets: download public files, prepare region features, check everything before training.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
)
data_app.command("fetch")(fetch_cli)
data_app.command("prepare")(prepare_cli)
data_app.command("check")(check_cli)
