"""Graphs whose inputs leave axes open: the batch, or height and width between bounds."""
from spec import build

OPEN = [-1, -1]


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
        stated = build(spec, True, oracle=True)
        model.reshape({i: n["shape"] for i, n in enumerate(inputs)})
        same = all(a.get_partial_shape() == b.get_partial_shape() for a, b in zip(model.outputs, stated.outputs))
    except (RuntimeError, ValueError, IndexError):
        return None
    return (open_spec, {**spec, "nodes": others}) if same else None

