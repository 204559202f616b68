"""Literal reference outputs, made by OpenVINO from models whose weights are plain f32 constants.

usage: python literal_oracle.py MODELS_DIR ORACLE_DIR OUT_DIR     (needs: openvino, numpy)

ORACLE_DIR holds <model>/<sample>.in.npy, .literal.<i>.npy and .openvino.<i>.npy. OUT_DIR gets the same files, the
literal outputs computed anew: where weights stay compressed (i8 -> Convert -> Multiply), OpenVINO quantizes the
activations of matrix products once more and, for a 1x1 convolution before Transpose [0, 3, 2, 1], swaps rows and columns
of its result; with weights folded into f32 constants it does neither (docs/numerics.md, "Where OpenVINO itself departs").
What changed against ORACLE_DIR is printed per output.
"""
import pathlib
import shutil
import sys

import numpy as np
import openvino as ov
from openvino.passes import ConstantFolding, Manager

CONFIG = {
    "INFERENCE_PRECISION_HINT": "f32",
    "LP_TRANSFORMS_MODE": False,
    "DYNAMIC_QUANTIZATION_GROUP_SIZE": 0,
}


def literal(core, path):
    model = core.read_model(path)
    manager = Manager()
    manager.register_pass(ConstantFolding())
    manager.run_passes(model)
    return core.compile_model(model, "CPU", CONFIG)


def main():
    models, oracle, out = map(pathlib.Path, sys.argv[1:4])
    core = ov.Core()
    for folder in sorted(p for p in oracle.iterdir() if p.is_dir()):
        network = literal(core, models / f"{folder.name}.xml")
        target = out / folder.name
        target.mkdir(parents=True, exist_ok=True)
        for stored in sorted(folder.iterdir()):
            shutil.copyfile(stored, target / stored.name)
        for source in sorted(folder.glob("*.in.npy")):
            sample = source.name.removesuffix(".in.npy")
            result = network(np.load(source))
            for i in range(len(network.outputs)):
                new = np.array(result[i])
                old = np.load(folder / f"{sample}.literal.{i}.npy")
                np.save(target / f"{sample}.literal.{i}.npy", new)
                wide = new.astype(np.float64)
                change = np.linalg.norm(wide - old) / (np.linalg.norm(wide) or 1.0)
                print(f"{folder.name:28} {sample:20} output {i}: changed by {change:.5f}")


if __name__ == "__main__":
    main()
