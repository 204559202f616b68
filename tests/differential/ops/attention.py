"""Attention, and operations that hold graphs."""
import numpy as np
import openvino as ov
import openvino.opset15 as op

from .base import operation
from .movement import ints
from .quantize import lengths

f32 = np.float32


def draw_attention(g):
    ref = g.quantize(g.recent(ranks=(3, 4)), 0.6)
    shape = g.shape(ref)
    if len(shape) not in (3, 4) or shape[-1] > 64 or shape[-2] > 40:
        return None
    tokens = g.rng.choice([shape[-2], 5, 9])
    key = g.quantize(g.input([*shape[:-2], tokens, shape[-1]]), 0.6)
    value = g.quantize(g.input([*shape[:-2], tokens, g.rng.choice([shape[-1], 8])]), 0.6)
    inputs = [ref, key, value]
    mask = g.rng.choice([None, None, "added", "row"])
    if mask:
        inputs.append(g.input([*([1] * (len(shape) - 2)), shape[-2] if mask == "added" else 1, tokens]))
    (out,) = g.add("attention", inputs, causal=not mask and g.rng.random() < 0.3, scale=g.rng.choice([None, None, 0.3]))
    g.note(out, amp=g.amp(value), positive=g.positive(value))
    return out


@operation("attention", draw_attention, 1.0)
def build_attention(b, node, q, k, v, mask=None):
    scale = None if node["scale"] is None else op.constant(f32(node["scale"]))
    if scale is not None and mask is None:
        mask = op.constant(f32(0))
    return op.scaled_dot_product_attention(q, k, v, mask, scale, node["causal"])


def draw_if(g):
    ref = g.recent()
    (out,) = g.add("if", [ref], known=g.rng.choice([None, True, False]), threshold=g.rng.choice([-1.0, 1.0]) * g.amp(ref))
    return out


@operation("if", draw_if, 0.4)
def build_if(b, node, x):
    shape = lengths(x)
    if node["known"] is None:
        axes = list(range(len(shape)))
        condition = op.greater(op.reduce_max(x, ints(axes), False), op.constant(f32(node["threshold"])))
    else:
        condition = op.constant(np.array(node["known"]))
    bodies = []
    for change in (lambda p: op.relu(op.multiply(p, op.constant(f32(1.5)))), lambda p: op.subtract(p, op.constant(f32(0.25)))):
        parameter = op.parameter(shape, np.float32)
        bodies.append((parameter, ov.Model([op.result(change(parameter))], [parameter], "body")))
    node_if = op.if_op(condition.output(0))
    node_if.set_then_body(bodies[0][1])
    node_if.set_else_body(bodies[1][1])
    source = x if isinstance(x, ov.Output) else x.output(0)
    node_if.set_input(source, bodies[0][0], bodies[1][0])
    node_if.set_output(bodies[0][1].get_results()[0], bodies[1][1].get_results()[0])
    return node_if


def draw_iterator(g):
    ref = g.recent(ranks=(3, 2))
    shape = g.shape(ref)
    if len(shape) not in (2, 3) or shape[1] > 24:
        return None
    outs = g.add(
        "iterator", [ref], reverse=g.rng.random() < 0.3, function=g.rng.choice(["tanh", "relu", "sigmoid"]),
        rate=g.rng.choice([0.3, 0.7]),
    )
    for out in outs:
        g.note(out, amp=1.5, positive=False)
    return g.rng.choice(outs)


@operation("iterator", draw_iterator, 0.4)
def build_iterator(b, node, x):
    shape = lengths(x)
    one = [shape[0], 1, *shape[2:]]
    step, state = op.parameter(one, np.float32), op.parameter(one, np.float32)
    function = {"tanh": op.tanh, "relu": op.relu, "sigmoid": op.sigmoid}[node["function"]]
    new = function(op.add(op.multiply(step, op.constant(f32(0.5))), op.multiply(state, op.constant(f32(node["rate"])))))
    results = [op.result(new), op.result(op.multiply(new, op.constant(f32(2))))]
    iterator = op.tensor_iterator()
    iterator.set_function(ov.Model(results, [step, state], "body"))
    source = x if isinstance(x, ov.Output) else x.output(0)
    ends = (-1, 0, -1) if node["reverse"] else (0, -1, 1)
    iterator.set_sliced_input(step, source, ends[0], ends[2], 1, ends[1], 1)
    iterator.set_merged_input(state, op.constant(np.zeros(one, f32)).output(0), results[0].output(0))
    last = iterator.get_iter_value(results[0].output(0), -1)
    every = iterator.get_concatenated_slices(results[1].output(0), ends[0], ends[2], 1, ends[1], 1)
    return [last, every]
