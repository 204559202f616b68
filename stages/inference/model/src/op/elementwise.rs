//! Element-wise operations by kind.

impl UnaryKind {
    /// Name of the operation as model files spell it.
    pub fn type_name(self) -> &'static str {
        match self {
            Self::Relu => "ReLU",
            Self::Sigmoid => "Sigmoid",
            Self::Tanh => "Tanh",
            Self::Exp => "Exp",
            Self::Log => "Log",
            Self::Sqrt => "Sqrt",
            Self::Abs => "Abs",
            Self::Negative => "Negative",
            Self::Floor => "Floor",
            Self::Ceiling => "Ceiling",
            Self::HSwish => "HSwish",
            Self::HSigmoid => "HSigmoid",
            Self::Swish { .. } => "Swish",
            Self::Elu { .. } => "Elu",
            Self::Gelu { .. } => "Gelu",
            Self::Mish => "Mish",
            Self::SoftPlus => "SoftPlus",
            Self::SoftSign => "SoftSign",
            Self::Erf => "Erf",
            Self::Sign => "Sign",
            Self::Sin => "Sin",
            Self::Cos => "Cos",
            Self::Tan => "Tan",
            Self::Asin => "Asin",
            Self::Acos => "Acos",
            Self::Atan => "Atan",
            Self::Sinh => "Sinh",
            Self::Cosh => "Cosh",
            Self::Asinh => "Asinh",
            Self::Acosh => "Acosh",
            Self::Atanh => "Atanh",
            Self::Round { .. } => "Round",
            Self::LogicalNot => "LogicalNot",
        }
    }
}

/// Element-wise operations on two inputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[allow(missing_docs, reason = "the names are those of the operation specification")]
pub enum BinaryKind {
    Add,
    Subtract,
    Multiply,
    Divide,
    /// Division of integers that truncates towards zero (`m_pythondiv="false"`); `Divide` rounds down.
    DivideTruncating,
    Power,
    Maximum,
    Minimum,
    Mod,
    FloorMod,
    SquaredDifference,
    Equal,
    NotEqual,
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
    LogicalAnd,
    LogicalOr,
    LogicalXor,
}

/// Element-wise operations on one input.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
#[allow(missing_docs, reason = "the names are those of the operation specification")]
pub enum UnaryKind {
    Relu,
    Sigmoid,
    Tanh,
    Exp,
    Log,
    Sqrt,
    Abs,
    Negative,
    Floor,
    Ceiling,
    HSwish,
    HSigmoid,
    Swish {
        beta: f32,
    },
    Elu {
        alpha: f32,
    },
    Gelu {
        tanh: bool,
    },
    Mish,
    SoftPlus,
    SoftSign,
    Erf,
    Sign,
    Sin,
    Cos,
    Tan,
    Asin,
    Acos,
    Atan,
    Sinh,
    Cosh,
    Asinh,
    Acosh,
    Atanh,
    /// To an integer, halves to the even one or away from zero.
    Round {
        half_to_even: bool,
    },
    LogicalNot,
}
