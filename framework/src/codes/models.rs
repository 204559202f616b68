//! Codes of models and inference (E06xx).

use super::Explanation;

pub(super) const CODES: &[Explanation] = &[
    Explanation {
        code: "E0601",
        title: "a model file cannot be read",
        text: "The .xml or .bin file does not exist or may not be read. Both lie in one folder and have the same name.",
    },
    Explanation {
        code: "E0602",
        title: "a model file is not valid XML",
        text: "The .xml file is damaged or not an OpenVINO IR; the message gives line and column.",
    },
    Explanation {
        code: "E0603",
        title: "a model file is inconsistent",
        text: "The .xml file is XML, but not a whole network: an edge or attribute is missing or contradicts another one. Export the
model again.",
    },
    Explanation {
        code: "E0604",
        title: "the weights do not fit the model",
        text: "The .bin file is shorter than the .xml file says, or belongs to another export.",
    },
    Explanation {
        code: "E0605",
        title: "an operation is not supported",
        text: "The network uses operations that the engine does not know. The message names each kind with its first layer and line,
bodies of loops included, and says whether it is misspelt, of another operation set, of an extension, or a standard
operation that is missing. The network is refused rather than run wrongly.",
    },
    Explanation {
        code: "E0606",
        title: "a layer is inconsistent",
        text: "Shapes, types or attributes of a layer do not fit each other; the message names layer and line.",
    },
    Explanation {
        code: "E0607",
        title: "a model cannot be written",
        text: "The files of the written model could not be created; the message holds what the system said.",
    },
    Explanation {
        code: "E0611",
        title: "an input does not fit the network",
        text: "The reference evaluator was given a tensor of another shape or type than the network takes.",
    },
    Explanation {
        code: "E0612",
        title: "a layer cannot be evaluated",
        text: "The reference evaluator stopped in the layer that the message names.",
    },
    Explanation {
        code: "E0613",
        title: "the network has no such input or output",
        text: "Names are those of `flowrun model inspect MODEL.xml`.",
    },
    Explanation {
        code: "E0621",
        title: "a layer is unknown to the low precision transformations",
        text: "An option names a layer that the network does not have. Names are those of `flowrun model inspect MODEL.xml`.",
    },
    Explanation {
        code: "E0641",
        title: "a device is not available",
        text: "Devices are CPU (fast) and REF (the reference evaluator). AUTO, MULTI, HETERO and BATCH over a list of devices fall
back to what is there: AUTO:GPU,CPU runs on the CPU and says so. A device by itself does not.

    detect: {type: infer, model: person, device: GPU}      # E0641",
    },
    Explanation {
        code: "E0642",
        title: "an input has the wrong shape or type",
        text: "The message says what the network takes and what was given. In a pipeline, `size: model` in the stage before makes the
right tensor.",
    },
    Explanation {
        code: "E0643",
        title: "the shape of an input is open, or has no batch",
        text: "The network takes inputs of any size along some axis: state a shape for it, as in `--shape [1,3,224,224]`, or
`--shape NAME[1,3,224,224]` where it has several inputs. An axis may stay open, with or without bounds: `?`, `32..640`.
Or a batch was asked for, and the first axis of an input is not 1: give the whole shape instead.",
    },
    Explanation {
        code: "E0644",
        title: "a model is not the one that was meant",
        text: "The SHA-256 sum of the file is not the one that `models` states. Fetch the right file, or correct `sha256` if the change
was meant.",
    },
    Explanation {
        code: "E0645",
        title: "a file of the engine cannot be read",
        text: "The message names the file and holds what the system said.",
    },
    Explanation {
        code: "E0646",
        title: "the network has not exactly one input",
        text: "The `infer` stage feeds one tensor per packet. Use `flowrun model run` for networks with several inputs.",
    },
    Explanation {
        code: "E0647",
        title: "an element type is not supported",
        text: "Inputs and outputs of a network in a pipeline are f32, u8, i8, i32 or i64.",
    },
    Explanation {
        code: "E0648",
        title: "a packet carries no tensor",
        text: "`infer` takes tensors. Put `resize` or `letterbox` before it.",
    },
    Explanation {
        code: "E0649",
        title: "a tensor does not fit the network",
        text: "The tensor has another shape or type than the network takes. Say `size: model` in the stage before.",
    },
    Explanation {
        code: "E0651",
        title: "a shape is not fixed",
        text: "The CPU plugin compiles networks whose shapes are all known. Fix the shapes of the inputs, for example by a batch size.",
    },
    Explanation {
        code: "E0652",
        title: "an element type of a layer is not supported",
        text: "The CPU plugin cannot store values of this type; the message names layer and type.",
    },
    Explanation {
        code: "E0653",
        title: "the network does not fit in memory",
        text: "The activations are larger than the address space. Use smaller input shapes.",
    },
    Explanation {
        code: "E0654",
        title: "`FLOW_MAX_ISA` names no instruction set",
        text: "Known are scalar, sse42, avx2, avxvnni, avx512bw, avx512vnni and avx512amx.",
    },
    Explanation {
        code: "E0655",
        title: "outputs that do not follow the batch",
        text: "For a batch of N, the first axis of every output must be a multiple of N, so that each packet gets its part. Networks
that end in a detection layer often give one list for the whole batch.

Remove `batch`, and raise `replicas` for throughput.",
    },
    Explanation {
        code: "E0656",
        title: "the model states a batch",
        text: "The first axis of the model's input is a fixed number other than 1, and `batch` asks for another one. Such a model runs
batches of that length only; shorter ones are padded.

    batch: {max: 4}        # for a model that takes [4, 3, 224, 224]",
    },
    Explanation {
        code: "E0659",
        title: "a fault of the compiler",
        text: "The compiler met a state that should not be. Please report it with the model.",
    },
    Explanation {
        code: "E0661",
        title: "the wrong number of inputs",
        text: "The network takes another number of tensors than it was given.",
    },
    Explanation {
        code: "E0662",
        title: "an input has the wrong length",
        text: "The bytes given are more or fewer than the input takes.",
    },
    Explanation {
        code: "E0663",
        title: "an input takes no codes",
        text: "Codes of a quantized input were given to a network that does not quantize its input first.",
    },
    Explanation {
        code: "E0669",
        title: "a fault of the executor",
        text: "The executor met a state that should not be. Please report it with the model and the input.",
    },
];
