"""Golden cases of the operations of vision networks: python vision.py [FOLDER..]."""
import sys

import numpy as np
import openvino.opset1 as op1
import openvino.opset2 as op2
import openvino.opset3 as op3
import openvino.opset4 as op4
import openvino.opset5 as op5

import harness
from harness import op, values

f32, i32, i64 = np.float32, np.int32, np.int64
only = sys.argv[1:]
ints = lambda *list: harness.const(list, i64)
floats = lambda *list: harness.const(list, f32)
scalar = lambda value: op.constant(f32(value))


def cases(folder):
    """Runs a function that makes the cases of one folder."""
    return lambda make: make(lambda name: harness.case(folder, name)) if not only or folder in only else None


@cases("deconvolution")
def _(case):
    with case("deconv_plain") as c:
        x, y = c.input(values((1, 20, 3, 4))), c.input(values((2, 3, 2, 3), 7))
        w, v = op.constant(values((20, 6, 3, 3), 3)), op.constant(values((3, 2, 4, 4), 5))
        deconv = op.convolution_backprop_data
        c.result(deconv(x, w, [2, 2], None, [1, 1], [1, 1], [1, 1]))
        c.result(deconv(x, w, [2, 1], None, [0, 1], [2, 1], [1, 1], output_padding=[1, 0]))
        c.result(deconv(x, w, [1, 1], None, [1, 1], [1, 1], [1, 1]))
        c.result(deconv(y, v, [2, 2], None, [1, 1], [1, 1], [1, 1]))
        c.result(deconv(y, v, [1, 1], None, [2, 2], [2, 1], [1, 1]))
        c.result(deconv(y, v, [2, 2], None, [0, 0], [0, 0], [1, 1], "valid"))
        c.result(deconv(y, v, [3, 3], None, [0, 0], [0, 0], [2, 1], "same_upper"))
    with case("deconv_bits") as c:
        x = c.input(values((1, 20, 3, 4)))
        deconv = op.convolution_backprop_data
        for side, stride, pad in (3, 2, 1), (3, 1, 1), (4, 2, 1), (2, 2, 0), (5, 2, 2):
            w = op.constant(values((20, 2, side, side), side))
            c.result(deconv(x, w, [stride] * 2, None, [pad] * 2, [pad] * 2, [1, 1]))
    with case("wanted_shape") as c:
        x, w = c.input(values((1, 2, 4, 5))), op.constant(values((2, 1, 3, 3), 3))
        for auto in "explicit", "same_upper", "same_lower", "valid":
            for wanted in (8, 10), (6, 7), (11, 13):
                c.result(op.convolution_backprop_data(x, w, [2, 2], ints(*wanted), [1, 1], [1, 1], [1, 1], auto))
        c.result(op.convolution_backprop_data(x, w, [2, 2], ints(8, 10), [0, 0], [0, 0], [1, 1], "same_upper", [1, 1]))
    with case("deconv_groups") as c:
        x = c.input(values((1, 16, 3, 4)))
        group = op.group_convolution_backprop_data
        c.result(group(x, op.constant(values((16, 1, 1, 4, 4), 3)), [2, 2], None, [1, 1], [1, 1], [1, 1]))
        c.result(group(x, op.constant(values((2, 8, 3, 3, 2), 3)), [2, 1], ints(7, 5), [0, 0], [0, 0], [1, 1]))
    with case("one_and_three_axes") as c:
        x, w = c.input(values((1, 4, 5))), op.constant(values((4, 3, 4), 3))
        c.result(op.convolution_backprop_data(x, w, [2], None, [1], [1], [1]))
        x, w = c.input(values((1, 2, 2, 3, 2), 5)), op.constant(values((2, 3, 3, 3, 3), 3))
        c.result(op.convolution_backprop_data(x, w, [2] * 3, None, [1] * 3, [1] * 3, [1] * 3))


@cases("normalize")
def _(case):
    with case("mvn_rows_bits") as c:
        x, y, z = c.input(values((1, 5, 39))), c.input(values((4, 96), 3)), c.input(values((2, 3, 16), 3))
        c.result(op.mvn(x, ints(2), True, 1e-5, "inside_sqrt"), op.mvn(x, ints(-1), True, 1e-3, "outside_sqrt"))
        c.result(op.mvn(x, ints(2), False, 1e-5, "inside_sqrt"), op.mvn(y, ints(1), True, 1e-9, "inside_sqrt"))
        c.result(op.mvn(z, ints(1, 2), True, 1e-5, "outside_sqrt"), op.mvn(z, ints(2, 1), True, 1e-5, "inside_sqrt"))
    with case("mvn_pixels_bits") as c:
        # Behind a convolution channels are innermost in memory.
        x = c.input(values((1, 16, 5, 3)))
        eye = op.constant(np.eye(16, dtype=f32).reshape(16, 16, 1, 1))
        same = op.convolution(x, eye, [1, 1], [0, 0], [0, 0], [1, 1])
        c.result(op.mvn(same, ints(2, 3), True, 1e-5, "inside_sqrt"))
    with case("mvn") as c:
        x = c.input(values((2, 3, 4, 5)))
        for axes in (1, 2, 3), (0, 1, 2, 3), (3,), (1,), (0, 2), (2, 3):
            c.result(op.mvn(x, ints(*axes), True, 1e-5, "inside_sqrt"))
        c.result(op2.mvn(x, True, True, 1e-5), op2.mvn(x, False, True, 1e-3), op2.mvn(x, False, False, 1e-5))
    with case("l2") as c:
        x = c.input(values((2, 3, 4)))
        for axes in (1,), (2,), (1, 2), (0, 1, 2), ():
            c.result(op.normalize_l2(x, ints(*axes), 1e-4, "add"))
        c.result(op.normalize_l2(x, ints(1), 30.0, "max"))
    with case("batch_norm") as c:
        x = c.input(values((2, 3, 4)))
        parameters = [op.constant(values((3,), seed) ** (2 if seed == 9 else 1)) for seed in (3, 5, 7, 9)]
        c.result(op.batch_norm_inference(x, *parameters, 1e-3), op1.batch_norm_inference(x, *parameters, 1e-2))
    with case("response") as c:
        x, y = c.input(values((1, 7, 3, 2))), c.input(values((2, 9), 3))
        c.result(op.lrn(x, ints(1), 1e-2, 0.75, 2.0, 3), op.lrn(x, ints(1), 1e-1, 0.75, 1.0, 5))
        c.result(op.lrn(x, ints(2, 3), 1e-2, 0.5, 1.0, 3), op.lrn(y, ints(1), 1e-2, 0.75, 1.0, 3))
        c.result(op.grn(x, 1e-3), op.grn(y, 0.5))
    with case("response_bits") as c:
        x = c.input(values((2, 32, 3, 2)))
        c.result(op.lrn(x, ints(1), 1e-2, 0.75, 1.0, 5))
    with case("groups") as c:
        x, y = c.input(values((2, 6, 3, 2))), c.input(values((1, 4, 5), 9))
        scale, bias = op.constant(values((6,), 3)), op.constant(values((6,), 5))
        for groups in 1, 2, 6:
            c.result(op.group_normalization(x, scale, bias, groups, 1e-5))
        c.result(op.group_normalization(y, op.constant(values((4,), 3)), op.constant(values((4,), 5)), 2, 1e-3))


@cases("softmax")
def _(case):
    with case("softmax_bits") as c:
        for n in 2, 7, 33, 150:
            x = c.input(values((3, n), n))
            c.result(op.softmax(x, 1), op.softmax(x, -1))
        x = c.input(values((1, 5, 2, 3)))
        c.result(op.softmax(x, 1), op.softmax(x, 2), op.softmax(x, -1), op1.softmax(x, 1))
    with case("log_softmax") as c:
        x = c.input(values((2, 5, 3)))
        c.result(op.log_softmax(x, 0), op.log_softmax(x, 1), op.log_softmax(x, -1))


@cases("activation")
def _(case):
    with case("exponentials_bits") as c:
        x = c.input(values((4, 40)))
        c.result(op.sigmoid(x), op.swish(x), op.exp(x), op.elu(x, 1.3), op.swish(x, scalar(1.7)))
    with case("unary") as c:
        x = c.input(np.concatenate([values((60,)), [-0.0, 0.5, -0.5, 1.5, -1.5, 2.5, 1e9, -1e9]]).astype(f32))
        for f in op.sign, op.softsign, op.sin, op.cos, op.tan, op.atan, op.asinh, op.floor, op.ceiling, op.abs, op.relu:
            c.result(f(op.clamp(x, -100.0, 100.0)))
        c.result(op.round(x, "half_to_even"), op.round(x, "half_away_from_zero"), op.tanh(x), op.hswish(x), op.hsigmoid(x))
        c.result(op.hard_sigmoid(x, scalar(0.2), scalar(0.5)), op.softplus(x), op.mish(x), op.gelu(x, "erf"), op.gelu(x, "tanh"))
        c.result(op.selu(x, scalar(1.6), scalar(1.05)), op.erf(x), op.prelu(x, floats(0.3)), op.sqrt(op.abs(x)), op.log(op.abs(op.add(x, scalar(9)))))
        y = c.input((values((40,)) / 8).astype(f32))
        for f in op.asin, op.acos, op.atanh, op.sinh, op.cosh:
            c.result(f(y))
        c.result(op.acosh(op.add(op.abs(y), scalar(1))))
    with case("integers") as c:
        x = c.input(np.arange(-6, 6, dtype=i32).reshape(3, 4))
        c.result(op.sign(x), op.abs(x), op.clamp(x, -2.5, 3.5), op.negative(x), op.relu(x), op.floor(x), op.ceiling(x))


@cases("rearrange")
def _(case):
    with case("space_to_depth") as c:
        x, y = c.input(values((2, 3, 4, 6))), c.input(np.arange(24, dtype=i32).reshape(1, 2, 4, 3, 1))
        c.result(op.space_to_depth(x, "blocks_first", 2), op.space_to_depth(x, "depth_first", 2))
        c.result(op.space_to_depth(y, "depth_first", 1))
        z = c.input(np.arange(32, dtype=f32).reshape(1, 1, 4, 4, 2))
        c.result(op.space_to_depth(z, "blocks_first", 2), op.space_to_depth(z, "depth_first", 2))
    with case("shuffle_channels") as c:
        x = c.input(values((2, 6, 2, 2)))
        c.result(op.shuffle_channels(x, 1, 3), op.shuffle_channels(x, 1, 2), op.shuffle_channels(x, -1, 2))
    with case("roll") as c:
        x = c.input(np.arange(24, dtype=f32).reshape(2, 3, 4))
        c.result(op.roll(x, ints(1), ints(2)), op.roll(x, ints(-1, 5), ints(0, -1)), op.roll(x, ints(2, 2, 2), ints(1, 1, 2)))
        c.result(op.roll(x, op.constant(i64(3)), ints(2)))
    with case("batch_space") as c:
        x, y = c.input(values((8, 2, 2, 3))), c.input(values((2, 3, 4, 5)))
        c.result(op.batch_to_space(x, ints(1, 1, 2, 2), ints(0, 0, 0, 0), ints(0, 0, 0, 0)))
        c.result(op.batch_to_space(x, ints(1, 2, 2, 1), ints(0, 1, 1, 0), ints(0, 0, 0, 0)))
        c.result(op.space_to_batch(y, ints(1, 1, 2, 3), ints(0, 0, 0, 1), ints(0, 0, 0, 0)))
        c.result(op.space_to_batch(y, ints(1, 3, 2, 1), ints(0, 0, 1, 0), ints(0, 0, 1, 2)))


@cases("interpolate")
def _(case):
    def resize(x, by, mode, axes=(2, 3), **attributes):
        sizes = isinstance(by[0], int)
        by = ints(*by) if sizes else floats(*by)
        return op.interpolate(x, by, mode, "sizes" if sizes else "scales", axes=ints(*axes), **attributes)

    coordinates = "half_pixel", "pytorch_half_pixel", "asymmetric", "tf_half_pixel_for_nn", "align_corners"
    with case("nearest") as c:
        x = c.input(values((1, 2, 5, 6)))
        for mode in coordinates[::2]:
            for nearest in "round_prefer_floor", "round_prefer_ceil", "floor", "ceil", "simple":
                for by in (7, 9), (0.5, 1.7):
                    attributes = dict(coordinate_transformation_mode=mode, nearest_mode=nearest)
                    c.result(resize(x, by, "nearest", **attributes))
    with case("linear_onnx") as c:
        x = c.input(values((1, 2, 5, 6)))
        for mode in coordinates:
            for by in (7, 4), (0.6, 1.7), (1, 1):
                c.result(resize(x, by, "linear_onnx", coordinate_transformation_mode=mode))
        c.result(resize(x, (8,), "linear_onnx", (3,)))
        y = c.input(values((1, 1, 3, 2, 4), 5))
        c.result(resize(y, (4, 5, 3), "linear_onnx", (2, 3, 4)))
    with case("linear") as c:
        x = c.input(values((1, 2, 5, 6)))
        for mode in coordinates:
            for by in (7, 4), (0.6, 1.7):
                c.result(resize(x, by, "linear", coordinate_transformation_mode=mode))
    with case("cubic") as c:
        x = c.input(values((1, 2, 5, 6)))
        for mode in coordinates:
            for by in (7, 4), (0.6, 1.7):
                c.result(resize(x, by, "cubic", coordinate_transformation_mode=mode))
        c.result(resize(x, (9, 11), "cubic", cube_coeff=-0.5))
    with case("pillow") as c:
        x = c.input(values((1, 2, 6, 7)))
        for mode in "bilinear_pillow", "bicubic_pillow":
            for by in (9, 10), (3, 4), (4, 12), (6, 3):
                c.result(resize(x, by, mode, cube_coeff=-0.5))
    with case("padded") as c:
        x = c.input(values((1, 2, 5, 6)))
        pads = dict(pads_begin=[0, 0, 1, 2], pads_end=[0, 0, 2, 0])
        for mode in "nearest", "linear_onnx", "cubic":
            c.result(resize(x, (11, 7), mode, **pads), resize(x, (1.5, 1.5), mode, **pads))
    with case("other_versions") as c:
        x = c.input(values((1, 2, 5, 6)))
        for mode in "nearest", "linear", "cubic":
            for corners in False, True:
                c.result(op1.interpolate(x, ints(8, 9), dict(axes=[2, 3], mode=mode, align_corners=corners, antialias=False, pads_begin=[0], pads_end=[0])))


@cases("pooling")
def _(case):
    with case("max_pool") as c:
        x = c.input(values((1, 2, 5, 6)))
        for index in "i64", "i32":
            for axis in 0, 2:
                c.result(op.max_pool(x, [2, 1], [1, 1], [0, 1], [1, 0], [3, 2], "floor", "explicit", index, axis))
        c.result(op.max_pool(x, [2, 2], [1, 1], [0, 0], [0, 0], [2, 2], "ceil"))
        c.result(op.max_pool(x, [2, 2], [1, 1], [1, 1], [1, 1], [2, 2], "ceil_torch"))
        c.result(op.max_pool(x, [2, 2], [2, 2], [0, 0], [0, 0], [2, 2], "floor", "same_upper"))
        c.result(op1.max_pool(x, [2, 2], [0, 0], [0, 0], [3, 3], "ceil", "same_lower"))
    with case("avg_pool") as c:
        x = c.input(values((1, 2, 5, 6)))
        for exclude in False, True:
            for rounding in "floor", "ceil_torch":
                c.result(op.avg_pool(x, [2, 2], [1, 1], [1, 1], [2, 2], exclude, rounding))
            c.result(op1.avg_pool(x, [3, 2], [0, 0], [0, 0], [3, 2], exclude, "floor", "same_upper"))
        y = c.input(values((1, 2, 7)))
        c.result(op.avg_pool(y, [2], [0], [1], [3], True))
    with case("adaptive") as c:
        x, y = c.input(values((1, 2, 5, 6))), c.input(values((2, 3, 7)))
        for size in (2, 3), (1, 1), (5, 6), (3, 4):
            c.result(op.adaptive_avg_pool(x, ints(*size)), op.adaptive_max_pool(x, ints(*size), "i32"))
        c.result(op.adaptive_avg_pool(y, ints(3)), op.adaptive_max_pool(y, ints(4), "i32"))


@cases("shapes")
def _(case):
    with case("matmul") as c:
        a, b = c.input(values((2, 3, 4)) / f32(8)), c.input(values((4, 5), 3) / f32(8))
        c.result(op.matmul(a, b, False, False), op.matmul(b, a, True, True))
        v, w = c.input(values((4,)) / f32(8)), c.input(values((5, 1, 4, 2), 9) / f32(8))
        c.result(op.matmul(v, b, False, False), op.matmul(a, v, False, False), op.matmul(v, v, False, False))
        c.result(op.matmul(a, w, False, False), op.matmul(v, w, True, False))
        x = op.constant(values((1, 4, 6), 7) / f32(8))
        c.result(op.matmul(a, x, False, False))
    with case("pad") as c:
        x = c.input(values((2, 3, 5)))
        for mode in "constant", "edge", "reflect", "symmetric":
            c.result(op.pad(x, ints(1, 0, 2), ints(0, 2, 3), mode, scalar(1.5)))
            c.result(op.pad(x, ints(0, -1, 2), ints(1, 1, -2), mode, scalar(1.5)))
        c.result(op1.pad(x, ints(0, 1, 0), ints(1, 0, 0), "constant"))
    with case("reshape") as c:
        x = c.input(values((2, 3, 4)))
        c.result(op.reshape(x, ints(0, -1), True), op.reshape(x, ints(4, -1, 1, 3), False), op.transpose(x, ints()))
        c.result(op.transpose(x, ints(2, 0, 1)), op.unsqueeze(x, ints(0, -1)), op.squeeze(op.unsqueeze(x, ints(1, 4)), ints(-1)))
        c.result(op.split(x, i64(-1), 2), op.variadic_split(x, i64(1), ints(2, -1)))
    with case("convert") as c:
        x = c.input(np.concatenate([values((12,)), [300, -300, 0, 0.4, 2.5, -2.5]]).astype(f32))
        for t in "i8", "u8", "i32", "i64", "boolean", "f16":
            c.result(op.convert(x, t))
        y = c.input(np.array([-300, -1, 0, 1, 255, 256, 70000], i32))
        for t in "i8", "u8", "i64", "boolean", "f32", "i16":
            c.result(op.convert(y, t))
    with case("reduce") as c:
        x = c.input(values((2, 3, 4)))
        for axes in (0,), (1,), (-1,), (0, 2), (0, 1, 2):
            for keep in False, True:
                c.result(op.reduce_mean(x, ints(*axes), keep))
        y = c.input(np.arange(-6, 6, dtype=i32).reshape(3, 4))
        c.result(op.reduce_mean(y, ints(1), False), op.reduce_sum(y, ints(0), True))
    with case("fake_quantize") as c:
        x = c.input(values((2, 3, 4)))
        limits = [op.constant(np.array(v, f32).reshape(s)) for v, s in (([-3, -2, -1], (3, 1)), ([2, 3, 4], (1, 3, 1)), ([-1], ()), ([1], (1,)))]
        c.result(op.fake_quantize(x, *limits, 16), op.fake_quantize(x, scalar(-1), scalar(1), scalar(5), scalar(-5), 5))


@cases("attention")
def _(case):
    with case("scaled_dot_product") as c:
        small = lambda *shape, seed=1: c.input(values(shape, seed) / f32(8))
        q, k, v = small(1, 2, 5, 8), small(1, 2, 6, 8, seed=3), small(1, 2, 6, 4, seed=5)
        sdpa = op.scaled_dot_product_attention
        c.result(sdpa(q, k, v), sdpa(q, k, v, causal=True))
        mask = c.input(values((5, 6), 9) > 0)
        bias = c.input(values((1, 1, 5, 6), 11))
        c.result(sdpa(q, k, v, mask), sdpa(q, k, v, bias), sdpa(q, k, v, bias, scalar(0.7)))
        p, r, s = small(3, 4, 8), small(3, 4, 8, seed=3), small(3, 4, 8, seed=7)
        c.result(sdpa(p, r, s), sdpa(p, r, s, causal=True))
    with case("einsum") as c:
        a, b, v = c.input(values((2, 3, 4)) / f32(8)), c.input(values((2, 4, 5), 3) / f32(8)), c.input(values((4,), 5))
        for equation, inputs in (
            ("bij,bjk->bik", (a, b)), ("bij,bjk->ki", (a, b)), ("bij->jb", (a,)), ("bij->i", (a,)), ("bij,j->b", (a, v)),
            ("i,i->", (v, v)), ("i,j->ji", (v, v)), ("bij,bjk", (a, b)), ("...ij,...jk->...ik", (a, b)), ("a...->...", (a,)),
            ("bij,bjk,j->bik", (a, b, v)),
        ):
            c.result(op.einsum(list(inputs), equation))
        d = c.input(values((3, 3), 9))
        c.result(op.einsum([d], "ii->i"), op.einsum([d], "ii->"), op.einsum([d, d], "ij,ij->ij"))


@cases("sampling")
def _(case):
    with case("grid_sample") as c:
        x = c.input(values((2, 2, 4, 5)))
        grid = c.input((values((2, 3, 4, 2), 7) / f32(4.5)).astype(f32))
        for mode in "bilinear", "nearest", "bicubic":
            for padding in "zeros", "border", "reflection":
                for corners in False, True:
                    c.result(op.grid_sample(x, grid, dict(align_corners=corners, mode=mode, padding_mode=padding)))
    with case("deformable") as c:
        x, w = c.input(values((1, 4, 5, 5)) / f32(8)), op.constant(values((2, 4, 3, 3), 3) / f32(8))
        offsets = c.input(values((1, 18, 3, 3), 5) / f32(4))
        c.result(op.deformable_convolution(x, offsets, w, [1, 1], [0, 0], [0, 0], [1, 1]))
        mask = c.input(values((1, 9, 3, 3), 9) / f32(4))
        c.result(op.deformable_convolution(x, offsets, w, [1, 1], [0, 0], [0, 0], [1, 1], mask=mask))
        c.result(op.deformable_convolution(x, offsets, w, [2, 2], [1, 1], [1, 1], [1, 1], bilinear_interpolation_pad=True))
        offsets = c.input(values((1, 36, 3, 3), 5) / f32(4))
        w = op.constant(values((2, 2, 3, 3), 3) / f32(8))
        c.result(op.deformable_convolution(x, offsets, w, [1, 1], [0, 0], [0, 0], [1, 1], group=2, deformable_group=2))
    with case("col2im") as c:
        x = c.input(values((1, 12, 9)))
        c.result(op.col2im(x, ints(4, 4), ints(2, 2), [1, 1], [1, 1], [0, 0], [0, 0]))
        y = c.input(values((8, 6), 3))
        c.result(op.col2im(y, ints(5, 4), ints(2, 2), [2, 1], [2, 1], [1, 0], [0, 0]))


@cases("recurrent")
def _(case):
    n, x_size, h = 2, 3, 4
    small = lambda shape, seed: (values(shape, seed) / f32(8)).astype(f32)
    const = lambda *shape, seed: op.constant(small(shape, seed))
    with case("cells") as c:
        x, hidden, cell = (c.input(small(s, i)) for i, s in enumerate([(n, x_size), (n, h), (n, h)]))
        w = lambda gates: (const(gates * h, x_size, seed=3), const(gates * h, h, seed=5))
        c.result(op4.lstm_cell(x, hidden, cell, *w(4), const(4 * h, seed=7), h))
        c.result(op4.lstm_cell(x, hidden, cell, *w(4), const(4 * h, seed=9), h))
        c.result(op3.gru_cell(x, hidden, *w(3), const(3 * h, seed=7), h))
        c.result(op3.gru_cell(x, hidden, *w(3), const(4 * h, seed=7), h, linear_before_reset=True))
        c.result(op3.rnn_cell(x, hidden, *w(1), const(h, seed=7), h, ["tanh"], [], []))
    for direction, d in ("forward", 1), ("reverse", 1), ("bidirectional", 2):
        with case(f"sequences_{direction}") as c:
            t = 5
            x, hidden, cell = (c.input(small(s, i)) for i, s in enumerate([(n, t, x_size), (n, d, h), (n, d, h)]))
            w = lambda gates: (const(d, gates * h, x_size, seed=3), const(d, gates * h, h, seed=5))
            lengths = op.constant(np.array([t, t], i64))
            shorter = op.constant(np.array([t, 3], i64))
            for of in (lengths, shorter) if direction == "forward" else (shorter,):
                c.result(op5.lstm_sequence(x, hidden, cell, of, *w(4), const(d, 4 * h, seed=7), h, direction))
                c.result(op5.gru_sequence(x, hidden, of, *w(3), const(d, 3 * h, seed=7), h, direction))
                c.result(op5.gru_sequence(x, hidden, of, *w(3), const(d, 4 * h, seed=7), h, direction, linear_before_reset=True))
                c.result(op5.rnn_sequence(x, hidden, of, *w(1), const(d, h, seed=7), h, direction, ["tanh"]))


@cases("fourier")
def _(case):
    with case("fourier") as c:
        x, y = c.input(values((2, 3, 4, 2))), c.input(values((2, 5, 6), 3))
        c.result(op.dft(x, ints(1)), op.dft(x, ints(1, 2)), op.idft(x, ints(0, -2)), op.dft(x, ints(2, 1), ints(3, 5)))
        c.result(op.rdft(y, ints(2)), op.rdft(y, ints(1, 2)), op.rdft(y, ints(1, 2), ints(4, 5)), op.irdft(x, ints(2)))
        c.result(op.irdft(x, ints(1, 2)), op.irdft(x, ints(1, 2), ints(3, 5)))
