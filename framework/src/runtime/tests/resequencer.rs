//! The resequencer against a sequential model.

use proptest::prelude::*;

use crate::runtime::resequencer::{Released, Resequencer};

/// What a tombstone looks like among numbers.
const GONE: u64 = 1000;

fn drain(order: &Resequencer<u64>) -> Vec<Option<u64>> {
    let mut left = Vec::new();
    order.release(0, |released| {
        left.push(match released {
            Released::Item(item) => Some(item),
            Released::Gone(count) => Some(GONE + count),
            Released::End => None,
        });
    });
    left
}

#[test]
fn a_gap_holds_back_what_follows_until_it_is_settled() {
    let order = Resequencer::new(1, Some(4), false);
    for n in 0..3 {
        assert_eq!(order.number(0), n);
    }
    order.settle(0, 2, Some(2));
    order.settle(0, 1, Some(1));
    order.end(0);
    assert_eq!(drain(&order), []);
    order.settle(0, 0, None);
    assert_eq!(drain(&order), [Some(1), Some(2), None]);
    assert_eq!(drain(&order), []);
}

proptest! {
    /// Whatever the order in which numbers are settled, items leave in the order of their numbers, the end
    /// last and once, and every credit comes back.
    #[test]
    fn items_leave_in_order(
        kept in prop::collection::vec(any::<bool>(), 1..40),
        seed in any::<u64>(),
        marks in any::<bool>(),
    ) {
        let count = kept.len();
        let order = Resequencer::new(1, Some(count), marks);
        let credits = order.credits(0).unwrap();
        for _ in 0..count {
            order.number(0);
            credits.try_recv().unwrap();
        }
        prop_assert!(credits.try_recv().is_err());
        let mut numbers: Vec<usize> = (0..count).collect();
        let mut state = seed | 1;
        for i in (1..count).rev() {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            numbers.swap(i, (state >> 33) as usize % (i + 1));
        }
        let mut left = Vec::new();
        for &n in &numbers {
            order.settle(0, n as u64, kept[n].then_some(n as u64));
            left.extend(drain(&order));
        }
        order.end(0);
        left.extend(drain(&order));
        // Tombstones may leave in parts: every place is told once, in order.
        let mut places = Vec::new();
        for left in &left {
            match left {
                Some(gone) if *gone > GONE => places.extend(vec![None; (gone - GONE) as usize]),
                other => places.push(*other),
            }
        }
        let place = |n: usize| kept[n].then_some(n as u64);
        let mut expected: Vec<Option<u64>> =
            (0..count).map(place).filter(|place| marks || place.is_some()).collect();
        expected.push(None);
        prop_assert_eq!(places, expected);
        prop_assert_eq!(credits.len(), count);
    }
}
