"""OpenVINO's side: literal, and with low precision transformations."""
import numpy as np
import openvino as ov

from spec import build, data

LITERAL = {"LP_TRANSFORMS_MODE": False}
TRANSFORMED = {}
COMMON = {
    "INFERENCE_PRECISION_HINT": "f32",
    "DYNAMIC_QUANTIZATION_GROUP_SIZE": 0,
    "INFERENCE_NUM_THREADS": 1,
    "NUM_STREAMS": 1,
}


class Oracle:
    def __init__(self):
        self.core = ov.Core()

    def run(self, model, inputs, config):
        compiled = self.core.compile_model(model, "CPU", {**COMMON, **config})
        request = compiled.create_infer_request()
        result = request.infer(list(inputs), share_inputs=False, share_outputs=False)
        return [np.array(result[o]) for o in compiled.outputs]

    def literal(self, spec, inputs, extra=()):
        """What the network says: weights are given as f32 constants."""
        return self.run(build(spec, True, extra, oracle=True), inputs, LITERAL)

    def literals(self, specs):
        """The literal outputs of many graphs, compiled as one model, which takes less than half the time; None where that
        fails."""
        results, parameters, inputs = [], [], []
        for spec in specs:
            model = build(spec, True, oracle=True)
            results += model.get_results()
            parameters += model.get_parameters()
            inputs += data(spec)
        try:
            outputs = self.run(ov.Model(results, parameters, "many"), inputs, LITERAL)
        except RuntimeError:
            return [None] * len(specs)
        outputs = iter(outputs)
        return [[next(outputs) for _ in spec["outputs"]] for spec in specs]

    def transformed(self, spec, inputs):
        return self.run(build(spec, oracle=True), inputs, TRANSFORMED)
