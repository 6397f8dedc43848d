"""Turns of the ablations: equal budgets at every halt, resumed where they stopped, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from training.stages.ablations import ROWS, AblationsConfig, main, steps_done, turns
from training.stages.run import StageError
from training.stages.speech2video import PARTS
from training.tables.__main__ import ABLATIONS


def test_rows_are_what_the_stage_can_leave_out_and_what_the_table_shows() -> None:
    assert {part for parts in ROWS.values() for part in parts} == set(PARTS)
    assert set(ROWS) - {""} == set(ABLATIONS)


def test_rows_advance_side_by_side() -> None:
    order = turns({"": 0, "d_fr": 0}, 500, 200)
    assert order == [("", 200), ("d_fr", 200), ("", 400), ("d_fr", 400), ("", 500), ("d_fr", 500)]
    # one that was killed on its way catches up first, and nothing is done twice
    assert turns({"": 400, "d_fr": 230}, 500, 200) == [("d_fr", 400), ("", 500), ("d_fr", 500)]
    assert turns({"": 500}, 500, 200) == []


def test_steps_are_read_from_runs_that_can_go_on(tmp_path: Path) -> None:
    assert steps_done(tmp_path) == 0
    (tmp_path / "model.json").write_text(json.dumps({"step": 40}))
    assert steps_done(tmp_path) == 0  # nothing to resume from
    (tmp_path / "resume.safetensors").touch()
    assert steps_done(tmp_path) == 40
    (tmp_path / "model.json").write_text("{")
    with pytest.raises(StageError, match="delete its folder"):
        steps_done(tmp_path)


def test_unknown_rows_are_named() -> None:
    with pytest.raises(StageError, match="d_nothing"):
        main(AblationsConfig(rows=("d_nothing",)))
