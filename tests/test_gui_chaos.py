"""The app under hands without a mind while everything goes wrong, in a process of its own. Longer: `python -m gui.chaos`."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("PyQt6", reason="the gui extra is not installed")
if sys.platform == "win32":
    pytest.skip("a limit on file sizes stands for the full disk", allow_module_level=True)


@pytest.mark.slow
def test_nothing_that_goes_wrong_ends_the_app(tiny_pack: Path, tmp_path: Path) -> None:
    words = ["--seconds", "8", "--avatar", str(tiny_pack), "--report", str(tmp_path / "found.json")]
    done = subprocess.run(
        [sys.executable, "-m", "gui.chaos", *words],
        env={**os.environ, "QT_QPA_PLATFORM": "offscreen"},
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert (tmp_path / "found.json").exists(), f"it crashed or hung ({done.returncode}):\n{done.stderr[-4000:]}"
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["errors"] == []
    assert all(found["marks"].values()), found
    assert found["deeds"] > 30
    assert done.returncode == 0
