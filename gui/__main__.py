"""`python -m gui`: the desktop app."""

import sys
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import tyro


@dataclass(frozen=True)
class Arguments:
    """See your face, set its mood, be on the call.

    Examples:
      python -m gui
      python -m gui --mic speech.wav --person ada
      python -m gui --avatar mine.avatar --osc-port 9000
    """

    avatar: Path | None = None
    """An avatar pack (a *.avatar folder); the bundled cast if not given."""
    person: str | None = None
    """Who to show first."""
    mic: str | None = None
    """Microphone's name, or a sound file that plays in its place."""
    osc_port: int | None = None
    """Listen for OSC on this port of the loopback address (remembered; 0 switches it off)."""
    osc_host: str = "127.0.0.1"
    """Address that OSC listens on; anything but loopback lets others on the network move the face."""
    midi: str | None = None
    """MIDI input's name (remembered; an empty name switches it off)."""


def app_version() -> str:
    try:
        return version("mouthpiece")
    except PackageNotFoundError:
        return "development"


def main() -> int:
    """Runs the app; returns the exit status."""
    arguments = tyro.cli(Arguments, prog="python -m gui")
    try:
        from gui.app import run
    except ImportError as error:
        print(f"error: the desktop app needs the extra `gui` ({error}): pip install 'mouthpiece[gui]'", file=sys.stderr)
        return 1
    return run(arguments)


if __name__ == "__main__":
    sys.exit(main())
