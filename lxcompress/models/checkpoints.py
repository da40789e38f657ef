"""Weights and models to and from disk: transformers folders, in safetensors.

A checkpoint is read by transformers itself (sharded ones and old .bin files through its weights-only loader). A tensor
that is missing is an error, but for the dead branch's; heads of other tasks are left over in many checkpoints, and
ignored.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
import transformers
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import PreTrainedConfig
from transformers.utils import cached_file

from lxcompress.data.tokens import read_vocabulary
from lxcompress.errors import ModelError
from lxcompress.models import lxmert
from lxcompress.rundir import write_text, write_whole

FAMILIES = {lxmert.MODEL_TYPE: lxmert}
"""Model type in config.json -> its adapter."""
MINI = Path(__file__).parent / "mini"
VOCABULARY_FILE = "vocab.txt"
_WANTED = "give a transformers folder (config.json and model.safetensors), a ticket, or mini"

Loaded = TypeVar("Loaded")


@dataclass(frozen=True)
class Model:
    """A module that answers, with what its family's adapter knows of it."""

    module: nn.Module
    config: PreTrainedConfig
    family: Any

    @property
    def weights(self) -> dict[str, Tensor]:
        """name -> tensor, shared with the module."""
        return self.module.state_dict()

    @property
    def prunable(self) -> dict[str, Tensor]:
        """The weights that may be pruned, shared with the module."""
        return {name: tensor for name, tensor in self.weights.items() if self.family.is_prunable(name, tensor.shape)}

    @property
    def live(self) -> int:
        """The number of weights that an answer depends on."""
        return sum(tensor.numel() for tensor in self.weights.values())

    @property
    def whole(self) -> int:
        """The number of weights of the published model, its dead branch included."""
        return self.live + self.family.count_dead(self.config)

    def load(self, weights: Mapping[str, Tensor]) -> None:
        """Copies `weights` into the module; every tensor must be there, and no other."""
        self.module.load_state_dict(dict(weights), strict=True)


def resolve_start(start: str) -> str:
    """The folder or hub name that a recipe's `model.start` means."""
    return str(MINI) if start == "mini" else start


def load_start(start: str, labels: Sequence[str], seed: int) -> tuple[Model, dict[str, Tensor]]:
    """A pre-trained encoder under a fresh answer head for `labels`, and its weights: where a study's seed begins.

    Raises ModelError.
    """
    config = _read_config(start)
    family = _family(config, start)
    encoder, account = _load(start, family.load_encoder)
    _account(start, account["missing_keys"], lambda name: family.is_dead(f"lxmert.{name}", config))
    config.num_qa_labels = len(labels)
    name_answers(config, labels)
    model = Model(family.build(config), config, family)
    pre_trained = {f"lxmert.{name}": tensor for name, tensor in encoder.state_dict().items()}
    generator = torch.Generator().manual_seed(seed)
    weights = {
        **{name: tensor for name, tensor in pre_trained.items() if not family.is_dead(name, config)},
        **family.fresh_head(config, generator),
    }
    model.load(weights)
    return model, {name: tensor.clone() for name, tensor in weights.items()}


def load_model(folder: str | Path) -> Model:
    """The fine-tuned question-answering model of a transformers folder, a ticket or a hub name. Raises ModelError."""
    where = str(folder)
    config = _read_config(where)
    family = _family(config, where)
    module, account = _load(where, family.load_whole)
    _account(where, account["missing_keys"], lambda name: family.is_dead(name, config))
    return Model(family.without_dead_branch(module), module.config, family)


def load_vocabulary(start: str) -> tuple[str, ...]:
    """The WordPiece vocabulary beside a model. Raises ModelError."""
    _check_there(start)
    try:
        found = cached_file(start, VOCABULARY_FILE)
    except OSError:
        found = None
    if found is None:
        raise ModelError(f"{start}: has no {VOCABULARY_FILE}; copy the vocabulary of its pre-training there")
    return read_vocabulary(Path(found))


def save_model(folder: Path, model: Model, weights: Mapping[str, Tensor], vocabulary: Sequence[str]) -> None:
    """Writes a transformers folder; its dead branch is not in it."""
    config = json.loads(model.config.to_json_string(use_diff=True))
    config["architectures"] = [type(model.module).__name__]
    write_text(folder / "config.json", json.dumps(config, indent=1) + "\n")
    write_text(folder / VOCABULARY_FILE, "\n".join(vocabulary) + "\n")
    save_weights(folder / "model.safetensors", weights)


def save_weights(path: Path, weights: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> None:
    """Writes tensors as safetensors, whole. With at most one key of metadata the same tensors give the same bytes:
    safetensors writes several in any order."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}
    try:
        write_whole(path, lambda part: save_file(tensors, part, metadata=dict(metadata or {"format": "pt"})))
    except SafetensorError as error:
        raise ModelError(f"{path}: cannot be written ({error}); check the free space and the permissions") from None


def load_weights(path: Path) -> dict[str, Tensor]:
    """Reads tensors from safetensors. Raises ModelError."""
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{path}: cannot be read as safetensors ({error}); make it again, or copy it anew") from None


def name_answers(config: PreTrainedConfig, labels: Sequence[str]) -> None:
    """Writes the answers' words into the config, so that a shipped model can say them."""
    config.id2label = dict(enumerate(labels))
    config.label2id = {label: number for number, label in enumerate(labels)}


def _family(config: PreTrainedConfig, where: str) -> Any:
    if config.model_type not in FAMILIES:
        raise ModelError(f"{where}: is a {config.model_type} model; lxcompress knows {', '.join(FAMILIES)}")
    return FAMILIES[config.model_type]


def _read_config(where: str) -> PreTrainedConfig:
    return _load(where, lambda name: transformers.AutoConfig.from_pretrained(name))


def _load(where: str, load: Callable[[str], Loaded]) -> Loaded:
    """`load(where)`, quietly, and with one sentence for what is wrong.

    transformers draws the tensors that a checkpoint lacks (the dead branch) from the global generator: it gets a copy.
    """
    _check_there(where)
    try:
        with _quiet(), torch.random.fork_rng(devices=()):
            return load(where)
    except (OSError, ValueError, RuntimeError, KeyError, SafetensorError, StrictDataclassError) as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise ModelError(f"{where}: cannot be loaded as a model ({lines[0]}); {_WANTED}") from None


def _check_there(where: str) -> None:
    """Raises ModelError for a path that is no folder; a hub name (owner/name) passes."""
    looks_like_hub_name = where.count("/") == 1 and not where.startswith((".", "~", "/")) and not where.endswith("/")
    if not Path(where).is_dir() and not looks_like_hub_name:
        raise ModelError(f"{where}: no such folder; {_WANTED}")


def _account(where: str, missing: Sequence[str], is_expected: Callable[[str], bool]) -> None:
    lacking = sorted(name for name in missing if not is_expected(name))
    if lacking:
        raise ModelError(
            f"{where}: lacks {len(lacking)} tensors ({lacking[0]} is the first); give a whole checkpoint of this model"
        )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without transformers' own progress bars and remarks: what matters of them becomes an error above."""
    logging = transformers.logging
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
