//! Models that are damaged or built to hurt: each kind ends in an error that names the layer and its line.
//!
//! `tests/hostile.txt` holds the exact text of each error, one line per case; `FLOW_BLESS=1 cargo test -p flow-model
//! --test hostile` writes it anew; read it afterwards.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use flow_model::{ir, limits};

/// A network of one operation `op`: attributes, inputs, outputs. An input is `PRECISION axes`; with `=` and values
/// behind it is a constant.
struct Case {
    name: &'static str,
    kind: &'static str,
    attributes: &'static str,
    inputs: &'static [&'static str],
    outputs: &'static [&'static str],
}

const fn case(
    name: &'static str,
    kind: &'static str,
    attributes: &'static str,
    inputs: &'static [&'static str],
    outputs: &'static [&'static str],
) -> Case {
    Case {
        name,
        kind,
        attributes,
        inputs,
        outputs,
    }
}

const CONV: &[&str] = &["FP32 1,4,8,8", "FP32 2,4,3,3=1"];
const OUT: &[&str] = &["FP32 -1,-1,-1,-1"];
const WINDOW: &str = "strides='1,1' dilations='1,1' pads_begin='0,0' pads_end='0,0' auto_pad='explicit'";
const POOL: &str = "dilations='1,1' auto_pad='explicit' rounding_type='floor'";

#[rustfmt::skip]
const CASES: &[Case] = &[
    case("strides of another rank", "Convolution", "strides='1,1,1' dilations='1,1' pads_begin='0,0' pads_end='0,0'", CONV, OUT),
    case("strides of zero", "Convolution", "strides='0,1' dilations='1,1' pads_begin='0,0' pads_end='0,0'", CONV, OUT),
    case("dilations of zero", "Convolution", "strides='1,1' dilations='1,0' pads_begin='0,0' pads_end='0,0'", CONV, OUT),
    case("dilations that overflow", "Convolution", "strides='1,1' dilations='9223372036854775807,1' pads_begin='0,0' pads_end='0,0'", CONV, OUT),
    case("padding that overflows", "Convolution", "strides='1,1' dilations='1,1' pads_begin='9223372036854775807,0' pads_end='9223372036854775807,0'", CONV, OUT),
    case("padding to terabytes", "Convolution", "strides='1,1' dilations='1,1' pads_begin='1000000000,1000000000' pads_end='0,0'", CONV, OUT),
    case("padding that eats the picture", "Convolution", "strides='1,1' dilations='1,1' pads_begin='-9,0' pads_end='0,0'", CONV, OUT),
    case("a kernel of zero", "Convolution", WINDOW, &["FP32 1,4,8,8", "FP32 2,4,0,3"], OUT),
    case("a kernel larger than the picture", "Convolution", WINDOW, &["FP32 1,4,2,2", "FP32 2,4,3,3=1"], OUT),
    case("channels that differ", "Convolution", WINDOW, &["FP32 1,5,8,8", "FP32 2,4,3,3=1"], OUT),
    case("groups that do not divide", "GroupConvolution", WINDOW, &["FP32 1,5,8,8", "FP32 2,2,2,3,3=1"], OUT),
    case("groups of zero", "GroupConvolution", WINDOW, &["FP32 1,4,8,8", "FP32 0,2,2,3,3"], OUT),
    case("a picture without rank", "Convolution", WINDOW, &["FP32 4", "FP32 2,4,3,3=1"], OUT),
    case("a pooling window of zero", "MaxPool", "strides='1,1' pads_begin='0,0' pads_end='0,0' kernel='0,2' dilations='1,1' auto_pad='explicit' rounding_type='floor'", &["FP32 1,4,8,8"], OUT),
    case("a pooling window too large", "AvgPool", "strides='1,1' pads_begin='0,0' pads_end='0,0' kernel='99,2' exclude-pad='true' rounding_type='floor'", &["FP32 1,4,8,8"], OUT),
    case("levels of zero", "FakeQuantize", "levels='0'", &["FP32 2", "FP32 =0", "FP32 =1", "FP32 =0", "FP32 =1"], &["FP32 2"]),
    case("levels of one", "FakeQuantize", "levels='1'", &["FP32 2", "FP32 =0", "FP32 =1", "FP32 =0", "FP32 =1"], &["FP32 2"]),
    case("levels beyond 32 bits", "FakeQuantize", "levels='99999999999'", &["FP32 2", "FP32 =0", "FP32 =1", "FP32 =0", "FP32 =1"], &["FP32 2"]),
    case("a limit that is NaN", "FakeQuantize", "levels='256'", &["FP32 2", "FP32 =nan", "FP32 =1", "FP32 =0", "FP32 =1"], &["FP32 2"]),
    case("a limit that is infinite", "FakeQuantize", "levels='256'", &["FP32 2", "FP32 =0", "FP32 =1", "FP32 =0", "FP32 =inf"], &["FP32 2"]),
    case("a pattern that overflows", "Reshape", "special_zero='false'", &["FP32 2", "I64 2=9223372036854775807 2"], &["FP32 -1,-1"]),
    case("a pattern with two open axes", "Reshape", "special_zero='false'", &["FP32 4", "I64 2=-1"], &["FP32 -1,-1"]),
    case("a pattern of other size", "Reshape", "special_zero='false'", &["FP32 4", "I64 2=3"], &["FP32 -1,-1"]),
    case("broadcast to terabytes", "Broadcast", "mode='numpy'", &["FP32 1", "I64 2=1000000 10000000"], &["FP32 -1,-1"]),
    case("broadcast beyond 64 bits", "Broadcast", "mode='numpy'", &["FP32 1", "I64 3=9223372036854775807"], &["FP32 -1,-1,-1"]),
    case("broadcast to a negative axis", "Broadcast", "mode='numpy'", &["FP32 1", "I64 2=-3"], &["FP32 -1,-1"]),
    case("padding of an axis to terabytes", "Pad", "pad_mode='constant'", &["FP32 1,1", "I64 2=1000000 0", "I64 2=0 10000000"], &["FP32 -1,-1"]),
    case("padding beyond 64 bits", "Pad", "pad_mode='constant'", &["FP32 1,1", "I64 2=9223372036854775807", "I64 2=9223372036854775807"], &["FP32 -1,-1"]),
    case("padding below nothing", "Pad", "pad_mode='constant'", &["FP32 1,1", "I64 2=-5", "I64 2=0"], &["FP32 -1,-1"]),
    case("interpolation to terabytes", "Interpolate", "mode='nearest' shape_calculation_mode='sizes' coordinate_transformation_mode='asymmetric' nearest_mode='floor'", &["FP32 1,1,2,2", "I64 2=10000000 10000000", "FP32 2=2", "I64 2=2 3"], OUT),
    case("interpolation by NaN", "Interpolate", "mode='nearest' shape_calculation_mode='scales' coordinate_transformation_mode='asymmetric' nearest_mode='floor'", &["FP32 1,1,2,2", "I64 2=2", "FP32 2=nan", "I64 2=2 3"], OUT),
    case("an axis that is none", "Concat", "axis='7'", &["FP32 2,3", "FP32 2,3"], &["FP32 -1,-1"]),
    case("parts that do not fit", "Concat", "axis='0'", &["FP32 2,3", "FP32 2,4"], &["FP32 -1,-1"]),
    case("a split into nothing", "Split", "num_splits='0'", &["FP32 4", "I64 =0"], &["FP32 -1"]),
    case("a split that does not divide", "Split", "num_splits='3'", &["FP32 4", "I64 =0"], &["FP32 -1", "FP32 -1", "FP32 -1"]),
    case("a split into more than there are", "Split", "num_splits='1000000000'", &["FP32 4", "I64 =0"], &["FP32 -1"]),
    case("lengths that do not add up", "VariadicSplit", "", &["FP32 4", "I64 =0", "I64 2=3"], &["FP32 -1", "FP32 -1"]),
    case("an order with an axis twice", "Transpose", "", &["FP32 2,3", "I64 2=1"], &["FP32 -1,-1"]),
    case("more than there are", "TopK", "axis='0' mode='max' sort='value' index_element_type='i64'", &["FP32 4", "I64 =9"], &["FP32 -1", "I64 -1"]),
    case("less than none", "TopK", "axis='0' mode='max' sort='value' index_element_type='i64'", &["FP32 4", "I64 =-1"], &["FP32 -1", "I64 -1"]),
    case("steps of zero", "StridedSlice", "begin_mask='0' end_mask='0'", &["FP32 4", "I64 1=0", "I64 1=4", "I64 1=0"], &["FP32 -1"]),
    case("a slice by steps of zero", "Slice", "", &["FP32 4", "I64 1=0", "I64 1=4", "I64 1=0"], &["FP32 -1"]),
    case("products that do not fit", "MatMul", "", &["FP32 2,3", "FP32 4,5"], &["FP32 -1,-1"]),
    case("a product of terabytes", "MatMul", "", &["FP32 10000000,1", "FP32 1,10000000"], &["FP32 -1,-1"]),
    case("shapes that do not broadcast", "Add", "auto_broadcast='numpy'", &["FP32 2,3", "FP32 2,4"], &["FP32 -1,-1"]),
    case("a sum of terabytes", "Add", "auto_broadcast='numpy'", &["FP32 10000000,1", "FP32 1,10000000"], &["FP32 -1,-1"]),
    case("types that differ", "Add", "auto_broadcast='numpy'", &["FP32 2", "I64 2"], &["FP32 -1"]),
    case("a type there is not", "Convert", "destination_type='f31'", &["FP32 2"], &["FP32 -1"]),
    case("blocks that do not divide", "DepthToSpace", "mode='blocks_first' block_size='3'", &["FP32 1,4,2,2"], OUT),
    case("blocks of zero", "DepthToSpace", "mode='blocks_first' block_size='0'", &["FP32 1,4,2,2"], OUT),
    case("blocks that overflow", "DepthToSpace", "mode='blocks_first' block_size='9223372036854775807'", &["FP32 1,4,2,2"], OUT),
    case("too few inputs", "Add", "auto_broadcast='numpy'", &["FP32 2"], &["FP32 2"]),
    case("too many inputs", "ReLU", "", &["FP32 2", "FP32 2"], &["FP32 2"]),
    case("too many outputs", "ReLU", "", &["FP32 2"], &["FP32 2", "FP32 2"]),
    case("an output of another type", "ReLU", "", &["FP32 2"], &["I64 2"]),
    case("an output of another shape", "ReLU", "", &["FP32 2"], &["FP32 3"]),
    case("more axes than there can be", "ReLU", "", &["FP32 1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1"], &["FP32 1"]),
    case("axes that overflow", "ReLU", "", &["FP32 4294967296,4294967296,4294967296"], &["FP32 4294967296,4294967296,4294967296"]),
    case("an input of terabytes", "ReLU", "", &["FP32 1000000,10000000"], &["FP32 1000000,10000000"]),
    case("a state", "ReadValue", "variable_id='s'", &["FP32 2"], &["FP32 2"]),
    case("an operation misspelt", "Convolutoin", WINDOW, CONV, OUT),
    case("a kernel from outside that is empty", "MaxPool", POOL, &["FP32 1,4,8,8"], OUT),
];

fn ports(list: &[&str], first: usize) -> String {
    let mut text = String::new();
    for (index, port) in list.iter().enumerate() {
        let kind = port.split('=').next().unwrap_or_default();
        let (precision, axes) = kind.split_once(' ').unwrap_or((kind, ""));
        let dims: String = axes
            .split(',')
            .filter(|d| !d.is_empty())
            .map(|d| format!("<dim>{d}</dim>"))
            .collect();
        let _ = write!(
            text,
            "<port id='{}' precision='{precision}'>{dims}</port>",
            first + index
        );
    }
    text
}

/// The two files of a case. The operation is on line 2.
fn files(case: &Case) -> (String, Vec<u8>) {
    let mut bin = Vec::new();
    let mut layers = format!(
        "<layer id='0' name='op' type='{}' version='opset{}'><data {}/><input>{}</input><output>{}</output></layer>\n",
        case.kind,
        match case.kind {
            "MaxPool" | "Slice" => 8,
            "Broadcast" | "TopK" => 3,
            "Interpolate" => 4,
            "Pad" => 12,
            "ReadValue" => 6,
            _ => 1,
        },
        case.attributes,
        ports(case.inputs, 0),
        ports(case.outputs, case.inputs.len())
    );
    let mut edges = String::new();
    for (index, input) in case.inputs.iter().enumerate() {
        let id = index + 1;
        let (kind, values) = input
            .split_once('=')
            .map_or((*input, None), |(kind, values)| (kind, Some(values)));
        let (precision, axes) = kind.split_once(' ').unwrap_or((kind, ""));
        let element_type = match precision {
            "I64" => "i64",
            _ => "f32",
        };
        let output = ports(&[kind], 0);
        let _ = match values {
            None => writeln!(
                layers,
                "<layer id='{id}' name='in{index}' type='Parameter' version='opset1'><data shape='{axes}' \
                 element_type='{element_type}'/><output>{output}</output></layer>"
            ),
            Some(values) => {
                let list: Vec<&str> = values.split(' ').collect();
                let count: usize = axes
                    .split(',')
                    .filter_map(|d| d.trim().parse::<usize>().ok())
                    .product();
                let start = bin.len();
                for i in 0..count {
                    match element_type {
                        "i64" => bin.extend(list[i % list.len()].parse::<i64>().unwrap().to_le_bytes()),
                        _ => bin.extend(list[i % list.len()].parse::<f32>().unwrap().to_le_bytes()),
                    }
                }
                writeln!(
                    layers,
                    "<layer id='{id}' name='in{index}' type='Const' version='opset1'><data element_type='{element_type}' \
                     shape='{axes}' offset='{start}' size='{}'/><output>{output}</output></layer>",
                    bin.len() - start
                )
            }
        };
        let _ = write!(
            edges,
            "<edge from-layer='{id}' from-port='0' to-layer='0' to-port='{index}'/>"
        );
    }
    let (result, port) = (case.inputs.len() + 1, case.inputs.len());
    let _ = write!(
        layers,
        "<layer id='{result}' name='out' type='Result' version='opset1'><input>{}</input></layer>",
        ports(&case.outputs[..1], 0)
    );
    let _ = write!(
        edges,
        "<edge from-layer='0' from-port='{port}' to-layer='{result}' to-port='0'/>"
    );
    let xml = format!("<net name='n' version='11'><layers>\n{layers}</layers><edges>{edges}</edges></net>");
    (xml, bin)
}

/// Reads the model; an error ends the test unless it comes soon.
fn error_of(xml: &str, bin: &[u8]) -> String {
    let start = Instant::now();
    let weights = ir::Weights::Memory(Arc::new(bin.to_vec()));
    let read = ir::parse(Path::new("m.xml"), xml.as_bytes(), weights);
    assert!(start.elapsed() < Duration::from_secs(20), "{xml}");
    match read {
        Ok(_) => "is read".to_owned(),
        Err(error) => format!("{} {error}", error.code()),
    }
}

#[test]
fn every_kind_of_damage_has_its_error() {
    limits::set_memory(4 << 30);
    let mut found = String::new();
    for case in CASES {
        let (xml, bin) = files(case);
        let error = error_of(&xml, &bin);
        assert!(!error.contains('\n'), "{error}");
        let _ = writeln!(found, "{}: {error}", case.name);
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/hostile.txt");
    if std::env::var_os("FLOW_BLESS").is_some() {
        std::fs::write(&path, &found).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap();
    for (found, expected) in found.lines().zip(expected.lines()) {
        assert_eq!(found, expected);
    }
    assert_eq!(found.lines().count(), expected.lines().count());
}

#[test]
fn files_that_ask_for_more_than_they_hold() {
    let relu = Case {
        name: "",
        kind: "ReLU",
        attributes: "",
        inputs: &["FP32 4=1"],
        outputs: &["FP32 4"],
    };
    let (xml, bin) = files(&relu);
    assert_eq!(error_of(&xml, &bin), "is read");
    for length in 0..bin.len() {
        let error = error_of(&xml, &bin[..length]);
        assert!(
            error.contains("layer \"in0\" (Const)") && error.contains("expected 16 bytes"),
            "{error}"
        );
    }
    for (from, to, message) in [
        (
            "offset='0'",
            "offset='1'",
            "expected 16 bytes from byte 1, but the weights have 16 bytes",
        ),
        (
            "offset='0'",
            "offset='18446744073709551615'",
            "but the weights have 16 bytes",
        ),
        (
            "offset='0'",
            "offset='-1'",
            "attribute `offset`: expected a non-negative integer",
        ),
        ("size='16'", "size='18446744073709551615'", "needs 16 bytes"),
        (
            "shape='4'",
            "shape='4611686018427387904'",
            "layer \"in0\" (Const)",
        ),
        (
            "shape='4'",
            "shape='18446744073709551615,2'",
            "needs too many bytes",
        ),
    ] {
        let error = error_of(&xml.replace(from, to), &bin);
        assert!(error.contains(message), "{from} -> {to}: {error}");
    }
    for cut in (0..xml.len()).step_by(7) {
        assert!(error_of(&xml[..cut], &bin).starts_with("E0602"));
    }
}

/// `count` layers that share the same 32 MiB of weights would be copied by passes: 16 times over is enough.
#[test]
fn the_same_weights_are_not_used_without_end() {
    let bin = vec![0u8; 32 << 20];
    let network = |count: usize| {
        let mut layers = String::new();
        for id in 0..count {
            let _ = writeln!(
                layers,
                "<layer id='{id}' name='c{id}' type='Const' version='opset1'><data element_type='f32' shape='{0}' \
                 offset='0' size='{1}'/><output><port id='0' precision='FP32'><dim>{0}</dim></port></output></layer>",
                bin.len() / 4,
                bin.len()
            );
        }
        format!(
            "<net version='11'><layers>{layers}<layer id='{count}' name='r' type='Result' version='opset1'><input><port \
             id='0' precision='FP32'><dim>{}</dim></port></input></layer></layers><edges><edge from-layer='0' \
             from-port='0' to-layer='{count}' to-port='0'/></edges></net>",
            bin.len() / 4
        )
    };
    assert_eq!(error_of(&network(16), &bin), "is read");
    let error = error_of(&network(17), &bin);
    assert!(
        error.contains("layer \"c16\" (Const)") && error.contains("used more than 16 times over"),
        "{error}"
    );
}

#[test]
fn bombs_of_xml_are_refused() {
    let doubled: String = (0..40)
        .map(|i| format!("<!ENTITY e{} '&e{i};&e{i};'>", i + 1))
        .collect();
    let lol = format!("<!DOCTYPE net [<!ENTITY e0 'x'>{doubled}]><net version='11'>&e40;</net>");
    let deep = format!(
        "<net version='11'>{}{}</net>",
        "<a>".repeat(100_000),
        "</a>".repeat(100_000)
    );
    let many = format!(
        "<net version='11'><layers>{}</layers><edges/></net>",
        "<layer/>".repeat(100_000)
    );
    for xml in [lol, deep, many] {
        let error = error_of(&xml, &[]);
        assert!(error.starts_with("E060"), "{}", &error[..error.len().min(200)]);
        assert!(error.len() < 1000);
    }
}

#[test]
fn long_chains_and_wide_fans_are_read_in_time() {
    for wide in [false, true] {
        let count = 20_000;
        let port = "precision='FP32'><dim>1</dim></port>";
        let mut layers = format!(
            "<layer id='0' name='x' type='Parameter' version='opset1'><data shape='1' \
             element_type='f32'/><output><port id='0' {port}</output></layer>"
        );
        let mut edges = String::new();
        for id in 1..=count {
            let from = if wide { 0 } else { id - 1 };
            let _ = write!(
                layers,
                "<layer id='{id}' name='n{id}' type='ReLU' version='opset1'><input><port id='0' {port}</input><output>\
                 <port id='1' {port}</output></layer>"
            );
            let _ = write!(
                edges,
                "<edge from-layer='{from}' from-port='{}' to-layer='{id}' to-port='0'/>",
                usize::from(from > 0)
            );
        }
        let result = count + 1;
        let _ = write!(
            layers,
            "<layer id='{result}' name='r' type='Result' version='opset1'><input><port id='0' {port}</input></layer>"
        );
        let _ = write!(
            edges,
            "<edge from-layer='{count}' from-port='1' to-layer='{result}' to-port='0'/>"
        );
        let xml = format!("<net version='11'><layers>{layers}</layers><edges>{edges}</edges></net>");
        assert_eq!(error_of(&xml, &[]), "is read");
    }
}
