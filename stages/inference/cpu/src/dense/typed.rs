//! Element-wise operations on integers and booleans, comparisons, conversions and selections.

use bytemuck::Pod;
use flow_model::ElementType;
use flow_model::op::BinaryKind;

use super::{Dense, DenseCall};
use crate::nest::{Loop, Nest};
use crate::placement::Placement;
use crate::run::{Fault, cast, cast_mut};

/// What is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Task {
    /// On two values of one type.
    Binary(BinaryKind),
    /// To another type.
    Convert(ElementType),
    /// The second or the third input.
    Select,
}

/// An element-wise operation; its inputs are broadcast.
#[derive(Debug)]
pub(crate) struct Typed {
    task: Task,
    /// Type of the values.
    element_type: ElementType,
    /// Output and inputs.
    nest: Nest<4>,
}

impl Typed {
    /// A task on values of `element_type`; `None` for one without a loop.
    pub fn new(task: Task, element_type: ElementType) -> Option<Self> {
        use ElementType::{Boolean, F32, I32, I64, U8};
        let known = |t: ElementType| matches!(t, Boolean | F32 | I32 | I64 | U8);
        let compares = |kind| {
            matches!(
                kind,
                BinaryKind::Equal
                    | BinaryKind::NotEqual
                    | BinaryKind::Less
                    | BinaryKind::LessEqual
                    | BinaryKind::Greater
                    | BinaryKind::GreaterEqual
            )
        };
        let runs = known(element_type)
            && match task {
                Task::Convert(to) => known(to),
                Task::Select => true,
                Task::Binary(BinaryKind::LogicalAnd | BinaryKind::LogicalOr | BinaryKind::LogicalXor) => {
                    element_type == Boolean
                }
                Task::Binary(kind) if compares(kind) => true,
                // Divisions of integers can fail; floats have kernels of their own.
                Task::Binary(
                    BinaryKind::Add
                    | BinaryKind::Subtract
                    | BinaryKind::Multiply
                    | BinaryKind::Maximum
                    | BinaryKind::Minimum,
                ) => matches!(element_type, I32 | I64 | U8),
                Task::Binary(_) => false,
            };
        runs.then(|| Self {
            task,
            element_type,
            nest: Nest::new(&[0], [0; 4], [&[0], &[0], &[0], &[0]]),
        })
    }

    /// Calls `f` with the places of the output's and the inputs' elements.
    fn each(&self, mut f: impl FnMut([usize; 4])) {
        let Loop { count, strides } = self.nest.inner();
        self.nest.rows(|start| {
            for i in 0..count {
                f(std::array::from_fn(|k| start[k] + i * strides[k]));
            }
        });
    }

    fn zip<T: Pod, U: Pod>(&self, call: DenseCall<'_>, f: impl Fn(T, T) -> U) -> Result<(), Fault> {
        let (a, b): (&[T], &[T]) = (cast(call.inputs[0])?, cast(call.inputs[1])?);
        let to: &mut [U] = cast_mut(call.output)?;
        self.each(|[d, s, t, _]| to[d] = f(a[s], b[t]));
        Ok(())
    }

    fn convert<T: Pod, U: Pod>(&self, call: DenseCall<'_>, f: impl Fn(T) -> U) -> Result<(), Fault> {
        let from: &[T] = cast(call.inputs[0])?;
        let to: &mut [U] = cast_mut(call.output)?;
        self.each(|[d, s, ..]| to[d] = f(from[s]));
        Ok(())
    }

    fn select<T: Pod>(&self, call: DenseCall<'_>) -> Result<(), Fault> {
        let (a, b): (&[T], &[T]) = (cast(call.inputs[1])?, cast(call.inputs[2])?);
        let (condition, to) = (call.inputs[0], cast_mut::<T>(call.output)?);
        self.each(|[d, c, s, t]| to[d] = if condition[c] != 0 { a[s] } else { b[t] });
        Ok(())
    }

    fn binary(&self, call: DenseCall<'_>, kind: BinaryKind) -> Result<(), Fault> {
        macro_rules! compare {
            ($type:ty) => {
                match kind {
                    BinaryKind::Equal => return self.zip(call, |a: $type, b| u8::from(a == b)),
                    BinaryKind::NotEqual => return self.zip(call, |a: $type, b| u8::from(a != b)),
                    BinaryKind::Less => return self.zip(call, |a: $type, b| u8::from(a < b)),
                    BinaryKind::LessEqual => return self.zip(call, |a: $type, b| u8::from(a <= b)),
                    BinaryKind::Greater => return self.zip(call, |a: $type, b| u8::from(a > b)),
                    BinaryKind::GreaterEqual => return self.zip(call, |a: $type, b| u8::from(a >= b)),
                    _ => {}
                }
            };
        }
        macro_rules! integers {
            ($type:ty) => {
                match kind {
                    BinaryKind::Add => self.zip(call, <$type>::wrapping_add),
                    BinaryKind::Subtract => self.zip(call, <$type>::wrapping_sub),
                    BinaryKind::Multiply => self.zip(call, <$type>::wrapping_mul),
                    BinaryKind::Maximum => self.zip(call, <$type>::max),
                    BinaryKind::Minimum => self.zip(call, <$type>::min),
                    BinaryKind::LogicalAnd => self.zip(call, |a: u8, b: u8| u8::from(a != 0 && b != 0)),
                    BinaryKind::LogicalOr => self.zip(call, |a: u8, b: u8| u8::from(a != 0 || b != 0)),
                    BinaryKind::LogicalXor => self.zip(call, |a: u8, b: u8| u8::from((a != 0) != (b != 0))),
                    _ => Err(Fault::Internal("no such loop".into())),
                }
            };
        }
        match self.element_type {
            ElementType::F32 => {
                compare!(f32);
                Err(Fault::Internal("no such loop".into()))
            }
            ElementType::I32 => {
                compare!(i32);
                integers!(i32)
            }
            ElementType::I64 => {
                compare!(i64);
                integers!(i64)
            }
            _ => {
                compare!(u8);
                integers!(u8)
            }
        }
    }

    fn conversion(&self, call: DenseCall<'_>, to: ElementType) -> Result<(), Fault> {
        macro_rules! from {
            ($type:ty) => {
                match to {
                    ElementType::Boolean => self.convert(call, |v: $type| u8::from(v != 0 as $type)),
                    ElementType::F32 => self.convert(call, |v: $type| v as f64 as f32),
                    ElementType::I32 => self.convert(call, |v: $type| v as i32),
                    ElementType::I64 => self.convert(call, |v: $type| v as i64),
                    _ => self.convert(call, |v: $type| v as u8),
                }
            };
        }
        match self.element_type {
            ElementType::F32 => from!(f32),
            ElementType::I32 => from!(i32),
            ElementType::I64 => from!(i64),
            _ => from!(u8),
        }
    }
}

impl Dense for Typed {
    fn kernel(&self) -> String {
        match self.task {
            Task::Binary(_) => format!("binary_{}", self.element_type.name()),
            Task::Convert(to) => format!("convert_{}_{}", self.element_type.name(), to.name()),
            Task::Select => "select".into(),
        }
    }

    fn place(&mut self, inputs: &[&Placement], output: &Placement) {
        let shape = output.shape();
        let strides = |i: usize| match inputs.get(i) {
            Some(input) => crate::bind::broadcast_strides(input, &shape),
            None => vec![0; shape.len()],
        };
        let offset = |i: usize| inputs.get(i).map_or(0, |input| input.offset());
        self.nest = Nest::new(
            &shape,
            [output.offset(), offset(0), offset(1), offset(2)],
            [&output.strides(), &strides(0), &strides(1), &strides(2)],
        );
    }

    fn run(&self, call: DenseCall<'_>) -> Result<(), Fault> {
        match self.task {
            Task::Binary(kind) => self.binary(call, kind),
            Task::Convert(to) => self.conversion(call, to),
            Task::Select => match crate::lower::element_bytes(self.element_type) {
                1 => self.select::<u8>(call),
                4 => self.select::<u32>(call),
                _ => self.select::<u64>(call),
            },
        }
    }
}
