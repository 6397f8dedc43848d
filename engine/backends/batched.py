"""Graphs that compute N avatars in one call: their declaration, and the folder that `python -m export.batch` writes.

The first side of every tensor is N times as long as in the pack; avatar i owns the i-th part of it. Recurrent state
enters and leaves such a graph as ordinary tensors, so that avatars may come, pause and go each for itself.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from engine.avatar import Avatar
from engine.errors import AvatarError
from engine.manifest import GraphSpec
from engine.onnx_scan import refuse_external_data

LARGEST = 256
ROLES = ("audio_encoder", "frame_decoder")
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class BatchedGraph(BaseModel):
    """`sha256` of the file `<role>.onnx`, and of the pack's graph that it was made from."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    sha256: Sha256
    made_from: Sha256


class BatchFile(BaseModel):
    """`batch.json` of the folder; construction raises `pydantic.ValidationError`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal["mouthpiece-batch/1"] = "mouthpiece-batch/1"
    size: int = Field(ge=1, le=LARGEST)
    graphs: dict[Literal["audio_encoder", "frame_decoder"], BatchedGraph]


@dataclass(frozen=True)
class Batch:
    """(ONNX bytes, declaration) of encoder and decoder for `size` avatars, ready for `load_graphs`."""

    size: int
    models: tuple[tuple[bytes, GraphSpec], ...]


def batched_spec(spec: GraphSpec, size: int) -> GraphSpec:
    """The declaration of the graph for `size` avatars; state becomes plain inputs and outputs."""

    def longer(shape: list[int]) -> list[int]:
        return [size * shape[0], *shape[1:]]

    inputs = [
        t.model_copy(update={"shape": longer(t.shape), "role": "condition" if t.role == "state" else t.role})
        for t in spec.inputs
    ]
    outputs = [
        t.model_copy(update={"shape": longer(t.shape), "role": "aux" if t.role == "state" else t.role})
        for t in spec.outputs
    ]
    return spec.model_copy(update={"inputs": inputs, "outputs": outputs, "state": {}})


def open_batch(folder: str | Path, avatar: Avatar) -> Batch:
    """Reads the folder and checks that it is whole and was made from this very pack. Raises `AvatarError`."""
    folder = Path(folder)
    try:
        about = BatchFile.model_validate(json.loads((folder / "batch.json").read_text(encoding="utf-8")))
        files = {role: (folder / f"{role}.onnx").read_bytes() for role in ROLES}
    except (OSError, ValueError) as error:
        reason = error.errors()[0]["msg"] if isinstance(error, ValidationError) else error
        raise AvatarError(f"{folder}: expected a folder that python -m export.batch wrote ({reason})") from None
    models = []
    for role in ROLES:
        entry = about.graphs.get(role)  # type: ignore[call-overload]  # the keys are these roles
        own, spec = avatar.graph(role)
        if entry is None or hashlib.sha256(files[role]).hexdigest() != entry.sha256:
            raise AvatarError(
                f"{folder}: {role}.onnx was altered or is incomplete; write it again: python -m export.batch"
            )
        if entry.made_from != hashlib.sha256(own).hexdigest():
            raise AvatarError(
                f"{folder}: was made from another pack than {avatar.path}; write it again: python -m export.batch"
            )
        refuse_external_data(files[role], f"{role}.onnx")
        models.append((files[role], batched_spec(spec, about.size)))
    return Batch(about.size, tuple(models))
