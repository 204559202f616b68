"""Writes the trained detector as OpenVINO IR in f32; `make models` quantizes it."""

import ir
from network import COLS, CONVS, HEADS, HEIGHT, ROWS, WIDTH


class Layers:
    """Writes the network's layers."""

    def __init__(self, folded):
        self.folded = folded
        self.ir = ir.Writer("demo-detector")

    def block(self, name, x):
        return self.relu(name, self.conv(name, x))

    def network(self, x):
        for name in ("stem", "down1", "down2"):
            x = self.block(name, x)
        fine = self.relu("res1b", self.add("res1b", self.conv("res1b", self.block("res1a", x)), x))
        x = self.block("down3", fine)
        coarse = self.relu("res2b", self.add("res2b", self.conv("res2b", self.block("res2a", x)), x))
        x = self.concat("join", self.upsample("up", coarse), fine)
        x = self.block("head", self.block("merge", x))
        return self.outputs([self.conv(name, x) for name in HEADS])

    def shape(self, x):
        return self.ir.shapes[x][0]

    def conv(self, name, x):
        w, b = self.folded[name]
        stride = CONVS[name][3] if name in CONVS else 1
        pad = w.shape[2] // 2
        n, _, height, width = self.shape(x)
        shape = (n, w.shape[0], height // stride, width // stride)
        y = self.ir.layer(name, "Convolution", [x, self.ir.constant(f"{name}/weights", w)], shape, strides=f"{stride},{stride}", dilations="1,1", pads_begin=f"{pad},{pad}", pads_end=f"{pad},{pad}", auto_pad="explicit")
        bias = self.ir.constant(f"{name}/bias", b.reshape(1, -1, 1, 1))
        return self.ir.layer(f"{name}/add", "Add", [y, bias], shape, auto_broadcast="numpy")

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

    def outputs(self, heads):
        objectness, box, classes = heads
        objectness = self.ir.layer("objectness/sigmoid", "Sigmoid", [objectness], self.shape(objectness))
        classes = self.ir.layer("class/softmax", "SoftMax", [classes], self.shape(classes), "opset8", axis=1)
        shape = (1, sum(HEADS.values()), ROWS, COLS)
        return self.ir.layer("detections", "Concat", [objectness, box, classes], shape, axis=1)


def write(folder, folded, classes):
    """Writes detector-fp32 (.xml, .bin) and labels.txt."""
    layers = Layers(folded)
    dims = (1, 3, HEIGHT, WIDTH)
    x = layers.ir.layer("image", "Parameter", [], dims, shape=",".join(map(str, dims)), element_type="f32")
    layers.ir.layer("result", "Result", [layers.network(x)], None)
    layers.ir.save(folder / "detector-fp32")
    (folder / "labels.txt").write_text("".join(f"{c}\n" for c in classes))
