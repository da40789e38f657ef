"""Find a model: `mini`, a folder, a .pth file, or a model of the Hugging Face hub, written hub:OWNER/NAME.

Older recipes have OWNER/NAME without hub:. This is still read as a model of the hub, unless it looks like a path. The
hub is asked once, for a few seconds at most. A model that is in the hub's local cache needs no network.
"""

from __future__ import annotations

import difflib
import logging
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path

from lxcompress.errors import ModelError
from lxcompress.filenames import (
    ARTIFACT_FILE,
    BITMASK_FILE,
    CONFIG_FILE,
    MASK_FILE,
    SURGERY_FILE,
    TICKET_FILE,
    WEIGHTS_FILE,
)
from lxcompress.quiet import quiet_hub
from lxcompress.rundir import RunDir
from lxcompress.text import parse_json, read_text

log = logging.getLogger(__name__)

MINI = Path(__file__).parent / "mini"
HUB = "hub:"
SUFFIXES = (".pth", ".pt")
"""The endings of a file of tensors as the authors of LXMERT and of UNITER publish it."""
WEIGHT_FILES = (
    WEIGHTS_FILE,
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
"""The files that may hold the weights of a folder, or list the files that do; the first one that exists is used."""
CODE_FILES = (CONFIG_FILE, "tokenizer_config.json", "processor_config.json", "preprocessor_config.json")
"""The files of a folder in which the key `auto_map` can name Python code."""
TICKET_FILES = (TICKET_FILE, MASK_FILE, SURGERY_FILE)
"""The files that make a folder a ticket."""
WANTED = (
    "give a transformers folder (config.json and model.safetensors), a ticket, a .pth file, mini, or hub:OWNER/NAME"
)
_WRONG_INDEX = (ValueError, KeyError, TypeError, AttributeError, RecursionError)
PATIENCE_S = 4.0
"""The longest wait for the first answer of the hub, in seconds."""

_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_PATH_WORDS = frozenset(
    [
        "run",
        "runs",
        "model",
        "models",
        "ticket",
        "tickets",
        "twins",
        "seeds",
        "dense",
        "artifacts",
        "out",
        "outputs",
        "data",
        "checkpoints",
        "saved",
        "tmp",
        "home",
    ]
)
"""Names that, before the first /, mean a folder and not an owner on the hub."""


def is_original(start: str) -> bool:
    """Return whether `start` names a .pth or .pt file."""
    return start.endswith(SUFFIXES)


def is_hub_name(start: str) -> bool:
    """Return whether `start` names a model of the hub: hub:OWNER/NAME, or OWNER/NAME that does not look like a path."""
    if start.startswith(HUB):
        return True
    return _HUB_NAME.fullmatch(start) is not None and not is_there(Path(start)) and not _looks_local(start)


def find_folder(start: str) -> Path:
    """Return the folder of a model that is not a .pth or .pt file; a model of the hub is downloaded.

    Raises ModelError: at once for a missing path, and after a few seconds if the hub cannot be reached.
    """
    if start == "mini":
        return MINI
    if is_hub_name(start):
        return _find_on_hub(start)
    path = Path(start)
    if not is_there(path):
        raise ModelError(f"{start}: no such folder{near_path(path)}; {WANTED}")
    if not path.is_dir():
        raise ModelError(f"{start}: is a file, expected a folder; {WANTED}")
    if is_there(RunDir(path).recipe) and not is_there(path / CONFIG_FILE):
        raise ModelError(f"{start}: is the folder of a run; give a model in it: {start}/tickets/NAME or seeds/N/dense")
    return path


def check_source(start: str) -> None:
    """Raise ModelError if the model is missing, or is an exported file whose weights cannot be read back.

    A model of the hub is downloaded.
    """
    if is_original(start):
        find_file(start)
    else:
        check_weights(find_folder(start), start)


def check_weights(folder: Path, where: str) -> None:
    """Raise ModelError for an exported file whose weights cannot be read back.

    The weights of the formats bitmask and transformers can be read back.
    """
    has_weights = any((folder / name).exists() for name in (*WEIGHT_FILES, BITMASK_FILE))
    if (folder / ARTIFACT_FILE).is_file() and not has_weights:
        raise ModelError(
            f"{where}: is an exported file, whose weights cannot be read back; give the ticket or the model that it "
            f"was exported from ({ARTIFACT_FILE} names it as source)"
        )


def find_file(start: str) -> Path:
    """Return the path of a .pth or .pt file. Raises ModelError if it is missing."""
    path = Path(start)
    if not path.is_file():
        what = "no such file, but a folder" if is_there(path) else f"no such file{near_path(path)}"
        raise ModelError(f"{start}: {what}; give the path of a .pth file, such as model_LXRT.pth")
    return path


def is_there(path: Path) -> bool:
    """Return whether a file or folder exists at `path`; False for a name that no file can have."""
    try:
        return path.exists()
    except (OSError, ValueError):  # too long a name, a loop of links
        return False


def near_path(path: Path) -> str:
    """Return " (did you mean PATH?)" if the first missing part of `path` is similar to an existing name.

    Return an empty text otherwise.
    """
    parts = path.parts
    for depth, name in enumerate(parts):
        parent = Path(*parts[:depth])
        if not is_there(parent / name):
            near = difflib.get_close_matches(name, _names_in(parent), n=1, cutoff=0.6)
            if not near:
                return ""
            whole = Path(parent, near[0], *parts[depth + 1 :])
            return f" (did you mean {whole if is_there(whole) else parent / near[0]}?)"
    return ""


def _looks_local(start: str) -> bool:
    """Return whether OWNER/NAME, which is no file or folder, was probably meant as a path, not as a name of the hub.

    It was if OWNER is a usual name of a folder or similar to a name in the current folder, or if NAME has the
    ending of a file.
    """
    owner = start.split("/", 1)[0]
    if owner.lower() in _PATH_WORDS or start.endswith((".safetensors", ".bin", ".onnx", ".yaml", ".json")):
        return True
    return bool(difflib.get_close_matches(owner, _names_in(Path()), n=1, cutoff=0.75))


def _names_in(folder: Path) -> list[str]:
    """Return the names in a folder; an empty list if the folder cannot be read."""
    try:
        return sorted(path.name for path in folder.iterdir())[:10_000]
    except (OSError, ValueError):
        return []


def _find_on_hub(start: str) -> Path:
    """Return the folder of a model in the hub's local cache; download the model if needed. Raises ModelError."""
    name = start.removeprefix(HUB)
    if not _HUB_NAME.fullmatch(name) or ".." in name:
        raise ModelError(
            f"{start}: is not a name on the hub; give hub:OWNER/NAME, such as hub:unc-nlp/lxmert-base-uncased"
        )
    from huggingface_hub import constants, hf_hub_download, snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    if not start.startswith(HUB):
        _remark_bare(name)
    problem = "HF_HUB_OFFLINE is set" if constants.is_offline_mode() else _ask_hub(start, name)
    with quiet_hub():
        try:
            if problem:
                return Path(snapshot_download(name, local_files_only=True))
            folder = Path(hf_hub_download(name, CONFIG_FILE)).parent
            _download(name, folder, hf_hub_download)
            return folder
        except LocalEntryNotFoundError:
            raise ModelError(
                f"{start}: is not in the hub's cache here, and the hub cannot be reached ({problem or 'no answer'}); "
                f"go online, or give the path of a folder"
            ) from None
        except (HfHubHTTPError, HFValidationError, OSError, *_WRONG_INDEX) as error:
            raise ModelError(f"{start}: cannot be downloaded ({error}); {WANTED}") from None


@cache
def _remark_bare(name: str) -> None:
    """Log, once for each name, that a name without hub: is read as a model of the hub, and how to write it."""
    log.warning("%s: is read as a model of the Hugging Face hub; write %s%s", name, HUB, name)


def _download(name: str, folder: Path, fetch: Callable[[str, str], str]) -> None:
    """Download the weights, in the first format that the hub has, the vocabulary, the config, and a ticket's files.

    `fetch` downloads one file of the model `name`; `folder` is where the downloaded files are.
    """
    from huggingface_hub.errors import EntryNotFoundError

    from lxcompress.data.tokens import WORD_FILES

    def has(file: str) -> bool:
        try:
            fetch(name, file)
        except EntryNotFoundError:
            return False
        return True

    found = next((file for file in (*WEIGHT_FILES, BITMASK_FILE) if has(file)), None)
    if found and found.endswith(".index.json"):
        for file in sorted(set(map(str, parse_json(read_text(folder / found))["weight_map"].values()))):
            has(file)
    for file in (*WORD_FILES, *CODE_FILES, *TICKET_FILES):
        has(file)


def _ask_hub(start: str, name: str) -> str | None:
    """Return why the hub cannot be reached; None if it has the model.

    Raises ModelError if the hub does not have the model.
    """
    from huggingface_hub import constants
    from huggingface_hub.utils import build_hf_headers, get_session

    try:
        url = f"{constants.ENDPOINT}/api/models/{name}"
        status = get_session().get(url, headers=build_hf_headers(), timeout=PATIENCE_S).status_code
    except Exception as error:  # any error of the network or its library: the cache may have the model
        return str(error) or type(error).__name__
    if status in (401, 403, 404):
        raise ModelError(
            f"{start}: is neither a folder here nor a readable model of the hub{near_path(Path(name))}; {WANTED}"
        )
    return None if status == 200 else f"it answers {status}"
