//! Where codes begin and end: Dequantize, Quantize and Convert.

use std::sync::Arc;

use flow_model::graph::{Node, NodeId, Value};
use flow_model::op::{Dequantize, Op, Quantize};
use flow_model::tensor::{ElementType, Tensor};

use super::Sweep;
use super::coded::{self, Coded, Meaning};
use crate::options::Numerics;
use crate::report::{Fate, Reason};

/// How far from the middle between two levels the last bits of a value may decide between them, in steps.
const MOST_FROM_TIE: f64 = 0.01;

/// Whether a type holds 8-bit codes.
fn is_codes(element_type: ElementType) -> bool {
    matches!(element_type, ElementType::U8 | ElementType::I8)
}

impl Sweep<'_> {
    /// From here on the value is known by its codes.
    pub(super) fn dequantize(
        &mut self,
        id: NodeId,
        node: &Node,
        dequantize: &Dequantize,
    ) -> Result<bool, Reason> {
        let input = node.inputs[0];
        let element_type = self.old.info(input).element_type;
        let source = &self.old.node(input.node).op;
        // Weights are read where they are used.
        if !is_codes(element_type) || matches!(source, Op::Constant(_)) {
            return Ok(false);
        }
        let range = match source {
            Op::Quantize(quantize) => (quantize.low, quantize.high),
            _ => Coded::full_range(element_type),
        };
        let coded = Coded {
            codes: self.plain(input),
            element_type,
            range,
            meaning: Meaning::Affine(Arc::new(dequantize.clone())),
        };
        self.coded.insert(Value::of(id), coded);
        Ok(true)
    }

    /// A function of codes that is quantized is a table, or nothing at all where every code stays the same.
    pub(super) fn quantize(&mut self, id: NodeId, node: &Node, quantize: &Quantize) -> Result<bool, Reason> {
        let Some(coded) = self.coded(node.inputs[0]).cloned() else {
            return Ok(false);
        };
        let same_type = coded.element_type == quantize.element_type;
        if same_type && self.keeps_codes(&coded, quantize) {
            if let Meaning::Function { absorbed, .. } = &coded.meaning {
                for name in absorbed {
                    self.notes.moved(name, Fate::Removed);
                }
            }
            self.notes.moved(&node.name, Fate::Removed);
            self.plain.insert(Value::of(id), coded.codes);
            return Ok(true);
        }
        let (Some(table), None) = (coded.table(), quantize.axis) else {
            return Ok(false);
        };
        let codes = match (&coded.meaning, self.options.numerics) {
            (Meaning::Affine(d), Numerics::OpenVino) if d.scale[0] > 0.0 => {
                absorbed(d, quantize, coded.element_type)
            }
            _ => {
                let codes = coded::quantized(&table, quantize, 0);
                self.at_ties(node, &coded, &table, quantize, codes)
            }
        };
        let mut names = match &coded.meaning {
            Meaning::Function { absorbed, .. } => absorbed.clone(),
            Meaning::Affine(_) => Vec::new(),
        };
        names.push(node.name.clone());
        let Some(lookup) = self.push_lookup(&coded, codes, quantize.element_type, &names) else {
            return Ok(false);
        };
        self.plain.insert(Value::of(id), lookup);
        Ok(true)
    }

    /// The codes, with those of the model's own arithmetic where that rounds to the neighbouring level.
    fn at_ties(
        &self,
        node: &Node,
        coded: &Coded,
        table: &coded::Table,
        quantize: &Quantize,
        codes: [u8; 256],
    ) -> [u8; 256] {
        let Some(literal) = self.notes.tables.get(&node.name) else {
            return codes;
        };
        if coded.element_type != ElementType::U8 || quantize.low != 0 {
            return codes;
        }
        let (low, high) = (
            f64::from(quantize.input_low[0]),
            f64::from(quantize.input_high[0]),
        );
        let steps = f64::from(quantize.levels - 1) / (high - low);
        let mut result = codes;
        for byte in coded.occurring().map(usize::from) {
            let position = (f64::from(table[byte]) - low) * steps;
            let from_tie = (position - position.floor() - 0.5).abs();
            // Where more than last bits differ, a pass has given the codes another meaning.
            match codes[byte].abs_diff(literal[byte]) {
                0 => {}
                1 if from_tie < MOST_FROM_TIE => result[byte] = literal[byte],
                _ => return codes,
            }
        }
        result
    }

    /// Whether quantizing the value gives back the codes it is known by.
    fn keeps_codes(&self, coded: &Coded, quantize: &Quantize) -> bool {
        let identity =
            |table: &coded::Table, i: usize| coded::is_identity(&coded::quantized(table, quantize, i), coded);
        match &coded.meaning {
            Meaning::Function { table, .. } => quantize.axis.is_none() && identity(table, 0),
            Meaning::Affine(d) => {
                let same_axis = d.axis.is_none() || quantize.axis.is_none() || d.axis == quantize.axis;
                let count = crate::dequantization::len(d).max(quantize.input_low.len());
                same_axis && (0..count).all(|i| identity(&coded::table_of(d, i, coded.element_type), i))
            }
        }
    }

    /// 8-bit integers are codes of themselves, and values converted to them are codes again.
    pub(super) fn convert(&mut self, id: NodeId, node: &Node, to: ElementType) -> Result<bool, Reason> {
        let input = node.inputs[0];
        let from = self.old.info(input).element_type;
        if from == to {
            if let Some(coded) = self.coded(input).cloned() {
                self.coded.insert(Value::of(id), coded);
            }
            if let Some(&plain) = self.plain.get(&input) {
                self.plain.insert(Value::of(id), plain);
            }
            self.notes.moved(&node.name, Fate::Removed);
            return Ok(true);
        }
        if is_codes(from) && to == ElementType::F32 {
            if matches!(self.old.node(input.node).op, Op::Constant(_)) {
                return Ok(false);
            }
            let coded = Coded {
                codes: self.plain(input),
                element_type: from,
                range: Coded::full_range(from),
                meaning: Meaning::Affine(Arc::new(Dequantize {
                    scale: vec![1.0],
                    zero_point: vec![0.0],
                    axis: None,
                })),
            };
            self.coded.insert(Value::of(id), coded);
            self.keep(id);
            return Ok(true);
        }
        let Some(coded) = self.coded(input).filter(|_| is_codes(to)).cloned() else {
            return Ok(false);
        };
        let Some(codes) = coded.table().and_then(|table| converted(&table, to)) else {
            return Ok(false);
        };
        if to == coded.element_type && coded::is_identity(&codes, &coded) {
            self.notes.moved(&node.name, Fate::Removed);
            self.plain.insert(Value::of(id), coded.codes);
            return Ok(true);
        }
        let mut names = match &coded.meaning {
            Meaning::Function { absorbed, .. } => absorbed.clone(),
            Meaning::Affine(_) => Vec::new(),
        };
        names.push(node.name.clone());
        let Some(lookup) = self.push_lookup(&coded, codes, to, &names) else {
            return Ok(false);
        };
        self.plain.insert(Value::of(id), lookup);
        Ok(true)
    }
}

/// The code, as a byte, that a quantization gives to the value of each code, computed on the codes themselves: as in
/// OpenVINO, where scale and zero point move into the input limits.
fn absorbed(d: &Dequantize, quantize: &Quantize, element_type: ElementType) -> [u8; 256] {
    let (scale, zero_point) = (d.scale[0], d.zero_point[0]);
    let moved = |limits: &[f32]| vec![limits[0] / scale + zero_point];
    let on_codes = Quantize {
        input_low: moved(&quantize.input_low),
        input_high: moved(&quantize.input_high),
        ..quantize.clone()
    };
    let numbers = std::array::from_fn(|byte| Coded::number(element_type, byte as u8) as f32);
    coded::quantized(&numbers, &on_codes, 0)
}

/// The byte that each value converts to.
fn converted(table: &coded::Table, to: ElementType) -> Option<[u8; 256]> {
    let input = Tensor::from_slice(&[table.len()], table).ok()?;
    let output = flow_model::ops::evaluate(&Op::Convert(to), &[input]).ok()?;
    output.first()?.bytes().try_into().ok()
}
