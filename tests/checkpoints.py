"""Checkpoints of the real models with random weights, small enough that a test can export them. No training
involved.
"""

import json
from dataclasses import asdict
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file

from training.models.composer import PERSON_MAPS, Composer, ComposerConfig
from training.models.cpc import AudioEncoder, AudioEncoderConfig
from training.models.talker import Talker, TalkerConfig

SIZE = 128
ENCODER = AudioEncoderConfig(context_size=24, bands=16, width=24)
TALKER = TalkerConfig(context_size=24, window_hops=16, lookahead_hops=4, width=16, hidden=32)
FACE = ComposerConfig(
    people=("ada", "bo"),
    face_box=(32, 32, 64, 64),
    eyes_box=(32, 40, 64, 16),
    mouth_box=(48, 64, 32, 24),
    still_poses=((0.0, 0.0, 0.0), (0.35, 0.0, 0.0)),
    view_projection=((5.0, 0, 0, 0), (0, 5.0, 0, 0), (0, 0, -1.0, 100.0), (0, 0, -1.0, 105.0)),
    pivot=(0.0, -5.0, -2.0),
    size=SIZE,
    grid=32,
    rank=4,
    embedding=4,
    places=2,
)


def build_checkpoints(folder: Path) -> tuple[Path, Path]:
    """Writes `face` and `audio` run folders as the training stages do, and returns their paths."""
    torch.manual_seed(5)
    face, audio = folder / "face", folder / "audio"
    face.mkdir(parents=True)
    audio.mkdir()
    encoder, talker = AudioEncoder(ENCODER), Talker(TALKER)
    hearing = {f"encoder.{n}": t for n, t in encoder.state_dict().items()}
    hearing |= {f"talker.{n}": t for n, t in talker.state_dict().items()}
    _save(audio / "model", hearing, {"encoder": asdict(ENCODER), "talker": asdict(TALKER)}, {"aperture_r": 0.5})
    composer = Composer(FACE)
    _give_surface(composer)
    for parameter in composer.parameters():  # heads start at zero; a picture that never changes would prove nothing
        if float(parameter.detach().abs().max()) == 0:
            torch.nn.init.normal_(parameter, std=0.05)
    _save(face / "model", composer.state_dict(), asdict(FACE), {"psnr_db": 20.0})
    for i, person in enumerate(FACE.people):
        home = face / "people" / person
        home.mkdir(parents=True)
        for k in range(len(FACE.still_poses)):
            cv2.imwrite(str(home / f"still_{k}.png"), draw_still(i, k))
    return face, audio


def draw_still(person: int, still: int) -> NDArray[np.uint8]:
    """A shaded oval with texture, [128, 128, 4] BGRA straight."""
    y, x = np.mgrid[0:SIZE, 0:SIZE]
    rng = np.random.default_rng(10 * person + still)
    picture = np.empty((SIZE, SIZE, 4), np.uint8)
    for channel in range(3):
        shade = 120 + 40 * np.sin(x / (7 + channel) + person) + 30 * np.cos(y / 9 + still)
        picture[..., channel] = np.clip(shade + rng.normal(0, 6, (SIZE, SIZE)), 0, 255)
    inside = 1 - ((x - 63.5) / 44) ** 2 - ((y - 66) / 58) ** 2
    picture[..., 3] = np.clip(inside * 8, 0, 1) * 255
    return picture


def _give_surface(composer: Composer) -> None:
    """A gently curved surface before the camera for every still, so that the search for it converges."""
    rows = SIZE // 4
    middle = (torch.arange(rows) + 0.5) / rows * 2 - 1
    down, x = torch.meshgrid(middle * 21, middle * 21, indexing="ij")
    y = -down
    z = 4 - (x.square() + y.square()) / 60
    surface = torch.stack([x, y, z, torch.sigmoid((y + 12) / 2)])
    composer.maps_surface.copy_(surface.expand_as(composer.maps_surface))
    composer.maps_solid_stills.fill_(1.0)
    for name in PERSON_MAPS:
        if name not in ("surface", "solid_stills"):
            maps = getattr(composer, "maps_" + name)
            maps.copy_(torch.randn_like(maps) * (0.02 if name.startswith("motion") else 0.2))


def _save(path: Path, tensors: dict[str, torch.Tensor], config: dict[str, object], metrics: dict[str, float]) -> None:
    halves = {name: leaf.detach().half().contiguous() for name, leaf in tensors.items()}
    save_file(halves, path.with_suffix(".safetensors"))
    words = {"config": config, "metrics": metrics, "step": 0, "spoken_by": str(path.parent.resolve())}
    path.with_suffix(".json").write_text(json.dumps(words))
