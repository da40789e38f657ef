"""Family: what every model family offers to training, pruning and export.

A family's module (models/lxmert.py is an example) states its anatomy and a few functions; all else follows from these.

Shapes: B questions, N images a question, L tokens or regions, H hidden, A answers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig

from lxcompress.catalog.extensions import resolve
from lxcompress.catalog.families import Modality, find_family_spec
from lxcompress.data.split import Inputs
from lxcompress.errors import ExtensionError, ModelError
from lxcompress.models import anatomy as anatomies
from lxcompress.models.anatomy import Anatomy, Attention, FeedForward
from lxcompress.models.heads import copy_head, draw_head


def reads_no_picture(config: PreTrainedConfig) -> int | None:
    """Return None: the model reads region features."""
    return None


def removes_nothing(module: nn.Module) -> None:
    """Leave the module unchanged: every weight of it feeds the answer."""


def accepts_every_config(config: PreTrainedConfig) -> None:
    """Accept any config."""


@dataclass(frozen=True)
class Family:
    """A model family. The fields are what a family states; the methods follow from them."""

    name: str
    """`model_type` in config.json"""
    title: str
    """the name in sentences for the user"""
    anatomy: Anatomy
    config_class: type[PreTrainedConfig]
    answering: tuple[str, ...]
    """names of transformers' classes that have this family's answer head; the first is the one that `make` builds"""
    make: Callable[[Any], nn.Module]
    """(config) -> the whole question-answering model, dead branch included, with any weights"""
    answer: Callable[[Any, Inputs], Tensor]
    """(module, inputs [B * N, ...]) -> answer scores (logits) [B, A]"""
    hidden: Callable[[Any, Inputs], tuple[Tensor, list[Tensor]]]
    """(module, inputs) -> answer scores [B, A], and the output of each layer that they depend on, [B * N, L, H]"""
    feature_size: Callable[[Any], int]
    """(config) -> the number of features of a region, or of a picture's values"""
    picture_size: Callable[[Any], int | None] = reads_no_picture
    """(config) -> pixels a side of the picture that the model reads as one region; None if it reads region features"""
    remove_dead: Callable[[Any], None] = removes_nothing
    """(module) -> None; takes the branch that no answer depends on out of the module, in place"""
    check_config: Callable[[Any], None] = accepts_every_config
    """(config) -> None; raises ValueError for a config of which no model can be made"""
    answers_field: str = "num_labels"
    """the field of the config that has A"""
    images_field: str | None = None
    """the field of the config that has N, absent for N = 1; None if the family reads one image only"""

    def build(self, config: PreTrainedConfig) -> nn.Module:
        """Return the model of `config` without its dead branch, in evaluation mode; its weights are arbitrary."""
        with torch.random.fork_rng(devices=()):
            module = self.make(config)
        self.remove_dead(module)
        return module.eval()

    def shapes(self, config: PreTrainedConfig) -> dict[str, torch.Size]:
        """Return {name: shape} of every tensor of the whole model, dead branch included; no memory is taken."""
        with torch.device("meta"):
            return {name: tensor.shape for name, tensor in self.make(config).state_dict().items()}

    def is_prunable(self, name: str, shape: torch.Size) -> bool:
        """Return whether a tensor is a weight matrix that may be pruned."""
        return anatomies.is_prunable(self.anatomy, name, shape)

    def is_dead(self, name: str, config: PreTrainedConfig) -> bool:
        """Return whether no answer depends on a tensor."""
        return anatomies.is_dead(self.anatomy, name, config)

    def count_dead(self, config: PreTrainedConfig) -> int:
        """Return the number of weights that no answer depends on."""
        if not self.anatomy.dead:
            return 0
        return sum(shape.numel() for name, shape in self.shapes(config).items() if self.is_dead(name, config))

    def modality(self, name: str) -> Modality:
        """Return the part of the model that a tensor belongs to."""
        return find_family_spec(self.name).find_part(name) or "head"

    def feed_forwards(self, module: nn.Module) -> list[FeedForward]:
        """Return the feed-forward blocks of a model, in the order of its modules."""
        return anatomies.find_feed_forwards(self.anatomy, module)

    def attentions(self, module: nn.Module) -> list[Attention]:
        """Return the sets of attention heads of a model, in the order of its modules."""
        return anatomies.find_attentions(self.anatomy, module)

    def stacks(self, config: PreTrainedConfig) -> dict[str, str]:
        """Return {name of a list of layers: field of the config that counts them}."""
        return anatomies.find_stacks(self.anatomy, config)

    def count_answers(self, config: PreTrainedConfig) -> int:
        """Return A, the number of answers that the head scores."""
        answers: int = getattr(config, self.answers_field)
        return answers

    def set_answers(self, config: PreTrainedConfig, answers: int) -> None:
        """Write A into the config."""
        setattr(config, self.answers_field, answers)

    def count_images(self, config: PreTrainedConfig) -> int:
        """Return N, the number of images of a question. Raises ValueError if the config has another value there."""
        return 1 if self.images_field is None else read_images(config, self.images_field)

    def set_images(self, config: PreTrainedConfig, images: int) -> None:
        """Write N into the config; for one image it is left out, so that the config stays transformers' own.

        Raises ModelError for several images if the family reads one only.
        """
        if self.images_field is None:
            if images != 1:
                raise ModelError(
                    f"{self.title}: answers questions about one image, but the data have {images} a question; "
                    "start from an LXMERT (model.start=mini)"
                )
        elif images != 1:
            setattr(config, self.images_field, images)
        elif hasattr(config, self.images_field):
            delattr(config, self.images_field)

    def fresh_head(
        self, config: PreTrainedConfig, generator: torch.Generator, *, last_bias: float | None = None
    ) -> dict[str, Tensor]:
        """Return the weights of a new answer head for the answers of `config`: heads.draw_head."""
        shapes = {name: shape for name, shape in self.shapes(config).items() if name.startswith(self.anatomy.head)}
        deviation: float = getattr(config, "initializer_range")  # noqa: B009 (a field that every config here has)
        return draw_head(shapes, self.anatomy.output_layer, generator, deviation=deviation, last_bias=last_bias)

    def copied_head(
        self, head: Mapping[str, Tensor], rows: Sequence[int | None], *, last_bias: float | None = None
    ) -> dict[str, Tensor]:
        """Return the answer head `head` with row `rows[i]` for answer i: heads.copy_head."""
        return copy_head(head, self.anatomy.output_layer, rows, last_bias=last_bias)


def read_images(config: PreTrainedConfig, field: str) -> int:
    """Return the number of images of a question in a field of the config; 1 if it is absent.

    Raises ValueError for any other value than a whole number from 1.
    """
    images = getattr(config, field, 1)
    if type(images) is not int or images < 1:
        raise ValueError(f"{field} is a whole number from 1, got {images!r}")
    return images


def find_family(name: str) -> Family:
    """Return the family of a model_type. Raises ExtensionError if no package has it, or if it is broken."""
    spec = find_family_spec(name)
    family = resolve(spec.family)
    if not isinstance(family, Family) or family.name != name:
        raise ExtensionError(
            f"families: {spec.family} is {family!r:.80}, expected a Family with the name {name!r}; correct that package"
        )
    return family
