"""Remove the paths of this machine from the files of a model that is shipped."""

from __future__ import annotations

import json
from pathlib import PureWindowsPath

_PATH_KEYS = ("_name_or_path", "name_or_path", "tokenizer_file", "vocab_file", "special_tokens_map_file")
"""Keys of config.json and tokenizer_config.json that transformers fills with paths; no code reads these paths."""


def without_paths(text: str) -> str:
    """Return the JSON of a config or tokenizer, with each path that transformers wrote shortened to its last name.

    Any other text is returned unchanged. So a model that is shipped tells nothing about the machine that made it.
    """
    if not any(f'"{key}"' in text for key in _PATH_KEYS):
        return text
    try:
        tree = json.loads(text)
    except (ValueError, RecursionError):  # the function that reads this file reports what is wrong
        return text
    found = [key for key in _PATH_KEYS if isinstance(tree, dict) and _is_path(tree.get(key))]
    if not found:
        return text
    names = {key: PureWindowsPath(tree[key]).name for key in found}
    return json.dumps({**tree, **names}, indent=1, ensure_ascii=False) + "\n"


def _is_path(value: object) -> bool:
    """Return whether a value is an absolute path on any operating system."""
    return isinstance(value, str) and (value.startswith(("/", "~", "\\")) or PureWindowsPath(value).is_absolute())
