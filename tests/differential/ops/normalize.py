"""Softmax and normalizations."""
import numpy as np
import openvino.opset15 as op

from .base import operation
from .movement import ints
from .quantize import lengths

f32 = np.float32


def draw_softmax(g):
    ref = g.recent()
    rank = len(g.shape(ref))
    if rank < 1:
        return None
    name = g.rng.choices(["softmax", "log_softmax"], [4, 1])[0]
    (out,) = g.add("softmax", [ref], name=name, axis=g.rng.choice([1 if rank > 1 else 0, rank - 1, -1, g.rng.randrange(rank)]))
    g.note(out, amp=0.3 if name == "softmax" else 3.0, positive=name == "softmax")
    return out


@operation("softmax", draw_softmax, 1.5)
def build_softmax(b, node, x):
    return (op.softmax if node["name"] == "softmax" else op.log_softmax)(x, node["axis"])


def draw_mvn(g):
    ref = g.quantize(g.recent(ranks=(4, 3, 3)), 0.7)
    rank = len(g.shape(ref))
    if rank < 2:
        return None
    axes = g.rng.choice([[rank - 1], list(range(2, rank)) or [1], list(range(1, rank))])
    (out,) = g.add(
        "mvn", [ref], axes=axes, variance=g.rng.random() < 0.85, eps=g.rng.choice([1e-3, 1e-4, 1e-5]),
        inside=g.rng.choice(["inside_sqrt", "outside_sqrt"]),
    )
    g.note(out, amp=1.0, positive=False)
    return out


def flat(x, axes):
    """Zeros where values do not vary along the axes, whose mean OpenVINO rounds: what is left it divides by epsilon."""
    highest, lowest = op.reduce_max(x, ints(axes), True), op.reduce_min(x, ints(axes), True)
    return op.select(op.equal(highest, lowest), op.constant(f32(0)), x)


@operation("mvn", draw_mvn, 1.5)
def build_mvn(b, node, x):
    if b.oracle and node.get("flat"):
        x = flat(x, node["axes"])
    return op.mvn(x, ints(node["axes"]), node["variance"], node["eps"], node["inside"])


def draw_normalize(g):
    ref = g.quantize(g.recent(ranks=(4,)), 0.7)
    rank = len(g.shape(ref))
    if rank != 4:
        return None
    axes = g.rng.choice([[1], [1, 2, 3], [1]])
    (out,) = g.add("normalize_l2", [ref], axes=axes, mode=g.rng.choice(["add", "max"]), eps=g.rng.choice([1e-10, 1e-6]))
    g.note(out, amp=0.5)
    return out


@operation("normalize_l2", draw_normalize, 0.8)
def build_normalize(b, node, x):
    return op.normalize_l2(x, ints(node["axes"]), node["eps"], node["mode"])


def draw_other(g):
    ref = g.recent(ranks=(4,))
    if len(g.shape(ref)) != 4:
        return None
    name = g.rng.choice(["lrn", "batch_norm", "group_norm"])
    (out,) = g.add("norm", [ref], name=name, size=g.rng.choice([3, 5]), groups=g.rng.choice([1, 2, 4]))
    g.note(out, amp=1.0 if name != "lrn" else g.amp(ref), positive=False)
    return out


@operation("norm", draw_other, 1.2)
def build_other(b, node, x):
    channels = lengths(x)[1]
    rng = np.random.default_rng(node["seed"])
    per = lambda low, high: op.constant(rng.uniform(low, high, channels).astype(f32))
    if node["name"] == "lrn":
        return op.lrn(x, ints([1]), 0.1, 0.75, 1.0, node["size"])
    if node["name"] == "batch_norm":
        return op.batch_norm_inference(x, per(0.5, 1.5), per(-1, 1), per(-0.5, 0.5), per(0.2, 2), 1e-5)
    groups = node["groups"]
    while channels % groups:
        groups -= 1
    if b.oracle and node.get("flat"):
        shape = lengths(x)
        x = op.reshape(flat(op.reshape(x, ints([shape[0], groups, -1]), False), [2]), ints(shape), False)
    return op.group_normalization(x, per(0.5, 1.5), per(-1, 1), groups, 1e-5)
