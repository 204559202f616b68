use std::time::Instant;

use flow::packet::{Header, PacketId};
use flow_frame::{BBox, Detection};
use proptest::prelude::*;

use super::*;

fn config(text: &str) -> TrackConfig {
    let config: TrackConfig = serde_json::from_str(text).unwrap();
    assert!(config.check().is_empty(), "{text}");
    config
}

fn seen(x: f32, y: f32, score: f32) -> Detection {
    Detection {
        bbox: BBox {
            x1: x,
            y1: y,
            x2: x + 40.0,
            y2: y + 80.0,
        },
        class: 0,
        label: "person".into(),
        score,
        track: None,
    }
}

/// A deterministic wobble of at most `most` pixels.
fn wobble(seed: u64, most: f32) -> f32 {
    let mixed = seed.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let mixed = (mixed ^ (mixed >> 31)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    ((mixed >> 40) as f32 / (1u64 << 24) as f32 * 2.0 - 1.0) * most
}

/// Two people who cross. Person 0 hardly moves; person 1 walks past behind, half hidden for some frames, then not found at
/// all, then half hidden again. Gives for each frame the boxes with the number of the person.
fn crossing() -> Vec<Vec<(usize, Detection)>> {
    let frames = 0..50u32;
    let scene = frames.map(|i| {
        let t = i as f32;
        let jitter = |k: u64| wobble(u64::from(i) * 7 + k, 1.0);
        let front = seen(130.0 + 0.5 * t + jitter(0), 50.0 + jitter(1), 0.9);
        let overlap = |d: &Detection| front.bbox.iou(&d.bbox);
        let mut back = seen(330.0 - 7.0 * t + jitter(2), 58.0 + jitter(3), 0.88);
        let mut found = vec![(0, front.clone())];
        back.score -= overlap(&back);
        if back.score > 0.35 {
            found.push((1, back));
        }
        found
    });
    scene.collect()
}

/// Runs a scene; gives for each person the tracks it had, in order, without repetition.
fn tracks_of(config: &TrackConfig, scene: &[Vec<(usize, Detection)>], people: usize) -> Vec<Vec<u64>> {
    let mut tracker = Tracker::new(config.clone());
    let mut tracks = vec![Vec::new(); people];
    for frame in scene {
        let mut boxes: Vec<Detection> = frame.iter().map(|(_, d)| d.clone()).collect();
        tracker.update(&mut boxes, 1);
        for found in boxes {
            let Some(track) = found.track else { continue };
            let (person, _) = frame.iter().find(|(_, d)| d.bbox == found.bbox).unwrap();
            if tracks[*person].last() != Some(&track) {
                tracks[*person].push(track);
            }
        }
    }
    tracks
}

#[test]
fn people_who_cross_keep_their_numbers() {
    let scene = crossing();
    let hidden = scene.iter().filter(|frame| frame.len() == 1).count();
    let weak = scene.iter().flatten().filter(|(_, d)| d.score < 0.5).count();
    assert!(
        hidden >= 3 && weak >= 1,
        "the scene is a hard one: {hidden} hidden, {weak} weak"
    );
    assert_eq!(tracks_of(&config("{}"), &scene, 2), [vec![1], vec![2]]);
    // Without motion the boxes are mixed up, so that the scene shows the difference.
    assert_ne!(
        tracks_of(&config(r#"{"method": "iou"}"#), &scene, 2),
        [vec![1], vec![2]]
    );
}

#[test]
fn weak_boxes_continue_tracks_and_begin_none() {
    let mut tracker = Tracker::new(config("{}"));
    let mut frame = vec![seen(0.0, 0.0, 0.9), seen(200.0, 0.0, 0.3)];
    tracker.update(&mut frame, 1);
    assert_eq!(frame.len(), 1, "a weak box that continues nothing is dropped");
    assert_eq!(frame[0].track, Some(1));
    let mut frame = vec![seen(2.0, 0.0, 0.2), seen(2.0, 0.0, 0.05)];
    tracker.update(&mut frame, 1);
    assert_eq!(frame.len(), 1);
    assert_eq!((frame[0].track, frame[0].score), (Some(1), 0.2));
}

#[test]
fn a_thing_is_numbered_when_it_is_seen_twice() {
    let mut tracker = Tracker::new(config("{}"));
    tracker.update(&mut Vec::new(), 1);
    let track = |tracker: &mut Tracker, detection: Detection| {
        let mut frame = vec![detection];
        tracker.update(&mut frame, 1);
        frame.first().and_then(|d| d.track)
    };
    // A flash in one frame takes no number; strong boxes without one are handed on.
    assert_eq!(track(&mut tracker, seen(300.0, 0.0, 0.9)), None);
    assert_eq!(track(&mut tracker, seen(0.0, 0.0, 0.9)), None);
    assert_eq!(track(&mut tracker, seen(1.0, 0.0, 0.9)), Some(1));
}

#[test]
fn a_lost_track_is_taken_up_again_for_a_while() {
    for (gone, keep, same) in [(10, 30, true), (10, 5, false)] {
        let mut tracker = Tracker::new(config(&format!(r#"{{"keep": {keep}}}"#)));
        let mut last = None;
        for i in 0..40u32 {
            let mut frame = match i {
                20..30 => Vec::new(),
                _ => vec![seen(2.0 * i as f32, 0.0, 0.9)],
            };
            tracker.update(&mut frame, 1);
            last = frame.first().and_then(|d| d.track);
        }
        assert_eq!(last == Some(1), same, "{gone} of {keep} frames");
    }
}

#[test]
fn frames_that_were_dropped_count_as_time() {
    // A walk of which three of four frames are missing from the tenth on.
    for (steps, same) in [(4, true), (1, false)] {
        let mut tracker = Tracker::new(config("{}"));
        let mut last = None;
        for i in 0..20u32 {
            let (x, steps) = match i {
                0..10 => (8 * i, 1),
                _ => (72 + 32 * (i - 9), steps),
            };
            let mut frame = vec![seen(x as f32, 0.0, 0.9)];
            tracker.update(&mut frame, steps);
            last = frame[0].track;
        }
        assert_eq!(last == Some(1), same, "counted as {steps}");
    }
}

#[test]
fn classes_are_kept_apart_unless_told_otherwise() {
    for (across, tracks) in [(false, [Some(1), None]), (true, [Some(1), Some(1)])] {
        let mut tracker = Tracker::new(config(&format!(r#"{{"across_classes": {across}}}"#)));
        let found = [0, 1].map(|class| {
            let mut frame = vec![Detection {
                class,
                ..seen(0.0, 0.0, 0.9)
            }];
            tracker.update(&mut frame, 1);
            frame[0].track
        });
        assert_eq!(found, tracks);
    }
}

#[test]
fn limits_that_contradict_each_other_are_named() {
    for (text, key) in [
        (r#"{"low": 0.6}"#, "low"),
        (r#"{"start": 0.4}"#, "start"),
        (r#"{"iou": 1.5}"#, "iou"),
    ] {
        let config: TrackConfig = serde_json::from_str(text).unwrap();
        assert_eq!(config.check()[0].key, key, "{text}");
    }
}

/// Keeps what was emitted.
#[derive(Default)]
struct Kept(Vec<Option<u64>>);

impl Emitter for Kept {
    fn emit(&mut self, packet: Packet) {
        let found = packet.payload::<Detections>().unwrap();
        self.0.push(found.items.first().and_then(|d| d.track));
    }
    fn drop_packet(&mut self, _: &Header, _: &'static str) {
        panic!("a tracker drops no packet");
    }
    fn fail(&mut self, _: &Header, error: StageError) {
        panic!("{error}");
    }
}

fn packet(stream: &str, epoch: u32, seq: u64) -> Packet {
    let id = PacketId {
        stream: stream.into(),
        epoch,
        seq,
    };
    let header = Header {
        id,
        captured: Instant::now(),
        pts: None,
    };
    let items = vec![seen(0.0, 0.0, 0.9)];
    Packet::new(header, Arc::new(Detections { items }))
}

fn stage() -> Track {
    Track {
        config: config("{}"),
        streams: HashMap::new(),
    }
}

#[test]
fn streams_are_followed_apart_and_a_new_epoch_begins_anew() {
    let (mut stage, mut out) = (stage(), Kept::default());
    for (stream, epoch, seq) in [("a", 0, 0), ("b", 0, 0), ("a", 0, 1), ("a", 1, 0), ("b", 0, 5)] {
        stage.process(packet(stream, epoch, seq), &mut out).unwrap();
    }
    assert_eq!(out.0, [Some(1), Some(1), Some(1), Some(2), Some(1)]);
}

#[test]
fn frames_out_of_order_are_refused() {
    let (mut stage, mut out) = (stage(), Kept::default());
    stage.process(packet("a", 0, 4), &mut out).unwrap();
    for seq in [4, 3] {
        let e = stage.process(packet("a", 0, seq), &mut out).unwrap_err();
        assert_eq!(e.code, Code("E0454"));
        assert!(e.recoverable && e.message.contains("after packet 4"), "{e}");
    }
    stage.process(packet("a", 0, 5), &mut out).unwrap();
    assert_eq!(out.0, [Some(1), Some(1)]);
}

proptest! {
    /// Whatever boxes come: no panic, no number twice in a frame, none that was not the next one, strong boxes stay.
    #[test]
    fn any_boxes(frames in proptest::collection::vec(
        proptest::collection::vec((-50f32..200.0, -50f32..200.0, -10f32..90.0, -10f32..90.0, 0f32..1.0, 0u32..2), 0..8), 1..12),
        steps in 1u64..40,
    ) {
        let mut tracker = Tracker::new(config("{}"));
        let mut last = 0;
        for frame in frames {
            let mut boxes: Vec<Detection> = frame.into_iter().map(|(x, y, w, h, score, class)| Detection {
                bbox: BBox { x1: x, y1: y, x2: x + w, y2: y + h },
                class,
                ..seen(0.0, 0.0, score)
            }).collect();
            let strong = boxes.iter().filter(|d| d.score >= 0.5).count();
            tracker.update(&mut boxes, steps);
            prop_assert!(boxes.iter().filter(|d| d.score >= 0.5).count() == strong);
            let mut ids: Vec<u64> = boxes.iter().filter_map(|d| d.track).collect();
            let count = ids.len();
            ids.sort_unstable();
            ids.dedup();
            prop_assert_eq!(ids.len(), count);
            if let Some(&highest) = ids.last() {
                prop_assert!(highest <= last + count as u64);
                last = last.max(highest);
            }
        }
    }
}
