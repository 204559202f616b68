//! How far a value computed from integer sums may be from the model's own.

use flow_model::op::{BinaryKind, Op, UnaryKind};

/// What is known of the size of a value, and of the error that the step's value of it may have, in units of `2^-23`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bound {
    pub size: f64,
    pub error: f64,
}

impl Bound {
    /// A sum of that many products: its roundings, and those of scales and zero points of codes.
    pub fn of_products(a: Bound, b: Bound, terms: f64) -> Self {
        let size = a.size * b.size * terms;
        Self {
            size,
            error: size + terms * (a.error * b.size + b.error * a.size),
        }
    }

    /// Divided by constants.
    pub fn divided(self, by: &[f32]) -> Self {
        let least = by.iter().fold(f32::INFINITY, |m, v| m.min(v.abs()));
        let (size, error) = (self.size / f64::from(least), self.error / f64::from(least));
        Self {
            size,
            error: error + 2.0 * size,
        }
    }

    /// Of values side by side.
    pub fn of_joint(parts: &[Bound]) -> Self {
        let most = |f: fn(&Bound) -> f64| parts.iter().map(f).fold(0.0, f64::max);
        Self {
            size: most(|b| b.size),
            error: most(|b| b.error),
        }
    }

    /// An element-wise operation: how it passes on errors, and its own rounding.
    pub fn of_each(op: &Op, bounds: &[Bound]) -> Self {
        let sizes: f64 = bounds.iter().map(|b| b.size).sum();
        let errors: f64 = bounds.iter().map(|b| b.error).sum();
        let of = |size: f64, slope: f64| Bound {
            size,
            error: slope * errors + 4.0 * size,
        };
        let lost = Bound {
            size: f64::INFINITY,
            error: f64::INFINITY,
        };
        match (op, bounds) {
            (_, bounds) if bounds.iter().all(|b| b.error == 0.0) => of(sizes.max(1.0), 0.0),
            (Op::Clamp { .. }, _) => of(sizes, 1.0),
            (Op::PRelu, &[x, slope]) => of(x.size * slope.size.max(1.0), slope.size.max(1.0)),
            (Op::Unary(kind), _) => match kind {
                UnaryKind::Relu | UnaryKind::Abs | UnaryKind::Negative => of(sizes, 1.0),
                UnaryKind::Sigmoid | UnaryKind::Tanh | UnaryKind::HSigmoid | UnaryKind::Erf => of(1.0, 1.2),
                UnaryKind::HSwish | UnaryKind::Gelu { .. } | UnaryKind::Mish | UnaryKind::SoftPlus => {
                    of(sizes + 1.0, 1.6)
                }
                UnaryKind::Swish { beta } if beta.abs() <= 4.0 => of(sizes + 1.0, 2.0),
                UnaryKind::Elu { alpha } => {
                    of(sizes + f64::from(alpha.abs()), f64::from(alpha.abs()).max(1.0))
                }
                _ => lost,
            },
            (Op::Binary(kind), &[a, b]) => match kind {
                BinaryKind::Add | BinaryKind::Subtract | BinaryKind::Maximum | BinaryKind::Minimum => {
                    of(sizes, 1.0)
                }
                BinaryKind::Multiply => Bound {
                    size: a.size * b.size,
                    error: a.error * b.size + b.error * a.size + 2.0 * a.size * b.size,
                },
                _ => lost,
            },
            _ => lost,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Bound;

    #[test]
    fn an_error_grows_by_what_a_value_is_divided_by() {
        let bound = Bound {
            size: 6.0,
            error: 3.0,
        };
        let sixth = bound.divided(&[6.0, -12.0]);
        assert_eq!((sixth.size, sixth.error), (1.0, 2.5));
        assert!(!bound.divided(&[0.0, 1.0]).error.is_finite());
    }
}
