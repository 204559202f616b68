//! Every stable error code of the product, with what it means and what to do: `flowrun explain CODE`.

mod media;
mod models;
mod outputs;
mod reference;
mod running;
mod stages;

use std::sync::LazyLock;

pub use reference::markdown;

use crate::error::Code;

/// What a code means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Explanation {
    /// The code.
    pub code: &'static str,
    /// A few words.
    pub title: &'static str,
    /// What it means, with an example and what to do.
    pub text: &'static str,
}

/// Explanation of a code such as `E0107`, in upper or lower case; `None` if there is no such code.
pub fn explain(code: &str) -> Option<&'static Explanation> {
    all().find(|e| e.code.eq_ignore_ascii_case(code.trim()))
}

/// All codes, ascending.
pub fn all() -> impl Iterator<Item = &'static Explanation> {
    static SORTED: LazyLock<Vec<&'static Explanation>> = LazyLock::new(|| {
        let tables = [
            PIPELINE_FILE,
            stages::CODES,
            running::CODES,
            media::CODES,
            models::CODES,
            outputs::CODES,
        ];
        let mut all: Vec<&Explanation> = tables.into_iter().flatten().collect();
        all.sort_by_key(|e| e.code);
        all
    });
    SORTED.iter().copied()
}

macro_rules! codes {
    ($($name:ident = $code:literal, $title:literal, $text:literal;)*) => {
        $(#[doc = concat!($title, ".")] pub const $name: Code = Code($code);)*
        const PIPELINE_FILE: &[Explanation] = &[
            $(Explanation { code: $code, title: $title, text: $text },)*
        ];
    };
}

codes! {
    FILE_UNREADABLE = "E0001", "the pipeline file cannot be read",
"The file does not exist, is a folder, or may not be read.

    flowrun check dock.yml        # the file is called dock.yaml

Check the name and the permissions.";

    FILE_NOT_UTF8 = "E0002", "the pipeline file is not UTF-8",
"Pipeline files are UTF-8 text. Editors on Windows may have saved UTF-16 or a legacy code page.

Save the file again as UTF-8; with `iconv -f UTF-16 -t UTF-8 old.yaml > new.yaml` from the command line.";

    FILE_TOO_LARGE = "E0003", "the pipeline file is too large",
"A pipeline file has at most 1 MiB. A larger file is most likely not a pipeline file.";

    YAML_SYNTAX = "E0004", "the file is not valid YAML",
"The YAML parser stopped at the place shown; the slip is often in the line above. Frequent causes:

    stages:
    \\tprep: {type: resize}            # a tab: indent with spaces
    path: {file: ${CLIP}}             # inside { } quote it: \"${CLIP}\"
    title: lane 1: north              # a colon and a space inside text: quote it";

    DUPLICATE_KEY = "E0005", "a key stands twice in one mapping",
"YAML mappings hold each key once; of two, one would silently win.

    stages:
      prep: {type: resize, inputs: [decode], size: [320, 320]}
      prep: {type: resize, inputs: [decode], size: [640, 640]}   # E0005

Remove one of them or rename it.";

    TOO_MANY_VALUES = "E0006", "the file holds too many values",
"A file may hold 20000 values, those repeated by aliases included, nested at most 64 deep. The limit protects
against files built to exhaust memory.

Use fewer aliases, or split the pipeline.";

    NOT_A_MAPPING = "E0007", "the file is empty or not a mapping",
"A pipeline file is a mapping with `version`, `sources`, `stages` and `sinks`:

    version: 1
    sources:
      clip: {type: file, path: clip.mp4}
    stages:
      decode: {type: decode, inputs: [clip]}
    sinks:
      count: {type: stats, inputs: [decode]}";

    SEVERAL_DOCUMENTS = "E0008", "the file holds several YAML documents",
"`---` starts a further document. A pipeline file holds one; put the other into a file of its own.";

    YAML_FEATURE = "E0009", "a YAML feature that pipeline files do not use",
"Pipeline files take anchors, aliases and merge keys, but no tags (`!name`), no keys that are not plain words, no
aliases inside of what they repeat, and `<<` only with mappings.

    labels: !file labels.txt     # E0009: write labels: labels.txt";

    VARIABLE_NOT_SET = "E0010", "an environment variable is not set",
"A value uses `${NAME}` or `${NAME:?why}`, and the variable is not set (or, with `:?`, is empty).

    path: \"${INPUT:?clip or folder}\"

Set it, `INPUT=clip.mp4 flowrun run FILE`, or give a default, `${INPUT:-clip.mp4}`.";

    BAD_INTERPOLATION = "E0011", "`${...}` is malformed",
"Three forms are known: `${NAME}`, `${NAME:-default}` and `${NAME:?why it is needed}`. A name holds letters,
digits and `_`. `$${` gives a plain `${`.";

    BAD_OVERRIDE = "E0012", "a `--set` argument makes no sense",
"`--set path=value` replaces a value of the file or adds a key to something that the file has.

    flowrun run dock.yaml --set stages.detect.threshold=0.5
    flowrun run dock.yaml --set stages.detect.inputs[0].queue.capacity=8
    flowrun run dock.yaml --set runtime.drain_timeout=5s

The path must exist down to the model, source, stage or sink; indices count from 0.";

    BAD_VERSION = "E0101", "the version of the pipeline language is missing or unknown",
"Every pipeline file says `version: 1`, so that later versions of the language can be told apart.";

    WRONG_TYPE = "E0102", "a value has the wrong type",
"The key takes another type of value than it was given.

    threshold: \"0.5\"       # E0102: a number, without quotes
    enabled: yes           # E0102: `true` or `false`
    labels: person         # E0102: a list, [person]";

    MISSING_KEY = "E0103", "a required key is missing",
"The mapping at the place shown lacks a key that has no default. `flowrun stages TYPE` lists the keys of a kind.";

    NOT_SUPPORTED = "E0104", "planned, but not supported yet",
"The key or value is part of the language, but this version of flowrun cannot do it. It is refused rather than
ignored, so that a pipeline never does less than its file says. The help line names a substitute.";

    NOT_ALLOWED = "E0105", "a value is not one of those allowed",
"The key takes one of a few fixed values.

    queue: {overflow: drop}     # E0105: block, latest, drop_oldest, drop_newest or fail";

    OUT_OF_RANGE = "E0106", "a value is out of range",
"A number is too small or too large, a text too short or too long, or a list has too few or too many items.

    replicas: 0        # E0106: at least 1";

    UNKNOWN_KEY = "E0107", "unknown key",
"The mapping has no key of this name. Unknown keys are errors, because a key that is misspelt and ignored is a
setting that silently does nothing.

    detect: {type: infer, treshold: 0.4}    # E0107: did you mean `threshold`?

`flowrun stages TYPE` lists the keys of a kind.";

    BAD_UNIT = "E0108", "a value needs a unit",
"Durations, sizes, rates and percentages carry their unit, so that none is ever guessed.

    drain_timeout: 20           # E0108: 20s
    max_bytes: 64M              # E0108: 64MB or 64MiB

Durations: ns us ms s m h d, also together as in 1m30s. Sizes: B kB MB GB KiB MiB GiB. Rates: /s /min /h.";

    BAD_NAME = "E0109", "a name is not allowed",
"Names of pipelines, models, sources, stages and sinks start with a letter or `_`, go on with letters, digits,
`_` and `-`, and have at most 63 characters. They appear in file names, metrics and thread names.

    \"north gate\": {type: file}    # E0109: north_gate";

    BAD_CONFIG = "E0110", "the kind refuses its configuration",
"The values have the right types, but the kind cannot use them as they are. The message says why.";

    BAD_PATTERN = "E0111", "a text is not of the form it must have",
"The key takes text of a certain form, such as a SHA-256 sum (64 hexadecimal digits) or a range of CPUs (2-5).";

    FOREIGN_KEY = "E0112", "a key does not go with another one",
"The key has a meaning only together with another value, and would do nothing here.

    on_error: {action: drop, max: 3}      # E0112: `max` belongs to `action: retry`";

    UNKNOWN_TYPE = "E0201", "unknown type",
"No kind of this name is registered. `flowrun stages` lists all kinds.

    detect: {type: inference, inputs: [prep]}    # E0201: did you mean `infer`?";

    WRONG_ROLE = "E0202", "a kind stands in the wrong section",
"Sources read, stages transform, sinks write. A kind belongs into one of the sections.

    stages:
      events: {type: jsonl, inputs: [track]}     # E0202: `jsonl` is a sink";

    UNKNOWN_INPUT = "E0203", "an input names nothing",
"`inputs` name sources and stages of the same file.

    prep: {type: resize, inputs: [decoder]}      # E0203: did you mean `decode`?";

    CYCLE = "E0204", "stages feed one another in a circle",
"A pipeline is a directed graph without cycles: packets go from sources to sinks and never come back. The message
prints the circle; remove one of its edges.";

    UNUSED_STAGE = "E0205", "nothing takes the output of a stage",
"What the stage computes is thrown away. Add its name to the `inputs` of another stage or of a sink, or remove it.";

    UNUSED_SOURCE = "E0206", "nothing takes the output of a source",
"The source is read by no one. Add its name to the `inputs` of a stage or a sink, or remove it.";

    NO_INPUTS = "E0207", "a stage or sink has no inputs",
"Stages and sinks say what feeds them: `inputs: [NAME, ...]`.";

    NAME_CLASH = "E0208", "a name stands for two components",
"Sources, stages and sinks share one space of names, since `inputs` refer to them by name alone.";

    SINK_AS_INPUT = "E0209", "a sink cannot feed anything",
"Packets end in sinks. To process what a sink writes, take the input of the sink instead.";

    PORT_TYPE = "E0210", "an edge joins ports of different types",
"Every kind says what it takes and gives (`flowrun stages` shows it). An edge is legal when its consumer takes
every type that its producer may give.

    prep: {type: resize, inputs: [clip]}         # E0210: `file` may give encoded packets; `resize` takes frames

Put a stage between the two that turns one into the other, here `decode`.";

    REPLICAS = "E0211", "a stage cannot be replicated like this",
"A stage that keeps state per stream (a decoder, a tracker) must see all packets of a stream in one instance.

    track: {type: iou_tracker, inputs: [post], replicas: 2}      # E0211

Say `replicas: per_stream`, or add `route: by_stream`, or leave `replicas` out. Some kinds run as one instance only.";

    DUPLICATE_INPUT = "E0212", "an input is named twice",
"One edge joins two components; a second one between the same two would deliver every packet twice.";

    PORT_DETAIL = "E0213", "an edge joins ports that do not fit",
"Both ends of the edge have the same port type, but differ in detail: shape, layout or data type of a tensor,
pixel format or size of a frame. The message says what the producer gives and what the consumer wants, and
which key would mend it.

    prep gives u8[1,320,320,3] NHWC; detect wants u8[1,640,640,3] NHWC      # size: [640, 640] on prep";

    PAID_WORK_DROPPED = "E0214", "results of a model may be dropped",
"A lossy queue after a model, on the way to a required sink, throws away work that has been paid for. Drop frames
before the model instead: a lossy queue on its input, and `block` after it.";

    LIVE_BLOCKS = "E0215", "a live source without a lossy queue",
"A live source cannot wait. When a stage cannot keep up, frames must be dropped somewhere, else they grow old in
the queues and are lost at the source. Put a lossy queue after the decoder and before the model:

    prep:
      inputs: [{from: decode, queue: {capacity: 1, overflow: latest}}]";

    UNUSED_MODEL = "E0216", "a model is not used",
"The `models` section declares a model that no stage refers to. Remove it, or name it in a stage: `model: NAME`.";

    UNKNOWN_MODEL = "E0217", "a stage refers to an unknown model",
"`model` names an entry of the `models` section, or is the path of a model file (with a `/` or an ending).

    models: {person: {path: person.xml}}
    stages:
      detect: {type: infer, model: persn, inputs: [prep]}       # E0217: did you mean `person`?";

    OPTIONAL_BLOCKS = "E0218", "an optional sink could delay required ones",
"A sink with `required: false` must never delay the others, so the edge that leads to it alone cannot block. Use
`drop_oldest`, `drop_newest` or `latest`, or say `required: true`.";

    NO_SOURCES = "E0219", "a pipeline without sources or sinks",
"A pipeline has at least one source and one sink.";

    PIN_CONTRADICTION = "E0220", "a pin contradicts itself or the rest of the file",
"The CPUs listed in `pin.cores` are too few for the replicas and threads, or `runtime.reserve` takes them away.

    detect: {replicas: 2, threads: 2, pin: {cores: [2-4]}}        # E0220: 4 needed, 3 listed

List more CPUs, use fewer replicas or threads, or say `oversubscribe: true`.";

    BATCH = "E0221", "the keys of a batch contradict each other",
"A batch has at most `max` packets. `per_stream_max` is no more than that, `sizes` rise and end with it, and a
`window` leaves room for it.

    batch: {max: 8, max_wait: 15ms, per_stream_max: 2, sizes: [1, 2, 4, 8]}";

    NO_PLACES = "E0222", "a queue without places cannot drop",
"`capacity: 0` hands a packet over from producer to consumer and holds none, so it goes with `overflow: block` alone.

    inputs: [{from: decode, queue: {capacity: 0, overflow: latest}}]     # E0222: capacity: 1";

    JOIN_NEEDED = "E0223", "a stream comes by two ways",
"Two inputs of a component carry the same stream, so that it would get each packet twice. `join` puts them together
again: the packet of the first input goes on, with those of the others attached.

    both: {type: jsonl, inputs: [boxes, joints], join: all, path: out.jsonl}

`join: all` drops what did not come on every way, `join: any` goes on with what came.";

    JOIN_ORDER = "E0224", "packets that are joined lose their order or are batched",
"A join counts the packets that come by each of its ways. Every stage between the fan-out and the join must leave them
in the order in which it took them, so none may say `order: none`; and a component that joins takes no batches.";

    REJOIN = "E0225", "a way to a join is too short",
"A stream that is fanned out and joined again must not get stuck: while the way with more work is filled, packets wait
on the other one. If that holds fewer than can be under way on the first, the fan-out waits for room there, the join
for packets from the fan-out, and neither goes on. So its queues and stages must hold at least the sum, over the other
way, of capacities and of replicas times `batch.max`. The message says how much that is.

    both: {inputs: [{from: decode, queue: {capacity: 9}}, boxes], join: all}";

    STREAMS = "E0226", "`streams` of a source name none",
"With `streams` a source stands for several, each a stream of its own:

    clips: {type: file, streams: 'clips/*.mp4'}
    doors: {type: ffmpeg, live: true, streams: {east: rtsp://east/, west: {url: rtsp://west/, stall_timeout: 5s}}}

A pattern must match files when the pipeline is checked; a stream called after its file takes letters, digits, `_` and `-`.";

    NEVER_DROPS = "E0227", "a lossy queue that drops nothing",
"Lossy queues drop packets of live sources only, on the way to a required sink: a file is never thinned out by accident, and
`pace: realtime` does not make it live. So `latest`, `drop_oldest` and `drop_newest` behind files alone make them wait, as
`block` does. Leave them out, say `live: true` on the source if it stands for a camera, or `lossy: all` on the queue.";

    NOT_BATCHED = "E0303", "a stage that runs no batches",
"`batch` goes with stages that run several packets in one call, such as `infer`. For others it would only make
packets wait.

    prep: {type: letterbox, inputs: [decode], batch: {max: 8}}      # E0303: replicas: 2";

    FILE_USED_TWICE = "E0302", "two components use one file",
"A file that one component writes is also written or read by another one: one would destroy the other's work. Or
standard input is read by two sources, which would share its bytes at random.

    lines: {type: jsonl, inputs: [boxes], path: out.jsonl}
    poses: {type: jsonl, inputs: [pose], path: out.jsonl}       # E0302: poses.jsonl

Give each its own file.";

    MODEL_MISSING = "E0301", "a model file does not exist",
"The path of a model is looked for in the working directory, then beside the pipeline file. Neither has it.";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_unique_well_formed_and_ascending() {
        let codes: Vec<&str> = all().map(|e| e.code).collect();
        let mut sorted = codes.clone();
        sorted.sort_unstable();
        sorted.dedup();
        assert_eq!(codes, sorted);
        for explanation in all() {
            let digits = explanation.code.strip_prefix('E').unwrap();
            assert!(digits.len() == 4 && digits.chars().all(|c| c.is_ascii_digit()));
            assert!(!explanation.title.ends_with('.') && explanation.text.ends_with(|c: char| c != ' '));
        }
    }

    #[test]
    fn codes_are_found_in_any_case() {
        assert_eq!(explain("e0107").map(|e| e.title), Some("unknown key"));
        assert_eq!(explain("E9999"), None);
    }
}
