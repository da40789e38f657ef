"""`lxcompress push`: upload a ticket or an exported file to the Hugging Face hub, with a model card."""

from __future__ import annotations

from pathlib import Path

import typer


def push_cli(
    folder: Path = typer.Argument(metavar="TICKET|ARTIFACT", help="A ticket, or a folder that `export` wrote."),
    repo: str = typer.Argument(metavar="REPO", help="The repository on the hub: OWNER/NAME."),
    licence: str | None = typer.Option(None, "--license", help="The licence, such as apache-2.0 or mit."),
    private: bool = typer.Option(False, "--private", help="Make a private repository."),
    update: bool = typer.Option(False, "--update", help="Add a commit to a repository that exists."),
    benchmark: str | None = typer.Option(
        None, "--benchmark", metavar="OWNER/DATASET:TASK", help="The benchmark on the hub that was answered."
    ),
    dry_run: bool = typer.Option(False, "--dry-run", help="Print the card and the list of files; send nothing."),
) -> None:
    """Upload a ticket or an exported file, with a model card of what was measured and what was not.

    \b
    Example:
      lxcompress push TICKET ada/pruned-lxmert --license apache-2.0 --dry-run
    """
    from lxcompress.workflow.push import PushRequest, prepare_upload, push

    request = PushRequest(folder, repo, licence, benchmark, is_private=private, updates=update)
    if dry_run:
        upload = prepare_upload(request)
        for name, text in upload.made.items():
            typer.echo(f"{name}:\n\n{text}")
        for name, size in upload.files.items():
            typer.echo(f"{name}  {size:,} bytes")
        typer.echo("nothing was sent")
        return
    from lxcompress.cli.progress import working

    with working(f"sending {folder} to {repo}"):
        url = push(request)
    typer.echo(url)
