"""An avatar pack on disk: opened, verified and read.

Nothing in it is unpickled, and nothing outside it is ever read.
"""

import hashlib
import json
import struct
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import cv2
import numpy as np
import safetensors.numpy
from numpy.typing import NDArray
from pydantic import ValidationError
from safetensors import SafetensorError

from engine.errors import AvatarError
from engine.manifest import FORMAT, GraphSpec, LayersPicture, Manifest
from engine.onnx_scan import refuse_external_data

PACK_LIMIT_BYTES = 25 * 1024 * 1024
MANIFEST_LIMIT_BYTES = 1024 * 1024


@dataclass(frozen=True)
class Person:
    """Who an avatar shows: `tensors` are the decoder's person inputs; `stills [K, S, S, 4]` uint8 RGBA with
    straight alpha.
    """

    name: str
    tensors: dict[str, NDArray[np.float32]]
    stills: NDArray[np.uint8]
    preview: Path


@dataclass(frozen=True)
class Avatar:
    """A verified pack. Files are read through `read`, which checks their digest again, so what was verified is what
    runs.
    """

    path: Path
    manifest: Manifest

    @property
    def name(self) -> str:
        return self.manifest.name

    @cached_property
    def people(self) -> tuple[str, ...]:
        """Names of the people in the pack, in the manifest's order."""
        return tuple(self.manifest.people)

    @property
    def size(self) -> int:
        """Side of a frame in pixels."""
        return self.manifest.video.size

    @property
    def lookahead_hops(self) -> int:
        return self.manifest.audio.lookahead_hops

    def read(self, name: str) -> bytes:
        """Bytes of one file of the pack.

        Raises `AvatarError` if it is not in the manifest or no longer has its digest.
        """
        if name not in self.manifest.files:
            raise AvatarError(f"{self.path.name}: {name} is not in the manifest")
        return _read_verified(self.path, name, self.manifest)

    def graph(self, role: str) -> tuple[bytes, GraphSpec]:
        """The ONNX bytes and declaration of `audio_encoder`, `frame_decoder` or, if there is one, `voice_reader`."""
        spec: GraphSpec | None = getattr(self.manifest.graphs, role)
        if spec is None:
            raise AvatarError(f"{self.path.name} has no {role}")
        return self.read(spec.file), spec

    def person(self, name: str | None = None) -> Person:
        """Loads a person; without a name, the first. Raises `AvatarError` for an unknown name or unfit files."""
        name = name or self.people[0]
        if name not in self.manifest.people:
            raise AvatarError(f"{self.path.name} has no person {name!r}; it has {', '.join(self.people)}")
        entry, folder = self.manifest.people[name], f"people/{name}/"
        expected = self.manifest.graphs.frame_decoder.inputs_of("person")
        tensors: dict[str, NDArray[np.float32]] = {}
        if expected:
            tensors = _read_tensors(self.read(f"{folder}person.safetensors"), expected, f"{folder}person.safetensors")
        stills = np.zeros((0, self.size, self.size, 4), np.uint8)
        if isinstance(self.manifest.picture, LayersPicture):
            names = [f"{folder}still_{k}.png" for k in range(self.manifest.picture.stills)]
            stills = np.stack([_read_still(self.read(n), self.size, n) for n in names])
        return Person(name, tensors, stills, self.path / entry.preview)


def open_avatar(path: str | Path) -> Avatar:
    """Opens and verifies the pack in the folder `path`.

    Raises `AvatarError` with a one-line reason for anything amiss.
    """
    folder = Path(path)
    if not folder.is_dir():
        raise AvatarError(
            f"{folder} is not an avatar pack: expected a folder with manifest.json; give the path of a *.avatar folder"
        )
    manifest = _read_manifest(folder)
    _refuse_strangers(folder, manifest)
    for name in manifest.files:
        data = _read_verified(folder, name, manifest)
        if name.endswith(".onnx"):
            refuse_external_data(data, name)
    return Avatar(folder, manifest)


def default_avatar() -> Path:
    """Folder of the pack that ships with the package. Raises `AvatarError` if this installation has none."""
    folder = Path(__file__).parent / "assets" / "cast.avatar"
    if not (folder / "manifest.json").is_file():
        raise AvatarError(
            f"the bundled avatar is missing (looked for {folder}); reinstall, or name a pack with --avatar"
        )
    return folder


def _read_manifest(folder: Path) -> Manifest:
    file = folder / "manifest.json"
    if file.is_symlink() or not file.is_file():
        raise AvatarError(f"{folder} has no manifest.json; give the path of a *.avatar folder")
    if file.stat().st_size > MANIFEST_LIMIT_BYTES:
        raise AvatarError(f"{file} is over {MANIFEST_LIMIT_BYTES >> 20} MB; this is not a manifest")
    try:
        raw = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, OSError, RecursionError) as error:
        raise AvatarError(f"{file} is not JSON ({str(error).splitlines()[0]}); fetch the pack again") from None
    found = raw.get("format") if isinstance(raw, dict) else None
    if found != FORMAT:
        raise AvatarError(
            f"{file}: expected format {FORMAT!r}, found {found!r}; this pack needs another version of the engine"
        )
    try:
        return Manifest.model_validate(raw)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "manifest"
        more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
        reason = first["msg"].removeprefix("Value error, ")
        raise AvatarError(f"{file}: {place}: {reason}{more}; export the pack again") from None


def _refuse_strangers(folder: Path, manifest: Manifest) -> None:
    """Refuses links, anything that is not in the manifest, and packs over the limit, before a byte of them is read."""
    total = 0
    for found in folder.rglob("*"):
        name = found.relative_to(folder).as_posix()
        if found.is_symlink():
            raise AvatarError(f"{folder.name}: {name} is a symbolic link, which a pack may not hold")
        if found.is_dir():
            continue
        if not found.is_file():
            raise AvatarError(f"{folder.name}: {name} is not a plain file")
        if name != "manifest.json" and name not in manifest.files:
            raise AvatarError(f"{folder.name}: {name} is not in the manifest; remove it or fetch the pack again")
        total += found.stat().st_size
    if total > PACK_LIMIT_BYTES:
        raise AvatarError(f"{folder.name} is {total / 2**20:.1f} MB; a pack may have {PACK_LIMIT_BYTES >> 20} MB")


def _read_verified(folder: Path, name: str, manifest: Manifest) -> bytes:
    file, entry = folder / name, manifest.files[name]
    try:
        data = file.read_bytes() if not file.is_symlink() and file.stat().st_size == entry.size else None
    except OSError:
        raise AvatarError(f"{folder.name}: {name} is missing or cannot be read; fetch the pack again") from None
    if data is None or hashlib.sha256(data).hexdigest() != entry.sha256:
        raise AvatarError(
            f"{folder.name}: {name} does not have the size and digest of its manifest; fetch the pack again"
        )
    return data


def _read_tensors(data: bytes, expected: dict[str, tuple[int, ...]], name: str) -> dict[str, NDArray[np.float32]]:
    try:
        tensors = safetensors.numpy.load(data)
    except (SafetensorError, ValueError) as error:
        raise AvatarError(f"{name} is not a safetensors file ({error}); fetch the pack again") from None
    found = {key: tuple(value.shape) for key, value in tensors.items()}
    if found != expected or any(value.dtype != np.float32 for value in tensors.values()):
        raise AvatarError(f"{name}: expected float32 {expected}, found {found}; export the pack again")
    return tensors


def _read_still(data: bytes, size: int, name: str) -> NDArray[np.uint8]:
    # The header is read first: a tiny file can claim a picture that fills the memory.
    header = struct.unpack(">II", data[16:24]) if data[:8] == b"\x89PNG\r\n\x1a\n" and len(data) >= 24 else None
    if header != (size, size):
        raise AvatarError(
            f"{name}: expected a PNG of {size}x{size}, found {header or 'another kind of file'}; export the pack again"
        )
    picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if picture is None or picture.dtype != np.uint8 or picture.shape != (size, size, 4):
        raise AvatarError(f"{name}: expected 8-bit RGBA; export the pack again")
    return np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGRA2RGBA), np.uint8)
