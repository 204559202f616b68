"""ONNX's light models on the engine and on OpenVINO, in f32 and quantized.

usage: python onnx_light.py FLOWRUN [--work FOLDER] [--only NAME,...]     (needs: onnx, openvino 2026.4, nncf, numpy)

The models come with the PyPI package `onnx`; their weights are constant fills. They get seeded random weights with the
variance that keeps the size of activations (He), are converted to IR by OpenVINO, quantized by NNCF, and run on one
picture of noise. Prints one Markdown row per model:

  f32            ||engine - OpenVINO|| / ||OpenVINO||, both in f32
  INT8, literal  the same for the quantized model: the engine's INT8 against OpenVINO without low precision
                 transformations and with weights folded to f32 constants
  OpenVINO INT8  OpenVINO's own INT8 against the same
  INT8 share     convolutions and matrix products that run on codes

Errors are those of what stands before the Softmax: probabilities of random weights are all alike.
"""
import argparse
import json
import pathlib
import subprocess
import tempfile

import numpy as np
import onnx
import onnx.numpy_helper
import openvino as ov
from openvino.passes import ConstantFolding, Manager

F32 = {"INFERENCE_PRECISION_HINT": "f32", "DYNAMIC_QUANTIZATION_GROUP_SIZE": 0}
LITERAL = {**F32, "LP_TRANSFORMS_MODE": False}


def with_random_weights(path):
    """The model with values in the place of its constant fills."""
    model = onnx.load(path)
    graph = model.graph
    rng = np.random.default_rng(1)
    shapes = {i.name: onnx.numpy_helper.to_array(i) for i in graph.initializer}
    readers = {}
    for node in graph.node:
        for position, name in enumerate(node.input):
            readers[name] = (node.op_type, position)
    # A value may reach its reader through Unsqueeze.
    for node in graph.node:
        if node.op_type == "Unsqueeze" and node.output[0] in readers:
            readers[node.input[0]] = readers[node.output[0]]
    kept = []
    for node in graph.node:
        if node.op_type != "ConstantOfShape":
            kept.append(node)
            continue
        shape = [int(v) for v in shapes[node.input[0]]]
        op, position = readers.get(node.output[0], ("", 0))
        if op in ("Conv", "Gemm") and position == 1:
            fan_in = int(np.prod(shape[1:])) if op == "Conv" else shape[-1]
            values = rng.standard_normal(shape, np.float32) * np.float32(np.sqrt(2 / fan_in))
        elif op == "BatchNormalization" and position in (1, 4) or op == "Mul":
            values = rng.uniform(0.6, 1.4, shape)
        else:
            values = rng.normal(0, 0.05, shape)
        graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(values, np.float32), node.output[0]))
    del graph.node[:]
    graph.node.extend(kept)
    return model


def convert(path, folder):
    """IR of the model, with what stands before the Softmax as its output."""
    file = folder / "source.onnx"
    onnx.save(with_random_weights(path), file)
    model = ov.convert_model(file)
    result = model.get_results()[0]
    before = result.input_value(0)
    if before.get_node().get_type_name() == "Softmax":
        result.input(0).replace_source_output(before.get_node().input_value(0))
        model.validate_nodes_and_infer_types()
    file.unlink()
    return model


def folded(model):
    """The model with its compressed weights as f32 constants."""
    model = model.clone()
    manager = Manager()
    manager.register_pass(ConstantFolding())
    manager.run_passes(model)
    return model


def infer(model, config, data):
    return np.array(ov.Core().compile_model(model, "CPU", config)([data])[0])


def engine(flowrun, xml, data, folder):
    np.save(folder / "in.npy", data)
    out = folder / "out"
    command = [flowrun, "model", "run", xml, "--input", folder / "in.npy", "--output-dir", out]
    subprocess.run(command, check=True, capture_output=True)
    return np.load(out / "0.npy")


def share(flowrun, xml):
    said = subprocess.run([flowrun, "model", "inspect", xml, "--json"], check=True, capture_output=True, text=True).stdout
    rows = json.loads(said)
    rows = rows if isinstance(rows, list) else rows.get("operations") or rows.get("layers")
    heavy = [r for r in rows if r["type"] in ("Convolution", "GroupConvolution", "MatMul")]
    return sum(r["precision"].upper() in ("U8", "I8") for r in heavy), len(heavy), len(rows)


def error(found, expected):
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


def row(path, flowrun, folder):
    import nncf

    name = path.stem.removeprefix("light_")
    model = convert(path, folder)
    shape = list(model.inputs[0].shape)
    rng = np.random.default_rng(7)
    pictures = [rng.normal(0, 1, shape).astype(np.float32) for _ in range(3)]
    data = pictures[0]
    xml = folder / f"{name}-fp32.xml"
    ov.save_model(model, xml, compress_to_fp16=False)
    f32 = error(engine(flowrun, xml, data, folder), infer(model, F32, data))
    # Bias correction would take most of the time and changes constants only.
    quick = nncf.AdvancedQuantizationParameters(disable_bias_correction=True)
    quantized = nncf.quantize(model, nncf.Dataset(pictures), subset_size=2, advanced_parameters=quick)
    xml = folder / f"{name}-int8.xml"
    ov.save_model(quantized, xml, compress_to_fp16=False)
    literal = infer(folded(quantized), LITERAL, data)
    int8 = error(engine(flowrun, xml, data, folder), literal)
    own = error(infer(quantized, F32, data), literal)
    on_codes, heavy, operations = share(flowrun, xml)
    return f"| {name} | {operations} | {f32:.1e} | {int8:.1e} | {own:.1e} | {on_codes} of {heavy} |"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("flowrun")
    parser.add_argument("--work", type=pathlib.Path)
    parser.add_argument("--only", type=lambda s: s.split(","))
    arguments = parser.parse_args()
    folder = arguments.work or pathlib.Path(tempfile.mkdtemp())
    folder.mkdir(parents=True, exist_ok=True)
    light = pathlib.Path(onnx.__file__).parent / "backend/test/data/light"
    print("| model | operations | f32 | INT8, literal | OpenVINO INT8 | INT8 share |\n|---|---|---|---|---|---|", flush=True)
    for path in sorted(light.glob("light_*.onnx"), key=lambda p: p.stat().st_size):
        if arguments.only is None or path.stem.removeprefix("light_") in arguments.only:
            try:
                print(row(path, arguments.flowrun, folder), flush=True)
            except (RuntimeError, subprocess.CalledProcessError) as failure:
                said = getattr(failure, "stderr", None) or str(failure)
                said = said.decode() if isinstance(said, bytes) else said
                print(f"| {path.stem.removeprefix('light_')} | fails: {said.strip()[:300]} |", flush=True)


if __name__ == "__main__":
    main()
