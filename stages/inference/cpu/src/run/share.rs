//! How the members of a team share the work of a step.

use std::ops::Range;

use crate::bind::Call;
use crate::kernels::literal::LANES;
use crate::lower::{Action, StepDraft};

/// Maps up to this wide are shared by output channels: each member then reads its own weights only.
const SMALL_MAP: usize = 14;

/// Parts per member: one that starts late leaves work to the others.
const PARTS: usize = 2;

/// Work, in multiplications of 8 bits, that is worth waking another member: some microseconds.
const WORTH_SHARING: u64 = 400_000;

/// What an element costs that is only moved or rounded, in the same measure.
const ELEMENT: u64 = 16;

/// What is divided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Along {
    Rows,
    Panels,
}

/// A division of the output of a call into parts that no two members write to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Division<'a> {
    action: &'a Action,
    along: Along,
    parts: usize,
    rows: usize,
    panels: usize,
}

/// One part; kernels without panels look at the rows alone.
#[derive(Debug, Clone)]
pub(super) struct Part {
    pub rows: Range<usize>,
    pub panels: Range<usize>,
}

impl<'a> Division<'a> {
    /// How `members` divide a call of a step.
    pub fn of(step: &'a StepDraft, calls: usize, call: &Call, members: usize) -> Self {
        let output = &call.output;
        let elements = (output.height * output.width * output.channels) as u64;
        let work = step.macs / calls.max(1) as u64 + elements * ELEMENT;
        let panels = match &step.action {
            Action::ConvU8(conv) => conv.panels(),
            Action::ConvF32(conv) => conv.panels(),
            _ => 1,
        };
        let along = if panels > 1 && (output.width <= SMALL_MAP || output.height < members) {
            Along::Panels
        } else {
            Along::Rows
        };
        let whole = match (&step.action, along) {
            // The phases of a transposed convolution have rows of their own.
            (Action::Phases(_), _) => 1,
            (_, Along::Rows) => output.height,
            (_, Along::Panels) => panels,
        };
        let parts = if members > 1 && work >= WORTH_SHARING {
            whole.min(members * PARTS).max(1)
        } else {
            1
        };
        Self {
            action: &step.action,
            along,
            parts,
            rows: output.height,
            panels,
        }
    }

    /// Number of parts; some may be empty.
    pub fn parts(&self) -> usize {
        self.parts
    }

    /// Part `index`.
    pub fn part(&self, index: usize) -> Part {
        let all = Part {
            rows: 0..self.rows,
            panels: 0..self.panels,
        };
        match self.along {
            Along::Rows => Part {
                rows: self.row(index)..self.row(index + 1),
                ..all
            },
            Along::Panels => Part {
                panels: self.panel(index)..self.panel(index + 1),
                ..all
            },
        }
    }

    /// First row of a part: even, as kernels take pairs of rows.
    fn row(&self, index: usize) -> usize {
        let row = self.rows * index / self.parts;
        if index < self.parts { row & !1 } else { row }
    }

    /// First panel of a part. Vectors of [`LANES`] channels, which are rounded together, are not divided.
    fn panel(&self, index: usize) -> usize {
        let first = |panel: usize| match self.action {
            Action::ConvU8(conv) => conv.first_channel(panel),
            Action::ConvF32(conv) => conv.first_channel(panel),
            _ => None,
        };
        let mut panel = self.panels * index / self.parts;
        while first(panel).is_some_and(|channel| !channel.is_multiple_of(LANES)) {
            panel += 1;
        }
        panel
    }
}
