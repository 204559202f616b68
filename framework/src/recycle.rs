//! Shared values that are used again.
//!
//! A packet's payload and attachments are shared (`Arc`), and every stage on the way may let go of them last. A stage
//! that gives a value for each packet need not allocate one: it keeps what it has handed out, and takes back whatever
//! nobody else holds any more.

use std::collections::VecDeque;
use std::sync::Arc;

/// Values of one sort, handed out shared and used again; one thread hands them out.
///
/// ```
/// use flow::recycle::Recycler;
///
/// let mut lists: Recycler<Vec<u8>> = Recycler::new(8);
/// let first = lists.share(Vec::new, |list| list.push(1));
/// let place = first.as_ptr();
/// drop(first);
/// let second = lists.share(Vec::new, |list| {
///     list.clear();
///     list.push(2);
/// });
/// assert_eq!((second.as_ptr(), second[0]), (place, 2));
/// ```
#[derive(Debug)]
pub struct Recycler<T> {
    /// Handed out longest ago first.
    kept: VecDeque<Arc<T>>,
    most: usize,
}

impl<T> Recycler<T> {
    /// Keeps at most that many values, in use or not; further ones cost an allocation each.
    pub fn new(most: usize) -> Self {
        Self {
            kept: VecDeque::with_capacity(most),
            most,
        }
    }

    /// A value that nobody else holds, made by `make` or handed out before; `fill` makes it what it shall be, whatever
    /// it held.
    pub fn share(&mut self, make: impl FnOnce() -> T, fill: impl FnOnce(&mut T)) -> Arc<T> {
        let infallible = |value: &mut T| {
            fill(value);
            Ok::<(), std::convert::Infallible>(())
        };
        match self.try_share(make, infallible) {
            Ok(shared) => shared,
            Err(never) => match never {},
        }
    }

    /// A value to be shared, in the place of one that nobody else holds any more.
    pub fn put(&mut self, value: T) -> Arc<T> {
        let shared = match self.free() {
            None => Arc::new(value),
            Some(mut free) => {
                if let Some(place) = Arc::get_mut(&mut free) {
                    *place = value;
                }
                free
            }
        };
        self.keep(&shared);
        shared
    }

    /// As [`share`](Self::share), where `fill` may fail.
    ///
    /// # Errors
    /// Those of `fill`.
    pub fn try_share<E>(
        &mut self,
        make: impl FnOnce() -> T,
        fill: impl FnOnce(&mut T) -> Result<(), E>,
    ) -> Result<Arc<T>, E> {
        let mut value = self.free().unwrap_or_else(|| Arc::new(make()));
        if let Some(value) = Arc::get_mut(&mut value) {
            fill(value)?;
        }
        self.keep(&value);
        Ok(value)
    }

    fn keep(&mut self, value: &Arc<T>) {
        if self.kept.len() < self.most {
            self.kept.push_back(value.clone());
        }
    }

    /// A value that nobody else holds.
    fn free(&mut self) -> Option<Arc<T>> {
        for _ in 0..self.kept.len() {
            let mut value = self.kept.pop_front()?;
            if Arc::get_mut(&mut value).is_some() {
                return Some(value);
            }
            self.kept.push_back(value);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_somebody_holds_is_not_used_again() {
        let mut numbers = Recycler::new(2);
        let mut next = |n| numbers.share(|| 0, |value| *value = n);
        let (one, two, three) = (next(1), next(2), next(3));
        assert_eq!((*one, *two, *three), (1, 2, 3));
        let place = Arc::as_ptr(&two);
        drop(two);
        let four = next(4);
        assert_eq!((Arc::as_ptr(&four), *one, *three, *four), (place, 1, 3, 4));
        assert_eq!(Arc::strong_count(&three), 1, "one too many is not kept");
    }

    #[test]
    fn a_value_that_could_not_be_filled_is_let_go() {
        let mut numbers = Recycler::new(2);
        assert_eq!(numbers.try_share(|| 1, |_| Err("no")), Err("no"));
        assert_eq!(*numbers.share(|| 2, |_| {}), 2);
    }
}
