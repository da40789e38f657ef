"""Open an image network of transformers, such as ViT, CLIP or SigLIP, as an extractor."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from lxcompress.catalog.extractors import TRANSFORMERS
from lxcompress.errors import DataError, unreadable
from lxcompress.extractors.backbone import BackboneExtractor, make_backbone, to_map
from lxcompress.extractors.preparation import read_processor
from lxcompress.extractors.weights import hash_version
from lxcompress.filenames import CONFIG_FILE, WEIGHTS_FILE
from lxcompress.quiet import quiet, quiet_tqdm
from lxcompress.text import parse_json, read_text

PROCESSOR = "preprocessor_config.json"
WEIGHTS = (WEIGHTS_FILE, "pytorch_model.bin")
NOT_NEEDED = re.compile(r"(^|\.)pooler\.")
"""Tensors that a checkpoint may lack, because the last map does not depend on them."""


def load_transformers(folder: Path, grid: int) -> BackboneExtractor:
    """Load the image network in `folder`; of a network of images and text, such as CLIP, the image part.

    Nothing is downloaded, and no code of the folder runs. Raises DataError.
    """
    name = f"{TRANSFORMERS}{re.sub(r'[^A-Za-z0-9._-]+', '-', folder.resolve().name)}"
    path = next((folder / file for file in WEIGHTS if (folder / file).is_file()), None)
    if path is None:
        raise DataError(f"{folder}: has no {' or '.join(WEIGHTS)}; give the folder of an image model of transformers")
    tree, config = _read_object(folder / PROCESSOR), _read_object(folder / CONFIG_FILE)
    if "auto_map" in config:
        raise DataError(f"{folder}: its {CONFIG_FILE} names Python code (auto_map), which lxcompress never runs")
    try:
        preparation = read_processor(tree)
    except ValueError as problem:
        raise DataError(f"{folder / PROCESSOR}: {problem}; give a model whose photographs are only resized") from None
    network, patch = _load(folder)
    height, width = preparation.shape
    shape = (height // patch, width // patch)

    def run(picture: Tensor) -> Tensor:
        return to_map(network(pixel_values=picture).last_hidden_state, shape)

    version = hash_version([path], json.dumps([config, preparation.settings], sort_keys=True))
    return make_backbone(name, version, preparation, grid, run)


def _load(folder: Path) -> tuple[nn.Module, int]:
    """Return the network in `folder`, and the pixels on a side of a patch. Raises DataError."""
    with quiet("transformers"), quiet_tqdm():
        from safetensors import SafetensorError
        from transformers.models.auto.configuration_auto import AutoConfig
        from transformers.models.auto.modeling_auto import AutoModel

        try:
            config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
            config = getattr(config, "vision_config", config)
            network, info = AutoModel.from_pretrained(
                folder, config=config, local_files_only=True, trust_remote_code=False, output_loading_info=True
            )
        except (OSError, ValueError, KeyError, RuntimeError, TypeError, SafetensorError) as problem:
            reason = str(problem).partition("\n")[0] or type(problem).__name__
            raise DataError(f"{folder}: cannot be loaded by transformers ({reason}); give an image model") from None
    lacking = sorted(name for name in info["missing_keys"] if not NOT_NEEDED.search(name))
    if lacking:
        raise DataError(
            f"{folder}: lacks {len(lacking)} tensors of {type(network).__name__} ({lacking[0]} is the first); give a "
            "whole checkpoint"
        )
    patch = getattr(config, "patch_size", None)
    return network.float().eval(), patch if isinstance(patch, int) and patch > 0 else 1


def _read_object(path: Path) -> Mapping[str, Any]:
    """Return the JSON object in a file. Raises DataError."""
    try:
        tree = parse_json(read_text(path))
    except FileNotFoundError:
        raise DataError(f"{path}: is missing; copy it from where the model is published") from None
    except (OSError, ValueError, RecursionError) as problem:
        raise unreadable(path, problem, DataError) or DataError(f"{path}: cannot be read ({problem})") from None
    if not isinstance(tree, dict):
        raise DataError(f"{path}: is no JSON object; copy it from where the model is published")
    return tree
