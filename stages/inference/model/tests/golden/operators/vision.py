"""Golden cases of the operations of vision networks: python vision.py [FOLDER..]."""
import sys

import numpy as np
import openvino.opset1 as op1
import openvino.opset2 as op2

import harness
from harness import op, values

f32, i32, i64 = np.float32, np.int32, np.int64
only = sys.argv[1:]
ints = lambda *list: op.constant(np.array(list, i64))
floats = lambda *list: op.constant(np.array(list, f32))
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
            w = op.constant(values((20, 5, side, side), side))
            c.result(deconv(x, w, [stride] * 2, None, [pad] * 2, [pad] * 2, [1, 1]))
    with case("wanted_shape") as c:
        x, w = c.input(values((1, 3, 4, 5))), op.constant(values((3, 2, 3, 3), 3))
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
