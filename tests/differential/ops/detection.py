"""Heads of detectors. What selects by comparing reads inputs and their codes alone, which are the same on both sides."""
import numpy as np
import openvino.opset15 as op

from .base import operation
from .movement import ints
from .quantize import lengths

f32 = np.float32


def draw_prior_box(g):
    ref = g.recent(ranks=(4,))
    if len(g.shape(ref)) != 4:
        return None
    (out,) = g.add(
        "prior_box", [ref], name=g.rng.choice(["prior_box", "clustered"]), image=g.rng.choice([32, 64, 100]),
        sizes=sorted(g.rng.sample([8.0, 12.5, 16.0, 30.0], g.rng.choice([1, 2]))), largest=g.rng.random() < 0.5,
        ratios=g.rng.sample([0.5, 2.0, 3.0], g.rng.randint(0, 2)), flip=g.rng.random() < 0.5, clip=g.rng.random() < 0.5,
        step=g.rng.choice([0.0, 8.0, 10.0]), offset=g.rng.choice([0.0, 0.5]), all=g.rng.random() < 0.7,
        order=g.rng.random() < 0.5, variance=g.rng.choice([[], [0.1], [0.1, 0.1, 0.2, 0.2]]),
    )
    g.pool.remove(out)
    g.ends.append(out)
    return ref


@operation("prior_box", draw_prior_box, 0.5)
def build_prior_box(b, node, x):
    size = op.strided_slice(op.shape_of(x), ints([2]), ints([4]), ints([1]), [0], [0])
    image = ints([node["image"], node["image"] + 10])
    sizes = node["sizes"]
    if node["name"] == "clustered":
        return op.prior_box_clustered(
            size, image,
            {
                "width": np.array(sizes, f32), "height": np.array(sizes[::-1], f32), "clip": node["clip"],
                "step_widths": node["step"] or 4.0, "step_heights": node["step"] or 4.0, "offset": node["offset"] or 0.5,
                "variance": np.array(node["variance"] or [0.1], f32),
            },
        )
    return op.prior_box(
        size, image,
        {
            "min_size": np.array(sizes, f32), "max_size": np.array([s * 1.5 for s in sizes] if node["largest"] else [], f32),
            "aspect_ratio": np.array(node["ratios"], f32), "flip": node["flip"], "clip": node["clip"], "step": node["step"],
            "offset": node["offset"], "variance": np.array(node["variance"], f32), "scale_all_sizes": node["all"],
            "min_max_aspect_ratios_order": node["order"],
        },
    )


def draw_roi_align(g):
    ref = g.quantize(g.recent(ranks=(4,)), 0.5)
    if len(g.shape(ref)) != 4:
        return None
    return g.add(
        "roi_align", [ref], count=g.rng.randint(1, 4), pooled=[g.rng.randint(1, 4), g.rng.randint(1, 4)],
        ratio=g.rng.choice([0, 1, 2, 3]), scale=g.rng.choice([1.0, 0.5, 0.25]), mode=g.rng.choice(["avg", "max"]),
        aligned=g.rng.choice(["asymmetric", "half_pixel_for_nn", "half_pixel"]),
    )[0]


def boxes(rng, count, width, height):
    """Corners of boxes, a few of them beyond the edges."""
    corner = rng.uniform(-0.1, 0.7, (count, 2)) * [width, height]
    size = rng.uniform(0.1, 0.6, (count, 2)) * [width, height]
    return np.concatenate([corner, corner + size], -1).astype(f32)


@operation("roi_align", draw_roi_align, 0.8)
def build_roi_align(b, node, x):
    n, _, height, width = lengths(x)
    rng = np.random.default_rng(node["seed"])
    rois = boxes(rng, node["count"], width / node["scale"], height / node["scale"])
    which = rng.integers(0, n, node["count"])
    return op.roi_align(
        x, op.constant(rois), op.constant(which.astype(np.int32)), *node["pooled"], node["ratio"], node["scale"],
        node["mode"], node["aligned"],
    )


def draw_roi_pooling(g):
    ref = g.quantize(g.recent(ranks=(4,)), 0.5)
    if len(g.shape(ref)) != 4:
        return None
    return g.add(
        "roi_pooling", [ref], count=g.rng.randint(1, 4), pooled=[g.rng.randint(1, 3), g.rng.randint(1, 3)],
        method=g.rng.choice(["max", "bilinear"]), scale=g.rng.choice([1.0, 0.5]),
    )[0]


@operation("roi_pooling", draw_roi_pooling, 0.4)
def build_roi_pooling(b, node, x):
    n, _, height, width = lengths(x)
    rng = np.random.default_rng(node["seed"])
    if node["method"] == "max":
        rois = np.abs(boxes(rng, node["count"], width / node["scale"], height / node["scale"]))
    else:
        rois = np.clip(boxes(rng, node["count"], 1, 1), 0, 1)
    which = rng.integers(0, n, (node["count"], 1))
    return op.roi_pooling(
        x, op.constant(np.concatenate([which, rois], -1).astype(f32)), output_size=node["pooled"],
        spatial_scale=node["scale"], method=node["method"],
    )


def scores(g, shape):
    """Distinct scores, or codes, of which many are the same."""
    ref = g.input(shape)
    node = g.nodes[ref[0]]
    node.update(kind="uniform", type="f32", amp=1.0)
    g.note(ref, amp=1.0, positive=True)
    return g.quantize(ref, 0.3)


def draw_nms(g):
    batch, classes, count = g.rng.choice([1, 1, 2]), g.rng.choice([1, 2, 3]), g.rng.choice([4, 9, 20])
    ref = scores(g, [batch, classes, count])
    outs = g.add(
        "nms", [ref], most=g.rng.choice([1, 3, 10, 100]), iou=g.rng.choice([0.3, 0.5, 0.7]),
        threshold=g.rng.choice([0.0, 0.2, 0.6]), sigma=g.rng.choice([0.0, 0.0, 0.5]), encoding=g.rng.choice(["corner", "center"]),
        descending=g.rng.random() < 0.7, output=g.rng.choice(["i64", "i32"]),
    )
    for out in outs:
        g.pool.remove(out)
    g.ends += outs
    return ref


@operation("nms", draw_nms, 0.7)
def build_nms(b, node, x):
    batch, _, count = lengths(x)
    rng = np.random.default_rng(node["seed"])
    corners = boxes(rng, batch * count, 1, 1).reshape(batch, count, 4)
    if node["encoding"] == "center":
        corners = np.concatenate([(corners[..., :2] + corners[..., 2:]) / 2, corners[..., 2:] - corners[..., :2]], -1)
    one = lambda v: op.constant(f32(v))
    return op.non_max_suppression(
        op.constant(corners.astype(f32)), x, op.constant(np.int64(node["most"])), one(node["iou"]), one(node["threshold"]),
        one(node["sigma"]), node["encoding"], node["descending"], node["output"],
    )


def draw_detection_output(g):
    priors, classes = g.rng.choice([4, 9, 20]), g.rng.choice([2, 3, 4])
    batch, shared = g.rng.choice([1, 1, 2]), g.rng.random() < 0.75
    logits = g.quantize(g.input([batch, priors * 4 * (1 if shared else classes)]), 0.3)
    ref = scores(g, [batch, priors * classes])
    (out,) = g.add(
        "detection_output", [logits, ref], priors=priors, classes=classes, shared=shared,
        background=g.rng.choice([-1, 0, 0]), top=g.rng.choice([-1, 5, 50]), keep=g.rng.choice([3, 10, 50]),
        nms=g.rng.choice([0.3, 0.45, 0.7]), threshold=g.rng.choice([0.1, 0.3, 0.6]), clip=g.rng.random() < 0.4,
        after=g.rng.random() < 0.2, code=g.rng.choice(["caffe.PriorBoxParameter.CENTER_SIZE", "caffe.PriorBoxParameter.CORNER"]),
        encoded=g.rng.random() < 0.2, normalized=g.rng.random() < 0.7, label=g.rng.random() < 0.2,
    )
    g.pool.remove(out)
    g.ends.append(out)
    return ref


@operation("detection_output", draw_detection_output, 0.6)
def build_detection_output(b, node, logits, x):
    rng = np.random.default_rng(node["seed"])
    priors = np.clip(boxes(rng, node["priors"], 1, 1), 0, 1)
    size = 64.0
    if not node["normalized"]:
        priors = np.concatenate([np.zeros((node["priors"], 1)), priors * size], -1)
    rows = [priors.reshape(-1)]
    if not node["encoded"]:
        rows.append(np.resize(np.array([0.1, 0.1, 0.2, 0.2]), node["priors"] * 4))
        width = max(len(r) for r in rows)
        rows = [np.pad(r, (0, width - len(r))) for r in rows]
    value = np.stack(rows)[None].astype(f32)
    return op.detection_output(
        logits, x, op.constant(value),
        {
            "background_label_id": node["background"], "top_k": node["top"], "keep_top_k": np.array([node["keep"]], np.int32),
            "nms_threshold": node["nms"], "confidence_threshold": node["threshold"], "code_type": node["code"],
            "share_location": node["shared"], "variance_encoded_in_target": node["encoded"], "clip_before_nms": node["clip"],
            "clip_after_nms": node["after"], "normalized": node["normalized"], "decrease_label_id": node["label"],
            "input_height": int(size), "input_width": int(size), "objectness_score": 0.0,
        },
    )
