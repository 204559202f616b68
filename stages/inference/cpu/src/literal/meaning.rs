//! What stored codes mean in the model, in f32 to the last bit.

use flow_model::op::{InterpolateMode, Lookup, Op, ReduceKind};
use flow_model::ops::fake_quantize::fake_quantize;
use flow_model::{ElementType, NodeId, Tensor, Value};

use super::{Known, Model, Quantizer, known};
use crate::kernels::literal::Values;

/// Codes: what a table has entries for.
const CODES: usize = 256;

/// The values of codes, for all channels or for each index of an axis.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Meaning {
    values: Values,
    /// Axis, from the front, along which there are several tables.
    axis: Option<usize>,
}

impl Meaning {
    fn new(tables: Vec<[f32; CODES]>, axis: usize) -> Self {
        let alike = tables.iter().all(|t| *t == tables[0]);
        let count = if alike { 1 } else { tables.len() };
        Self {
            values: Values(tables[..count].concat()),
            axis: (!alike).then_some(axis),
        }
    }

    fn tables(&self) -> Vec<[f32; CODES]> {
        let mut tables = Vec::with_capacity(self.values.channels());
        for table in self.values.0.chunks_exact(CODES) {
            tables.push(std::array::from_fn(|i| table[i]));
        }
        tables
    }

    /// The tables, one or one per channel of `axis`.
    pub fn along(self, axis: usize) -> Known<Values> {
        match self.axis {
            Some(own) if own != axis => Err(format!("codes mean values that vary along axis {own}")),
            _ => Ok(self.values),
        }
    }

    /// The one table and axis 0, or the tables and their axis.
    pub fn parts(self) -> (Values, Option<usize>) {
        (self.values, self.axis)
    }

    /// The tables, repeated for each of `count` channels.
    fn expanded(&self, count: usize) -> Vec<[f32; CODES]> {
        let tables = self.tables();
        (0..count)
            .map(|c| tables[if tables.len() == 1 { 0 } else { c }])
            .collect()
    }
}

impl Model<'_> {
    /// What stored codes of a value mean that is a FakeQuantize moved about, or a function of one.
    pub fn values(&self, value: Value) -> Known<Meaning> {
        let _search = self.search()?;
        let node = self.graph.node(value.node);
        let name = &node.name;
        let first = || match node.inputs.first() {
            Some(&input) => self.values(input),
            None => Err(format!("\"{name}\" is not quantized")),
        };
        let found = match &node.op {
            Op::FakeQuantize { .. } => return self.values_of_levels(value.node),
            Op::MaxPool(_)
            | Op::Reduce {
                kind: ReduceKind::Max | ReduceKind::Min,
                ..
            } => {
                let found = first()?;
                // Codes in reverse order, where larger ones mean smaller values.
                let found = match self.lookups.get(format!("{name}/reverse").as_str()) {
                    Some(reverse) => through(&found, reverse, name)?,
                    None => found,
                };
                self.moved(value, found)?
            }
            Op::Interpolate(attrs) if attrs.mode == InterpolateMode::Nearest => {
                self.moved(value, first()?)?
            }
            Op::Reshape { .. }
            | Op::Squeeze
            | Op::Unsqueeze
            | Op::Transpose
            | Op::Split { .. }
            | Op::VariadicSplit
            | Op::StridedSlice(_)
            | Op::Slice
            | Op::Broadcast
            | Op::GatherNd { .. }
            | Op::Gather { .. } => self.moved(value, first()?)?,
            Op::Standard(operation) if operation.moves_values() => self.moved(value, first()?)?,
            Op::Convert(ElementType::F32) => self.integers(node.inputs[0])?,
            Op::Pad(_) => self.padded(value, first()?)?,
            Op::Concat { axis } => self.joined(value, *axis)?,
            Op::Unary(_) | Op::Clamp { .. } | Op::PRelu | Op::Binary(_) => self.function(value)?,
            Op::Standard(operation) if operation.maps_values() => self.function(value)?,
            _ => return Err(format!("\"{name}\" ({}) is not quantized", node.op.type_name())),
        };
        // A function of codes may have become a table of codes under its name.
        match self.lookups.get(&**name) {
            Some(lookup) => through(&found, lookup, name),
            None => Ok(found),
        }
    }

    /// 8-bit integers, which are stored as codes from 0 on.
    fn integers(&self, value: Value) -> Known<Meaning> {
        let first = match self.graph.info(value).element_type {
            ElementType::U8 => 0.0,
            ElementType::I8 => -128.0,
            other => return Err(format!("values of type {other} are no codes")),
        };
        Ok(Meaning::new(
            vec![std::array::from_fn(|code| code as f32 + first)],
            0,
        ))
    }

    /// The output levels of a FakeQuantize.
    fn values_of_levels(&self, id: NodeId) -> Known<Meaning> {
        let name = &self.graph.node(id).name;
        let lost = || format!("the limits of \"{name}\" are not known per tensor or channel");
        let shape = known(self.graph.info(Value::of(id)).static_shape(), lost)?;
        let quantization = known(self.quantizations[id.index()].as_ref(), lost)?;
        let limits = quantization.limits(|v| self.constant(v)).map_err(|_| lost())?;
        let axis = known(axis_of(&limits[2..], shape.len()), lost)?;
        let count = axis.map_or(1, |a| shape[a]);
        let at = |tensor: &[f32], c: usize| tensor.get(if tensor.len() == 1 { 0 } else { c }).copied();
        let [low, high] = [limits[2].to_f32(), limits[3].to_f32()];
        let levels = self.levels_of(quantization.levels(), &limits);
        if levels as usize > CODES {
            return self.rounded_finely(id);
        }
        let mut tables = Vec::with_capacity(count);
        for c in 0..count {
            let (low, high) = (known(at(&low, c), lost)?, known(at(&high, c), lost)?);
            let scale = (high - low) / (levels - 1) as f32;
            tables.push(std::array::from_fn(|code| (code as f32).mul_add(scale, low)));
        }
        Ok(Meaning::new(tables, axis.unwrap_or(0)))
    }

    /// The values of a FakeQuantize with more levels than codes: what it rounds is a function of codes.
    fn rounded_finely(&self, id: NodeId) -> Known<Meaning> {
        let name = &self.graph.node(id).name;
        let lost = || format!("the limits of \"{name}\" are not known per tensor or channel");
        let (source, limits, formula) = known(self.rounding(id), lost)?;
        let shape = known(self.shape(Value::of(id)), lost)?;
        let meaning = self.values(source)?;
        let axis = match (meaning.axis, known(axis_of(&limits, shape.len()), lost)?) {
            (Some(a), Some(b)) if a != b => return Err(lost()),
            (a, b) => a.or(b),
        };
        let levels = known(self.quantizations[id.index()].as_ref(), lost)?.levels();
        let limits = limits.map(|limit| limit.to_f32());
        let count = axis.map_or(1, |a| shape[a]);
        let mut tables = meaning.expanded(count);
        for (c, table) in tables.iter_mut().enumerate() {
            let [il, ih, ol, oh] = [0, 1, 2, 3].map(|i: usize| {
                let limit = &limits[i];
                limit.get(if limit.len() == 1 { 0 } else { c }).copied()
            });
            let [il, ih, ol, oh] = [
                known(il, lost)?,
                known(ih, lost)?,
                known(ol, lost)?,
                known(oh, lost)?,
            ];
            *table = table.map(|x| fake_quantize(formula, x, [il, ih], [ol, oh], levels));
        }
        Ok(Meaning::new(tables, axis.unwrap_or(0)))
    }

    /// The values of an element-wise operation on codes and constants.
    fn function(&self, value: Value) -> Known<Meaning> {
        let node = self.graph.node(value.node);
        let refused = |what: &str| Err(format!("\"{}\" {what}", node.name));
        let rank = self.graph.info(value).shape.len();
        // Axis and length of what varies.
        let mut along: Option<(usize, usize)> = None;
        let mut vary = |axis: Option<usize>, count: usize| {
            if let Some(axis) = axis {
                if along.is_some_and(|known| known != (axis, count)) {
                    return false;
                }
                along = Some((axis, count));
            }
            true
        };
        enum Operand {
            Codes(Meaning),
            Constant(Tensor),
        }
        let mut operands = Vec::with_capacity(node.inputs.len());
        for (port, &input) in node.inputs.iter().enumerate() {
            if let Some(constant) = self.constant(input) {
                let slopes =
                    matches!(node.op, Op::PRelu) && port == 1 && constant.shape().len() == 1 && rank > 1;
                let axis = if slopes && constant.len() > 1 {
                    Some(Some(1))
                } else {
                    axis_of(std::slice::from_ref(&constant), rank)
                };
                match axis {
                    Some(axis) if vary(axis, constant.len()) => operands.push(Operand::Constant(constant)),
                    _ => return refused("has a constant that varies along several axes"),
                }
                continue;
            }
            let meaning = self.values(input)?;
            if self.graph.info(input).shape != self.graph.info(value).shape {
                return refused("changes the shape of codes");
            }
            if !vary(meaning.axis, meaning.values.channels()) {
                return refused("has operands that vary along several axes");
            }
            operands.push(Operand::Codes(meaning));
        }
        let codes = operands.iter().filter_map(|o| match o {
            Operand::Codes(meaning) => Some(meaning),
            Operand::Constant(_) => None,
        });
        let (axis, count) = along.unwrap_or((0, 1));
        // Two operands have one table only where they are functions of the same codes.
        if codes.count() != 1 && !self.one_source(value) {
            return refused("combines several tensors of codes");
        }
        let standard = matches!(node.op, Op::Standard(_));
        let inputs: Option<Vec<Tensor>> = operands
            .iter()
            .map(|operand| match operand {
                Operand::Codes(meaning) => {
                    let tables = meaning.expanded(count).concat();
                    Tensor::from_slice(&[1, count, CODES], &tables).ok()
                }
                Operand::Constant(constant) if standard => Some(constant.clone()),
                Operand::Constant(constant) if matches!(node.op, Op::PRelu) => {
                    constant.reshaped(&[constant.len()]).ok()
                }
                Operand::Constant(constant) => constant.reshaped(&[1, constant.len(), 1]).ok(),
            })
            .collect();
        let result = inputs.and_then(|inputs| flow_model::ops::evaluate(&node.op, &inputs).ok());
        let values = result
            .and_then(|r| r.first().map(Tensor::to_f32))
            .unwrap_or_default();
        if values.len() != count * CODES {
            return refused("is no function of single codes");
        }
        let tables = values.chunks_exact(CODES).map(|t| std::array::from_fn(|i| t[i]));
        Ok(Meaning::new(tables.collect(), axis))
    }

    /// Whether all computed inputs of a node lead through element-wise operations to one value.
    fn one_source(&self, value: Value) -> bool {
        let mut source = None;
        let mut open: Vec<Value> = self.graph.node(value.node).inputs.clone();
        let mut steps = 0;
        while let Some(next) = open.pop() {
            steps += 1;
            if steps > super::MAX_DEPTH {
                return false;
            }
            if self.constant(next).is_some() {
                continue;
            }
            let node = self.graph.node(next.node);
            let element_wise = matches!(
                node.op,
                Op::Unary(_) | Op::Clamp { .. } | Op::PRelu | Op::Binary(_)
            );
            if element_wise && !self.lookups.contains_key(&*node.name) {
                open.extend(&node.inputs);
            } else if *source.get_or_insert(next) != next {
                return false;
            }
        }
        true
    }

    /// A value whose elements are moved: its tables, where each index of one axis keeps one.
    fn moved(&self, value: Value, meaning: Meaning) -> Known<Meaning> {
        let Some(axis) = meaning.axis else {
            return Ok(meaning);
        };
        let node = self.graph.node(value.node);
        let lost = || {
            format!(
                "\"{}\" mixes channels whose codes mean different values",
                node.name
            )
        };
        let shape = known(self.graph.info(node.inputs[0]).static_shape(), lost)?;
        let count: usize = shape.iter().product();
        if count > super::MAX_MOVED.min(flow_model::limits::max_elements()) {
            return Err(lost());
        }
        // The operation itself, on the index of the channel of each element.
        let inner: usize = shape[axis + 1..].iter().product();
        let channels: Vec<f32> = (0..count)
            .map(|i| (i / inner.max(1) % shape[axis]) as f32)
            .collect();
        let mut inputs = vec![known(Tensor::from_slice(&shape, &channels).ok(), lost)?];
        for &other in &node.inputs[1..] {
            inputs.push(known(self.constant(other), lost)?);
        }
        let outputs = known(flow_model::ops::evaluate(&node.op, &inputs).ok(), lost)?;
        let moved = known(outputs.get(value.port as usize), lost)?;
        let (shape, channels) = (moved.shape().to_vec(), moved.to_f32());
        let tables = meaning.tables();
        let along = |axis: usize| -> Option<Vec<usize>> {
            let inner: usize = shape[axis + 1..].iter().product();
            let mut of_index: Vec<Option<usize>> = vec![None; shape[axis]];
            for (i, &channel) in channels.iter().enumerate() {
                let known = &mut of_index[i / inner.max(1) % shape[axis]];
                if *known.get_or_insert(channel as usize) != channel as usize {
                    return None;
                }
            }
            of_index.into_iter().collect()
        };
        let found = (0..shape.len()).find_map(|axis| Some((axis, along(axis)?)));
        let (axis, of_index) = known(found, lost)?;
        Ok(Meaning::new(
            of_index.into_iter().map(|c| tables[c]).collect(),
            axis,
        ))
    }

    /// Codes with padding: the value that is brought in is that of a code.
    fn padded(&self, value: Value, meaning: Meaning) -> Known<Meaning> {
        let node = self.graph.node(value.node);
        let Op::Pad(flow_model::op::PadMode::Constant) = node.op else {
            return self.moved(value, meaning);
        };
        let pad = match node.inputs.get(3) {
            Some(&input) => self.constant(input).and_then(|t| t.to_f32().first().copied()),
            None => Some(0.0),
        };
        let exact = |table: &[f32; CODES]| pad.is_some_and(|pad| table.contains(&pad));
        if meaning.axis.is_some() || !meaning.tables().iter().all(exact) {
            return Err(format!(
                "\"{}\" pads with a value that no code means to the last bit",
                node.name
            ));
        }
        Ok(meaning)
    }

    fn joined(&self, value: Value, axis: i64) -> Known<Meaning> {
        let node = self.graph.node(value.node);
        let lost = || format!("the parts of \"{}\" have scales along another axis", node.name);
        let rank = self.graph.info(value).shape.len();
        let axis = usize::try_from(if axis < 0 { axis + rank as i64 } else { axis });
        let axis = known(axis.ok().filter(|&a| a < rank), lost)?;
        let parts: Vec<Meaning> = node
            .inputs
            .iter()
            .map(|&v| self.values(v))
            .collect::<Known<_>>()?;
        if parts.iter().all(|p| *p == parts[0] && p.axis != Some(axis)) {
            return known(parts.into_iter().next(), lost);
        }
        let mut tables = Vec::new();
        for (&input, part) in node.inputs.iter().zip(&parts) {
            let shape = known(self.graph.info(input).static_shape(), lost)?;
            if part.axis.is_some_and(|own| own != axis) {
                return Err(lost());
            }
            tables.extend(part.expanded(shape[axis]));
        }
        if tables.is_empty() {
            return Err(lost());
        }
        Ok(Meaning::new(tables, axis))
    }

    /// The table of codes that stands for a FakeQuantize of a function of codes; `None` if no operation of that name
    /// is a FakeQuantize.
    pub fn table(&self, name: &str) -> Known<Option<[u8; CODES]>> {
        let Some(node) = self.find(name) else {
            return Ok(None);
        };
        let Some(quantization) = &self.quantizations[node.index()] else {
            return Ok(None);
        };
        let site = crate::lower::Site {
            rank: self.graph.info(Value::of(node)).shape.len(),
            axis: 0,
            channels: 1,
        };
        let level = self.levels(Quantizer { node, part: None }, site)?.channel(0);
        let values = self.values(quantization.source())?;
        if values.axis.is_some() {
            return Err(format!(
                "\"{name}\" quantizes codes that mean values along an axis"
            ));
        }
        let code = |code: usize| level.of::<false>(values.values.0[code]) as i32 as u8;
        Ok(Some(std::array::from_fn(code)))
    }
}

/// What codes mean behind a table of codes. Where several codes become one, the lowest says what it means.
fn through(meaning: &Meaning, lookup: &Lookup, name: &str) -> Known<Meaning> {
    let mut tables = meaning.tables();
    for table in &mut tables {
        let given = *table;
        let largest = given.iter().fold(0.0_f32, |m, v| m.max(v.abs()));
        let mut found = [None; CODES];
        for (code, &to) in lookup.table.iter().enumerate() {
            let kept = *found[usize::from(to)].get_or_insert(given[code]);
            // Codes that do not occur become 0.
            if (kept - given[code]).abs() > 1e-6 * largest && to != 0 {
                return Err(format!(
                    "the table of \"{name}\" joins codes that mean different values"
                ));
            }
        }
        *table = std::array::from_fn(|code| found[code].unwrap_or_default());
    }
    Ok(Meaning::new(tables, meaning.axis.unwrap_or(0)))
}

/// The one axis, of `rank`, along which tensors vary (`Some(None)`: none); `None` if there are several.
fn axis_of(tensors: &[Tensor], rank: usize) -> Option<Option<usize>> {
    let mut found = None;
    for tensor in tensors {
        let missing = rank.checked_sub(tensor.shape().len())?;
        for (i, _) in tensor.shape().iter().enumerate().filter(|&(_, &d)| d != 1) {
            if found.is_some_and(|axis| axis != i + missing) {
                return None;
            }
            found = Some(i + missing);
        }
    }
    Some(found)
}
