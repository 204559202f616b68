"""Keeps a graph as a test of the engine.

usage: python keep.py FOLDER NAME      (FOLDER as run.py wrote it)

Writes tests/golden/engine/NAME: the model, its inputs, and the outputs that OpenVINO computes literally.
"""
import json
import pathlib
import sys

import numpy as np

from engine import write
from oracle import Oracle
from spec import data


def keep(spec, name):
    folder = pathlib.Path(__file__).parent.parent / "golden" / "engine" / name
    for node in spec["nodes"]:
        if node.get("values") is not None:
            node["values"] = np.array(node["values"], np.float32)
    inputs = data(spec)
    write(spec, inputs, folder)
    for i, value in enumerate(Oracle().literal(spec, inputs)):
        np.save(folder / f"out.{i}.npy", value)


if __name__ == "__main__":
    keep(json.loads((pathlib.Path(sys.argv[1]) / "spec.json").read_text()), sys.argv[2])
