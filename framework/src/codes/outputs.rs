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
];
