#!/usr/bin/env python3
"""Compares where FakeQuantize operations stand in models quantized here and with NNCF.

    tests/compare/quantize_places.py --flowrun target/release/flowrun ../shared/models/*-fp32.xml [MODEL.onnx ..]

Each model is quantized by both on one sample of noise: places do not depend on values. A place is an operation and one
that takes its value quantized. Places where the two differ are listed with the reason that `model quantize --json`
gives; the exit code is 1 where there is none. Needs openvino, nncf and numpy; ONNX models need onnx as well.
"""

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np
import openvino as ov
from quantize_vs_nncf import nncf_quantize, our_quantize

LINEAR = {"Convolution", "GroupConvolution", "ConvolutionBackpropData", "GroupConvolutionBackpropData", "MatMul"}


def places(core, path):
    """Pairs of an operation and a user of its quantized value, and the number of FakeQuantize on activations and weights."""
    pairs, counts = set(), [0, 0]
    for op in core.read_model(str(path)).get_ordered_ops():
        if op.get_type_name() == "FakeQuantize":
            source = op.input_value(0).get_node()
            if source.get_type_name() != "Constant":
                counts[0] += 1
                # An Add that carries the correction of a missing bias counts as the operation before it.
                name = source.get_friendly_name().removesuffix("/shifted")
                pairs |= {(name, t.get_node().get_friendly_name()) for t in op.output(0).get_target_inputs()}
        elif len(op.inputs()) > 1 and op.get_type_name() in LINEAR:
            counts[1] += any(is_coded(v) for v in op.input_values())
    return pairs, counts


def is_coded(value):
    """Whether a value comes from integer codes."""
    node = value.get_node()
    while node.get_type_name() in ("Multiply", "Subtract", "Reshape", "Transpose", "FakeQuantize"):
        node = node.input_value(0).get_node()
    return node.get_type_name() == "Convert" and node.get_input_element_type(0).to_dtype() in (np.int8, np.uint8)


def compare(path, args, core, folder):
    model = core.read_model(str(path))
    shapes = {}
    for port in model.inputs:
        shape = port.get_partial_shape()
        shapes[port] = [d.get_length() if d.is_static else 1 for d in shape]
    model.reshape(shapes)
    source = folder / "model.xml"
    ov.save_model(model, str(source), compress_to_fp16=False)
    rng = np.random.default_rng(0)
    (folder / "data").mkdir()
    np.save(folder / "data" / "noise.npy", rng.standard_normal(next(iter(shapes.values()))).astype(np.float32))
    theirs, ours = folder / "nncf.xml", folder / "flowrun.xml"
    nncf_quantize(core, source, folder / "data", theirs)
    _, left = our_quantize(args, source, folder / "data", ours)
    (a, counts_a), (b, counts_b) = places(core, theirs), places(core, ours)
    missed = []
    print(f"{path.name}: {counts_b[0]} on activations and {counts_b[1]} on weights here, {counts_a[0]} and {counts_a[1]} with NNCF")
    for pair in sorted(a ^ b):
        why = left.get(pair[1])
        print(f"- {pair[0]} -> {pair[1]}: only {'NNCF' if pair in a else 'here'} ({why or 'unexplained'})")
        if why is None:
            missed.append(f"{path.name}: {pair[0]} -> {pair[1]}")
    if a == b and counts_a[0] != counts_b[0]:
        print("- the same users take quantized values; those that want 8 bits share one FakeQuantize here")
    sys.stdout.flush()
    return missed


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--flowrun", default="target/release/flowrun")
    parser.add_argument("--options", default="", help="further arguments of `model quantize`")
    parser.add_argument("models", type=Path, nargs="+")
    args = parser.parse_args()
    core, missed = ov.Core(), []
    for path in args.models:
        folder = Path(tempfile.mkdtemp())
        try:
            missed += compare(path, args, core, folder)
        finally:
            shutil.rmtree(folder)
    for line in missed:
        print(f"unexplained: {line}", file=sys.stderr)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
