"""Finds ONNX graphs that would read other files, without needing the onnx package.

An ONNX file is a protocol buffer. A tensor keeps its values inside, or names a file (external data): such a file
could lie anywhere on the disk, so a pack may not use it. This walks the wire format through every message that can
hold a tensor. Source: onnx.proto3 (field numbers), protobuf.dev/programming-guides/encoding.
"""

from collections.abc import Iterator

from engine.errors import AvatarError

_EXTERNAL_DATA, _DATA_LOCATION = 13, 14  # TensorProto
# message -> {field number: message it holds}
_NESTED = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {},
}


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
        if shift > 63:
            raise IndexError


def _fields(data: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Yields (field number, value): an int for a varint, a view for bytes or a message; fixed-width values are
    skipped.
    """
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        number, wire = tag >> 3, tag & 7
        if wire == 0:
            value, at = _varint(data, at)
            yield number, value
        elif wire == 2:
            length, at = _varint(data, at)
            if at + length > len(data):
                raise IndexError
            yield number, data[at : at + length]
            at += length
        elif wire in (1, 5):
            at += 8 if wire == 1 else 4
        else:
            raise IndexError


def _holds_external(data: memoryview, message: str, depth: int = 0) -> bool:
    if depth > 64:
        raise IndexError
    nested = _NESTED[message]
    for number, value in _fields(data):
        if message == "tensor" and (number == _EXTERNAL_DATA or (number == _DATA_LOCATION and value == 1)):
            return True
        if number in nested and isinstance(value, memoryview) and _holds_external(value, nested[number], depth + 1):
            return True
    return False


def refuse_external_data(data: bytes, name: str) -> None:
    """Raises `AvatarError` if the ONNX file `name` is not readable as ONNX, or holds a tensor that lives in another
    file.
    """
    try:
        external = _holds_external(memoryview(data), "model")
    except IndexError:
        raise AvatarError(f"{name} is not an ONNX file (its protocol buffer is broken); fetch the pack again") from None
    if external:
        raise AvatarError(
            f"{name} keeps weights in another file (ONNX external data), which a pack may not; export it whole"
        )
