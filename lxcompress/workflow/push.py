"""Upload a ticket or an exported file, with its model card, to the Hugging Face hub."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from lxcompress.errors import LxError
from lxcompress.quiet import quiet_hub

README = "README.md"
EVALUATION = ".eval_results/lxcompress.yaml"
"""The hub's file of evaluation results; it names a benchmark, which is a data set of the hub."""
REPO = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
BENCHMARK = re.compile(rf"({REPO.pattern}):([\w.-]+)")


@dataclass(frozen=True)
class PushRequest:
    """A folder and the repository (OWNER/NAME) to upload it to.

    With `updates`, a repository that exists gets a new commit. `benchmark` is OWNER/DATASET:TASK, the benchmark of the
    hub that the validation split of the study has.
    """

    folder: Path
    repo: str
    licence: str | None = None
    benchmark: str | None = None
    is_private: bool = False
    updates: bool = False


@dataclass(frozen=True)
class Upload:
    """The files that are made for the hub (name -> text), and the files of the folder, with their bytes."""

    made: dict[str, str]
    files: dict[str, int]


def prepare_upload(request: PushRequest) -> Upload:
    """Return what would be uploaded; nothing is sent. Raises LxError."""
    from lxcompress.workflow.model_card import compose_card, read_card_facts

    if not REPO.fullmatch(request.repo):
        raise LxError(f"{request.repo}: is not a repository, expected OWNER/NAME, such as ada/pruned-lxmert")
    facts = read_card_facts(request.folder)
    made = {README: compose_card(facts, request.repo, request.licence)}
    if request.benchmark is not None:
        accuracy = facts.accuracy
        if accuracy is None:
            raise LxError(f"{request.folder}: has no accuracy for --benchmark; leave the option out")
        made[EVALUATION] = _compose_evaluation(request.benchmark, 100 * accuracy.accuracy)
    files = {path.name: path.stat().st_size for path in sorted(request.folder.iterdir()) if _is_uploaded(path)}
    return Upload(made, files)


def push(request: PushRequest) -> str:
    """Upload the files in one commit, and return the address of the repository. Raises LxError.

    The token is the one of `hf auth login` or HF_TOKEN. It goes to the hub and nowhere else.
    """
    from huggingface_hub import CommitOperationAdd, HfApi, get_token

    upload = prepare_upload(request)
    if get_token() is None:
        raise LxError("no token of the Hugging Face hub was found; run hf auth login, or set HF_TOKEN")
    api = HfApi()
    with quiet_hub(), _explain_hub(request.repo):
        url = api.create_repo(request.repo, private=request.is_private or None, exist_ok=request.updates)
        texts = {name: text.encode() for name, text in upload.made.items()}
        paths = {name: request.folder / name for name in upload.files}
        operations = [CommitOperationAdd(name, source) for name, source in (texts | paths).items()]
        api.create_commit(request.repo, operations, commit_message="Add files by lxcompress push")
    return str(url)


@contextmanager
def _explain_hub(repo: str) -> Iterator[None]:
    """Turn an error of the hub inside the block into one sentence without the token."""
    from huggingface_hub.errors import HfHubHTTPError

    try:
        yield
    except HfHubHTTPError as error:
        status = error.response.status_code
        if status == 409:
            raise LxError(f"{repo}: exists on the hub; give another name, or --update to add a commit to it") from None
        if status in (401, 403):
            raise LxError(
                f"{repo}: the hub refuses the token ({status}); give a token that may write there: hf auth login"
            ) from None
        raise LxError(f"{repo}: the hub answers {status}; try again later") from None
    except Exception as error:  # any error of the network or its library, which names its own types
        raise LxError(f"{repo}: the upload failed ({type(error).__name__}); check the network, and try again") from None


def _is_uploaded(path: Path) -> bool:
    """Return whether a file of the folder is uploaded; the card of the folder is replaced by a new one."""
    return path.is_file() and not path.name.startswith(".") and path.name != README


def _compose_evaluation(benchmark: str, percent: float) -> str:
    """Return the evaluation results as YAML, as the hub reads them. Raises LxError for a malformed benchmark."""
    found = BENCHMARK.fullmatch(benchmark)
    if found is None:
        raise LxError(f"--benchmark {benchmark}: expected OWNER/DATASET:TASK, such as lmms-lab/VQAv2:default")
    return (
        f"- dataset:\n    id: {found[1]}\n    task_id: {found[2]}\n  value: {percent:.2f}\n"
        "  notes: validation accuracy of this file, measured by lxcompress\n"
    )
