#!/usr/bin/env python3
"""The share of operations that run in INT8, per type, here and in OpenVINO, as a Markdown table.

    tests/compare/int8_share.py --flowrun target/release/flowrun --models ../shared/models > docs/int8-share.md

OpenVINO's side comes from its runtime model (`get_runtime_model`), in which nodes tell whose work they do and with
which kernel. An operation counts as INT8 where the `primitiveType` of that node ends in `I8`. One that no node names
was absorbed by a transformation; it counts where what reads it does, on both sides (a ReLU in front of a FakeQuantize
becomes its limit). A function such as Sigmoid is computed in f32 unless its result is 8-bit, on both sides. Float layers are
asked to run in f32. Our side is `flowrun model inspect --json`. The exit code is 1 if our share is below OpenVINO's
for any type of any model.

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
# Computed in f32 wherever their result is not 8-bit.
FUNCTIONS = ["Sigmoid", "HSwish", "Swish", "Tanh", "Elu", "Gelu", "Mish", "HSigmoid", "SoftPlus", "Exp"]
NAMES = {"Relu": "ReLU", "PRelu": "PReLU", "Softmax": "SoftMax"}


def text(info, key):
    """A value of a node's runtime information."""
    return str(info[key].astype(str)) if hasattr(info[key], "astype") else str(info[key])


def openvino_int8(core, xml, model):
    """Names of the model's operations that run in INT8 in OpenVINO."""
    config = {"INFERENCE_PRECISION_HINT": "f32", "PERF_COUNT": True}
    compiled = core.compile_model(core.read_model(str(xml)), "CPU", config)
    state = {}
    for node in compiled.get_runtime_model().get_ordered_ops():
        info = node.get_rt_info()
        integer = text(info, "primitiveType").lower().endswith("_i8")
        codes_out = text(info, "outputPrecisions").split(",")[0] in ("u8", "i8")
        for name in filter(None, text(info, "originalLayersNames").split(",")):
            for alias in (name, name.removesuffix("/DequantizationMultiply")):
                state[alias] = (integer, integer and codes_out)
    names = {op.get_friendly_name() for op in model.get_ordered_ops()}
    # Nodes that go by names of their own, such as Interpolate_12769: known by their type alone.
    strangers = defaultdict(list)
    for node in compiled.get_runtime_model().get_ordered_ops():
        info = node.get_rt_info()
        if not names.intersection(filter(None, text(info, "originalLayersNames").split(","))):
            strangers[text(info, "layerType")].append(text(info, "primitiveType").lower().endswith("_i8"))
    for op in model.get_ordered_ops():
        name, waiting = op.get_friendly_name(), strangers[op.get_type_name()]
        if name not in state and waiting:
            integer = waiting.pop(0)
            state[name] = (integer, integer)
    function = {op.get_friendly_name() for op in model.get_ordered_ops() if op.get_type_name() in FUNCTIONS}
    return with_absorbed(model, {name: s[1 if name in function else 0] for name, s in state.items()})


def with_absorbed(model, state):
    """The INT8 operations: those that `state` says are, and those it does not name whose readers all are."""
    found = {}
    for op in reversed(list(model.get_ordered_ops())):  # readers come first
        name = op.get_friendly_name()
        readers = [r.get_node().get_friendly_name() for o in op.outputs() for r in o.get_target_inputs()]
        found[name] = state.get(name, bool(readers) and all(found.get(r, False) for r in readers))
    return {name for name, integer in found.items() if integer}


def flowrun_int8(flowrun, xml, model):
    """Names of the model's operations that run in INT8 here."""
    command = [flowrun, "model", "inspect", str(xml), "--json"]
    rows = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    state = {}
    for row in rows:
        if row["reason"] is not None:
            state[row["name"]] = False
        elif row["precision"] in ("U8", "I8"):
            state[row["name"]] = True
        elif row["kernel"] is not None and row["fused-into"] is None:
            state[row["name"]] = False
        # Else it is gone: part of a table of codes, of limits, or of nothing.
    return with_absorbed(model, state)


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
    model = core.read_model(str(xml))
    ours = flowrun_int8(flowrun, xml, model)
    constant = weight_side(model)
    theirs = openvino_int8(core, xml, model)
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
on one machine. Operations on weights alone are left out, since they are computed once. What is fused counts as what
it is fused into; a function such as Sigmoid counts where its result is 8-bit. Written by
`tests/compare/int8_share.py`; `flowrun model inspect` gives the reason for each layer that is not INT8.

What OpenVINO leaves in float and flowrun does not: depthwise convolutions whose weights pass shape operations
(`mobilenet-v2-ptq-int8`, `movenet-lightning-int8`), and convolutions with zero points in their weights
(`mobilenet-v2-qat-uint8`). The two fp32 models are not quantized.

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
