"""All 121 names of ``torchvision.models.list_models()``: 80 classifiers, 12 of them in their quantisable form (not
quantised), segmentation, detection, video and optical flow. Inputs are as small as the models allow.
"""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import nn

from tools.zoo.row import Inputs, Row, images, noise

CLASSIFIERS = """
    alexnet convnext_base convnext_large convnext_small convnext_tiny densenet121 densenet161 densenet169 densenet201
    efficientnet_b0 efficientnet_b1 efficientnet_b2 efficientnet_b3 efficientnet_b4 efficientnet_b5 efficientnet_b6
    efficientnet_b7 efficientnet_v2_l efficientnet_v2_m efficientnet_v2_s googlenet inception_v3 maxvit_t mnasnet0_5
    mnasnet0_75 mnasnet1_0 mnasnet1_3 mobilenet_v2 mobilenet_v3_large mobilenet_v3_small regnet_x_16gf regnet_x_1_6gf
    regnet_x_32gf regnet_x_3_2gf regnet_x_400mf regnet_x_800mf regnet_x_8gf regnet_y_128gf regnet_y_16gf regnet_y_1_6gf
    regnet_y_32gf regnet_y_3_2gf regnet_y_400mf regnet_y_800mf regnet_y_8gf resnet101 resnet152 resnet18 resnet34
    resnet50 resnext101_32x8d resnext101_64x4d resnext50_32x4d shufflenet_v2_x0_5 shufflenet_v2_x1_0 shufflenet_v2_x1_5
    shufflenet_v2_x2_0 squeezenet1_0 squeezenet1_1 swin_b swin_s swin_t swin_v2_b swin_v2_s swin_v2_t vgg11 vgg11_bn
    vgg13 vgg13_bn vgg16 vgg16_bn vgg19 vgg19_bn vit_b_16 vit_b_32 vit_h_14 vit_l_16 vit_l_32 wide_resnet101_2
    wide_resnet50_2
"""
QUANTISABLE = """
    quantized_googlenet quantized_inception_v3 quantized_mobilenet_v2 quantized_mobilenet_v3_large quantized_resnet18
    quantized_resnet50 quantized_resnext101_32x8d quantized_resnext101_64x4d quantized_shufflenet_v2_x0_5
    quantized_shufflenet_v2_x1_0 quantized_shufflenet_v2_x1_5 quantized_shufflenet_v2_x2_0
"""
SEGMENTATION = """
    deeplabv3_mobilenet_v3_large deeplabv3_resnet101 deeplabv3_resnet50 fcn_resnet101 fcn_resnet50
    lraspp_mobilenet_v3_large
"""
TWO_STAGE = """
    fasterrcnn_mobilenet_v3_large_320_fpn fasterrcnn_mobilenet_v3_large_fpn fasterrcnn_resnet50_fpn
    fasterrcnn_resnet50_fpn_v2 keypointrcnn_resnet50_fpn maskrcnn_resnet50_fpn maskrcnn_resnet50_fpn_v2
"""
ONE_STAGE = ["fcos_resnet50_fpn", "retinanet_resnet50_fpn", "retinanet_resnet50_fpn_v2"]
SINGLE_SHOT = ["ssd300_vgg16", "ssdlite320_mobilenet_v3_large"]
VIDEO = ["mc3_18", "r2plus1d_18", "r3d_18", "swin3d_b", "swin3d_s", "swin3d_t"]
LONG_VIDEO = ["mvit_v1_b", "mvit_v2_s", "s3d"]
FLOW = ["raft_large", "raft_small"]

OPTIONS: Mapping[str, Mapping[str, Any]] = {
    "googlenet": {"init_weights": False},  # torch's own initial values: theirs take a minute
    "inception_v3": {"init_weights": False},
    "quantized_googlenet": {"init_weights": False},
    "quantized_inception_v3": {"init_weights": False},
    "vit_b_16": {"image_size": 64},
    "vit_b_32": {"image_size": 64},
    "vit_h_14": {"image_size": 56},
    "vit_l_16": {"image_size": 64},
    "vit_l_32": {"image_size": 64},
}
"""Constructor options beside ``weights=None``."""

SIDES = {
    "inception_v3": images(299, 1),
    "quantized_inception_v3": images(299, 1),
    "maxvit_t": images(224, 1),
    "vit_h_14": images(56),
}
"""Images of the classifiers that do not take 64 x 64."""


def _build(name: str, **options: Any) -> nn.Module:
    from torchvision.models import get_model

    model: nn.Module = get_model(name, weights=None, **options)
    return model


def _scene(side: int, dtype: torch.dtype) -> tuple[Any, ...]:
    """A list of two images of different shape, as detectors take them."""
    return ([noise(3, side, side, dtype=dtype), noise(3, side, side - 16, dtype=dtype, seed=1)],)


def _clip(frames: int, side: int, dtype: torch.dtype) -> tuple[Any, ...]:
    return (noise(1, 3, frames, side, side, dtype=dtype),)


def _pair(dtype: torch.dtype) -> tuple[Any, ...]:
    """Two images and the number of refinements of the flow between them."""
    return noise(1, 3, 128, 128, dtype=dtype), noise(1, 3, 128, 128, dtype=dtype, seed=1), 2


def _rows(
    names: str | list[str], family: str, inputs: Inputs, note: str = "", **options: Any
) -> tuple[Row, ...]:
    return tuple(
        Row(
            name,
            family,
            partial(_build, name, **options, **OPTIONS.get(name, {})),
            SIDES.get(name, inputs),
            note,
        )
        for name in (names.split() if isinstance(names, str) else names)
    )


SCENE = partial(_scene, 128)
BARE: Mapping[str, Any] = {"weights_backbone": None}
SMALL: Mapping[str, Any] = {"min_size": 128, "max_size": 128}
PROPOSALS = 20
"""Boxes of an image that reach the heads; torchvision's thousand cost what a thousand images do."""

ROWS: tuple[Row, ...] = (
    *_rows(CLASSIFIERS, "classification", images(64)),
    *_rows(QUANTISABLE, "quantisable", images(64), quantize=False),
    *_rows(SEGMENTATION, "segmentation", images(64), **BARE),
    *_rows(
        TWO_STAGE,
        "detection",
        SCENE,
        **BARE,
        **SMALL,
        box_score_thresh=0.0,
        rpn_post_nms_top_n_test=PROPOSALS,
        rpn_post_nms_top_n_train=PROPOSALS,
        box_detections_per_img=10,
    ),
    *_rows(ONE_STAGE, "detection", SCENE, **BARE, **SMALL, score_thresh=0.0, detections_per_img=10),
    *_rows(SINGLE_SHOT, "detection", SCENE, **BARE, score_thresh=0.0, detections_per_img=10),
    *_rows(VIDEO, "video", partial(_clip, 4, 64)),
    *_rows(LONG_VIDEO, "video", partial(_clip, 16, 224)),
    # Their grids of coordinates are float32.
    *(
        replace(row, dtype=torch.float32)
        for row in _rows(FLOW, "optical flow", _pair, "in float32")
    ),
)
