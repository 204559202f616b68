//! What travels along an edge.

use std::any::{Any, TypeId};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use crossbeam::queue::ArrayQueue;

use crate::ports::PortType;

pub use crate::stream_id::StreamId;

/// Identity of a packet. `seq` rises by one from packet to packet of one `(stream, epoch)`, without gaps.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PacketId {
    /// The stream the packet belongs to.
    pub stream: StreamId,
    /// Grows when the stream starts anew: reconnect, loop wrap with a discontinuity, restart.
    pub epoch: u32,
    /// Place of the packet in its `(stream, epoch)`, from 0, gapless.
    pub seq: u64,
}

/// Everything of a packet but its payload; copied freely.
#[derive(Debug, Clone)]
pub struct Header {
    /// Identity: stream, epoch and sequence number.
    pub id: PacketId,
    /// Monotonic time at which the source took the packet in; the start of its latency.
    pub captured: Instant,
    /// Presentation time since the start of the stream, where the medium has one.
    pub pts: Option<Duration>,
}

/// A value that can travel in a packet: shared by reference, never copied between stages.
pub trait Payload: Any + Send + Sync {
    /// The port type this value belongs to; edges are checked against it.
    fn port_type(&self) -> PortType;
    /// Memory the payload keeps alive, in bytes; queues limited in bytes count it.
    fn bytes(&self) -> usize;
    /// Equal for values of one shape and kind of elements, and only for those; 0 where it says nothing. A batch never
    /// mixes shapes, and a stage is told when the shape changes in the midst of a stream.
    fn shape_key(&self) -> u64 {
        0
    }
    /// The value as files that people and other programs read, such as a picture; `packet` is the one that carries it, for
    /// what is attached. Dead letters are made of them, so it may take time. Empty where there is no such form.
    fn files(&self, _packet: &Packet) -> Vec<PayloadFile> {
        Vec::new()
    }
}

/// A file that [`Payload::files`] makes of a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PayloadFile {
    /// Its name, such as `frame.png`: letters, digits, `-`, `_` and `.`.
    pub name: String,
    /// What it holds, for people: `frame 640x480 i420`.
    pub about: String,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// What the inputs of a join gave for one packet, in the order of `inputs`, those that carry its stream; attached to
/// the packet that goes on, which is the first of them.
#[derive(Debug, Clone)]
pub struct Joined {
    /// `None`: dropped on that way; only with `join: any`.
    pub parts: Vec<Option<Packet>>,
}

/// A [`Payload::shape_key`] of numbers that say the shape in full; never 0. FNV-1a over their bytes: two shapes of a
/// pipeline share a key with a probability of 2^-64.
pub fn shape_key(parts: impl IntoIterator<Item = u64>) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in parts.into_iter().flat_map(u64::to_le_bytes) {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    hash.max(1)
}

/// A packet: header, payload and attachments.
///
/// Attachments are values that stay with the packet while stages replace its payload, one per type:
/// the source frame, the geometry of a letterbox, ground truth.
#[derive(Clone)]
pub struct Packet {
    /// Identity and times.
    pub header: Header,
    payload: Arc<dyn Payload>,
    attachments: Attachments,
}

type Attachment = (TypeId, Arc<dyn Any + Send + Sync>);

/// Lists of attachments that are kept for later, in the whole process; further ones cost an allocation each.
const LISTS: usize = 1024;

/// Attachments for which a list has room from the start.
const ROOM: usize = 6;

/// The attachments of a packet: shared, so that handing it to several consumers allocates nothing, and copied on
/// attach. A list that nobody needs any more is kept for another packet.
#[derive(Clone, Default)]
struct Attachments(Option<Arc<Vec<Attachment>>>);

impl Attachments {
    fn kept() -> &'static ArrayQueue<Arc<Vec<Attachment>>> {
        static KEPT: OnceLock<ArrayQueue<Arc<Vec<Attachment>>>> = OnceLock::new();
        KEPT.get_or_init(|| ArrayQueue::new(LISTS))
    }

    fn get(&self, id: TypeId) -> Option<&Arc<dyn Any + Send + Sync>> {
        let (_, value) = self.0.as_ref()?.iter().find(|(of, _)| *of == id)?;
        Some(value)
    }

    fn put(&mut self, id: TypeId, value: Arc<dyn Any + Send + Sync>) {
        if let Some(list) = self.0.as_mut().and_then(Arc::get_mut) {
            return put(list, id, value);
        }
        let mut own = Self::kept()
            .pop()
            .unwrap_or_else(|| Arc::new(Vec::with_capacity(ROOM)));
        if let Some(list) = Arc::get_mut(&mut own) {
            list.extend(self.0.iter().flat_map(|shared| shared.iter().cloned()));
            put(list, id, value);
        }
        *self = Self(Some(own));
    }
}

fn put(list: &mut Vec<Attachment>, id: TypeId, value: Arc<dyn Any + Send + Sync>) {
    match list.iter_mut().find(|(of, _)| *of == id) {
        Some((_, old)) => *old = value,
        None => list.push((id, value)),
    }
}

impl Drop for Attachments {
    fn drop(&mut self) {
        // Of two threads that let go at once neither may be the last here: then the list is freed.
        if let Some(mut own) = self.0.take()
            && let Some(list) = Arc::get_mut(&mut own)
        {
            list.clear();
            // Without room it is let go.
            let _ = Self::kept().push(own);
        }
    }
}

impl Packet {
    /// A packet without attachments.
    pub fn new(header: Header, payload: Arc<dyn Payload>) -> Self {
        Self {
            header,
            payload,
            attachments: Attachments::default(),
        }
    }

    /// The payload, if it is a `T`.
    pub fn payload<T: Payload>(&self) -> Option<&T> {
        let any: &dyn Any = &*self.payload;
        any.downcast_ref()
    }

    /// The payload as a shared `T`, if it is one.
    pub fn shared_payload<T: Payload>(&self) -> Option<Arc<T>> {
        let any: Arc<dyn Any + Send + Sync> = self.payload.clone();
        any.downcast().ok()
    }

    /// The payload behind its trait.
    pub fn raw_payload(&self) -> &Arc<dyn Payload> {
        &self.payload
    }

    /// The same packet with another payload; attachments stay.
    #[must_use]
    pub fn with_payload(mut self, payload: Arc<dyn Payload>) -> Self {
        self.payload = payload;
        self
    }

    /// Attaches `value`, replacing an attachment of the same type.
    pub fn attach<T: Any + Send + Sync>(&mut self, value: Arc<T>) {
        self.attachments.put(TypeId::of::<T>(), value);
    }

    /// The attachment of type `T`, if there is one.
    pub fn attachment<T: Any + Send + Sync>(&self) -> Option<Arc<T>> {
        self.attachments.get(TypeId::of::<T>())?.clone().downcast().ok()
    }
}

impl std::fmt::Debug for Packet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Packet")
            .field("header", &self.header)
            .field("payload", &self.payload.port_type())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Number(u32);
    impl Payload for Number {
        fn port_type(&self) -> PortType {
            PortType("number")
        }
        fn bytes(&self) -> usize {
            size_of::<Self>()
        }
    }

    fn packet() -> Packet {
        let id = PacketId {
            stream: "cam".into(),
            epoch: 0,
            seq: 7,
        };
        let header = Header {
            id,
            captured: Instant::now(),
            pts: None,
        };
        Packet::new(header, Arc::new(Number(3)))
    }

    #[test]
    fn attachments_are_one_per_type_and_stay_with_their_own_copy() {
        let mut first = packet();
        first.attach(Arc::new(1_u8));
        let mut second = first.clone();
        second.attach(Arc::new(2_u8));
        second.attach(Arc::new("label"));
        assert_eq!(first.attachment::<u8>().as_deref(), Some(&1));
        assert_eq!(first.attachment::<&str>(), None);
        assert_eq!(second.attachment::<u8>().as_deref(), Some(&2));
        assert_eq!(second.attachment::<&str>().as_deref(), Some(&"label"));
    }

    #[test]
    fn a_payload_is_seen_only_as_its_own_type() {
        let packet = packet();
        assert_eq!(packet.payload::<Number>().map(|n| n.0), Some(3));
        assert_eq!(packet.shared_payload::<Number>().map(|n| n.0), Some(3));
        struct Other;
        impl Payload for Other {
            fn port_type(&self) -> PortType {
                PortType("other")
            }
            fn bytes(&self) -> usize {
                0
            }
        }
        assert!(packet.payload::<Other>().is_none());
    }
}
