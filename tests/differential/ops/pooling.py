"""Pooling and reductions."""
import numpy as np
import openvino.opset15 as op

from .base import operation
from .movement import ints
from .products import spatial


def draw_pool(g):
    ref = g.quantize(g.recent(ranks=(4, 4, 4, 3, 5)), 0.6)
    shape = g.shape(ref)
    values = spatial(g.rng, len(shape))
    values["kernel"] = [g.rng.choice([2, 3])] * (len(shape) - 2)
    values["begin"] = [min(p, 1) for p in values["begin"]]
    values["end"] = [min(p, 1) for p in values["end"]]
    name = g.rng.choice(["max_pool", "avg_pool"])
    if name == "avg_pool":
        values["dilations"] = [1] * (len(shape) - 2)
    rounding = g.rng.choices(["floor", "ceil"], [4, 1])[0]
    if rounding == "ceil" and misses(shape[2:], values):
        return None
    (out,) = g.add(name, [ref], rounding=rounding, exclude=g.rng.random() < 0.5, **values)
    return out


def misses(lengths, v):
    """Whether the last window lies in the padding altogether: OpenVINO averages that to NaN."""
    if v["auto"].startswith("same"):
        return False
    padded = v["auto"] == "explicit"
    for i, length in enumerate(lengths):
        begin, end = (v["begin"][i], v["end"][i]) if padded else (0, 0)
        reach = (v["kernel"][i] - 1) * v["dilations"][i] + 1
        room = length + begin + end - reach
        last = -(-room // v["strides"][i]) * v["strides"][i] - begin
        if last >= length:
            return True
    return False


@operation("max_pool", draw_pool, 4.0)
def build_max_pool(b, node, x):
    if all(d == 1 for d in node["dilations"]):
        from openvino import opset1

        return opset1.max_pool(
            x, node["strides"], node["begin"], node["end"], node["kernel"], node["rounding"], node["auto"]
        )
    pool = op.max_pool(
        x, node["strides"], node["dilations"], node["begin"], node["end"], node["kernel"], node["rounding"], node["auto"]
    )
    return pool.output(0)


@operation("avg_pool")
def build_avg_pool(b, node, x):
    return op.avg_pool(
        x, node["strides"], node["begin"], node["end"], node["kernel"], node["exclude"], node["rounding"], node["auto"]
    )


REDUCE = {
    "mean": op.reduce_mean, "max": op.reduce_max, "min": op.reduce_min, "sum": op.reduce_sum,
    "l2": op.reduce_l2, "l1": op.reduce_l1, "prod": op.reduce_prod,
}


def draw_reduce(g):
    ref = g.quantize(g.recent(), 0.6)
    shape = g.shape(ref)
    if len(shape) < 2:
        return None
    axes = list(range(2, len(shape))) if len(shape) > 2 and g.rng.random() < 0.6 else [g.rng.randrange(1, len(shape))]
    name = g.rng.choices(list(REDUCE), [6, 2, 2, 2, 1, 0.7, 0.2])[0]
    if name == "prod" and int(np.prod([shape[a] for a in axes])) > 16:
        # A product beyond f32 is inf * 0 in one order and 0 in another.
        return None
    (out,) = g.add("reduce", [ref], name=name, axes=axes, keep=g.rng.random() < 0.7)
    count = 1
    for a in axes:
        count *= shape[a]
    amp = {"mean": 1, "max": 1.5, "min": 1.5, "sum": count, "l1": count, "l2": count**0.5, "prod": 1}[name]
    g.note(out, amp=g.amp(ref) * amp * (1 if g.positive(ref) or name not in ("mean", "sum") else 0.3))
    return out


@operation("reduce", draw_reduce, 3.0)
def build_reduce(b, node, x):
    return REDUCE[node["name"]](x, ints(node["axes"]), node["keep"])


def draw_adaptive(g):
    ref = g.quantize(g.recent(ranks=(4, 4, 3)), 0.6)
    shape = g.shape(ref)
    if len(shape) < 3:
        return None
    size = [g.rng.randint(1, max(1, s)) for s in shape[2:]]
    return g.add("adaptive_pool", [ref], name=g.rng.choice(["avg", "max"]), size=size)[0]


@operation("adaptive_pool", draw_adaptive, 0.4)
def build_adaptive(b, node, x):
    if node["name"] == "avg":
        return op.adaptive_avg_pool(x, ints(node["size"]))
    return op.adaptive_max_pool(x, ints(node["size"])).output(0)
