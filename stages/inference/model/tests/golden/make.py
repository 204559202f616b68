"""Makes the golden tensors of tests/literal.rs with OpenVINO's CPU plugin.

usage: python make.py      (needs: openvino 2026.4, numpy; a processor with AVX2 and FMA)

The inputs follow from `values`, which the test computes as well; only outputs are stored, and the input of the
FakeQuantize cases: values at and next to the middle between two levels.
"""
import pathlib
import numpy as np, openvino as ov
import openvino.opset13 as op

here = pathlib.Path(__file__).parent
config = {"INFERENCE_PRECISION_HINT": "f32", "LP_TRANSFORMS_MODE": False, "DYNAMIC_QUANTIZATION_GROUP_SIZE": 0}
f32 = np.float32


def values(shape, seed):
    i = np.arange(np.prod(shape), dtype=np.int64) + seed
    return ((i * 7919 % 1009 - 500).astype(f32) / f32(77.7)).reshape(shape)


def run(result, inputs, *data):
    model = ov.Core().compile_model(ov.Model([result], inputs), "CPU", config)
    return np.array(model(list(data))[0])


def case(name, build, *shapes):
    inputs = [op.parameter(list(s), f32) for s in shapes]
    np.save(here / f"{name}.npy", run(build(*inputs), inputs, *(values(s, 1) for s in shapes)))


def identity(x):
    c = x.get_output_shape(0)[1]
    eye = op.constant(np.eye(c, dtype=f32).reshape(c, c, 1, 1))
    return op.convolution(x, eye, [1, 1], [0, 0], [0, 0], [1, 1])


weights = lambda *shape: op.constant(values(shape, 3))
case("convolution", lambda x: op.convolution(x, weights(6, 20, 3, 3), [2, 2], [1, 1], [1, 1], [1, 1]), (1, 20, 7, 7))
case("pointwise", lambda x: op.convolution(x, weights(8, 1500, 1, 1), [1, 1], [0, 0], [0, 0], [1, 1]), (1, 1500, 2, 3))
case("depthwise", lambda x: op.group_convolution(x, weights(24, 1, 1, 3, 3), [1, 1], [1, 1], [1, 1], [1, 1]), (1, 24, 4, 4))
case("product", lambda x: op.matmul(x, weights(1100, 8), False, False), (3, 1100))
case("average", lambda x: op.avg_pool(identity(x), [2, 2], [1, 1], [1, 1], [3, 3], True), (1, 16, 6, 6))
case("mean", lambda x: op.reduce_mean(identity(x), op.constant([2, 3]), True), (1, 64, 7, 7))
case("linear", lambda x: op.interpolate(identity(x), op.constant([8, 8]), "linear_onnx", "sizes", axes=op.constant([2, 3]),
     coordinate_transformation_mode="half_pixel", nearest_mode="round_prefer_floor"), (1, 16, 4, 4))

low, high = f32(-1.23), f32(7.7)


def next_to_middles(low):
    scale = f32(255) / (high - low)
    level = np.arange(255) + 0.5
    middle = ((level - np.float64(-low * scale)) / np.float64(scale)).astype(f32)
    return np.stack([(middle.view(np.int32) + d).view(f32) for d in (-2, -1, 0, 1)]).reshape(1, 4, 15, 17)


near = next_to_middles(low)
np.save(here / "near.npy", near)
np.save(here / "near_positive.npy", next_to_middles(f32(0)))


def quantized(name, before, x=near, low=low):
    p = op.parameter([1, 4, 15, 17], f32)
    limits = [op.constant(np.array(v, f32).reshape(1, 1, 1, 1)) for v in (low, high, -0.5, 6.5)]
    np.save(here / f"{name}.npy", run(op.fake_quantize(before(p), *limits, 256), [p], x))


quantized("quantized_behind_sum", identity)
quantized("quantized_input", lambda p: p)
quantized("quantized_folded", lambda p: op.subtract(op.multiply(p, op.constant(f32(1.7))), op.constant(f32(0.3))), (near + f32(0.3)) / f32(1.7))
quantized("quantized_pooled", lambda p: op.max_pool(p, [1, 1], [1, 1], [0, 0], [0, 0], [1, 1]).output(0))
quantized("quantized_behind_relu", lambda p: op.relu(op.subtract(op.multiply(p, op.constant(f32(1.7))), op.constant(f32(0.3)))),
          (next_to_middles(f32(0)) + f32(0.3)) / f32(1.7), f32(0))
