"""Writes the trained detector as OpenVINO IR: in f32, and quantized to INT8 with FakeQuantize layers."""
import jax
import jax.numpy as jnp
import numpy as np

import ir
from network import COLS, CONVS, HEADS, HEIGHT, ROWS, WIDTH, conv


class Network:
    """The network's structure, walked once per purpose: `ops` computes ranges, or writes layers."""

    def __init__(self, ops):
        self.ops = ops

    def run(self, x):
        o = self.ops
        x = o.quantize("input", x)
        for name in ("stem", "down1", "down2"):
            x = o.quantize(name, o.relu(name, o.conv(name, x)))
        y = o.quantize("res1a", o.relu("res1a", o.conv("res1a", x)))
        fine = o.quantize("fine", o.relu("res1b", o.add("res1b", o.quantize("res1b", o.conv("res1b", y)), x)))
        x = o.quantize("down3", o.relu("down3", o.conv("down3", fine)))
        y = o.quantize("res2a", o.relu("res2a", o.conv("res2a", x)))
        coarse = o.quantize("coarse", o.relu("res2b", o.add("res2b", o.quantize("res2b", o.conv("res2b", y)), x)))
        x = o.concat("join", o.upsample("up", coarse), fine)
        for name in ("merge", "head"):
            x = o.quantize(name, o.relu(name, o.conv(name, x)))
        return o.outputs([o.conv(name, x) for name in HEADS])


class Ranges:
    """Computes the network in f32 and records the mean over pictures of each tensor's smallest and largest value."""

    def __init__(self, folded):
        self.weights = {n: (jnp.asarray(w.transpose(2, 3, 1, 0)), b) for n, (w, b) in folded.items()}
        self.seen = {}

    def conv(self, name, x):
        w, b = self.weights[name]
        return conv(x, w, CONVS[name][3] if name in CONVS else 1) + b

    def relu(self, _, x):
        return jax.nn.relu(x)

    def add(self, _, x, y):
        return x + y

    def upsample(self, _, x):
        return jnp.repeat(jnp.repeat(x, 2, axis=1), 2, axis=2)

    def concat(self, _, x, y):
        return jnp.concatenate([x, y], axis=-1)

    def outputs(self, heads):
        return heads

    def quantize(self, name, x):
        low, high = np.asarray(x.min((1, 2, 3))), np.asarray(x.max((1, 2, 3)))
        total = self.seen.setdefault(name, [0.0, 0.0, 0])
        total[0] += float(low.sum())
        total[1] += float(high.sum())
        total[2] += len(low)
        return x

    def limits(self):
        """Limits per quantized tensor: the input so that codes are the samples themselves, tensors after ReLU
        unsigned, sums' inputs signed and symmetric; joined tensors share their range."""
        mean = {n: (a / k, b / k) for n, (a, b, k) in self.seen.items()}
        joined = max(mean["fine"][1], mean["coarse"][1])
        mean["fine"] = mean["coarse"] = (0.0, joined)
        limits = {"input": (-127 / 128, 1.0)}
        for name, (low, high) in mean.items():
            if name == "input":
                continue
            if low < 0:
                most = max(-low, high)
                limits[name] = (-most * 128 / 127, most)
            else:
                limits[name] = (0.0, high)
        return limits


class Layers:
    """Writes the network; with `limits` quantized, without in f32."""

    def __init__(self, folded, limits):
        self.folded, self.limits = folded, limits
        self.ir = ir.Writer("demo-detector")

    def shape(self, x):
        return self.ir.shapes[x][0]

    def conv(self, name, x):
        w, b = self.folded[name]
        stride = CONVS[name][3] if name in CONVS else 1
        pad = w.shape[2] // 2
        n, _, height, width = self.shape(x)
        shape = (n, w.shape[0], height // stride, width // stride)
        y = self.ir.layer(name, "Convolution", [x, self.weights(name, w)], shape, strides=f"{stride},{stride}", dilations="1,1", pads_begin=f"{pad},{pad}", pads_end=f"{pad},{pad}", auto_pad="explicit")
        bias = self.ir.constant(f"{name}/bias", b.reshape(1, -1, 1, 1))
        return self.ir.layer(f"{name}/add", "Add", [y, bias], shape, auto_broadcast="numpy")

    def weights(self, name, w):
        if self.limits is None:
            return self.ir.constant(f"{name}/weights", w)
        scale = np.maximum(np.abs(w).max((1, 2, 3), keepdims=True), 1e-8) / 127
        codes = np.clip(np.round(w / scale), -127, 127)
        c = self.ir.constant(f"{name}/weights", codes, "i8")
        f = self.ir.layer(f"{name}/weights/convert", "Convert", [c], w.shape, destination_type="f32")
        s = self.ir.constant(f"{name}/weights/scale", scale)
        return self.ir.layer(f"{name}/weights/multiply", "Multiply", [f, s], w.shape, auto_broadcast="numpy")

    def relu(self, name, x):
        return self.ir.layer(f"{name}/relu", "ReLU", [x], self.shape(x))

    def add(self, name, x, y):
        return self.ir.layer(f"{name}/sum", "Add", [x, y], self.shape(x), auto_broadcast="numpy")

    def upsample(self, name, x):
        n, c, h, w = self.shape(x)
        sizes = self.ir.constant(f"{name}/sizes", [2 * h, 2 * w], "i64")
        axes = self.ir.constant(f"{name}/axes", [2, 3], "i64")
        zeros = "0,0,0,0"
        return self.ir.layer(name, "Interpolate", [x, sizes, axes], (n, c, 2 * h, 2 * w), "opset11", mode="nearest", shape_calculation_mode="sizes", coordinate_transformation_mode="asymmetric", nearest_mode="floor", antialias="false", pads_begin=zeros, pads_end=zeros, cube_coeff="-0.75")

    def concat(self, name, x, y):
        n, c, h, w = self.shape(x)
        return self.ir.layer(name, "Concat", [x, y], (n, c + self.shape(y)[1], h, w), axis=1)

    def quantize(self, name, x):
        if self.limits is None:
            return x
        low, high = (self.ir.constant(f"{name}/fq/{side}", np.float32(v).reshape(1, 1, 1, 1)) for side, v in zip(("low", "high"), self.limits[name]))
        return self.ir.layer(f"{name}/fq", "FakeQuantize", [x, low, high, low, high], self.shape(x), levels=256, auto_broadcast="numpy")

    def outputs(self, heads):
        objectness, box, classes = heads
        objectness = self.ir.layer("objectness/sigmoid", "Sigmoid", [objectness], self.shape(objectness))
        classes = self.ir.layer("class/softmax", "SoftMax", [classes], self.shape(classes), "opset8", axis=1)
        shape = (1, sum(HEADS.values()), ROWS, COLS)
        return self.ir.layer("detections", "Concat", [objectness, box, classes], shape, axis=1)


def write(folder, folded, pictures, classes):
    """Writes detector-fp32 and detector-int8 (.xml, .bin) and labels.txt; `pictures` calibrate: f32 [N, H, W, 3]."""
    ranges = Ranges(folded)
    for i in range(0, len(pictures), 20):
        Network(ranges).run(jnp.asarray(pictures[i : i + 20]))
    for name, limits in (("detector-fp32", None), ("detector-int8", ranges.limits())):
        layers = Layers(folded, limits)
        dims = (1, 3, HEIGHT, WIDTH)
        x = layers.ir.layer("image", "Parameter", [], dims, shape=",".join(map(str, dims)), element_type="f32")
        layers.ir.layer("result", "Result", [Network(layers).run(x)], None)
        layers.ir.save(folder / name)
    (folder / "labels.txt").write_text("".join(f"{c}\n" for c in classes))
