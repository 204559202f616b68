"""Differential testing: random small quantized graphs on the engine and on OpenVINO.

usage: python run.py [--count N] [--seed FIRST] [--binary PATH] [--out FOLDER] [--without NAMES]

Prints what differs, writes shrunk failing graphs into FOLDER, and ends with the counts.
"""
import argparse
import collections
import json
import pathlib
import sys
import time

import numpy as np

import compare
from engine import Engine, write
from generate import generate
from opened import opened
from oracle import Ended, Oracle
from shrink import plain, shrink
from spec import data

sys.path.insert(0, str(pathlib.Path(__file__).parent))


class Differential:
    def __init__(self, arguments):
        self.oracle = Oracle()
        self.engine = Engine(arguments.binary, arguments.scratch)
        self.counts = collections.Counter()
        self.operations = collections.Counter()
        self.unsupported = collections.Counter()
        self.tied = 0

    def literal(self, spec, inputs=None, name="cpu-literal"):
        """`("equal" | "ties" | "unsupported" | "oracle" | a failure, what is known about it)`."""
        inputs = data(spec) if inputs is None else inputs
        try:
            expected = self.oracle.literal(spec, inputs)
        except RuntimeError as error:
            return "oracle", str(error)
        found = self.engine.run(spec, inputs, [name])[name]
        return self.judge(spec, inputs, expected, found, name)

    def judge(self, spec, inputs, expected, found, name):
        if isinstance(found, str):
            if found.startswith("error") and ("E0605" in found or "not supported" in found or "unknown" in found):
                return "unsupported", found
            return found.split()[0], found
        apart = compare.worst(found, expected)
        if apart <= compare.CLOSE:
            return "equal", apart
        if any(n["op"] in ("mvn", "norm") and "flat" not in n for n in spec["nodes"]):
            # What does not vary is normalized to zeros here, to noise in OpenVINO.
            nodes = [{**n, "flat": True} if n["op"] in ("mvn", "norm") else n for n in spec["nodes"]]
            spec = {**spec, "nodes": nodes}
            try:
                return self.judge(spec, inputs, self.oracle.literal(spec, inputs), found, name)
            except RuntimeError as error:
                return "uncut", f"OpenVINO cannot run it: {str(error).strip()[:200]}"
        try:
            return self.pieces(spec, inputs, expected, found, apart, name)
        except Ended as error:
            return "oracle", str(error)
        except RuntimeError as error:
            return "uncut", f"OpenVINO cannot run a piece: {str(error).strip()[:200]}"

    def pieces(self, spec, inputs, expected, found, apart, name):
        """Whether ties explain the difference."""
        steps = [i for i, n in enumerate(spec["nodes"]) if compare.is_step(n)]
        watched = self.oracle.literal(spec, inputs, [(i, 0) for i in steps])
        count = len(spec["outputs"])
        tied, inconsistent = 0, None
        for piece in compare.pieces(spec, inputs, dict(zip(steps, watched[count:]))):
            ties, known = self.piece(piece, name)
            if ties is None and known[0] != "inconsistent":
                return known
            tied, inconsistent = tied + (ties or 0), inconsistent or known
        if inconsistent:
            return inconsistent
        if not steps:
            return "equal", apart
        # A sum of small differences that each piece may have.
        if not tied and compare.worst(found, expected, compare.size_of(spec)) <= compare.CLOSE:
            return "equal", apart
        return self.whole(spec, inputs, steps, watched, expected, found, name, tied)

    def piece(self, piece, name):
        """`(ties, None)` if the engine computes a piece of a graph as OpenVINO does but for ties, else `(None, failure)`."""
        inputs = data(piece)
        literal = self.oracle.literal(piece, inputs)
        ours = self.engine.run(piece, inputs, [name])[name]
        if isinstance(ours, str):
            return None, (ours.split()[0], (ours, piece))
        ties, failure = self.compared(piece, inputs, ours, literal)
        if ties is not None:
            return ties, None
        inner = [(i, 0) for i, n in enumerate(piece["nodes"][:-1]) if n["op"] != "input"]
        watched = self.oracle.literal(piece, inputs, inner)[: len(literal)]
        ties, _ = self.compared(piece, inputs, ours, watched)
        if ties is None or compare.worst(watched, literal, compare.size_of(piece)) <= compare.CLOSE:
            return None, failure
        # What it makes of the piece depends on whether its values are outputs too.
        return None, ("inconsistent", compare.worst(watched, literal))

    def compared(self, piece, inputs, ours, literal):
        if compare.worst(ours, literal, compare.size_of(piece)) <= compare.CLOSE:
            return 0, None
        failure = "differs", (compare.worst(ours, literal), piece)
        node = piece["nodes"][piece["outputs"][0][0]]
        if node.get("name") in compare.SLOPES:
            before = self.oracle.literal({**piece, "outputs": [node["in"][0]]}, inputs)[0]
            size = float(np.abs(before).max()) * compare.SLOPES[node["name"]]
            if compare.worst(ours, literal, size) <= compare.CLOSE:
                return 0, None
        if node["op"] == "attention":
            exact, bound = compare.attention_bound(node, *self.oracle.literal({**piece, "outputs": node["in"]}, inputs))
            within = all(v[0].shape == exact.shape and (np.abs(v[0] - exact) <= bound).all() for v in (ours, literal))
            return (0, None) if within else (None, failure)
        if not compare.is_step(node):
            return None, failure
        source, _ = node["in"][0]
        before = self.oracle.literal({**piece, "outputs": [node["in"][0]]}, inputs)[0]
        ties = compare.ties(node, ours[0], literal[0], before)
        if ties is None and node["op"] == "fake_quantize" and piece["nodes"][source]["op"] == "mvn":
            mvn = piece["nodes"][source]
            exact, bound = compare.mvn_bound(mvn, self.oracle.literal({**piece, "outputs": [mvn["in"][0]]}, inputs)[0])
            if all(compare.within_bound(node, values[0], exact, bound) for values in (ours, literal)):
                ties = int((ours[0] != literal[0]).sum())
        return (None, failure) if ties is None else (ties, None)

    def whole(self, spec, inputs, steps, watched, expected, found, name, tied):
        """What is known where all pieces agree but for `tied` ties and the whole does not.

        The values of the step functions of the whole graph are followed. Each of the engine's must be what OpenVINO makes of the
        engine's own values before it, but for ties. Without any tie, the same is asked of OpenVINO: how a value next to
        a tie is rounded depends on what else it computes. If it has none either, and gives the engine's outputs when it is
        watched, it differs from itself by more than rounding, and what it makes of the whole graph says nothing."""
        failure = "together", (compare.worst(found, expected), None)
        count = len(spec["outputs"])
        ours = self.engine.run(spec, inputs, [name], [(i, 0) for i in steps])[name]
        if isinstance(ours, str):
            return failure
        if compare.worst(ours[:count], found) > compare.CLOSE:
            # A second reader decides how a value at a tie is rounded, here as in OpenVINO: only such a value may differ.
            return ("unfollowed", tied) if tied else failure
        alike = all(np.array_equal(a, b, equal_nan=True) for a, b in zip(ours[count:], watched[count:]))
        if alike and compare.worst(expected, watched[:count]) <= compare.CLOSE:
            # Each piece starts at the same values, and was found to agree.
            return "equal", compare.worst(found, expected)
        for side in (ours, watched):
            met = self.followed(spec, inputs, side[:count], dict(zip(steps, side[count:])))
            if met is None:
                return failure
            if met:
                return "ties", met
        same = compare.worst(found, watched[:count]) <= compare.CLOSE
        apart = compare.worst(expected, watched[:count])
        return ("inconsistent", apart) if same and apart > compare.CLOSE else failure

    def followed(self, spec, inputs, outputs, values):
        """The ties in the values of the step functions and in the outputs of a whole graph; None if one of them is not what
        OpenVINO makes of those before it."""
        tied = 0
        for piece, node in compare.pieces_and_ends(spec, inputs, values):
            piece_inputs = data(piece)
            literal = self.oracle.literal(piece, piece_inputs)
            if node in values:
                given = [values[node]]
            else:
                given = [outputs[spec["outputs"].index([node, port])] for _, port in piece["outputs"]]
            ties, _ = self.compared(piece, piece_inputs, given, literal)
            if ties is None:
                return None
            tied += ties
        return tied

    def transformed(self, spec, inputs, literal, found):
        """The engine in OpenVINO's numerics against OpenVINO with its transformations."""
        try:
            expected = self.oracle.transformed(spec, inputs)
        except RuntimeError as error:
            return "oracle", str(error)
        if isinstance(found, str):
            return found.split()[0], found
        apart = compare.worst(found, expected)
        if apart <= 1e-4:
            return "equal", apart
        if not np.isfinite(apart):
            return "differs", (apart, None)
        own = compare.worst(literal, expected)
        allowed = 2 * own + 0.02 + 2 * compare.grain(spec, expected)
        # Where the engine has no such departure, it stays with the literal result.
        within = apart <= allowed or compare.worst(found, literal) <= compare.CLOSE
        if within:
            return "within", apart
        if self.widely_tied(spec, inputs, expected):
            return "tied", apart
        return ("rounded", apart) if compare.between_codes(spec) else ("differs", (apart, own))

    def widely_tied(self, spec, inputs, expected):
        """Whether a value next to a tie is rounded by a FakeQuantize whose steps are wider than what outputs may differ by."""
        for node in spec["nodes"]:
            if node["op"] == "fake_quantize" and compare.grain({"nodes": [node]}, expected) >= compare.WIDEST:
                before = self.oracle.literal(spec, inputs, [node["in"][0]])[-1]
                far, near = compare.distance(node, before)
                if (far <= near).any():
                    return True
        return False

    def cases(self, seeds, arguments):
        """Compares the graphs of some seeds."""
        specs = {}
        for seed in seeds:
            spec = generate(seed, arguments.without)
            if spec is None:
                self.counts["nothing drawn"] += 1
            else:
                specs[seed] = spec
        for (seed, spec), expected in zip(specs.items(), self.oracle.literals(specs.values())):
            self.case(seed, spec, expected, arguments)

    def case(self, seed, spec, expected, arguments):
        inputs = data(spec)
        for op in {n["op"] for n in spec["nodes"]}:
            self.operations[op] += 1
        names = ["cpu-literal"]
        if seed % arguments.openvino_every == 0:
            names.append("cpu-openvino")
        if seed % 4 == 0:
            names.append("scalar-literal")
        found = self.engine.run(spec, inputs, names)
        ours = found["cpu-literal"]
        if expected is None or isinstance(ours, str) or compare.worst(ours, expected) > compare.CLOSE:
            try:
                expected = self.oracle.literal(spec, inputs)
            except RuntimeError:
                self.counts["OpenVINO fails"] += 1
                return
        outcome, known = self.judge(spec, inputs, expected, found["cpu-literal"], "cpu-literal")
        self.counts[f"literal {outcome}"] += 1
        if outcome == "unsupported":
            self.unsupported[known[:160]] += 1
            return
        if outcome == "ties":
            self.tied += known
        if outcome == "inconsistent":
            print(f"seed {seed}: OpenVINO differs from itself by {known:.3g}; {' '.join(n['op'] for n in spec['nodes'])}", flush=True)
        elif outcome not in ("equal", "ties", "unfollowed", "oracle"):
            reference = self.engine.run(spec, inputs, ["ref-float"])["ref-float"]
            ref, _ = self.judge(spec, inputs, expected, reference, "ref-float")
            self.report(seed, spec, f"literal {outcome}", known, f"ref-float: {ref}", arguments)
        if "scalar-literal" in found and isinstance(found["cpu-literal"], list):
            same = isinstance(found["scalar-literal"], list) and compare.worst(found["scalar-literal"], found["cpu-literal"]) < 1e-5
            self.counts["scalar same" if same else "scalar differs"] += 1
            if not same:
                self.report(seed, spec, "scalar differs", found["scalar-literal"] if isinstance(found["scalar-literal"], str) else "", "", arguments, False)
        if seed % 8 in (1, 5):
            self.open(seed, spec, arguments)
        if seed % arguments.openvino_every:
            return
        outcome, known = self.transformed(spec, inputs, expected, found["cpu-openvino"])
        self.counts[f"openvino {outcome}"] += 1
        if outcome not in ("equal", "within", "rounded", "tied", "oracle"):
            self.report(seed, spec, f"openvino {outcome}", known, "", arguments, False)

    def open(self, seed, spec, arguments):
        """Compares a graph with its batch open, or its height and width too, at inputs of two shapes."""
        both = opened(spec, seed % 8 == 5)
        if both is None:
            return
        name = "cpu-literal-open"
        specs = [spec, both[1]]
        inputs = [data(s) for s in specs]
        try:
            expected = [self.oracle.shaped(both[0], i) for i in inputs]
        except RuntimeError:
            self.counts["open oracle"] += 1
            return
        found = self.engine.run_open(both[0], *inputs, name)
        if isinstance(found, str):
            found = [found, found]
        for one, i, e, f in zip(specs, inputs, expected, found):
            outcome, known = "equal", compare.worst(f, e) if isinstance(f, list) else None
            if known is None or known > compare.CLOSE:
                outcome, known = self.judge(one, i, e, f, "cpu-literal")
                closed = self.engine.run(one, i, ["cpu-literal"])["cpu-literal"]
                # What excuses a difference is found on the closed graph, so that must compute the same.
                if isinstance(f, list) and isinstance(closed, list) and compare.worst(f, closed) > compare.CLOSE:
                    outcome, known = "differs", (compare.worst(f, e), None)
            self.counts[f"open {outcome}"] += 1
            if outcome not in ("equal", "ties", "unfollowed", "unsupported", "oracle"):
                self.report(seed, both[0], f"open {outcome}", known, "", arguments, False)

    def report(self, seed, spec, what, known, more, arguments, small=True):
        piece = known[1] if isinstance(known, tuple) and len(known) > 1 and isinstance(known[1], dict) else None
        said = known if isinstance(known, (str, float)) else known[0]
        print(f"seed {seed}: {what}: {str(said)[:300]} {more}; {' '.join(n['op'] for n in spec['nodes'])}", flush=True)
        if small and arguments.shrink:
            start = piece or spec
            kind = what.split()[1]
            kinds = {kind} if kind != "together" else {"differs", "together"}
            fails = lambda s: self.literal(s)[0] in kinds
            try:
                if not fails(start):
                    start = spec
                spec = shrink(start, fails, arguments.shrink)
            except RuntimeError:
                pass
            print(f"   {' '.join(describe(n) for n in spec['nodes'])}", flush=True)
        folder = pathlib.Path(arguments.out) / f"{seed}-{what.replace(' ', '-')}"
        inputs = data(spec)
        write(spec, inputs, folder)
        try:
            for i, value in enumerate(self.oracle.literal(spec, inputs)):
                np.save(folder / f"out.{i}.npy", value)
        except RuntimeError:
            pass
        (folder / "spec.json").write_text(json.dumps(plain(spec)))


def describe(node):
    """A node in few words."""
    skip = ("op", "in", "seed", "values", "data")
    inner = ", ".join(f"{k}={v}" for k, v in node.items() if k not in skip)
    return f"{node['op']}({inner})"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--binary", default="target/debug/differential")
    parser.add_argument("--scratch", default=None)
    parser.add_argument("--out", default="out/differential")
    parser.add_argument("--without", type=lambda s: s.split(","), default=[])
    parser.add_argument("--openvino-every", type=int, default=1, help="compare with the transformations at each Nth")
    parser.add_argument("--shrink", type=int, default=150)
    arguments = parser.parse_args()
    run = Differential(arguments)
    start = time.time()
    for done in range(0, arguments.count, 8):
        first = arguments.seed + done
        run.cases(range(first, min(first + 8, arguments.seed + arguments.count)), arguments)
        if done and done % 512 == 0:
            print(f"-- {done} graphs, {time.time() - start:.0f} s, {dict(run.counts)}", flush=True)
    print(f"{arguments.count} graphs in {time.time() - start:.0f} s; {run.tied} elements one step apart at ties")
    for name, count in sorted(run.counts.items()):
        print(f"  {name}: {count}")
    for said, count in run.unsupported.most_common(20):
        print(f"  unsupported, {count} times: {said}")
    print("  operations: " + ", ".join(f"{n} {c}" for n, c in run.operations.most_common()))


if __name__ == "__main__":
    main()
