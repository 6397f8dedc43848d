"""`python -m engine COMMAND`: the command line. Only the command that runs is imported, so that each starts fast."""

import sys
from importlib import import_module

import tyro

from engine.errors import MouthpieceError

# name -> (module with a function `command`, what it does)
COMMANDS = {
    "live": ("engine.live_command", "speak into a microphone, show the face in a virtual camera"),
    "render": ("engine.render", "turn a speech file into a film"),
    "devices": ("engine.devices", "list microphones, outputs and cameras"),
    "doctor": ("engine.doctor", "check every part of this installation, say how to mend it"),
    "start": ("engine.start", "open the desktop app, or render a sample where there is no display"),
}


def usage() -> str:
    """What `--help` prints."""
    lines = [f"  {name:8} {about}" for name, (_, about) in COMMANDS.items()]
    return (
        "usage: python -m engine COMMAND ...\n\n" + "\n".join(lines) + "\n\npython -m engine COMMAND --help tells more."
    )


def main(words: list[str]) -> int:
    """Runs one command; returns its exit status: 0 done, 1 failed with one line on stderr, 2 not understood, 130
    interrupted.
    """
    if not words or words[0] in ("-h", "--help"):
        print(usage())
        return 0 if words else 2
    name, *rest = words
    if name not in COMMANDS:
        print(f"mouthpiece: unknown command {name!r}; choose {', '.join(COMMANDS)}", file=sys.stderr)
        return 2
    module, _ = COMMANDS[name]
    try:
        command = import_module(module).command
        status = tyro.cli(command, args=rest, prog=f"python -m engine {name}", config=(tyro.conf.OmitArgPrefixes,))
        return int(status or 0)
    except MouthpieceError as error:
        print(f"mouthpiece: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("mouthpiece: interrupted", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
