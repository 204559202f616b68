"""The table of operations: how each is drawn at random, and how it is built."""


class Op:
    """An operation: `build(builder, node, *inputs)` gives OpenVINO nodes, `draw(generator)` adds nodes to a graph."""

    def __init__(self, build, draw=None, weight=0.0):
        self.build, self.draw, self.weight = build, draw, weight


OPS = {}


def operation(name, draw=None, weight=0.0):
    """Registers the function as the builder of an operation."""

    def register(build):
        OPS[name] = Op(build, draw, weight)
        return build

    return register
