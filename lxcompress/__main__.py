"""The `lxcompress` command, also as `python -m lxcompress`, which launchers of several processes start."""

from __future__ import annotations

import os

try:
    from lxcompress.cli.interrupt import caught
except KeyboardInterrupt:  # before there is a handler of it
    os.write(2, b"interrupted; give the same command again\n")
    os._exit(130)


def run() -> None:
    """Run the command; from the first line on, an interrupt ends it in one sentence."""
    with caught():
        from lxcompress.cli.main import run as run_command

        run_command()


if __name__ == "__main__":
    run()
