//! What kernels that end in an epilogue write to.

use super::error::expect_len;
use super::ties::Doubts;
use super::{ArgError, Epilogue, OutputKind, View, ViewMut};

/// Output image of a kernel that ends in an [`Epilogue`].
#[derive(Debug)]
pub enum Output<'a> {
    /// Codes.
    U8(ViewMut<'a, u8>),
    /// Codes, and where they are in doubt; for epilogues that say when.
    Noted(ViewMut<'a, u8>, &'a mut Doubts),
    /// Real values.
    F32(ViewMut<'a, f32>),
}

impl Output<'_> {
    /// Takes the doubts out, to be put back by [`note`](Self::note); `None` where none are noted.
    pub(crate) fn take_doubts(&mut self) -> Option<Doubts> {
        match self {
            Output::Noted(_, doubts) => Some(std::mem::take(doubts)),
            _ => None,
        }
    }

    /// Puts doubts back.
    pub(crate) fn note(&mut self, noted: Option<Doubts>) {
        if let (Output::Noted(_, doubts), Some(noted)) = (self, noted) {
            **doubts = noted;
        }
    }

    /// Where the elements lie.
    pub fn layout(&self) -> &super::Layout {
        match self {
            Output::U8(view) | Output::Noted(view, _) => view.layout(),
            Output::F32(view) => view.layout(),
        }
    }

    /// Checks element type and channels against the epilogue, the residual against both.
    pub(crate) fn check(&self, epilogue: &Epilogue, residual: Option<&View<'_, u8>>) -> Result<(), ArgError> {
        let kind = match self {
            Output::U8(_) | Output::Noted(..) => OutputKind::U8,
            Output::F32(_) => OutputKind::F32,
        };
        if kind != epilogue.output {
            return Err(ArgError::Mismatch {
                what: "bytes per output element",
                expected: if epilogue.output == OutputKind::U8 { 1 } else { 4 },
                found: if kind == OutputKind::U8 { 1 } else { 4 },
            });
        }
        if matches!(self, Output::Noted(..)) {
            expect_len(
                "epilogues that know ties",
                1,
                usize::from(epilogue.ties.is_some()),
            )?;
        }
        let layout = self.layout();
        expect_len("output channels", epilogue.channels, layout.channels)?;
        expect_len(
            "residual inputs",
            usize::from(epilogue.has_residual()),
            usize::from(residual.is_some()),
        )?;
        if let Some(residual) = residual {
            expect_len("residual height", layout.height, residual.layout().height)?;
            expect_len("residual width", layout.width, residual.layout().width)?;
            expect_len("residual channels", layout.channels, residual.layout().channels)?;
        }
        Ok(())
    }
}
