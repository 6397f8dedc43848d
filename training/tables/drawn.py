"""What the systems of a table draw of the same runs of frames, each beside the truth."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np

from training.data.clip import Clip
from training.data.face_runs import FaceRuns, Run, small
from training.metrics.image import over_grey
from training.stages.run import StageError
from training.stages.speech2video import draw, load_material, load_run
from training.tables.judge import Pictures, as_pictures


def truth_of(runs: FaceRuns, index: int) -> Pictures:
    return np.asarray(runs.pixels[index])


def held_stills(runs: FaceRuns, mismatch: bool) -> list[tuple[Run, Pictures, Pictures]]:
    """A picture that never moves: the first of the run, or of the next person's (for a feeling of the scale)."""
    out = []
    for i, run in enumerate(runs.runs):
        others = [j for j, other in enumerate(runs.runs) if other.person != run.person]
        source = others[(7 * i) % len(others)] if mismatch and others else i
        still = np.repeat(truth_of(runs, source)[:1], runs.frames, 0)
        out.append((run, still, truth_of(runs, i)))
    return out


def drawn_by_run(folder: Path, limit: int) -> tuple[list[tuple[Run, Pictures, Pictures]], int]:
    """What a run of training.stages.speech2video draws of the test sentences, and how many images it learned from."""
    objective, config, step = load_run(folder)
    data = load_material(config, "test")
    count = min(limit or len(data.runs.runs), len(data.runs.runs))
    drawn = [
        (data.runs.runs[i], as_pictures(draw(objective.composer, data, i)), truth_of(data.runs, i))
        for i in range(count)
    ]
    return drawn, step * config.batch


def drawn_by_pack(
    pack: Path, runs: FaceRuns, clips: dict[str, Clip], count: int, size: int, say: Callable[[str], None]
) -> Iterator[tuple[Run, Pictures, Pictures]]:
    """What the engine draws of a pack's people who play the runs, and the rig's drawing of the same people as truth.

    The pack is given voice, head pose, gaze, blink and mood of the truth, as an actor's curves; the mouth is its own.
    """
    from training.metrics.pack import draw as engine_draws
    from training.metrics.pack import people_of, played_by
    from training.rig.drawing import SUPERSAMPLE
    from training.rig.renderer import Renderer

    people = people_of(pack)
    renderer: Renderer | None = None
    for number, run in enumerate(runs.runs[:count]):
        name, person = played_by(clips[run.clip], number, people)
        if person is None:
            raise StageError(f"{pack}: the rig knows nobody called {name}, so there is no truth to compare with")
        say(f"{name} plays {run.clip}")
        truth = clips[run.clip].truth()
        at = range(run.first, run.first + runs.frames)
        with tempfile.TemporaryDirectory() as folder:
            files = engine_draws(pack, clips[run.clip], name, Path(folder)).pictures
            drawn = [_small(files[k], size) for k in at]
        renderer = renderer or Renderer(size, SUPERSAMPLE)
        if getattr(renderer, "person", None) != person:
            renderer.set_person(person)
        true = [
            small(
                renderer.render(
                    truth.expression[k], truth.pose[k], truth.shift[k], truth.gaze[k], float(truth.blink[k])
                ),
                size,
            )
            for k in at
        ]
        yield run, np.stack(drawn), np.stack(true)


def _small(path: Path, size: int) -> Pictures:
    picture = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if picture is None:
        raise StageError(f"{path}: the engine left no picture here")
    rgb = over_grey(cv2.cvtColor(picture, cv2.COLOR_BGRA2RGBA))
    return np.round(255 * cv2.resize(rgb, (size, size), interpolation=cv2.INTER_AREA)).astype(np.uint8)


def images_of(pack: Path) -> int:
    """How many pictures the pack's face learned from, by its manifest; 0 where it does not say."""
    try:
        face = json.loads((pack / "manifest.json").read_text())["provenance"]["face"]
        return sum(int(stretch["images"]) for stretch in face.get("training", []))
    except (OSError, KeyError, ValueError, AttributeError, TypeError):
        return 0
