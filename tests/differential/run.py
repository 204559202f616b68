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
from oracle import Oracle
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
        except RuntimeError as error:
            return "uncut", f"OpenVINO cannot run a piece: {str(error).strip()[:200]}"

    def pieces(self, spec, inputs, expected, found, apart, name):
        """Whether ties explain the difference."""
        steps = [i for i, n in enumerate(spec["nodes"]) if compare.is_step(n)]
        watched = self.oracle.literal(spec, inputs, [(i, 0) for i in steps])
        count = len(spec["outputs"])
        tied = 0
        for piece in compare.pieces(spec, inputs, dict(zip(steps, watched[count:]))):
            ties, known = self.piece(piece, name)
            if ties is None:
                return known
            tied += ties
        if tied:
            return "ties", tied
        if not steps:
            return "equal", apart
        # A sum of small differences that each piece may have.
        if compare.worst(found, expected, compare.size_of(spec)) <= compare.CLOSE:
            return "equal", apart
        return self.whole(spec, inputs, steps, watched, expected, found, name)

    def piece(self, piece, name):
        """`(ties, None)` if the engine computes a piece of a graph as OpenVINO does but for ties, else `(None, failure)`."""
        inputs = data(piece)
        literal = self.oracle.literal(piece, inputs)
        ours = self.engine.run(piece, inputs, [name])[name]
        if isinstance(ours, str):
            return None, (ours.split()[0], (ours, piece))
        return self.compared(piece, inputs, ours, literal)

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
        if not compare.is_step(node):
            return None, failure
        before = self.oracle.literal({**piece, "outputs": [node["in"][0]]}, inputs)[0]
        ties = compare.ties(node, ours[0], literal[0], before)
        return (None, failure) if ties is None else (ties, None)

    def whole(self, spec, inputs, steps, watched, expected, found, name):
        """What is known where all pieces agree and the whole does not.

        The values of the step functions of the whole graph are followed on both sides. Each value of the engine's must be
        what OpenVINO makes of the engine's own values before it, but for ties; and where the engine differs from
        OpenVINO, a tie must have gone the other way before. The same is asked of OpenVINO: how a value next to
        a tie is rounded depends on what else it computes."""
        failure = "together", (compare.worst(found, expected), None)
        ours = self.engine.run(spec, inputs, [name], [(i, 0) for i in steps])[name]
        if isinstance(ours, str):
            return failure
        tied = 0
        for side in (ours, watched):
            values = dict(zip(steps, side[len(spec["outputs"]):]))
            for piece, node in compare.pieces_and_ends(spec, inputs, values):
                piece_inputs = data(piece)
                literal = self.oracle.literal(piece, piece_inputs)
                if node in values:
                    given = [values[node]]
                else:
                    given = [side[spec["outputs"].index([node, port])] for _, port in piece["outputs"]]
                ties, _ = self.compared(piece, piece_inputs, given, literal)
                if ties is None:
                    return failure
                tied += ties
        return ("ties", tied) if tied else failure

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
        own = compare.worst(literal, expected)
        allowed = 2 * own + 0.02 + 2 * compare.grain(spec, expected)
        # Where the engine has no such departure, it stays with the literal result.
        within = apart <= allowed or compare.worst(found, literal) <= compare.CLOSE
        if within:
            return "within", apart
        return ("rounded", apart) if compare.between_codes(spec) else ("differs", (apart, own))

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
        if outcome not in ("equal", "ties"):
            reference = self.engine.run(spec, inputs, ["ref-float"])["ref-float"]
            ref, _ = self.judge(spec, inputs, expected, reference, "ref-float")
            self.report(seed, spec, f"literal {outcome}", known, f"ref-float: {ref}", arguments)
        if "scalar-literal" in found and isinstance(found["cpu-literal"], list):
            same = isinstance(found["scalar-literal"], list) and compare.worst(found["scalar-literal"], found["cpu-literal"]) < 1e-5
            self.counts["scalar same" if same else "scalar differs"] += 1
            if not same:
                self.report(seed, spec, "scalar differs", found["scalar-literal"] if isinstance(found["scalar-literal"], str) else "", "", arguments, False)
        if seed % arguments.openvino_every:
            return
        outcome, known = self.transformed(spec, inputs, expected, found["cpu-openvino"])
        self.counts[f"openvino {outcome}"] += 1
        if outcome not in ("equal", "within", "rounded", "oracle"):
            self.report(seed, spec, f"openvino {outcome}", known, "", arguments, False)

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
