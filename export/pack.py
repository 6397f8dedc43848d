"""Writes an avatar pack: graphs, people and manifest into a folder beside the target, which then takes its place whole.

The manifest is built from what was written (digests, sizes, shapes) and validated with the engine's own model before
anything is replaced, so a pack that the engine would refuse is never left behind.
"""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import safetensors.numpy
from numpy.typing import NDArray

from engine.avatar import PACK_LIMIT_BYTES, Avatar, open_avatar
from engine.manifest import FORMAT, Manifest

if TYPE_CHECKING:  # it needs torch, which rewriting a pack does not
    from export.graphs import ExportedGraph

CONSENT = "A synthetic person made by this project's generator; no real person is shown."
PREVIEW_SIZE = 256


@dataclass(frozen=True)
class PackPerson:
    """A person to pack: `tensors` are the decoder's person inputs, `stills [K, S, S, 4]` uint8 RGBA straight, still 0
    frontal.
    """

    tensors: Mapping[str, NDArray[np.float32]]
    stills: NDArray[np.uint8]
    shows: str
    trained_on: str
    about: Mapping[str, Any] = field(default_factory=dict)
    consent: str = CONSENT
    preview: NDArray[np.uint8] | None = None  # RGBA straight; without one, still 0 made smaller


@dataclass(frozen=True)
class PackContents:
    """All that a pack says and holds. `audio`, `picture`, `conditions` are those parts of docs/formats.md's
    manifest.
    """

    name: str
    description: str
    graphs: "Mapping[str, ExportedGraph]"
    people: Mapping[str, PackPerson]
    audio: Mapping[str, int]
    picture: Mapping[str, Any]
    conditions: Mapping[str, Any]
    size: int
    provenance: Mapping[str, Any]
    quality: Mapping[str, Any]
    version: str = "1"
    licence: str = "Apache-2.0"
    created: str = ""


def with_previews(contents: PackContents, previews: Mapping[str, NDArray[np.uint8]]) -> PackContents:
    """The same contents with each person's preview replaced."""
    people = {name: replace(person, preview=previews[name]) for name, person in contents.people.items()}
    return replace(contents, people=people)


def write_pack(target: Path, contents: PackContents) -> Avatar:
    """Writes the pack and opens it. An older pack at `target` is replaced; anything else there is left alone.

    Raises `ValueError` if `target` exists and is not a pack, or the pack would pass the size limit.
    """
    return _built(Path(target), lambda folder: _fill(folder, contents))


def _built(target: Path, fill: Callable[[Path], None]) -> Avatar:
    """Has a pack written beside its place, opens it, and only then puts it there. Raises `ValueError` if something else
    stands there.
    """
    refuse_other(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    building = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    try:
        fill(building)
        open_avatar(building)
        building.chmod(0o755)
        take_place(building, target)
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return open_avatar(target)


def refuse_other(target: Path) -> None:
    """Raises `ValueError` if something stands there that is no pack, which a new one must not replace."""
    if target.exists() and not (target / "manifest.json").is_file():
        raise ValueError(f"{target} exists and is not an avatar pack; choose another name or remove it")


def rewrite_pack(avatar: Avatar, target: Path, manifest: dict[str, Any], changed: Mapping[str, bytes]) -> Avatar:
    """Writes the pack again with another manifest and with files changed or added; their digests are entered here."""
    files = {name: avatar.read(name) for name in avatar.manifest.files} | dict(changed)
    manifest["files"] = {
        name: {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)} for name, data in sorted(files.items())
    }

    def fill(folder: Path) -> None:
        for name, data in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(data)
        _write_manifest(folder, manifest)

    return _built(target, fill)


def replace_graphs(avatar: Avatar, target: Path, graphs: Mapping[str, bytes], note: str) -> Avatar:
    """Writes the same pack with other graphs of the same names and shapes; `note` joins its description."""
    manifest = avatar.manifest.model_dump(mode="json")
    manifest["description"] += f" ({note})"
    changed = {manifest["graphs"][role]["file"]: data for role, data in graphs.items()}
    return rewrite_pack(avatar, target, manifest, changed)


def _write_manifest(folder: Path, manifest: Mapping[str, Any]) -> None:
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _fill(folder: Path, contents: PackContents) -> None:
    for graph in contents.graphs.values():
        (folder / graph.file).write_bytes(graph.serialized())
    people = {name: _write_person(folder, name, person) for name, person in contents.people.items()}
    files: dict[str, dict[str, Any]] = {
        path.relative_to(folder).as_posix(): {"sha256": digest(path), "size": path.stat().st_size}
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
    manifest = {
        "format": FORMAT,
        "name": contents.name,
        "version": contents.version,
        "licence": contents.licence,
        "description": contents.description,
        "created": contents.created or datetime.now(UTC).isoformat(timespec="seconds"),
        "synthetic": True,
        "provenance": dict(contents.provenance),
        "quality": dict(contents.quality),
        "audio": {"rate": 16_000, "hop_samples": 160, **contents.audio},
        "video": {"fps": 30, "size": contents.size},
        "graphs": {role: graph.declared() for role, graph in contents.graphs.items()},
        "conditions": dict(contents.conditions),
        "people": people,
        "picture": dict(contents.picture),
        "files": files,
    }
    Manifest.model_validate(manifest)
    _write_manifest(folder, manifest)
    total = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    if total > PACK_LIMIT_BYTES:
        largest = max(files, key=lambda name: int(files[name]["size"]))
        raise ValueError(
            f"the pack would be {total / 2**20:.1f} MB, over {PACK_LIMIT_BYTES >> 20} "
            f"MB; largest: {largest}; fewer people or stills"
        )


def _write_person(folder: Path, name: str, person: PackPerson) -> dict[str, Any]:
    home = folder / "people" / name
    home.mkdir(parents=True)
    preview = person.preview if person.preview is not None else shrunk(person.stills[0])
    pictures = {f"still_{k}.png": still for k, still in enumerate(person.stills)} | {"preview.png": preview}
    for file, picture in pictures.items():
        (home / file).write_bytes(png(picture))
    if person.tensors:
        arrays = {key: np.ascontiguousarray(value, np.float32) for key, value in person.tensors.items()}
        (home / "person.safetensors").write_bytes(safetensors.numpy.save(arrays))
    files = [f"people/{name}/{path.name}" for path in sorted(home.iterdir()) if path.name != "preview.png"]
    return {
        "files": files,
        "preview": f"people/{name}/preview.png",
        "shows": person.shows,
        "trained_on": person.trained_on,
        "consent": person.consent,
        "about": dict(person.about),
    }


def png(picture: NDArray[np.uint8]) -> bytes:
    """RGBA as PNG, as small as PNG gets. Colour under alpha 0 is never seen and would only cost bytes."""
    seen = np.where(picture[..., 3:] > 0, picture, np.uint8(0))
    done, data = cv2.imencode(".png", cv2.cvtColor(seen, cv2.COLOR_RGBA2BGRA), [cv2.IMWRITE_PNG_COMPRESSION, 9])
    if not done:
        raise RuntimeError("OpenCV could not encode a PNG")
    return bytes(data.tobytes())


def shrunk(picture: NDArray[np.uint8], size: int = PREVIEW_SIZE) -> NDArray[np.uint8]:
    """Straight RGBA made smaller, averaged with premultiplied colour so that edges do not darken."""
    value = picture.astype(np.float32)
    value[..., :3] *= value[..., 3:] / 255
    value = np.asarray(cv2.resize(value, (size, size), interpolation=cv2.INTER_AREA), np.float32)
    value[..., :3] *= 255 / np.maximum(value[..., 3:], 1e-3)
    return np.asarray(np.clip(value + 0.5, 0, 255), np.uint8)


def take_place(building: Path, target: Path) -> None:
    """Renames the finished folder into place; a folder cannot replace a full one, so the old one steps aside first."""
    if not target.exists():
        os.replace(building, target)
        return
    aside = Path(tempfile.mkdtemp(prefix=f".{target.name}.old.", dir=target.parent))
    os.replace(target, aside / "pack")
    try:
        os.replace(building, target)
    except OSError:
        os.replace(aside / "pack", target)
        raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)
