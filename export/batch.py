"""A pack's graphs for several avatars at once: one call computes what N calls of the pack's own graph would.

    python -m export.batch cast.avatar --size 8 -o cast.x8

Works on the graphs themselves (export/batch_rules.py), in any precision, so neither checkpoints nor torch are needed.
Shapes stay static. People differ from avatar to avatar: their tensors are inputs like all others. What comes out is
read by engine/backends/batched.py.
"""

import hashlib
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Annotated

import onnx
import tyro

from engine.avatar import Avatar, open_avatar
from engine.backends.batched import LARGEST, ROLES, BatchedGraph, BatchFile, open_batch
from engine.errors import BackendError, MouthpieceError
from export.batch_layout import Batching
from export.batch_rules import RULES
from export.pack import take_place


def batched(model: bytes, count: int) -> bytes:
    """The graph that computes `count` independent calls of `model` at once; the same bytes for the same input.

    Raises `BackendError` for a graph with inner shapes that depend on its inputs' values.
    """
    if not 1 <= count <= LARGEST:
        raise BackendError(f"a batch holds 1 to {LARGEST} avatars, found {count}")
    if count == 1:
        return model
    return bytes(
        Batching(onnx.load_model_from_string(model), count, RULES).model().SerializeToString(deterministic=True)
    )


def write_batch(avatar: Avatar, size: int, folder: Path) -> int:
    """Writes the graphs of `size` avatars into a folder, which takes its place whole, and reads it back. Returns bytes.

    Raises `BackendError`, and `ValueError` if something else stands there.
    """
    if folder.exists() and not (folder / "batch.json").is_file():
        raise ValueError(f"{folder} exists and is no batch; choose another name or remove it")
    about, total = {}, 0
    folder.parent.mkdir(parents=True, exist_ok=True)
    building = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        for role in ROLES:
            own, _ = avatar.graph(role)
            made = batched(own, size)
            (building / f"{role}.onnx").write_bytes(made)
            about[role] = BatchedGraph(sha256=_digest(made), made_from=_digest(own))
            total += len(made)
        text = BatchFile.model_validate({"size": size, "graphs": about}).model_dump_json(indent=1)
        (building / "batch.json").write_text(text + "\n", encoding="utf-8")
        open_batch(building, avatar)
        building.chmod(0o755)
        take_place(building, folder)
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return total


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def main(
    avatar: tyro.conf.Positional[Path],
    /,
    *,
    size: int,
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])],
) -> None:
    """Writes a pack's graphs for several avatars at once, beside the pack.

    Args:
        avatar: The pack.
        size: How many avatars share a call.
        output: The folder to write.
    """
    try:
        total = write_batch(open_avatar(avatar), size, output)
    except (OSError, ValueError, MouthpieceError) as error:
        sys.exit(f"error: {error}")
    print(f"{output}: {size} avatar{'s' * (size > 1)} a call, {total / 2**20:.1f} MB")


if __name__ == "__main__":
    tyro.cli(main)
