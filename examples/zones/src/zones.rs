//! `type: zones`: what crosses lines and stays in zones.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::time::Duration;

use flow::error::{Code, PrepareError, StageError};
use flow::packet::{Packet, PacketId, StreamId};
use flow::ports::Ports;
use flow::registry::{Config, ConfigIssue, KindInfo, PrepareContext, Prepared, Registry, Replication};
use flow::stage::Sink;
use flow_frame::{DETECTIONS, Detection, Detections};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::geometry::{Point, Side, meets, side, within};

/// Writes a line of JSON whenever a tracked thing crosses a line, enters a zone or leaves it, and totals at the end.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ZonesConfig {
    /// The file; `-` is standard output.
    pub path: String,
    /// Lines by name, `[[x1, y1], [x2, y2]]` in pixels of the source frame.
    #[serde(default)]
    pub lines: BTreeMap<String, [Point; 2]>,
    /// Polygons by name, each a list of corners in pixels of the source frame.
    #[serde(default)]
    pub zones: BTreeMap<String, Vec<Point>>,
    /// A thing that is not seen for so many frames has gone.
    #[serde(default = "default_forget")]
    pub forget: u64,
}

fn default_forget() -> u64 {
    30
}

/// Code of: a line or zone that cannot be one.
const SHAPE: Code = Code("X0010");
/// Code of: a packet without detections, or without tracks.
const NO_TRACKS: Code = Code("X0011");
/// Code of: the file cannot be written.
const OUTPUT: Code = Code("X0012");

impl Config for ZonesConfig {
    fn check(&self) -> Vec<ConfigIssue> {
        let issue = |key: String, message: String, help: &str| ConfigIssue {
            code: SHAPE,
            key,
            message,
            help: Some(help.into()),
        };
        let lines = self.lines.iter().filter(|(_, [a, b])| a == b).map(|(name, _)| {
            let message = format!("both ends of the line `{name}` are the same");
            issue(format!("lines.{name}"), message, "give two points")
        });
        let zones = self
            .zones
            .iter()
            .filter(|(_, corners)| corners.len() < 3)
            .map(|(name, corners)| {
                let message = format!("the zone `{name}` has {} corners", corners.len());
                issue(format!("zones.{name}"), message, "give three or more")
            });
        lines.chain(zones).collect()
    }
}

/// Registers the kind.
pub fn register(registry: &mut Registry) {
    let info = KindInfo {
        name: "zones",
        summary: "Counts what crosses lines and stays in zones",
        ports: Ports {
            takes: &[DETECTIONS],
            gives: &[],
        },
        replication: Replication::Single,
    };
    registry.sink::<ZonesConfig>(info, prepare);
}

fn prepare(config: &ZonesConfig, _: &PrepareContext<'_>) -> Result<Prepared<dyn Sink>, PrepareError> {
    let path = config.path.clone();
    let config = config.clone();
    Ok(Prepared::new(move |_| {
        let out: Box<dyn Write + Send> = match config.path.as_str() {
            "-" => Box::new(io::stdout()),
            path => Box::new(BufWriter::new(File::create(path).map_err(unwritable)?)),
        };
        Ok(Box::new(Zones::new(config.clone(), out)) as Box<dyn Sink>)
    })
    .writes(path))
}

fn unwritable(e: io::Error) -> StageError {
    StageError::fatal(OUTPUT, format!("the events cannot be written: {e}"))
}

struct Zones {
    config: ZonesConfig,
    out: Box<dyn Write + Send>,
    streams: HashMap<StreamId, Watched>,
}

/// One stream as far as it has come.
#[derive(Default)]
struct Watched {
    /// By number, so that events of one frame come in a fixed order.
    things: BTreeMap<u64, Thing>,
    lines: BTreeMap<String, Crossings>,
    zones: BTreeMap<String, Visits>,
}

#[derive(Default)]
struct Crossings {
    left: u64,
    right: u64,
}

#[derive(Default)]
struct Visits {
    count: u64,
    time: Duration,
}

/// What is known of one track.
struct Thing {
    label: String,
    last: PacketId,
    last_pts: Duration,
    /// By line: the side it was last seen on, and where.
    sides: BTreeMap<String, (Side, Point)>,
    /// Zones it is in, and since when.
    inside: BTreeMap<String, Duration>,
}

impl Thing {
    fn event(&self, track: u64, what: &str, more: Value) -> Value {
        let mut event = json!({
            "stream": &*self.last.stream, "seq": self.last.seq, "pts": self.last_pts.as_secs_f64(),
            "track": track, "label": self.label, "event": what,
        });
        if let (Some(event), Value::Object(more)) = (event.as_object_mut(), more) {
            event.extend(more);
        }
        event
    }
}

impl Watched {
    /// Takes one thing that was found; gives what happened.
    fn see(&mut self, config: &ZonesConfig, packet: &Packet, found: &Detection, track: u64) -> Vec<Value> {
        let mut events = Vec::new();
        let pts = packet.header.pts.unwrap_or_default();
        let b = found.bbox;
        let at = [f64::from(b.x1 + b.x2) / 2.0, f64::from(b.y2)];
        let thing = self.things.entry(track).or_insert_with(|| Thing {
            label: found.label.to_string(),
            last: packet.header.id.clone(),
            last_pts: pts,
            sides: BTreeMap::new(),
            inside: BTreeMap::new(),
        });
        (thing.last, thing.last_pts) = (packet.header.id.clone(), pts);
        for (name, &line) in &config.lines {
            // On the line itself it is where it was.
            let Some(now) = side(line, at) else { continue };
            let before = thing.sides.insert(name.clone(), (now, at));
            if let Some((before, from)) = before
                && before != now
                && meets(line, from, at)
            {
                let crossings = self.lines.entry(name.clone()).or_default();
                let to = match now {
                    Side::Left => (&mut crossings.left, "left"),
                    Side::Right => (&mut crossings.right, "right"),
                };
                *to.0 += 1;
                events.push(thing.event(track, "cross", json!({"line": name, "to": to.1})));
            }
        }
        for (name, corners) in &config.zones {
            match (within(corners, at), thing.inside.get(name).copied()) {
                (true, None) => {
                    thing.inside.insert(name.clone(), pts);
                    self.zones.entry(name.clone()).or_default().count += 1;
                    events.push(thing.event(track, "enter", json!({"zone": name})));
                }
                (false, Some(since)) => {
                    thing.inside.remove(name);
                    events.push(leave(&mut self.zones, thing, track, name, since));
                }
                _ => {}
            }
        }
        events
    }

    /// Lets go of things that were last seen before `seq`, or in another epoch; gives the zones they left.
    fn forget(&mut self, epoch: u32, seq: u64) -> Vec<Value> {
        let mut events = Vec::new();
        let zones = &mut self.zones;
        self.things.retain(|&track, thing| {
            let stays = thing.last.epoch == epoch && thing.last.seq >= seq;
            if !stays {
                for (name, since) in std::mem::take(&mut thing.inside) {
                    events.push(leave(zones, thing, track, &name, since));
                }
            }
            stays
        });
        events
    }
}

/// A thing leaves a zone: when it was last seen.
fn leave(
    zones: &mut BTreeMap<String, Visits>,
    thing: &Thing,
    track: u64,
    name: &str,
    since: Duration,
) -> Value {
    let time = thing.last_pts.saturating_sub(since);
    zones.entry(name.to_owned()).or_default().time += time;
    thing.event(
        track,
        "leave",
        json!({"zone": name, "seconds": time.as_secs_f64()}),
    )
}

impl Zones {
    fn new(config: ZonesConfig, out: Box<dyn Write + Send>) -> Self {
        Self {
            config,
            out,
            streams: HashMap::new(),
        }
    }

    fn write(&mut self, events: &[Value]) -> Result<(), StageError> {
        for event in events {
            writeln!(self.out, "{event}").map_err(unwritable)?;
        }
        self.out.flush().map_err(unwritable)
    }
}

impl Sink for Zones {
    fn consume(&mut self, packet: Packet) -> Result<(), StageError> {
        let Some(found) = packet.payload::<Detections>() else {
            return Err(StageError::packet(
                NO_TRACKS,
                "expected detections; put `track` before `zones`",
            ));
        };
        let id = &packet.header.id;
        let watched = self.streams.entry(id.stream.clone()).or_default();
        let mut events = watched.forget(id.epoch, id.seq.saturating_sub(self.config.forget));
        for detection in &found.items {
            if let Some(track) = detection.track {
                events.extend(watched.see(&self.config, &packet, detection, track));
            }
        }
        self.write(&events)
    }

    fn end_of_stream(&mut self, stream: &StreamId) -> Result<(), StageError> {
        let mut watched = self.streams.remove(stream).unwrap_or_default();
        let mut events = watched.forget(u32::MAX, u64::MAX);
        let lines: BTreeMap<_, _> = watched
            .lines
            .iter()
            .map(|(name, n)| (name, json!({"left": n.left, "right": n.right})))
            .collect();
        let zones: BTreeMap<_, _> = watched
            .zones
            .iter()
            .map(|(name, v)| (name, json!({"visits": v.count, "seconds": v.time.as_secs_f64()})))
            .collect();
        events.push(json!({"stream": &**stream, "event": "total", "lines": lines, "zones": zones}));
        self.write(&events)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flow::packet::Header;
    use flow_frame::BBox;
    use std::sync::{Arc, Mutex};

    /// Bytes that a test reads afterwards.
    #[derive(Clone, Default)]
    struct Shared(Arc<Mutex<Vec<u8>>>);

    impl Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// What the sink writes about things at these places, by frame: (track, x, y of the middle of the lower edge).
    fn events(frames: &[&[(u64, f32, f32)]]) -> Vec<Value> {
        let config: ZonesConfig = serde_json::from_str(
            r#"{"path": "-", "forget": 2, "lines": {"door": [[50, 0], [50, 40]]},
                "zones": {"shop": [[0, 0], [40, 0], [40, 100], [0, 100]]}}"#,
        )
        .unwrap();
        assert!(config.check().is_empty());
        let out = Shared::default();
        let mut zones = Zones::new(config, Box::new(out.clone()));
        for (seq, frame) in frames.iter().enumerate() {
            let found = frame.iter().map(|&(track, x, y)| Detection {
                bbox: BBox {
                    x1: x - 5.0,
                    y1: y - 20.0,
                    x2: x + 5.0,
                    y2: y,
                },
                class: 0,
                label: "person".into(),
                score: 0.9,
                track: Some(track),
            });
            let id = PacketId {
                stream: "cam".into(),
                epoch: 0,
                seq: seq as u64,
            };
            let header = Header {
                id,
                captured: std::time::Instant::now(),
                pts: Some(Duration::from_secs(seq as u64)),
            };
            let items = found.collect();
            zones
                .consume(Packet::new(header, Arc::new(Detections { items })))
                .unwrap();
        }
        zones.end_of_stream(&"cam".into()).unwrap();
        let text = String::from_utf8(out.0.lock().unwrap().clone()).unwrap();
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    fn short(events: &[Value]) -> Vec<String> {
        events
            .iter()
            .map(|e| {
                let what = e["event"].as_str().unwrap();
                match what {
                    "cross" => format!(
                        "{}: {} to {}",
                        e["track"],
                        e["line"].as_str().unwrap(),
                        e["to"].as_str().unwrap()
                    ),
                    "enter" => format!("{}: enter", e["track"]),
                    "leave" => format!("{}: leave after {}", e["track"], e["seconds"]),
                    _ => format!("total {} {}", e["lines"], e["zones"]),
                }
            })
            .collect()
    }

    #[test]
    fn a_walk_through_the_door_and_back() {
        let way = [
            (1, 70.0, 20.0),
            (1, 50.0, 20.0),
            (1, 45.0, 20.0),
            (1, 30.0, 20.0),
            (1, 45.0, 30.0),
            (1, 60.0, 30.0),
        ];
        let frames: Vec<&[(u64, f32, f32)]> = way.iter().map(std::slice::from_ref).collect();
        assert_eq!(
            short(&events(&frames)),
            [
                "1: door to right",
                "1: enter",
                "1: leave after 1.0",
                "1: door to left",
                r#"total {"door":{"left":1,"right":1}} {"shop":{"visits":1,"seconds":1.0}}"#
            ]
        );
    }

    #[test]
    fn around_the_door_is_not_through_it() {
        let frames: [&[_]; 2] = [&[(1, 70.0, 90.0)], &[(1, 45.0, 90.0)]];
        assert_eq!(short(&events(&frames)), ["total {} {}"]);
    }

    #[test]
    fn one_that_is_lost_left_when_it_was_last_seen_and_two_are_kept_apart() {
        let frames: [&[_]; 6] = [
            &[(1, 10.0, 50.0), (2, 70.0, 20.0)],
            &[(1, 11.0, 50.0), (2, 30.0, 20.0)],
            &[(2, 31.0, 20.0)],
            &[(2, 31.0, 20.0)],
            &[(2, 31.0, 20.0)],
            &[(2, 31.0, 20.0)],
        ];
        assert_eq!(
            short(&events(&frames)),
            [
                "1: enter",
                "2: door to right",
                "2: enter",
                "1: leave after 1.0",
                "2: leave after 4.0",
                r#"total {"door":{"left":0,"right":1}} {"shop":{"visits":2,"seconds":5.0}}"#
            ]
        );
    }

    #[test]
    fn shapes_that_are_none_are_named() {
        let config: ZonesConfig = serde_json::from_str(
            r#"{"path": "-", "lines": {"a": [[1, 1], [1, 1]]}, "zones": {"b": [[0, 0], [1, 1]]}}"#,
        )
        .unwrap();
        let keys: Vec<_> = config.check().into_iter().map(|i| i.key).collect();
        assert_eq!(keys, ["lines.a", "zones.b"]);
    }
}
