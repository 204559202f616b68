//! Fusing what follows an operation into its epilogue.
//!
//! From a convolution, product, pooling or addition, a chain of operations with one user each is followed
//! forward as long as it fits one epilogue: dequantization, per-channel scale and bias, activation, inner
//! rounding, residual, quantization, table. Constants are folded in f64.

use flow_model::op::{BinaryKind, Dequantize, Lookup, Op, Quantize, UnaryKind};
use flow_model::{ElementType, Graph, NodeId, Tensor, Value};

/// One value, or one per channel.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct PerChannel(pub Vec<f64>);

impl PerChannel {
    /// The same for all channels.
    pub fn one(value: f64) -> Self {
        Self(vec![value])
    }
    /// The value of a channel.
    pub fn at(&self, channel: usize) -> f64 {
        self.0[if self.0.len() == 1 { 0 } else { channel }]
    }
    /// Combines channel by channel.
    pub fn zip(&self, other: &Self, f: impl Fn(f64, f64) -> f64) -> Self {
        let n = self.0.len().max(other.0.len());
        Self((0..n).map(|c| f(self.at(c), other.at(c))).collect())
    }
    /// Changes each value.
    pub fn map(&self, f: impl Fn(f64) -> f64) -> Self {
        Self(self.0.iter().map(|&v| f(v)).collect())
    }
    /// The value, if it is the same for all channels.
    pub fn single(&self) -> Option<f64> {
        let first = *self.0.first()?;
        self.0.iter().all(|&v| v == first).then_some(first)
    }
    /// Rounded to f32.
    pub fn to_f32(&self) -> Vec<f32> {
        self.0.iter().map(|&v| v as f32).collect()
    }
    fn is_finite_f32(&self) -> bool {
        self.0.iter().all(|&v| (v as f32).is_finite())
    }
}

/// `x * scale + offset`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Affine {
    /// Factor.
    pub scale: PerChannel,
    /// Summand.
    pub offset: PerChannel,
}

impl Affine {
    /// `x`.
    pub fn identity() -> Self {
        Self {
            scale: PerChannel::one(1.0),
            offset: PerChannel::one(0.0),
        }
    }

    fn then(&mut self, next: &Self) {
        self.scale = self.scale.zip(&next.scale, |a, b| a * b);
        self.offset = self
            .offset
            .zip(&next.scale, |a, b| a * b)
            .zip(&next.offset, |a, b| a + b);
    }
}

/// Inner rounding, to codes from `low` to `high`, or a clamp; then `after`.
#[derive(Debug, Clone)]
pub(crate) struct Mid {
    pub rounds: bool,
    pub low: f64,
    pub high: f64,
    pub after: Affine,
}

/// Second operand: codes of a value, as stored, and what they mean.
#[derive(Debug, Clone)]
pub(crate) struct Residual {
    pub codes: Value,
    pub affine: Affine,
}

/// What a chain ends in.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum End {
    /// Real values.
    F32,
    /// Stored codes, perhaps through a table.
    Codes {
        /// Element type of the codes in the graph; `I8` codes are stored + 128.
        element_type: ElementType,
        /// Table from stored code to stored code.
        table: Option<Box<[u8; 256]>>,
    },
}

/// A fused chain.
#[derive(Debug, Clone)]
pub(crate) struct Chain {
    /// From the root's result.
    pub first: Affine,
    /// Inner rounding.
    pub mid: Option<Mid>,
    /// Residual.
    pub residual: Option<Residual>,
    /// Low limit before the last rounding.
    pub low: PerChannel,
    /// High limit.
    pub high: PerChannel,
    /// What comes out.
    pub end: End,
    /// The value it computes.
    pub output: Value,
    /// The operations it covers besides the root, in order.
    pub members: Vec<NodeId>,
}

impl Chain {
    /// A chain of nothing: `output` as it is, real values.
    pub fn start(output: Value) -> Self {
        Self {
            first: Affine::identity(),
            mid: None,
            residual: None,
            low: PerChannel::one(f64::NEG_INFINITY),
            high: PerChannel::one(f64::INFINITY),
            end: End::F32,
            output,
            members: Vec::new(),
        }
    }

    fn is_unlimited(&self) -> bool {
        self.low.single() == Some(f64::NEG_INFINITY) && self.high.single() == Some(f64::INFINITY)
    }

    fn apply(&mut self, next: &Affine) {
        match &mut self.mid {
            Some(mid) => mid.after.then(next),
            None => self.first.then(next),
        }
        if let Some(residual) = &mut self.residual {
            // The offset is added once, with the first operand.
            residual.affine.then(&Affine {
                scale: next.scale.clone(),
                offset: PerChannel::one(0.0),
            });
        }
        let move_limit = |limit: &PerChannel| {
            limit
                .zip(
                    &next.scale,
                    |l, s| if l.is_infinite() { l * s.signum() } else { l * s },
                )
                .zip(&next.offset, |l, o| l + o)
        };
        let (a, b) = (move_limit(&self.low), move_limit(&self.high));
        self.low = a.zip(&b, f64::min);
        self.high = a.zip(&b, f64::max);
    }

    fn clamp(&mut self, low: f64, high: f64) {
        self.low = self.low.map(|v| v.max(low).min(high));
        self.high = self.high.map(|v| v.max(low).min(high));
    }

    /// Whether every constant is a finite f32.
    fn is_representable(&self) -> bool {
        let fits = |a: &Affine| a.scale.is_finite_f32() && a.offset.is_finite_f32();
        fits(&self.first)
            && self.mid.as_ref().is_none_or(|m| fits(&m.after))
            && self.residual.as_ref().is_none_or(|r| fits(&r.affine))
    }
}

/// What a chain may contain, by what the kernel of its root can do.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Abilities {
    /// Inner rounding and a residual.
    pub residual: bool,
    /// Codes as result (else f32 only).
    pub codes: bool,
    /// A table after the codes.
    pub table: bool,
    /// Constants that follow one another become one, which rounds less often than the model does.
    pub merges: bool,
}

impl Abilities {
    /// Kernels of sums: everything that an epilogue can be.
    pub const EVERYTHING: Self = Self {
        residual: true,
        codes: true,
        table: true,
        merges: true,
    };
    /// Kernels without a second operand, or with one of their own.
    pub const CODES: Self = Self {
        residual: false,
        ..Self::EVERYTHING
    };
    /// f32 kernels.
    pub const REAL: Self = Self {
        residual: false,
        codes: false,
        table: false,
        merges: true,
    };
}

/// Where a chain runs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Site {
    /// Rank of the values.
    pub rank: usize,
    /// Channel axis.
    pub axis: usize,
    /// Number of channels.
    pub channels: usize,
}

/// Follows the users of `chain.output` as far as they fit; `taken` says which operations are not to be had.
pub(crate) fn extend(
    graph: &Graph,
    users: &[Vec<NodeId>],
    taken: &dyn Fn(NodeId) -> bool,
    site: Site,
    abilities: Abilities,
    start: Chain,
) -> Option<Chain> {
    let mut best: Option<Chain> = None;
    let mut chain = start;
    loop {
        if chain.is_representable() && is_end(graph, &chain) {
            best = Some(chain.clone());
        }
        let Some(user) = only_user(graph, users, chain.output).filter(|&u| !taken(u)) else {
            return best;
        };
        let node = graph.node(user);
        let stepped = match (&node.op, &chain.end) {
            (_, End::F32) if is_sum(graph, chain.output) => match &node.op {
                Op::Dequantize(d) => dequantization(d, 0.0, site).map(|affine| chain.apply(&affine)),
                _ => None,
            },
            (Op::Unary(UnaryKind::Relu), End::F32) => {
                chain.clamp(0.0, f64::INFINITY);
                Some(())
            }
            (Op::Clamp { min, max }, End::F32) if min <= max => {
                chain.clamp(f64::from(*min), f64::from(*max));
                Some(())
            }
            (Op::Binary(kind), End::F32) => binary(graph, user, *kind, &mut chain, site, abilities),
            (Op::Quantize(q), End::F32) if abilities.codes => quantize(q, &mut chain, site),
            (
                Op::Lookup(l),
                End::Codes {
                    element_type,
                    table: None,
                },
            ) if abilities.table => {
                chain.end = End::Codes {
                    element_type: l.element_type,
                    table: Some(stored_table(l, *element_type)),
                };
                Some(())
            }
            (
                Op::Dequantize(d),
                End::Codes {
                    element_type,
                    table: None,
                },
            ) if abilities.residual => inner_rounding(d, *element_type, &mut chain, site),
            _ => None,
        };
        if stepped.is_none() {
            return best;
        }
        chain.members.push(user);
        chain.output = Value::of(user);
    }
}

/// Whether the chain may stop here: not between an inner rounding and what it is for.
fn is_end(graph: &Graph, chain: &Chain) -> bool {
    if is_sum(graph, chain.output) {
        return false;
    }
    chain.end != End::F32 || chain.mid.is_none() || chain.residual.is_some()
}

fn is_sum(graph: &Graph, value: Value) -> bool {
    matches!(
        graph.node(value.node).op,
        Op::QuantizedConvolution(_)
            | Op::QuantizedDeconvolution(_)
            | Op::QuantizedMatMul(_)
            | Op::QuantizedBatchMatMul(_)
    )
}

/// The only user of a value, if it has one and no other output of its node is in use.
fn only_user(graph: &Graph, users: &[Vec<NodeId>], value: Value) -> Option<NodeId> {
    let [user] = users[value.node.index()].as_slice() else {
        return None;
    };
    let node = graph.node(*user);
    (node.outputs.len() == 1 && node.inputs.contains(&value)).then_some(*user)
}

fn binary(
    graph: &Graph,
    id: NodeId,
    kind: BinaryKind,
    chain: &mut Chain,
    site: Site,
    abilities: Abilities,
) -> Option<()> {
    let [a, b] = *graph.node(id).inputs.as_slice() else {
        return None;
    };
    let (first, other) = if a == chain.output { (true, b) } else { (false, a) };
    if graph.info(Value::of(id)).static_shape()? != graph.info(chain.output).static_shape()? {
        return None;
    }
    if let Op::Constant(constant) = &graph.node(other.node).op {
        let c = per_channel(constant, site)?;
        let zero = PerChannel::one(0.0);
        let one = PerChannel::one(1.0);
        let affine = match (kind, first) {
            (BinaryKind::Add, _) => Affine {
                scale: one,
                offset: c,
            },
            (BinaryKind::Subtract, true) => Affine {
                scale: one,
                offset: c.map(|v| -v),
            },
            (BinaryKind::Subtract, false) => Affine {
                scale: PerChannel::one(-1.0),
                offset: c,
            },
            (BinaryKind::Multiply, _) if c.0.iter().all(|&v| v != 0.0) => Affine {
                scale: c,
                offset: zero,
            },
            (BinaryKind::Divide, true) if c.0.iter().all(|&v| v != 0.0) => Affine {
                scale: c.map(|v| 1.0 / v),
                offset: zero,
            },
            _ => return None,
        };
        if !abilities.merges {
            // One summand is what the kernel adds; a second one, or a factor, would be rounded with it.
            let summand = affine.scale.single() == Some(1.0);
            if !summand || chain.first != Affine::identity() || !chain.is_unlimited() {
                return None;
            }
        }
        chain.apply(&affine);
        return Some(());
    }
    // A residual: codes of the same shape.
    if !abilities.residual || chain.residual.is_some() {
        return None;
    }
    let Op::Dequantize(d) = &graph.node(other.node).op else {
        return None;
    };
    let codes = *graph.node(other.node).inputs.first()?;
    let info = graph.info(codes);
    if !is_code(info.element_type) || info.static_shape()? != graph.info(chain.output).static_shape()? {
        return None;
    }
    let mut affine = dequantization(d, bias_of(info.element_type), site)?;
    let sign = match (kind, first) {
        (BinaryKind::Add, _) => 1.0,
        (BinaryKind::Subtract, true) => -1.0,
        _ => return None,
    };
    affine.then(&Affine {
        scale: PerChannel::one(sign),
        offset: PerChannel::one(0.0),
    });
    if !chain.is_unlimited() {
        inner_clamp(chain)?;
    }
    chain.residual = Some(Residual { codes, affine });
    Some(())
}

fn quantize(q: &Quantize, chain: &mut Chain, site: Site) -> Option<()> {
    let affine = quantization(q, site)?;
    chain.apply(&affine);
    let bias = bias_of(q.element_type);
    chain.clamp(f64::from(q.low) + bias, f64::from(q.high) + bias);
    chain.end = End::Codes {
        element_type: q.element_type,
        table: None,
    };
    Some(())
}

/// Limits before a residual.
fn inner_clamp(chain: &mut Chain) -> Option<()> {
    if chain.mid.is_some() {
        return None;
    }
    chain.mid = Some(Mid {
        rounds: false,
        low: chain.low.single()?,
        high: chain.high.single()?,
        after: Affine::identity(),
    });
    chain.low = PerChannel::one(f64::NEG_INFINITY);
    chain.high = PerChannel::one(f64::INFINITY);
    Some(())
}

fn inner_rounding(d: &Dequantize, codes: ElementType, chain: &mut Chain, site: Site) -> Option<()> {
    if chain.mid.is_some() || chain.residual.is_some() {
        return None;
    }
    chain.mid = Some(Mid {
        rounds: true,
        low: chain.low.single()?.round_ties_even(),
        high: chain.high.single()?.round_ties_even(),
        after: dequantization(d, bias_of(codes), site)?,
    });
    chain.low = PerChannel::one(f64::NEG_INFINITY);
    chain.high = PerChannel::one(f64::INFINITY);
    chain.end = End::F32;
    Some(())
}

/// From real values to stored codes, before rounding: FakeQuantize's input side.
pub(crate) fn quantization(q: &Quantize, site: Site) -> Option<Affine> {
    on_axis(q.axis, site)?;
    let low = PerChannel(q.input_low.iter().map(|&v| f64::from(v)).collect());
    let high = PerChannel(q.input_high.iter().map(|&v| f64::from(v)).collect());
    // Below an inverted interval lies level 0 and above it the last: no clamp of an affine value.
    if low.zip(&high, |l, h| h - l).0.iter().any(|width| *width <= 0.0) {
        return None;
    }
    let steps = f64::from(q.levels.checked_sub(1)?);
    let scale = low.zip(&high, |l, h| steps / (h - l));
    if !scale.0.iter().all(|s| s.is_finite() && *s != 0.0) {
        return None;
    }
    let start = f64::from(q.low) + bias_of(q.element_type);
    let offset = low.zip(&scale, |l, s| start - l * s);
    Some(Affine { scale, offset })
}

/// From codes stored with `bias` added to real values.
pub(crate) fn dequantization(d: &Dequantize, bias: f64, site: Site) -> Option<Affine> {
    on_axis(d.axis, site)?;
    let scale = PerChannel(d.scale.iter().map(|&v| f64::from(v)).collect());
    let zero = PerChannel(d.zero_point.iter().map(|&v| f64::from(v)).collect());
    let offset = scale.zip(&zero, |s, z| -(z + bias) * s);
    Some(Affine { scale, offset })
}

fn on_axis(axis: Option<usize>, site: Site) -> Option<()> {
    (axis.is_none() || axis == Some(site.axis)).then_some(())
}

/// What is added to codes of that type where they are stored: `I8` codes are stored as u8 = code + 128.
pub(crate) fn bias_of(element_type: ElementType) -> f64 {
    if element_type == ElementType::I8 {
        128.0
    } else {
        0.0
    }
}

/// Whether values of that type are 8-bit codes.
pub(crate) fn is_code(element_type: ElementType) -> bool {
    matches!(element_type, ElementType::U8 | ElementType::I8)
}

/// The table from stored code to stored code.
pub(crate) fn stored_table(lookup: &Lookup, from: ElementType) -> Box<[u8; 256]> {
    let flip = |t: ElementType| if t == ElementType::I8 { 0x80 } else { 0 };
    let (input, output) = (flip(from), flip(lookup.element_type));
    Box::new(std::array::from_fn(|i| {
        lookup.table[usize::from(i as u8 ^ input)] ^ output
    }))
}

/// A constant that holds one value, or one per channel.
fn per_channel(constant: &Tensor, site: Site) -> Option<PerChannel> {
    let shape = constant.shape();
    if constant.element_type() != ElementType::F32 || shape.len() > site.rank {
        return None;
    }
    let values = PerChannel(constant.to_f32().into_iter().map(f64::from).collect());
    if values.0.len() == 1 {
        return Some(values);
    }
    let missing = site.rank - shape.len();
    let along_channels = shape
        .iter()
        .enumerate()
        .all(|(i, &d)| d == 1 || (i + missing == site.axis && d == site.channels));
    along_channels.then_some(values)
}
