"""`python -m engine start`, what `make run` ends with: the face in a window, or, with no display, the bundled sample as a video."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

SAMPLE = Path(__file__).parent / "assets" / "sample.flac"


def has_display() -> bool:
    """Whether a window can be shown on this machine."""
    if sys.platform in ("darwin", "win32"):
        return True
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def command(out: Path = Path("mouthpiece-sample.mp4"), seconds: float | None = None) -> int:
    """Opens the desktop app; on a machine without a display, or without PyQt6, renders the bundled sample to `out`.

    Returns the exit status of what it started.
    """
    if has_display() and importlib.util.find_spec("PyQt6"):
        return subprocess.call([sys.executable, "-m", "gui"])
    why = (
        "There is no display here"
        if not has_display()
        else "The desktop app needs PyQt6 (pip install 'mouthpiece[gui]')"
    )
    print(f"{why}: rendering the bundled sample to {out} instead.", flush=True)
    words = [sys.executable, "-m", "engine", "render", str(SAMPLE), str(out)]
    if seconds is not None:
        words += ["--seconds", str(seconds)]
    status = subprocess.call(words)
    if status == 0:
        print(f"Done. Play {out.resolve()}, or try: python -m engine live --help")
    return status
