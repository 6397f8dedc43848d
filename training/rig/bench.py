"""Frames a second on one core, per hair style: `python -m training.rig.bench`."""

import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro

from training.rig.casting import cast_styles
from training.rig.expressions import emotion_expression, viseme_expression
from training.rig.pack import HeadPackError, load_pack
from training.rig.renderer import Renderer


@dataclass(frozen=True)
class BenchOptions:
    """Measure the renderer on one core (CPU time, median)."""

    sizes: tuple[int, ...] = (256, 512)
    frames: int = 12
    head_pack: Path | None = None
    """Default: MOUTHPIECE_HEAD_PACK, else the user's data folder."""


def bench(options: BenchOptions) -> None:
    pack = load_pack(options.head_pack)
    weights = emotion_expression("happy") + viseme_expression("A")
    print(f"{'px':>4}  {'hair':8}{'triangles':>10}{'ms/frame':>10}{'frames/s':>10}{'set up s':>10}")
    for size in options.sizes:
        renderer = Renderer(size, pack=pack)
        for person in cast_styles():
            start = time.process_time()
            renderer.set_person(person)
            setup_s = time.process_time() - start
            renderer.render(weights)
            taken = []
            for k in range(options.frames):
                start = time.process_time()
                renderer.render(weights, pose=(0.3 * np.sin(k), 0.05, 0.0))
                taken.append(time.process_time() - start)
            seconds = float(np.median(taken))
            row = f"{size:4d}  {person.hair.kind:8}{renderer.triangle_count:10d}{1000 * seconds:10.1f}"
            print(f"{row}{1 / seconds:10.1f}{setup_s:10.1f}", flush=True)


def main() -> int:
    try:
        bench(tyro.cli(BenchOptions))
    except HeadPackError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
