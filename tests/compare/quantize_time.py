#!/usr/bin/env python3
"""Times the quantization of models here and with NNCF: from the same pictures on disk to the model on disk.

    tests/compare/quantize_time.py --flowrun target/release/flowrun --pictures DIR [--subset 300] [--pairs 3] MODEL.xml...

Both quantize with symmetric activations on the same pictures, scaled to the input and divided by 255, in turns A B A B, each in
a process of its own. Given are whole processes, and for NNCF also the time without starting Python and importing: what
is left to calibration itself. flowrun runs with NNCF's choices (`--estimator mean`) and with its own defaults.
A quantized MODEL is made f32 first: its FakeQuantize operations are taken out and its weights spelled out.
The exit code is 1 where flowrun's defaults take longer than NNCF. Needs openvino, nncf, opencv-python and numpy.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def in_f32(model, path):
    """Saves the model without FakeQuantize, its weights as f32."""
    import numpy as np
    import openvino as ov
    from openvino import opset13 as op

    for node in model.get_ordered_ops():
        if node.get_type_name() == "FakeQuantize":
            for target in node.output(0).get_target_inputs():
                target.replace_source_output(node.input_value(0))
    for node in model.get_ordered_ops():
        if node.get_type_name() != "Convert" or node.input_value(0).get_node().get_type_name() != "Constant":
            continue
        values = node.input_value(0).get_node().data.astype(np.float32)
        for target in node.output(0).get_target_inputs():
            target.replace_source_output(op.constant(values).output(0))
    for node in model.get_ordered_ops():
        if node.get_type_name() not in ("Subtract", "Multiply"):
            continue
        a, b = (node.input_value(i).get_node() for i in range(2))
        if a.get_type_name() == b.get_type_name() == "Constant":
            value = a.data - b.data if node.get_type_name() == "Subtract" else a.data * b.data
            for target in node.output(0).get_target_inputs():
                target.replace_source_output(op.constant(value).output(0))
    ov.save_model(model, path, compress_to_fp16=False)


def with_nncf(model, pictures, subset, output):
    """Quantizes with NNCF, and prints the seconds it takes from the first picture on."""
    import cv2
    import nncf
    import numpy as np
    import openvino as ov

    start = time.perf_counter()
    graph = ov.Core().read_model(model)
    shape = list(graph.inputs[0].shape)
    nhwc = shape[-1] == 3
    height, width = shape[1:3] if nhwc else shape[2:]

    def sample(path):
        x = cv2.cvtColor(cv2.resize(cv2.imread(str(path)), (width, height)), cv2.COLOR_BGR2RGB)
        x = x.astype(np.float32) / 255
        return (x if nhwc else x.transpose(2, 0, 1))[None]

    files = sorted(Path(pictures).iterdir())[:subset]
    data = nncf.Dataset(files, sample)
    quantized = nncf.quantize(graph, data, preset=nncf.QuantizationPreset.PERFORMANCE, subset_size=subset)
    ov.save_model(quantized, output)
    print(json.dumps({"seconds": time.perf_counter() - start}))


def timed(command):
    start = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))}\n{done.stderr}")
    return time.perf_counter() - start, json.loads(done.stdout.strip().splitlines()[-1])["seconds"]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="+")
    parser.add_argument("--flowrun")
    parser.add_argument("--pictures", required=True)
    parser.add_argument("--subset", type=int, default=300)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--nncf", metavar="OUT.xml", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.nncf:
        return with_nncf(args.models[0], args.pictures, args.subset, args.nncf)
    import openvino as ov

    slower = False
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        for path in args.models:
            model = ov.Core().read_model(path)
            name = Path(path).stem
            if any(op.get_type_name() == "FakeQuantize" for op in model.get_ops()):
                path = folder / f"{name}-f32.xml"
                in_f32(model, path)
            del model
            ours = [args.flowrun, "model", "quantize", path, "--data", args.pictures, "--subset", args.subset]
            ours += ["--preprocess", "{type: resize, color: rgb, scale: 255}", "-o", folder / "ours.xml", "--json"]
            theirs = [sys.executable, __file__, path, "--pictures", args.pictures, "--subset", args.subset]
            theirs += ["--nncf", folder / "theirs.xml"]
            ways = {"flowrun": ours, "flowrun, mean": [*ours, "--estimator", "mean"], "NNCF": theirs}
            times = {way: [] for way in ways}
            for _ in range(args.pairs):
                for way, command in ways.items():
                    times[way].append(timed([str(word) for word in command]))
            for way, pairs in times.items():
                whole, inner = (statistics.median(column) for column in zip(*pairs))
                print(f"{name:28} {way:14} {whole:7.2f} s whole, {inner:7.2f} s inside", flush=True)
            median = lambda way, column: statistics.median(pair[column] for pair in times[way])
            slower |= median("flowrun", 0) > median("NNCF", 1)
    return int(slower)


if __name__ == "__main__":
    sys.exit(main())
