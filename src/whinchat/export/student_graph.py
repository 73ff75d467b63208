"""A student as an ONNX graph: the UTF-8 bytes of texts in, probabilities out. Writing it needs the package onnx.

N: texts of a batch. T: bytes of the longest; shorter texts are padded on the right. B: buckets. R: rows of the table.
L: labels of all decisions together. K: labels of a decision.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from whinchat.evaluation.ngram_student import HASH_BASE, HASH_MODULUS, LENGTHS, MOST_BYTES, NgramStudent

BYTES_INPUT, LENGTHS_INPUT, CONFIDENCE_OUTPUT = "bytes", "lengths", "confidence"
# Operators as of February 2023 (ONNX 1.13, onnxruntime 1.14), so that older programs can read the file, too.
_OPSET, _IR_VERSION = 18, 8


class _GraphWriter:
    """Collects the nodes and constants of a graph, and gives each value a name of its own."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def constant(self, value: Any, dtype: Any = np.int64) -> str:
        """Add a constant, and return its name."""
        name = f"constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(np.asarray(value, dtype=dtype)), name))
        return name

    def add(self, operator: str, *inputs: str, output: str | None = None, **attributes: Any) -> str:
        """Add a node of one output, and return the name of its output."""
        name = output or f"value_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [name], **attributes))
        return name

    def slice(self, value: str, axis: int, start: int, end: int) -> str:
        """Return ``value[start:end]`` along ``axis``."""
        return self.add("Slice", value, *(self.constant([one]) for one in (start, end, axis)))


def write_student_graph(student: NgramStudent, outputs: Sequence[str], file: Path) -> None:
    """Write a student as an ONNX graph.

    The graph computes what the docstring of ``NgramStudent`` says, from the hashes on: ``bytes``, uint8 (N, T), are the
    bytes of normalized texts, of which the first ``lengths``, int64 (N,), count. It returns the probabilities of each
    decision, float64 (N, K), and ``confidence``, float64 (N,): the lowest, over the decisions, of their highest
    probabilities. It keeps the weights of the buckets that are used, in float32 as the student has them, and adds in
    float64.

    Args:
        student: the student.
        outputs: name of the output of each decision.
        file: the file to write.
    """
    graph = _GraphWriter()
    # An output of two axes, norm squared and scores: (N, 1 + L)
    sums = _sum_ngrams(graph, student)
    squared = graph.slice(sums, 1, 0, 1)
    norm = graph.add("Sqrt", squared)
    zero, one = graph.constant(0, np.float64), graph.constant(1, np.float64)
    norm = graph.add("Where", graph.add("Equal", squared, zero), one, norm)
    scores = graph.add("Div", graph.slice(sums, 1, 1, 2**31), norm)
    scores = graph.add("Add", scores, graph.constant(student.bias, np.float64))  # (N, L)
    start, highest = 0, []
    for name, size in zip(outputs, student.sizes, strict=True):
        own = graph.add("Softmax", graph.slice(scores, 1, start, start + size), axis=1, output=name)  # (N, K)
        highest.append(graph.add("ReduceMax", own, graph.constant([1]), keepdims=0))
        start += size
    graph.add("Min", *highest, output=CONFIDENCE_OUTPUT)
    describe = helper.make_tensor_value_info
    model = helper.make_model(
        helper.make_graph(
            graph.nodes,
            "student",
            [
                describe(BYTES_INPUT, TensorProto.UINT8, ["texts", "longest"]),
                describe(LENGTHS_INPUT, TensorProto.INT64, ["texts"]),
            ],
            [
                *(
                    describe(name, TensorProto.DOUBLE, ["texts", size])
                    for name, size in zip(outputs, student.sizes, strict=True)
                ),
                describe(CONFIDENCE_OUTPUT, TensorProto.DOUBLE, ["texts"]),
            ],
            graph.constants,
        ),
        producer_name="whinchat",
        opset_imports=[helper.make_opsetid("", _OPSET)],
        ir_version=_IR_VERSION,
    )
    onnx.checker.check_model(model, full_check=True)
    file.write_bytes(model.SerializeToString())


def _sum_ngrams(graph: _GraphWriter, student: NgramStudent) -> str:
    """Sum over the n-grams of each text ``idf`` squared, and ``idf`` times the weight for each label, (N, 1 + L)."""
    table, places = _shrink_table(student)
    rows = graph.constant(table, np.float32)
    place_of = None if places is None else graph.constant(places, np.int32)
    base, modulus = graph.constant(HASH_BASE), graph.constant(HASH_MODULUS)
    buckets, last = graph.constant(len(student.idf)), graph.constant([1])
    data = graph.slice(BYTES_INPUT, 1, 0, MOST_BYTES)  # (N, T), T at most MOST_BYTES from here on
    longest = graph.add("Gather", graph.add("Shape", data), graph.constant(1))
    lengths = graph.add("Unsqueeze", graph.add("Min", LENGTHS_INPUT, longest), last)  # (N, 1)
    starts = graph.add("Range", graph.constant(0), longest, graph.constant(1))  # (T,)
    data = graph.add("Add", graph.add("Cast", data, to=TensorProto.INT64), graph.constant(1))
    # Behind the end, so that each place of a text begins an n-gram of each length; those beyond the end do not count.
    data = graph.add("Pad", data, graph.constant([0, 0, 0, max(LENGTHS)]))
    hashes, found = "", []
    for length in LENGTHS:
        byte = graph.slice(data, 1, length - 1, length - 1 - max(LENGTHS))
        # The hash of n bytes is that of the first n - 1, continued by the last.
        continued = graph.add("Add", graph.add("Mul", hashes, base), byte) if hashes else byte
        hashes = graph.add("Mod", continued, modulus)  # (N, T)
        row = graph.add("Mod", hashes, buckets)
        row = row if place_of is None else graph.add("Gather", place_of, row)
        weights = graph.add("Cast", graph.add("Gather", rows, row), to=TensorProto.DOUBLE)  # (N, T, 1 + L)
        ends = graph.add("Add", starts, graph.constant(length))
        counts = graph.add("Cast", graph.add("LessOrEqual", ends, lengths), to=TensorProto.DOUBLE)  # (N, T)
        idf = graph.add("Mul", graph.slice(weights, 2, 0, 1), graph.add("Unsqueeze", counts, graph.constant([2])))
        found.append(graph.add("MatMul", graph.add("Transpose", idf, perm=[0, 2, 1]), weights))  # (N, 1, 1 + L)
    return graph.add("Squeeze", graph.add("Sum", *found), last)


def _shrink_table(student: NgramStudent) -> tuple[NDArray[np.float32], NDArray[np.int32] | None]:
    """Return ``idf`` and weights of the buckets as one table, (R, 1 + L), and the row of each bucket, (B,).

    The rows of unused buckets are left out, and None returned for the rows of the buckets, where that takes less.
    """
    table = np.concatenate([student.idf[:, None], student.weights], axis=1, dtype=np.float32)
    used = np.flatnonzero(student.idf)
    shrunk = np.concatenate([np.zeros((1, table.shape[1]), np.float32), table[used]])
    places = np.zeros(len(table), dtype=np.int32)
    places[used] = np.arange(1, len(shrunk))
    return (shrunk, places) if shrunk.nbytes + places.nbytes < table.nbytes else (table, None)
