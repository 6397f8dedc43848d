"""`python -m engine render SPEECH OUT.mp4`: a speech file becomes a film of the avatar saying it."""

import re
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from engine.audio.files import SpeechFile
from engine.avatar import Avatar, default_avatar, open_avatar
from engine.controls import (
    FROM_VOICE,
    Controls,
    parse_background,
    parse_framing,
    parse_gaze,
    parse_mood,
    parse_person,
    parse_pose,
)
from engine.curves import read_curves
from engine.errors import ControlError
from engine.film import Rendered, render
from engine.film_files import Film
from engine.manifest import FPS
from engine.voice_mood import person_of_speech, require_reader


@dataclass(frozen=True)
class Arguments:
    speech: tyro.conf.Positional[Annotated[Path, tyro.conf.arg(metavar="SPEECH")]]
    """Any sound or video file with speech."""
    out: tyro.conf.Positional[Annotated[Path, tyro.conf.arg(metavar="OUT.mp4")]]
    """The film to write, .mp4."""
    avatar: Path | None = None
    """Avatar pack, a *.avatar folder; without it, the one that ships with Mouthpiece."""
    person: str | None = None
    """Who speaks; without it, the pack's first person; from-voice takes whom the voice fits."""
    emotion: str = ""
    """Such as happy=0.7,sad=0.2; of anger, disgust, fear, happy, neutral, sad; auto, or auto=0.6, follows the voice."""
    pose: str = ""
    """Head turn in degrees, such as yaw=10,pitch=-5,roll=0."""
    gaze: str = "camera"
    """camera, wander, or degrees relative to the head, such as yaw=10,pitch=5."""
    idle: float = 1.0
    """How much the head sways and the eyes move by themselves, 0 to 2; 0 also stops the blinks."""
    blink_rate: float = 17.0
    """Blinks a minute."""
    background: str = "#c8ced4"
    """green, #rrggbb, black, white, grey, blue, FILE, or blur:FILE."""
    framing: str = ""
    """Where the bust stands, such as zoom=1.2,x=0.1,y=0."""
    mirror: bool = False
    """Flip the film left to right."""
    size: int | None = None
    """Side of a square film in pixels; without it, the avatar's own size."""
    camera_size: str = ""
    """WIDTHxHEIGHT of a film like a camera's, such as 1280x720, instead of a square."""
    alpha: Path | None = None
    """Also write the bust alone with alpha: .mov (ProRes 4444) or .webm (VP9)."""
    curves: Path | None = None
    """A safetensors file with emotion, pose, shift, gaze and blink of every frame; replaces all other motion."""
    frames: Path | None = None
    """Also write every frame as PNG with alpha, and the expression weights, into this new folder."""
    seconds: float | None = None
    """Stop after so many seconds of speech."""
    seed: int = 0
    """Of the idle motion."""
    backend: str = "auto"
    """What runs the networks: auto, openvino, onnxruntime, ..."""


def command(args: Annotated[Arguments, tyro.conf.arg(name="")]) -> int:
    """Renders a speech file into a film: frame k shows what is said at k/30 s."""
    avatar = open_avatar(args.avatar or default_avatar())
    film = _film(args, avatar)
    began = time.perf_counter()
    rendered = _with_progress(avatar, film)
    took = time.perf_counter() - began
    seconds = rendered.frames / FPS
    speed = f"{seconds:.1f} s of film in {took:.1f} s, {seconds / took:.1f} times real time"
    print(f"{args.out}: {rendered.frames} frames, {speed}")
    print(f"drawn by {rendered.backend}")
    return 0


def _film(args: Arguments, avatar: Avatar) -> Film:
    """Checks everything that was asked for before any work starts."""
    if args.seconds is not None and not args.seconds > 0:
        raise ControlError(f"--seconds {args.seconds:g}: expected more than 0")
    if args.out.suffix.lower() != ".mp4":
        raise ControlError(f"{args.out}: the film must be named *.mp4; for alpha add --alpha FILE.mov or FILE.webm")
    if args.out.exists() and args.speech.exists() and args.out.samefile(args.speech):
        raise ControlError(f"{args.out} is the speech itself; give the film another name")
    if args.alpha and args.alpha.suffix.lower() not in (".mov", ".webm"):
        raise ControlError(f"--alpha {args.alpha}: expected .mov or .webm")
    gaze_mode, gaze = parse_gaze(args.gaze)
    emotion, auto_emotion = parse_mood(args.emotion)
    controls = Controls(
        emotion=emotion,
        auto_emotion=auto_emotion,
        pose=parse_pose(args.pose),
        gaze=gaze,
        gaze_mode=gaze_mode,
        idle=args.idle,
        blink_rate=args.blink_rate,
        person=_person(args, avatar),
        background=parse_background(args.background),
        framing=parse_framing(args.framing),
        mirror=args.mirror,
    )
    require_reader(avatar, controls)
    curves = read_curves(args.curves) if args.curves else None
    return Film(
        args.speech,
        args.out,
        _size(args, avatar),
        controls,
        args.alpha,
        args.frames,
        curves,
        args.seconds,
        args.backend,
        args.seed,
    )


def _person(args: Arguments, avatar: Avatar) -> str | None:
    """Whom the film shows. A film has one face, so the voice decides before it begins, by its first half minute."""
    name, from_voice = parse_person(args.person)
    if not from_voice:
        return name
    require_reader(avatar, Controls(person_from_voice=True))
    with SpeechFile(args.speech) as speech:
        chosen = person_of_speech(avatar, speech)
    if chosen is None:
        raise ControlError(f"--person {FROM_VOICE}: {args.speech.name} holds too little speech; name a person")
    return chosen


def _size(args: Arguments, avatar: Avatar) -> tuple[int, int]:
    if args.camera_size:
        if args.size is not None:
            raise ControlError("--size and --camera-size exclude each other; give one")
        match = re.fullmatch(r"(\d{2,4})x(\d{2,4})", args.camera_size)
        if not match:
            raise ControlError(f"--camera-size {args.camera_size!r}: expected WIDTHxHEIGHT, such as 1280x720")
        size = int(match[1]), int(match[2])
    else:
        size = (avatar.size if args.size is None else args.size,) * 2
    if size[0] % 2 or size[1] % 2 or not all(64 <= side <= 4096 for side in size):
        raise ControlError(f"a film of {size[0]}x{size[1]} is impossible; both sides must be even, 64 to 4096")
    return size


def _with_progress(avatar: Avatar, film: Film) -> Rendered:
    console = Console(file=sys.stderr)
    columns = TextColumn("rendering"), BarColumn(), MofNCompleteColumn(), TextColumn("frames"), TimeRemainingColumn()
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("render", total=None)
        return render(avatar, film, lambda done, total: bar.update(task, completed=done, total=total))
