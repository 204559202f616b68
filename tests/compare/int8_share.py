#!/usr/bin/env python3
"""The share of operations that run in INT8, per type, here and in OpenVINO, as a Markdown table.

    tests/compare/int8_share.py --flowrun target/release/flowrun --models ../shared/models > docs/int8-share.md

OpenVINO's side comes from its runtime model (`get_runtime_model`), in which every operation of the model is named by
the node that does its work; a node counts as INT8 where its `primitiveType` ends in `I8` or, for what it fuses,
where the node it is fused into does. Float layers are asked to run in f32. Our side is `flowrun model inspect --json`.
Only operations that OpenVINO's runtime model names are counted, on both sides, so that the numbers stand for the same
operations. The exit code is 1 if our share is below OpenVINO's for any type of any model.

Needs the `openvino` package.
"""

import argparse
import json
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import openvino as ov

# Types whose work is arithmetic; what only moves or renames values is left out.
COUNTED = [
    "Convolution", "GroupConvolution", "ConvolutionBackpropData", "GroupConvolutionBackpropData", "MatMul",
    "Add", "Multiply", "Subtract", "ReLU", "PReLU", "Clamp", "Sigmoid", "HSwish", "Swish", "MaxPool", "AvgPool",
    "ReduceMean", "Interpolate", "Concat", "SoftMax",
]
NAMES = {"Relu": "ReLU", "PRelu": "PReLU", "Softmax": "SoftMax"}


def openvino_int8(core, xml):
    """Names of the model's operations that run in INT8, and those that run at all, in OpenVINO."""
    config = {"INFERENCE_PRECISION_HINT": "f32", "PERF_COUNT": True}
    compiled = core.compile_model(core.read_model(str(xml)), "CPU", config)
    integer, known = set(), set()
    for node in compiled.get_runtime_model().get_ordered_ops():
        info = node.get_rt_info()
        text = lambda key: str(info[key].astype(str)) if hasattr(info[key], "astype") else str(info[key])
        names = [n for n in text("originalLayersNames").split(",") if n]
        known.update(names)
        if text("primitiveType").lower().endswith("_i8"):
            integer.update(names)
    return integer, known


def weight_side(model):
    """Operations that depend on constants alone."""
    constant = set()
    for op in model.get_ordered_ops():
        if op.get_type_name() == "Parameter":
            continue
        sources = [v.get_source_output().get_node().get_friendly_name() for v in op.inputs()]
        if all(s in constant for s in sources):
            constant.add(op.get_friendly_name())
    return constant


def count(flowrun, core, xml):
    """{type: [operations, INT8 here, INT8 in OpenVINO]}"""
    rows = json.loads(subprocess.run([flowrun, "model", "inspect", str(xml), "--json"], check=True,
                                     capture_output=True, text=True).stdout)
    ours = {r["name"] for r in rows if r["precision"] in ("U8", "I8") and r["reason"] is None}
    model = core.read_model(str(xml))
    constant = weight_side(model)
    theirs, known = openvino_int8(core, xml)
    table = defaultdict(lambda: [0, 0, 0])
    for op in model.get_ordered_ops():
        kind = NAMES.get(op.get_type_name(), op.get_type_name())
        name = op.get_friendly_name()
        if kind not in COUNTED or name in constant:
            continue
        entry = table[kind]
        entry[0] += 1
        entry[1] += name in ours
        entry[2] += name in theirs
    return table


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--flowrun", default="target/release/flowrun")
    parser.add_argument("--models", type=Path, default=Path("../shared/models"))
    options = parser.parse_args()
    core = ov.Core()
    files = sorted(options.models.glob("*.xml"))
    if not files:
        sys.exit(f"no models in {options.models}")
    version = ov.get_version().split("-")[0]
    print(f"""# INT8 share

How many operations of each type run in INT8: here, and in OpenVINO {version} on its CPU plugin (float layers in f32),
on one machine. Operations on weights alone are left out, since they are computed once. Written by
`tests/compare/int8_share.py`; `flowrun model inspect` gives the reason for each layer that is not INT8.

| model | type | operations | INT8 here | INT8 in OpenVINO |
|---|---|--:|--:|--:|""")
    below = []
    for xml in files:
        table = count(options.flowrun, core, xml)
        total = [sum(v[i] for v in table.values()) for i in range(3)]
        rows = [("**all**", total)] + [(k, table[k]) for k in COUNTED if k in table]
        for i, (kind, (operations, ours, theirs)) in enumerate(rows):
            show = lambda n: f"{n} ({n / operations:.0%})" if operations else "-"
            name = xml.stem if i == 0 else ""
            print(f"| {name} | {kind} | {operations} | {show(ours)} | {show(theirs)} |")
            if ours < theirs and i > 0:
                below.append(f"{xml.stem}: {kind}: {ours} here, {theirs} in OpenVINO")
    for line in below:
        print(f"BELOW: {line}", file=sys.stderr)
    sys.exit(1 if below else 0)


if __name__ == "__main__":
    main()
