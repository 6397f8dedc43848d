"""Small avatar packs that work: drawn faces whose mouth follows loudness. For the tests of every room; no training
involved.

The encoder keeps state (four leaky envelopes and the last sample); the decoder hears a window with look-ahead, obeys
every condition, and comes in both picture kinds. `build_tiny_pack` writes one in well under a second.
"""

import hashlib
import json
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import safetensors.numpy
from numpy.typing import NDArray
from tiny_graphs import (
    BLINK_L,
    BLINK_R,
    CONTEXT,
    JAW,
    LOOKAHEAD,
    STILLS,
    WINDOW,
    encoder,
    face_box,
    face_patch,
    layers_decoder,
    reader,
    rgba_decoder,
)

__all__ = ["BLINK_L", "BLINK_R", "CONTEXT", "JAW", "LOOKAHEAD", "PEOPLE", "STILLS", "WINDOW", "build_tiny_pack", "seal"]
PEOPLE = {  # name -> skin, hair, shirt (RGB), about
    "ada": ((236, 200, 178), (92, 60, 36), (60, 96, 130), "woman, 30, brown hair"),
    "bo": ((150, 104, 78), (26, 22, 22), (140, 70, 60), "man, 45, black hair"),
    "chen": ((226, 186, 150), (30, 26, 30), (80, 120, 84), "man, 60, dark hair"),
    "dina": ((192, 144, 112), (120, 40, 24), (110, 84, 140), "woman, 22, red hair"),
}


def _still(person: str, size: int, lit: float) -> NDArray[np.uint8]:
    """A drawn bust, RGBA straight: neutral, eyes open, without pupils or mouth, which the decoder paints."""
    skin, hair, shirt, _ = PEOPLE[person]
    scale, middle = size / 128, size / 2
    picture = np.zeros((size, size, 4), np.uint8)

    def ellipse(
        x: float, y: float, a: float, b: float, colour: tuple[int, ...], start: int = 0, end: int = 360
    ) -> None:
        centre, axes = (
            (int((middle + x * scale) * 16), int((middle + y * scale) * 16)),
            (int(a * scale * 16), int(b * scale * 16)),
        )
        shade = tuple(min(int(c * lit), 255) for c in colour)
        cv2.ellipse(picture, centre, axes, 0, start, end, (*shade, 255), -1, cv2.LINE_AA, 4)

    ellipse(0, 74, 46, 26, shirt)
    ellipse(0, 40, 12, 22, skin)
    ellipse(0, -12, 34, 36, hair)
    ellipse(0, 0, 27, 36, skin)
    ellipse(0, -24, 28, 14, hair, 180, 360)
    for side in (-1, 1):
        ellipse(side * 11, -8, 6.5, 4.5, (250, 250, 250))
        ellipse(side * 11, -17, 8, 1.6, hair)
    ellipse(0, 5, 3, 5, tuple(int(c * 0.93) for c in skin))
    picture[..., 3] = cv2.GaussianBlur(picture[..., 3], (3, 3), 0)
    return picture


def _write_person(folder: Path, name: str, size: int, kind: str) -> dict[str, Any]:
    home = folder / "people" / name
    home.mkdir(parents=True)
    stills = {"preview.png": _still(name, size, 1.0)}
    if kind == "layers":
        stills |= {f"still_{k}.png": _still(name, size, 1.0 - 0.05 * k) for k in range(STILLS)}
    for file, picture in stills.items():
        cv2.imwrite(str(home / file), cv2.cvtColor(picture, cv2.COLOR_RGBA2BGRA))
    skin = np.array([PEOPLE[name][0]], np.float32) / 255
    (home / "person.safetensors").write_bytes(safetensors.numpy.save({"skin": skin}))
    files = sorted(f"people/{name}/{p.name}" for p in home.iterdir() if p.name != "preview.png")
    texts = {"shows": "a drawn face", "trained_on": "nothing", "consent": "no real person", "about": PEOPLE[name][3]}
    return {"files": files, "preview": f"people/{name}/preview.png", **texts}


def _condition(size: int, low: float, high: float, meaning: str, unit: str, **more: Any) -> dict[str, Any]:
    return {"shape": [1, size], "meaning": meaning, "unit": unit, "min": low, "max": high, "default": 0.0, **more}


def seal(folder: Path, manifest: dict[str, Any]) -> None:
    """Writes the manifest with the digests of all files that are in the folder now."""
    found = sorted(p for p in folder.rglob("*") if p.is_file() and p.name != "manifest.json")
    manifest["files"] = {
        p.relative_to(folder).as_posix(): {
            "sha256": hashlib.sha256(p.read_bytes()).hexdigest(),
            "size": p.stat().st_size,
        }
        for p in found
    }
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=1))


def build_tiny_pack(
    path: Path, kind: Literal["layers", "rgba"] = "layers", size: int = 512, voice_reader: bool = False
) -> Path:
    """Writes a working pack with four people into the new folder `path` and returns it.

    `size` 128 makes tests quick.
    """
    path.mkdir(parents=True)
    encoder_bytes, encoder_spec = encoder()
    decoder_bytes, decoder_spec = layers_decoder(size) if kind == "layers" else rgba_decoder(size)
    (path / "audio_encoder.onnx").write_bytes(encoder_bytes)
    (path / "frame_decoder.onnx").write_bytes(decoder_bytes)
    picture: dict[str, Any] = {"kind": kind}
    if kind == "layers":
        picture |= {
            "stills": STILLS,
            "size": size,
            "face_box": face_box(size),
            "patches": {"features": face_patch(size)},
        }
    names = ("anger", "disgust", "fear", "happy", "neutral", "sad")
    moods = {name: [float(i == j) for j in range(6)] for i, name in enumerate(names)}
    manifest = {
        "format": "mouthpiece-avatar/1",
        "name": f"Tiny {kind}",
        "version": "1",
        "licence": "Apache-2.0",
        "description": "Drawn faces for tests",
        "created": "2026-01-01T00:00:00Z",
        "synthetic": True,
        "provenance": {"corpus": "none", "recipe": "tests/packs.py"},
        "quality": {},
        "audio": {
            "rate": 16000,
            "hop_samples": 160,
            "context_size": CONTEXT,
            "window_hops": WINDOW,
            "lookahead_hops": LOOKAHEAD,
        },
        "video": {"fps": 30, "size": size},
        "graphs": {"audio_encoder": encoder_spec, "frame_decoder": decoder_spec},
        "conditions": {
            "emotion": _condition(6, 0, 1, "mood", "share", prototypes=moods),
            "pose": _condition(3, -0.5, 0.5, "head rotation", "rad"),
            "shift": _condition(3, -4, 4, "head translation", "cm"),
            "gaze": _condition(2, -0.5, 0.5, "eyes", "rad"),
            "blink": _condition(1, 0, 1, "lids", "share"),
        },
        "people": {name: _write_person(path, name, size, kind) for name in PEOPLE},
        "picture": picture,
    }
    if voice_reader:
        (path / "voice_reader.onnx").write_bytes(reader(len(PEOPLE))[0])
        manifest["graphs"]["voice_reader"] = reader(len(PEOPLE))[1]
    seal(path, manifest)
    return path
