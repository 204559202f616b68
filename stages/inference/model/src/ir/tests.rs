use std::path::Path;
use std::sync::Arc;

use super::{Weights, parse};
use crate::error::ModelError;
use crate::graph::Graph;

/// `max(x + (1, -5), 0)` of f32 [1, 2].
pub(crate) const RELU_XML: &str = r#"<?xml version="1.0"?>
<net name="relu" version="11">
<layers>
<layer id="0" name="x" type="Parameter" version="opset1"><data shape="1,2" element_type="f32"/>
<output><port id="0" precision="FP32" names="x"><dim>1</dim><dim>2</dim></port></output></layer>
<layer id="1" name="c" type="Const" version="opset1"><data element_type="f32" shape="2" offset="1" size="8"/>
<output><port id="0" precision="FP32"><dim>2</dim></port></output></layer>
<layer id="2" name="sum" type="Add" version="opset1"><data auto_broadcast="numpy"/>
<input><port id="0" precision="FP32"><dim>1</dim><dim>2</dim></port><port id="1" precision="FP32"><dim>2</dim></port></input>
<output><port id="2" precision="FP32" names="sum_tensor"><dim>1</dim><dim>2</dim></port></output></layer>
<layer id="3" name="relu" type="ReLU" version="opset1">
<input><port id="0" precision="FP32"><dim>1</dim><dim>2</dim></port></input>
<output><port id="1" precision="FP32" names="y"><dim>1</dim><dim>2</dim></port></output></layer>
<layer id="4" name="y/result" type="Result" version="opset1">
<input><port id="0" precision="FP32"><dim>1</dim><dim>2</dim></port></input></layer>
</layers>
<edges>
<edge from-layer="0" from-port="0" to-layer="2" to-port="0"/>
<edge from-layer="1" from-port="0" to-layer="2" to-port="1"/>
<edge from-layer="2" from-port="2" to-layer="3" to-port="0"/>
<edge from-layer="3" from-port="1" to-layer="4" to-port="0"/>
</edges>
</net>
"#;

/// The constants of [`RELU_XML`], at an odd place.
pub(crate) fn relu_weights() -> Vec<u8> {
    let mut bytes = vec![0xff];
    bytes.extend(1f32.to_le_bytes());
    bytes.extend((-5f32).to_le_bytes());
    bytes
}

fn read(xml: &str, weights: Vec<u8>) -> Result<Graph, ModelError> {
    parse(
        Path::new("m.xml"),
        xml.as_bytes(),
        Weights::Memory(Arc::new(weights)),
    )
}

pub(crate) fn relu_model() -> Graph {
    read(RELU_XML, relu_weights()).unwrap()
}
