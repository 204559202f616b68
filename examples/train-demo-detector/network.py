"""The demo detector: a small anchor-free convolutional network, in JAX.

Input: RGB, 320x192, [N, 3, 192, 320] after letterboxing, (sample - 127) / 128.
Output: [N, 5 + classes, 24, 40]: objectness, four box numbers, class probabilities per cell of 8x8 pixels.
With the cell's column and row, cx = (tanh(o1) + col) / 40, cy = (tanh(o2) + row) / 24, w = sigmoid(o3),
h = sigmoid(o4), all as shares of the input; score = objectness^0.6 * max(class)^0.4.
"""
import jax
import jax.numpy as jnp
import numpy as np

CLASSES = ["ball", "crate", "star", "ring", "cone", "cross"]
WIDTH, HEIGHT, CELL = 320, 192, 8
COLS, ROWS = WIDTH // CELL, HEIGHT // CELL

# name: (inputs, outputs, kernel, stride)
CONVS = {
    "stem": (3, 16, 3, 2),
    "down1": (16, 32, 3, 2),
    "down2": (32, 48, 3, 2),
    "res1a": (48, 48, 3, 1),
    "res1b": (48, 48, 3, 1),
    "down3": (48, 64, 3, 2),
    "res2a": (64, 64, 3, 1),
    "res2b": (64, 64, 3, 1),
    "merge": (112, 48, 1, 1),
    "head": (48, 48, 3, 1),
}
HEADS = {"objectness": 1, "box": 4, "class": len(CLASSES)}
MOMENTUM, EPSILON = 0.97, 1e-5


def init(seed):
    """Weights (He et al. 2015), batch normalisation parameters and running statistics."""
    random = np.random.default_rng(seed)
    params, stats = {}, {}
    for name, (ci, co, k, _) in CONVS.items():
        std = np.sqrt(2.0 / (ci * k * k))
        params[name] = {"w": random.normal(0, std, (k, k, ci, co)).astype(np.float32), "gamma": np.ones(co, np.float32), "beta": np.zeros(co, np.float32)}
        stats[name] = {"mean": np.zeros(co, np.float32), "var": np.ones(co, np.float32)}
    for name, co in HEADS.items():
        bias = np.full(co, -3.0 if name == "objectness" else 0.0, np.float32)
        params[name] = {"w": random.normal(0, 0.05, (1, 1, CONVS["head"][1], co)).astype(np.float32), "b": bias}
    return jax.tree.map(jnp.asarray, params), jax.tree.map(jnp.asarray, stats)


def conv(x, w, stride):
    pad = (w.shape[0] - 1) // 2
    return jax.lax.conv_general_dilated(x, w, (stride, stride), [(pad, pad), (pad, pad)], dimension_numbers=("NHWC", "HWIO", "NHWC"))


def forward(params, stats, x, train):
    """Raw head outputs [N, 24, 40, 11] (before sigmoid and softmax) and the new running statistics."""
    new = {}

    def block(name, x, residual=None):
        p, s = params[name], stats[name]
        y = conv(x, p["w"], CONVS[name][3])
        if train:
            mean, var = y.mean((0, 1, 2)), y.var((0, 1, 2))
            new[name] = {"mean": MOMENTUM * s["mean"] + (1 - MOMENTUM) * mean, "var": MOMENTUM * s["var"] + (1 - MOMENTUM) * var}
        else:
            mean, var = s["mean"], s["var"]
        y = (y - mean) * (p["gamma"] * jax.lax.rsqrt(var + EPSILON)) + p["beta"]
        return jax.nn.relu(y if residual is None else y + residual)

    x = block("down2", block("down1", block("stem", x)))
    fine = block("res1b", block("res1a", x), residual=x)
    x = block("down3", fine)
    coarse = block("res2b", block("res2a", x), residual=x)
    up = jnp.repeat(jnp.repeat(coarse, 2, axis=1), 2, axis=2)
    x = block("head", block("merge", jnp.concatenate([up, fine], axis=-1)))
    heads = [conv(x, params[h]["w"], 1) + params[h]["b"] for h in HEADS]
    return jnp.concatenate(heads, axis=-1), new


def fold(params, stats):
    """Convolutions with batch normalisation folded in: name -> (weights [O, I, K, K], bias [O])."""
    folded = {}
    for name in CONVS:
        p, s = jax.tree.map(np.asarray, (params[name], stats[name]))
        factor = p["gamma"] / np.sqrt(s["var"] + EPSILON)
        folded[name] = ((p["w"] * factor).transpose(3, 2, 0, 1), p["beta"] - s["mean"] * factor)
    for name in HEADS:
        p = jax.tree.map(np.asarray, params[name])
        folded[name] = (p["w"].transpose(3, 2, 0, 1), p["b"])
    return folded
