"""Trains the demo detector on pictures that flowrun's synthetic source wrote, and exports it as OpenVINO IR.

usage: python train.py SCENES OUT [--epochs 7] [--seed 1]
SCENES holds 000000.jpg ... and truth.jsonl (see README.md). Writes OUT/weights.npz after each epoch, and at the
end OUT/detector-fp32.{xml,bin}. Needs jax, optax, numpy, pillow.
"""
import argparse
import pathlib
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax

import data
import export
from network import CLASSES, COLS, ROWS, fold, forward, init


def loss(params, stats, x, heat, mask, box, label):
    out, new = forward(params, stats, x, True)
    p = jax.nn.sigmoid(out[..., 0])
    # Penalty-reduced focal loss of CenterNet (Zhou et al. 2019, equation 1); heat -1 does not count.
    logp, logq = jax.nn.log_sigmoid(out[..., 0]), jax.nn.log_sigmoid(-out[..., 0])
    centre = heat == 1
    objects = jnp.maximum(centre.sum(), 1)
    focal = jnp.where(centre, (1 - p) ** 2 * logp, jnp.where(heat >= 0, (1 - heat) ** 4 * p**2 * logq, 0))
    # Distance-IoU of boxes (Zheng et al. 2020).
    row, col = jnp.mgrid[0:ROWS, 0:COLS]
    cx, cy = (jnp.tanh(out[..., 1]) + col) / COLS, (jnp.tanh(out[..., 2]) + row) / ROWS
    w, h = jax.nn.sigmoid(out[..., 3]), jax.nn.sigmoid(out[..., 4])
    tx, ty, tw, th = (box[..., i] for i in range(4))
    iw = jnp.maximum(jnp.minimum(cx + w / 2, tx + tw / 2) - jnp.maximum(cx - w / 2, tx - tw / 2), 0)
    ih = jnp.maximum(jnp.minimum(cy + h / 2, ty + th / 2) - jnp.maximum(cy - h / 2, ty - th / 2), 0)
    inter = iw * ih
    iou = inter / (w * h + tw * th - inter + 1e-7)
    ow = jnp.maximum(cx + w / 2, tx + tw / 2) - jnp.minimum(cx - w / 2, tx - tw / 2)
    oh = jnp.maximum(cy + h / 2, ty + th / 2) - jnp.minimum(cy - h / 2, ty - th / 2)
    diou = 1 - iou + ((cx - tx) ** 2 + (cy - ty) ** 2) / (ow**2 + oh**2 + 1e-7)
    cells = jnp.maximum(mask.sum(), 1)
    classes = optax.softmax_cross_entropy_with_integer_labels(out[..., 5:], label)
    total = -focal.sum() / objects + 2 * (diou * mask).sum() / cells + (classes * mask).sum() / cells
    return total, (new, (iou * mask).sum() / cells, ((out[..., 5:].argmax(-1) == label) * mask).sum() / cells)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scenes"), parser.add_argument("out")
    parser.add_argument("--epochs", type=int, default=7), parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--limit", type=int)
    args = parser.parse_args()
    out = pathlib.Path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    pictures, boxes = data.load(args.scenes, args.limit)
    print(f"{len(pictures)} pictures", flush=True)
    params, stats = init(args.seed)
    steps = args.epochs * (len(pictures) // args.batch)
    schedule = optax.cosine_onecycle_schedule(steps, 3e-3, 0.2)
    optimizer = optax.chain(optax.clip_by_global_norm(10.0), optax.adamw(schedule, weight_decay=1e-4))
    state = optimizer.init(params)

    @jax.jit
    def step(params, stats, state, *batch):
        (total, (stats, iou, right)), grads = jax.value_and_grad(loss, has_aux=True)(params, stats, *batch)
        updates, state = optimizer.update(grads, state, params)
        return optax.apply_updates(params, updates), stats, state, jnp.stack([total, iou, right])

    random = np.random.default_rng(args.seed)
    for epoch in range(args.epochs):
        start, seen, order = time.time(), [], random.permutation(len(pictures))
        for i in range(0, len(order) - args.batch + 1, args.batch):
            pairs = [data.augment(pictures[j], boxes[j], random) for j in order[i : i + args.batch]]
            batch = [np.stack(t) for t in zip(*(data.targets(b) for _, b in pairs))]
            params, stats, state, told = step(params, stats, state, np.stack([x for x, _ in pairs]), *batch)
            seen.append(told)
            if i // args.batch % 25 == 24:
                print(f"epoch {epoch + 1} {i + args.batch:6}  loss, iou, class:", np.mean(seen[-25:], 0).round(3), f"{time.time() - start:.0f} s", flush=True)
        np.savez(out / "weights.npz", **{f"{n}.{k}": v for n, (w, b) in fold(params, stats).items() for k, v in (("w", w), ("b", b))})
    export.write(out, fold(params, stats), CLASSES)


if __name__ == "__main__":
    main()
