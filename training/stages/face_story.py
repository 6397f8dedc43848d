"""The story of a face's weights: what they were made with, run by run, and what they measured; a pack's manifest tells it."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from training.models.composer import Composer
from training.stages.run import Run, RunOptions, hardware, write_json, write_tensors


def stretch_of(options: RunOptions, steps: int, images: int, **more: Any) -> dict[str, Any]:
    """One run of training, as the story tells it."""
    return {"steps": steps, "images": images, "learning_rate": options.lr, "seed": options.seed} | more


def earlier_training(start: Path | None) -> list[dict[str, Any]]:
    """The runs that came before, as the JSON beside the checkpoint that a run began from tells them."""
    story = start.with_suffix(".json") if start else None
    if story is None or not story.is_file():
        return []
    runs: list[dict[str, Any]] = json.loads(story.read_text()).get("training", [])
    return runs


def keep(run: Run, composer: Composer, table: dict[str, dict[str, float]], training: list[dict[str, Any]]) -> None:
    """Writes best.safetensors and its story."""
    out = run.options.out
    write_tensors(out / "best.safetensors", dict(composer.state_dict()))
    story = {
        "format": "mouthpiece-face/1",
        "config": asdict(composer.config),
        "seed": run.options.seed,
        "steps": run.step,
        "training": training,
        "hardware": hardware(),
        "held_out": table,
    }
    write_json(out / "best.json", story)
