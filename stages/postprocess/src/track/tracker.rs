//! Tracks of one stream.

use flow_frame::{BBox, Detection};

use super::assign::assign;
use super::kalman::Kalman;
use super::{Method, TrackConfig};

/// Least product of overlap and score at which a box confirms a track that was seen once.
const CONFIRM: f32 = 0.3;
/// Two tracks that overlap by more than this are one; the older stays.
const SAME: f32 = 0.85;
/// Most tracks of a stream, and most boxes of a frame, that are paired: the best. The time that a frame takes stays bounded.
const MAX_TRACKS: usize = 1024;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Seen once; the next frame confirms or ends it.
    New,
    /// Seen in the last frame.
    Tracked,
    /// Not seen for some frames.
    Lost,
}

#[derive(Debug, Clone)]
struct Track {
    /// 0 until it is confirmed.
    id: u64,
    class: u32,
    state: State,
    kalman: Kalman,
    /// Where it was last seen.
    seen_at: BBox,
    /// Frames since it was last seen.
    unseen: u64,
    /// Frames since it began.
    age: u64,
}

impl Track {
    fn new(detection: &Detection) -> Self {
        Self {
            id: 0,
            class: detection.class,
            state: State::New,
            kalman: Kalman::new(&detection.bbox),
            seen_at: detection.bbox,
            unseen: 0,
            age: 0,
        }
    }

    fn place(&self, method: Method) -> BBox {
        match method {
            Method::ByteTrack => self.kalman.bbox(),
            Method::Iou => self.seen_at,
        }
    }
}

/// Follows the boxes of one stream from frame to frame.
#[derive(Debug)]
pub(crate) struct Tracker {
    config: TrackConfig,
    tracks: Vec<Track>,
    last_id: u64,
    /// Whether no frame has been seen since the start or a reset.
    fresh: bool,
}

impl Tracker {
    pub(crate) fn new(config: TrackConfig) -> Self {
        Self {
            config,
            tracks: Vec::new(),
            last_id: 0,
            fresh: true,
        }
    }

    /// Forgets all tracks. Their ids are not given again.
    pub(crate) fn reset(&mut self) {
        self.tracks.clear();
        self.fresh = true;
    }

    /// Takes the boxes of a frame that is `steps` frames after the last one, gives them their tracks, and takes away weak
    /// boxes that belong to none.
    pub(crate) fn update(&mut self, found: &mut Vec<Detection>, steps: u64) {
        self.predict(steps);
        let (high, low) = (self.config.high, self.config.low);
        let sound = |d: &Detection| {
            let BBox { x1, y1, x2, y2 } = d.bbox;
            [x1, y1, x2, y2].iter().all(|v| v.is_finite()) && x2 > x1 && y2 > y1
        };
        let indices = |wanted: &dyn Fn(f32) -> bool| -> Vec<usize> {
            let numbered = found.iter().enumerate();
            let chosen = numbered.filter(|(_, d)| sound(d) && wanted(d.score));
            chosen.map(|(i, _)| i).take(MAX_TRACKS).collect()
        };
        let mut strong = indices(&|score| score >= high);
        let weak = indices(&|score| score < high && score >= low);
        for detection in found.iter_mut() {
            detection.track = None;
        }

        // Strong boxes against all tracks, with their score as a weight.
        let known = self.indices(|state| state != State::New);
        self.associate(found, &known, &mut strong, 1.0 - self.config.iou, true);
        if self.config.method == Method::ByteTrack {
            // Weak boxes, as of people half hidden, only against what was seen in the last frame.
            let mut weak = weak;
            let left = self.indices(|state| state == State::Tracked);
            let left: Vec<usize> = left.into_iter().filter(|&t| self.tracks[t].unseen > 0).collect();
            self.associate(found, &left, &mut weak, 1.0 - self.config.iou_weak, false);
        }
        let new = self.indices(|state| state == State::New);
        self.associate(found, &new, &mut strong, 1.0 - CONFIRM, true);

        for track in &mut self.tracks {
            if track.unseen > 0 && track.state == State::Tracked {
                track.state = State::Lost;
            }
        }
        let keep = u64::from(self.config.keep);
        self.tracks
            .retain(|t| t.unseen == 0 || (t.state == State::Lost && t.unseen <= keep));
        self.begin(found, &strong);
        self.fresh = false;
        self.merge();
        found.retain(|d| d.track.is_some() || d.score >= high);
    }

    fn indices(&self, wanted: impl Fn(State) -> bool) -> Vec<usize> {
        let numbered = self.tracks.iter().enumerate();
        let chosen = numbered.filter(|(_, t)| wanted(t.state));
        chosen.map(|(i, _)| i).collect()
    }

    fn predict(&mut self, steps: u64) {
        // Beyond this all tracks end anyway.
        let most = u64::from(self.config.keep) + 1;
        for track in &mut self.tracks {
            for _ in 0..steps.min(most) {
                if track.state != State::New {
                    track.kalman.predict(track.state == State::Tracked);
                }
            }
            track.unseen = track.unseen.saturating_add(steps);
            track.age = track.age.saturating_add(steps);
        }
    }

    /// Pairs tracks with boxes; boxes that found one are taken out of the list.
    fn associate(
        &mut self,
        found: &mut [Detection],
        tracks: &[usize],
        boxes: &mut Vec<usize>,
        limit: f32,
        by_score: bool,
    ) {
        let method = self.config.method;
        let places: Vec<BBox> = tracks.iter().map(|&t| self.tracks[t].place(method)).collect();
        let across = self.config.across_classes;
        // Equal to the limit counts as a match.
        let limit = f64::from(limit) + 1e-6;
        let pairs = assign(tracks.len(), boxes.len(), limit, |t, b| {
            let (track, detection) = (&self.tracks[tracks[t]], &found[boxes[b]]);
            if !across && track.class != detection.class {
                return None;
            }
            let overlap = places[t].iou(&detection.bbox);
            let weight = if by_score && method == Method::ByteTrack {
                detection.score
            } else {
                1.0
            };
            (overlap > 0.0).then(|| 1.0 - f64::from(overlap * weight))
        });
        let mut taken = vec![false; boxes.len()];
        for (&t, b) in tracks.iter().zip(pairs) {
            let Some(b) = b else { continue };
            taken[b] = true;
            let (track, detection) = (&mut self.tracks[t], &mut found[boxes[b]]);
            track.kalman.update(&detection.bbox);
            track.seen_at = detection.bbox;
            (track.state, track.unseen) = (State::Tracked, 0);
            if track.id == 0 {
                self.last_id += 1;
                track.id = self.last_id;
            }
            detection.track = Some(track.id);
        }
        let mut taken = taken.into_iter();
        boxes.retain(|_| !taken.next().unwrap_or(false));
    }

    /// Starts a track for each strong box that has none. Those of the first frame need no second one to be confirmed.
    fn begin(&mut self, found: &mut [Detection], boxes: &[usize]) {
        for &b in boxes {
            let detection = &mut found[b];
            if detection.score < self.config.start || self.tracks.len() >= MAX_TRACKS {
                continue;
            }
            let mut track = Track::new(detection);
            if self.fresh {
                self.last_id += 1;
                (track.id, track.state) = (self.last_id, State::Tracked);
                detection.track = Some(track.id);
            }
            self.tracks.push(track);
        }
    }

    /// Ends the younger of a lost and a tracked one that lie on each other.
    fn merge(&mut self) {
        let method = self.config.method;
        let of = |state| self.indices(move |s| s == state);
        let (tracked, lost) = (of(State::Tracked), of(State::Lost));
        let mut ended = Vec::new();
        for &l in &lost {
            let place = self.tracks[l].place(method);
            let twin = |t: &usize| {
                let other = &self.tracks[*t];
                let same_class = self.config.across_classes || other.class == self.tracks[l].class;
                same_class && other.place(method).iou(&place) > SAME
            };
            if let Some(&t) = tracked.iter().find(|t| twin(t)) {
                ended.push(if self.tracks[t].age > self.tracks[l].age {
                    l
                } else {
                    t
                });
            }
        }
        let mut index = 0;
        self.tracks.retain(|_| {
            index += 1;
            !ended.contains(&(index - 1))
        });
    }
}
