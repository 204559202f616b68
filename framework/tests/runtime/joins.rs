//! Joins: a stream that comes by several ways is put together, whatever happened on each of them.

use std::sync::{Arc, Mutex};

use flow::config::plan::{BatchSpec, Join, Lossy, Overflow, QueueSpec, Replicas};
use flow::packet::Joined;
use flow::runtime::{Outcome, RunReport};
use proptest::prelude::*;

use super::harness::{Build, fatal, number, oops};

/// What a join handed on: the number of the packet, and which inputs gave it.
type Pairs = Vec<(u64, Vec<bool>)>;

/// What happens to a packet on one of the ways.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Fate {
    Passes,
    Drops,
    Fails,
    Panics,
}

/// A source, a way without a stage and one or two ways with stages, and a join.
fn joined(
    join: Join,
    fates: &[Vec<Fate>],
    capacity: usize,
    adjust: impl Fn(&mut Build),
) -> (RunReport, Pairs) {
    let mut build = Build::new();
    let count = fates[0].len() as u64;
    build.source_with("cam", count, |n, out| {
        if n % 7 == 3 {
            out.discontinuity();
        }
        Ok(())
    });
    build.pass("decode", &["cam"]);
    let mut inputs = vec!["decode".to_owned()];
    for (way, fates) in fates.iter().enumerate() {
        let name = format!("way{way}");
        let fates = fates.clone();
        let stage = build.each(&name, &["decode"], move |packet, out| {
            match fates[number(&packet) as usize] {
                Fate::Passes => out.emit(packet),
                Fate::Drops => out.drop_packet(&packet.header, "boring"),
                Fate::Fails => return Err(oops()),
                Fate::Panics => return Err(fatal()),
            }
            Ok(())
        });
        stage.restart.max = u32::MAX;
        inputs.push(name);
    }
    let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
    let pairs = Arc::new(Mutex::new(Pairs::new()));
    let given = pairs.clone();
    let sink = build.sink_with("both", &inputs, move |packet| {
        let joined = packet.attachment::<Joined>().unwrap();
        let ids = joined.parts.iter().flatten().map(|part| &part.header.id);
        assert!(ids.into_iter().all(|id| *id == packet.header.id));
        let came = joined.parts.iter().map(Option::is_some).collect();
        given.lock().unwrap().push((number(&packet), came));
        Ok(())
    });
    sink.join = Some(join);
    build.queue(
        "both",
        QueueSpec {
            capacity,
            ..QueueSpec::default()
        },
    );
    adjust(&mut build);
    let report = build.run();
    let pairs = std::mem::take(&mut *pairs.lock().unwrap());
    (report, pairs)
}

/// What a join of all ways hands on, one packet after another.
fn model(join: Join, fates: &[Vec<Fate>]) -> Pairs {
    let of = |n: usize| {
        let ways = fates.iter().map(|fates| fates[n] == Fate::Passes);
        let came: Vec<bool> = std::iter::once(true).chain(ways).collect();
        (join == Join::Any || came.iter().all(|came| *came)).then_some((n as u64, came))
    };
    (0..fates[0].len()).filter_map(of).collect()
}

#[test]
fn a_way_on_which_everything_is_dropped_holds_up_nobody() {
    let fates = [vec![Fate::Drops; 500]];
    let (report, pairs) = joined(Join::All, &fates, 1, |_| {});
    assert!(pairs.is_empty());
    assert_eq!(report.outcome, Outcome::Ok, "{report}");
    // The reason of the drop is told, not what followed from it.
    assert_eq!(report.ledger.dropped, [("boring".to_owned(), 500)].into());
    let (report, pairs) = joined(Join::Any, &fates, 1, |_| {});
    assert_eq!(pairs.len(), 500);
    assert_eq!(
        report.ledger.dropped["boring"], 500,
        "the worst of all ways counts"
    );
}

#[test]
fn replicas_and_batches_on_a_way_change_nothing() {
    let fates: Vec<Fate> = (0..400)
        .map(|n| if n % 5 == 0 { Fate::Drops } else { Fate::Passes })
        .collect();
    for batch in [false, true] {
        let (report, pairs) = joined(Join::All, std::slice::from_ref(&fates), 8, |build| {
            let stage = build.component("way0");
            stage.replicas = Replicas::Count(3);
            stage.batch = batch.then(|| BatchSpec {
                max: 4,
                max_wait: std::time::Duration::from_millis(1),
                per_stream_max: 4,
                sizes: Vec::new(),
            });
            build.component("both").replicas = Replicas::Count(1);
        });
        assert_eq!(pairs, model(Join::All, std::slice::from_ref(&fates)));
        assert_eq!(report.outcome, Outcome::Ok, "{report}");
    }
}

#[test]
fn what_a_lossy_queue_drops_on_one_way_is_not_waited_for() {
    for overflow in [Overflow::Latest, Overflow::DropOldest, Overflow::DropNewest] {
        let fates = [vec![Fate::Passes; 2000]];
        let (report, pairs) = joined(Join::All, &fates, 2, |build| {
            let queue = QueueSpec {
                capacity: 1,
                overflow,
                lossy: Lossy::All,
                ..QueueSpec::default()
            };
            build.queue("way0", queue);
        });
        let lost = report.ledger.dropped.get("overflow").copied().unwrap_or(0);
        assert_eq!(pairs.len() as u64 + lost, 2000, "{report}");
        assert!(pairs.is_sorted() && report.ledger.balanced);
    }
}

fn fate() -> impl Strategy<Value = Fate> {
    prop_oneof![
        6 => Just(Fate::Passes),
        2 => Just(Fate::Drops),
        1 => Just(Fate::Fails),
        1 => Just(Fate::Panics),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    /// A join gives what a model gives that looks at one packet after another.
    #[test]
    fn a_join_equals_its_sequential_model(
        first in prop::collection::vec(fate(), 40),
        second in prop::collection::vec(fate(), 40),
        two in any::<bool>(),
        any in any::<bool>(),
        capacity in 1_usize..4,
        replicas in 1_usize..4,
    ) {
        let join = if any { Join::Any } else { Join::All };
        let fates = if two { vec![first, second] } else { vec![first] };
        let (report, pairs) = joined(join, &fates, capacity, |build| {
            build.component("way0").replicas = Replicas::Count(replicas);
        });
        prop_assert_eq!(pairs, model(join, &fates));
        prop_assert!(report.ledger.balanced, "{}", report);
        prop_assert!(report.failure.is_none(), "{}", report);
    }
}
