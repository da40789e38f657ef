"""`lxcompress serve`: serve a page to a phone in the same network, and take its measurements."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from lxcompress.rundir import RunDir
    from lxcompress.web.records import PageMeasurement

ANYWHERE = ("", "0.0.0.0")
"""The hosts that listen at all addresses of this machine."""


def serve_cli(
    page: Annotated[Path, typer.Argument(help="The folder that `lxcompress app` wrote.")],
    host: Annotated[str, typer.Option(help="The address to listen at; 127.0.0.1 is this machine alone.")] = "0.0.0.0",
    port: Annotated[int, typer.Option(min=0, max=65535, help="The port; 0 is any free one.")] = 8000,
    https: Annotated[
        bool, typer.Option("--https", help="Use HTTPS with a new certificate, about which browsers warn once.")
    ] = False,
    run: Annotated[
        Path | None,
        typer.Option(help="The run folder for measurements.  [default: the one that the page was made from]"),
    ] = None,
) -> None:
    """Serve a page, print its address and QR code, and save the measurements that it sends. Ctrl-C ends it.

    Example: lxcompress serve page --https
    """
    from lxcompress.cli.screen import out
    from lxcompress.errors import MeasureError
    from lxcompress.web.inbox import keep_measurement
    from lxcompress.web.server import PageServer, find_address, make_certificate, read_token

    folder = _find_run(page, run)

    def keep(sent: PageMeasurement) -> str:
        if folder is None:
            raise MeasureError("the run folder of this page is not known; start lxcompress serve with --run RUN")
        path, _ = keep_measurement(sent, folder)
        out.print(f"saved {path}", markup=False, soft_wrap=True)
        return "saved"

    served = PageServer(page, read_token(page), keep)
    address = find_address() if host in ANYWHERE else host
    certificate = make_certificate(address) if https else None
    try:
        server = served.open(host, port, certificate=certificate)
    finally:
        if certificate is not None:
            certificate.unlink(missing_ok=True)
    _show_address(f"{'https' if https else 'http'}://{address}:{server.server_port}/{served.token}/")
    _warn(is_plain=not https and address != "127.0.0.1", has_run=folder is not None)
    try:
        server.serve_forever()
    finally:
        server.server_close()


def _find_run(page: Path, run: Path | None) -> RunDir | None:
    """Return the run folder for measurements: `run`, or that of the page, if it is known. Raises MeasureError."""
    from lxcompress.errors import MeasureError
    from lxcompress.rundir import RunDir
    from lxcompress.web.inbox import find_page_run

    if run is None:
        return find_page_run(page)
    folder = RunDir(run)
    if not folder.recipe.is_file():
        raise MeasureError(f"--run {run}: is not a run folder (it has no recipe.yaml); give that of a study")
    return folder


def _show_address(url: str) -> None:
    """Print the address of the page and its QR code."""
    from lxcompress.cli.screen import out, warnings
    from lxcompress.web.server import draw_code

    out.print(url, markup=False, soft_wrap=True)
    code = draw_code(url)
    if code is None:
        warnings.print("no QR code without the package segno: pip install 'lxcompress[phone]'", markup=False)
    else:
        typer.echo(code, nl=False)


def _warn(*, is_plain: bool, has_run: bool) -> None:
    """Warn about plain HTTP to another device, and about a page whose run folder is not known."""
    from lxcompress.cli.screen import warnings

    if is_plain:
        warnings.print(
            "plain HTTP: on another device, browsers refuse the microphone, the precise clock and offline use; "
            "--https allows them",
            markup=False,
            soft_wrap=True,
        )
    if not has_run:
        warnings.print(
            "the run folder of this page is not known: measurements are refused; give --run RUN",
            markup=False,
            soft_wrap=True,
        )
