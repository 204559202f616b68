"""Makes a failing graph small."""
import copy

import numpy as np

from spec import build, used

# Attributes and the plainest values they may take.
PLAIN = {
    "half": [False], "granularity": ["scalar", "ones"], "auto": ["explicit"], "swap": [False], "levels": [256],
    "rounding": ["floor"], "exclude": [False], "kind": ["scalar", "ones"], "transpose_a": [False], "transpose_b": [False],
    "keep": [True], "version": [11], "mode": ["nearest", "constant"], "coordinates": ["half_pixel", "asymmetric"],
    "channels": [1, 2, 4, 8], "columns": [1, 4], "each": [1], "zero_width_channel": [False], "value": [0.0],
}
LISTS = {"strides": 1, "dilations": 1, "begin": 0, "end": 0, "kernel": 1, "output_padding": 0, "factors": 2.0, "size": 1}
WEIGHTS = {
    "kind": ["i8"], "per_channel": [False], "half": [False], "zero_point": [False], "extreme": [False], "move": ["none"],
    "packed_zero_point": [True], "levels": [255], "gain": [1.0],
}


def candidates(spec):
    """Simpler specs, the boldest first."""
    nodes = spec["nodes"]
    if len(spec["outputs"]) > 1:
        for o in spec["outputs"]:
            yield {**spec, "outputs": [o]}
    # An earlier value as the only output.
    for index in range(len(nodes) - 1, -1, -1):
        if nodes[index]["op"] != "input" and [index, 0] not in spec["outputs"]:
            yield {**spec, "outputs": [[index, 0]]}
    # Without a node: its readers read what it read.
    for index, node in enumerate(nodes):
        for source in node["in"]:
            new = copy.copy(spec)
            replace = lambda r: list(source) if r[0] == index else r
            new["nodes"] = [{**n, "in": [replace(r) for r in n["in"]]} for n in nodes]
            new["outputs"] = [replace(r) for r in spec["outputs"]]
            if all(nodes[n]["op"] != "input" for n, _ in new["outputs"]):
                yield new
    # An input in the place of a node.
    try:
        shapes = [None] * len(nodes)
        model = build({**spec, "outputs": [[i, 0] for i in range(len(nodes))]})
        shapes = [list(r.get_output_shape(0)) for r in model.get_results()]
    except Exception:
        pass
    for index, node in enumerate(nodes):
        if node["op"] != "input" and shapes[index] and [index, 0] not in spec["outputs"]:
            new = list(nodes)
            new[index] = {"op": "input", "in": [], "shape": shapes[index], "type": "f32", "kind": "normal", "amp": 1.0, "data": 1}
            if not any(n == index for n, _ in spec["outputs"]):
                yield {**spec, "nodes": new}
    for index, node in enumerate(nodes):
        def changed(**values):
            new = list(nodes)
            new[index] = {**node, **values}
            return {**spec, "nodes": new}

        if node["op"] == "input":
            if "values" in node:
                yield changed(values=None, kind="normal", amp=1.0, data=1) if node["values"] is not None else spec
            for axis, length in enumerate(node["shape"]):
                for less in {1, length // 2, length - 1}:
                    if 0 < less < length and node.get("values") is None:
                        shape = list(node["shape"])
                        shape[axis] = less
                        yield changed(shape=shape)
            if node.get("type") == "u8":
                yield changed(type="f32", kind="normal", amp=1.0)
            if node.get("kind") not in (None, "normal"):
                yield changed(kind="normal")
            continue
        for key, plain in PLAIN.items():
            if key in node:
                for value in plain:
                    if node[key] == value or isinstance(value, int) and not isinstance(value, bool) and isinstance(node[key], int) and node[key] < value:
                        break
                    yield changed(**{key: value})
        for key, plain in LISTS.items():
            if key in node and isinstance(node[key], list):
                if any(v != plain for v in node[key]):
                    yield changed(**{key: [plain] * len(node[key])})
                    for i, v in enumerate(node[key]):
                        if v != plain:
                            yield changed(**{key: [plain if j == i else w for j, w in enumerate(node[key])]})
        if "w" in node:
            for key, plain in WEIGHTS.items():
                for value in plain:
                    if node["w"][key] != value:
                        yield changed(w={**node["w"], key: value})
        if "il" in node and (node["il"], node["ih"]) != (0.0, 2.55):
            if node["ol"] != node["il"] or node["oh"] != node["ih"]:
                yield changed(ol=node["il"], oh=node["ih"])
            yield changed(il=0.0, ih=2.55, ol=0.0, oh=2.55)
            yield changed(il=-1.28, ih=1.27, ol=-1.28, oh=1.27)


def shrink(spec, fails, budget=300):
    """A smaller spec for which `fails` still holds."""
    tried = 0
    again = True
    seen = set()
    while again and tried < budget:
        again = False
        for candidate in candidates(spec):
            candidate = used(candidate)
            key = repr(candidate)
            if key in seen:
                continue
            seen.add(key)
            tried += 1
            if tried >= budget:
                break
            try:
                if fails(candidate):
                    spec, again = candidate, True
                    break
            except Exception:
                continue
    return spec


def plain(spec):
    """For JSON."""
    convert = lambda v: v.tolist() if isinstance(v, np.ndarray) else v
    return {**spec, "nodes": [{k: convert(v) for k, v in n.items()} for n in spec["nodes"]]}
