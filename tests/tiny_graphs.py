"""The graphs of the tiny packs, written with onnx.helper: an encoder with state and a decoder in both picture kinds."""

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from engine.expressions import EXPRESSION_NAMES

CONTEXT, WINDOW, LOOKAHEAD = 6, 8, 4
CELLS, STILLS = 16, 2
READER_WINDOW = 60
JAW, BLINK_L, BLINK_R = (EXPRESSION_NAMES.index(name) for name in ("jawOpen", "eyeBlink_L", "eyeBlink_R"))


class GraphBuilder:
    """Writes ONNX as formulas: every method adds one node and returns the name of its output."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[TensorProto] = []

    def const(self, value: Any, kind: type = np.float32) -> str:
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(value, kind), name))
        return name

    def __call__(self, operator: str, *inputs: Any, to: str | None = None, **attributes: Any) -> str:
        names = [i if isinstance(i, str) else self.const(i) for i in inputs]
        name = to or f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, names, [name], **attributes))
        return name

    def mean(self, x: str, axes: list[int]) -> str:
        return self("ReduceMean", x, self.const(axes, np.int64), keepdims=1)

    def slice(self, x: str, start: int, end: int, axis: int, to: str | None = None) -> str:
        return self("Slice", x, *(self.const([v], np.int64) for v in (start, end, axis)), to=to)

    def reshape(self, x: str, shape: list[int], to: str | None = None) -> str:
        return self("Reshape", x, self.const(shape, np.int64), to=to)

    def column(self, x: str, index: int) -> str:
        """[1, n] -> [1, 1, 1, 1], one number of it."""
        return self.reshape(self.slice(x, index, index + 1, 1), [1, 1, 1, 1])

    def total(self, *terms: Any) -> str:
        result = terms[0]
        for term in terms[1:]:
            result = self("Add", result, term)
        return str(result)

    def model(self, inputs: dict[str, list[int]], outputs: dict[str, list[int]]) -> bytes:
        def declare(tensors: dict[str, list[int]]) -> list[onnx.ValueInfoProto]:
            return [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in tensors.items()]

        graph = helper.make_graph(self.nodes, "tiny", declare(inputs), declare(outputs), self.constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
        onnx.checker.check_model(model, full_check=True)
        return bytes(model.SerializeToString())


def encoder() -> tuple[bytes, dict[str, Any]]:
    g = GraphBuilder()
    inputs = {"samples": [1, 160], "envelope": [1, 4], "tail": [1, 1]}
    outputs = {"context": [1, CONTEXT], "envelope_next": [1, 4], "tail_next": [1, 1]}

    def level(wave: str) -> str:
        """-50 dB .. -10 dB -> 0 .. 1."""
        power = g("Add", g.mean(g("Mul", wave, wave), [1]), 1e-10)
        return g("Clip", g("Mul", g("Add", g("Mul", g("Log", power), 10 / np.log(10)), 50.0), 1 / 40), 0.0, 1.0)

    step = g("Sub", "samples", g("Concat", "tail", g.slice("samples", 0, 159, 1), axis=1))
    loud, bright = level("samples"), level(step)
    keep = np.array([[0.5, 0.8, 0.95, 0.99]], np.float32)
    envelope = g("Add", g("Mul", "envelope", keep), g("Mul", loud, 1 - keep), to="envelope_next")
    g.slice("samples", 159, 160, 1, to="tail_next")
    g("Concat", loud, bright, envelope, axis=1, to="context")
    roles = {"samples": "samples", "context": "context"}
    spec = _declare("audio_encoder.onnx", inputs, outputs, lambda name: roles.get(name, "state"))
    return g.model(inputs, outputs), spec | {"state": {"envelope": "envelope_next", "tail": "tail_next"}}


def reader(people: int) -> tuple[bytes, dict[str, Any]]:
    """Dull and loud is anger, bright and loud is happy, silence is calm; bright voices fit the second person."""
    g = GraphBuilder()
    inputs = {"context": [1, READER_WINDOW, CONTEXT], "usual": [1, CONTEXT], "seconds": [1, 1]}
    outputs = {"emotion": [1, 6], "people": [1, people]}
    mean = g.reshape(g.mean("context", [1]), [1, CONTEXT])
    mean = g("Add", mean, g("Mul", g("Mul", "usual", "seconds"), 1e-9))
    loud = g("Clip", g("Mul", g.slice(mean, 0, 1, 1), 1.5), 0.0, 1.0)
    ratio = g("Div", g.slice(mean, 1, 2, 1), g("Add", g.slice(mean, 0, 1, 1), 0.02))
    bright = g("Sigmoid", g("Mul", g("Sub", ratio, 0.8), 20.0))
    happy, anger = g("Mul", loud, bright), g("Mul", loud, g("Sub", 1.0, bright))
    none = g("Mul", loud, 0.0)
    g("Concat", anger, none, none, happy, g("Sub", 1.0, loud), none, axis=1, to="emotion")
    where = np.zeros((1, people), np.float32)
    where[0, 1] = 4.0
    g("Sub", g("Mul", bright, where), 1.0, to="people")
    return g.model(inputs, outputs), _declare(
        "voice_reader.onnx", inputs, outputs, lambda name: "context" if name in inputs else "aux"
    )


def _declare(file: str, inputs: dict[str, list[int]], outputs: dict[str, list[int]], role: Any) -> dict[str, Any]:
    def ports(tensors: dict[str, list[int]]) -> list[dict[str, Any]]:
        return [{"name": n, "shape": s, "dtype": "float32", "role": role(n)} for n, s in tensors.items()]

    return {"file": file, "inputs": ports(inputs), "outputs": ports(outputs), "state": {}}


def _planes(height: int, width: int, scale: float = 1.0) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    return ((x + 0.5) * scale - 0.5)[None, None], ((y + 0.5) * scale - 0.5)[None, None]


def _face(g: GraphBuilder, x: Any, y: Any, unit: float) -> tuple[str, str]:
    """Paints mouth, pupils and lids at coordinates (x, y) from the face's middle, in pixels; `unit` is S / 128.

    -> colour, mask.
    """
    loud = g.reshape(g.mean(g.slice(g.slice("context", WINDOW - 3, WINDOW, 1), 0, 1, 2), [1]), [1, 1, 1, 1])
    jaw = g("Clip", g("Mul", loud, 1.2), 0.0, 1.0, to="jaw")
    smile = g("Sub", g.column("emotion", 3), g.column("emotion", 5))
    wide = g("Mul", g("Add", g("Mul", smile, 2.0), 9.0), unit)
    tall = g("Mul", g("Add", g("Mul", jaw, 6.0), 0.6), unit)
    u = g("Div", x, wide)
    bow = g("Mul", g("Mul", smile, -2.5 * unit), g("Mul", u, u))
    v = g("Div", g("Sub", g("Sub", y, 15.0 * unit), bow), tall)
    mouth = g("Sigmoid", g("Mul", g("Sub", 1.0, g("Add", g("Mul", u, u), g("Mul", v, v))), 5.0))
    parts = [(mouth, g.const(np.array([0.45, 0.08, 0.1]).reshape(1, 3, 1, 1)))]
    skin = g.reshape("skin", [1, 3, 1, 1])
    for side in (-1, 1):
        ex = g("Sub", x, 11.0 * side * unit)
        ey = g("Add", y, 8.0 * unit)
        px = g("Sub", ex, g("Mul", g.column("gaze", 0), 6.0 * unit))
        py = g("Add", ey, g("Mul", g.column("gaze", 1), 6.0 * unit))
        round_ = g("Div", g("Add", g("Mul", px, px), g("Mul", py, py)), 4.0 * unit * unit)
        parts.append(
            (
                g("Sigmoid", g("Mul", g("Sub", 1.0, round_), 4.0)),
                g.const(np.array([0.15, 0.1, 0.08]).reshape(1, 3, 1, 1)),
            )
        )
        hole = g(
            "Add", g("Mul", g("Mul", ex, ex), 1 / (6.5 * unit) ** 2), g("Mul", g("Mul", ey, ey), 1 / (4.5 * unit) ** 2)
        )
        eye = g("Sigmoid", g("Mul", g("Sub", 1.0, hole), 8.0))
        edge = g("Sub", g("Mul", g.column("blink", 0), 10.0 * unit), g("Add", ey, 5.0 * unit))
        parts.append((g("Mul", eye, g("Sigmoid", g("Mul", edge, 3.0 / unit))), skin))
    colour, mask = g("Mul", parts[0][0], parts[0][1]), parts[0][0]  # premultiplied by the mask while layers are stacked
    for cover, paint in parts[1:]:
        left = g("Sub", 1.0, cover)
        colour = g("Add", g("Mul", colour, left), g("Mul", cover, paint))
        mask = g("Add", g("Mul", mask, left), cover)
    return g("Div", colour, g("Add", mask, 1e-4)), mask


def _turn(g: GraphBuilder, x: Any, y: Any, size: int) -> tuple[str, str]:
    """Where the picture at (x, y) looks when head and bust turn by pose and shift: roll about the middle, yaw and
    pitch as moves.
    """
    unit = size / 128
    dx = g("Mul", g("Add", g("Mul", g.column("pose", 0), 20.0), g.column("shift", 0)), unit)
    dy = g("Mul", g("Sub", g("Mul", g.column("pose", 1), 20.0), g.column("shift", 1)), unit)
    c, s = g("Cos", g.column("pose", 2)), g("Sin", g.column("pose", 2))
    u, v = g("Sub", g("Sub", x, size / 2), dx), g("Sub", g("Sub", y, size / 2), dy)
    return (
        g("Add", g("Sub", g("Mul", c, u), g("Mul", s, v)), size / 2),
        g("Add", g("Add", g("Mul", s, u), g("Mul", c, v)), size / 2),
    )


def _expression(g: GraphBuilder) -> None:
    where = np.zeros((2, 60), np.float32)
    where[0, JAW] = where[1, [BLINK_L, BLINK_R]] = 1
    parts = g("Concat", g.reshape("jaw", [1, 1]), "blink", axis=1)
    g("MatMul", parts, where, to="expression")


def _conditions_used(g: GraphBuilder) -> dict[str, list[int]]:
    return {"emotion": [1, 6], "pose": [1, 3], "shift": [1, 3], "gaze": [1, 2], "blink": [1, 1]}


def face_box(size: int) -> tuple[int, int, int, int]:
    return size // 4, size // 4, size // 2, size // 2


def face_patch(size: int) -> tuple[int, int, int, int]:
    """Mouth and eyes, within the face box."""
    return size * 5 // 16, size * 5 // 16, size * 3 // 8, size * 3 // 8


def layers_decoder(size: int) -> tuple[bytes, dict[str, Any]]:
    g = GraphBuilder()
    _, _, w, h = face_box(size)
    unit = size / 128
    inputs = {"context": [1, WINDOW, CONTEXT], **_conditions_used(g), "skin": [1, 3]}
    outputs = {
        "paint": [1, 4, h // 4, w // 4],
        "features": [1, 4, h * 3 // 4, w * 3 // 4],
        "paint_flow": [1, 2, h // 4, w // 4],
        "grid": [STILLS, 2, CELLS, CELLS],
        "weight": [1, STILLS, CELLS, CELLS],
        "gain": [1, 3, CELLS, CELLS],
        "expression": [1, 60],
    }
    x, y = _planes(h * 3 // 4, w * 3 // 4)
    colour, mask = _face(g, x - w * 3 / 8, y - h * 3 / 8, unit)
    g("Concat", colour, mask, axis=1, to="features")
    g("Mul", g.reshape("jaw", [1, 1, 1, 1]), np.zeros((1, 4, h // 4, w // 4), np.float32), to="paint")
    # The jaw stretches the skin below the mouth; anger pulls the brows.
    flow_x, flow_y = _planes(h // 4, w // 4, 4.0)
    below = (
        1 / (1 + np.exp(-(flow_y - h / 2 - 20 * unit) / (2 * unit))) * np.exp(-(((flow_x - w / 2) / (16 * unit)) ** 2))
    )
    brows = np.exp(-(((flow_y - h / 2 + 16 * unit) / (5 * unit)) ** 2))
    rows = np.minimum(1, np.minimum(flow_y, h - flow_y) / (6 * unit))  # nothing moves at the box's rim
    dy = g("Sub", g("Mul", "jaw", below * rows * -4 * unit), g("Mul", g.column("emotion", 0), brows * rows * 3 * unit))
    g("Concat", g("Mul", dy, 0.0), dy, axis=1, to="paint_flow")
    cx, cy = _planes(CELLS, CELLS, size / CELLS)
    turned = g("Concat", *_turn(g, cx, cy, size), axis=1)
    g("Concat", *([turned] * STILLS), axis=0, to="grid")
    side = g("Clip", g("Mul", g.column("pose", 0), 1.0), 0.0, 0.4)
    plane = g.const(np.ones((1, 1, CELLS, CELLS)))
    g("Concat", g("Mul", g("Sub", 1.0, side), plane), g("Mul", side, plane), axis=1, to="weight")
    light = g("Add", g("Mul", g.column("pose", 0), (cx / size - 0.5) * -0.6), 1.0)
    g("Concat", light, light, light, axis=1, to="gain")
    _expression(g)
    return g.model(inputs, outputs), _declare("frame_decoder.onnx", inputs, outputs, _decoder_role)


def rgba_decoder(size: int) -> tuple[bytes, dict[str, Any]]:
    g = GraphBuilder()
    unit = size / 128
    inputs = {"context": [1, WINDOW, CONTEXT], **_conditions_used(g), "skin": [1, 3]}
    outputs = {"picture": [1, 4, size, size], "expression": [1, 60]}
    x, y = _turn(g, *_planes(size, size), size)
    x, y = g("Sub", x, size / 2), g("Sub", y, size / 2)
    colour, mask = _face(g, x, y, unit)
    oval = g("Add", g("Mul", g("Mul", x, x), 1 / (30 * unit) ** 2), g("Mul", g("Mul", y, y), 1 / (40 * unit) ** 2))
    alpha = g("Clip", g("Mul", g("Sub", 1.0, oval), 8.0 * unit), 0.0, 1.0)
    skin = g.reshape("skin", [1, 3, 1, 1])
    face = g("Add", g("Mul", skin, g("Sub", 1.0, mask)), g("Mul", colour, mask))
    g("Concat", g("Mul", face, alpha), alpha, axis=1, to="picture")
    _expression(g)
    return g.model(inputs, outputs), _declare("frame_decoder.onnx", inputs, outputs, _decoder_role)


def _decoder_role(name: str) -> str:
    roles = {"context": "context", "skin": "person", "expression": "aux"}
    return roles.get(name, "condition" if name in ("emotion", "pose", "shift", "gaze", "blink") else "picture")
