//! Rules about time, batches and windows.

use std::time::Duration;

use super::components::Draft;
use crate::codes;
use crate::config::keys::{BatchKeys, OrderKey, ReplicasKey, RouteKey};
use crate::diagnostics::Diagnostic;

/// Batches, windows, rates and times that contradict themselves or do nothing.
pub(super) fn check_timing(drafts: &[Draft<'_>], found: &mut Vec<Diagnostic>) {
    for draft in drafts {
        if let Some(batch) = &draft.batch {
            check_batch(draft, batch, found);
        }
        check_window(draft, found);
        let times = [
            (
                "deadline",
                draft.deadline.map(|d| d.0),
                "every packet would be too late",
            ),
            (
                "timeout",
                draft.timeout.map(|t| t.0),
                "every call would take too long",
            ),
            (
                "stall_timeout",
                draft.stall_timeout.map(|t| t.0),
                "the source would be lost at once",
            ),
        ];
        for (key, time, why) in times {
            if time == Some(Duration::ZERO) {
                found.push(
                    Diagnostic::error(
                        codes::OUT_OF_RANGE,
                        draft.key_span(key),
                        format!("`{}.{key}` must be longer than 0s", draft.path),
                    )
                    .help(why),
                );
            }
        }
        if draft.rate_limit.is_some_and(|limit| limit.max.0 <= 0.0) {
            let max = draft.node.get("rate_limit").and_then(|n| n.get("max"));
            found.push(
                Diagnostic::error(
                    codes::OUT_OF_RANGE,
                    max.map_or(draft.name_span, |n| n.span),
                    format!("`{}.rate_limit.max` must be more than 0", draft.path),
                )
                .help("no packet would ever be taken"),
            );
        }
    }
}

fn check_batch(draft: &Draft<'_>, batch: &BatchKeys, found: &mut Vec<Diagnostic>) {
    let node = draft.node.get("batch");
    let span = |key: &str| node.and_then(|n| n.get(key)).map_or(draft.name_span, |n| n.span);
    let mut fault = |key: &str, message: String, help: String| {
        let message = format!("`{}.batch.{key}` {message}", draft.path);
        found.push(Diagnostic::error(codes::BATCH, span(key), message).help(help));
    };
    let max = batch.max;
    if let Some(per_stream) = batch.per_stream_max.filter(|n| *n > max) {
        fault(
            "per_stream_max",
            format!("is {per_stream}, but a batch has at most {max} packets"),
            format!("give {max} at most, or leave it out"),
        );
    }
    if !batch.sizes.is_empty() {
        let ascending = batch.sizes.windows(2).all(|pair| pair[0] < pair[1]);
        if !ascending || batch.sizes.last() != Some(&max) {
            let mut sizes: Vec<usize> = batch
                .sizes
                .iter()
                .copied()
                .filter(|s| *s < max)
                .chain([max])
                .collect();
            sizes.sort_unstable();
            sizes.dedup();
            fault(
                "sizes",
                format!(
                    "must rise and end with `max`, which is {max}; found {:?}",
                    batch.sizes
                ),
                format!("write `sizes: {sizes:?}`"),
            );
        }
    }
    if let Some(window) = draft.window.filter(|window| *window < max) {
        found.push(
            Diagnostic::error(
                codes::BATCH,
                draft.key_span("window"),
                format!(
                    "`{}.window` is {window}, so that no batch of {max} packets of one stream could form",
                    draft.path
                ),
            )
            .help(format!("give {max} at least, or leave it out")),
        );
    }
}

/// A window belongs to replicas that share packets and keep their order.
fn check_window(draft: &Draft<'_>, found: &mut Vec<Diagnostic>) {
    if draft.window.is_none() {
        return;
    }
    let why = if !matches!(draft.replicas, Some(ReplicasKey::Count(n)) if n > 1) {
        "without several replicas"
    } else if draft.route == Some(RouteKey::ByStream) {
        "with `route: by_stream`"
    } else if draft.order == Some(OrderKey::None) {
        "with `order: none`"
    } else {
        return;
    };
    let span = draft.node.entry("window").map_or(draft.name_span, |e| e.key_span);
    found.push(
        Diagnostic::error(
            codes::FOREIGN_KEY,
            span,
            format!("`window` in {} does nothing {why}", draft.path),
        )
        .help("it bounds what replicas that share packets put back into order; remove it"),
    );
}
