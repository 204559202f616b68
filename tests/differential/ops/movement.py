"""Operations that only move values."""
import numpy as np
import openvino.opset15 as op

from .base import operation
from .quantize import lengths

i64 = np.int64


def ints(values):
    return op.constant(np.array(values, i64))


def draw_transpose(g):
    ref = g.recent()
    rank = len(g.shape(ref))
    if rank < 2:
        return None
    order = list(range(rank))
    if rank == 4 and g.rng.random() < 0.5:
        order = g.rng.choice([[0, 2, 3, 1], [0, 3, 1, 2]])
    elif g.rng.random() < 0.6:
        rest = order[1:]
        g.rng.shuffle(rest)
        order = [0, *rest]
    else:
        g.rng.shuffle(order)
    return g.add("transpose", [ref], order=order)[0]


@operation("transpose", draw_transpose, 3.0)
def build_transpose(b, node, x):
    rank = len(lengths(x))
    order = node["order"] if len(node["order"]) == rank else list(range(rank))
    return op.transpose(x, ints(order))


def draw_reshape(g):
    ref = g.recent()
    shape = g.shape(ref)
    rank = len(shape)
    kind = g.rng.choice(["flatten", "rows", "split", "merge", "tokens"])
    if kind == "flatten":
        pattern = [0, -1]
    elif kind == "rows" and rank >= 3:
        pattern = [0, 0, -1]
    elif kind == "split" and rank >= 2 and shape[1] % 2 == 0:
        pattern = [0, 2, -1, *[0] * 0, *shape[2:]]
    elif kind == "merge" and rank >= 3:
        pattern = [shape[0], -1, *shape[3:]]
    elif kind == "tokens" and rank == 3 and shape[2] % 2 == 0:
        pattern = [0, 0, 2, shape[2] // 2]
    else:
        return None
    if len(pattern) > 5:
        return None
    return g.add("reshape", [ref], pattern=pattern)[0]


@operation("reshape", draw_reshape, 2.5)
def build_reshape(b, node, x):
    return op.reshape(x, ints(node["pattern"]), True)


def draw_squeeze(g):
    ref = g.recent()
    shape = g.shape(ref)
    if g.rng.random() < 0.5:
        axes = [a for a in range(1, len(shape)) if shape[a] == 1]
        if not axes:
            return None
        return g.add("squeeze", [ref], axes=[g.rng.choice(axes)])[0]
    if len(shape) > 4:
        return None
    return g.add("unsqueeze", [ref], axes=[g.rng.randint(0, len(shape))])[0]


@operation("squeeze", draw_squeeze, 1.5)
def build_squeeze(b, node, x):
    return op.squeeze(x, ints(node["axes"]))


@operation("unsqueeze")
def build_unsqueeze(b, node, x):
    return op.unsqueeze(x, ints(node["axes"]))


def draw_split(g):
    ref = g.recent()
    shape = g.shape(ref)
    axes = [a for a in range(len(shape)) if shape[a] > 1]
    if not axes:
        return None
    axis = 1 if 1 in axes and g.rng.random() < 0.6 else g.rng.choice(axes)
    parts = g.rng.choice([d for d in range(2, min(shape[axis], 4) + 1) if shape[axis] % d == 0] or [0])
    if parts and g.rng.random() < 0.5:
        outs = g.add("split", [ref], axis=axis, parts=parts)
    else:
        first = g.rng.randint(1, shape[axis] - 1)
        outs = g.add("variadic_split", [ref], axis=axis - len(shape) if g.rng.random() < 0.3 else axis, first=first)
    return g.rng.choice(outs)


@operation("split", draw_split, 2.0)
def build_split(b, node, x):
    return op.split(x, op.constant(np.array(node["axis"], i64)), node["parts"])


@operation("variadic_split")
def build_variadic_split(b, node, x):
    return op.variadic_split(x, op.constant(np.array(node["axis"], i64)), ints([node["first"], -1]))


def draw_slice(g):
    ref = g.recent()
    shape = g.shape(ref)
    axes = [a for a in range(len(shape)) if shape[a] > 1]
    if not axes:
        return None
    chosen = sorted(g.rng.sample(axes, min(len(axes), g.rng.choice([1, 1, 2]))))
    begin, end, step = [], [], []
    for a in chosen:
        lo = g.rng.randint(0, shape[a] - 1)
        hi = g.rng.randint(lo + 1, shape[a])
        s = g.rng.choice([1, 1, 1, 2, 3])
        if g.rng.random() < 0.12:
            lo, hi, s = hi - 1, lo - 1 - shape[a] if lo == 0 else lo - 1, -s
        elif g.rng.random() < 0.2:
            hi = g.rng.choice([2**31 - 1, 2**63 - 1])
        begin.append(lo)
        end.append(hi)
        step.append(s)
    name = g.rng.choice(["slice", "strided_slice"])
    return g.add(name, [ref], axes=chosen, begin=begin, end=end, step=step)[0]


@operation("slice", draw_slice, 2.0)
def build_slice(b, node, x):
    return op.slice(x, ints(node["begin"]), ints(node["end"]), ints(node["step"]), ints(node["axes"]))


@operation("strided_slice")
def build_strided_slice(b, node, x):
    rank = len(lengths(x))
    begin, end, step, mask = [0] * rank, [0] * rank, [1] * rank, [1] * rank
    for a, lo, hi, s in zip(node["axes"], node["begin"], node["end"], node["step"]):
        begin[a], end[a], step[a], mask[a] = lo, hi, s, 0
    return op.strided_slice(x, ints(begin), ints(end), ints(step), mask, mask)


def draw_gather(g):
    ref = g.recent()
    shape = g.shape(ref)
    if not shape:
        return None
    axis = g.rng.randrange(len(shape))
    scalar = g.rng.random() < 0.2 and len(shape) > 1
    indices = g.rng.randrange(shape[axis]) if scalar else [g.rng.randrange(shape[axis]) for _ in range(g.rng.randint(1, 5))]
    return g.add("gather", [ref], axis=axis, indices=indices)[0]


@operation("gather", draw_gather, 1.5)
def build_gather(b, node, x):
    length = lengths(x)[node["axis"]]
    indices = np.array(node["indices"], i64) % length
    return op.gather(x, op.constant(indices), op.constant(np.array(node["axis"], i64)))


def draw_concat(g):
    first = g.recent()
    shape = g.shape(first)
    if not shape:
        return None
    axis = 1 if len(shape) > 1 and g.rng.random() < 0.75 else g.rng.randrange(len(shape))
    fits = lambda r: len(g.shape(r)) == len(shape) and all(
        a == b for i, (a, b) in enumerate(zip(g.shape(r), shape)) if i != axis
    )
    candidates = [r for r in g.refs() if fits(r)]
    parts = [first]
    for _ in range(g.rng.choice([1, 1, 2, 3])):
        if candidates and g.rng.random() < 0.7:
            parts.append(g.rng.choice(candidates))
        else:
            parts.append(g.input(shape))
    parts = [g.quantize(p, 0.85) for p in parts]
    g.rng.shuffle(parts)
    (out,) = g.add("concat", parts, axis=axis - len(shape) if g.rng.random() < 0.2 else axis)
    g.note(out, amp=max(g.amp(p) for p in parts), positive=all(g.positive(p) for p in parts))
    return out


@operation("concat", draw_concat, 5.0)
def build_concat(b, node, *inputs):
    return op.concat(list(inputs), node["axis"])


def draw_pad(g):
    ref = g.quantize(g.recent(ranks=(4, 4, 3, 5, 2)), 0.75)
    shape = g.shape(ref)
    if len(shape) < 2:
        return None
    mode = g.rng.choices(["constant", "edge", "reflect", "symmetric"], [6, 2, 2, 1])[0]
    begin = [0] * len(shape)
    end = [0] * len(shape)
    for a in range(1, len(shape)):
        if a == 1 and g.rng.random() < 0.8:
            continue
        most = min(shape[a] - 1, 3) if mode == "reflect" else min(shape[a], 3)
        begin[a], end[a] = g.rng.randint(0, max(most, 0)), g.rng.randint(0, max(most, 0))
        if g.rng.random() < 0.05 and shape[a] > 2:
            end[a] = -1
    value = g.rng.choice([0.0, 0.0, 0.0, g.amp(ref), -g.amp(ref) * 0.3])
    return g.add("pad", [ref], mode=mode, begin=begin, end=end, value=value)[0]


@operation("pad", draw_pad, 2.0)
def build_pad(b, node, x):
    return op.pad(x, ints(node["begin"]), ints(node["end"]), node["mode"], op.constant(np.float32(node["value"])))


def draw_shuffle(g):
    ref = g.recent(ranks=(4, 4, 3, 5))
    shape = g.shape(ref)
    if len(shape) < 2:
        return None
    name = g.rng.choice(["shuffle_channels", "depth_to_space", "space_to_depth"])
    if name == "shuffle_channels":
        groups = [d for d in (2, 3, 4) if shape[1] % d == 0]
        if not groups:
            return None
        return g.add(name, [ref], group=g.rng.choice(groups))[0]
    if len(shape) < 3:
        return None
    return g.add(name, [ref], block=2, mode=g.rng.choice(["blocks_first", "depth_first"]))[0]


@operation("shuffle_channels", draw_shuffle, 2.5)
def build_shuffle_channels(b, node, x):
    return op.shuffle_channels(x, 1, node["group"])


@operation("depth_to_space")
def build_depth_to_space(b, node, x):
    return op.depth_to_space(x, node["mode"], node["block"])


@operation("space_to_depth")
def build_space_to_depth(b, node, x):
    return op.space_to_depth(x, node["mode"], node["block"])


def draw_repeat(g):
    ref = g.recent()
    shape = g.shape(ref)
    if not shape:
        return None
    name = g.rng.choice(["tile", "broadcast", "roll"])
    axis = g.rng.randrange(len(shape))
    if name == "broadcast":
        axes = [a for a in range(len(shape)) if shape[a] == 1]
        if not axes:
            return None
        axis = g.rng.choice(axes)
    return g.add(name, [ref], axis=axis, count=g.rng.choice([2, 3]))[0]


@operation("tile", draw_repeat, 1.5)
def build_tile(b, node, x):
    repeats = [1] * len(lengths(x))
    repeats[node["axis"]] = node["count"]
    return op.tile(x, ints(repeats))


@operation("broadcast")
def build_broadcast(b, node, x):
    shape = lengths(x)
    if shape[node["axis"]] == 1:
        shape[node["axis"]] = node["count"]
    return op.broadcast(x, ints(shape))


@operation("roll")
def build_roll(b, node, x):
    return op.roll(x, ints([node["count"]]), ints([node["axis"]]))


def draw_batch_space(g):
    ref = g.recent(ranks=(4,))
    shape = g.shape(ref)
    if len(shape) != 4:
        return None
    return g.add("space_to_batch", [ref], blocks=[1, 1, 2, g.rng.choice([1, 2])])[0]


@operation("space_to_batch", draw_batch_space, 0.3)
def build_space_to_batch(b, node, x):
    shape = lengths(x)
    end = [0, 0, -shape[2] % node["blocks"][2], -shape[3] % node["blocks"][3]]
    if b.oracle and any(end):
        # The plugin leaves in the padding what was in memory.
        x = op.pad(x, ints([0] * 4), ints(end), "constant", op.constant(np.float32(0)))
        (n, c, h, w), (bh, bw) = [a + e for a, e in zip(shape, end)], node["blocks"][2:]
        x = op.reshape(x, ints([n, c, h // bh, bh, w // bw, bw]), False)
        x = op.transpose(x, ints([3, 5, 0, 1, 2, 4]))
        return op.reshape(x, ints([bh * bw * n, c, h // bh, w // bw]), False)
    return op.space_to_batch(x, ints(node["blocks"]), ints([0] * 4), ints(end))
