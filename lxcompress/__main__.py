"""The `lxcompress` command; launchers of several processes start it as `python -m lxcompress`."""

from __future__ import annotations

import os

try:
    from lxcompress.cli.interrupt import caught
except KeyboardInterrupt:  # before the handler is installed
    os.write(2, b"interrupted; run the same command again\n")
    os._exit(130)


def run() -> None:
    """Run the command; an interrupt at any moment ends it with one sentence."""
    with caught():
        from lxcompress.cli.main import run as run_command

        run_command()


if __name__ == "__main__":
    run()
