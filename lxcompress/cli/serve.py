"""`lxcompress serve`: serve a page to a phone in the same network, and take its measurements."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from lxcompress.web.records import PageMeasurement

ANYWHERE = ("", "0.0.0.0")


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
    from lxcompress.cli.screen import out, warnings
    from lxcompress.errors import MeasureError
    from lxcompress.rundir import RunDir
    from lxcompress.web.inbox import find_page_run, keep_measurement
    from lxcompress.web.server import PageServer, draw_code, find_address, make_certificate, read_token

    folder = find_page_run(page) if run is None else RunDir(run)
    if run is not None and folder is not None and not folder.recipe.is_file():
        raise MeasureError(f"--run {run}: is not a run folder (it has no recipe.yaml); give that of a study")

    def keep(found: PageMeasurement) -> str:
        if folder is None:
            raise MeasureError("the run folder of this page is not known; start lxcompress serve with --run RUN")
        path, _ = keep_measurement(found, folder)
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
    url = f"{'https' if https else 'http'}://{address}:{server.server_port}/{served.token}/"
    out.print(url, markup=False, soft_wrap=True)
    code = draw_code(url)
    if code is None:
        warnings.print("no QR code without the package segno: pip install 'lxcompress[phone]'", markup=False)
    else:
        typer.echo(code, nl=False)
    if not https and address != "127.0.0.1":
        warnings.print(
            "plain HTTP: on another device, browsers refuse the microphone, the precise clock and offline use; "
            "--https allows them",
            markup=False,
            soft_wrap=True,
        )
    if folder is None:
        warnings.print(
            "the run folder of this page is not known: measurements are refused; give --run RUN", markup=False
        )
    try:
        server.serve_forever()
    finally:
        server.server_close()
