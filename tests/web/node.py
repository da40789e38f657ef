"""Run the page's own JavaScript in Node."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from lxcompress.web.page import ASSETS

needs_node = pytest.mark.skipif(shutil.which("node") is None, reason="Node, which runs the page's code, is missing")


def run_module(folder: Path, name: str, code: str, given: Any) -> Any:
    """Return what `code` returns, where `module` is the page's file `name` and `given` is a JSON value."""
    script, data = folder / "script.mjs", folder / "given.json"
    data.write_text(json.dumps(given), encoding="utf-8")
    source = (ASSETS / f"{name}.js").read_text(encoding="utf-8")
    (folder / f"{name}.mjs").write_text(source, encoding="utf-8")
    script.write_text(
        f"""import {{ readFileSync }} from "node:fs";
import * as module from "./{name}.mjs";
const given = JSON.parse(readFileSync({json.dumps(str(data))}, "utf8"));
const found = (() => {{ {code} }})();
process.stdout.write(JSON.stringify(found));
""",
        encoding="utf-8",
    )
    done = subprocess.run(["node", str(script)], check=True, capture_output=True, text=True, encoding="utf-8")
    return json.loads(done.stdout)
