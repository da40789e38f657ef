"""Pictures: regions of made-up images, written as each project publishes them."""

from __future__ import annotations

import base64
import gzip
import json
import os
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

REAL = "train2014_obj36.tsv"


@dataclass(frozen=True)
class Picture:
    """One image: features float32 [O, F], boxes float32 [O, 4] in pixels."""

    image: str
    width: int
    height: int
    features: np.ndarray
    boxes: np.ndarray

    @property
    def scaled(self) -> np.ndarray:
        """Boxes 0-1, divided as LXMERT does."""
        boxes = self.boxes.copy()
        boxes[:, (0, 2)] /= self.width
        boxes[:, (1, 3)] /= self.height
        return boxes.clip(0, 1)


def pictures(count: int, *, seed: int = 0, regions: tuple[int, int] = (2, 5), features: int = 12) -> list[Picture]:
    """Images of `regions` (from, to) regions; as real ones, a part of their features is zero."""
    draw = np.random.default_rng(seed)
    made = []
    for number in range(count):
        size = draw.integers(50, 700, size=2)
        corners = np.sort(draw.random((int(draw.integers(*regions, endpoint=True)), 2, 2)), axis=1)
        values = draw.normal(0, 5, (len(corners), features)).clip(0).astype(np.float32)
        boxes = (corners * size).reshape(-1, 4).astype(np.float32)
        made.append(Picture(f"COCO_train2014_{number + 1:012d}", int(size[0]), int(size[1]), values, boxes))
    return made


def row(picture: Picture, **changed: object) -> list[str]:
    """The columns of LXMERT's TSV, some of them `changed`."""
    count = len(picture.boxes)
    columns: dict[str, object] = {
        "img_id": picture.image,
        "img_h": picture.height,
        "img_w": picture.width,
        "objects_id": np.arange(count, dtype=np.int64),
        "objects_conf": np.ones(count, dtype=np.float32),
        "attrs_id": np.arange(count, dtype=np.int64),
        "attrs_conf": np.ones(count, dtype=np.float32),
        "num_boxes": count,
        "boxes": picture.boxes,
        "features": picture.features,
    }
    return [_text(value) for value in (columns | changed).values()]


def bottom_up_row(picture: Picture) -> list[str]:
    """The columns of bottom-up attention's TSV, whose ids are numbers."""
    values = (int(picture.image[-12:]), picture.width, picture.height, len(picture.boxes))
    return [_text(value) for value in (*values, picture.boxes, picture.features)]


def write_tsv(path: Path, rows: Sequence[Sequence[str]], *, end: str = "\n") -> Path:
    """A TSV file, compressed as its name says; in a zip it lies in a folder, as LXMERT's does."""
    text = "".join("\t".join(columns) + end for columns in rows).encode()
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(text))
    elif path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
            packed.writestr(f"mscoco_imgfeat/{path.stem}.tsv", text)
    else:
        path.write_bytes(text)
    return path


def write_npz(folder: Path, made: Sequence[Picture], *, kind: str) -> Path:
    """A folder of .npz files: `mcan` (turned features, pixels), `gqa` (pixels), or `uniter` (boxes 0-1)."""
    folder.mkdir(parents=True)
    for picture in made:
        path = folder / f"{picture.image}.jpg.npz"
        size = {"image_w": picture.width, "image_h": picture.height}
        info = np.array({"image_id": picture.image}, dtype=object)  # pickled, as bottom-up-attention.pytorch does
        if kind == "mcan":
            np.savez_compressed(path, x=picture.features.T, bbox=picture.boxes, num_bbox=9, info=info, **size)
        elif kind == "gqa":
            size = {"width": picture.width, "height": picture.height}
            np.savez(path, x=picture.features, bbox=picture.boxes, **size)
        else:
            boxes = picture.scaled
            boxes = np.concatenate([boxes, boxes[:, 2:] - boxes[:, :2]], axis=1)
            np.savez(path, features=picture.features, norm_bb=boxes, conf=np.ones(len(boxes)), soft_labels=boxes)
    return folder


def write_hdf5(path: Path, made: Sequence[Picture], *, kind: str) -> Path:
    """An HDF5 file in the layout `kind`, all of the same number of regions where the layout needs it."""
    h5py = pytest.importorskip("h5py", reason="h5py is not installed, which HDF5 needs")
    features, boxes = ([getattr(picture, name) for picture in made] for name in ("features", "boxes"))
    spatial = [np.concatenate([p.scaled, p.scaled[:, 2:] - p.scaled[:, :2]], axis=1) for p in made]
    ids = [int(picture.image[-12:]) for picture in made]
    widths, heights = [picture.width for picture in made], [picture.height for picture in made]
    most = max(len(box) for box in boxes)
    with h5py.File(path, "w") as file:
        if kind == "groups":
            for picture in made:
                group = file.create_group(picture.image)
                group["features"], group["boxes"] = picture.features, picture.boxes
                group["img_w"], group["img_h"] = picture.width, picture.height
                group["obj_id"] = np.arange(len(picture.boxes))
        elif kind == "bottom-up":
            file["image_features"], file["spatial_features"] = np.stack(features), np.stack(spatial)
            file["image_bb"] = np.stack(boxes)
            path.with_name(f"{path.stem}_imgid2idx.json").write_text(
                json.dumps({str(image): place for place, image in reversed(list(enumerate(ids)))}), encoding="utf-8"
            )
        elif kind == "ragged":
            ends = np.cumsum([len(box) for box in boxes])
            file["pos_boxes"] = np.stack([np.concatenate([[0], ends[:-1]]), ends], axis=1).astype(np.int32)
            file["image_features"], file["spatial_features"] = np.concatenate(features), np.concatenate(spatial)
            file["image_bb"] = np.concatenate(boxes)
            lines = "".join(f"{image}\n" for image in ids)
            path.with_name(f"{path.stem}_ids.txt").write_text(lines, encoding="utf-8")
        elif kind == "vilbert":
            file["features"] = np.stack([_pad(feature, most) for feature in features])
            file["boxes"] = np.stack([_pad(box, most) for box in boxes])
            file["num_boxes"] = np.asarray([len(box) for box in boxes], dtype=np.float32)
            file["image_ids"] = np.asarray(ids, dtype=np.float32)  # as written, where no type is given
            file["image_w"], file["image_h"] = np.asarray(widths, np.float32), np.asarray(heights, np.float32)
        elif kind == "counting":
            file["features"] = np.stack([feature.T for feature in features]).astype(np.float16)
            file["boxes"] = np.stack([box.T for box in boxes])
            file["ids"], file["widths"], file["heights"] = np.asarray(ids, np.int32), widths, heights
        else:
            file["features"] = np.stack([_pad(feature, most) for feature in features])
            file["bboxes"] = np.stack([_pad(box, most) for box in boxes])
            info = {
                str(image): {"width": w, "height": h, "objectsNum": len(box), "idx": index, "file": 3}
                for index, (image, w, h, box) in enumerate(zip(ids, widths, heights, boxes, strict=True))
            }
            other = {"n7": {"width": 9, "height": 9, "objectsNum": 1, "idx": 0, "file": 1}}
            text = json.dumps(other | info)
            path.with_name("gqa_objects_info.json").write_text(text, encoding="utf-8")
    return path


def real_file() -> Path:
    """LXMERT's own file of 6 images, where it is at hand."""
    beside = Path(__file__).parents[3].parent / "shared" / "data"
    folder = Path(os.environ.get("LXCOMPRESS_TEST_DATA", beside)) / "region_features"
    if not (folder / REAL).is_file():
        pytest.skip(f"{REAL} is not in {folder}; LXCOMPRESS_TEST_DATA names the folder of folders that holds it")
    return folder / REAL


def _pad(array: np.ndarray, rows: int) -> np.ndarray:
    return np.concatenate([array, np.zeros((rows - len(array), array.shape[1]), array.dtype)])


def _text(value: object) -> str:
    return base64.b64encode(value.tobytes()).decode() if isinstance(value, np.ndarray) else str(value)
