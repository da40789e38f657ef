"""FasterRcnn: a Faster R-CNN (Ren et al. 2015) with a ResNet of the kind C4, as trained on Visual Genome.

The modules have the names of the tensors in the published file of weights, so torch itself compares names and shapes.

Shapes: H and W rows and columns of the picture in pixels, h and w those of the map, A anchors of a cell, R proposals,
D detections, F features, K classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from lxcompress.extractors.boxes import clip_boxes, decode_boxes, pool_boxes, suppress

BLOCKS = {50: (3, 4, 6), 101: (3, 4, 23), 152: (3, 8, 36)}
"""The layers of a ResNet -> the blocks of its stages 2, 3 and 4; stage 5, the head, has 3 (He et al. 2016)."""
HEAD_BLOCKS, HEAD_FACTOR = 3, 8
STRIDE = 16
"""The pixels of a cell of the map."""
PROPOSALS_AT_ONCE = 25
"""The proposals that go through the head together: 300 need more than 2 GB."""
NOT_NEEDED = tuple(f"roi_heads.box_predictor.{name}." for name in ("cls_embedding", "fc_attr", "attr_score"))
"""The beginnings of the names of tensors that only predict attributes, which no store keeps."""


@dataclass(frozen=True)
class DetectorConfig:
    """The settings of a Faster R-CNN; `detector.py` reads them from its config.yaml."""

    depth: int
    stem: int
    """the channels of the first convolution"""
    width: int
    """the channels of stage 2; a later stage has twice those of the one before"""
    bottleneck: int
    """the channels inside a block of stage 2"""
    groups: int
    strides_first: bool
    """whether the first 1 x 1 convolution of a block has its stride, as in Caffe, and not the 3 x 3 convolution"""
    caffe_pool: bool
    """whether the first max pooling has no padding, and rounds its size up"""
    halves: bool
    """whether the head halves the map; else its 3 x 3 convolutions are dilated"""
    anchors: int
    proposal_channels: int
    classes: int
    pooled: int
    """the cells on a side of a pooled proposal"""
    proposal_weights: tuple[float, ...]
    box_weights: tuple[float, ...]
    proposal_overlap: float
    overlaps: tuple[float, ...]
    """the overlaps of detections; the next one is tried if one leaves too few"""
    before_overlap: int
    """the most proposals by score that are compared with each other"""
    proposals: int
    smallest: float
    """the side in pixels that a proposal must exceed"""
    fewest: int
    most: int
    """the fewest and the most detections of a picture"""
    anchor_offset: float


@dataclass(frozen=True)
class Detections:
    """The detections of a picture, by falling score."""

    boxes: Tensor
    """[D, 4] in pixels of the picture that the network reads"""
    features: Tensor
    """[D, F]"""
    classes: Tensor
    """int64 [D]"""
    scores: Tensor
    """[D], 0-1"""


class NormedConvolution(nn.Conv2d):
    """A convolution without bias, and the batch norm after it."""

    def __init__(self, inputs: int, outputs: int, kernel: int, *, stride: int = 1, groups: int = 1) -> None:
        super().__init__(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
        self.norm = nn.BatchNorm2d(outputs)

    def forward(self, maps: Tensor) -> Tensor:
        normed: Tensor = self.norm(super().forward(maps))
        return normed

    def dilate(self) -> None:
        """Read every second cell instead of neighbours."""
        self.stride, self.padding, self.dilation = (1, 1), (2, 2), (2, 2)


class Bottleneck(nn.Module):
    """A bottleneck block of a ResNet (He et al. 2016)."""

    def __init__(self, inputs: int, hidden: int, outputs: int, *, stride: int, config: DetectorConfig) -> None:
        super().__init__()
        first, second = (stride, 1) if config.strides_first else (1, stride)
        self.shortcut = NormedConvolution(inputs, outputs, 1, stride=stride) if inputs != outputs else None
        self.conv1 = NormedConvolution(inputs, hidden, 1, stride=first)
        self.conv2 = NormedConvolution(hidden, hidden, 3, stride=second, groups=config.groups)
        self.conv3 = NormedConvolution(hidden, outputs, 1)

    def forward(self, maps: Tensor) -> Tensor:
        hidden = functional.relu(self.conv1(maps))
        hidden = functional.relu(self.conv2(hidden))
        result: Tensor = self.conv3(hidden)
        result += maps if self.shortcut is None else self.shortcut(maps)
        return functional.relu_(result)


class Stem(nn.Module):
    """The first convolution, and the pooling after it."""

    def __init__(self, config: DetectorConfig) -> None:
        super().__init__()
        self.conv1 = NormedConvolution(3, config.stem, 7, stride=2)
        self.is_caffe = config.caffe_pool

    def forward(self, picture: Tensor) -> Tensor:
        maps = functional.relu(self.conv1(picture))
        if self.is_caffe:
            return functional.max_pool2d(maps, 3, 2, padding=0, ceil_mode=True)
        return functional.max_pool2d(maps, 3, 2, padding=1)


class Backbone(nn.Module):
    """The stages 1 to 4 of a ResNet."""

    def __init__(self, config: DetectorConfig) -> None:
        super().__init__()
        self.stem = Stem(config)
        inputs, outputs, hidden = config.stem, config.width, config.bottleneck
        for stage, count in enumerate(BLOCKS[config.depth], start=2):
            blocks = _make_stage(inputs, hidden, outputs, count, stride=1 if stage == 2 else 2, config=config)
            self.add_module(f"res{stage}", blocks)
            inputs, outputs, hidden = outputs, 2 * outputs, 2 * hidden

    def forward(self, picture: Tensor) -> Tensor:
        maps: Tensor = self.stem(picture)
        for stage in range(2, 2 + len(BLOCKS[50])):
            maps = self.get_submodule(f"res{stage}")(maps)
        return maps


class ProposalHead(nn.Module):
    """The layers that score each anchor, and move it towards an object."""

    def __init__(self, config: DetectorConfig) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4 * config.width, config.proposal_channels, 3, padding=1)
        self.objectness_logits = nn.Conv2d(config.proposal_channels, config.anchors, 1)
        self.anchor_deltas = nn.Conv2d(config.proposal_channels, 4 * config.anchors, 1)

    def forward(self, maps: Tensor) -> tuple[Tensor, Tensor]:
        """Return the scores [h * w * A] and the changes [h * w * A, 4] of all anchors for the map [1, C, h, w]."""
        hidden = functional.relu(self.conv(maps))
        scores: Tensor = self.objectness_logits(hidden)[0].permute(1, 2, 0).flatten()
        changes: Tensor = self.anchor_deltas(hidden)[0].unflatten(0, (-1, 4)).permute(2, 3, 0, 1)
        return scores, changes.reshape(-1, 4)


class AnchorGenerator(nn.Module):
    """The anchors of one cell of the map, which the file of weights has too."""

    def __init__(self, config: DetectorConfig) -> None:
        super().__init__()
        self.cell_anchors = nn.ParameterList([nn.Parameter(torch.zeros(config.anchors, 4))])
        self.offset = config.anchor_offset

    def forward(self, rows: int, columns: int) -> Tensor:
        """Return the anchors of all cells of the map: [h * w * A, 4], in pixels."""
        down = (torch.arange(rows, dtype=torch.float32) + self.offset) * STRIDE
        right = (torch.arange(columns, dtype=torch.float32) + self.offset) * STRIDE
        y, x = torch.meshgrid(down, right, indexing="ij")
        shifts = torch.stack([x, y, x, y], dim=2).view(-1, 1, 4)
        return (shifts + self.cell_anchors[0]).view(-1, 4)


class ProposalGenerator(nn.Module):
    """The network that proposes regions (RPN, Ren et al. 2015)."""

    def __init__(self, config: DetectorConfig) -> None:
        super().__init__()
        self.config = config
        self.rpn_head = ProposalHead(config)
        self.anchor_generator = AnchorGenerator(config)

    def forward(self, maps: Tensor, height: int, width: int) -> Tensor:
        """Return the proposals [R, 4] in pixels, by falling score, for the map [1, C, h, w]."""
        config = self.config
        scores, changes = self.rpn_head(maps)
        anchors = self.anchor_generator(*maps.shape[2:])
        boxes = decode_boxes(changes, anchors, config.proposal_weights)
        scores, order = scores.sort(descending=True)
        scores, boxes = scores[: config.before_overlap], boxes[order[: config.before_overlap]]
        boxes = clip_boxes(boxes, height, width)
        is_large = ((boxes[:, 2:] - boxes[:, :2]) > config.smallest).all(1)
        boxes, scores = boxes[is_large], scores[is_large]
        return boxes[suppress(boxes, scores, config.proposal_overlap, config.proposals)]


class BoxPredictor(nn.Module):
    """The layers that classify a proposal, and move its box for each class."""

    def __init__(self, config: DetectorConfig) -> None:
        super().__init__()
        features = HEAD_FACTOR * config.width
        self.cls_score = nn.Linear(features, config.classes + 1)  # the last one is the background
        self.bbox_pred = nn.Linear(features, 4 * config.classes)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the best class of each proposal [R], its probability [R], and its changes [R, 4]."""
        scores, classes = self.cls_score(features).softmax(1)[:, :-1].max(1)
        changes = self.bbox_pred(features).unflatten(1, (-1, 4))
        return classes, scores, changes[torch.arange(len(changes)), classes]


class Heads(nn.Module):
    """The last stage of the ResNet, which reads the pooled proposals, and the layers after it."""

    def __init__(self, config: DetectorConfig) -> None:
        super().__init__()
        self.config = config
        hidden, features = HEAD_FACTOR * config.bottleneck, HEAD_FACTOR * config.width
        self.res5 = _make_stage(4 * config.width, hidden, features, HEAD_BLOCKS, stride=2, config=config)
        if not config.halves:
            _dilate(self.res5)
        self.box_predictor = BoxPredictor(config)

    def forward(self, maps: Tensor, proposals: Tensor) -> Tensor:
        """Return the features [R, F] of the proposals on the map [C, h, w]."""
        pooled = pool_boxes(maps, proposals, 1 / STRIDE, self.config.pooled)
        features: Tensor = self.res5(pooled).mean((2, 3))
        return features


class FasterRcnn(nn.Module):
    """A Faster R-CNN: proposals, their features, and the detections among them."""

    def __init__(self, config: DetectorConfig) -> None:
        super().__init__()
        self.config = config
        self.backbone = Backbone(config)
        self.proposal_generator = ProposalGenerator(config)
        self.roi_heads = Heads(config)

    @torch.no_grad()
    def forward(self, picture: Tensor) -> Detections:
        """Return the detections in one picture [3, H, W]."""
        height, width = picture.shape[1:]
        maps = self.backbone(picture[None])
        proposals = self.proposal_generator(maps, height, width)
        features = torch.cat([self.roi_heads(maps[0], chunk) for chunk in proposals.split(PROPOSALS_AT_ONCE)])
        classes, scores, changes = self.roi_heads.box_predictor(features)
        boxes = clip_boxes(decode_boxes(changes, proposals, self.config.box_weights), height, width)
        kept = self._leave_out_doubles(boxes, scores)
        return Detections(boxes[kept], features[kept], classes[kept], scores[kept])

    def load(self, weights: Mapping[str, Tensor]) -> tuple[str, ...]:
        """Load published weights; return the names of the tensors that are not needed.

        Raises ValueError if a tensor is missing, unknown, or has another shape.
        """
        names = {name: name.replace("gamma", "weight").replace("beta", "bias") for name in weights}  # older files
        rest = {own: weights[name] for name, own in names.items() if not own.startswith(NOT_NEEDED)}
        expected = self.state_dict()
        counters = {name for name in expected if name.endswith("num_batches_tracked")}
        lacking = sorted(expected.keys() - rest.keys() - counters)
        unknown = sorted(rest.keys() - expected.keys())
        if lacking or unknown:
            what = f"lacks {len(lacking)} tensors, {lacking[0]}" if lacking else f"has unknown tensors, {unknown[0]}"
            raise ValueError(f"{what} is the first")
        for name, tensor in rest.items():
            if tensor.shape != expected[name].shape:
                raise ValueError(f"{name} has the shape {list(tensor.shape)}, expected {list(expected[name].shape)}")
        self.load_state_dict({**{name: expected[name] for name in counters}, **rest})
        return tuple(sorted(name for name, own in names.items() if own.startswith(NOT_NEEDED)))

    def _leave_out_doubles(self, boxes: Tensor, scores: Tensor) -> Tensor:
        """Return the indices of the detections by falling score, without doubles of any class."""
        config = self.config
        for overlap in config.overlaps:
            kept = suppress(boxes, scores, overlap, config.most)
            if len(kept) >= config.fewest:
                break
        return kept


def _make_stage(
    inputs: int, hidden: int, outputs: int, count: int, *, stride: int, config: DetectorConfig
) -> nn.Sequential:
    """Return a stage of `count` blocks; the first one has the stride."""
    first = Bottleneck(inputs, hidden, outputs, stride=stride, config=config)
    others = (Bottleneck(outputs, hidden, outputs, stride=1, config=config) for _ in range(count - 1))
    return nn.Sequential(first, *others)


def _dilate(stage: nn.Sequential) -> None:
    """Let a stage keep the size of its map: no stride, and 3 x 3 convolutions that read every second cell."""
    first = stage[0]
    assert isinstance(first, Bottleneck)
    first.conv1.stride = (1, 1)
    if first.shortcut is not None:
        first.shortcut.stride = (1, 1)
    for block in stage:
        assert isinstance(block, Bottleneck)
        block.conv2.dilate()
