"""`lxcompress app`: write a page that answers and measures in a browser, such as that of a phone."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def app_cli(
    models: Annotated[
        list[Path], typer.Argument(metavar="RUN|ARTIFACT", help="A run folder, or folders of engine files.")
    ],
    out: Annotated[Path, typer.Option("--out", help="The folder of the page.")],
    extractor: Annotated[
        Path | None,
        typer.Option(help="An exported extractor (--format engine), for models that read photographs."),
    ] = None,
    rivals: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="The folder dist of npm's onnxruntime-web; the page measures the ONNX twins in it, beside the engine.",
        ),
    ] = None,
) -> None:
    """Write a page that runs engine files in a browser: it answers questions, and measures. See docs/phone.md.

    A run folder gives all its engine files, and the ticket that `lxcompress pick` chooses answers.

    \b
    Example:
      lxcompress app runs/quickstart --out page
      lxcompress serve page
    """
    from lxcompress.cli.progress import working
    from lxcompress.cli.screen import out as screen
    from lxcompress.output import command_line
    from lxcompress.workflow.page import make_page

    with working("writing the page"):
        names = make_page(models, out, extractor=extractor, rivals=rivals)
    size = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    screen.print(f"{out}: {len(names)} models, {size / 1e6:.1f} MB", markup=False, soft_wrap=True)
    screen.print(f"open it on a phone: {command_line('serve', out)}", markup=False, soft_wrap=True)
