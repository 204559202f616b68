//! The headers of all packets of a run, written down, so that another run can give and take the same ones
//! ([`replay`](super::replay)).
//!
//! One line of JSON for each packet that a source gives (`give`), and for each that a stage or sink takes (`take`), in the
//! order in which it happens. Payloads are not written: a replay reads the same media again.

use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use serde::{Deserialize, Serialize};

use crate::config::plan::PreparedPipeline;
use crate::error::StageError;
use crate::layer::{SinkLayer, SourceLayer, StageLayer};
use crate::ledger::lock;
use crate::packet::{Header, Packet, Payload};
use crate::registry::PreparedComponent;
use crate::stage::{Emitter, Progress, Sink, Source, SourceEmitter, Stage};
use std::time::Duration;

/// First line of a record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Heading {
    /// Version of the format: 1.
    pub record: u32,
    /// Name of the pipeline.
    pub pipeline: String,
}

/// Any other line of a record.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// The source that gave the packet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub give: Option<String>,
    /// The stage or sink that took it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub take: Option<String>,
    /// Its stream; left out where it is the source's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream: Option<String>,
    /// Its epoch.
    pub epoch: u32,
    /// Its place in the stream.
    pub seq: u64,
    /// Presentation time in nanoseconds, where a source gave it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pts: Option<u64>,
}

/// A record under way.
pub struct Recorder {
    out: Mutex<Out>,
}

struct Out {
    file: Box<dyn Write + Send>,
    failed: Option<io::Error>,
}

impl Recorder {
    /// Wraps all instances of a pipeline so that what they give and take is written to `file`.
    ///
    /// # Errors
    /// When the first line cannot be written. Later failures are told by [`Recorder::finish`].
    pub fn of(prepared: &mut PreparedPipeline, mut file: Box<dyn Write + Send>) -> io::Result<Arc<Self>> {
        let heading = Heading {
            record: 1,
            pipeline: prepared.pipeline.name.clone(),
        };
        writeln!(file, "{}", serde_json::to_string(&heading)?)?;
        let this = Arc::new(Self {
            out: Mutex::new(Out { file, failed: None }),
        });
        let parts = std::mem::take(&mut prepared.parts).into_iter();
        prepared.parts = parts
            .zip(&prepared.pipeline.components)
            .map(|(part, component)| {
                let (recorder, name) = (this.clone(), component.name.to_string());
                let note = move || Note {
                    recorder: recorder.clone(),
                    name: name.clone(),
                };
                match part {
                    PreparedComponent::Source(part) => PreparedComponent::Source(
                        part.layered(move |_, inner| Box::new(Recorded { inner, note: note() })),
                    ),
                    PreparedComponent::Stage(part) => PreparedComponent::Stage(
                        part.layered(move |_, inner| Box::new(Recorded { inner, note: note() })),
                    ),
                    PreparedComponent::Sink(part) => PreparedComponent::Sink(
                        part.layered(move |_, inner| Box::new(Recorded { inner, note: note() })),
                    ),
                }
            })
            .collect();
        Ok(this)
    }

    /// Writes what is held back.
    ///
    /// # Errors
    /// When any of the record could not be written.
    pub fn finish(&self) -> io::Result<()> {
        let mut out = lock(&self.out);
        match out.failed.take() {
            Some(error) => Err(error),
            None => out.file.flush(),
        }
    }

    fn write(&self, entry: &Entry) {
        let mut out = lock(&self.out);
        if out.failed.is_some() {
            return;
        }
        let line = serde_json::to_string(entry).map_err(io::Error::from);
        if let Err(error) = line.and_then(|line| writeln!(out.file, "{line}")) {
            tracing::error!("The record ends here: {error}");
            out.failed = Some(error);
        }
    }
}

struct Note {
    recorder: Arc<Recorder>,
    name: String,
}

impl Note {
    fn take(&self, header: &Header) {
        self.recorder.write(&Entry {
            give: None,
            take: Some(self.name.clone()),
            stream: Some(header.id.stream.to_string()),
            epoch: header.id.epoch,
            seq: header.id.seq,
            pts: None,
        });
    }
}

struct Recorded<T: ?Sized> {
    inner: Box<T>,
    note: Note,
}

/// Notes what a source gives.
struct Giving<'a> {
    out: &'a mut dyn SourceEmitter,
    note: &'a Note,
}

impl SourceEmitter for Giving<'_> {
    fn emit(
        &mut self,
        pts: Option<Duration>,
        payload: Arc<dyn Payload>,
        attach: &mut dyn FnMut(&mut Packet),
    ) {
        let note = self.note;
        self.out.emit(pts, payload, &mut |packet| {
            attach(packet);
            let id = &packet.header.id;
            note.recorder.write(&Entry {
                give: Some(note.name.clone()),
                take: None,
                stream: None,
                epoch: id.epoch,
                seq: id.seq,
                pts: packet
                    .header
                    .pts
                    .map(|pts| u64::try_from(pts.as_nanos()).unwrap_or(u64::MAX)),
            });
        });
    }
    fn fail(&mut self, pts: Option<Duration>, error: StageError) {
        self.out.fail(pts, error);
    }
    fn discontinuity(&mut self) {
        self.out.discontinuity();
    }
}

impl SourceLayer for Recorded<dyn Source> {
    fn inner(&self) -> &dyn Source {
        &*self.inner
    }
    fn inner_mut(&mut self) -> &mut dyn Source {
        &mut *self.inner
    }
    fn next(&mut self, out: &mut dyn SourceEmitter) -> Result<Progress, StageError> {
        let mut out = Giving {
            out,
            note: &self.note,
        };
        self.inner.next(&mut out)
    }
}

impl StageLayer for Recorded<dyn Stage> {
    fn inner(&mut self) -> &mut dyn Stage {
        &mut *self.inner
    }
    fn process(&mut self, packet: Packet, out: &mut dyn Emitter) -> Result<(), StageError> {
        self.note.take(&packet.header);
        self.inner.process(packet, out)
    }
    fn process_batch(&mut self, packets: &[Packet], out: &mut dyn Emitter) -> Result<(), StageError> {
        for packet in packets {
            self.note.take(&packet.header);
        }
        self.inner.process_batch(packets, out)
    }
}

impl SinkLayer for Recorded<dyn Sink> {
    fn inner(&mut self) -> &mut dyn Sink {
        &mut *self.inner
    }
    fn consume(&mut self, packet: Packet) -> Result<(), StageError> {
        self.note.take(&packet.header);
        self.inner.consume(packet)
    }
}
