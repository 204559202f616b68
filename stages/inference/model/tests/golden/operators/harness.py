"""Makes golden cases of single operations with OpenVINO's CPU plugin; the scripts beside this file use it.

A case is a small network and what OpenVINO makes of it, in three files:
NAME.xml and NAME.bin (the IR), NAME.npy (the tensors of the inputs, then those of the results, one after another).
tests/operators.rs reads every case below this folder.

    with case("index", "tile") as c:
        x = c.input(np.arange(6, dtype=np.int32).reshape(2, 3))
        c.result(op.tile(x, [1, 2]))
"""
import contextlib
import pathlib
import re

import numpy as np
import openvino as ov
import openvino.opset15 as op

here = pathlib.Path(__file__).parent
config = {"INFERENCE_PRECISION_HINT": "f32", "LP_TRANSFORMS_MODE": False, "INFERENCE_NUM_THREADS": 1,
          "SNIPPETS_MODE": "DISABLE"}


def values(shape, seed=1):
    """Numbers in [-6.4, 6.6] without a pattern."""
    i = np.arange(int(np.prod(shape)), dtype=np.int64) + seed
    return ((i * 7919 % 1009 - 500).astype(np.float32) / np.float32(77.7)).reshape(shape)


constants = {}


def const(x, t=np.int64):
    """A constant, one layer for all uses of equal ones in a case."""
    array = np.array(x, t)
    key = (array.dtype, array.shape, array.tobytes())
    if key not in constants:
        constants[key] = op.constant(array)
    return constants[key]


class Case:
    def __init__(self, reference):
        self.reference = reference
        self.parameters, self.data, self.results = [], [], []

    def input(self, array, shape=None):
        """An input with its value; `shape` where the network leaves axes open, as -1."""
        array = np.array(array, order="C")
        parameter = op.parameter(list(array.shape) if shape is None else shape, array.dtype)
        self.parameters.append(parameter)
        self.data.append(array)
        return parameter

    def result(self, *outputs):
        """Results: outputs, or nodes that stand for all their outputs."""
        for output in outputs:
            self.results += output.outputs() if isinstance(output, ov.Node) else [output]

    def save(self, path):
        model = ov.Model([op.result(r) for r in self.results], self.parameters, path.name)
        for i, node in enumerate(model.get_ordered_ops()):
            node.friendly_name = f"{node.get_type_name()}_{i}"
        found = self.evaluate(model)
        path.parent.mkdir(exist_ok=True)
        xml, weights = path.with_suffix(".xml"), path.with_suffix(".bin")
        ov.serialize(model, xml, weights)
        text = re.sub(r"<rt_info>.*?</rt_info>|<rt_info />", "", xml.read_text(), flags=re.S)
        # Names that OpenVINO numbers through a process would change with every case that is added before.
        text = re.sub(r' (output_)?names="[^"]*"(?= ?/?>)', "", text)
        text = re.sub(r"\n\s*", "\n", text)
        xml.write_text(re.sub(r"\n(?=<dim>|<port|</port>|<data|<input|<output|</input|</output|</layer)", "", text))
        if weights.stat().st_size == 0:
            weights.unlink()
        with path.with_suffix(".npy").open("wb") as file:
            for array in self.data + found:
                np.save(file, array)
        return found


    def evaluate(self, model):
        if self.reference:
            found = [ov.Tensor(r.get_element_type(), r.get_shape()) for r in self.results]
            assert model.evaluate(found, [ov.Tensor(d) for d in self.data])
            return [np.array(t.data) for t in found]
        # Every node in a network of its own, since operations that work in place disturb each other.
        found = []
        for node in dict.fromkeys(r.get_node().friendly_name for r in self.results):
            results = [r for r in self.results if r.get_node().friendly_name == node]
            alone = ov.Model([op.result(r) for r in results], self.parameters, node)
            request = ov.Core().compile_model(alone, "CPU", config).create_infer_request()
            request.infer(dict(enumerate(self.data)))
            found += [np.array(request.get_output_tensor(i).data) for i in range(len(results))]
        return found


@contextlib.contextmanager
def case(folder, name, reference=False):
    """`reference`: OpenVINO's reference implementation computes it, where the CPU plugin does not or does it wrong."""
    constants.clear()
    c = Case(reference)
    yield c
    c.found = c.save(here / folder / name)
