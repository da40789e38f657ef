"""The settings of a pre-training of LXMERT; `lxcompress pretrain` reads them from a YAML file."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, field_validator, model_validator

from lxcompress.recipe.data import ScenesData
from lxcompress.recipe.settings import (
    RECIPE_VERSION,
    Count,
    Device,
    Fraction,
    Name,
    RecipeSection,
    Seed,
    Train,
    Version,
)


class Architecture(RecipeSection):
    """The sizes of the model to pre-train, with the names of transformers; the defaults are the sizes of `mini`."""

    hidden_size: Count = 128
    num_attention_heads: Count = 4
    intermediate_size: Count = 512
    l_layers: Count = 2
    r_layers: Count = 2
    x_layers: Count = 2
    visual_loss_normalizer: Annotated[float, Field(ge=0)] = 0.1
    hidden_dropout_prob: Annotated[float, Field(ge=0, lt=1)] = 0.0
    attention_probs_dropout_prob: Annotated[float, Field(ge=0, lt=1)] = 0.0

    @model_validator(mode="after")
    def _check_heads_divide(self) -> Architecture:
        if self.hidden_size % self.num_attention_heads:
            raise ValueError(f"hidden_size {self.hidden_size} is not a multiple of num_attention_heads")
        return self


class Pretrain(RecipeSection):
    """The settings of a pre-training of LXMERT on scenes.

    The three probabilities (0-1) are: that a word or region is masked, that the answer is appended to the question
    (a statement), and that a statement gets the image of another question.
    """

    version: Version = RECIPE_VERSION
    name: Name
    device: Device = "auto"
    seed: Seed = 0
    data: ScenesData
    architecture: Architecture = Architecture()
    train: Train = Train()
    mask_probability: Fraction = 0.15
    statement_probability: Fraction = 0.3
    mismatch_probability: Fraction = 0.5

    @field_validator("data")
    @classmethod
    def _check_data(cls, data: ScenesData) -> ScenesData:
        if data.pixels is not None:
            raise ValueError("LXMERT reads regions and no pictures: leave pixels out")
        if data.test is not None:
            raise ValueError("test has no effect on a pre-training, where nothing is picked: leave test out")
        return data
