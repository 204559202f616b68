//! What the model's own f32 arithmetic does where a chain computes codes.

use flow_model::op::{Dequantize, Op};
use flow_model::{NodeId, Value};

use super::Lowering;
use super::chain::{Chain, End, Site};
use crate::kernels::literal::{LANES, Level, Levels, Literal, Operation, Root, Values};
use crate::kernels::{AlignedVec, Window};
use crate::literal::{POINTWISE_BLOCK, Path, Quantizer};

/// A convolution of `inputs` channels.
pub(super) fn dense(inputs: usize, taps: usize) -> Root {
    Root::Dense {
        inputs,
        block: if taps == 1 { POINTWISE_BLOCK } else { usize::MAX },
    }
}

impl Lowering<'_> {
    /// The operation of the model that gives the codes of a chain.
    fn last_quantization(&self, chain: &Chain) -> Option<Quantizer> {
        if chain.end == End::F32 {
            return None;
        }
        let quantizes = |&&id: &&NodeId| matches!(self.graph.node(id).op, Op::Quantize(_));
        let last = chain.members.iter().rev().find(quantizes)?;
        self.model.as_ref()?.quantizer(&self.graph.node(*last).name)
    }

    /// The operation of the model whose values are those of codes: behind a Concat of branches of a FakeQuantize, that
    /// FakeQuantize.
    fn original_of_codes(&self, codes: NodeId) -> Option<NodeId> {
        let (node, model) = (self.graph.node(codes), self.model.as_ref()?);
        let moved = match (&node.op, node.inputs.first()) {
            (Op::Concat { .. }, Some(first)) => model.quantizer(&self.graph.node(first.node).name),
            _ => None,
        };
        match moved.filter(|quantizer| quantizer.part.is_some()) {
            Some(quantizer) => Some(quantizer.node),
            None => model.find(&node.name),
        }
    }

    /// For a quantization of real values: per channel of its axis, or one.
    pub(super) fn literal_quantization(&self, id: NodeId) -> Option<Vec<Level>> {
        let node = self.graph.node(id);
        let Op::Quantize(q) = &node.op else { return None };
        let rank = self.graph.info(Value::of(id)).shape.len();
        let model = self.model.as_ref()?;
        let channels = q.input_low.len().max(q.input_high.len());
        let original = model.quantizer(&node.name)?;
        let site = Site {
            rank,
            axis: q.axis.or(original.part.map(|p| p.axis)).unwrap_or(0),
            channels,
        };
        let levels = model.levels(original, site)?;
        // The same constants must have moved into the limits on both ways.
        let found = &self.graph.node(node.inputs[0].node).name;
        if !model.quantizes(original, found.strip_suffix("/dequantize").unwrap_or(found)) {
            return None;
        }
        Some((0..channels).map(|c| levels.channel(c)).collect())
    }

    /// What codes mean where they are dequantized, if it is the same for all channels.
    pub(super) fn literal_values(&self, id: NodeId) -> Option<Values> {
        let node = self.graph.node(id);
        let Op::Dequantize(dequantize) = &node.op else {
            return None;
        };
        let origin = self.original_of_codes(node.inputs.first()?.node)?;
        let codes = self.graph.node(node.inputs.first()?.node);
        let values = self.model.as_ref()?.values(Value::of(origin))?;
        let same =
            values.channels() == 1 && codes.outputs.len() == 1 && dequantizes_to(dequantize, &values.0);
        same.then_some(values)
    }

    /// For a convolution or matrix product.
    pub(super) fn literal_sums(
        &self,
        id: NodeId,
        chain: &Chain,
        site: Site,
        window: Window,
        root: Root,
    ) -> Option<Box<Literal>> {
        let model = self.model.as_ref()?;
        let last = self.last_quantization(chain)?;
        let original = model.find(&self.graph.node(id).name)?;
        let path = model.path(original, last, site)?;
        let values = model.values(model.input(original, 0)?)?;
        let given = model.weights(original)?;
        let taps = window.taps();
        let inputs = match root {
            Root::Dense { inputs, .. } => inputs,
            _ => 1,
        };
        let length = taps * inputs;
        if given.len() != length * site.channels {
            return None;
        }
        let mut weights = AlignedVec::zeroed(site.channels.next_multiple_of(LANES) * length);
        let mut spread = Vec::with_capacity(site.channels);
        for (channel, kernel) in given.chunks_exact(length).enumerate() {
            let (block, lane) = (channel / LANES, channel % LANES);
            for (i, &w) in kernel.iter().enumerate() {
                let (input, tap) = (i / taps, i % taps);
                weights[((block * taps + tap) * inputs + input) * LANES + lane] = w;
            }
            spread.push(kernel.iter().map(|&w| f64::from(w).powi(2)).sum::<f64>().sqrt());
        }
        let largest = values.0.iter().fold(0.0_f32, |m, v| m.max(v.abs()));
        self.finish_literal(chain, site, path, window, root, values, weights, |c| {
            spread[c] * f64::from(largest) / 2.0 * (length as f64).sqrt()
        })
    }

    /// For a sum over windows, or a mean, which divides it.
    pub(super) fn literal_windows(
        &self,
        id: NodeId,
        chain: &Chain,
        site: Site,
        window: Window,
        divided: bool,
    ) -> Option<Box<Literal>> {
        let model = self.model.as_ref()?;
        let last = self.last_quantization(chain)?;
        let original = model.find(&self.graph.node(id).name)?;
        let path = model.path(original, last, site)?;
        let values = model.values(model.input(original, 0)?)?;
        let by_rows = matches!(self.graph.node(id).op, Op::Reduce { .. });
        let terms = window.taps() as f64;
        let additions = if by_rows {
            (window.kernel[0] + window.kernel[1]) as f64
        } else {
            terms
        };
        let largest = values.0.iter().fold(0.0_f32, |m, v| m.max(v.abs()));
        let sum = f64::from(largest) / 2.0 * if divided { 1.0 } else { terms };
        self.finish_literal(
            chain,
            site,
            path,
            window,
            Root::Sum { by_rows, divided },
            values,
            AlignedVec::zeroed(0),
            |_| sum * additions.sqrt(),
        )
    }

    /// For an element-wise operation on codes.
    pub(super) fn literal_codes(&self, id: NodeId, chain: &Chain, site: Site) -> Option<Box<Literal>> {
        let model = self.model.as_ref()?;
        let last = self.last_quantization(chain)?;
        let node = self.graph.node(id);
        let source = if matches!(node.op, Op::Dequantize(_)) {
            Value::of(self.original_of_codes(node.inputs[0].node)?)
        } else {
            model.input(model.find(&node.name)?, 0)?
        };
        let path = model.path(source.node, last, site)?;
        let values = model.values(source)?;
        self.finish_literal(
            chain,
            site,
            path,
            Window::POINT,
            Root::Identity,
            values,
            AlignedVec::zeroed(0),
            |_| 0.0,
        )
    }

    #[allow(clippy::too_many_arguments, reason = "the parts of one value")]
    fn finish_literal(
        &self,
        chain: &Chain,
        site: Site,
        path: Path,
        window: Window,
        root: Root,
        values: Values,
        weights: AlignedVec<f32>,
        noise: impl Fn(usize) -> f64,
    ) -> Option<Box<Literal>> {
        let epilogue = super::heavy::epilogue(site.channels, chain).ok()?;
        let rounds = path.operations.iter().find_map(|o| match o {
            Operation::Round(levels) => Some(levels),
            _ => None,
        });
        // One of two must have the other: a chain that rounds inside.
        if rounds.is_some() != epilogue.mid.as_ref().is_some_and(|mid| mid.rounds) {
            return None;
        }
        let margin = |levels: &Levels| {
            let mut out = AlignedVec::zeroed(levels.scale.len());
            for c in 0..site.channels {
                let steps = noise(c) * f64::from(levels.scale[c].abs());
                out[c] = ((steps + 1024.0) * f64::from(f32::EPSILON)).min(0.5) as f32;
            }
            out
        };
        let first = margin(rounds.unwrap_or(&path.levels));
        let last = if rounds.is_some() {
            let mut out = AlignedVec::zeroed(first.len());
            out.fill(1024.0 * 2.0 * f32::EPSILON);
            out
        } else {
            first.clone()
        };
        Some(Box::new(Literal {
            root,
            window,
            weights,
            values,
            operations: path.operations,
            levels: path.levels,
            epilogue,
            margin: first,
            last_margin: last,
        }))
    }
}

/// Whether a dequantization gives these values of codes, but for last bits: it may have taken constants into
/// itself that the model adds or multiplies later.
fn dequantizes_to(dequantize: &Dequantize, values: &[f32]) -> bool {
    let (&[scale], &[zero_point]) = (&dequantize.scale[..], &dequantize.zero_point[..]) else {
        return false;
    };
    let largest = values.iter().fold(0.0f32, |m, v| m.max(v.abs()));
    let near = |(code, value): (usize, &f32)| {
        ((code as f32 - zero_point) * scale - value).abs() <= 1e-4 * scale.abs() + 1e-6 * largest
    };
    values.iter().enumerate().all(near)
}
