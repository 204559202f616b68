//! Codes of the settings and the work of stages (E012x to E016x, E034x, E035x, E044x, E045x).

use super::Explanation;

pub(super) const CODES: &[Explanation] = &[
    Explanation {
        code: "E0121",
        title: "a range is given the wrong way round",
        text: "The key takes the lower value first.

    objects: [8, 5]        # E0121: [5, 8]",
    },
    Explanation {
        code: "E0140",
        title: "a size is out of range",
        text: "A side of a tensor has 1 to 16384 pixels; the message says which side is wrong.

    size: [0, 240]         # E0140",
    },
    Explanation {
        code: "E0141",
        title: "a normalisation makes no sense",
        text: "`mean` and `scale` are finite numbers, `scale` is not 0, and three values go with three channels:

    color: gray
    mean: [123.7, 116.3, 103.5]      # E0141: one value for one channel",
    },
    Explanation {
        code: "E0142",
        title: "a rectangle cannot be cut",
        text: "`rect` is `[x, y, width, height]`, in pixels or as parts of the frame from 0 to 1, with a width and height above 0.",
    },
    Explanation {
        code: "E0150",
        title: "a setting of a decoder of results is out of range",
        text: "Scores and overlaps go from 0 to 1; counts, sizes and variances are above 0. The message names the value.",
    },
    Explanation {
        code: "E0151",
        title: "classes are chosen by name, but have no names",
        text: "`classes` lists names, so the stage must know them: `labels: FILE` with one name per line, or a built-in set such as
`labels: coco80`.",
    },
    Explanation {
        code: "E0152",
        title: "a key belongs to another format",
        text: "Priors and variances describe SSD outputs and would do nothing with another `format`. Leave the key out, or correct
`format`.",
    },
    Explanation {
        code: "E0160",
        title: "an output path is not usable",
        text: "Paths of outputs may hold `{stream}`, and where each packet gives a file of its own also `{seq:06}` or `{origin}`.

    images: {path: \"out/frame.jpg\"}      # E0160: every picture would overwrite the one before

Write `{{` and `}}` for braces in a file name.",
    },
    Explanation {
        code: "E0340",
        title: "nothing says what a `model` key stands for",
        text: "`size: model`, `layout: model` and the like take their values from the network that follows, but no stage downstream
says what it wants. Give the value itself, such as `size: [320, 240]`.",
    },
    Explanation {
        code: "E0341",
        title: "two consumers want different tensors",
        text: "One stage feeds two networks that want tensors of different size, layout or type. Use one stage for each of them.",
    },
    Explanation {
        code: "E0342",
        title: "a consumer wants what no frame can be turned into",
        text: "The network that follows does not take an image: its input has another number of dimensions or channels. Check the
model, or give `size`, `layout` and `color` by hand.",
    },
    Explanation {
        code: "E0350",
        title: "a label file cannot be used",
        text: "Label files are text: one name per line, or lines of a number and a name. The message names the line.",
    },
    Explanation {
        code: "E0351",
        title: "a class has no such name",
        text: "`classes` names a class that the labels do not have; the message suggests the nearest name.",
    },
    Explanation {
        code: "E0440",
        title: "a stage got a packet that carries no frame",
        text: "The stage works on frames. Put `decode` before it.",
    },
    Explanation {
        code: "E0441",
        title: "a frame could not be converted",
        text: "The frame has a size or pixel format that cannot be converted; the message says which. The packet is treated as
`on_error` says, and the next one is taken.",
    },
    Explanation {
        code: "E0442",
        title: "the rectangle lies outside of a frame",
        text: "`rect` of `crop` is larger than this frame. Cameras and folders may give frames of different sizes: use parts from
0 to 1 instead of pixels.",
    },
    Explanation {
        code: "E0450",
        title: "a stage got a packet that carries no model outputs",
        text: "The stage reads the outputs of a network. Put `infer` before it.",
    },
    Explanation {
        code: "E0451",
        title: "the network has no such output",
        text: "The output that `output` or the format asks for is not among those of the network; the message lists them.
`flowrun model inspect MODEL.xml` shows their names and shapes.",
    },
    Explanation {
        code: "E0452",
        title: "an output has another shape than the format wants",
        text: "The shape of the output does not fit `format`. Either the format is another one, or the model gives raw outputs that
want other keys. The message gives both shapes.",
    },
    Explanation {
        code: "E0453",
        title: "a packet does not say how its tensor was made",
        text: "Boxes and points are placed on the frame by the geometry that `resize` and `letterbox` attach. A stage of your own
that makes tensors must attach it too.",
    },
    Explanation {
        code: "E0454",
        title: "frames cannot be followed",
        text: "`track` gives things their numbers by comparing each frame with those before, so it needs detections, each frame once,
in their order. `order: none` on a stage before gives that up: remove it. Frames that are missing do no harm.",
    },
    Explanation {
        code: "E0161",
        title: "a setting of an output is out of range",
        text: "Quality goes from 1 to 100, frames per second are above 0; the message names the key and its range.",
    },
    Explanation {
        code: "E0162",
        title: "a path names no kind of video file",
        text: "The ending of the path picks the format: `.avi` (Motion JPEG) or `.y4m` (uncompressed).",
    },
    Explanation {
        code: "E0360",
        title: "several streams cannot share one file",
        text: "A video file holds one stream. Put `{stream}` into the path.

    view: {type: video, path: \"out/{stream}.avi\", inputs: [draw]}",
    },
];
