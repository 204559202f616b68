//! Activations in memory: NHWC, one image, with a spatial halo and padded channels.

use std::marker::PhantomData;

use super::ArgError;

/// Margin in pixels around an image, present in memory and filled with the tensor's zero point (codes) or
/// 0 (f32), so that convolutions read padding instead of branching on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[allow(missing_docs, reason = "sides of a rectangle")]
pub struct Halo {
    pub top: usize,
    pub bottom: usize,
    pub left: usize,
    pub right: usize,
}

impl Halo {
    /// The same margin on all four sides.
    pub fn uniform(pixels: usize) -> Self {
        Self {
            top: pixels,
            bottom: pixels,
            left: pixels,
            right: pixels,
        }
    }

    /// The smallest halo that holds both.
    #[must_use]
    pub fn union(self, other: Self) -> Self {
        Self {
            top: self.top.max(other.top),
            bottom: self.bottom.max(other.bottom),
            left: self.left.max(other.left),
            right: self.right.max(other.right),
        }
    }
}

/// Where the elements of one NHWC image lie. All lengths and strides count elements, not bytes.
///
/// Element `(y, x, c)` lies at `origin + y * row_pitch + x * pixel_stride + c`; the halo has negative
/// coordinates or ones past the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Layout {
    /// Rows, without halo.
    pub height: usize,
    /// Pixels in a row, without halo.
    pub width: usize,
    /// Channels in use.
    pub channels: usize,
    /// From one pixel to the next; at least `channels`.
    pub pixel_stride: usize,
    /// From one row to the next; at least `width * pixel_stride`.
    pub row_pitch: usize,
    /// Margin that belongs to the image.
    pub halo: Halo,
    /// Index of element (0, 0, 0).
    pub origin: usize,
}

/// Elements that a buffer should have past its last pixel, so that kernels may read whole groups of four
/// channels of the last pixel (the checks say so where it is missing).
pub const SLACK: usize = 64;

impl Layout {
    /// No halo, no padding: row-major `[height, width, channels]`.
    pub fn dense(height: usize, width: usize, channels: usize) -> Self {
        Self {
            height,
            width,
            channels,
            pixel_stride: channels,
            row_pitch: width.saturating_mul(channels),
            halo: Halo::default(),
            origin: 0,
        }
    }

    /// Pixels of `pixel_stride` elements with a halo; rows follow one another without a gap, and the right
    /// halo of a row is followed by the left halo of the next.
    ///
    /// # Errors
    /// [`ArgError::Overflow`] where sizes pass the address space.
    pub fn with_halo(
        height: usize,
        width: usize,
        channels: usize,
        pixel_stride: usize,
        halo: Halo,
    ) -> Result<Self, ArgError> {
        let overflow = ArgError::Overflow("layout");
        let row_pitch = width
            .checked_add(halo.left)
            .and_then(|w| w.checked_add(halo.right))
            .and_then(|w| w.checked_mul(pixel_stride))
            .ok_or(overflow)?;
        let origin = row_pitch
            .checked_mul(halo.top)
            .and_then(|o| o.checked_add(halo.left.checked_mul(pixel_stride)?))
            .ok_or(ArgError::Overflow("layout"))?;
        let layout = Self {
            height,
            width,
            channels,
            pixel_stride,
            row_pitch,
            halo,
            origin,
        };
        layout.required_len()?;
        Ok(layout)
    }

    /// Index one past the last element, halo included, without slack.
    ///
    /// # Errors
    /// [`ArgError::Overflow`] where sizes pass the address space.
    pub fn required_len(&self) -> Result<usize, ArgError> {
        let rows = self.height.checked_add(self.halo.bottom);
        let pixels = self.width.checked_add(self.halo.right);
        rows.and_then(|r| r.saturating_sub(1).checked_mul(self.row_pitch))
            .and_then(|y| {
                let x = pixels?.saturating_sub(1).checked_mul(self.pixel_stride)?;
                y.checked_add(x)?
                    .checked_add(self.channels)?
                    .checked_add(self.origin)
            })
            .filter(|&len| len <= isize::MAX as usize / 8)
            .ok_or(ArgError::Overflow("layout"))
    }

    /// The length to allocate: [`required_len`](Self::required_len), whole pixels, and [`SLACK`].
    ///
    /// # Errors
    /// [`ArgError::Overflow`] where sizes pass the address space.
    pub fn allocation_len(&self) -> Result<usize, ArgError> {
        self.required_len()?
            .checked_add(self.pixel_stride - self.channels.min(self.pixel_stride))
            .and_then(|n| n.checked_add(SLACK))
            .ok_or(ArgError::Overflow("layout"))
    }

    /// The same pixels, channels `first .. first + channels`.
    ///
    /// # Errors
    /// [`ArgError::Mismatch`] where the image has fewer channels.
    pub fn channel_slice(&self, first: usize, channels: usize) -> Result<Self, ArgError> {
        match first.checked_add(channels) {
            Some(end) if end <= self.channels => Ok(Self {
                channels,
                origin: self.origin + first,
                ..*self
            }),
            _ => Err(ArgError::Mismatch {
                what: "end of the channel slice",
                expected: self.channels,
                found: first.saturating_add(channels),
            }),
        }
    }

    /// Checks strides and that every element, halo included, lies below `len`.
    fn check(&self, len: usize) -> Result<(), ArgError> {
        if self.height == 0 || self.width == 0 || self.channels == 0 {
            return Err(ArgError::Empty);
        }
        if self.pixel_stride < self.channels {
            return Err(ArgError::Mismatch {
                what: "pixel stride (at least the channels)",
                expected: self.channels,
                found: self.pixel_stride,
            });
        }
        let end = self.required_len()?;
        let row = (self.width - 1) * self.pixel_stride + self.channels;
        if self.row_pitch < row {
            return Err(ArgError::Mismatch {
                what: "row pitch (at least a row)",
                expected: row,
                found: self.row_pitch,
            });
        }
        let before = (self.halo.top.checked_mul(self.row_pitch))
            .and_then(|y| y.checked_add(self.halo.left.checked_mul(self.pixel_stride)?))
            .ok_or(ArgError::Overflow("halo"))?;
        if before > self.origin || end > len {
            return Err(ArgError::OutOfBounds {
                what: "image with its halo",
                needed: end.max(before),
                available: if before > self.origin { self.origin } else { len },
            });
        }
        Ok(())
    }
}

macro_rules! view_methods {
    () => {
        /// Where the elements lie.
        pub fn layout(&self) -> &Layout {
            &self.layout
        }

        /// Elements of the underlying buffer.
        pub fn buffer_len(&self) -> usize {
            self.len
        }
    };
}

/// One readable image. Checked on construction: every element, halo included, lies inside the buffer.
#[derive(Debug, Clone, Copy)]
pub struct View<'a, T> {
    origin: *const T,
    len: usize,
    layout: Layout,
    buffer: PhantomData<&'a [T]>,
}

/// One writable image; see [`View`].
#[derive(Debug)]
pub struct ViewMut<'a, T> {
    origin: *mut T,
    len: usize,
    layout: Layout,
    buffer: PhantomData<&'a mut [T]>,
}

// SAFETY: a view is a shared slice with strides.
unsafe impl<T: Sync> Send for View<'_, T> {}
// SAFETY: a view is a shared slice with strides.
unsafe impl<T: Sync> Sync for View<'_, T> {}
// SAFETY: a mutable view is an exclusive slice with strides.
unsafe impl<T: Send> Send for ViewMut<'_, T> {}
// SAFETY: through a shared reference only the layout can be read safely; kernels that write through one
// state in their contract that concurrent bands are disjoint.
unsafe impl<T: Sync> Sync for ViewMut<'_, T> {}

impl<'a, T> View<'a, T> {
    view_methods!();

    /// A view of `data`.
    ///
    /// # Errors
    /// [`ArgError`] where an element, halo included, lies outside `data`.
    pub fn new(data: &'a [T], layout: Layout) -> Result<Self, ArgError> {
        // SAFETY: a slice is readable for its lifetime.
        unsafe { Self::from_raw(data.as_ptr(), data.len(), layout) }
    }

    /// A view of `len` elements at `data`, for buffers that other views write to elsewhere.
    ///
    /// # Safety
    /// `len` initialised elements at `data` stay readable for `'a`, and no other thread or view writes to
    /// the elements of this view while a kernel reads them.
    ///
    /// # Errors
    /// As [`View::new`].
    pub unsafe fn from_raw(data: *const T, len: usize, layout: Layout) -> Result<Self, ArgError> {
        layout.check(len)?;
        Ok(Self {
            // SAFETY: `check` found the origin inside the buffer.
            origin: unsafe { data.add(layout.origin) },
            len,
            layout,
            buffer: PhantomData,
        })
    }

    /// Address of element (0, 0, 0).
    pub(crate) fn origin(&self) -> *const T {
        self.origin
    }

    /// Elements from (0, 0, 0) to the end of the buffer.
    pub(crate) fn available(&self) -> usize {
        self.len - self.layout.origin
    }
}

impl<T: Copy> View<'_, T> {
    /// The channels of pixel `(y, x)` of the image.
    pub(crate) fn pixel(&self, y: usize, x: usize) -> &[T] {
        let l = &self.layout;
        assert!(y < l.height && x < l.width);
        // SAFETY: the constructor found the image inside the buffer.
        unsafe {
            let first = self.origin.add(y * l.row_pitch + x * l.pixel_stride);
            std::slice::from_raw_parts(first, l.channels)
        }
    }

    /// Element `(y, x, c)`; halo pixels have negative coordinates or ones past the end.
    pub(crate) fn at(&self, y: isize, x: isize, c: usize) -> T {
        let l = &self.layout;
        debug_assert!(y >= -(l.halo.top as isize) && y < (l.height + l.halo.bottom) as isize);
        debug_assert!(x >= -(l.halo.left as isize) && x < (l.width + l.halo.right) as isize);
        debug_assert!(c < l.channels);
        // SAFETY: callers keep inside image and halo, which the constructor checked.
        unsafe {
            *self
                .origin
                .offset(y * l.row_pitch as isize + x * l.pixel_stride as isize)
                .add(c)
        }
    }
}

impl<'a, T> ViewMut<'a, T> {
    view_methods!();

    /// A view of `data`.
    ///
    /// # Errors
    /// As [`View::new`].
    pub fn new(data: &'a mut [T], layout: Layout) -> Result<Self, ArgError> {
        // SAFETY: an exclusive slice is readable and writable for its lifetime.
        unsafe { Self::from_raw(data.as_mut_ptr(), data.len(), layout) }
    }

    /// A view of `len` elements at `data`, for buffers that other views refer to elsewhere, and for the bands
    /// of a team of threads.
    ///
    /// # Safety
    /// `len` initialised elements at `data` stay readable and writable for `'a`, and no other thread or view
    /// touches the elements that a kernel writes through this one while it runs.
    ///
    /// # Errors
    /// As [`View::new`].
    pub unsafe fn from_raw(data: *mut T, len: usize, layout: Layout) -> Result<Self, ArgError> {
        layout.check(len)?;
        Ok(Self {
            // SAFETY: `check` found the origin inside the buffer.
            origin: unsafe { data.add(layout.origin) },
            len,
            layout,
            buffer: PhantomData,
        })
    }

    /// Address of element `(y, x, 0)`, inside the image.
    pub(crate) fn pixel(&self, y: usize, x: usize) -> *mut T {
        debug_assert!(y < self.layout.height && x < self.layout.width);
        // SAFETY: inside the image, which the constructor checked.
        unsafe {
            self.origin
                .add(y * self.layout.row_pitch + x * self.layout.pixel_stride)
        }
    }
}

impl<T: Copy> ViewMut<'_, T> {
    /// Writes `value` to the halo.
    pub fn fill_halo(&mut self, value: T) {
        let l = self.layout;
        let (top, left) = (l.halo.top as isize, l.halo.left as isize);
        let channels = l.channels;
        for y in -top..(l.height + l.halo.bottom) as isize {
            let outside = y < 0 || y >= l.height as isize;
            let mut x = -left;
            while x < (l.width + l.halo.right) as isize {
                if !outside && x == 0 {
                    x = l.width as isize;
                    continue;
                }
                let at = y * l.row_pitch as isize + x * l.pixel_stride as isize;
                for c in 0..channels {
                    // SAFETY: image and halo lie inside the buffer, checked by the constructor.
                    unsafe { *self.origin.offset(at).add(c) = value };
                }
                x += 1;
            }
        }
    }
}
