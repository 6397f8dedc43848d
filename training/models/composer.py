"""The frame decoder: what was heard becomes an expression, and the expression a picture made of the person's stills.

Talker -> blink and lids -> painter -> turner. The outputs are layers; `assemble` puts them together as
docs/formats.md lays down (picture kind `layers`). The person enters through named tensors, so one graph draws all.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor, nn

from training.models.painter import CELL, FaceMotion, Painter
from training.models.surface import Box, middles, sample
from training.models.talker import load_hearing
from training.models.turner import PLACES, Turner
from training.rig.expressions import GAZE_TO_LIDS, INDEX

PERSON_MAPS = (
    "surface",
    "looks",
    "solid_stills",
    "normals",
    "motion",
    "motion_mix",
    "tone",
    "pupils",
)  # from the rig, fixed
PERSON_LEARNT = ("embedding", "place", "place_eyes", "place_mouth", "place_stills")
PERSON_TENSORS = PERSON_MAPS + PERSON_LEARNT


@dataclass(frozen=True)
class ComposerConfig:
    """Geometry and sizes that a face checkpoint was trained with; boxes are x, y, w, h in pixels of still 0."""

    people: tuple[str, ...]
    face_box: tuple[int, int, int, int]
    eyes_box: tuple[int, int, int, int]
    mouth_box: tuple[int, int, int, int]
    still_poses: tuple[tuple[float, float, float], ...]
    view_projection: tuple[tuple[float, ...], ...]
    pivot: tuple[float, ...]
    size: int = 512
    grid: int = 128
    rank: int = 24
    embedding: int = 16
    places: int = 8


class Lids(nn.Module):
    """Adds the blink and the lids' share of gaze to an expression (docs/formats.md, Conventions)."""

    def __init__(self) -> None:
        super().__init__()

        def mark(*names: str) -> Tensor:
            out = torch.zeros(1, len(INDEX))
            for name in names:
                out[0, [INDEX[name + "_L"], INDEX[name + "_R"]]] = 1
            return out

        self.register_buffer("shut", mark("eyeBlink"), persistent=False)
        self.register_buffer("fade", mark("eyeWide", "eyeSquint"), persistent=False)
        self.register_buffer("up", mark("eyeLookUp") * GAZE_TO_LIDS, persistent=False)
        self.register_buffer("down", mark("eyeLookDown") * GAZE_TO_LIDS, persistent=False)

    def forward(self, expression: Tensor, gaze: Tensor, blink: Tensor) -> Tensor:
        """expression [B, 60], gaze [B, 2] radians, blink [B, 1] -> [B, 60]."""
        expression = expression + self.shut * (1 - expression) * blink
        expression = expression * (1 - self.fade * blink)
        pitch = gaze[:, 1:]
        return expression + self.up * pitch.clamp(min=0) + self.down * (-pitch).clamp(min=0)


def look_up(image: Tensor, at: Tensor, side: float) -> Tensor:
    """image [B, C, H, W] at pixels [B, 2, h, w] (centres at integers) of a still of `side` pixels; nothing outside."""
    return sample(image, ((at + 0.5) * (2 / side) - 1).flatten(2), at.shape[2], "zeros")


def enlarge(x: Tensor, height: int, width: int) -> Tensor:
    return F.interpolate(x, size=(height, width), mode="bilinear", align_corners=False)


def premultiply(rgba: Tensor) -> Tensor:
    return torch.cat([rgba[:, :3] * rgba[:, 3:], rgba[:, 3:]], 1)


def paint_face(layers: Mapping[str, Tensor], still: Tensor, box: Box, patches: Mapping[str, Box]) -> Tensor:
    """Step 1 of docs/formats.md: the face box of the premultiplied still [1 or B, 4, S, S], repainted, [B, 4, h, w].

    patches: where in the picture each patch of the layers goes.
    """
    flow, side = enlarge(layers["paint_flow"], box.h, box.w), still.shape[3]
    paint = enlarge(layers["paint"], box.h, box.w)
    for name, place in patches.items():
        p = place.within(box)
        paint[:, :, p.y : p.y + p.h, p.x : p.x + p.w] = layers[name]
    here = (middles(box.h, box.w).view(1, 2, box.h, box.w) + 1) * flow.new_tensor([box.w, box.h]).view(1, 2, 1, 1) / 2
    at = here + flow.new_tensor([box.x - 0.5, box.y - 0.5]).view(1, 2, 1, 1) + flow
    warped = look_up(still.expand(len(flow), -1, -1, -1), at, float(side))
    own = still[:, 3:, box.y : box.y + box.h, box.x : box.x + box.w].expand(len(flow), -1, -1, -1)
    mask = paint[:, 3:]
    return mask * torch.cat([paint[:, :3], own], 1) + (1 - mask) * warped


def turn_stills(
    grid: Tensor, weight: Tensor, gain: Tensor, stills: list[Tensor], extent: float, window: Box | None = None
) -> Tensor:
    """Step 3: stills [1 or B, 4, s, s], premultiplied, looked up where the grid says, mixed and relit, [B, 4, s, s].

    The grid counts in pixels of a still of side `extent`. With a window (in cells, not at the picture's rim) only that
    part of the picture is made.
    """
    scale = stills[0].shape[3] // grid.shape[-1]
    w = window or Box(0, 0, grid.shape[-1], grid.shape[-2])
    rim = 1 if window else 0

    def part(cells: Tensor) -> Tensor:
        cells = cells[..., w.y - rim : w.y + w.h + rim, w.x - rim : w.x + w.w + rim]
        pixels = enlarge(cells, cells.shape[-2] * scale, cells.shape[-1] * scale)
        return pixels[..., rim * scale : (rim + w.h) * scale, rim * scale : (rim + w.w) * scale]

    frame = grid.new_zeros(())
    for k, still in enumerate(stills):
        at = part(grid[:, k])
        seen = look_up(still.expand(len(at), -1, -1, -1), at, extent)
        frame = frame + part(weight[:, k : k + 1]) * seen
    return torch.cat([frame[:, :3] * part(gain), frame[:, 3:]], 1)


def assemble(layers: Mapping[str, Tensor], stills: Tensor, box: Box, patches: Mapping[str, Box]) -> Tensor:
    """The three numbered steps of docs/formats.md: layers and straight stills [K, 4, S, S] 0..1 -> premultiplied
    frame [B, 4, S, S]. The reference that every back end must equal."""
    stills = premultiply(stills)
    face = paint_face(layers, stills[:1], box, patches)
    frontal = stills[:1].repeat(len(face), 1, 1, 1)
    frontal[:, :, box.y : box.y + box.h, box.x : box.x + box.w] = face
    rest = [stills[k : k + 1] for k in range(1, len(stills))]
    return turn_stills(layers["grid"], layers["weight"], layers["gain"], [frontal, *rest], float(stills.shape[3]))


class Composer(nn.Module):
    """Context, mood, pose and eyes -> the layers of one frame and the expression that drew them.

    forward(context [1, W, C], emotion [1, 6], pose [1, 3], shift [1, 3], gaze [1, 2], blink [1, 1], then the person
    tensors by position in the order of PERSON_TENSORS) -> the outputs by name in that order.
    """

    outputs = ("paint", "paint_flow", "eyes", "mouth", "grid", "weight", "gain", "expression")

    def __init__(self, config: ComposerConfig, talker: nn.Module | None = None) -> None:
        super().__init__()
        self.config, self.talker = config, talker
        camera = torch.tensor(config.view_projection), torch.tensor(config.pivot), config.size
        self.box = box = Box(*config.face_box)
        eyes, mouth = Box(*config.eyes_box), Box(*config.mouth_box)
        poses = torch.tensor(config.still_poses)
        e, p = config.embedding, config.places
        self.lids = Lids()
        self.patches = {"eyes": eyes, "mouth": mouth}
        self.painter = Painter(FaceMotion(*camera, box), eyes.within(box), mouth.within(box), e, p)
        self.turner = Turner(*camera, box, poses, config.grid, e)
        people, k, half = len(config.people), len(poses), config.grid // 2
        shapes = {
            "surface": (k, 4, config.size // CELL, config.size // CELL),
            "looks": (k, 4, half, half),
            "solid_stills": (k, 1, config.size // CELL, config.size // CELL),
            "normals": (1, 3, half, half),
            "motion": (config.rank, 3 * (box.h // CELL) * (box.w // CELL)),
            "motion_mix": (60, config.rank),
            "tone": (1, 3, 1, 1),
            "pupils": (1, 2, 3),
        }
        for name, shape in shapes.items():
            self.register_buffer("maps_" + name, torch.zeros(people, *shape))
        learnt = {
            "embedding": (1, e),
            "place": (1, p, box.h // CELL, box.w // CELL),
            "place_eyes": (1, p, eyes.h // 2, eyes.w // 2),
            "place_mouth": (1, p, mouth.h // 2, mouth.w // 2),
            "place_stills": (k, PLACES, half, half),
        }
        self.learnt = nn.ParameterDict({n: nn.Parameter(0.1 * torch.randn(people, *s)) for n, s in learnt.items()})
        self.pictures: dict[str, NDArray[np.uint8]] = {}

    @property
    def people(self) -> tuple[str, ...]:
        return self.config.people

    @property
    def face_box(self) -> tuple[int, int, int, int]:
        return self.config.face_box

    def person(self, name: str) -> dict[str, Tensor]:
        """The person's tensors, by name, in the order in which `forward` takes them; gradients flow into them."""
        i = self.people.index(name)
        maps = {n: getattr(self, "maps_" + n)[i] for n in PERSON_MAPS}
        return maps | {n: self.learnt[n][i] for n in PERSON_LEARNT}

    def person_tensors(self, name: str) -> dict[str, Tensor]:
        """The same, detached: what goes into a pack."""
        return {n: t.detach().clone().contiguous() for n, t in self.person(name).items()}

    def stills(self, name: str) -> NDArray[np.uint8]:
        """[K, S, S, 4] RGBA, straight alpha. Raises KeyError where the checkpoint came without pictures."""
        return self.pictures[name]

    def forward(
        self,
        context: Tensor,
        emotion: Tensor,
        pose: Tensor,
        shift: Tensor,
        gaze: Tensor,
        blink: Tensor,
        *person: Tensor,
    ) -> tuple[Tensor, ...]:
        if self.talker is None:
            raise RuntimeError(
                "this composer has no talker: give one to the constructor, or call draw with an expression"
            )
        tensors = dict(zip(PERSON_TENSORS, person, strict=True))
        layers = self.draw(self.talker(context, emotion), pose, shift, gaze, blink, tensors)
        return tuple(layers[name] for name in self.outputs)

    def draw(
        self, expression: Tensor, pose: Tensor, shift: Tensor, gaze: Tensor, blink: Tensor, person: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        """The layers for an expression [B, 60] without blink and gaze lids; angles in radians, shift in cm."""
        expression = self.lids(expression, gaze, blink)
        tensors = self.derive(person)
        paint, flow, patches, moved = self.painter(expression, gaze, tensors)
        grid, weight, gain = self.turner(pose, shift, moved, tensors)
        return {
            "paint": paint, "paint_flow": flow, **patches, "grid": grid, "weight": weight, "gain": gain,
            "expression": expression,
        }  # fmt: skip

    def derive(self, person: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Adds what is cut from the person's maps: the surface and the opaque part of the face box."""
        x, y, w, h = (v // CELL for v in self.face_box)
        face = person["surface"][:1, :, y : y + h, x : x + w]
        solid = (person["solid_stills"][:1] * 16 - 15).clamp(0, 1)
        solid = -F.max_pool2d(-solid, 3, 1, 1)[:, :, y : y + h, x : x + w]  # paint stays off the silhouette
        return {**person, "face_surface": face, "solid": solid}


def read_stills(folder: Path) -> NDArray[np.uint8]:
    """[K, S, S, 4] straight RGBA from still_0.png ... Raises FileNotFoundError where there are none."""
    files = sorted(folder.glob("still_*.png"))
    if not files:
        raise FileNotFoundError(f"{folder}: expected still_0.png ..., found none; run python -m training.stages.stills")
    return np.stack([cv2.cvtColor(cv2.imread(str(f), cv2.IMREAD_UNCHANGED), cv2.COLOR_BGRA2RGBA) for f in files])


def load_composer(face: Path, audio: Path | None = None) -> Composer:
    """The composer of a face run, with the talker of an audio run where given; each a folder or its .safetensors.

    Raises FileNotFoundError or ValueError with one line on what is missing or does not fit.
    """
    face = _checkpoint(face)
    about = json.loads(face.with_suffix(".json").read_text())
    kept = about["config"]
    names = {field.name for field in fields(ComposerConfig)}
    if set(kept) != names:
        raise ValueError(f"{face.stem}.json: expected the configuration {sorted(names)}, found {sorted(kept)}")
    for name in ("people", "face_box", "eyes_box", "mouth_box", "pivot"):
        kept[name] = tuple(kept[name])
    for name in ("still_poses", "view_projection"):
        kept[name] = tuple(tuple(row) for row in kept[name])
    config = ComposerConfig(**kept)
    talker = load_hearing(_checkpoint(audio)).talker if audio is not None else None
    composer = Composer(config, talker)
    weights = load_file(face)
    missing, unknown = composer.load_state_dict({n: t.float() for n, t in weights.items()}, strict=False)
    missing = [name for name in missing if not name.startswith("talker.")]
    if missing or unknown:
        raise ValueError(f"{face}: does not fit this composer; missing {missing[:3]}, unknown {unknown[:3]}")
    for name in config.people:
        composer.pictures[name] = read_stills(face.parent / "people" / name)
    return composer.eval()


def _checkpoint(path: Path) -> Path:
    for file in (path, path / "best.safetensors", path / "model.safetensors"):
        if file.is_file():
            return file
    raise FileNotFoundError(f"{path}: expected best.safetensors or another checkpoint, found none; train it first")
