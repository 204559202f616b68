"""OpenVINO's side: literal, and with low precision transformations.

It runs in a process of its own: some graphs make OpenVINO's plugin write or read where it must not, and end it."""
import multiprocessing

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


class Plugin:
    """OpenVINO, in the process where it runs."""

    def __init__(self):
        self.core = ov.Core()

    def run(self, model, inputs, config):
        stated_shapes = [o.get_partial_shape() for o in model.outputs]
        compiled = self.core.compile_model(model, "CPU", {**COMMON, **config})
        request = compiled.create_infer_request()
        result = request.infer(list(inputs), share_inputs=False, share_outputs=False)
        outputs = [np.array(result[o]) for o in compiled.outputs]
        for stated, output in zip(stated_shapes, outputs):
            if not stated.compatible(ov.PartialShape(list(output.shape))):
                raise RuntimeError(f"OpenVINO gives {list(output.shape)} where its model says {stated}")
        return outputs

    def literal(self, spec, inputs, extra=()):
        model = build(spec, True, extra, oracle=True)
        return self.run(model, inputs, LITERAL)[: len(spec["outputs"]) + len(extra)]

    def shaped(self, spec, inputs):
        model = build(spec, True, oracle=True)
        model.reshape({i: list(value.shape) for i, value in enumerate(inputs)})
        return self.run(model, inputs, LITERAL)[: len(spec["outputs"])]

    def literals(self, specs):
        results, parameters, inputs, counts = [], [], [], []
        for spec in specs:
            model = build(spec, True, oracle=True)
            results += model.get_results()
            counts.append(len(model.get_results()))
            parameters += model.get_parameters()
            inputs += data(spec)
        outputs = iter(self.run(ov.Model(results, parameters, "many"), inputs, LITERAL))
        return [[next(outputs) for _ in range(n)][: len(s["outputs"])] for s, n in zip(specs, counts)]

    def transformed(self, spec, inputs):
        return self.run(build(spec, oracle=True), inputs, TRANSFORMED)[: len(spec["outputs"])]


class Ended(RuntimeError):
    """OpenVINO's process has ended."""


def serve(pipe):
    """Answers calls until the other side is gone."""
    plugin = Plugin()
    while True:
        try:
            name, arguments = pipe.recv()
        except EOFError:
            return
        try:
            pipe.send((True, getattr(plugin, name)(*arguments)))
        except Exception as error:
            pipe.send((False, str(error)))


class Oracle:
    """Calls the process, and starts another where one has ended. What OpenVINO cannot do raises RuntimeError."""

    def __init__(self):
        self.process = None

    def call(self, name, *arguments):
        if self.process is None:
            context = multiprocessing.get_context("spawn")
            self.pipe, other = context.Pipe()
            self.process = context.Process(target=serve, args=(other,), daemon=True)
            self.process.start()
            other.close()
        try:
            self.pipe.send((name, arguments))
            good, answer = self.pipe.recv()
        except (EOFError, OSError):
            self.process.join()
            code, self.process = self.process.exitcode, None
            raise Ended(f"OpenVINO's process ended with {code}") from None
        if not good:
            raise RuntimeError(answer)
        return answer

    def literal(self, spec, inputs, extra=()):
        """What the network says: weights are given as f32 constants."""
        return self.call("literal", spec, inputs, extra)

    def shaped(self, spec, inputs):
        """As `literal`, of a spec with open axes at the shapes of the inputs."""
        return self.call("shaped", spec, inputs)

    def literals(self, specs):
        """The literal outputs of many graphs, compiled as one model, which takes less than half the time; None where that
        fails."""
        try:
            return self.call("literals", list(specs))
        except RuntimeError:
            return [None] * len(specs)

    def transformed(self, spec, inputs):
        return self.call("transformed", spec, inputs)
