"""Inputs and FakeQuantize."""
import numpy as np
import openvino as ov
import openvino.opset15 as op

from spec import as_stored

from .base import operation

f32 = np.float32


@operation("input")
def build_input(b, node):
    shape = node["shape"]
    if node.get("partial"):
        # Bounds of each axis; an open one begins at -1.
        shape = [ov.Dimension() if low < 0 else ov.Dimension(low, high) for low, high in node["partial"]]
    parameter = op.parameter(ov.PartialShape(list(shape)), {"f32": np.float32, "u8": np.uint8}[node["type"]])
    b.inputs.append(parameter)
    return op.convert(parameter, "f32") if node["type"] == "u8" else parameter


def limits(node, shape):
    """The four limits as arrays, as they are after being stored."""
    return tuple(as_stored(v, node["half"]) for v in exact_limits(node, shape))


def exact_limits(node, shape):
    low, high, out_low, out_high = (np.asarray(node[k], f32) for k in ("il", "ih", "ol", "oh"))
    if node["granularity"] == "scalar":
        return low, high, out_low, out_high
    axis = node["axis"] % max(len(shape), 1)
    dims = [1] * len(shape)
    if node["granularity"] == "ones":
        return tuple(v.reshape(dims) for v in (low, high, out_low, out_high))
    dims[axis] = shape[axis]
    rng = np.random.default_rng(node["seed"])
    factor = rng.uniform(0.5, 1.5, dims).astype(f32)
    result = [low * factor, high * factor, out_low * factor, out_high * factor]
    if node.get("zero_width_channel") and shape[axis] > 1:
        result[0].flat[0] = result[1].flat[0]
    if node["granularity"] == "input":
        result[2:] = [out_low.reshape([1] * len(shape)), out_high.reshape([1] * len(shape))]
    if node["granularity"] == "output":
        result[:2] = [low.reshape([1] * len(shape)), high.reshape([1] * len(shape))]
    return tuple(result)


def draw_interval(rng, amp, positive, levels):
    """Low and high of an interval about as wide as the values."""
    high = amp * rng.choice([0.7, 1.5, 2.5, 3.5]) * rng.uniform(0.8, 1.2)
    kind = rng.choices(
        ["unsigned", "symmetric", "narrow", "zero_point", "fraction", "offset", "negative"],
        [6 if positive else 1, 1 if positive else 5, 2, 3, 2, 0.4, 0.4],
    )[0]
    steps = levels - 1
    if kind == "unsigned":
        low = 0.0
    elif kind == "symmetric":
        low = -high * levels / (levels - 2) if levels > 2 and levels % 2 == 0 else -high
    elif kind == "narrow":
        low = -high
    elif kind == "zero_point":
        zero = rng.randint(1, max(1, steps - 1)) if levels > 2 else 0
        step = high / max(1, steps - zero) if rng.random() < 0.7 else 2 * high / steps
        low, high = -step * zero, step * (steps - zero)
    elif kind == "fraction":
        low = -high * rng.uniform(0.05, 1.5)
    elif kind == "offset":
        low = high * rng.uniform(0.05, 0.4)
    else:
        low, high = -high, -high * rng.uniform(0.0, 0.3)
    return float(f32(low)), float(f32(high)), kind


def draw_fake_quantize(g, ref=None, levels=None, plain=False):
    """Adds a FakeQuantize behind `ref`."""
    rng = g.rng
    ref = ref or g.recent()
    shape = g.shape(ref)
    if levels is None:
        levels = rng.choices([256, 255, 16, 15, 2, 65536], [60, 12, 5, 3, 2, 3])[0]
    low, high, kind = draw_interval(rng, g.amp(ref), g.positive(ref), levels)
    out_low, out_high = low, high
    granularity, axis = "ones", 1
    if not plain:
        granularity = rng.choices(["ones", "scalar", "channel", "input", "output"], [50, 25, 10, 2, 2])[0]
        if rng.random() < 0.15:
            axis = len(shape) - 1
        if len(shape) < 2:
            granularity = "scalar"
        other = rng.random()
        if other < 0.03:
            low, high = high, low
        elif other < 0.06:
            out_low, out_high = out_high, out_low
        elif other < 0.10:
            factor = rng.choice([0.5, 2.0, 1.7])
            out_low, out_high = out_low * factor, out_high * factor
        elif other < 0.12:
            out_low, out_high, _ = draw_interval(rng, g.amp(ref), g.positive(ref), levels)
        elif other < 0.13:
            low = high
        elif other < 0.14:
            out_low = out_high
    extra = {"zero_width_channel": True} if granularity == "channel" and rng.random() < 0.05 else {}
    if granularity not in ("ones", "scalar") and g.mistaken(ref, axis):
        extra["apart"] = True
    (out,) = g.add(
        "fake_quantize", [ref], levels=levels, il=low, ih=high, ol=out_low, oh=out_high, axis=axis,
        granularity=granularity, half=rng.random() < 0.08, **extra,
    )
    g.note(out, amp=max(abs(out_low), abs(out_high)) / 2.5 + 1e-6, positive=min(out_low, out_high) >= 0, quantized=True)
    return out


@operation("fake_quantize", draw_fake_quantize, 1.0)
def build_fake_quantize(b, node, x):
    values = limits(node, lengths(x))
    if b.oracle and (node["levels"] > 256 or (values[0] >= values[1]).any()):
        return spelled_out(x, node["levels"], values)
    if b.oracle and (node.get("apart") or empties(x, values)):
        b.barriers.append(x)
    return op.fake_quantize(x, *(b.floats(v, node["half"]) for v in values), node["levels"])


def empties(x, values):
    """Whether the input interval lies outside that of a Clamp before it: OpenVINO clips to what they have in common."""
    before = x.get_node() if isinstance(x, ov.Output) else x
    if before.get_type_name() != "Clamp":
        return False
    low, high = before.get_attributes()["min"], before.get_attributes()["max"]
    return bool((values[0] >= high).any() or (values[1] <= low).any())


def spelled_out(x, levels, limits):
    """What the specification says, in other operations: OpenVINO's CPU plugin leaves out a FakeQuantize of 65536
    levels, gives NaN for an interval of no width, and one constant value for an inverted input interval."""
    low, high, out_low, out_high = limits
    width = np.where(low == high, f32(1), high - low)
    scale = f32(levels - 1) / width
    t = op.round(op.multiply(op.subtract(x, op.constant(low)), op.constant(scale)), "half_to_even")
    y = op.add(op.multiply(t, op.constant((out_high - out_low) / f32(levels - 1))), op.constant(out_low))
    above = op.greater(x, op.constant(np.maximum(low, high)))
    below = op.less_equal(x, op.constant(np.minimum(low, high)))
    return op.select(below, op.constant(out_low), op.select(above, op.constant(out_high), y))


def lengths(x):
    """Axis lengths; an open axis, which is the batch, counts as 1."""
    x = x if isinstance(x, ov.Output) else x.output(0)
    return [d.get_length() if d.is_static else 1 for d in x.get_partial_shape()]
