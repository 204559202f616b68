//! From a quantization of real values back to the codes that they come from.

mod bounds;
mod operations;

use std::collections::HashMap;

use flow_model::op::{BinaryKind, ConvAttrs, Op, UnaryKind};
use flow_model::{ElementType, NodeId, Tensor, Value};

use bounds::Bound;
use operations::{each, moves, normalized};

use super::Lowering;
use super::chain::is_code;
use super::window::{two, window_of_conv, window_of_pool};
use crate::dense::Geometry;
use crate::kernels::gemm;
use crate::kernels::literal::{Products, Taps, Values};
use crate::literal::{Known, Model, POINTWISE_BLOCK, known};
use crate::recall::{Expression, Grouped, Groups, Pooled, Recall, Rule};

/// Tensors that a quantization may read besides its input.
pub(crate) const MAX_LEAVES: usize = 7;

/// Values between a quantization and the codes it comes from.
const MAX_EXPRESSIONS: usize = 256;

/// Products that a quantization may evaluate again where nothing is certain: behind an operation that divides by what may
/// be next to nothing, or whose elements depend on so many that one of them is always next to a tie.
const MAX_WORK: f64 = (1 << 22) as f64;

/// How far a zero point may lie from an integer that it counts as, in steps.
const OFF_ZERO: f64 = 3e-4;

/// What the code of zero means, if that is almost zero: integer sums take it for zero. In units of `2^-23`.
fn off_zero(values: &Values) -> f64 {
    let of_table = |table: &[f32]| {
        let step = f64::from((table[1] - table[0]).abs());
        let least = table.iter().fold(f32::INFINITY, |m, v| m.min(v.abs()));
        let least = f64::from(least);
        if least <= OFF_ZERO * step { least } else { 0.0 }
    };
    let most = values.0.chunks_exact(256).map(of_table).fold(0.0, f64::max);
    most / f64::from(f32::EPSILON)
}

struct Builder<'a, 'b> {
    lowering: &'a Lowering<'b>,
    model: &'a Model<'b>,
    expressions: Vec<Expression>,
    bounds: Vec<Bound>,
    /// Products that all elements of all values are computed of.
    work: f64,
    known: HashMap<Value, usize>,
    leaves: Vec<Value>,
    depth: usize,
}

impl Lowering<'_> {
    /// How the codes of a quantization are evaluated again, and the values in memory that this reads.
    pub(super) fn recall(&self, id: NodeId) -> Known<(Recall, Vec<Value>)> {
        let node = self.graph.node(id);
        let lost = || format!("\"{}\" is no FakeQuantize of the model", node.name);
        let (Op::Quantize(q), Some(model)) = (&node.op, &self.model) else {
            return Err(lost());
        };
        let original = known(model.quantizer(&node.name), lost)?;
        let (limits, formula) = known(model.limits(original), lost)?;
        if q.low != 0 || q.element_type != ElementType::U8 {
            return Err(format!("codes of \"{}\" are no levels", node.name));
        }
        let at = |values: &[f32], c: usize| values[if values.len() == 1 { 0 } else { c }];
        // As the step quantizes, which may have constants in other places than the model.
        let channels = q.input_low.len().max(q.input_high.len());
        let scales: Vec<[f32; 2]> = (0..channels)
            .map(|c| {
                let (low, high) = (at(&q.input_low, c), at(&q.input_high, c));
                let scale = (q.levels.saturating_sub(1)) as f32 / (high - low);
                [scale, -low * scale]
            })
            .collect();
        let mut builder = Builder {
            lowering: self,
            model,
            expressions: Vec::new(),
            bounds: Vec::new(),
            work: 0.0,
            known: HashMap::new(),
            leaves: Vec::new(),
            depth: 0,
        };
        let last = builder.source(original)?;
        if builder.expressions[last].shape != self.shape(Value::of(id)) {
            return Err(format!("\"{}\" has another shape in the model", node.name));
        }
        let mut places = [0; 4];
        for (place, limit) in places.iter_mut().zip(&limits) {
            *place = builder.limit(limit)?;
        }
        let error = builder.bounds[last].error;
        let detection = |&[scale, shift]: &[f32; 2]| {
            let steps = error * f64::from(scale.abs()) + f64::from(shift.abs()) + 1024.0;
            let margin = (steps * f64::from(f32::EPSILON)).min(0.5) as f32;
            [scale, shift, if margin.is_nan() { 0.5 } else { margin }]
        };
        let detection: Vec<[f32; 3]> = scales.iter().map(detection).collect();
        if builder.work > MAX_WORK && detection.iter().any(|[.., margin]| *margin >= 0.5) {
            return Err(format!(
                "what \"{}\" quantizes may be off by anything, and takes too long to evaluate again",
                node.name
            ));
        }
        let recall = Recall {
            source: last,
            limits: places,
            levels: model.levels_told_apart(original).unwrap_or(q.levels),
            formula,
            detection,
            axis: q.axis.filter(|_| channels > 1),
            expressions: builder.expressions,
        };
        Ok((recall, builder.leaves))
    }
}

impl Builder<'_, '_> {
    fn push(&mut self, shape: Vec<usize>, rule: Rule, bound: Bound) -> Known<usize> {
        if self.expressions.len() >= MAX_EXPRESSIONS {
            return Err("too many operations stand between codes and their rounding".to_owned());
        }
        self.work += work(&shape, &rule);
        self.expressions.push(Expression { shape, rule });
        self.bounds.push(bound);
        Ok(self.expressions.len() - 1)
    }

    fn bounds_of(&self, values: &[usize]) -> Vec<Bound> {
        values.iter().map(|&v| self.bounds[v]).collect()
    }

    fn limit(&mut self, limit: &Tensor) -> Known<usize> {
        let bound = Bound {
            size: 0.0,
            error: 0.0,
        };
        self.push(limit.shape().to_vec(), Rule::Constant(limit.to_f32()), bound)
    }

    /// What a FakeQuantize quantizes.
    fn source(&mut self, quantizer: crate::literal::Quantizer) -> Known<usize> {
        let (value, clipped) = known(self.model.quantized(quantizer), || {
            "what is quantized is not known".to_owned()
        })?;
        let at = self.value(value)?;
        if !clipped {
            return Ok(at);
        }
        let shape = self.expressions[at].shape.clone();
        self.push(
            shape,
            Rule::Each(each(&Op::Unary(UnaryKind::Relu)), vec![at]),
            self.bounds[at],
        )
    }

    fn value(&mut self, value: Value) -> Known<usize> {
        if let Some(&known) = self.known.get(&value) {
            return Ok(known);
        }
        self.depth += 1;
        if self.depth > MAX_EXPRESSIONS {
            return Err("too many operations stand between codes and their rounding".to_owned());
        }
        let found = match self.leaf(value)? {
            Some(leaf) => leaf,
            None => self.computed(value)?,
        };
        self.depth -= 1;
        self.known.insert(value, found);
        Ok(found)
    }

    /// A value that is in memory.
    fn leaf(&mut self, value: Value) -> Known<Option<usize>> {
        let name = self.model.name(value.node);
        let shape = known(self.model.shape(value), || {
            format!("\"{name}\" has an open shape")
        })?;
        if let Some(constant) = self.model.constant(value) {
            let values = constant.to_f32();
            let size = values.iter().fold(0.0_f32, |m, v| m.max(v.abs()));
            let bound = Bound {
                size: f64::from(size),
                error: 0.0,
            };
            return self
                .push(constant.shape().to_vec(), Rule::Constant(values), bound)
                .map(Some);
        }
        for candidate in self.lowering.candidates(self.model, value) {
            let lowering = self.lowering;
            let in_memory = lowering.held.contains_key(&candidate) || lowering.moved.contains_key(&candidate);
            if !in_memory || lowering.shape(candidate) != shape {
                continue;
            }
            let index = self
                .leaves
                .iter()
                .position(|&l| l == candidate)
                .unwrap_or(self.leaves.len());
            let rule = if is_code(lowering.element_type(candidate)) {
                let Ok(meaning) = self.model.values(value) else {
                    continue;
                };
                let (values, axis) = meaning.parts();
                let size = values.0.iter().fold(0.0_f32, |m, v| m.max(v.abs()));
                let error = off_zero(&values);
                (Rule::Codes(index, values, axis), f64::from(size), error)
            } else if lowering.element_type(candidate) == ElementType::F32
                && lowering.exact(candidate).is_ok()
            {
                (Rule::Real(index), f64::INFINITY, 0.0)
            } else {
                continue;
            };
            if index == self.leaves.len() {
                if index >= MAX_LEAVES {
                    return Err("too many tensors meet before a rounding".to_owned());
                }
                self.leaves.push(candidate);
            }
            let (rule, size, error) = rule;
            return self.push(shape, rule, Bound { size, error }).map(Some);
        }
        Ok(None)
    }

    fn computed(&mut self, value: Value) -> Known<usize> {
        let model = self.model;
        let (op, inputs) = model.operation(value.node);
        let name = model.name(value.node).to_owned();
        let refused = |what: &str| Err(format!("\"{name}\" ({}) {what}", op.type_name()));
        let shape = known(model.shape(value), || format!("\"{name}\" has an open shape"))?;
        match op {
            Op::Unary(_) | Op::Clamp { .. } | Op::Binary(_) | Op::PRelu => {
                let mut operands = Vec::with_capacity(inputs.len());
                for &input in inputs {
                    operands.push(self.value(input)?);
                }
                if let (Op::PRelu, &[_, slopes]) = (op, operands.as_slice()) {
                    // Slopes of one axis lie along axis 1.
                    let own = &mut self.expressions[slopes].shape;
                    if let (&[n], true) = (&own[..], shape.len() > 1) {
                        *own = [&[n][..], &vec![1; shape.len() - 2]].concat();
                    }
                }
                let bound = match (op, &operands[..]) {
                    (Op::Binary(BinaryKind::Divide), &[a, b])
                        if let Rule::Constant(values) = &self.expressions[b].rule =>
                    {
                        self.bounds[a].divided(values)
                    }
                    _ => Bound::of_each(op, &self.bounds_of(&operands)),
                };
                self.push(shape, Rule::Each(each(op), operands), bound)
            }
            Op::FakeQuantize { levels } => {
                let Some((source, limits, formula)) = model.rounding(value.node) else {
                    return refused("has limits that are not constant");
                };
                let source = self.value(source)?;
                let mut places = [0; 4];
                for (place, limit) in places.iter_mut().zip(&limits) {
                    *place = self.limit(limit)?;
                }
                let largest = |t: &Tensor| t.to_f32().iter().fold(0.0_f32, |m, v| m.max(v.abs()));
                let bound = Bound {
                    size: f64::from(largest(&limits[2]).max(largest(&limits[3]))),
                    // What is rounded otherwise is a step off.
                    error: if self.bounds[source].error > 0.0 {
                        f64::INFINITY
                    } else {
                        1.0
                    },
                };
                self.push(shape, Rule::Round(source, places, *levels, formula), bound)
            }
            Op::Concat { axis } => {
                let axis = if *axis < 0 {
                    axis + shape.len() as i64
                } else {
                    *axis
                };
                let Ok(axis) = usize::try_from(axis) else {
                    return refused("has an axis that is not there");
                };
                let mut parts = Vec::with_capacity(inputs.len());
                for &input in inputs {
                    parts.push(self.value(input)?);
                }
                let bound = Bound::of_joint(&self.bounds_of(&parts));
                self.push(shape, Rule::Joined(parts, axis), bound)
            }
            Op::Reshape { .. } | Op::Squeeze | Op::Unsqueeze => {
                let from = self.value(inputs[0])?;
                let bound = self.bounds[from];
                self.push(shape, Rule::Moved(from, None), bound)
            }
            op if moves(op) => {
                let map = known(model.map(value), || {
                    format!("\"{name}\" moves elements by computed indices")
                })?;
                let from = self.value(inputs[0])?;
                let bound = self.bounds[from];
                self.push(shape, Rule::Moved(from, Some(map)), bound)
            }
            Op::Standard(operation) if operation.type_name() == "LRN" => {
                let axes = inputs.get(1).and_then(|&v| model.constant(v));
                let Some(axes) = axes.filter(|t| t.to_i64() == [1]) else {
                    return refused("spans several axes");
                };
                let from = self.value(inputs[0])?;
                let Bound { size, error } = self.bounds[from];
                let bound = Bound {
                    size,
                    error: 4.0 * error + 8.0 * size,
                };
                self.push(shape, Rule::Channels(from, op.clone(), vec![axes]), bound)
            }
            Op::NormalizeL2 { .. } | Op::Mvn(_) | Op::Softmax { .. } => self.groups(value, shape),
            Op::MaxPool(pool) | Op::AvgPool { pool, .. } if value.port == 0 => {
                let Some(window) = window_of_pool(pool).filter(|_| matches!(shape.len(), 3 | 4)) else {
                    return refused("is no pooling of images");
                };
                let from = self.value(inputs[0])?;
                let bound = self.bounds[from];
                let terms = window.taps() as f64;
                let (pooled, bound) = match op {
                    Op::AvgPool { exclude_pad, .. } => {
                        let padded = pool.pads_begin.iter().chain(&pool.pads_end).any(|&p| p > 0);
                        let inside = *exclude_pad || !padded;
                        let error = bound.error + bound.size * terms.sqrt();
                        (Pooled::Mean { inside }, Bound { error, ..bound })
                    }
                    _ => (Pooled::Maximum, bound),
                };
                self.push(shape, Rule::Window(from, Taps::of(&window), pooled), bound)
            }
            Op::Convolution(_)
            | Op::GroupConvolution(_)
            | Op::ConvolutionBackpropData(_)
            | Op::GroupConvolutionBackpropData(_) => self.convolution(value, &shape),
            Op::MatMul {
                transpose_a,
                transpose_b,
            } => {
                let computed = inputs.iter().all(|&v| model.constant(v).is_none());
                let (a, b) = (self.value(inputs[0])?, self.value(inputs[1])?);
                let shapes = [a, b].map(|i| self.expressions[i].shape.clone());
                let geometry = Geometry::new(&shapes[0], &shapes[1], [*transpose_a, *transpose_b]);
                let geometry = known(geometry, || format!("\"{name}\" has factors that do not fit"))?;
                let terms = geometry.size[1] as f64;
                let block = match computed {
                    true => crate::literal::block_of_computed(geometry.size[1]),
                    false => gemm::BLOCK,
                };
                let bound = Bound::of_products(self.bounds[a], self.bounds[b], terms);
                self.push(shape, Rule::Product([a, b], geometry, block), bound)
            }
            _ => refused("stands between integer sums and a rounding"),
        }
    }

    /// A normalization of groups of elements.
    fn groups(&mut self, value: Value, shape: Vec<usize>) -> Known<usize> {
        let model = self.model;
        let (op, inputs) = model.operation(value.node);
        let name = model.name(value.node);
        let lost = || format!("\"{name}\" ({}) has axes that are not known", op.type_name());
        let (axes, grouped) = known(
            normalized(op, &shape, inputs.get(1).map(|&v| model.constant(v))),
            lost,
        )?;
        let from = self.value(inputs[0])?;
        if self.work > MAX_WORK {
            return Err(format!(
                "\"{name}\" ({}) stands between integer sums and a rounding, and takes too long to evaluate again",
                op.type_name()
            ));
        }
        let error = self.bounds[from].error;
        let bound = match grouped {
            Grouped::Softmax { .. } => Bound {
                size: 1.0,
                error: error + 16.0,
            },
            // What it divides by may be next to nothing.
            Grouped::Normalized(_) => Bound {
                size: (shape.iter().product::<usize>() as f64).sqrt(),
                error: if error == 0.0 { 0.0 } else { f64::INFINITY },
            },
        };
        let groups = Groups::new(&shape, &axes);
        self.push(shape, Rule::Groups(from, groups, grouped), bound)
    }

    fn convolution(&mut self, value: Value, shape: &[usize]) -> Known<usize> {
        let model = self.model;
        let (op, inputs) = model.operation(value.node);
        let lost = || {
            format!(
                "\"{}\" is no convolution of images with constant weights",
                model.name(value.node)
            )
        };
        let kernel = known(model.shape(inputs[1]), lost)?;
        let data = known(model.shape(inputs[0]), lost)?;
        if !matches!(shape.len(), 3 | 4) || data.len() != shape.len() {
            return Err(lost());
        }
        let spatial = kernel.len() - (shape.len() - 2)..;
        let kernel_size = known(two(&kernel[spatial], 1), lost)?;
        let groups = match op {
            Op::GroupConvolution(_) | Op::GroupConvolutionBackpropData(_) => kernel[0],
            _ => 1,
        };
        let transposed = |conv: &ConvAttrs| {
            Some(Taps::transposed(
                kernel_size,
                two(&conv.strides, 1)?,
                two(&conv.dilations, 1)?,
                two(&conv.pads_begin, 0)?,
            ))
        };
        let (taps, block) = match op {
            Op::Convolution(conv) | Op::GroupConvolution(conv) => {
                let window = known(window_of_conv(conv, kernel_size), lost)?;
                let block = if window.taps() == 1 {
                    POINTWISE_BLOCK
                } else {
                    usize::MAX
                };
                (Taps::of(&window), block)
            }
            Op::ConvolutionBackpropData(d) | Op::GroupConvolutionBackpropData(d) => {
                (known(transposed(&d.conv), lost)?, usize::MAX)
            }
            _ => return Err(lost()),
        };
        let weights = known(model.weights(value.node), lost)?;
        let sizes = [data[1] / groups.max(1), shape[1] / groups.max(1)];
        let length = sizes[0] * kernel_size[0] * kernel_size[1];
        if length == 0 || sizes[1] == 0 || weights.len() != length * shape[1] {
            return Err(lost());
        }
        let from = self.value(inputs[0])?;
        let squares = |kernel: &[f32]| kernel.iter().map(|&w| f64::from(w).powi(2)).sum::<f64>().sqrt();
        let spread = weights.chunks_exact(length).map(squares).fold(0.0, f64::max);
        let terms = length as f64;
        let (low, high) = weights
            .iter()
            .fold((0.0_f32, 0.0_f32), |(l, h), &w| (l.min(w), h.max(w)));
        // Zero points of weights count as the integer next to them.
        let off = if (low + high).abs() < 0.02 * (high - low) {
            0.0
        } else {
            f64::from(high - low) * OFF_ZERO / 255.0
        };
        let bound = Bound::of_products(
            self.bounds[from],
            Bound {
                size: spread / terms.sqrt(),
                error: off / f64::from(f32::EPSILON),
            },
            terms,
        );
        let products = Products::new(
            taps,
            kernel_size[1],
            [sizes[0], sizes[1], shape[1]],
            block,
            &weights,
        );
        let rule = Rule::Convolution(from, known(products, lost)?);
        self.push(shape.to_vec(), rule, bound)
    }
}

impl Lowering<'_> {
    /// Values of the lowered graph that may be a value of the model.
    fn candidates(&self, model: &Model<'_>, value: Value) -> Vec<Value> {
        let mut names = vec![model.name(value.node).to_owned()];
        // A FakeQuantize behind a Concat has moved before it.
        if !self.by_name.contains_key(names[0].as_str())
            && self.by_name.contains_key(&*format!("{}/0", names[0]))
        {
            names.extend(model.concat_before(value.node));
        }
        names
            .iter()
            .filter_map(|name| self.by_name.get(name.as_str()))
            .filter(|&&id| (value.port as usize) < self.graph.node(id).outputs.len())
            .map(|&node| Value { node, ..value })
            .collect()
    }
}

/// Products that the elements of one value are computed of.
fn work(shape: &[usize], rule: &Rule) -> f64 {
    let each = match rule {
        Rule::Codes(..) | Rule::Real(_) | Rule::Constant(_) => 0,
        Rule::Convolution(_, products) => products.length(),
        Rule::Product(_, geometry, _) => geometry.size[1],
        Rule::Window(_, taps, _) => taps.places().len(),
        _ => 1,
    };
    shape.iter().product::<usize>() as f64 * each as f64
}
