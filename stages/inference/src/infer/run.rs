//! The instance of a replica: tensors in, outputs out.

use std::sync::Arc;

use flow::error::{Code, StageError};
use flow::packet::Packet;
use flow::recycle::Recycler;
use flow::stage::{Emitter, Stage};
use flow_cpu::Input;
use flow_frame::{Buffer, DType, Layout, Tensor, TensorSpec, Tensors};

use super::networks::SharedNetworks;
use crate::engine::Session;
use crate::error::EngineError;

/// Sets of outputs that are kept to be used again, for a batch of one.
const KEPT: usize = 16;

/// Most sets that are kept.
const MOST_KEPT: usize = 128;

pub(super) struct Infer {
    networks: SharedNetworks,
    /// By length of the batch; a replica uses few.
    sessions: Vec<(usize, Session)>,
    spec: TensorSpec,
    outputs: Arc<[(Arc<str>, DType)]>,
    given: Recycler<Tensors>,
    /// The tensors of a batch, one behind the other.
    gathered: Vec<u8>,
    shape: Vec<usize>,
}

impl Infer {
    pub(super) fn new(networks: SharedNetworks, spec: TensorSpec, outputs: Arc<[(Arc<str>, DType)]>) -> Self {
        let kept = networks.longest().saturating_mul(KEPT).min(MOST_KEPT);
        Self {
            networks,
            sessions: Vec::new(),
            spec,
            given: Recycler::new(kept),
            outputs,
            gathered: Vec::new(),
            shape: Vec::new(),
        }
    }

    /// The tensor of a packet and whether it holds codes, if it fits the network.
    fn tensor<'a>(&self, packet: &'a Packet) -> Result<(&'a Tensor, bool), StageError> {
        let tensor = packet.payload::<Tensor>().ok_or_else(|| {
            StageError::packet(
                Code("E0648"),
                "the packet holds no tensor; put `convert` before this stage",
            )
        })?;
        let codes =
            tensor.dtype == DType::U8 && self.spec.dtype != DType::U8 && self.spec.quantization.is_some();
        let same_shape = tensor.shape.len() == self.spec.shape.len()
            && tensor
                .shape
                .iter()
                .zip(&self.spec.shape)
                .all(|(a, b)| b.is_none_or(|b| *a == b));
        if same_shape && (tensor.dtype == self.spec.dtype || codes) {
            return Ok((tensor, codes));
        }
        Err(StageError::packet(
            Code("E0649"),
            format!(
                "the network takes {}, found {}{:?}; set `size: model` in the stage before",
                self.spec,
                tensor.dtype.name(),
                tensor.shape
            ),
        ))
    }

    fn session(&mut self, length: usize) -> Result<usize, EngineError> {
        if let Some(place) = self.sessions.iter().position(|(of, _)| *of == length) {
            return Ok(place);
        }
        self.sessions
            .push((length, self.networks.engine(length)?.session()));
        Ok(self.sessions.len() - 1)
    }

    /// Runs the network on the tensors of the packets, all of one shape; gives the length of the batch that it ran.
    fn run(&mut self, packets: &[Packet]) -> Result<usize, StageError> {
        let failed = |e: EngineError| StageError::packet(e.code(), e.to_string());
        let Some(packet) = packets.first() else {
            return Ok(1);
        };
        let (first, codes) = self.tensor(packet)?;
        let length = self.networks.length(packets.len());
        let place = self.session(length).map_err(failed)?;
        let bytes = first.len() * first.dtype.bytes();
        let data = if length == 1 {
            first.data.get(..bytes).unwrap_or_default()
        } else {
            self.gathered.clear();
            for packet in packets {
                let (tensor, of_codes) = self.tensor(packet)?;
                if tensor.shape != first.shape || of_codes != codes {
                    return Err(StageError::packet(
                        Code("E0649"),
                        format!(
                            "a batch of tensors of different shapes, {:?} and {:?}",
                            first.shape, tensor.shape
                        ),
                    ));
                }
                let data = tensor.data.get(..bytes).unwrap_or_default();
                self.gathered.extend_from_slice(data);
            }
            self.gathered.resize(bytes * length, 0);
            self.gathered.as_slice()
        };
        self.shape.clone_from(&first.shape);
        if let Some(axis) = self.shape.first_mut().filter(|_| length > 1) {
            *axis = length;
        }
        let input = if codes {
            Input::Codes(data)
        } else {
            Input::Values(data)
        };
        let Some((_, session)) = self.sessions.get_mut(place) else {
            return Ok(length);
        };
        session.run_shaped(&[(input, &self.shape)]).map_err(failed)?;
        for i in 0..self.outputs.len() {
            let rows = session.output_shape(i).first().copied().unwrap_or(1);
            if rows % length != 0 || session.output(i).len() % length != 0 {
                return Err(StageError::packet(
                    Code("E0655"),
                    format!(
                        "output {i} is {:?} for a batch of {length}: it cannot be told which part belongs to which \
                         packet; remove `batch`",
                        session.output_shape(i)
                    ),
                ));
            }
        }
        Ok(length)
    }

    /// What the last run gave for packet `n` of a batch of `length`.
    fn part(&mut self, n: usize, length: usize) -> Option<Arc<Tensors>> {
        let (_, session) = self.sessions.iter().find(|(of, _)| *of == length)?;
        let outputs = &self.outputs;
        Some(self.given.share(Tensors::default, |tensors| {
            tensors.items.truncate(outputs.len());
            for (i, (name, dtype)) in outputs.iter().enumerate() {
                let value = session.output(i);
                let bytes = value.len() / length;
                let value = value.get(n * bytes..(n + 1) * bytes).unwrap_or_default();
                if tensors.items.len() == i {
                    let tensor = Tensor {
                        dtype: *dtype,
                        shape: Vec::new(),
                        layout: Layout::Other,
                        data: Buffer::zeroed(bytes),
                    };
                    tensors.items.push((name.clone(), tensor));
                }
                let Some((_, tensor)) = tensors.items.get_mut(i) else {
                    continue;
                };
                if tensor.data.len() != bytes {
                    tensor.data = Buffer::zeroed(bytes);
                }
                tensor.data.copy_from_slice(value);
                tensor.shape.clear();
                tensor.shape.extend_from_slice(session.output_shape(i));
                if let Some(rows) = tensor.shape.first_mut() {
                    *rows /= length;
                }
            }
        }))
    }
}

impl Stage for Infer {
    fn process(&mut self, packet: Packet, out: &mut dyn Emitter) -> Result<(), StageError> {
        let packets = [packet];
        let length = self.run(&packets)?;
        let [packet] = packets;
        if let Some(outputs) = self.part(0, length) {
            out.emit(packet.with_payload(outputs));
        }
        Ok(())
    }

    fn process_batch(&mut self, packets: &[Packet], out: &mut dyn Emitter) -> Result<(), StageError> {
        let length = self.run(packets)?;
        for (n, packet) in packets.iter().enumerate() {
            if let Some(outputs) = self.part(n, length) {
                out.emit(packet.clone().with_payload(outputs));
            }
        }
        Ok(())
    }
}
