"""Contact sheets to look at: `python -m training.rig.sheet OUT`.

emotions.png every person in every emotion; visemes.png every viseme of one person; turned.png every person's head
turned 25 degrees each way and with eyes closed; portraits.png the shipped cast at full size.
"""

import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import cv2
import numpy as np
import tyro
from numpy.typing import NDArray
from rich.progress import track

from training.rig.expressions import EMOTIONS, VISEMES, emotion_expression, viseme_expression
from training.rig.pack import HeadPack, HeadPackError, load_pack
from training.rig.person import SHIPPED_CAST, Person, cast
from training.rig.renderer import Renderer

Picture = NDArray[np.uint8]
TURN = np.radians(25)
BACKGROUND = (122, 127, 133)


@dataclass(frozen=True)
class SheetOptions:
    """Draw contact sheets of the synthetic people."""

    out: Annotated[Path, tyro.conf.Positional]
    people: int = 24
    seed: int = 0
    size: int = 256
    head_pack: Path | None = None
    """Default: MOUTHPIECE_HEAD_PACK, else the user's data folder."""


def over_background(rgba: Picture, background: tuple[int, int, int] = BACKGROUND) -> Picture:
    """Straight-alpha RGBA over one colour -> RGB."""
    alpha = rgba[..., 3:].astype(np.float32) / 255
    return (rgba[..., :3] * alpha + np.array(background, np.float32) * (1 - alpha) + 0.5).astype(np.uint8)


def labelled(picture: Picture, text: str) -> Picture:
    out = np.ascontiguousarray(picture).copy()
    for colour, width in (((0, 0, 0), 2), ((255, 255, 255), 1)):
        cv2.putText(out, text, (6, 16), cv2.FONT_HERSHEY_SIMPLEX, 0.4, colour, width, cv2.LINE_AA)
    return out


def grid(pictures: list[Picture], columns: int) -> Picture:
    """Equal pictures row by row; the last row is padded with black."""
    padded = pictures + [np.zeros_like(pictures[0])] * (-len(pictures) % columns)
    return np.vstack([np.hstack(padded[i : i + columns]) for i in range(0, len(padded), columns)])


def save(path: Path, picture: Picture) -> None:
    part = path.with_name(path.stem + ".part.png")
    if not cv2.imwrite(str(part), picture[..., ::-1]):
        raise OSError(f"cannot write {part}")
    os.replace(part, path)


def person_rows(renderer: Renderer, person: Person) -> tuple[list[Picture], list[Picture]]:
    """One person in every emotion; and turned each way, and with eyes closed."""
    renderer.set_person(person)
    moods = [labelled(over_background(renderer.render(emotion_expression(e))), f"{person.name} {e}") for e in EMOTIONS]
    rest = emotion_expression("neutral")
    poses: tuple[tuple[str, float, float], ...] = (("left", TURN, 0.0), ("right", -TURN, 0.0), ("shut", 0.0, 1.0))
    turned = [
        labelled(over_background(renderer.render(rest, pose=(yaw, 0, 0), blink=blink)), f"{person.name} {name}")
        for name, yaw, blink in poses
    ]
    return moods, turned


def viseme_pictures(renderer: Renderer) -> Iterator[Picture]:
    """Every viseme of the person that is set."""
    for name in VISEMES:
        weights = renderer.fix_lips(viseme_expression(name)[None], np.array([float(name == "MBP")]))[0]
        yield labelled(over_background(renderer.render(weights)), name)


def draw(options: SheetOptions, pack: HeadPack) -> None:
    options.out.mkdir(parents=True, exist_ok=True)
    small = Renderer(options.size, pack=pack)
    moods: list[Picture] = []
    turned: list[Picture] = []
    for person in track([*SHIPPED_CAST, *cast(options.people, options.seed)], "people"):
        of_person = person_rows(small, person)
        moods += of_person[0]
        turned += of_person[1]
    save(options.out / "emotions.png", grid(moods, 2 * len(EMOTIONS)))
    save(options.out / "turned.png", grid(turned, 9))
    large = Renderer(512, pack=pack)
    portraits = []
    for person in track(SHIPPED_CAST, "portraits"):
        large.set_person(person)
        portraits.append(over_background(large.render(emotion_expression("neutral"))))
        if person is SHIPPED_CAST[0]:
            save(options.out / "visemes.png", grid(list(viseme_pictures(large)), 5))
    save(options.out / "portraits.png", grid(portraits, 2))


def main() -> int:
    options = tyro.cli(SheetOptions)
    try:
        draw(options, load_pack(options.head_pack))
    except (HeadPackError, OSError) as error:
        print(f"sheet: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
