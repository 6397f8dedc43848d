"""How near the drawn face is to the rig's truth, at full size, from true expression and pose.

    python -m training.metrics.face runs/face --frames 12 --corpus corpora/voices --sheet runs/face/sheet.png

Per person: PSNR and SSIM of whole frames over mid grey, PSNR of mouth and eyes where the landmarks are, and how much of the eyes'
change between open and shut arrives (1: all). Frames are drawn anew, from a seed that training never uses, or from the corpus'
validation clips.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import cv2
import numpy as np
import torch
import tyro
from numpy.typing import NDArray
from torch import Tensor

from training.data.frames import Conditions, clip_conditions, random_conditions
from training.data.person_maps import PersonRig
from training.losses.image import over, psnr, ssim
from training.models.composer import Composer, assemble, load_composer, premultiply
from training.rig.pack import HeadPackError
from training.rig.person import SHIPPED_CAST

REGIONS = {"mouth": range(48, 68), "eyes": range(36, 48)}
MARGIN_PX = 12


@dataclass(frozen=True)
class FaceMetricsConfig:
    """What to measure."""

    run: Annotated[Path, tyro.conf.Positional]
    """Run folder or checkpoint of training.stages.composer."""
    frames: int = 12
    """Frames of each person."""
    corpus: Path | None = None
    """Take every other frame from this corpus' validation clips."""
    sheet: Path | None = None
    """Write a picture: truth above, drawn below."""
    seed: int = 1000


def planes(rgba: NDArray[np.uint8]) -> Tensor:
    """[..., H, W, 4] straight -> [N, 4, H, W] 0..1 premultiplied."""
    return premultiply(torch.from_numpy(rgba.reshape(-1, *rgba.shape[-3:])).permute(0, 3, 1, 2).float() / 255)


class FaceMeasure:
    """Draws one person both ways."""

    def __init__(self, composer: Composer, rig: PersonRig, name: str) -> None:
        self.composer, self.rig, self.name = composer, rig, name
        straight = torch.from_numpy(composer.stills(name)).permute(0, 3, 1, 2).float() / 255
        self.stills, self.person = straight, composer.person(name)

    def truth(self, c: Conditions, i: int) -> Tensor:
        return planes(self.rig.draw(c.expression[i], c.pose[i], c.shift[i], c.gaze[i], float(c.blink[i])))

    @torch.no_grad()
    def drawn(self, c: Conditions, i: int) -> Tensor:
        values = {name: torch.from_numpy(value[i : i + 1]) for name, value in vars(c).items()}
        layers = self.composer.draw(**(values | {"blink": values["blink"][:, None]}), person=self.person)
        return assemble(layers, self.stills, self.composer.box, self.composer.patches)

    def frame(self, c: Conditions, i: int) -> tuple[dict[str, float], Tensor]:
        """Figures, and truth above drawn [1, 3, 2 S, S]."""
        truth, drawn = over(self.truth(c, i), 0.5), over(self.drawn(c, i), 0.5)
        figures = {"psnr": float(psnr(drawn, truth)), "ssim": float(ssim(drawn, truth))}
        for region, points in REGIONS.items():
            cut = self._around(points)
            figures[region + "_psnr"] = float(psnr(drawn[cut], truth[cut]))
        return figures, torch.cat([truth, drawn], 2)

    def blink_share(self) -> float:
        """How far a full blink changes the drawn eyes towards the true shut ones: 1 all the way, 0 not at all."""
        zero = Conditions(*(np.zeros((2, n), np.float32) for n in (60, 3, 3, 2)), np.array([0, 1], np.float32))
        open_, shut = over(self.truth(zero, 0), 0.5), over(self.truth(zero, 1), 0.5)
        cut = self._around(REGIONS["eyes"])
        change = (shut - open_)[cut]
        drawn = (over(self.drawn(zero, 1), 0.5) - open_)[cut]
        return float((drawn * change).sum() / change.square().sum())

    def _around(self, points: range) -> tuple[slice, ...]:
        low = self.rig.landmarks[list(points)].min(0) - MARGIN_PX
        high = self.rig.landmarks[list(points)].max(0) + MARGIN_PX
        (x0, y0), (x1, y1) = (np.clip(np.round(p), 0, self.rig.size).astype(int) for p in (low, high))
        return np.s_[:, :, y0:y1, x0:x1]


def measure(config: FaceMetricsConfig) -> dict[str, dict[str, float]]:
    """The table by person; writes the sheet where asked."""
    composer, table, rows = load_composer(config.run), {}, []
    for person in SHIPPED_CAST:
        if person.name not in composer.people:
            continue
        rng = np.random.default_rng([config.seed, person.seed])
        conditions = random_conditions(rng, config.frames)
        if config.corpus and (spoken := clip_conditions(config.corpus, person.name, rng, config.frames, "val")):
            for name, value in vars(conditions).items():
                value[::2] = vars(spoken)[name][::2]
        one = FaceMeasure(composer, PersonRig(person, supersample=3), person.name)
        figures, pictures = zip(*(one.frame(conditions, i) for i in range(config.frames)))
        table[person.name] = {k: round(float(np.mean([f[k] for f in figures])), 3) for k in figures[0]}
        table[person.name]["blink_share"] = round(one.blink_share(), 3)
        rows.append(torch.cat(pictures[:6], 3))
    if config.sheet:
        sheet = (torch.cat(rows, 2)[0].permute(1, 2, 0).numpy() * 255).clip(0, 255).astype(np.uint8)
        cv2.imwrite(str(config.sheet), cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR))
    return table


def main() -> int:
    config = tyro.cli(FaceMetricsConfig)
    try:
        print(json.dumps(measure(config), indent=1))
    except (HeadPackError, OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
