//! Codes of sources and decoding (E05xx).

use super::Explanation;

pub(super) const CODES: &[Explanation] = &[
    Explanation {
        code: "E0501",
        title: "an input cannot be opened or read",
        text: "The file, folder or pipe does not exist, may not be read, or failed while reading; the message holds what the system
said.",
    },
    Explanation {
        code: "E0502",
        title: "an input is of no known format",
        text: "Inputs are recognised by their content, not by their name. `flowrun stages file` lists the formats; for others there is
`type: ffmpeg`.",
    },
    Explanation {
        code: "E0503",
        title: "an input has no video",
        text: "The container has no video track, or the folder no pictures.",
    },
    Explanation {
        code: "E0504",
        title: "a variant of a format that is not supported",
        text: "The format is known, but this file uses a part of it that is not: a codec, a profile, a bit depth. The message names
it. Use `type: ffmpeg`, or convert the file.",
    },
    Explanation {
        code: "E0505",
        title: "a container is damaged",
        text: "The structure of the file is broken where reading cannot go on; the message gives the byte. Packets before it are
delivered.",
    },
    Explanation {
        code: "E0506",
        title: "an input ends early",
        text: "The file ends before everything that it declares. What is whole is delivered; the message says how much is missing.",
    },
    Explanation {
        code: "E0507",
        title: "a packet is damaged",
        text: "One packet of the input is broken. It is counted as failed, and reading goes on behind it.",
    },
    Explanation {
        code: "E0508",
        title: "a pipe cannot be read in this layout",
        text: "The file keeps its index at the end, and a pipe cannot be searched. Write it with the index first (`ffmpeg -movflags
+faststart`) or fragmented, or read it from disk.",
    },
    Explanation {
        code: "E0509",
        title: "an input declares something too large",
        text: "A size, count or dimension in the file is beyond what is read. The limits protect against files built to exhaust
memory.",
    },
    Explanation {
        code: "E0510",
        title: "the ffmpeg program is missing",
        text: "`type: ffmpeg` runs the program `ffmpeg`, which is not installed or not in PATH. On Debian: `apt install ffmpeg`.",
    },
    Explanation {
        code: "E0511",
        title: "the ffmpeg program failed",
        text: "The message holds the end of what ffmpeg wrote. Try the same input with `ffmpeg -i INPUT -f null -`.",
    },
    Explanation {
        code: "E0512",
        title: "a picture cannot be decoded",
        text: "The picture is damaged or of a kind that is not supported. It is counted as failed, and the next one is taken.",
    },
    Explanation {
        code: "E0513",
        title: "a picture refers to lost ones",
        text: "After a loss, pictures that build on what was lost are not decoded; decoding goes on at the next keyframe.",
    },
    Explanation {
        code: "E0514",
        title: "the decoder gave no picture",
        text: "A packet was taken and no picture came of it by the end of the stream.",
    },
    Explanation {
        code: "E0515",
        title: "a setting of a source is out of range",
        text: "The message names the key and its range.",
    },
];
