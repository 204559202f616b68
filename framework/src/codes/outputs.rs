//! Codes of outputs (E07xx).

use super::Explanation;

pub(super) const CODES: &[Explanation] = &[
    Explanation {
        code: "E0701",
        title: "an output cannot be written",
        text: "The file or folder cannot be created or written: permissions, a full disk, a folder that is a file. The message holds
what the system said. Files are written under a temporary name and renamed when they are whole.",
    },
    Explanation {
        code: "E0702",
        title: "a picture cannot be part of the file",
        text: "A video has one size and format from start to end; the picture has another one. Write one file per stream with
`{stream}` in the path, or resize before.",
    },
    Explanation {
        code: "E0703",
        title: "a file is as large as its format allows",
        text: "An AVI file ends at 2 GiB; the frames up to here are complete and playable. Write `.y4m`, a lower `quality`, or one file
per stream.",
    },
    Explanation {
        code: "E0704",
        title: "an output cannot write this payload",
        text: "The sink takes other packets than this one, or a value of it cannot be written; the message says which.",
    },
    Explanation {
        code: "E0705",
        title: "statistics cannot be kept",
        text: "The memory for the histogram of latencies could not be set up.",
    },
    Explanation {
        code: "E0706",
        title: "a packet carries no truth",
        text: "`evaluate` and `truth` work with the true boxes that a `synthetic` source attaches to its frames; other sources know no
truth. `evaluate` also takes the truth from a file: `truth: boxes.jsonl`, one line per frame.",
    },
    Explanation {
        code: "E0707",
        title: "results are worse than wanted",
        text: "Recall or precision over the whole run is below `min_recall` or `min_precision`; the message gives both. The run ends\nwith an error, so that scripts notice.",
    },
    Explanation {
        code: "E0708",
        title: "nothing can be drawn",
        text: "`overlay` draws on the frame that a result was made from. `resize`, `letterbox` and `crop` attach it to the packet; a
stage of your own must do so too.",
    },
    Explanation {
        code: "E0709",
        title: "a file of true boxes cannot be read",
        text: "`truth:` of `evaluate` names a JSON lines file as sink `jsonl` writes it behind stage `truth`: one line per frame with
`seq` and `detections`. The message names the file, the line and what is wrong with it.",
    },
    Explanation {
        code: "E0710",
        title: "standard output was closed by its reader",
        text: "The program behind the pipe has ended (`| head` ends after some lines, a player when its window is closed), so that what
follows cannot be delivered. The run ends with exit code 4; frames and lines written before are whole. A sink with
`required: false` only stops writing, and the others go on.",
    },
];
