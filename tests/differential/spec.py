"""A graph as a list of nodes that can be drawn at random, shrunk, stored as JSON and built as an OpenVINO model.

A node is a dictionary: `op` (a name in `ops.OPS`), `in` (a list of `[node, port]`), `seed` (for its constants) and
the attributes of its operation. Attributes say nothing that follows from the shapes of the inputs, so that a node
stays valid when what stands before it changes. A spec is `{"nodes": [...], "outputs": [[node, port], ...]}`.
"""
import numpy as np
import openvino as ov
import openvino.opset15 as op

f32 = np.float32


def as_stored(value, half):
    """A f32 value after being stored as f16, if `half`."""
    value = np.asarray(value, f32)
    return np.clip(value, -65504, 65504).astype(np.float16).astype(f32) if half else value


def folded(x, low, high, levels):
    """FakeQuantize of a constant, each step rounded to f32: what OpenVINO's constant folding computes."""
    last = f32(levels - 1)
    level = np.round((x - low) / (high - low) * last)
    y = level / last * (high - low) + low
    return np.where(x <= low, low, np.where(x > high, high, y)).astype(f32)


class Builder:
    """Makes OpenVINO nodes. With `fold`, weights become f32 constants, as the literal meaning wants them. With
    `oracle`, what OpenVINO's CPU plugin computes wrongly is spelled out in other operations."""

    def __init__(self, fold=False, oracle=False):
        self.fold, self.oracle = fold, oracle
        self.inputs = []
        # Values that are outputs besides, so that OpenVINO fuses nothing into what makes them.
        self.barriers = []

    def const(self, value, dtype=None):
        return op.constant(np.asarray(value) if dtype is None else np.asarray(value, dtype))

    def floats(self, value, half=False):
        """A f32 constant; with `half` stored as f16 behind a Convert."""
        value = np.asarray(value, f32)
        if not half:
            return op.constant(value)
        if self.fold:
            return op.constant(as_stored(value, half))
        return op.convert(op.constant(as_stored(value, half).astype(np.float16)), "f32")

    def packed(self, codes, kind):
        """A constant of i8, u8, i4 or u4 codes."""
        if kind in ("i8", "u8"):
            return op.constant(codes.astype(np.int8 if kind == "i8" else np.uint8))
        flat = (codes.astype(np.int64).ravel() & 15).astype(np.uint8)
        if flat.size % 2:
            flat = np.append(flat, np.uint8(0))
        data = flat[0::2] | (flat[1::2] << 4)
        tensor = ov.Tensor(ov.Type.i4 if kind == "i4" else ov.Type.u4, ov.Shape(list(codes.shape)))
        tensor.data.ravel()[:] = data
        return ov.op.Constant(tensor)

    def weights(self, node, shape, channel_axis, fan_in):
        """Weights as node["w"] says: see `draw_weights`."""
        w = node["w"]
        kind = w["kind"]
        rng = np.random.default_rng(node["seed"])
        std = w["gain"] / np.sqrt(max(fan_in, 1))
        along = [1] * len(shape)
        along[channel_axis] = shape[channel_axis]
        scale_shape = along if w["per_channel"] else [1] * len(shape)
        spread = rng.uniform(0.5, 1.5, scale_shape).astype(f32)
        if kind == "f32" or kind == "f16":
            return self.floats(rng.normal(0, std, shape), kind == "f16")
        if kind in ("fq", "fq_asymmetric"):
            values = (rng.normal(0, std, shape) * spread).astype(f32)
            axes = tuple(a for a in range(len(shape)) if scale_shape[a] == 1)
            top = np.abs(values).max(axis=axes, keepdims=True) + f32(1e-3)
            levels = w["levels"]
            if kind == "fq":
                low = -top if levels % 2 else -top * f32(levels / (levels - 2) if levels > 2 else 1)
            else:
                low = np.minimum(values.min(axis=axes, keepdims=True), -f32(1e-3))
                top = np.maximum(values.max(axis=axes, keepdims=True), f32(1e-3))
            if self.fold:
                # The plugin would execute it: at ties otherwise than it folds constants, wrongly for weights
                # [n, 1, h, w], and with two levels on both sides as a BinaryConvolution that is another function.
                return op.constant(folded(values, *(as_stored(v, w["half"]) for v in (low, top)), levels))
            low, top = self.floats(low, w["half"]), self.floats(top, w["half"])
            return op.fake_quantize(op.constant(values), low, top, low, top, levels)
        low, high = {"i8": (-128, 127), "u8": (0, 255), "i4": (-8, 7), "u4": (0, 15)}[kind]
        if w.get("extreme"):
            codes = rng.choice([low, high], shape)
        else:
            codes = rng.integers(low + (kind == "i8"), high + 1, shape)
        scale = (spread * f32(std / ((high - low) * 0.29))).astype(f32)
        if w["half"]:
            scale = scale.astype(np.float16).astype(f32)
        zero_point = None
        if w["zero_point"]:
            zp_shape = scale_shape if w["per_channel"] else [1] * len(shape)
            zero_point = rng.integers(low, high + 1, zp_shape)
        elif kind in ("u8", "u4"):
            zero_point = np.full([1] * len(shape), (low + high + 1) // 2)
        # What is stored may be of another shape, with movement behind the dequantization.
        move = w["move"]
        if self.fold:
            values = codes.astype(f32)
            if zero_point is not None:
                values = values - zero_point.astype(f32)
            return op.constant((values * scale).astype(f32))
        stored, restore = codes, lambda x: x
        if move == "reshape":
            flat = [shape[channel_axis], -1] if channel_axis == 0 else None
            if flat:
                stored = codes.reshape(flat)
                scale = scale.reshape(-1, 1)
                zero_point = zero_point.reshape(-1, 1) if zero_point is not None else None
                restore = lambda x: op.reshape(x, op.constant(np.array(shape, np.int64)), False)
        elif move == "transpose":
            order = list(range(len(shape)))[::-1]
            stored = np.ascontiguousarray(codes.transpose(order))
            scale = np.ascontiguousarray(scale.transpose(order))
            zero_point = np.ascontiguousarray(zero_point.transpose(order)) if zero_point is not None else None
            restore = lambda x: op.transpose(x, op.constant(np.array(order, np.int64)))
        value = op.convert(self.packed(stored, kind), "f32")
        if zero_point is not None:
            if w["packed_zero_point"]:
                shift = op.convert(self.packed(zero_point, kind), "f32")
            else:
                shift = op.constant(zero_point.astype(f32))
            value = op.subtract(value, shift)
        value = op.multiply(value, self.floats(scale, w["half"]))
        return restore(value)


def channel_factors(node, count):
    """Factors around 1 that vary per channel."""
    return np.random.default_rng(node["seed"] + 1).uniform(0.5, 1.5, count).astype(f32)


def build(spec, fold=False, extra=(), oracle=False):
    """The OpenVINO model of a spec; `extra` are further outputs."""
    from ops import OPS

    builder = Builder(fold, oracle)
    values = []
    parameters = []
    for index, node in enumerate(spec["nodes"]):
        inputs = [values[n][p] for n, p in node["in"]]
        out = OPS[node["op"]].build(builder, node, *inputs)
        out = list(out) if isinstance(out, (list, tuple)) else [out]
        outputs = []
        for o in out:
            outputs.extend([o] if isinstance(o, ov.Output) else o.outputs())
        outputs[0].get_node().set_friendly_name(f"{node['op']}_{index}")
        if node["op"] == "input":
            parameters.append(builder.inputs[-1])
        values.append(outputs)
    wanted = list(spec["outputs"]) + list(extra)
    results = []
    for i, (n, p) in enumerate(wanted):
        result = op.result(values[n][p])
        result.set_friendly_name(f"result_{i}")
        results.append(result)
    results += [op.result(value) for value in builder.barriers]
    return ov.Model(results, parameters, "g")


def data(spec):
    """Values of the inputs, in order."""
    return [draw(node) for node in spec["nodes"] if node["op"] == "input"]


def draw(node):
    """Random values of an input."""
    rng = np.random.default_rng(node.get("data", 0))
    shape = node["shape"]
    if node.get("values") is not None:
        return node["values"]
    if node["type"] == "u8":
        return rng.integers(0, 256, shape).astype(np.uint8)
    if node["kind"] == "uniform":
        return rng.uniform(0, node["amp"], shape).astype(f32)
    if node["kind"] == "extreme":
        return np.full(shape, node["amp"], f32)
    return rng.normal(0, node["amp"], shape).astype(f32)


def used(spec):
    """The spec without nodes that no output depends on; inputs that nobody reads go as well."""
    keep = set()
    stack = [n for n, _ in spec["outputs"]]
    while stack:
        n = stack.pop()
        if n not in keep:
            keep.add(n)
            stack.extend(i for i, _ in spec["nodes"][n]["in"])
    order = sorted(keep)
    new = {n: i for i, n in enumerate(order)}
    nodes = [dict(spec["nodes"][n], **{"in": [[new[i], p] for i, p in spec["nodes"][n]["in"]]}) for n in order]
    return {**spec, "nodes": nodes, "outputs": [[new[n], p] for n, p in spec["outputs"]]}
