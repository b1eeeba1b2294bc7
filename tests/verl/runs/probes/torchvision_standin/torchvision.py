"""In place of torchvision, whose wheels need CUDA: what transformers' Qwen2.5-VL processor uses of it for images that
have their size already. It insists on torchvision for videos, of which these rows have none."""

import sys
from enum import Enum
from types import ModuleType

import numpy
import torch

__version__ = "0.0"
InterpolationMode = Enum(
    "InterpolationMode", ["NEAREST", "NEAREST_EXACT", "BILINEAR", "BICUBIC", "BOX", "HAMMING", "LANCZOS"]
)


def pil_to_tensor(image):
    return torch.from_numpy(numpy.array(image)).permute(2, 0, 1)


def resize(image, size, **_):
    assert tuple(image.shape[-2:]) == tuple(size), "images of these tests are not resized"
    return image


def normalize(image, mean, std):
    mean, std = (torch.as_tensor(values)[:, None, None] for values in (mean, std))
    return (image - mean) / std


for name in ("io", "transforms", "transforms.functional", "transforms.v2", "transforms.v2.functional"):
    module = ModuleType(f"{__name__}.{name}")
    sys.modules[module.__name__] = module
    vars(module).update(
        InterpolationMode=InterpolationMode, pil_to_tensor=pil_to_tensor, resize=resize, normalize=normalize
    )
sys.modules[f"{__name__}.io"].ImageReadMode = sys.modules[f"{__name__}.io"].decode_image = None
sys.modules[f"{__name__}.transforms.v2"].functional = sys.modules[f"{__name__}.transforms.v2.functional"]
