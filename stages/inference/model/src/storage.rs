//! Bytes that tensors share.

use std::sync::Arc;

/// What holds bytes that tensors share: a mapped file, a vector.
pub trait Storage: Send + Sync {
    /// All of them; always the same slice.
    fn bytes(&self) -> &[u8];

    /// Says that the bytes will hardly be read from now on: memory that can be filled from a file again goes back to the
    /// system.
    fn give_back(&self) {}
}

impl Storage for Vec<u8> {
    fn bytes(&self) -> &[u8] {
        self
    }
}

/// Bytes that tensors share.
pub type SharedBytes = Arc<dyn Storage>;
