use super::*;
use crate::pixels::tests::flat;
use flow_frame::{BBox, Class, Detection, KeyPoint, Pose};
use proptest::prelude::*;

fn painter(config: &str) -> Painter {
    Painter::new(serde_json::from_str(config).unwrap())
}

fn detection(bbox: [f32; 4], class: u32, label: &str) -> Detection {
    let [x1, y1, x2, y2] = bbox;
    Detection {
        bbox: BBox { x1, y1, x2, y2 },
        class,
        label: label.into(),
        score: 0.9,
        track: None,
    }
}

fn pixel(frame: &Frame, x: usize, y: usize) -> [u8; 3] {
    frame.row(0, y)[3 * x..][..3].try_into().unwrap()
}

#[test]
fn a_box_is_drawn_where_it_is_and_its_inside_stays() {
    let mut frame = flat(200, 200, PixelFormat::Rgb, 90);
    let found = Detections {
        items: vec![detection([50.0, 80.0, 150.0, 180.0], 3, "car")],
    };
    painter("{}").detections(&mut frame, &found);
    let color = color_of(3);
    for (x, y) in [(50, 80), (149, 80), (50, 179), (149, 179), (100, 80), (50, 130)] {
        assert_eq!(pixel(&frame, x, y), color, "{x},{y}");
    }
    for (x, y) in [(100, 130), (49, 130), (150, 130), (100, 180)] {
        assert_eq!(pixel(&frame, x, y), [90; 3], "{x},{y}");
    }
    // The tag stands above the box and holds ink of the other brightness.
    let row: Vec<[u8; 3]> = (50..80).map(|x| pixel(&frame, x, 70)).collect();
    assert!(
        row.contains(&color) && row.contains(&palette::ink_on(color)),
        "{row:?}"
    );
}

#[test]
fn tags_of_boxes_at_the_edges_stay_in_the_frame() {
    let mut frame = flat(200, 100, PixelFormat::Rgb, 90);
    let found = Detections {
        items: vec![detection([150.0, 0.0, 200.0, 60.0], 1, "a long label")],
    };
    painter("{}").detections(&mut frame, &found);
    let color = color_of(1);
    // Wider than the box, so it begins left of it; inside the box's top, since there is no room above.
    assert_eq!(pixel(&frame, 140, 4), color);
}

#[test]
fn the_better_of_two_boxes_keeps_its_name_readable() {
    let better = detection([40.0, 60.0, 140.0, 160.0], 3, "car");
    let worse = Detection {
        score: 0.4,
        ..detection([45.0, 62.0, 145.0, 162.0], 4, "bus")
    };
    let mut alone = flat(200, 200, PixelFormat::Rgb, 90);
    let mut both = alone.clone();
    painter("{}").detections(
        &mut alone,
        &Detections {
            items: vec![better.clone()],
        },
    );
    painter("{}").detections(
        &mut both,
        &Detections {
            items: vec![better, worse],
        },
    );
    let tag = |f: &Frame| {
        (44..60)
            .flat_map(|y| (40..100).map(move |x| (x, y)))
            .map(|(x, y)| pixel(f, x, y))
            .collect::<Vec<_>>()
    };
    assert_eq!(tag(&alone), tag(&both));
}

#[test]
fn classes_are_listed_top_left() {
    let mut frame = flat(320, 240, PixelFormat::Rgb, 200);
    let found = Classes {
        items: vec![Class {
            class: 1,
            label: "cat".into(),
            score: 0.5,
        }],
    };
    painter("{}").classes(&mut frame, &found);
    assert!(pixel(&frame, 0, 0)[0] < 100, "the ground is dark");
    assert_eq!(pixel(&frame, 319, 239), [200; 3]);
    let white = (0..160)
        .flat_map(|x| (0..40).map(move |y| (x, y)))
        .any(|(x, y)| pixel(&frame, x, y) == [255; 3]);
    assert!(white, "there are letters");
}

#[test]
fn bones_join_points_that_were_seen() {
    let point = |x, y, score| KeyPoint { x, y, score };
    let pose = Pose {
        points: vec![
            point(20.0, 50.0, 0.9),
            point(80.0, 50.0, 0.9),
            point(50.0, 90.0, 0.1),
        ],
        score: 0.6,
    };
    let found = KeyPoints {
        poses: vec![pose],
        names: Arc::new(["a", "b", "c"]),
        edges: Arc::new([(0, 1), (1, 2), (1, 99)]),
    };
    let mut frame = flat(100, 100, PixelFormat::Rgb, 90);
    painter("{}").key_points(&mut frame, &found);
    assert_ne!(pixel(&frame, 50, 50), [90; 3]);
    assert_eq!(pixel(&frame, 20, 50), [255; 3]);
    assert_eq!(
        pixel(&frame, 65, 70),
        [90; 3],
        "no bone to a point that was not seen"
    );
}

#[test]
fn colours_of_classes_differ_and_are_bright() {
    for a in 0..40u32 {
        let color = color_of(a);
        assert!(color.iter().any(|c| *c > 200));
        for b in 0..a.min(12) {
            let distance: u32 = color
                .iter()
                .zip(color_of(b))
                .map(|(x, y)| u32::from(x.abs_diff(y)))
                .sum();
            assert!(a >= 12 || distance > 20, "{a} {b}");
        }
    }
}

proptest! {
    #[test]
    fn any_box_on_any_frame_is_drawn_or_cut_off(
        bits in prop::array::uniform4(any::<u32>()), near in prop::array::uniform4(-50f32..150.0), odd: bool,
        w in 1u32..60, h in 1u32..60, label in ".{0,12}", class: u32,
    ) {
        let mut frame = flat(w, h, PixelFormat::Rgb, 10);
        let bbox = if odd { bits.map(f32::from_bits) } else { near };
        let found = Detections { items: vec![detection(bbox, class, &label)] };
        let mut p = painter("{}");
        p.detections(&mut frame, &found);
        let points = vec![
            KeyPoint { x: bbox[0], y: bbox[1], score: 1.0 },
            KeyPoint { x: bbox[2], y: bbox[3], score: 1.0 },
        ];
        let found = KeyPoints {
            poses: vec![Pose { points, score: 1.0 }],
            names: Arc::new(["a", "b"]),
            edges: Arc::new([(0, 1)]),
        };
        p.key_points(&mut frame, &found);
    }
}
