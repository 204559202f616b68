"""Gather and scatter by indices, and selection of the largest."""
import numpy as np
import openvino.opset15 as op

from .base import operation
from .movement import ints
from .quantize import lengths

i64 = np.int64


def draw_gather_elements(g):
    ref = g.recent()
    shape = g.shape(ref)
    if not shape:
        return None
    return g.add("gather_elements", [ref], axis=g.rng.randrange(len(shape)), count=g.rng.randint(1, 5))[0]


@operation("gather_elements", draw_gather_elements, 0.5)
def build_gather_elements(b, node, x):
    shape = lengths(x)
    length = shape[node["axis"]]
    shape[node["axis"]] = node["count"]
    indices = np.random.default_rng(node["seed"]).integers(-length, length, shape)
    return op.gather_elements(x, ints(indices), node["axis"])


def draw_gather_nd(g):
    ref = g.recent()
    shape = g.shape(ref)
    if len(shape) < 2:
        return None
    batch = 1 if len(shape) > 2 and g.rng.random() < 0.4 else 0
    depth = g.rng.randint(1, len(shape) - batch)
    return g.add("gather_nd", [ref], depth=depth, batch=batch, count=g.rng.randint(1, 5))[0]


@operation("gather_nd", draw_gather_nd, 0.5)
def build_gather_nd(b, node, x):
    return op.gather_nd(x, ints(places(node, lengths(x))), node["batch"])


def places(node, shape):
    """Distinct places along the first axes after the batch."""
    batch, depth = node.get("batch", 0), node["depth"]
    inner = shape[batch : batch + depth]
    rng = np.random.default_rng(node["seed"])
    total = int(np.prod(inner))
    count = min(node["count"], total)
    rows = [rng.permutation(total)[:count] for _ in range(int(np.prod(shape[:batch])))]
    split = np.stack([np.stack(np.unravel_index(r, inner), -1) for r in rows])
    return split.reshape([*shape[:batch], count, depth])


def updates(g, ref, shape):
    """Another value of that shape, or a new input."""
    same = [r for r in g.refs() if g.shape(r) == shape]
    new = g.rng.choice(same) if same and g.rng.random() < 0.5 else g.input(shape)
    new = g.quantize(new, 0.6)
    return new, max(g.amp(new), g.amp(ref))


def draw_scatter(g):
    ref = g.quantize(g.recent(), 0.6)
    shape = g.shape(ref)
    if len(shape) < 2:
        return None
    name = g.rng.choice(["scatter_update", "scatter_elements", "scatter_nd"])
    axis = g.rng.randrange(len(shape))
    count = g.rng.randint(1, min(shape[axis], 4))
    reduction = g.rng.choices(["none", "sum", "prod", "min", "max", "mean"], [6, 2, 1, 1, 1, 1])[0]
    if name == "scatter_nd":
        depth = g.rng.randint(1, len(shape))
        count = min(count, int_product(shape[:depth]))
        new, amp = updates(g, ref, [count, *shape[depth:]])
        reduction = reduction if reduction != "mean" else "sum"
        (out,) = g.add(name, [ref, new], depth=depth, count=count, reduction=reduction)
    else:
        new, amp = updates(g, ref, [*shape[:axis], count, *shape[axis + 1 :]])
        (out,) = g.add(name, [ref, new], axis=axis, reduction=reduction, initial=g.rng.random() < 0.7)
    g.note(out, amp=amp if reduction != "prod" else g.amp(ref) * g.amp(new), positive=g.positive(ref) and g.positive(new))
    return out


def int_product(values):
    result = 1
    for v in values:
        result *= v
    return result


@operation("scatter_update", draw_scatter, 1.5)
def build_scatter_update(b, node, x, y):
    axis = node["axis"]
    indices = np.random.default_rng(node["seed"]).permutation(lengths(x)[axis])[: lengths(y)[axis]]
    return op.scatter_update(x, ints(indices), y, op.constant(np.array(axis, i64)))


@operation("scatter_elements")
def build_scatter_elements(b, node, x, y):
    axis, length = node["axis"], lengths(x)[node["axis"]]
    rng = np.random.default_rng(node["seed"])
    shape = lengths(y)
    if node["reduction"] == "none":
        indices = np.argsort(rng.uniform(size=[*shape[:axis], length, *shape[axis + 1 :]]), axis).take(range(shape[axis]), axis)
    else:
        indices = rng.integers(0, length, shape)
    return op.scatter_elements_update(
        x, ints(indices), y, op.constant(np.array(axis, i64)), node["reduction"], node["initial"]
    )


@operation("scatter_nd")
def build_scatter_nd(b, node, x, y):
    return op.scatter_nd_update(x, ints(places(node, lengths(x))), y, node["reduction"])


def draw_topk(g):
    ref = g.recent()
    shape = g.shape(ref)
    if not shape:
        return None
    axis = g.rng.randrange(len(shape))
    # Which of equal values are taken is defined for the order of values alone.
    varied = g.nodes[ref[0]]["op"] == "input" and g.nodes[ref[0]]["kind"] != "extreme" and g.nodes[ref[0]]["type"] == "f32"
    values, indices = g.add(
        "topk", [ref], axis=axis, k=g.rng.randint(1, shape[axis]), mode=g.rng.choice(["max", "min"]),
        sort=g.rng.choice(["value", "index"]) if varied else "value",
    )
    # Values that are almost equal may change places.
    g.pool.remove(indices)
    if g.nodes[ref[0]]["op"] in ("input", "fake_quantize"):
        g.ends.append(indices)
    return values


@operation("topk", draw_topk, 1.0)
def build_topk(b, node, x):
    k = op.constant(np.array(min(node["k"], lengths(x)[node["axis"]]), i64))
    return op.topk(x, k, node["axis"], node["mode"], node["sort"], "i32", True)


def draw_cumulative(g):
    ref = g.recent()
    shape = g.shape(ref)
    if len(shape) < 2:
        return None
    axis = g.rng.randrange(len(shape))
    if g.rng.random() < 0.5:
        if axis == 0:
            return None
        return g.add("reverse_sequence", [ref], axis=axis)[0]
    (out,) = g.add("cum_sum", [ref], axis=axis, exclusive=g.rng.random() < 0.3, reverse=g.rng.random() < 0.3)
    g.note(out, amp=g.amp(ref) * shape[axis] ** 0.5)
    return out


@operation("cum_sum", draw_cumulative, 0.5)
def build_cum_sum(b, node, x):
    return op.cum_sum(x, op.constant(np.array(node["axis"], i64)), node["exclusive"], node["reverse"])


@operation("reverse_sequence")
def build_reverse_sequence(b, node, x):
    shape = lengths(x)
    counts = np.random.default_rng(node["seed"]).integers(1, shape[node["axis"]] + 1, shape[0])
    return op.reverse_sequence(x, ints(counts), 0, node["axis"])
