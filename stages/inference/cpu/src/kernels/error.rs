//! What can be wrong with the arguments of a kernel.

/// Arguments that a kernel cannot run with. Every message says what was expected and what was found.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ArgError {
    /// Sizes do not fit the address space.
    #[error("size of {0} passes the address space; make the tensor smaller")]
    Overflow(&'static str),
    /// A dimension is zero.
    #[error("a dimension is zero, expected at least one element")]
    Empty,
    /// A length or shape is not what the other arguments call for.
    #[error("{what}: expected {expected}, found {found}")]
    Mismatch {
        /// Which length.
        what: &'static str,
        /// Expected.
        expected: usize,
        /// Found.
        found: usize,
    },
    /// A read or write would leave its buffer.
    #[error(
        "{what}: {needed} elements needed, {available} in the buffer; enlarge the buffer, its halo or slack"
    )]
    OutOfBounds {
        /// Which access.
        what: &'static str,
        /// Elements needed from the start of the image or buffer.
        needed: usize,
        /// Elements there are.
        available: usize,
    },
    /// A number is outside its range.
    #[error("{what} is {found}, expected {expected}")]
    Value {
        /// Which number.
        what: &'static str,
        /// The range.
        expected: &'static str,
        /// The number.
        found: f64,
    },
    /// Integer sums could leave the 32-bit range.
    #[error("sums over {taps} taps can leave 32 bits (limit {limit}); run the layer in f32")]
    Accumulator {
        /// Products per output.
        taps: usize,
        /// Most that are safe.
        limit: usize,
    },
}

/// `expected == found`, else [`ArgError::Mismatch`].
pub(crate) fn expect_len(what: &'static str, expected: usize, found: usize) -> Result<(), ArgError> {
    if expected == found {
        Ok(())
    } else {
        Err(ArgError::Mismatch {
            what,
            expected,
            found,
        })
    }
}
