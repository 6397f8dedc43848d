"""What the composer stands on and learns from: each person's stills and maps, and rendered frames with their truth.

    python -m training.stages.stills --out runs/face --frames 400

RUN/people/<name>/ gets still_0.png ..., maps.safetensors and person.json; RUN/frames/<name>/ the frames. A killed run
goes on where it stopped. One process a person at a time, `workers` of them together.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import cv2
import numpy as np
import tyro
from numpy.typing import NDArray
from rich.progress import Progress
from safetensors.numpy import load_file, save_file

from training.data.frames import Conditions, FrameStore, clip_conditions, random_conditions
from training.data.person_maps import SIZE, PersonRig, person_maps
from training.rig.pack import HeadPackError
from training.rig.person import SHIPPED_CAST, Person

FACE_BOX = (136, 136, 240, 288)  # brows to a dropped chin, and the cheeks, over the shipped cast; multiples of 8
EYES_BOX = (176, 184, 160, 64)
MOUTH_BOX = (200, 272, 112, 112)
RANK = 24
STEP_FRAMES = 10  # frames a worker draws before it reports


@dataclass(frozen=True)
class StillsConfig:
    """What to draw."""

    out: Path = Path("runs/face")
    """Run folder."""
    people: str = "cast"
    """`cast` for the shipped four, or names of them with commas between."""
    frames: int = 400
    """Frames of each person, each drawn frontal and turned."""
    picture: int = SIZE
    """Side of the turned pictures that are kept: 512, or 256 at a quarter of the space."""
    corpus: Path | None = None
    """A corpus whose clips give half of the expressions and poses; without it all are random."""
    workers: int = 2
    seed: int = 0


def chosen_people(names: str) -> tuple[Person, ...]:
    """Raises ValueError for a name that is not in the cast."""
    if names == "cast":
        return SHIPPED_CAST
    known = {person.name: person for person in SHIPPED_CAST}
    wanted = names.split(",")
    if missing := [name for name in wanted if name not in known]:
        raise ValueError(f"--people: expected `cast` or some of {', '.join(known)}; found {', '.join(missing)}")
    return tuple(known[name] for name in wanted)


def write_maps(folder: Path, stills: NDArray[np.uint8], maps: dict[str, NDArray[np.float32]], person: Person) -> None:
    """Stills as PNG, maps as safetensors, the person as JSON; each file whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    for k, still in enumerate(stills):
        cv2.imwrite(str(folder / "part.png"), cv2.cvtColor(still, cv2.COLOR_RGBA2BGRA))
        os.replace(folder / "part.png", folder / f"still_{k}.png")
    save_file(maps, folder / "maps.part")
    os.replace(folder / "maps.part", folder / "maps.safetensors")
    (folder / "person.json").write_text(person.to_json())


def draw_maps(person: Person, folder: Path) -> None:
    """The person's stills and maps, unless this very person's are there."""
    kept = folder / "person.json"
    if kept.is_file() and kept.read_text() == person.to_json():
        return
    rig = PersonRig(person, supersample=3)
    stills, maps = person_maps(rig, FACE_BOX, RANK)
    camera = {"view_projection": rig.view_projection, "pivot": rig.pivot}
    write_maps(folder, stills, maps | {n: np.ascontiguousarray(a, np.float32) for n, a in camera.items()}, person)


def wished_conditions(config: StillsConfig, person: Person) -> Conditions:
    """Half from the corpus where there is one, shuffled, so that any part of the frames is a fair sample."""
    rng = np.random.default_rng([config.seed, person.seed])
    conditions = random_conditions(rng, config.frames)
    spoken = clip_conditions(config.corpus, person.name, rng, config.frames // 2) if config.corpus else None
    if spoken is None:
        return conditions
    order = rng.permutation(config.frames)
    both = {
        name: np.concatenate([value, vars(conditions)[name][len(spoken) :]])[order]
        for name, value in vars(spoken).items()
    }
    return Conditions(**both)


def draw_some(config: StillsConfig, person: Person) -> tuple[str, int]:
    """Maps first, then the next few frames; returns the person's name and how many are done."""
    folder = config.out / "people" / person.name
    draw_maps(person, folder)
    store = FrameStore(config.out / "frames" / person.name, config.frames, FACE_BOX, config.picture)
    rig = _RIGS.get(person.name) or _RIGS.setdefault(person.name, PersonRig(person, supersample=2))
    surfaces = load_file(folder / "maps.safetensors")["surface"]
    conditions = store.begin(wished_conditions(config, person))
    for i in range(store.done, min(store.done + STEP_FRAMES, config.frames)):
        store.render(rig, surfaces, conditions, i)
        store.mark(i + 1)
    return person.name, store.done


_RIGS: dict[str, PersonRig] = {}  # of this worker; building one takes seconds


def prepare(config: StillsConfig) -> None:
    """Draws all that is missing."""
    people = chosen_people(config.people)
    for person in people:
        (config.out / "people" / person.name).mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    with Progress() as bar:
        tasks = {p.name: bar.add_task(p.name, total=config.frames) for p in people}
        pools = [
            ProcessPoolExecutor(1, mp_context=get_context("spawn")) for _ in range(min(config.workers, len(people)))
        ]
        try:
            _share_out(config, people, pools, bar, tasks)
        finally:
            for pool in pools:
                pool.shutdown(cancel_futures=True)


def _share_out(
    config: StillsConfig, people: Sequence[Person], pools: list[ProcessPoolExecutor], bar: Progress, tasks
) -> None:
    """Each person stays with one worker, which keeps that person's rig."""
    by_name = {p.name: (p, pools[i % len(pools)]) for i, p in enumerate(people)}
    waiting = {pool.submit(draw_some, config, person) for person, pool in by_name.values()}
    while waiting:
        done = next(as_completed(waiting))
        waiting.discard(done)
        name, count = done.result()
        bar.update(tasks[name], completed=count)
        if count < config.frames:
            person, pool = by_name[name]
            waiting.add(pool.submit(draw_some, config, person))


def main() -> int:
    config = tyro.cli(StillsConfig)
    try:
        prepare(config)
    except (HeadPackError, ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
