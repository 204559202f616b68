"""Convolutions and matrix products."""
import numpy as np
import openvino.opset15 as op

from .base import operation
from .movement import ints
from .quantize import lengths


def draw_weights(g):
    """How weights are given: see `Builder.weights`."""
    rng = g.rng
    kind = rng.choices(["i8", "fq", "u8", "fq_asymmetric", "i4", "u4", "f32", "f16"], [40, 20, 12, 6, 4, 3, 6, 3])[0]
    return {
        "kind": kind,
        "per_channel": rng.random() < 0.7,
        "gain": rng.choice([0.7, 1.0, 1.4]),
        "levels": rng.choice([255, 255, 255, 256, 16, 15, 2]),
        "half": rng.random() < 0.12,
        "zero_point": kind in ("u8", "u4") and rng.random() < 0.8 or kind in ("i8", "i4") and rng.random() < 0.12,
        "packed_zero_point": rng.random() < 0.6,
        "extreme": rng.random() < 0.05,
        "move": rng.choices(["none", "reshape", "transpose"], [80, 10, 10])[0],
    }


def draw_bias(g, ref):
    """Perhaps a constant per channel behind the sum."""
    if g.rng.random() < 0.65:
        (ref,) = g.add("add_constant", [ref], kind="channel", amp=g.amp(ref) * 0.5, axis=1, swap=g.rng.random() < 0.1)
    return ref


def spatial(rng, rank):
    """Kernel, strides, dilations and padding."""
    d = rank - 2
    kernel = [rng.choice([1, 1, 3, 3, 3, 2, 5])] * d if rng.random() < 0.8 else [rng.choice([1, 2, 3]) for _ in range(d)]
    strides = [rng.choice([1, 1, 1, 2])] * d if rng.random() < 0.85 else [rng.choice([1, 2, 3]) for _ in range(d)]
    dilations = [1] * d if rng.random() < 0.88 else [rng.choice([1, 2]) for _ in range(d)]
    pads = rng.random()
    if pads < 0.55:
        begin = [(k - 1) * e // 2 for k, e in zip(kernel, dilations)]
        end = list(begin)
    elif pads < 0.75:
        begin, end = [0] * d, [0] * d
    else:
        begin, end = [rng.choice([0, 1, 2]) for _ in range(d)], [rng.choice([0, 1, 2]) for _ in range(d)]
    auto = rng.choices(["explicit", "same_upper", "same_lower", "valid"], [85, 7, 4, 4])[0]
    return {"kernel": kernel, "strides": strides, "dilations": dilations, "begin": begin, "end": end, "auto": auto}


def draw_convolution(g):
    ref = g.quantize(g.recent(ranks=(3, 4, 4, 5)), 0.88)
    shape = g.shape(ref)
    channels = g.rng.choice([1, 3, 4, 8, 8, 12, 16, 16, 17, 24, 32])
    (out,) = g.add("convolution", [ref], channels=channels, w=draw_weights(g), **spatial(g.rng, len(shape)))
    g.note(out, positive=False)
    return draw_bias(g, out)


@operation("convolution", draw_convolution, 10.0)
def build_convolution(b, node, x):
    channels = lengths(x)[1]
    fan_in = channels
    for k in node["kernel"]:
        fan_in *= k
    w = b.weights(node, [node["channels"], channels, *node["kernel"]], 0, fan_in)
    if b.oracle and channels == 1:
        # With one channel of width 2 and a stride the plugin reads what is not there: a channel of zeros beside it.
        rest = [0] * len(node["kernel"])
        x = op.pad(x, ints([0] * len(lengths(x))), ints([0, 1, *rest]), "constant", op.constant(np.float32(0)))
        w = op.concat([w, op.constant(np.zeros([node["channels"], 1, *node["kernel"]], np.float32))], 1)
    return op.convolution(x, w, node["strides"], node["begin"], node["end"], node["dilations"], node["auto"])


def draw_group_convolution(g):
    ref = g.quantize(g.recent(ranks=(3, 4, 4, 4, 5)), 0.88, per_channel=0.3)
    shape = g.shape(ref)
    divisors = [d for d in range(2, shape[1] + 1) if shape[1] % d == 0]
    if not divisors:
        return None
    groups = shape[1] if g.rng.random() < 0.65 else g.rng.choice(divisors)
    (out,) = g.add(
        "group_convolution", [ref], groups=groups, each=g.rng.choice([1, 1, 1, 2, 4]), w=draw_weights(g),
        **spatial(g.rng, len(shape)),
    )
    g.note(out, positive=False)
    return draw_bias(g, out)


@operation("group_convolution", draw_group_convolution, 6.0)
def build_group_convolution(b, node, x):
    channels = lengths(x)[1]
    groups = node["groups"]
    while channels % groups:
        groups -= 1
    each = max(node["each"], 1)
    fan_in = channels // groups
    for k in node["kernel"]:
        fan_in *= k
    # One scale per group and output channel; the axis of groups serves where a group has one output.
    shape = [groups, each, channels // groups, *node["kernel"]]
    w = b.weights(node, shape, 0, fan_in)
    return op.group_convolution(x, w, node["strides"], node["begin"], node["end"], node["dilations"], node["auto"])


def draw_deconvolution(g):
    ref = g.quantize(g.recent(ranks=(4, 4, 4, 3, 5)), 0.85)
    shape = g.shape(ref)
    values = spatial(g.rng, len(shape))
    values["kernel"] = [g.rng.choice([2, 3, 4])] * (len(shape) - 2)
    values["output_padding"] = [0 if s == 1 or g.rng.random() < 0.7 else 1 for s in values["strides"]]
    (out,) = g.add("deconvolution", [ref], channels=g.rng.choice([1, 4, 8, 16]), w=draw_weights(g), **values)
    g.note(out, positive=False)
    return draw_bias(g, out)


@operation("deconvolution", draw_deconvolution, 2.0)
def build_deconvolution(b, node, x):
    channels = lengths(x)[1]
    w = b.weights(node, [channels, node["channels"], *node["kernel"]], 1, channels * 2)
    return op.convolution_backprop_data(
        x, w, node["strides"], None, node["begin"], node["end"], node["dilations"],
        node["auto"], node["output_padding"],
    )


def draw_group_deconvolution(g):
    ref = g.quantize(g.recent(ranks=(4,)), 0.85)
    shape = g.shape(ref)
    values = spatial(g.rng, 4)
    values["kernel"] = [g.rng.choice([2, 3, 4])] * 2
    (out,) = g.add("group_deconvolution", [ref], w=draw_weights(g), **values)
    g.note(out, positive=False)
    return draw_bias(g, out)


@operation("group_deconvolution", draw_group_deconvolution, 0.5)
def build_group_deconvolution(b, node, x):
    channels = lengths(x)[1]
    w = b.weights(node, [channels, 1, 1, *node["kernel"]], 0, 4)
    return op.group_convolution_backprop_data(
        x, w, node["strides"], None, node["begin"], node["end"], node["dilations"], node["auto"]
    )


def draw_matmul(g):
    ref = g.quantize(g.recent(ranks=(2, 2, 3, 4)), 0.88)
    (out,) = g.add(
        "matmul", [ref], columns=g.rng.choice([1, 5, 8, 16, 24, 33]), transpose_a=g.rng.random() < 0.1,
        transpose_b=g.rng.random() < 0.5, w=draw_weights(g),
    )
    g.note(out, positive=False)
    if g.rng.random() < 0.6:
        (out,) = g.add("add_constant", [out], kind="channel", amp=g.amp(out) * 0.5, axis=-1, swap=False)
    return out


@operation("matmul", draw_matmul, 6.0)
def build_matmul(b, node, x):
    shape = lengths(x)
    inner = shape[-2] if node["transpose_a"] else shape[-1]
    if node["transpose_b"]:
        w = b.weights(node, [node["columns"], inner], 0, inner)
    else:
        w = b.weights(node, [inner, node["columns"]], 1, inner)
    return op.matmul(x, w, node["transpose_a"], node["transpose_b"])


def draw_product(g):
    a = g.quantize(g.recent(ranks=(2, 3, 3, 4)), 0.88)
    shape = g.shape(a)
    if len(shape) < 2:
        return None
    # The other factor: the same tensor transposed, another of that shape, or a new input.
    ta = g.rng.random() < 0.2
    tb = g.rng.random() < 0.5
    inner = shape[-2] if ta else shape[-1]
    columns = g.rng.choice([1, 4, 8, 11])
    other = [r for r in g.refs() if g.shape(r) == shape]
    if other and g.rng.random() < 0.6 and ta != tb or shape[-1] == shape[-2] and other:
        second = g.rng.choice(other)
        tb = not ta if shape[-1] != shape[-2] else tb
    else:
        lead = shape[:-2] if g.rng.random() < 0.8 else [1] * (len(shape) - 2)
        second = g.input(lead + ([columns, inner] if tb else [inner, columns]))
    second = g.quantize(second, 0.88)
    (out,) = g.add("product", [a, second], transpose_a=ta, transpose_b=tb)
    g.note(out, amp=g.amp(a) * g.amp(second) * inner**0.5, positive=False)
    return out


@operation("product", draw_product, 3.0)
def build_product(b, node, x, y):
    return op.matmul(x, y, node["transpose_a"], node["transpose_b"])
