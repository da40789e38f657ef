"""Write scikit-learn's handwritten digits as a table and a folder of images, with a small ViT to start from.

    python bench/digits.py --out digits
    lxcompress study images

The digits are 1,797 real scans of 8 x 8 pixels (Alpaydin & Kaynak 1998), which scikit-learn ships. The ViT has random
weights: its accuracy is learnt from these digits alone.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from sklearn.datasets import load_digits
from transformers import ViTConfig, ViTForImageClassification

from lxcompress.data.tokens import shipped_vocabulary

PIXELS = 32
"""The side of an image: each of the 8 x 8 pixels is repeated 4 x 4 times."""
SPLITS = {"train": range(0, 1200), "valid": range(1200, 1500), "test": range(1500, 1797)}


def write_digits(out: Path) -> None:
    """Write images/N.png, and train.csv, valid.csv and test.csv with the columns image and digit."""
    digits = load_digits()
    (out / "images").mkdir(parents=True, exist_ok=True)
    for number, image in enumerate(digits.images):
        pixels = np.kron(image * 255 / 16, np.ones((PIXELS // 8, PIXELS // 8))).round().astype(np.uint8)
        Image.fromarray(pixels).save(out / "images" / f"{number}.png")
    for split, rows in SPLITS.items():
        with (out / f"{split}.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(("image", "digit"))
            writer.writerows((f"{row}.png", digits.target[row]) for row in rows)


def write_start(out: Path) -> None:
    """Write a transformers folder: a ViT of random weights, and a vocabulary, which every study needs."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 64, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 128}
    config = ViTConfig(**sizes, image_size=PIXELS, patch_size=8, num_labels=10)
    ViTForImageClassification(config).save_pretrained(out / "start")
    (out / "start" / "vocab.txt").write_text("\n".join(shipped_vocabulary()) + "\n", encoding="utf-8")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("digits"))
    out = parser.parse_args().out
    write_digits(out)
    write_start(out)
    print(f"{out}: {sum(map(len, SPLITS.values())):,} images")
