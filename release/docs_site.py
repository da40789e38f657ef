"""The hooks of `make docs` for mkdocs: groups of pages from docs/README.md, the API reference, and files outside docs/.

mkdocs calls the functions by their names: https://www.mkdocs.org/user-guide/configuration/#hooks
"""

from __future__ import annotations

import os
import re
from functools import cache
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
INDEX = ROOT / "docs" / "README.md"
API_PAGE = "api.md"
SOURCE = "source"
"""The folder of the site with the files outside docs/ that pages link to."""
LINK = re.compile(r"\[(?P<text>[^\]]+)\]\((?P<path>[^)#:\s]+)(?P<anchor>#[^)]*)?\)")
"""A Markdown link to a file, not to an address or to a part of the same page."""


def on_config(config: Any) -> Any:
    """Set the navigation: a group for each heading of docs/README.md, with the pages that it links to."""
    groups: dict[str, list[str]] = {}
    for line in INDEX.read_text(encoding="utf-8").splitlines():
        if line.startswith("## "):
            groups[line.removeprefix("## ")] = []
        elif groups:
            found = re.findall(r"\]\(((?:decisions/)?[\w-]+\.md)\)", line)
            groups[list(groups)[-1]] += [page for page in found if (ROOT / "docs" / page).is_file()]
    groups["Reference"].append(API_PAGE)
    config["nav"] = ["README.md", *({name: list(dict.fromkeys(pages))} for name, pages in groups.items())]
    return config


def on_files(files: Files, config: Any) -> Files:
    """Add the page of the Python API, and the files outside docs/ that pages link to."""
    files.append(File.generated(config, API_PAGE, content=compose_api()))
    for path in find_linked():
        files.append(File.generated(config, f"{SOURCE}/{path.as_posix()}", abs_src_path=str(ROOT / path)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Return the text of a page with its links as they are in the site.

    A link to a file that the site does not have, such as a folder, becomes plain text.
    """
    site_path = Path(page.file.src_uri)
    in_source = site_path.is_relative_to(SOURCE)
    origin = site_path.relative_to(SOURCE) if in_source else Path("docs") / site_path
    linked = set(find_linked())

    def replace(found: re.Match[str]) -> str:
        target = resolve_link(origin, found)
        if target is not None and target.is_relative_to("docs"):
            in_site = target.relative_to("docs")
        elif target in linked:
            in_site = SOURCE / target
        else:
            return found["text"]
        path = Path(os.path.relpath(in_site, site_path.parent)).as_posix()
        return f"[{found['text']}]({path}{found['anchor'] or ''})"

    return LINK.sub(replace, markdown)


def compose_api() -> str:
    """Return the page of the Python API: an entry for each name that the package exports."""
    import lxcompress

    head = "# Python API\n\n`import lxcompress as lx` gives these names; [python](python.md) shows how they are used.\n"
    return "\n".join([head, *(f"::: lxcompress.{name}\n" for name in lxcompress.__all__)])


@cache
def find_linked() -> list[Path]:
    """Return the files outside docs/ that pages link to, relative to the repository."""
    found: set[Path] = set()
    for page in (ROOT / "docs").rglob("*.md"):
        links = LINK.finditer(page.read_text(encoding="utf-8"))
        targets = {resolve_link(page.relative_to(ROOT), link) for link in links}
        found |= {target for target in targets if target is not None and (ROOT / target).is_file()}
    return sorted(path for path in found if not path.is_relative_to("docs"))


def resolve_link(page: Path, link: re.Match[str]) -> Path | None:
    """Return the file that a link in `page` leads to; both are relative to the repository. None if it is outside."""
    path = (ROOT / page.parent / link["path"]).resolve()
    return path.relative_to(ROOT) if path.is_relative_to(ROOT) else None
