use super::*;
use crate::outputs::tests::{tensor, tensors};
use flow_frame::{BBox, Geometry};
use proptest::prelude::*;

fn detector(config: &str, labels: &[&str]) -> Detector {
    Detector::new(
        serde_json::from_str(config).unwrap(),
        labels.iter().copied().collect(),
    )
    .unwrap()
}

/// A 100x100 input made of a 200x100 frame.
fn place() -> Place {
    Place::new(Geometry {
        scale_x: 2.0,
        input: (100, 100),
        ..Geometry::identity(200, 100)
    })
}

fn run(detector: &Detector, outputs: &[(&str, flow_frame::Tensor)]) -> Result<Detections, StageError> {
    detector.run(&tensors(outputs), &place(), &mut Vec::new())
}

fn near(b: BBox, want: [f32; 4]) -> bool {
    [b.x1, b.y1, b.x2, b.y2]
        .iter()
        .zip(want)
        .all(|(a, w)| (a - w).abs() < 1e-3)
}

#[test]
fn decoded_boxes_skip_the_background_and_land_in_the_frame() {
    let d = detector(
        r#"{"format": "decoded_boxes", "threshold": 0.7, "iou": 0.3}"#,
        &["face"],
    );
    let scores = tensor(&[1, 4, 2], &[0.1, 0.9, 0.2, 0.8, 0.9, 0.1, 0.3, 0.71]);
    let boxes = tensor(
        &[1, 4, 4],
        &[
            0.1, 0.1, 0.5, 0.5, 0.11, 0.1, 0.5, 0.5, 0.0, 0.0, 1.0, 1.0, 0.9, 0.9, 1.2, 1.3,
        ],
    );
    let found = run(&d, &[("scores", scores), ("boxes", boxes)]).unwrap();
    assert_eq!(found.items.len(), 2, "one is suppressed, one is background");
    assert!(near(found.items[0].bbox, [20.0, 10.0, 100.0, 50.0]), "{found:?}");
    assert_eq!((found.items[0].class, found.items[0].label.as_ref()), (1, "face"));
    assert!(
        near(found.items[1].bbox, [180.0, 90.0, 200.0, 100.0]),
        "clamped to the frame"
    );
}

#[test]
fn scores_that_are_not_numbers_are_never_boxes() {
    let d = detector(
        r#"{"format": "decoded_boxes", "threshold": 0.0, "background": "none"}"#,
        &[],
    );
    let bad = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY];
    let scores = tensor(&[1, 4, 1], &[bad[0], bad[1], bad[2], 0.5]);
    let boxes = tensor(&[1, 4, 4], &[[0.1f32, 0.1, 0.2, 0.2]; 4].concat());
    let found = run(&d, &[("s", scores), ("b", boxes)]).unwrap();
    assert_eq!(found.items.len(), 1);
    let boxes = tensor(&[1, 1, 4], &[f32::NAN, 0.1, 0.2, 0.2]);
    let found = run(&d, &[("s", tensor(&[1, 1, 1], &[0.9])), ("b", boxes)]).unwrap();
    assert!(found.items.is_empty());
}

#[test]
fn fastestdet_follows_its_formula() {
    // One cell of a 2x2 grid speaks: row 1, column 0.
    let (channels, cells) = (7, 4);
    let mut v = vec![0f32; channels * cells];
    let mut set = |channel: usize, value: f32| v[channel * cells + 2] = value;
    set(0, 0.9); // objectness
    set(1, 0.5);
    set(2, -0.5);
    set(3, -1.0);
    set(4, 0.0);
    set(5, 0.1);
    set(6, 0.8);
    let d = detector(r#"{"format": "anchor_free_grid", "threshold": 0.5}"#, &["a", "b"]);
    let found = run(&d, &[("758", tensor(&[1, 7, 2, 2], &v))]).unwrap();
    assert_eq!(found.items.len(), 1);
    let hit = &found.items[0];
    assert!((hit.score - 0.9f32.powf(0.6) * 0.8f32.powf(0.4)).abs() < 1e-6);
    assert_eq!(hit.label.as_ref(), "b");
    let (cx, cy) = (0.5f32.tanh() / 2.0, ((-0.5f32).tanh() + 1.0) / 2.0);
    let (w, h) = (1.0 / (1.0 + 1f32.exp()), 0.5);
    let want = [
        (cx - w / 2.0) * 200.0,
        (cy - h / 2.0) * 100.0,
        (cx + w / 2.0) * 200.0,
        (cy + h / 2.0) * 100.0,
    ];
    assert!(near(hit.bbox, want), "{hit:?} {want:?}");
}

#[test]
fn yolo_heads_decode_to_the_same_box() {
    let want = [60.0, 10.0, 100.0, 50.0];
    let v5 = detector(r#"{"format": "yolov5", "threshold": 0.3}"#, &[]);
    let row = [40.0, 30.0, 20.0, 40.0, 0.5, 0.1, 0.8];
    let found = run(&v5, &[("y", tensor(&[1, 1, 7], &row))]).unwrap();
    assert!(near(found.items[0].bbox, want), "{found:?}");
    assert_eq!((found.items[0].class, found.items[0].score), (1, 0.4));

    let v8 = detector(r#"{"format": "yolov8", "threshold": 0.3}"#, &[]);
    let columns = [40.0, 0.0, 30.0, 0.0, 20.0, 0.0, 40.0, 0.0, 0.1, 0.0, 0.8, 0.0];
    let found = run(&v8, &[("y", tensor(&[1, 6, 2], &columns))]).unwrap();
    assert!(near(found.items[0].bbox, want), "{found:?}");
    assert_eq!((found.items.len(), found.items[0].score), (1, 0.8));
}

#[test]
fn ssd_offsets_move_priors() {
    // One prior: centre (0.5, 0.5), 0.2 x 0.4; offset by one variance to the right, twice as high.
    let offsets = [1.0, 0.0, 0.0, 2f32.ln() / 0.2];
    let (cx, cy, w, h) = (0.5 + 0.1 * 0.2, 0.5, 0.2, 0.8);
    let want = [
        (cx - w / 2.0) * 200.0,
        (cy - h / 2.0) * 100.0,
        (cx + w / 2.0) * 200.0,
        (cy + h / 2.0) * 100.0,
    ];
    let corners = [0.4, 0.3, 0.6, 0.7];
    let variances = [0.1, 0.1, 0.2, 0.2];
    let prior_box = [corners, [0.0, 0.0, 0.1, 0.1], variances, variances].concat();
    let d = detector(
        r#"{"format": "ssd", "activation": "softmax", "outputs": {"scores": "conf"}}"#,
        &["nothing", "thing"],
    );
    let outputs = [
        ("loc", tensor(&[1, 2, 4], &[offsets, [0.0; 4]].concat())),
        ("conf", tensor(&[1, 2, 2], &[0.0, 3.0, 3.0, 0.0])),
        ("priors", tensor(&[1, 2, 8], &prior_box)),
    ];
    let found = run(&d, &outputs).unwrap();
    assert_eq!(found.items.len(), 1);
    assert!(near(found.items[0].bbox, want), "{found:?} {want:?}");
    assert!((found.items[0].score - 1.0 / (1.0 + (-3f32).exp())).abs() < 1e-6);
    assert_eq!(found.items[0].label.as_ref(), "thing");

    let grid = r#"{"format": "ssd", "priors": {"steps": [100], "min_sizes": [[20]]}}"#;
    let outputs = [
        ("loc", tensor(&[1, 1, 4], &[0.0; 4])),
        ("conf", tensor(&[1, 1, 2], &[0.0, 0.9])),
    ];
    let found = run(&detector(grid, &[]), &outputs).unwrap();
    assert!(near(found.items[0].bbox, [80.0, 40.0, 120.0, 60.0]), "{found:?}");
}

#[test]
fn detection_output_ends_at_image_minus_one() {
    let d = detector(r#"{"format": "detection_output"}"#, &[]);
    let rows = [
        [0.0, 1.0, 0.9, 0.1, 0.1, 0.2, 0.2],
        [0.0, 2.0, 0.4, 0.1, 0.1, 0.2, 0.2],
        [-1.0, 1.0, 0.9, 0.5, 0.5, 0.6, 0.6],
        [0.0, 1.0, 0.9, 0.5, 0.5, 0.6, 0.6],
    ];
    let found = run(&d, &[("out", tensor(&[1, 1, 4, 7], &rows.concat()))]).unwrap();
    assert_eq!(found.items.len(), 1);
}

#[test]
fn filters_apply_before_the_limit() {
    let config = r#"{"format": "decoded_boxes", "background": "none", "classes": ["car"], "min_size": 10,
        "max_detections": 1, "labels": ["person", "car"]}"#;
    let d = detector(config, &["person", "car"]);
    let scores = tensor(&[1, 3, 2], &[0.9, 0.0, 0.0, 0.8, 0.0, 0.7]);
    let small = [0.1, 0.1, 0.12, 0.12];
    let large = [0.1, 0.1, 0.3, 0.3];
    let boxes = tensor(&[1, 3, 4], &[large, small, large].concat());
    let found = run(&d, &[("s", scores), ("b", boxes)]).unwrap();
    assert_eq!((found.items.len(), found.items[0].score), (1, 0.7));
}

#[test]
fn wrong_shapes_name_output_wish_and_find() {
    let d = detector(r#"{"format": "yolov8"}"#, &[]);
    let e = run(&d, &[("logits", tensor(&[1, 1000], &[0.0; 1000]))]).unwrap_err();
    for part in ["`logits`", "[1, 1000]", "[1,4+C,N]", "outputs.boxes"] {
        assert!(e.message.contains(part), "{part}: {e}");
    }
    let d = detector(r#"{"format": "decoded_boxes"}"#, &[]);
    let outputs = [
        ("b", tensor(&[1, 2, 4], &[0.0; 8])),
        ("s", tensor(&[1, 3, 2], &[0.0; 6])),
    ];
    let e = run(&d, &outputs).unwrap_err();
    assert!(e.message.contains("`s`") && e.message.contains("[1,2,C]"), "{e}");
}

#[test]
fn keys_of_another_format_are_refused() {
    let config: DetectConfig =
        serde_json::from_str(r#"{"format": "yolov8", "variances": [1, 1, 1, 1], "threshold": 2}"#).unwrap();
    let keys: Vec<_> = config.check().into_iter().map(|i| i.key).collect();
    assert_eq!(keys, ["threshold", "variances"]);
}

proptest! {
    #[test]
    fn any_numbers_give_boxes_inside_the_frame(
        bits in proptest::collection::vec(any::<u32>(), 60), format in 0usize..5, small: bool,
    ) {
        let scale = |b: u32| if small { (b % 3000) as f32 / 1000.0 - 1.0 } else { f32::from_bits(b) };
        let v: Vec<f32> = bits.into_iter().map(scale).collect();
        let (name, outputs) = match format {
            0 => ("decoded_boxes", vec![("b", tensor(&[1, 10, 4], &v[..40])), ("s", tensor(&[1, 10, 2], &v[40..]))]),
            1 => ("fastestdet", vec![("y", tensor(&[1, 6, 5, 2], &v))]),
            2 => ("yolov5", vec![("y", tensor(&[1, 10, 6], &v))]),
            3 => ("yolov8", vec![("y", tensor(&[1, 6, 10], &v))]),
            _ => ("detection_output", vec![("y", tensor(&[1, 1, 8, 7], &v[..56]))]),
        };
        let d = detector(&format!(r#"{{"format": "{name}", "threshold": 0.1}}"#), &[]);
        let found = run(&d, &outputs).unwrap();
        for hit in &found.items {
            let b = hit.bbox;
            prop_assert!(b.x1 < b.x2 && b.y1 < b.y2 && b.x1 >= 0.0 && b.y1 >= 0.0 && b.x2 <= 200.0 && b.y2 <= 100.0);
            prop_assert!((0.1..=1.0).contains(&hit.score));
        }
    }
}
