"""Print a table of the methods of a run: relative accuracy, time, steps, and model size.

    python bench/methods_table.py RUN [--markdown]

By default the table is that of `lxcompress report`; with --markdown, it is as the docs quote it.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from lxcompress.analysis.methods import tabulate
from lxcompress.analysis.summary import summarise
from lxcompress.cli.report import methods_table, sizes_table
from lxcompress.cli.screen import out
from lxcompress.errors import LxError
from lxcompress.report.methods import methods_markdown
from lxcompress.rundir import read_run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="the run folder of a study")
    parser.add_argument("--markdown", action="store_true", help="print Markdown")
    options = parser.parse_args()
    try:
        summary = summarise(read_run(options.run))
    except LxError as error:
        sys.exit(str(error))
    if options.markdown:
        sys.stdout.write(methods_markdown(summary))
        return
    table = tabulate(summary)
    out.print(methods_table(table, out.width))
    if table.sized:
        out.print()
        out.print(sizes_table(table, out.width))


if __name__ == "__main__":
    main()
