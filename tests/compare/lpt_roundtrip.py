#!/usr/bin/env python3
"""Checks that OpenVINO reads what `flowrun model lpt -o` writes, and computes the same from it.

For each model: `flowrun model lpt MODEL.xml -o OUT.xml`; OUT.xml then runs in OpenVINO with its own low precision
transformations off (they have been made), and the result is compared with

1. the same file on flowrun's reference evaluator: both read it and evaluate it in plain f32;
2. `flowrun model run MODEL.xml`: what the engine makes of the model.

Two f32 evaluations of a network of FakeQuantize differ where a value lies so close to the middle between two levels
that the last bits decide, and what follows carries the step on. How far that goes depends on the network; the measure
of it is OpenVINO against itself: the model with its transformations on, and off. The first difference may not exceed
that, the second not twice that (docs/numerics.md says why it is more: sums of codes are exact, sums of floats not).

    tests/compare/lpt_roundtrip.py --flowrun target/release/flowrun --models ../shared/models --oracle ../shared/oracle

Needs the `openvino` and `numpy` packages. Inputs are the committed ones beside the models' references where there are
any, else random. Prints a table of mean and largest differences; the exit code is 1 if a model fails.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import openvino as ov


def inputs_of(model, name, oracle):
    """One array per input: the first reference input of the model, else random ones that are always the same."""
    found = sorted((oracle / name).glob("*.in.npy")) if oracle else []
    if found and len(model.inputs) == 1:
        return [np.load(found[0])], found[0].name
    rng = np.random.default_rng(7)
    arrays = []
    for port in model.inputs:
        dtype = port.element_type.to_dtype()
        values = rng.uniform(0, 255, list(port.shape))
        arrays.append(values.astype(dtype))
    return arrays, "random"


def run_flowrun(flowrun, xml, arrays, folder, *options):
    command = [flowrun, "model", "run", str(xml), "--output-dir", str(folder), *options]
    for i, array in enumerate(arrays):
        file = folder / f"in{i}.npy"
        np.save(file, array)
        command += ["--input", str(file)]
    subprocess.run(command, check=True)
    return [np.load(f) for f in sorted(folder.glob("[0-9]*.npy"), key=lambda f: int(f.stem))]


def run_openvino(core, xml, arrays, lpt=False):
    config = {"INFERENCE_PRECISION_HINT": "f32", "LP_TRANSFORMS_MODE": lpt, "INFERENCE_NUM_THREADS": 1}
    compiled = core.compile_model(core.read_model(str(xml)), "CPU", config)
    results = compiled(arrays)
    return [np.array(results[i]) for i in range(len(compiled.outputs))]


def compare(a, b):
    """Mean and largest difference over all outputs."""
    if [x.shape for x in a] != [x.shape for x in b]:
        raise RuntimeError(f"the outputs have other shapes: {[x.shape for x in a]} and {[x.shape for x in b]}")
    flat = lambda arrays: np.concatenate([x.astype(np.float64).ravel() for x in arrays])
    difference = np.abs(flat(a) - flat(b))
    return difference.mean(), difference.max()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--flowrun", default="target/release/flowrun")
    parser.add_argument("--models", type=Path, default=Path("../shared/models"))
    parser.add_argument("--oracle", type=Path, default=Path("../shared/oracle"))
    parser.add_argument("names", nargs="*", help="models without their ending; all if none")
    options = parser.parse_args()
    core = ov.Core()
    files = sorted(options.models.glob("*.xml"))
    if options.names:
        files = [f for f in files if f.stem in options.names]
    if not files:
        sys.exit(f"no models in {options.models}")
    failed = 0
    show = lambda pair: f"{pair[0]:.3g} max {pair[1]:.3g}"
    print(f"{'model':<25} {'input':<20} {'the file, in both':>22} {'file and engine':>22} {'OpenVINO, on and off':>22}")
    for xml in files:
        with tempfile.TemporaryDirectory() as place:
            place = Path(place)
            lowered = place / "lowered.xml"
            try:
                subprocess.run([options.flowrun, "model", "lpt", str(xml), "-o", str(lowered)], check=True)
                arrays, source = inputs_of(core.read_model(str(xml)), xml.stem, options.oracle)
                theirs = run_openvino(core, lowered, arrays)
                same = compare(theirs, run_flowrun(options.flowrun, lowered, arrays, place, "--device", "REF", "--no-lpt"))
                engine = compare(theirs, run_flowrun(options.flowrun, xml, arrays, place))
                noise = compare(run_openvino(core, xml, arrays, True), run_openvino(core, xml, arrays, False))
            except (RuntimeError, subprocess.CalledProcessError) as error:
                print(f"{xml.stem:<25} FAILED: {str(error).strip().splitlines()[-1]}")
                failed += 1
                continue
            # The last bits of f32, where nothing is quantized.
            floor = 1e-6
            good = same[0] <= noise[0] + floor and engine[0] <= 2 * noise[0] + floor
            failed += not good
            print(f"{xml.stem:<25} {source[:20]:<20} {show(same):>22} {show(engine):>22} {show(noise):>22}"
                  + ("" if good else "  FAILED"))
    print(f"{len(files) - failed} of {len(files)} passed")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
