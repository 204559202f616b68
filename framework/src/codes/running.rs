//! Codes of pins and of running (E033x, E040x, E041x).

use super::Explanation;

pub(super) const CODES: &[Explanation] = &[
    Explanation {
        code: "E0331",
        title: "too few CPUs for a pin",
        text: "The CPUs that `pin` selects, without those reserved and those another component holds for itself, are fewer than
replicas times threads. The message names the sets and their sizes.

Select more CPUs, use fewer replicas or threads, or say `oversubscribe: true`. `flowrun plan FILE` shows the plan.",
    },
    Explanation {
        code: "E0332",
        title: "a pin names CPUs that the process may not use",
        text: "The process is confined to some CPUs, by a container, a cgroup or `taskset`. Name others, or widen its cpuset.",
    },
    Explanation {
        code: "E0333",
        title: "producer and consumer share one CPU",
        text: "Two components that hand packets to each other are pinned to the same single CPU: each would wait for the other's
time slice. Pin them to different CPUs, or say `oversubscribe: true` on one of them.",
    },
    Explanation {
        code: "E0334",
        title: "the topology of the machine cannot be read",
        text: "Neither hwloc nor /sys tells which CPUs there are, so nothing can be pinned. Leave out `pin`.",
    },
    Explanation {
        code: "E0401",
        title: "a panic",
        text: "Code of a stage, source or sink panicked. The packet is treated as `on_error` says and the instance is rebuilt within
its `restart` budget. It is a bug of that kind; the message holds what the panic said.",
    },
    Explanation {
        code: "E0403",
        title: "a packet was lost in an instance that was rebuilt",
        text: "The stage held the packet back (a decoder does) when another one made it fail, so that its state is gone.",
    },
    Explanation {
        code: "E0404",
        title: "a stage fails again and again",
        text: "The stage failed more often than its `restart` budget allows, and the pipeline ends with exit code 4. The message holds
the last error; `restart: {max: N, within: 60s}` sets the budget.",
    },
    Explanation {
        code: "E0405",
        title: "a stage holds back too many packets",
        text: "A stage must settle what it takes within bounds: emit, drop or fail each packet. It is a bug of that kind.",
    },
    Explanation {
        code: "E0407",
        title: "a queue with `overflow: fail` is full",
        text: "The queue says that it must never be full. Give it more capacity, use `overflow: block`, or make the consumer faster.",
    },
    Explanation {
        code: "E0408",
        title: "a stage broke its contract",
        text: "The stage emitted a packet that it had not taken, or twice, or none at all by the end of the stream. The run ends
with exit code 6, since its ledger cannot be trusted. It is a bug of that kind; the message names the packet.",
    },
    Explanation {
        code: "E0409",
        title: "dead letters cannot be written",
        text: "The file or folder named by `on_error.path` or `on_error.folder` cannot be created or written, or has reached
`max_bytes` or `max_count`. Dead letters are a promise, so the pipeline ends. Run them again or remove them, mend what fails, or
raise the limit.",
    },
    Explanation {
        code: "E0410",
        title: "a pin was not obeyed",
        text: "The system put a worker on other CPUs than it was told, and `runtime.strict_pins` makes that an error. Free these CPUs
for the process, or leave out `strict_pins`.",
    },
    Explanation {
        code: "E0411",
        title: "the system gives no more threads",
        text: "A worker's thread could not be started. Use fewer replicas, or raise the limit of processes (`ulimit -u`).",
    },
    Explanation {
        code: "E0412",
        title: "a call took longer than its timeout",
        text: "A stage or sink did not return within its `timeout`. A thread cannot be killed: it is left behind, what it gives later
is not taken any more, its packets fail, and another worker takes its place within the `restart` budget. Find out why
it hangs; the summary names the worker under `wedged` where it never came back.",
    },
    Explanation {
        code: "E0413",
        title: "the ways to a join disagree about the order",
        text: "Packets that came in the same place by several ways are not the same packet. A stage between the fan-out and the join
gives packets in another order than it took them (a decoder of reordered frames does). Fan out behind it.",
    },
    Explanation {
        code: "E0414",
        title: "a live source ended",
        text: "A live source with `reconnect` is not expected to end: it was lost, and is opened again until `reconnect.attempts` are
spent.",
    },
    Explanation {
        code: "E0415",
        title: "a source gives nothing",
        text: "The source gave no packet within its `stall_timeout`, so that it counts as lost. With `reconnect` it is opened again,
with a new epoch; without it, its stream ends and the run counts as failed.",
    },
    Explanation {
        code: "E0416",
        title: "a replay does not follow its record",
        text: "`flowrun run --replay` gives and takes the packets that a record holds, and a source gives others now, or one that was
recorded does not come. Replay the same pipeline file on the same media; a camera shows something new each time, so record
from a file or a synthetic scene, or write its video first and run on that.",
    },
    Explanation {
        code: "E0490",
        title: "a fault on purpose",
        text: "`flowrun soak --chaos` damaged this packet, or made a sink refuse it, to see whether the pipeline bears it. Nothing is
wrong with the pipeline.",
    },
];
