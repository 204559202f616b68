"""A minimal writer of OpenVINO IR version 11: layers, edges and one file of constants."""
from xml.sax.saxutils import quoteattr

import numpy as np

PRECISION = {"f32": "FP32", "i8": "I8", "i64": "I64"}


class Writer:
    def __init__(self, name):
        self.name, self.layers, self.edges, self.blob, self.shapes = name, [], [], bytearray(), {}

    def layer(self, name, kind, inputs, out_shape, opset="opset1", dtype="f32", **attributes):
        """Adds a layer with one output (`out_shape` None: a Result) and returns its id."""
        index = len(self.layers)
        ports = "".join(self._port(i, *self.shapes[x]) for i, x in enumerate(inputs))
        text = f"<layer id=\"{index}\" name={quoteattr(name)} type=\"{kind}\" version=\"{opset}\">"
        if attributes:
            text += "<data " + " ".join(f"{k}={quoteattr(str(v))}" for k, v in attributes.items()) + "/>"
        text += f"<input>{ports}</input>" if inputs else ""
        if out_shape is not None:
            text += f"<output>{self._port(len(inputs), out_shape, dtype, name)}</output>"
            self.shapes[index] = (tuple(out_shape), dtype)
        self.layers.append(text + "</layer>")
        for port, source in enumerate(inputs):
            out = self.layers[source].count("<port ") - 1
            self.edges.append(f"<edge from-layer=\"{source}\" from-port=\"{out}\" to-layer=\"{index}\" to-port=\"{port}\"/>")
        return index

    def constant(self, name, value, dtype="f32"):
        data = np.ascontiguousarray(value, {"f32": "<f4", "i8": "i1", "i64": "<i8"}[dtype])
        self.blob += bytes(-len(self.blob) % 8)
        shape = ", ".join(map(str, data.shape))
        index = self.layer(name, "Const", [], data.shape, dtype=dtype, element_type=dtype, shape=shape, offset=len(self.blob), size=data.nbytes)
        self.blob += data.tobytes()
        return index

    def save(self, stem):
        lines = ["<?xml version=\"1.0\"?>", f"<net name=\"{self.name}\" version=\"11\">", "<layers>", *self.layers, "</layers>", "<edges>", *self.edges, "</edges>", "</net>", ""]
        stem.with_suffix(".xml").write_text("\n".join(lines))
        stem.with_suffix(".bin").write_bytes(self.blob)

    @staticmethod
    def _port(index, shape, dtype, name=None):
        dims = "".join(f"<dim>{d}</dim>" for d in shape)
        names = f" names={quoteattr(name)}" if name else ""
        return f"<port id=\"{index}\" precision=\"{PRECISION[dtype]}\"{names}>{dims}</port>"
