//! Behaviour of whole pipelines: order, queues, faults, stops, and the ledger at the end of each.

#[cfg(test)]
mod runtime {
    mod batches;
    mod dead_letters;
    mod faults;
    mod flow;
    mod harness;
    mod joins;
    mod pins;
    mod queues;
    mod random;
    mod restarts;
    mod stop;
    mod timing;
}
