//! What the model's own f32 arithmetic does where a chain computes codes.

use flow_model::op::{Dequantize, Op};
use flow_model::{NodeId, Value};

use super::Lowering;
use super::chain::{Abilities, Chain, End, Site};
use crate::kernels::literal::{
    Count, Depthwise, Level, Levels, Literal, Matrices, Operation, Products, Refined, Root, Size, Taps,
    Values, Windows,
};
use crate::kernels::{AlignedVec, WeightCodes, Weights, Window};
use crate::literal::{Known, Meaning, Model, POINTWISE_BLOCK, Path, Quantizer, known};

/// A sum of products with constant weights, as kernels see it.
pub(super) struct Sum<'a> {
    /// `[output channel][input of its group][kernel]`, and zero points of the data as stored.
    pub weights: &'a Weights<'a>,
    pub taps: Taps,
    /// Rows and columns of the kernel.
    pub kernel: [usize; 2],
    /// Input channels, output channels and groups.
    pub inputs: usize,
    pub groups: usize,
    /// Terms that are summed apart before they are added to the rest.
    pub block: usize,
    /// Axis of the data along which the input channels lie.
    pub axis: usize,
}

impl<'a> Sum<'a> {
    /// A convolution.
    pub fn convolution(weights: &'a Weights<'a>, window: &Window, inputs: usize, groups: usize) -> Self {
        Self {
            weights,
            taps: Taps::of(window),
            kernel: window.kernel,
            inputs,
            groups,
            block: if window.taps() == 1 {
                POINTWISE_BLOCK
            } else {
                usize::MAX
            },
            axis: 1,
        }
    }
}

/// What a step's codes are to be, if that is known: nothing to do, or how values near ties are evaluated again.
pub(super) type Guard = Known<Option<Box<Literal>>>;

impl Lowering<'_> {
    /// Whether codes are rounded as the model rounds them.
    pub(super) fn is_literal(&self) -> bool {
        self.model.is_some()
    }

    /// The chain and its guard. A chain of sums that cannot be guarded ends in real values instead: the quantization
    /// behind it evaluates codes next to ties again in a more general way.
    pub(super) fn or_real(
        &self,
        id: NodeId,
        site: Site,
        chain: Chain,
        guard: Guard,
    ) -> Option<(Chain, Guard)> {
        match guard {
            Err(_) => Some((
                self.extend(site, Abilities::REAL, Chain::start(Value::of(id)))?,
                Ok(None),
            )),
            guard => Some((chain, guard)),
        }
    }

    /// The guard of a chain, where it ends in codes and the model is known.
    fn guard(&self, chain: &Chain, make: impl FnOnce(&Model<'_>, Quantizer) -> Known<Literal>) -> Guard {
        let (Some(model), true) = (&self.model, chain.end != End::F32) else {
            return Ok(None);
        };
        let quantizes = |&&id: &&NodeId| matches!(self.graph.node(id).op, Op::Quantize(_));
        let last = chain.members.iter().rev().find(quantizes);
        let name = |id: NodeId| &*self.graph.node(id).name;
        let quantizer = known(last.and_then(|&id| model.quantizer(name(id))), || {
            "no FakeQuantize of the model gives its codes".to_owned()
        })?;
        let mut literal = make(model, quantizer)?;
        let table = chain
            .members
            .last()
            .filter(|&&id| matches!(self.graph.node(id).op, Op::Lookup(_)));
        if let Some(&id) = table
            && let Some(table) = self.literal_table(id)?
        {
            literal.table = Some(table);
        }
        Ok(Some(Box::new(literal)))
    }

    /// The value of the model that codes stand for: behind a Concat of branches of a FakeQuantize, that FakeQuantize.
    fn original_of_codes(&self, codes: Value) -> Known<Value> {
        let node = self.graph.node(codes.node);
        let lost = || format!("the model has no \"{}\"", node.name);
        let model = known(self.model.as_ref(), lost)?;
        let moved = match (&node.op, node.inputs.first()) {
            (Op::Concat { .. }, Some(first)) => model.quantizer(&self.graph.node(first.node).name),
            _ => None,
        };
        match moved.filter(|quantizer| quantizer.part.is_some()) {
            Some(quantizer) => Ok(Value::of(quantizer.node)),
            None => {
                let node = known(model.find(&node.name), lost)?;
                Ok(Value { node, ..codes })
            }
        }
    }

    /// The levels of a quantization of real values: per channel of its axis, or one.
    pub(super) fn levels_of_quantize(&self, id: NodeId) -> Known<Vec<Level>> {
        let node = self.graph.node(id);
        let lost = || format!("\"{}\" is no FakeQuantize of the model", node.name);
        let (Op::Quantize(q), Some(model)) = (&node.op, &self.model) else {
            return Err(lost());
        };
        let rank = self.graph.info(Value::of(id)).shape.len();
        let channels = q.input_low.len().max(q.input_high.len());
        let original = known(model.quantizer(&node.name), lost)?;
        let site = Site {
            rank,
            axis: q.axis.or(original.part.map(|p| p.axis)).unwrap_or(0),
            channels,
        };
        let levels = model.levels(original, site)?;
        Ok((0..channels).map(|c| levels.channel(c)).collect())
    }

    /// As [`Lowering::levels_of_quantize`], for the very values that the model quantizes; `None` without a model.
    pub(super) fn literal_quantization(&self, id: NodeId) -> Known<Option<Vec<Level>>> {
        let node = self.graph.node(id);
        let Some(model) = &self.model else { return Ok(None) };
        let levels = self.levels_of_quantize(id)?;
        // The same constants must have moved into the limits on both ways.
        let found = &self.graph.node(node.inputs[0].node).name;
        let found = found.strip_suffix("/dequantize").unwrap_or(found);
        let original = model.quantizer(&node.name);
        if !original.is_some_and(|original| model.quantizes(original, found)) {
            return Err(format!(
                "\"{found}\" before it is computed otherwise than in the model"
            ));
        }
        Ok(Some(levels))
    }

    /// What codes mean where they are dequantized.
    pub(super) fn literal_values(&self, id: NodeId) -> Known<Option<Meaning>> {
        let node = self.graph.node(id);
        let (Op::Dequantize(dequantize), Some(model), Some(&codes)) =
            (&node.op, &self.model, node.inputs.first())
        else {
            return Ok(None);
        };
        // A Dequantize is named after what it gives: constants may have moved into it.
        let given = node.name.strip_suffix("/dequantize").unwrap_or(&node.name);
        let origin = match model.find(given) {
            Some(node) if *given != *self.graph.node(codes.node).name => Value::of(node),
            _ => self.original_of_codes(codes)?,
        };
        let meaning = model.values(origin)?;
        if !dequantizes_to(dequantize, &meaning) {
            return Err(format!("\"{}\" gives other values than the model", node.name));
        }
        Ok(Some(meaning))
    }

    /// For a convolution or a product with constant weights.
    pub(super) fn literal_sums(&self, id: NodeId, chain: &Chain, site: Site, sum: &Sum<'_>) -> Guard {
        self.guard(chain, |model, last| {
            let name = &self.graph.node(id).name;
            let original = known(model.find(name), || format!("the model has no \"{name}\""))?;
            let path = model.path(Value::of(original), last, site)?;
            let lost = || format!("the weights of \"{name}\" are not those of the model");
            let data = known(model.input(original, 0), lost)?;
            let values = model.values(data)?.along(sum.axis)?;
            let given = known(model.weights(original), lost)?;
            let inputs = sum.inputs / sum.groups.max(1);
            let length = inputs * sum.kernel[0] * sum.kernel[1];
            let codes = match sum.weights.codes {
                WeightCodes::I8(codes) => codes.len(),
                WeightCodes::U8(codes) => codes.len(),
            };
            if length == 0 || given.len() != length * site.channels || codes != given.len() {
                return Err(lost());
            }
            let root = if sum.groups == sum.inputs && sum.groups == site.channels && sum.inputs > 1 {
                Depthwise::new(sum.taps.clone(), sum.kernel[1], site.channels, &given).map(Root::Depthwise)
            } else {
                let sizes = [inputs, site.channels / sum.groups, site.channels];
                Products::new(sum.taps.clone(), sum.kernel[1], sizes, sum.block, &given).map(Root::Products)
            };
            let noise = noise_of_sums(sum.weights, &values, &given, length);
            let root = known(root, lost)?;
            self.finish_literal(chain, site, path, root, values, (Some(length), |c| noise[c]))
        })
    }

    /// For a product of two activations, of that many terms; `distances` of rows and columns in both factors.
    pub(super) fn literal_product(
        &self,
        id: NodeId,
        chain: &Chain,
        site: Site,
        inner: usize,
        distances: [[usize; 2]; 2],
    ) -> Guard {
        self.guard(chain, |model, last| {
            let name = &self.graph.node(id).name;
            let original = known(model.find(name), || format!("the model has no \"{name}\""))?;
            let path = model.path(Value::of(original), last, site)?;
            let of = |port: usize| {
                let input = known(model.input(original, port), || {
                    format!("\"{name}\" lacks a factor")
                })?;
                let (values, axis) = model.values(input)?.parts();
                match axis {
                    None => Ok(values),
                    Some(axis) => Err(format!(
                        "codes of \"{name}\" mean values that vary along axis {axis}"
                    )),
                }
            };
            let (first, second) = (of(0)?, of(1)?);
            let noise = Noise {
                spread: inner as f64 * largest(&first) * largest(&second) / 2.0,
                fixed: 0.0,
            };
            let root = Root::Matrices(Matrices {
                inner,
                block: crate::literal::block_of_computed(inner),
                left: distances[0],
                right: distances[1],
                values: second,
            });
            self.finish_literal(chain, site, path, root, first, (None, |_| noise))
        })
    }

    /// For a sum over windows, or a mean, which divides it.
    pub(super) fn literal_windows(
        &self,
        id: NodeId,
        chain: &Chain,
        site: Site,
        window: Window,
        divided_by: Count,
    ) -> Guard {
        self.guard(chain, |model, last| {
            let name = &self.graph.node(id).name;
            let original = known(model.find(name), || format!("the model has no \"{name}\""))?;
            let path = model.path(Value::of(original), last, site)?;
            let data = known(model.input(original, 0), || format!("\"{name}\" lacks an input"))?;
            let values = model.values(data)?.along(site.axis)?;
            let by_rows = matches!(self.graph.node(id).op, Op::Reduce { .. });
            let terms = window.taps() as f64;
            let additions = if by_rows {
                (window.kernel[0] + window.kernel[1]) as f64
            } else {
                terms
            };
            let root = Root::Windows(Windows {
                taps: Taps::of(&window),
                by_rows,
                divided_by,
            });
            let sum = largest(&values) / 2.0 * if divided_by == Count::One { terms } else { 1.0 };
            let noise = Noise {
                spread: sum * additions.sqrt(),
                fixed: 0.0,
            };
            self.finish_literal(chain, site, path, root, values, (None, |_| noise))
        })
    }

    /// For an element-wise operation on codes.
    pub(super) fn literal_codes(&self, id: NodeId, chain: &Chain, site: Site) -> Guard {
        self.guard(chain, |model, last| {
            let node = self.graph.node(id);
            let source = if matches!(node.op, Op::Dequantize(_)) {
                self.original_of_codes(node.inputs[0])?
            } else {
                let original = model.find(&node.name);
                known(original.and_then(|id| model.input(id, 0)), || {
                    format!("the model has no \"{}\"", node.name)
                })?
            };
            let path = model.path(source, last, site)?;
            let values = model.values(source)?.along(site.axis)?;
            self.finish_literal(
                chain,
                site,
                path,
                Root::Identity,
                values,
                (None, |_| Noise::default()),
            )
        })
    }

    /// `terms` of a sum of products, and how far it may be off in each channel.
    fn finish_literal(
        &self,
        chain: &Chain,
        site: Site,
        path: Path,
        root: Root,
        values: Values,
        (terms, noise): (Option<usize>, impl Fn(usize) -> Noise),
    ) -> Known<Literal> {
        let epilogue = super::heavy::epilogue(site.channels, chain).map_err(|e| e.to_string())?;
        let mut rounds = path.operations.iter().filter_map(|o| match o {
            Operation::Round(levels) => Some(levels),
            _ => None,
        });
        // One of two must have the other: a chain that rounds inside, and one that adds codes.
        let inner = rounds.next();
        let rounds_inside = epilogue.mid.as_ref().is_some_and(|mid| mid.rounds);
        if inner.is_some() != rounds_inside
            || rounds.next().is_some()
            || path.residual.is_some() != epilogue.has_residual()
        {
            return Err("the model rounds or adds otherwise than the step".to_owned());
        }
        let margin = |levels: &Levels| {
            let mut out = AlignedVec::zeroed(levels.scale.len());
            for c in 0..site.channels {
                let Noise { spread, fixed } = noise(c);
                let steps = (spread + fixed) * f64::from(levels.scale[c].abs());
                let shift = f64::from(epilogue.bias[c].abs());
                // Of a step whose interval has no width nothing is known: evaluate always.
                let margin = ((steps + shift + 1024.0) * f64::from(f32::EPSILON)).min(0.5) as f32;
                out[c] = if margin.is_nan() { 0.5 } else { margin };
            }
            out
        };
        let levels = inner.unwrap_or(&path.levels);
        let first = margin(levels);
        // More constants than one may be large and make up for each other.
        let constants = path
            .operations
            .iter()
            .take_while(|o| !matches!(o, Operation::Round(_)));
        let constants = constants.filter(|o| {
            use Operation::{AddOperand, Clamp, Relu, SubtractOperand};
            !matches!(o, Relu | Clamp(..) | AddOperand(_) | SubtractOperand(_))
        });
        let simple = constants.count() <= 1;
        // Each code of a second operand is rounded a few times before it is added.
        let of_operand = |c: usize| match &epilogue.residual {
            Some(r) if inner.is_none() => 4.0 * (255.0 * r.scale[c].abs() + r.offset[c].abs()),
            _ => 0.0,
        };
        let steps = |part: fn(&Noise) -> f64| {
            let of = |c| (part(&noise(c)) * f64::from(levels.scale[c].abs())) as f32;
            (0..site.channels).map(of).collect::<Vec<f32>>()
        };
        let refined = terms.filter(|_| simple).map(|terms| Refined {
            fixed: steps(|noise| noise.fixed)
                .into_iter()
                .enumerate()
                .map(|(c, steps)| steps + 16.0 + of_operand(c))
                .collect(),
            spread: steps(|noise| noise.spread),
            of_bias: 3.0,
            of_sum: 3.5 + 0.4 * (terms as f32).sqrt(),
        });
        let size = match (&refined, terms) {
            (Some(refined), Some(terms)) => Size::new(&values, terms).filter(|_| pays(refined, terms)),
            _ => None,
        };
        let last = if inner.is_some() {
            let mut out = AlignedVec::zeroed(first.len());
            out.fill(1024.0 * 2.0 * f32::EPSILON);
            out
        } else {
            first.clone()
        };
        Ok(Literal {
            root,
            affine: values.affine(),
            values,
            operations: path.operations,
            levels: path.levels,
            channels: site.channels,
            table: epilogue.table,
            margin: first,
            last_margin: last,
            refined,
            size,
        })
    }
}

/// Whether it takes less time to find the size of the data of a pixel than to evaluate what is in doubt without it: in
/// processor cycles, measured with AVX-512.
fn pays(refined: &Refined, terms: usize) -> bool {
    // Most data are a fifth of the largest. A tie has two sides.
    let fewer = 2.0 * 0.8 * f32::EPSILON * refined.spread.iter().sum::<f32>();
    fewer * (100.0 + 0.6 * terms as f32) > 25.0 + 0.1 * terms as f32
}

/// About `2^23` times the error of a root's result, in real values.
#[derive(Debug, Clone, Copy, Default)]
struct Noise {
    /// What grows with the data: for data half as large as it can be.
    spread: f64,
    /// Whatever the data.
    fixed: f64,
}

/// Per output channel, of a sum of products: the f32 additions of the model, and what codes and scales of the integer sum
/// differ by from the model's values.
fn noise_of_sums(weights: &Weights<'_>, values: &Values, given: &[f32], length: usize) -> Vec<Noise> {
    let largest = largest(values);
    let zeros = weights.data_zero_point;
    // What the code of zero means: zero points next to an integer count as that integer.
    let off_zero = (0..values.channels().max(zeros.len())).map(|c| {
        let zero = zeros
            .get(if zeros.len() == 1 { 0 } else { c })
            .copied()
            .unwrap_or_default();
        let near = zero.clamp(0, 254);
        let (at, next) = (values.of(near as u8, c), values.of(near as u8 + 1, c));
        let step = f64::from(next) - f64::from(at);
        let off = (f64::from(at) + f64::from(zero - near) * step).abs();
        // Beyond this the sum makes up for it.
        if off <= 3e-4 * step.abs() { off } else { 0.0 }
    });
    let off_zero = off_zero.fold(0.0, f64::max);
    let code = |i: usize| match weights.codes {
        WeightCodes::I8(codes) => f64::from(codes[i]),
        WeightCodes::U8(codes) => f64::from(codes[i]),
    };
    let of_channel = |(channel, kernel): (usize, &[f32])| {
        let zero = match weights.zero_point {
            &[zero] => zero,
            all => all.get(channel).copied().unwrap_or_default(),
        };
        let pairs = || {
            let codes = kernel.iter().enumerate();
            codes.map(|(i, &w)| (f64::from(w), code(channel * length + i) - f64::from(zero)))
        };
        let count = length as f64;
        let (mut squares, mut magnitude, mut of_w, mut of_q) = (0.0, 0.0, 0.0, 0.0);
        for (w, q) in pairs() {
            squares += w * w;
            magnitude += w.abs();
            of_w += w / count;
            of_q += q / count;
        }
        // Weights are a line of their codes. Where it does not pass through zero, they are that much apart.
        let (mut both, mut alone) = (0.0, 0.0);
        for (w, q) in pairs() {
            both += (w - of_w) * (q - of_q);
            alone += (q - of_q) * (q - of_q);
        }
        let (scale, off) = if alone > 0.0 {
            (both / alone, (of_w - both / alone * of_q).abs())
        } else {
            let scale = if of_q == 0.0 { 0.0 } else { of_w / of_q };
            (scale, 3e-4 * scale.abs())
        };
        let apart = |(w, q): (f64, f64)| (w - scale * q).powi(2);
        let off_squares: f64 = pairs().map(apart).sum();
        let additions = squares.sqrt() * largest / 2.0 * (length as f64).sqrt();
        let apart = (off * count + off_squares.sqrt()) * largest + off_zero * magnitude;
        Noise {
            spread: additions,
            fixed: apart / f64::from(f32::EPSILON),
        }
    };
    given.chunks_exact(length).enumerate().map(of_channel).collect()
}

fn largest(values: &Values) -> f64 {
    f64::from(values.0.iter().fold(0.0_f32, |m, v| m.max(v.abs())))
}

/// Whether a dequantization gives these values of codes, but for last bits.
fn dequantizes_to(dequantize: &Dequantize, meaning: &Meaning) -> bool {
    let Dequantize {
        scale,
        zero_point,
        axis,
    } = dequantize;
    let (values, own) = meaning.clone().parts();
    if own.is_some() && axis.is_some() && own != *axis {
        return false;
    }
    let count = values.channels().max(scale.len()).max(zero_point.len());
    let at = |values: &[f32], c: usize| values[if values.len() == 1 { 0 } else { c }];
    let lengths = [values.channels(), scale.len(), zero_point.len()];
    lengths.iter().all(|&n| n == 1 || n == count)
        && (0..count).all(|c| {
            let (scale, zero_point) = (at(scale, c), at(zero_point, c));
            let first = if values.channels() == 1 { 0 } else { c * 256 };
            let table = &values.0[first..first + 256];
            let (low, high) = table
                .iter()
                .fold((0.0_f32, 0.0_f32), |(l, h), v| (l.min(*v), h.max(*v)));
            let agree = |(code, &value): (usize, &f32)| {
                let off = ((code as f32 - zero_point) * scale - value).abs();
                off <= 1e-4 * scale.abs() + 1e-6 * high.max(-low)
            };
            // Codes that do not occur may mean anything, which is 0 or one of the limits; some codes occur.
            let mut codes = table.iter().enumerate();
            codes.clone().any(agree) && codes.all(|code| agree(code) || [0.0, low, high].contains(code.1))
        })
}
