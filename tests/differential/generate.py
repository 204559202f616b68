"""Draws small quantized graphs at random, from a seed."""
import random

import openvino as ov

from ops import OPS
from ops.quantize import draw_fake_quantize, lengths
from spec import Builder, used


ELEMENTWISE = {
    "unary", "parametric", "binary", "select", "fake_quantize", "add_constant", "subtract_constant", "multiply_constant",
    "divide_constant",
}
CONVOLUTIONS = {"convolution", "group_convolution", "deconvolution", "group_deconvolution"}
FUSING = {"interpolate", "reduce", "avg_pool", "max_pool", "mvn", "normalize_l2", "adaptive_pool"}


class Generator:
    """A graph that grows. A value is a reference `(node, port)`."""

    def __init__(self, seed, without=()):
        self.rng = random.Random(seed)
        self.nodes, self.outputs, self.notes, self.pool = [], [], {}, []
        # Values that are outputs and nothing else: indices, and what has no fixed shape.
        self.ends = []
        self.builder = Builder()
        self.names = [n for n, o in OPS.items() if o.draw and o.weight and n not in without]
        self.weights = [OPS[n].weight for n in self.names]

    # What is known about values.

    def shape(self, ref):
        return lengths(self.outputs[ref[0]][ref[1]])

    def amp(self, ref):
        """About the standard deviation of the values."""
        return self.notes[ref]["amp"]

    def positive(self, ref):
        return self.notes[ref]["positive"]

    def note(self, ref, **facts):
        self.notes[ref].update(facts)

    def refs(self):
        """All values that may be used."""
        return list(self.pool)

    def recent(self, ranks=()):
        """A value, one of the latest as a rule; of one of the ranks, if there is one."""
        fits = [r for r in self.pool if not ranks or len(self.shape(r)) in ranks]
        if not fits:
            fits = self.pool
        return fits[-1] if self.rng.random() < 0.75 else self.rng.choice(fits)

    def mistaken(self, ref, axis):
        """Whether OpenVINO may take another axis for the channels of what is fused behind this value: it counts from
        the end behind products, and from the front behind others, whatever the constant says. What reads the value
        is then built so that the oracle fuses nothing (`apart`)."""
        index, rank = ref[0], len(self.shape(ref))
        while self.nodes[index]["op"] in ELEMENTWISE:
            index = self.nodes[index]["in"][0][0]
        op = self.nodes[index]["op"]
        if op in ("matmul", "product", "attention"):
            return rank > 2 and axis % rank != rank - 1
        if op in CONVOLUTIONS:
            return axis % rank != 1
        if op == "reduce" and not self.nodes[index]["keep"]:
            return True
        return op in FUSING and (axis != 1 or rank == 3)

    # How it grows.

    def add(self, name, inputs, /, **attributes):
        """Adds a node; raises if OpenVINO refuses it."""
        node = {"op": name, "in": [list(r) for r in inputs], "seed": self.rng.randrange(1 << 30), **attributes}
        out = OPS[name].build(self.builder, node, *(self.outputs[n][p] for n, p in inputs))
        out = list(out) if isinstance(out, (list, tuple)) else [out]
        outputs = []
        for o in out:
            outputs.extend([o] if isinstance(o, ov.Output) else o.outputs())
        size = sum(int_product(lengths(o)) for o in outputs)
        if size > 40_000 or size == 0:
            raise ValueError("too large, or empty")
        self.nodes.append(node)
        self.outputs.append(outputs)
        refs = [(len(self.nodes) - 1, p) for p in range(len(outputs))]
        amp = max((self.amp(r) for r in inputs), default=1.0)
        positive = bool(inputs) and all(self.positive(r) for r in inputs)
        for ref in refs:
            self.notes[ref] = {"amp": min(max(amp, 1e-3), 1e4), "positive": positive, "quantized": False}
            self.pool.append(ref)
        return refs

    def input(self, shape):
        kind = self.rng.choices(["normal", "uniform", "extreme"], [12, 5, 0.3])[0]
        amp = self.rng.choice([1.0, 1.0, 0.3, 4.0, 255.0 if kind == "uniform" else 2.0])
        type_ = "u8" if self.rng.random() < 0.06 else "f32"
        (ref,) = self.add("input", [], shape=list(shape), type=type_, kind=kind, amp=amp, data=self.rng.randrange(1 << 30))
        self.note(ref, amp=100.0 if type_ == "u8" else amp, positive=type_ == "u8" or kind != "normal")
        return ref

    def quantize(self, ref, probability, per_channel=0.0):
        """With that probability, the value behind a FakeQuantize of its own."""
        if self.notes[ref]["quantized"] and self.rng.random() < 0.9 or self.rng.random() > probability:
            return ref
        levels = self.rng.choices([None, 256], [1, 3])[0]
        return draw_fake_quantize(self, ref, levels, plain=self.rng.random() < 0.85 and self.rng.random() >= per_channel)


def int_product(values):
    result = 1
    for v in values:
        result *= v
    return result


def first_shape(rng):
    """A shape of the ranks that networks use."""
    family = rng.choices(["picture", "map", "sequence", "vector", "volume", "tokens"], [5, 10, 2, 3, 1, 3])[0]
    side = lambda: rng.choice([1, 2, 4, 5, 6, 7, 8, 9, 12])
    batch = rng.choices([1, 2, 3], [10, 2, 1])[0]
    channels = rng.choice([1, 2, 3, 4, 8, 8, 12, 16, 16, 16, 17, 24, 32, 48])
    return {
        "picture": lambda: [batch, 3, side() + 4, side() + 4],
        "map": lambda: [batch, channels, side(), side()],
        "sequence": lambda: [batch, channels, side() + 3],
        "vector": lambda: [batch, rng.choice([4, 16, 31, 64, 128, 300])],
        "volume": lambda: [1, min(channels, 8), rng.randint(2, 5), rng.randint(2, 5), rng.randint(2, 5)],
        "tokens": lambda: [batch, rng.randint(2, 17), rng.choice([8, 16, 24, 32])],
    }[family]()


def generate(seed, without=()):
    """The spec of a seed."""
    g = Generator(seed, without)
    rng = g.rng
    if rng.random() < 0.97:
        g.quantize(g.input(first_shape(rng)), 0.9)
    else:
        g.input(first_shape(rng))
    wanted = rng.choice([1, 2, 2, 3, 3, 4, 5, 6])
    done = 0
    for _ in range(wanted * 4):
        if done == wanted:
            break
        name = rng.choices(g.names, g.weights)[0]
        mark = len(g.nodes)
        try:
            ref = OPS[name].draw(g)
        except (RuntimeError, ValueError, IndexError):
            ref = None
        if ref is None:
            # What was added on the way stays, if it is whole: it may be used, or falls away as unused inputs do.
            continue
        done += 1
        if rng.random() < 0.45 and not g.notes[ref]["quantized"]:
            try:
                draw_fake_quantize(g, ref, None, plain=rng.random() < 0.7)
            except (RuntimeError, ValueError):
                pass
        del mark
    read = {tuple(r) for node in g.nodes for r in node["in"]}
    leaves = [r for r in g.pool if r not in read and g.nodes[r[0]]["op"] != "input"]
    if not leaves and not g.ends:
        return None
    outputs = leaves[-1:] + [r for r in leaves[:-1] if rng.random() < 0.6]
    if rng.random() < 0.1:
        inner = [r for r in g.pool if g.nodes[r[0]]["op"] != "input" and r not in outputs]
        if inner:
            outputs.append(rng.choice(inner))
    outputs = [r for r in g.ends if rng.random() < 0.8][:3] + outputs or g.ends[:1]
    return used({"seed": seed, "nodes": g.nodes, "outputs": [list(r) for r in outputs[:5]]})
