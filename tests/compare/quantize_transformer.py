#!/usr/bin/env python3
"""Quantizes an encoder of transformer blocks with and without `--equalize`, and compares with f32 and with OpenVINO.

    tests/compare/quantize_transformer.py --flowrun target/release/flowrun --pictures DIR [--keep DIR]

The network is a small vision transformer: patches by a convolution, blocks of layer normalization, attention with several
heads, GELU and residuals, and a head over the mean of the tokens. Its weights are random, of the spreads that such networks
have; as in trained ones, a few channels of each layer normalization are scaled up by a factor of tens (Bondarenko et al.,
2021; Dettmers et al., 2022), and the weights that take them are ordinary. Every fourth picture is held out. Given is the mean
of `|q - f| / |f|` of the logits on those, and how far the outputs of flowrun lie from OpenVINO's on the same quantized file,
as a share of their greatest magnitude: with each FakeQuantize as it is written (weights multiplied out beforehand, as
`quantize_vs_nncf.py` says why), and with OpenVINO as it is used. A value that lies between two levels may fall to either,
which then goes through the network. The exit code is 1 where `--equalize` does not lower the error by a fifth, where the median of
what the programs differ by exceeds 1e-5 as written, or where OpenVINO as it is used lies as far off as f32. Needs openvino,
opencv-python and numpy.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import cv2
import numpy as np
import openvino as ov
from openvino import opset13 as op

from quantize_vs_nncf import multiply_out

SIDE, PATCH, WIDTH, HEADS, BLOCKS, CLASSES = 96, 16, 96, 4, 5, 32
OUTLIERS, FACTOR = 4, (20, 60)
PREPROCESS = "{type: resize, color: rgb, mean: 127.5, scale: 127.5}"
CONFIG = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 2}


def network(rng):
    """The encoder, for pictures `[1, 3, SIDE, SIDE]`."""
    tokens = (SIDE // PATCH) ** 2
    const = lambda values: op.constant(np.asarray(values, np.float32))

    def matmul(x, rows, columns, name, gain=1.0):
        weights = rng.standard_normal((columns, rows)) * gain / np.sqrt(rows)
        product = op.matmul(x, const(weights), False, True, name=name)
        return op.add(product, const(rng.normal(0, 0.02, (1, 1, columns))))

    def normalized(x, outliers=True):
        gamma = rng.uniform(0.5, 1.5, WIDTH)
        if outliers:
            gamma[rng.choice(WIDTH, OUTLIERS, replace=False)] *= rng.uniform(*FACTOR, OUTLIERS)
        x = op.mvn(x, op.constant(np.array([-1], np.int64)), True, 1e-6, "INSIDE_SQRT")
        return op.add(op.multiply(x, const(gamma.reshape(1, 1, -1))), const(rng.normal(0, 0.1, (1, 1, WIDTH))))

    def heads(x):
        x = op.reshape(x, op.constant(np.array([1, tokens, HEADS, WIDTH // HEADS])), False)
        return op.transpose(x, op.constant(np.array([0, 2, 1, 3])))

    picture = op.parameter([1, 3, SIDE, SIDE], np.float32, name="picture")
    patches = rng.standard_normal((WIDTH, 3, PATCH, PATCH)) / np.sqrt(3 * PATCH * PATCH)
    x = op.convolution(picture, const(patches), [PATCH] * 2, [0, 0], [0, 0], [1, 1], name="patches")
    x = op.reshape(x, op.constant(np.array([1, WIDTH, tokens])), False)
    x = op.transpose(x, op.constant(np.array([0, 2, 1])))
    x = op.add(x, const(rng.normal(0, 0.3, (1, tokens, WIDTH))))
    for block in range(BLOCKS):
        # What reads a normalization with outliers is trained to give ordinary values.
        small = 1 / np.sqrt(1 + OUTLIERS * np.mean(FACTOR) ** 2 / WIDTH)
        y = normalized(x)
        q, k, v = (heads(matmul(y, WIDTH, WIDTH, f"block{block}/{n}", small)) for n in "qkv")
        q = op.multiply(q, const((WIDTH // HEADS) ** -0.5))
        attention = op.softmax(op.matmul(q, k, False, True), 3)
        y = op.transpose(op.matmul(attention, v, False, False), op.constant(np.array([0, 2, 1, 3])))
        y = op.reshape(y, op.constant(np.array([1, tokens, WIDTH])), False)
        x = op.add(x, matmul(y, WIDTH, WIDTH, f"block{block}/projection"))
        y = op.gelu(matmul(normalized(x), WIDTH, 4 * WIDTH, f"block{block}/up", small), "erf")
        x = op.add(x, matmul(y, 4 * WIDTH, WIDTH, f"block{block}/down"))
    x = op.reduce_mean(normalized(x, False), op.constant(np.array([1], np.int64)), False)
    weights = const(rng.standard_normal((CLASSES, WIDTH)) / np.sqrt(WIDTH))
    return ov.Model([op.matmul(x, weights, False, True, name="logits")], [picture], "transformer")


def sample(path):
    x = cv2.cvtColor(cv2.resize(cv2.imread(str(path)), (SIDE, SIDE)), cv2.COLOR_BGR2RGB)
    return ((x.astype(np.float32) - 127.5) / 127.5).transpose(2, 0, 1)[None]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--flowrun", required=True)
    parser.add_argument("--pictures", required=True)
    parser.add_argument("--keep", help="leave the models here")
    args = parser.parse_args()
    run = lambda *words: subprocess.run([args.flowrun, *map(str, words)], check=True, capture_output=True, text=True)
    core = ov.Core()
    failed = False
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(args.keep or temporary)
        folder.mkdir(exist_ok=True)
        model = folder / "transformer.xml"
        ov.save_model(network(np.random.default_rng(7)), model, compress_to_fp16=False)
        files = sorted(Path(args.pictures).iterdir())
        held_out, data = files[3::4][:40], folder / "calibration"
        data.mkdir(exist_ok=True)
        for path in set(files) - set(files[3::4]):
            (data / path.name).unlink(missing_ok=True)
            (data / path.name).symlink_to(path.resolve())
        samples = [sample(path) for path in held_out]

        def outputs(path, literal=False):
            network = core.read_model(path)
            if literal:
                multiply_out(network)
            compiled = core.compile_model(network, "CPU", CONFIG | ({"LP_TRANSFORMS_MODE": False} if literal else {}))
            return [compiled(x)[0] for x in samples]

        f32 = outputs(model)
        mean_error = lambda found: np.mean([np.linalg.norm(q - f) / np.linalg.norm(f) for q, f in zip(found, f32)])
        errors = {}
        for alpha in (None, "0.3", "0.5", "0.7"):
            made = folder / f"int8-{alpha or 'plain'}.xml"
            equalize = [f"--equalize={alpha}"] if alpha else []
            done = run("model", "quantize", model, "--data", data, "--preprocess", PREPROCESS, "-o", made, "--json", *equalize)
            done = json.loads(done.stdout)
            theirs = outputs(made, literal=True)
            errors[alpha] = mean_error(theirs)
            ours = []
            for x in samples[:10]:
                np.save(folder / "x.npy", x)
                run("model", "run", made, "--input", folder / "x.npy", "--output-dir", folder / "out")
                ours.append(np.load(folder / "out" / "0.npy"))
            apart = lambda theirs: np.array([np.abs(a - b).max() / np.abs(b).max() for a, b in zip(ours, theirs)])
            literal, used = apart(theirs), apart(outputs(made))
            agree = np.mean([q.argmax() == f.argmax() for q, f in zip(theirs, f32)])
            print(
                f"--equalize={alpha}: " if alpha else "without: ",
                f"{done['activations']} activations, {done['weights']} weights; error {errors[alpha]:.4f}, ",
                f"best class as f32's in {agree:.0%}; flowrun differs from OpenVINO by {np.median(literal):.2g} ",
                f"(at most {literal.max():.2g}), from OpenVINO as it is used by {np.median(used):.2g} (at most {used.max():.2g})",
                sep="",
                flush=True,
            )
            failed |= np.median(literal) > 1e-5 or np.median(used) > errors[alpha]
        failed |= errors["0.5"] > 0.8 * errors[None]
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
