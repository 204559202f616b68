"""Golden cases of element-wise operations, broadcasting, reductions and decoders: python elementwise.py."""
import numpy as np
import openvino.opset1 as op1
import openvino.opset16 as op16

from openvino.utils.node_factory import NodeFactory

from harness import case, const, op, values

f32, i32, i64 = np.float32, np.int32, np.int64


with case("elementwise", "broadcast") as c:
    x = c.input(np.arange(1, 4, dtype=f32).reshape(3, 1))
    c.result(op.broadcast(x, const([2, 3, 4])), op.broadcast(x, const([2, 1, 4]), broadcast_spec="bidirectional"))
    y = c.input(np.arange(6, dtype=i32).reshape(2, 3))
    c.result(op.broadcast(y, const([2, 4, 3]), const([0, 2]), "explicit"), op.broadcast(x, const([3, 2]), const([0, 1]), "explicit"))
    c.result(op.broadcast(y, c.input(np.array([2, 2, 3], i32))), op1.broadcast(y, const([2, 3, 2]), const([0, 1]), "explicit"))

with case("elementwise", "pdpd", reference=True) as c:
    x, y = c.input(values((2, 3, 4))), c.input(values((2, 3), 5))
    c.result(op.add(x, y, "pdpd"), op.multiply(x, c.input(values((2, 1), 7)), "pdpd"), op.less(x, y, "pdpd"))
    c.result(op.select(op.greater(y, const(0, f32)), x, y, "pdpd"), op.subtract(x, x, "none"))

# With limits of fewer axes than the data OpenVINO's reference takes them along other axes, and its CPU plugin fails;
# ir/tests.rs has those.
with case("elementwise", "fake_quantize_broadcast", reference=True) as c:
    x = c.input(values((2, 3, 4)))
    def quantize(shape, mode):
        high = values(shape, 3) + f32(8)
        limits = [const(limit, f32) for limit in (-high, high, -high / 2, high / 2)]
        return op.fake_quantize(x, *limits, 16, mode)
    c.result(*[quantize(shape, "pdpd") for shape in ((), (1,), (1, 3, 1), (2, 3, 1), (2, 3, 4))])
    c.result(quantize((2, 3, 4), "none"), quantize((3, 1), "numpy"))

with case("elementwise", "select") as c:
    cond = c.input(np.array([[True], [False], [True]]))
    a, b = c.input(values((3, 2))), c.input(values((1, 2), 9))
    c.result(op.select(cond, a, b), op.select(op.equal(a, a), a, a, "none"), op.logical_not(cond))

with case("elementwise", "bitwise") as c:
    a, b = c.input(np.array([[12, -5, 0], [7, 255, -1]], i32)), c.input(np.array([10, 3, -8], i32))
    c.result(op.bitwise_and(a, b), op.bitwise_or(a, b), op.bitwise_xor(a, b), op.bitwise_not(a))
    s = const([[0], [3]], i32)
    c.result(op.bitwise_left_shift(a, s), op.bitwise_right_shift(a, s))
    p, q = c.input(np.array([True, True, False, False])), c.input(np.array([True, False, True, False]))
    c.result(op.bitwise_and(p, q), op.bitwise_or(p, q), op.bitwise_xor(p, q), op.bitwise_not(p))
    u = c.input(np.array([1, 200, 255], np.uint8))
    c.result(op.bitwise_not(u), op.bitwise_and(u, const([3, 15, 129], np.uint8)))

with case("elementwise", "classify") as c:
    x = c.input(np.array([[0, np.inf, -np.inf], [np.nan, 3e38, -1]], f32))
    c.result(op.is_finite(x), op.is_nan(x), op.is_inf(x))
    c.result(op.is_inf(x, {"detect_negative": False}), op.is_inf(x, {"detect_positive": False}))

with case("elementwise", "convert_like") as c:
    x, i = c.input(np.array([-1.7, 2.5, 300], f32)), c.input(np.array([1, -2, 3], i32))
    c.result(op.convert_like(x, i), op.convert_like(i, x))

with case("elementwise", "integers") as c:
    a, b = c.input(np.array([-7, 7, -7, 7, 3], i32)), c.input(np.array([2, -2, -2, 2, 3], i32))
    c.result(op.mod(a, b), op.floor_mod(a, b), op.power(a, const(3, i32)), op.squared_difference(a, b))
    c.result(op.maximum(a, b), op.minimum(a, b), op.abs(a), op.negative(a))
    x, y = c.input(np.array([-7.5, 7.5, -7, 0], f32)), c.input(np.array([2, -2, 3.5, 3], f32))
    c.result(op.mod(x, y), op.floor_mod(x, y), op.power(op.abs(x), y), op.squared_difference(x, y))

# The CPU plugin truncates where the specification rounds down.
with case("elementwise", "divide", reference=True) as c:
    a, b = c.input(np.array([-7, 7, -7, 7, 3], i32)), c.input(np.array([2, -2, -2, 2, 3], i32))
    truncating = NodeFactory("opset1").create("Divide", [a.output(0), b.output(0)], {"m_pythondiv": False})
    c.result(op.divide(a, b), truncating)

with case("elementwise", "reduce") as c:
    x = c.input(values((2, 3, 4)))
    for reduce in op.reduce_l1, op.reduce_l2, op.reduce_prod, op.reduce_sum, op.reduce_max, op.reduce_min, op.reduce_mean:
        c.result(reduce(x, const([-1, 0]), reduce is not op.reduce_l1))
    c.result(op.reduce_mean(x, const(1)))
    i = c.input(np.array([[3, -2, 4], [1, 5, -6]], i32))
    for reduce in op.reduce_l1, op.reduce_prod, op.reduce_sum, op.reduce_max, op.reduce_min:
        c.result(reduce(i, const([1])))
    p = c.input(np.array([[True, False], [True, True]]))
    for reduce in op.reduce_logical_and, op.reduce_logical_or:
        c.result(reduce(p, const([1])), reduce(p, const([-2]), True))

with case("elementwise", "ctc") as c:
    x = np.zeros((5, 2, 4), f32)
    for n, best in enumerate([[1, 1, 3, 1, 2], [0, 2, 2, 3, 3]]):
        for t, k in enumerate(best):
            x[t, n, k] = 1
    scores, mask = c.input(x), c.input(np.array([[1, 1], [1, 1], [1, 1], [1, 0], [0, 0]], f32))
    c.result(op.ctc_greedy_decoder(scores, mask, True), op.ctc_greedy_decoder(scores, mask, False))
    rows, lengths = c.input(x.transpose(1, 0, 2).copy()), c.input(np.array([5, 3], i32))
    c.result(op.ctc_greedy_decoder_seq_len(rows, lengths, merge_repeated=True))
    c.result(op.ctc_greedy_decoder_seq_len(rows, lengths, const(2, i32), False, "i64", "i64"))

with case("elementwise", "identity") as c:
    c.result(op16.identity(c.input(values((2, 3)))), op16.identity(c.input(np.array([[-128, 127]], np.int8))))
    c.result(op16.identity(c.input(np.array(True))), op16.identity(c.input(values((0, 2)))))
