"""Graphs whose inputs leave axes open: the batch, or height and width between bounds."""
import collections

import openvino as ov

from spec import build

OPEN = [-1, -1]


def removes_open(model):
    """Whether a Squeeze takes away an axis that is open: a length of 1 alone can be taken away."""
    for node in model.get_ordered_ops():
        if node.get_type_name() == "Squeeze":
            shape = node.input(0).get_partial_shape()
            axes = node.input_value(1).get_node()
            if shape.rank.is_dynamic or axes.get_type_name() != "Constant":
                return True
            if any(shape[int(axis) % shape.rank.get_length()].is_dynamic for axis in axes.data.ravel()):
                return True
    return False


def numbers(model):
    """The constants of a graph but for integers, which may be shapes."""
    constants = [n.data for n in model.get_ordered_ops() if n.get_type_name() == "Constant" and n.get_element_type().is_real()]
    return collections.Counter((c.shape, c.tobytes()) for c in constants)


def alike(model, stated):
    """Whether a graph that was open, at shapes that are set now, is the one that was built at those shapes."""
    same = all(a.get_partial_shape() == b.get_partial_shape() for a, b in zip(model.outputs, stated.outputs))
    return same and numbers(model) == numbers(stated)


def opened(spec, sides):
    """The spec with the batch of its inputs open, or with `sides` their height and width too, and the spec of inputs of other
    shapes; None if the graph does not leave it at that."""
    inputs = [n for n in spec["nodes"] if n["op"] == "input"]
    first = inputs[0]["shape"]
    if any(n.get("values") is not None for n in inputs) or len(first) < 2 or sides and len(first) != 4:
        return None
    nodes, others = [], []
    for node in spec["nodes"]:
        partial = other = None
        if node["op"] == "input":
            shape = node["shape"]
            partial, other = [[d, d] for d in shape], list(shape)
            if shape[0] == first[0] and len(shape) > 1:
                partial[0], other[0] = OPEN, 2 * shape[0] + 1
            if sides and shape[2:] == first[2:] and len(shape) == 4:
                for axis in (2, 3):
                    partial[axis], other[axis] = [1, 2 * shape[axis] + 1], shape[axis] + axis - 1
            nodes.append({**node, "partial": partial})
            others.append({**node, "shape": other})
        else:
            nodes.append(node)
            others.append(node)
    open_spec = {**spec, "nodes": nodes}
    try:
        model = build(open_spec, True, oracle=True)
        shapes = [o.get_partial_shape() for o in model.outputs]
        for shape in shapes:
            if shape.rank.is_dynamic or shape.rank.get_length() == 0 or shape[0].is_static:
                return None
        if removes_open(model):
            return None
        same = True
        for nodes in (spec["nodes"], others):
            model.reshape({i: ov.PartialShape(s) for i, s in enumerate(n["shape"] for n in nodes if n["op"] == "input")})
            same = same and alike(model, build({**spec, "nodes": nodes}, True, oracle=True))
    except (RuntimeError, ValueError, IndexError):
        return None
    return (open_spec, {**spec, "nodes": others}) if same else None

