"""Golden cases of detection heads: python detection.py."""
import numpy as np
import openvino.opset1 as op1
import openvino.opset3 as op3
import openvino.opset4 as op4
import openvino.opset5 as op5
import openvino.opset9 as op9
from openvino.utils.node_factory import NodeFactory

from harness import case, const, op, values

f32, i32, i64 = np.float32, np.int32, np.int64


def node(opset, kind, inputs, **attributes):
    return NodeFactory(f"opset{opset}").create(kind, [i.output(0) for i in inputs], attributes)


def boxes(n, seed=1, size=10.0):
    """Corners of boxes that overlap here and there."""
    v = (values((n, 4), seed) + 6.5) / 13.2
    return np.concatenate([v[:, :2] * size * 0.6, v[:, :2] * size * 0.6 + 0.3 * size * (0.4 + v[:, 2:])], 1).astype(f32)


def scores(shape, seed=1):
    return (np.round((values(shape, seed) + 6.5) * 4) / 52.8).astype(f32)


six = np.array([[[0, 0, 1, 1], [0, 0.1, 1, 1.1], [0, -0.1, 1, 0.9], [0, 10, 1, 11], [0, 10.1, 1, 11.1], [0, 100, 1, 101]]], f32)

with case("detection", "nms") as c:
    b, s = c.input(six), c.input(np.array([[[.9, .75, .6, .95, .5, .3]]], f32))
    for o in op1, op3, op4:
        c.result(o.non_max_suppression(b, s, const(3), const(.5, f32), const(.4, f32)))
    c.result(op5.non_max_suppression(b, s, const(5), const(.5, f32), const(.4, f32), const(0, f32)))
    c.result(op9.non_max_suppression(b, s, const(2), const(.5, f32), const(.99, f32)))
    # Corners the wrong way round, equal scores, an overlap of exactly the threshold, two batch entries and classes.
    b = c.input(np.array([[[0, 0, 1, 1], [0, 0, .5, 1], [0, 0, 1, 1], [1, 1, 0, .2]], [[0, 0, 2, 2], [1, 1, 3, 3], [5, 5, 6, 6], [0, 0, 2, 2.1]]], f32))
    s = c.input(np.array([[[.9, .8, .9, .2], [.5, .5, .5, .5]], [[.3, .5, .9, .3], [.1, .05, .6, .5]]], f32))
    c.result(op9.non_max_suppression(b, s, const(4), const(.5, f32), const(.1, f32), output_type="i32"))
    for encoding, sort in ("corner", True), ("center", False):
        c.result(op9.non_max_suppression(b, s, const(3), const(.6, f32), const(.1, f32), const(.5, f32), encoding, sort))
        c.result(op9.non_max_suppression(b, s, const(9), const(.4, f32), const(.1, f32), const(0, f32), encoding, sort))

# The CPU plugin refuses them on an open feature map.
prior_boxes = [
    dict(min_size=[8.0, 16.0], max_size=[12.0, 20.0], aspect_ratio=[2.0, 3.0], flip=True, offset=0.5, variance=[.1, .1, .2, .2], step=8.0),
    dict(min_size=[8.0], max_size=[12.0], aspect_ratio=[2.0], clip=True, offset=0.5, variance=[.3]),
    dict(min_size=[0.1, 0.2, 0.3], aspect_ratio=[1.0, 2.0], scale_all_sizes=False, offset=0.5, step=-1.0),
    dict(fixed_size=[9.0, 16.0], density=[2.0, 1.0], offset=0.5, step=10.0, variance=[.1]),
    dict(fixed_size=[9.0], density=[2.0], fixed_ratio=[2.0, 0.5], offset=0.5, step=10.0, variance=[.1]),
]
for name, opset in ("prior_box_1", 1), ("prior_box_8", 8):
    with case("detection", name, reference=True) as c:
        layer, image = const([2, 3]), c.input(np.array([30, 60], i64))
        for a in prior_boxes:
            full = dict(min_size=[], max_size=[], aspect_ratio=[], density=[], fixed_ratio=[], fixed_size=[], clip=False, flip=False,
                        step=0.0, offset=0.0, variance=[], scale_all_sizes=True, **({} if opset == 1 else {"min_max_aspect_ratios_order": False}))
            full = {k: np.array(v, f32) if isinstance(v, list) else v for k, v in dict(full, **a).items()}
            c.result(node(opset, "PriorBox", [layer, image], **full))

with case("detection", "prior_box_clustered") as c:
    layer, image = c.input(np.array([2, 3], i64)), c.input(np.array([30, 60], i64))
    clustered = dict(width=np.array([5.0, 9.0], f32), height=np.array([7.0, 3.0], f32), offset=0.5, variance=np.array([.1, .1, .2, .2], f32))
    c.result(node(1, "PriorBoxClustered", [layer, image], **clustered, clip=True))
    c.result(node(1, "PriorBoxClustered", [layer, image], **clustered, clip=False, step_w=4.0, step_h=5.0))
    c.result(node(1, "PriorBoxClustered", [layer, image], **clustered, clip=False, step=6.0))

with case("detection", "detection_output") as c:
    n, p, k = 2, 6, 3
    prior = boxes(p, 3, 1.0).reshape(1, 1, -1)
    variance = np.full((1, 1, 4 * p), 0.2, f32)
    delta, score = c.input(values((n, p * 4), 5) / 4), c.input(scores((n, p * k), 7))
    priors = c.input(np.concatenate([prior, variance], 1))
    base = dict(background_label_id=0, top_k=-1, keep_top_k=np.array([-1], i32), nms_threshold=0.3, confidence_threshold=0.2, normalized=True,
                code_type="caffe.PriorBoxParameter.CENTER_SIZE", share_location=True)
    do = lambda inputs, opset=8, **a: node(opset, "DetectionOutput", inputs, **dict(base, **a))
    inputs = [delta, score, priors]
    c.result(do(inputs), do(inputs, 1, num_classes=k, top_k=4, keep_top_k=np.array([5], i32)))
    c.result(do(inputs, code_type="caffe.PriorBoxParameter.CORNER", clip_before_nms=True, background_label_id=1))
    c.result(do(inputs, decrease_label_id=True, top_k=5, clip_after_nms=True), do(inputs, background_label_id=-1, confidence_threshold=0.99))
    own = c.input(values((n, p * k * 4), 11) / 4)
    c.result(do([own, score, priors], share_location=False, keep_top_k=np.array([3], i32)))
    # Priors in pixels, of which the last two are not there; one set per batch entry; variances in the deltas.
    pixels = np.concatenate([np.zeros((n, p, 1), f32), np.stack([boxes(p, 3, 40.0), boxes(p, 9, 40.0)])], 2)
    pixels[:, 4:, 0] = -1
    c.result(do([delta, score, c.input(pixels.reshape(n, 1, -1))], normalized=False, input_height=40, input_width=50, variance_encoded_in_target=True))
    first = [c.input(scores((n, p * 2), 13)), c.input(values((n, p * 4), 15) / 8)]
    c.result(do(inputs + first, objectness_score=0.5))

for name, kind, extra in (
    ("matrix_nms", "MatrixNms", [dict(decay_function="gaussian", gaussian_sigma=2.0), dict(decay_function="linear", post_threshold=0.2)]),
    ("multiclass_nms", "MulticlassNms", [dict(iou_threshold=0.4), dict(iou_threshold=0.7, nms_eta=0.8)]),
):
    with case("detection", name) as c:
        b = c.input(np.stack([boxes(6, 3, 4.0), boxes(6, 17, 4.0)]))
        s = c.input(scores((2, 3, 6), 21))
        base = dict(score_threshold=0.1, nms_top_k=-1, keep_top_k=-1, background_class=-1, normalized=True)
        for i, e in enumerate(extra):
            for a in (dict(sort_result_type="none"), dict(sort_result_type="score", normalized=False, nms_top_k=4),
                      dict(sort_result_type="classid", keep_top_k=5, background_class=0),
                      dict(sort_result_type="classid", sort_result_across_batch=True, output_type="i32"),
                      dict(sort_result_type="score", sort_result_across_batch=True, keep_top_k=7))[::i + 1]:
                c.result(node(8, kind, [b, s], **dict(base, **e, **a)))
        if kind == "MulticlassNms":
            c.result(node(8, kind, [b, s], **dict(base, **extra[0], score_threshold=2.0)))
            b = c.input(boxes(18, 5, 4.0).reshape(3, 6, 4))
            s, count = c.input(scores((3, 6), 25)), c.input(np.array([4, 2], i32))
            for sort in "none", "classid":
                c.result(node(9, kind, [b, s, count], **dict(base, iou_threshold=0.4, sort_result_type=sort)))

with case("detection", "region_yolo") as c:
    x = c.input(values((2, 16, 2, 3)))
    yolo = lambda **a: node(1, "RegionYolo", [x], coords=4, classes=3, axis=1, end_axis=3, anchors=np.array([1.0, 2.0], f32), **a)
    c.result(yolo(num=2, do_softmax=True, mask=np.array([], i64)), yolo(num=4, do_softmax=False, mask=np.array([0, 1], i64)))

with case("detection", "reorg_yolo") as c:
    c.result(op.reorg_yolo(c.input(np.arange(2 * 8 * 2 * 4, dtype=f32).reshape(2, 8, 2, 4)), [2]))

with case("detection", "proposal") as c:
    s, d = c.input((values((2, 12, 2, 3), 3) + 6.5) / 13.2), c.input(values((2, 24, 2, 3), 5) / 12)
    image = c.input(np.array([40, 50, 1], f32))
    base = dict(base_size=16, pre_nms_topn=20, post_nms_topn=6, nms_thresh=0.5, feat_stride=12, min_size=4,
                ratio=np.array([0.5, 1.0, 2.0], f32), scale=np.array([0.8, 1.5], f32))
    for opset in 1, 4:
        c.result(node(opset, "Proposal", [s, d, image], **base))
    c.result(node(4, "Proposal", [s, d, image], **base, clip_before_nms=False, clip_after_nms=True, normalize=True, box_size_scale=5.0,
                  box_coordinate_scale=10.0))
    four = c.input(np.array([40, 50, 1, 0.5], f32))
    c.result(node(4, "Proposal", [s, d, four], **dict(base, framework="tensorflow", post_nms_topn=40, nms_thresh=0.1)).output(0))

regions = np.array([[0, 1, 2, 9, 7], [1, 0, 0, 3.5, 4], [0, 4.6, 3.2, 12, 14], [1, 6, 6, 5, 5]], f32)

with case("detection", "roi_pooling") as c:
    x, r = c.input(values((2, 3, 6, 7))), c.input(regions)
    for scale in 1.0, 0.5:
        c.result(op.roi_pooling(x, r, (2, 3), scale, "max"))
    c.result(op.roi_pooling(x, c.input(np.array([[0, .1, .2, .9, 1], [1, 0, 0, .5, .4], [0, .3, .3, 1.2, .3]], f32)), (3, 2), 1.0, "bilinear"))
    c.result(op.roi_pooling(x, c.input(np.array([[0, 1, 1, 4, 4], [-1, 0, 0, 0, 0], [0, 1, 1, 4, 4]], f32)), (1, 1), 1.0, "max"))

with case("detection", "psroi_pooling") as c:
    x, r = c.input(values((2, 8, 6, 7))), c.input(regions)
    for scale in 1.0, 0.5:
        c.result(op.psroi_pooling(x, r, 2, 2, scale, 1, 1, "average"))
    r = c.input(np.array([[0, .1, .2, .9, 1], [1, 0, 0, .5, .4]], f32))
    c.result(op.psroi_pooling(x, r, 2, 3, 1.0, 2, 2, "bilinear"), op.psroi_pooling(x, r, 8, 1, 0.9, 1, 1, "bilinear"))

with case("detection", "deformable_psroi_pooling") as c:
    x, r = c.input(values((2, 8, 6, 7))), c.input(regions)
    c.result(op.deformable_psroi_pooling(x, r, 2, 0.5, 2, "bilinear_deformable", 2, 3, 0.1, 2))
    shift = c.input(values((4, 4, 2, 2), 9) / 7)
    c.result(op.deformable_psroi_pooling(x, r, 2, 0.5, 2, "bilinear_deformable", 2, 2, 0.3, 2, shift))

with case("detection", "roi_align") as c:
    x = c.input(values((2, 2, 6, 7)))
    r, at = c.input(np.array([[1, 2, 9, 7], [0, 0, 3.5, 4], [4.6, 3.2, 12, 14], [6, 6, 5, 5]], f32)), c.input(np.array([0, 1, 0, 1], i32))
    for mode in "avg", "max":
        c.result(op3.roi_align(x, r, at, 2, 3, 2, 0.6, mode), op3.roi_align(x, r, at, 2, 2, 0, 0.5, mode))
        for aligned in "asymmetric", "half_pixel_for_nn", "half_pixel":
            c.result(op9.roi_align(x, r, at, 2, 2, 2, 0.5, mode, aligned))
    turned = c.input(np.array([[3, 3, 4, 2, 0.5], [4, 2, 6, 3, -1.2], [1, 1, 9, 9, 3.0], [5, 5, 1, 1, 0]], f32))
    for clockwise in True, False:
        c.result(node(15, "ROIAlignRotated", [x, turned, at], pooled_h=2, pooled_w=3, sampling_ratio=2, spatial_scale=0.8, clockwise_mode=clockwise))

with case("detection", "detectron") as c:
    info3, info13 = c.input(np.array([40, 50, 1], f32)), c.input(np.array([[40, 50, 1]], f32))
    r, d, s = c.input(boxes(7, 3, 40.0)), c.input(values((7, 12), 5) / 4), c.input(scores((7, 3), 9))
    do = lambda **a: node(6, "ExperimentalDetectronDetectionOutput", [r, d, s, info13], **dict(dict(
        score_threshold=0.1, nms_threshold=0.4, num_classes=3, post_nms_count=4, max_detections_per_image=7, class_agnostic_box_regression=False,
        max_delta_log_wh=2.0, deltas_weights=np.array([10.0, 10.0, 5.0, 5.0], f32)), **a))
    c.result(do(), do(max_detections_per_image=5, post_nms_count=7, score_threshold=0.3))
    anchors = boxes(12, 7, 30.0)
    a, d, s = c.input(anchors), c.input(values((8, 2, 3), 11) / 8), c.input(scores((2, 2, 3), 13))
    generate = lambda **k: node(6, "ExperimentalDetectronGenerateProposalsSingleImage", [info3, a, d, s], **dict(dict(
        min_size=4.0, nms_threshold=0.5, pre_nms_count=10, post_nms_count=8), **k))
    c.result(generate(), generate(min_size=9.0, pre_nms_count=5, post_nms_count=3))
    features, image = c.input(values((1, 2, 2, 3))), c.input(np.zeros((1, 1, 8, 9), f32))
    few = c.input(boxes(2, 5, 6.0))
    for k in dict(), dict(flatten=False, h=2, w=3, stride_x=3.0, stride_y=4.0):
        c.result(node(6, "ExperimentalDetectronPriorGridGenerator", [few, features, image],
                      **dict(dict(flatten=True, h=0, w=0, stride_x=0.0, stride_y=0.0), **k)))
    levels = [c.input(values((1, 2, 6, 5), 3)), c.input(values((1, 2, 3, 3), 4))]
    big = c.input(np.array([[1, 2, 9, 7], [0, 0, 150, 160], [4, 4, 4, 9], [3, 3, 12, 14]], f32))
    for k in dict(sampling_ratio=2, aligned=False), dict(sampling_ratio=0, aligned=True):
        c.result(node(6, "ExperimentalDetectronROIFeatureExtractor", [big] + levels, output_size=2, pyramid_scales=np.array([4, 64], i64), **k))
    p = c.input(scores((7,), 3))
    c.result(node(6, "ExperimentalDetectronTopKROIs", [r, p], max_rois=4))

with case("detection", "generate_proposals") as c:
    info = c.input(np.array([[40, 50, 1], [30, 30, 2]], f32))
    a = c.input(boxes(12, 7, 30.0).reshape(2, 3, 2, 4))
    d, s = c.input(values((2, 8, 2, 3), 11) / 8), c.input(scores((2, 2, 2, 3), 13))
    for k in dict(normalized=True), dict(normalized=False, min_size=6.0, roi_num_type="i32"), dict(pre_nms_count=4, post_nms_count=3):
        c.result(node(9, "GenerateProposals", [info, a, d, s], **dict(dict(min_size=2.0, nms_threshold=0.5, pre_nms_count=10, post_nms_count=8,
                                                                         normalized=True, nms_eta=1.0, roi_num_type="i64"), **k)))

with case("detection", "nms_rotated") as c:
    b = c.input(np.array([[[2, 2, 4, 2, 0.4], [2.5, 2, 4, 2, -0.3], [6, 6, 3, 1, 1.2], [6.3, 6.4, 3, 1, 0.9], [2, 2, 4, 2, 0.4]],
                          [[0, 0, 2, 2, 0], [1, 0.5, 2, 1, 0.8], [1.5, 1.1, 2, 1, 2.2], [0, 0, 0, 2, 0], [8, 8, 1, 1, 3]]], f32))
    s = c.input(np.array([[[.9, .8, .7, .75, .9], [.2, .3, .4, .5, .6]], [[.3, .8, .75, .9, .1], [.5, .5, .5, .05, .5]]], f32))
    for clockwise, sort, threshold in (True, True, 0.3), (False, False, 0.3), (True, False, 0.15), (False, True, 0.15):
        c.result(node(13, "NMSRotated", [b, s, const(4), const(threshold, f32), const(.1, f32)], clockwise=clockwise,
                      sort_result_descending=sort, output_type="i64"))
