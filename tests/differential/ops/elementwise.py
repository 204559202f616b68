"""Functions of one value, and of two tensors element by element."""
import numpy as np
import openvino.opset15 as op

from .base import operation
from .quantize import lengths

f32 = np.float32

UNARY = {
    "relu": op.relu, "sigmoid": op.sigmoid, "tanh": op.tanh, "hswish": op.hswish, "hsigmoid": op.hsigmoid,
    "gelu_erf": lambda x: op.gelu(x, "erf"), "gelu_tanh": lambda x: op.gelu(x, "tanh"), "mish": op.mish,
    "softplus": op.softplus, "abs": op.abs, "negative": op.negative, "floor": op.floor, "ceiling": op.ceiling,
    "erf": op.erf, "exp": op.exp, "sqrt_abs": lambda x: op.sqrt(op.abs(x)), "sin": op.sin, "cos": op.cos,
    "round_even": lambda x: op.round(x, "half_to_even"), "round_away": lambda x: op.round(x, "half_away_from_zero"),
    "sign": op.sign, "softsign": op.softsign, "atan": op.atan, "sinh": op.sinh,
    "log_abs": lambda x: op.log(op.add(op.abs(x), op.constant(f32(0.5)))),
}
POSITIVE = {"relu", "sigmoid", "hsigmoid", "softplus", "abs", "exp", "sqrt_abs"}
COMMON = {"relu": 12, "sigmoid": 3, "hswish": 3, "hsigmoid": 2, "tanh": 2, "gelu_erf": 2, "abs": 1.5, "mish": 1.5}


def draw_unary(g):
    ref = g.recent()
    names = list(UNARY)
    name = g.rng.choices(names, [COMMON.get(n, 0.5) for n in names])[0]
    if name in ("exp", "sinh") and g.amp(ref) > 4:
        return None
    (out,) = g.add("unary", [ref], name=name)
    amp = g.amp(ref)
    if name == "exp":
        amp = float(np.exp(amp))
    elif name in ("sigmoid", "tanh", "hsigmoid", "erf", "sin", "cos", "sign", "softsign", "atan"):
        amp = 0.5
    g.note(out, amp=amp, positive=name in POSITIVE)
    return out


@operation("unary", draw_unary, 7.0)
def build_unary(b, node, x):
    return UNARY[node["name"]](x)


def draw_parametric(g):
    ref = g.recent()
    name = g.rng.choices(["clamp", "elu", "swish", "prelu", "hard_sigmoid", "selu", "leaky"], [5, 1.5, 2, 3, 1, 0.5, 3])[0]
    a = g.amp(ref)
    values = {
        "clamp": lambda: sorted([g.rng.uniform(-2, 1) * a, g.rng.uniform(0, 3) * a]) if g.rng.random() < 0.7 else [0.0, 6.0],
        "elu": lambda: [g.rng.choice([1.0, 0.5])], "swish": lambda: [g.rng.choice([1.0, 1.5])],
        "prelu": lambda: [0.25], "hard_sigmoid": lambda: [0.2, 0.5], "selu": lambda: [1.67, 1.05],
        "leaky": lambda: [g.rng.choice([0.1, 0.01, -0.3])],
    }[name]()
    (out,) = g.add("parametric", [ref], name=name, values=values)
    g.note(out, positive=name == "hard_sigmoid" or name == "clamp" and values[0] >= 0)
    return out


@operation("parametric", draw_parametric, 3.0)
def build_parametric(b, node, x):
    name, v = node["name"], node["values"]
    if name == "clamp":
        return op.clamp(x, min(v), max(v))
    if name == "elu":
        return op.elu(x, v[0])
    if name == "swish":
        return op.swish(x, op.constant(f32(v[0])))
    if name == "prelu":
        shape = lengths(x)
        if len(shape) < 2:
            return op.prelu(x, op.constant(np.array([v[0]], f32)))
        slopes = np.random.default_rng(node["seed"]).uniform(-0.2, 0.5, shape[1]).astype(f32)
        return op.prelu(x, op.constant(slopes))
    if name == "leaky":
        return op.prelu(x, op.constant(np.array([v[0]], f32)))
    if name == "hard_sigmoid":
        return op.hard_sigmoid(x, op.constant(f32(v[0])), op.constant(f32(v[1])))
    return op.selu(x, op.constant(f32(v[0])), op.constant(f32(v[1])))


def constant(b, node, x, positive=False):
    """One number, one per channel, or one per element (but for the batch)."""
    if b.oracle and node.get("apart"):
        b.barriers.append(x)
    shape = lengths(x)
    rng = np.random.default_rng(node["seed"])
    dims = [1] * len(shape)
    if node["kind"] == "channel" and shape:
        axis = node["axis"] % len(shape)
        dims[axis] = shape[axis]
    elif node["kind"] == "full":
        dims = [1, *shape[1:]] if shape else []
    elif node["kind"] == "scalar":
        dims = []
    values = rng.normal(0, node["amp"], dims)
    if positive:
        values = np.abs(values) + node["amp"] * 0.3
    return b.floats(values, node.get("half", False))


def draw_constant(g):
    ref = g.recent()
    kind = g.rng.choices(["ones", "scalar", "channel", "full"], [3, 3, 4, 1])[0]
    name = g.rng.choice(["add_constant", "add_constant", "multiply_constant", "multiply_constant", "subtract_constant", "divide_constant"])
    rank = len(g.shape(ref))
    axis = 1 if rank > 1 and g.rng.random() < 0.8 else -1
    amp = g.amp(ref) if name in ("add_constant", "subtract_constant") else g.rng.choice([0.5, 1.0, 2.0])
    sign = g.rng.choices(["positive", "any"], [4, 1])[0]
    (out,) = g.add(
        name, [ref], kind=kind, amp=amp, axis=axis, swap=g.rng.random() < 0.15, sign=sign, half=g.rng.random() < 0.1,
        apart=kind in ("channel", "full") and g.mistaken(ref, axis),
    )
    g.note(out, amp=g.amp(ref) * (1.4 if name in ("add_constant", "subtract_constant") else amp), positive=False)
    return out


@operation("add_constant", draw_constant, 3.0)
def build_add_constant(b, node, x):
    c = constant(b, node, x)
    return op.add(c, x) if node["swap"] else op.add(x, c)


@operation("subtract_constant")
def build_subtract_constant(b, node, x):
    c = constant(b, node, x)
    return op.subtract(c, x) if node["swap"] else op.subtract(x, c)


@operation("multiply_constant")
def build_multiply_constant(b, node, x):
    c = constant(b, node, x, node["sign"] == "positive")
    return op.multiply(c, x) if node["swap"] else op.multiply(x, c)


@operation("divide_constant")
def build_divide_constant(b, node, x):
    return op.divide(x, constant(b, node, x, True))


BINARY = {
    "add": op.add, "multiply": op.multiply, "subtract": op.subtract, "maximum": op.maximum, "minimum": op.minimum,
    "squared_difference": op.squared_difference,
}


def draw_binary(g):
    a = g.quantize(g.recent(), 0.7)
    shape = g.shape(a)
    same = [r for r in g.refs() if g.shape(r) == shape]
    if same and g.rng.random() < 0.75:
        b = g.rng.choice(same)
    elif len(shape) >= 3 and g.rng.random() < 0.4:
        b = g.input(shape[:2] + [1] * (len(shape) - 2))
    else:
        b = g.input(shape)
    b = g.quantize(b, 0.7)
    name = g.rng.choices(list(BINARY), [10, 3, 2, 1, 1, 0.7])[0]
    pair = [a, b] if g.rng.random() < 0.7 else [b, a]
    (out,) = g.add("binary", pair, name=name)
    amp = {"add": g.amp(a) + g.amp(b), "subtract": g.amp(a) + g.amp(b), "multiply": g.amp(a) * g.amp(b)}.get(
        name, max(g.amp(a), g.amp(b))
    )
    if name == "squared_difference":
        amp = (g.amp(a) + g.amp(b)) ** 2
    g.note(out, amp=amp, positive=g.positive(a) and g.positive(b) and name != "subtract" or name == "squared_difference")
    return out


@operation("binary", draw_binary, 6.0)
def build_binary(b, node, x, y):
    return BINARY[node["name"]](x, y)


def draw_gate(g):
    """Squeeze and excitation: a factor per channel from the mean."""
    ref = g.recent(ranks=(4,))
    (mean,) = g.add("reduce", [ref], name="mean", axes=[2, 3], keep=True)
    mean = g.quantize(mean, 0.6)
    (gate,) = g.add("unary", [mean], name=g.rng.choice(["sigmoid", "hsigmoid"]))
    g.note(gate, amp=0.4, positive=True)
    gate = g.quantize(gate, 0.6)
    (out,) = g.add("binary", [g.quantize(ref, 0.5), gate], name="multiply")
    return out


@operation("gate", draw_gate, 1.0)
def build_gate(b, node, *inputs):
    raise NotImplementedError("a pattern, not an operation")


def draw_select(g):
    a = g.recent()
    b = g.rng.choice([r for r in g.refs() if g.shape(r) == g.shape(a)] or [a])
    (out,) = g.add("select", [a, b], name=g.rng.choice(["greater", "less", "less_equal", "greater_equal"]), amp=g.amp(a))
    return out


@operation("select", draw_select, 0.7)
def build_select(b, node, x, y):
    compare = {"greater": op.greater, "less": op.less, "less_equal": op.less_equal, "greater_equal": op.greater_equal}
    return op.select(compare[node["name"]](x, op.constant(f32(0.1 * node["amp"]))), x, y)
