"""When two results count as the same.

Outputs are compared as they are first: `CLOSE` of the largest value. Where they differ, a value may lie so close to
the middle between two levels that the last bit of an f32 decides, and what comes behind amplifies the step. Then the
graph is cut at each FakeQuantize (and each other step function), every piece is run alone on OpenVINO's own values,
and may differ only by one step, and only where the value before the rounding lies next to a tie.
"""
import numpy as np

from ops.quantize import limits
from spec import used

CLOSE = 2e-5
# The widest step, in units of the largest value, that a difference is measured in where OpenVINO transforms a graph.
WIDEST = 0.25
# Functions that are nowhere steeper than this: what their argument may differ by they hand on at most so.
SLOPES = {
    "sigmoid": 0.25, "hsigmoid": 0.17, "tanh": 1.0, "erf": 1.13, "softsign": 1.0, "atan": 1.0, "sin": 1.0, "cos": 1.0,
}
STEPS = {"floor": 0.0, "ceiling": 0.0, "sign": 0.0, "round_even": 0.5, "round_away": 0.5}


def difference(found, expected, size=0.0):
    """The largest difference in units of the largest expected value, or of `size` if that is larger; infinite where
    types or shapes differ."""
    if found.shape != expected.shape or found.dtype != expected.dtype:
        return np.inf
    if found.size == 0:
        return 0.0
    a, b = found.astype(np.float64), expected.astype(np.float64)
    odd = ~np.isfinite(b)
    if odd.any():
        if not np.array_equal(a[odd], b[odd], equal_nan=True):
            return np.inf
        a, b = a[~odd], b[~odd]
        if a.size == 0:
            return 0.0
    if not np.isfinite(a).all():
        return np.inf
    return float(np.abs(a - b).max() / max(np.abs(b).max(), size, 1e-6))


def worst(found, expected, size=0.0):
    if len(found) != len(expected):
        return np.inf
    return max((difference(a, b, size) for a, b in zip(found, expected)), default=0.0)


def size_of(spec):
    """The largest limit of the FakeQuantizes: values of a wide interval are exact to a part of it only."""
    limits = [max(abs(n["ol"]), abs(n["oh"])) for n in spec["nodes"] if n["op"] == "fake_quantize"]
    return max(limits, default=0.0)


def grain(spec, expected):
    """The widest step of a FakeQuantize, in units of the largest expected value, at most `WIDEST`."""
    largest = max((np.abs(e).max(initial=0.0) for e in expected), default=1.0)
    steps = [abs(n["oh"] - n["ol"]) / (n["levels"] - 1) for n in spec["nodes"] if n["op"] == "fake_quantize"]
    return min(max(steps, default=0.0) / max(float(largest), 1e-6), WIDEST)


def between_codes(spec):
    """Whether a FakeQuantize, of weights too, has a zero point between two codes: the engine rounds it in OpenVINO's numerics wherever it
    stands, OpenVINO only where the transformations take it up."""
    for n in spec["nodes"]:
        weights = n.get("w", {})
        if n["op"] in ("convolution", "group_convolution") and weights["kind"] == "fq_asymmetric" and weights["levels"] in (255, 256):
            return True
        if n["op"] != "fake_quantize" or n["levels"] not in (15, 16, 255, 256) or n["oh"] == n["ol"]:
            continue
        zero = -n["ol"] * (n["levels"] - 1) / (n["oh"] - n["ol"])
        if n["half"] or abs(zero - round(zero)) > 1e-4:
            return True
    return False


def is_step(node):
    return (
        node["op"] in ("fake_quantize", "select")
        or node["op"] == "unary" and node["name"] in STEPS
    )


def keeping(node):
    """A FakeQuantize that leaves the values that this one gives as they are; None if no interval does."""
    low, high = sorted((node["ol"], node["oh"]))
    if low == high:
        return None
    # Limits that vary per channel on one side only: what varies is the output, or nothing.
    granularity = {"input": "ones", "output": "channel"}.get(node["granularity"], node["granularity"])
    kept = {k: v for k, v in node.items() if k not in ("zero_width_channel", "apart")}
    return {**kept, "il": low, "ih": high, "ol": low, "oh": high, "granularity": granularity}


def pieces(spec, inputs, values):
    """The graph cut at its step functions; `values` are the outputs of the step functions by node."""
    return [piece for piece, _ in pieces_and_ends(spec, inputs, values)]


def pieces_and_ends(spec, inputs, values):
    """The pieces, each with the node of the graph that ends it."""
    nodes = spec["nodes"]
    input_values = {}
    for index, node in enumerate(nodes):
        if node["op"] == "input":
            input_values[index] = inputs[len(input_values)]
    targets = [i for i, n in enumerate(nodes) if is_step(n)]
    targets += [n for n, _ in spec["outputs"] if n not in targets and nodes[n]["op"] != "input"]
    result = []
    for target in dict.fromkeys(targets):
        new, where = [], {}

        def visit(index):
            if index in where:
                return where[index]
            node = nodes[index]
            again = keeping(node) if index != target and node["op"] == "fake_quantize" else None
            if again:
                value = values[index]
                new.append({"op": "input", "in": [], "shape": list(value.shape), "type": "f32", "values": value})
                new.append({**again, "in": [[len(new) - 1, 0]]})
            elif index != target and is_step(node):
                value = values[index]
                new.append({"op": "input", "in": [], "shape": list(value.shape), "type": "f32", "values": value})
            elif node["op"] == "input":
                new.append({**node, "values": input_values[index]})
            else:
                ins = [[visit(n), p] for n, p in node["in"]]
                new.append({**node, "in": ins})
            where[index] = len(new) - 1
            return where[index]

        end = visit(target)
        ports = sorted({p for n, p in spec["outputs"] if n == target}) or [0]
        piece = used({"seed": spec["seed"], "nodes": new, "outputs": [[end, p] for p in ports]})
        result.append((piece, target))
    return result


def distance(node, x):
    """How far each value lies from where the step function jumps, in its own units, and what counts as next to it."""
    x = x.astype(np.float64)
    size = np.abs(x[np.isfinite(x)]).max(initial=0.0)
    if node["op"] == "fake_quantize":
        low, high, _, _ = (v.astype(np.float64) for v in limits(node, list(x.shape)))
        steps = node["levels"] - 1
        width = high - low
        with np.errstate(all="ignore"):
            t = (x - low) * steps / width
            near = 2.0**-24 * (8 * steps + 64 * size / np.abs(width) * steps + 64 * np.abs(low) / np.abs(width) * steps)
        far = np.abs(t - np.floor(t) - 0.5)
        # An inverted interval jumps from one end to the other at its limits.
        ends = np.minimum(np.abs(t), np.abs(t - steps))
        far = np.where(low > high, np.minimum(far, ends), far)
        if node["levels"] == 2:
            near = near + 1e-6
        return far, near
    if node["op"] == "select":
        return np.abs(x - 0.1 * node["amp"]), 1e-5 * size
    offset = STEPS[node["name"]]
    return np.abs(x - offset - np.round(x - offset)), 1e-5 * size


def attention_bound(node, q, k, v, mask=None):
    """The exact output of an attention, and how far f32 may be from it whatever the order of its sums: each score by
    `d + 4` roundings of its terms, the sum of `n` weights and of their products by as many. An error in a score
    is a factor on its weight."""
    q, k, v = (x.astype(np.float64) for x in (q, k, v))
    scale = 1 / np.sqrt(q.shape[-1]) if node["scale"] is None else node["scale"]
    added = 0.0 if mask is None else mask.astype(np.float64)
    turned = k.swapaxes(-1, -2)
    scores = q @ turned * scale + added
    size = np.abs(q) @ np.abs(turned) * abs(scale) + np.abs(added)
    if node["causal"]:
        scores = np.where(np.tri(*scores.shape[-2:], dtype=bool), scores, -np.inf)
    error = 2.0**-24 * (q.shape[-1] + 4) * size.max(axis=-1, keepdims=True)
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    weights /= weights.sum(axis=-1, keepdims=True)
    relative = np.expm1(2 * error) + 2.0**-23 * (k.shape[-2] + 8)
    return weights @ v, relative * (weights @ np.abs(v))


def mvn_bound(node, x):
    """The exact output of an MVN, and how far f32 may be from it whatever the order of its sums: the mean of `n` values by `n`
    roundings of the mean of their sizes, which the deviation divides."""
    x = x.astype(np.float64)
    axes = tuple(node["axes"])
    count = np.prod([x.shape[a] for a in axes])
    mean = x.mean(axis=axes, keepdims=True)
    off = 2.0**-24 * (count + 4) * np.abs(x).mean(axis=axes, keepdims=True)
    away = x - mean
    error = off + 2.0**-24 * (np.abs(x) + np.abs(away))
    if not node["variance"]:
        return away, error
    variance = (away**2).mean(axis=axes, keepdims=True)
    inside = node["inside"] == "inside_sqrt"
    divisor = np.sqrt(variance + node["eps"]) if inside else np.sqrt(variance) + node["eps"]
    # The variance is larger by the square of what the mean is off.
    relative = 2.0**-24 * (count + 8) + off**2 / divisor**2
    return away / divisor, error / divisor + relative * np.abs(away / divisor)


# Levels that a value within a bound may fall on.
FEW = 4


def within_bound(node, values, exact, bound):
    """Whether values are what a FakeQuantize makes of something within a bound of what is exact, but for ties. A bound of more than
    `FEW` levels says nothing."""
    low, high, output_low, output_high = (v.astype(np.float64) for v in limits(node, list(exact.shape)))
    if (low >= high).any():
        return False
    last = node["levels"] - 1
    if (2 * bound / (high - low) * last > FEW).any():
        return False
    _, near = distance(node, exact)
    ends = []
    for side in (-1, 1):
        level = (exact + side * bound - low) / (high - low) * last + side * near
        ends.append(np.clip(np.round(level), 0, last) / last * (output_high - output_low) + output_low)
    slack = CLOSE * max(np.abs(values).max(initial=0.0), 1e-6)
    return bool(((values >= np.minimum(*ends) - slack) & (values <= np.maximum(*ends) + slack)).all())


def step_of(node, shape):
    """The width of an output step."""
    if node["op"] == "fake_quantize":
        _, _, low, high = limits(node, shape)
        return np.abs(high.astype(np.float64) - low) / (node["levels"] - 1)
    return np.float64(1.0)


def ties(node, found, expected, before):
    """The number of elements one step apart next to a tie, or None if something else differs."""
    if found.shape != expected.shape:
        return None
    a, b = found.astype(np.float64), expected.astype(np.float64)
    apart = np.abs(a - b)
    differs = apart > CLOSE * max(np.abs(b).max(), 1e-6)
    if not np.isfinite(a).all() or not np.isfinite(b).all():
        return None
    far, near = distance(node, before)
    step = np.broadcast_to(step_of(node, list(before.shape)), a.shape)
    if node.get("il", 0.0) > node.get("ih", 0.0):
        step = step * (node["levels"] - 1)
    if node["op"] == "select":
        allowed = differs & (far <= near)
    else:
        allowed = differs & (far <= near) & (apart <= step * 1.01)
    return int(differs.sum()) if (differs == allowed).all() else None
