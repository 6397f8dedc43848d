"""Speech2Video's paper preset and its ablations, all with the same budget of images.

    python -m training.stages.ablations --steps 600 --time-limit 60

Trains `OUT/speech2video` and `OUT/speech2video_no_<part>` in turns of `--turn` steps, each resumed where it stopped. So
all are equally far at the end of every turn, and the command may be killed and given again, or given again with more steps.
`python -m training.tables speech2video --ablations` prints the table.
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import tyro

from training.data.clip import ClipError
from training.stages import speech2video
from training.stages.run import StageError

ROWS: dict[str, tuple[str, ...]] = {
    "": (),
    "d_id": ("d_id",),
    "d_fr": ("d_fr",),
    "d_sync": ("d_sync",),
    "grad": ("grad",),
    "identity": ("identity",),
    "judges": ("d_id", "d_fr", "d_sync"),
}
"""What each row goes without; `judges` is all three discriminators at once."""


@dataclass(frozen=True)
class AblationsConfig:
    """How much every row learns, and where to."""

    steps: int = 4000
    turn: int = 200
    """Steps of one row before the next one's turn."""
    time_limit: float = 0.0
    """Minutes after which no further turn begins; 0 means no limit."""
    rows: tuple[str, ...] = tuple(ROWS)
    """Rows to train, by what they go without; the full system is the empty name."""
    config: Path | None = None
    """JSON file of options of training.stages.speech2video, the same for all rows."""
    out: Path = Path("runs")


def steps_done(folder: Path) -> int:
    """Steps of a row so far; 0 where it has not begun. Raises StageError for a folder that is no run."""
    path = folder / "model.json"
    if not path.is_file() or not (folder / "resume.safetensors").is_file():
        return 0
    try:
        return int(json.loads(path.read_text())["step"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StageError(
            f"{path}: expected a run of training.stages.speech2video: {error}; delete its folder"
        ) from error


def turns(done: dict[str, int], steps: int, turn: int) -> list[tuple[str, int]]:
    """(row, step to train it to), so that rows advance side by side and those that are behind catch up first."""
    goals = sorted({*range(turn, steps, turn), steps})
    return [(row, goal) for goal in goals for row in done if done[row] < goal]


def main(config: AblationsConfig) -> None:
    """Trains all rows. Raises StageError."""
    if unknown := set(config.rows) - set(ROWS):
        raise StageError(f"--rows: expected some of {', '.join(ROWS)}, found {', '.join(sorted(unknown))}")
    started = time.monotonic()
    folders = {row: config.out / (f"speech2video_no_{row}" if row else "speech2video") for row in config.rows}
    done = {row: steps_done(folder) for row, folder in folders.items()}
    for row, goal in turns(done, config.steps, config.turn):
        if config.time_limit and time.monotonic() - started > 60 * config.time_limit:
            break
        arguments = ["--config", str(config.config)] if config.config else []
        arguments += ["--run.out", str(folders[row]), "--run.steps", str(goal)]
        arguments += ["--without", *ROWS[row]] if ROWS[row] else []
        arguments += ["--run.resume"] if done[row] else []
        print(f"{folders[row]}: from step {done[row]} to {goal}", file=sys.stderr, flush=True)
        speech2video.main(arguments)
        done[row] = steps_done(folders[row])
        if done[row] < goal:
            raise StageError(f"{folders[row]}: asked to stop at step {done[row]}; the same command goes on from there")


if __name__ == "__main__":
    try:
        main(tyro.cli(AblationsConfig))
    except (StageError, ClipError, ValueError, OSError) as error:
        sys.exit(f"error: {error}")
