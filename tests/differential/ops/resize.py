"""Interpolate."""
import numpy as np
import openvino.opset15 as op
from openvino import opset10

from .base import operation
from .movement import ints
from .quantize import lengths


def draw_interpolate(g):
    ref = g.quantize(g.recent(ranks=(4, 4, 4, 3, 5)), 0.7)
    shape = g.shape(ref)
    mode = g.rng.choices(["nearest", "linear_onnx", "linear", "cubic"], [5, 4, 2, 1.5])[0]
    if len(shape) < 3 or mode == "linear_onnx" and len(shape) == 3:
        return None
    (out,) = g.add(
        "interpolate", [ref], mode=mode, factors=[g.rng.choice([2.0, 2.0, 0.5, 1.5, 3.0, 1.0]) for _ in shape[2:]],
        by=g.rng.choice(["sizes", "scales"]),
        coordinates=g.rng.choice(["half_pixel", "half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel", "tf_half_pixel_for_nn"]),
        nearest=g.rng.choice(["round_prefer_floor", "round_prefer_ceil", "floor", "ceil", "simple"]),
        version=g.rng.choice([4, 11]), cube=g.rng.choice([-0.75, -0.5]),
    )
    return out


@operation("interpolate", draw_interpolate, 3.0)
def build_interpolate(b, node, x):
    shape = lengths(x)
    axes = list(range(2, len(shape)))
    sizes = [max(1, int(s * f)) for s, f in zip(shape[2:], node["factors"])]
    scales = np.array([f for f, _ in zip(node["factors"], axes)], np.float32)
    attributes = {
        "mode": node["mode"], "shape_calculation_mode": node["by"], "nearest_mode": node["nearest"],
        "coordinate_transformation_mode": node["coordinates"], "cube_coeff": node["cube"],
    }
    if node["version"] == 4:
        return opset10.interpolate(x, ints(sizes), op.constant(scales), axes=ints(axes), **attributes)
    target = ints(sizes) if node["by"] == "sizes" else op.constant(scales)
    return op.interpolate(x, target, axes=ints(axes), **attributes)
