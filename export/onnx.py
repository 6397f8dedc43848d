"""A trained face and a trained ear become one avatar pack.

    python -m export.onnx runs/face runs/audio -o cast.avatar

The face checkpoint holds the composer and the people, the audio checkpoint the encoder and the talker; one folder may
hold both as `face` and `audio`. Previews are drawn by the finished pack itself, through the engine.
"""

import json
import math
import platform
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import tyro
from numpy.typing import NDArray
from rich.console import Console
from safetensors import SafetensorError
from torch import Tensor, nn

from engine.avatar import Avatar
from engine.errors import MouthpieceError
from engine.manifest import EMOTIONS, EXPRESSIONS, HOP_SAMPLES
from export.graphs import ExportedGraph, Port, trace
from export.pack import PREVIEW_SIZE, PackContents, PackPerson, refuse_other, shrunk, with_previews, write_pack

STATE_OUT = "next."  # a leaf `x` of the encoder leaves the graph as `next.x`
PICTURE_OUTPUTS = ("paint", "paint_flow", "eyes", "mouth", "grid", "weight", "gain")
# What a run folder may hold, best first; the checkpoint's story stands in the .json beside it.
CHECKPOINTS = ("best.safetensors", "model.safetensors")


@dataclass(frozen=True)
class Models:
    """What is exported: the frame decoder with its people, and the audio encoder with the window its talker was trained
    on.
    """

    composer: Any  # training.models.composer.Composer
    encoder: Any  # training.models.cpc.AudioEncoderStep
    window_hops: int
    lookahead_hops: int
    about: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # people in words: age, sex, hair


def checkpoint_file(path: Path) -> Path:
    """The weights in a run folder, or the file itself. Raises `ValueError` if there are none."""
    for file in (path, *(path / name for name in CHECKPOINTS)):
        if file.is_file():
            return file
    raise ValueError(f"{path}: expected a checkpoint, {' or '.join(CHECKPOINTS)}; train it first or give its path")


def load_models(face: Path, audio: Path) -> Models:
    """Reads both checkpoints. Raises `ValueError` or `OSError` with one line for what is missing or does not fit."""
    from training.models.composer import load_composer
    from training.models.cpc import AudioEncoderStep
    from training.models.talker import load_hearing

    try:
        hearing = load_hearing(checkpoint_file(audio))
        composer = load_composer(checkpoint_file(face), checkpoint_file(audio))
    except (SafetensorError, KeyError) as error:
        raise ValueError(f"{face} or {audio}: damaged checkpoint ({error}); train it again") from None
    window, lookahead = hearing.talker.config.window_hops, hearing.talker.config.lookahead_hops
    return Models(composer.eval(), AudioEncoderStep(hearing.encoder).eval(), window, lookahead)


def export_encoder(encoder: Any) -> ExportedGraph:
    """`samples [1, 160]` and the named state -> `context [1, C]` and the state after it."""
    example = encoder.example()
    with torch.no_grad():
        context = encoder(*example)[0]
    leaves = dict(zip(encoder.state_names, (tuple(leaf.shape) for leaf in example[1:]), strict=True))
    inputs = (
        Port("samples", "samples", (1, HOP_SAMPLES)),
        *(Port(name, "state", shape) for name, shape in leaves.items()),
    )
    outputs = (
        Port("context", "context", tuple(context.shape)),
        *(Port(STATE_OUT + name, "state", shape) for name, shape in leaves.items()),
    )
    model = trace(encoder, example, [port.name for port in inputs], [port.name for port in outputs])
    state = {name: STATE_OUT + name for name in leaves}
    return ExportedGraph("audio_encoder.onnx", model, inputs, outputs, state)


class OneFrame(nn.Module):
    """The composer for a batch of one, its stills' grids without the batch axis, as the pack declares them."""

    def __init__(self, composer: Any) -> None:
        super().__init__()
        self.composer = composer

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        layers = self.composer(*inputs)
        return tuple(
            layer[0] if name == "grid" else layer for name, layer in zip(self.composer.outputs, layers, strict=True)
        )


def frame_example(models: Models, person: str, seed: int = 0) -> dict[str, Tensor]:
    """Inputs of the frame decoder by name: contexts of the size of real ones, every condition away from zero, a
    person.
    """
    rng = torch.Generator().manual_seed(seed)
    context = torch.randn(1, models.window_hops, models.encoder.encoder.config.context_size, generator=rng) * 0.3
    tensors = {
        "context": context,
        "emotion": torch.rand(1, len(EMOTIONS), generator=rng) * 0.5,
        "pose": torch.randn(1, 3, generator=rng) * 0.1,
        "shift": torch.randn(1, 3, generator=rng) * 0.3,
        "gaze": torch.randn(1, 2, generator=rng) * 0.1,
        "blink": torch.rand(1, 1, generator=rng),
    }
    people: dict[str, Tensor] = models.composer.person_tensors(person)
    return tensors | people


def export_decoder(models: Models) -> ExportedGraph:
    """The frame decoder: context window, conditions and a person's tensors -> the layers of the picture and the
    expression.
    """
    person = models.composer.people[0]
    example = frame_example(models, person)
    module = OneFrame(models.composer).eval()
    with torch.no_grad():
        answers = dict(zip(models.composer.outputs, module(*example.values()), strict=True))
    if tuple(answers["expression"].shape) != (1, EXPRESSIONS):
        raise ValueError(
            f"the composer's expression is {tuple(answers['expression'].shape)}, expected (1, {EXPRESSIONS})"
        )
    people = models.composer.person_tensors(person)
    roles = {name: "person" if name in people else "context" if name == "context" else "condition" for name in example}
    inputs = tuple(Port(name, roles[name], tuple(value.shape)) for name, value in example.items())
    outputs = tuple(
        Port(name, "picture" if name in PICTURE_OUTPUTS else "aux", tuple(value.shape))
        for name, value in answers.items()
    )
    model = trace(module, tuple(example.values()), list(example), list(answers))
    return ExportedGraph("frame_decoder.onnx", model, inputs, outputs, {})


def conditions() -> dict[str, Any]:
    """What the engine may ask of the face, with the ranges it was trained in."""
    yaw, pitch, roll, eyes = (math.radians(degrees) for degrees in (25.0, 15.0, 15.0, 30.0))
    one = np.eye(len(EMOTIONS))
    return {
        "emotion": {
            "shape": [1, len(EMOTIONS)],
            "meaning": "weights of " + ", ".join(EMOTIONS) + ", multiplied by intensity; all zeros is neutral",
            "unit": "1",
            "min": 0.0,
            "max": 1.0,
            "default": 0.0,
            "prototypes": {name: one[i].tolist() for i, name in enumerate(EMOTIONS)},
        },
        "pose": {
            "shape": [1, 3],
            "meaning": "turn of the head: yaw, pitch, roll",
            "unit": "rad",
            "min": [-yaw, -pitch, -roll],
            "max": [yaw, pitch, roll],
            "default": 0.0,
        },
        "shift": {
            "shape": [1, 3],
            "meaning": "the head's translation",
            "unit": "cm",
            "min": -4.0,
            "max": 4.0,
            "default": 0.0,
        },
        "gaze": {
            "shape": [1, 2],
            "meaning": "yaw and pitch of the eyes in the head",
            "unit": "rad",
            "min": -eyes,
            "max": eyes,
            "default": 0.0,
        },
        "blink": {
            "shape": [1, 1],
            "meaning": "how far the lids are closed",
            "unit": "1",
            "min": 0.0,
            "max": 1.0,
            "default": 0.0,
        },
    }


def pack_contents(
    models: Models, name: str, description: str, provenance: Mapping[str, Any], quality: Mapping[str, Any]
) -> PackContents:
    """Exports both graphs and gathers the people."""
    composer = models.composer
    people = {}
    for person in composer.people:
        people[person] = PackPerson(
            tensors={key: value.numpy() for key, value in composer.person_tensors(person).items()},
            stills=composer.stills(person),
            shows=f"{person}, a person who does not exist",
            trained_on=f"frames of {person} rendered by this project's generator",
            about=models.about.get(person, {}),
        )
    stills = len(next(iter(people.values())).stills)
    return PackContents(
        name=name,
        description=description,
        graphs={"audio_encoder": export_encoder(models.encoder), "frame_decoder": export_decoder(models)},
        people=people,
        audio={
            "context_size": models.encoder.encoder.config.context_size,
            "window_hops": models.window_hops,
            "lookahead_hops": models.lookahead_hops,
        },
        picture={
            "kind": "layers",
            "stills": stills,
            "size": composer.config.size,
            "face_box": list(composer.face_box),
            "patches": {name: [box.x, box.y, box.w, box.h] for name, box in composer.patches.items()},
        },
        conditions=conditions(),
        size=composer.config.size,
        provenance=provenance,
        quality=quality,
    )


def draw_previews(avatar: Avatar) -> dict[str, NDArray[np.uint8]]:
    """Each person as the pack draws them: head turned a little, half a smile, after half a second of silence."""
    from engine.animator import Animator, straighten
    from engine.idle import Motion

    silence = np.zeros(avatar.manifest.audio.rate // 2, np.float32)
    smile = np.zeros(len(EMOTIONS), np.float32)
    smile[EMOTIONS.index("happy")] = 0.5
    pose = np.array([math.radians(8), 0, 0], np.float32)
    still = Motion(smile, pose, np.zeros(3, np.float32), np.zeros(2, np.float32), np.zeros(1, np.float32))
    pictures = {}
    for person in avatar.people:
        animator = Animator(avatar, person)
        try:
            animator.push(silence)
            animator.skip_to_newest()
            pictures[person] = shrunk(straighten(animator.next_frame_moving(still).rgba), PREVIEW_SIZE)
        finally:
            animator.close()
    return pictures


def read_provenance(face: Path, audio: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """What the checkpoints say of themselves (provenance, quality), with the versions and machine of this export."""
    said = {
        name: _json(checkpoint_file(folder).with_suffix(".json")) for name, folder in (("face", face), ("audio", audio))
    }
    provenance: dict[str, Any] = {
        key: value.get("provenance", {k: v for k, v in value.items() if k != "metrics"}) for key, value in said.items()
    }
    provenance["exported_with"] = {"torch": torch.__version__, "python": platform.python_version(), "commit": _commit()}
    quality = {key: value["metrics"] for key, value in said.items() if value.get("metrics")}
    return provenance, quality


def _json(path: Path) -> dict[str, Any]:
    try:
        value = _without_folders(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return {}
    return value if isinstance(value, dict) else {}


def _without_folders(value: Any) -> Any:
    """Paths of the machine that trained are nobody's business: of an absolute path its last part is kept."""
    if isinstance(value, dict):
        return {key: _without_folders(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_folders(item) for item in value]
    if isinstance(value, str) and (Path(value).is_absolute() or "\\" in value):
        return Path(value.replace("\\", "/")).name
    return value


def _commit() -> str:
    answer = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=Path(__file__).parent, capture_output=True, text=True, check=False
    )
    return answer.stdout.strip() or "unknown"


def export_pack(
    face: Path, audio: Path, target: Path, name: str, description: str, quality: Mapping[str, Any] | None = None
) -> Avatar:
    """Writes the pack at `target`, twice: first with plain stills as previews, then with the previews that it drew."""
    models = load_models(face, audio)
    provenance, measured = read_provenance(face, audio)
    contents = pack_contents(models, name, description, provenance, {**measured, **(quality or {})})
    first = target.with_name(f".{target.name}.first")
    try:
        drawn = draw_previews(write_pack(first, contents))
    finally:
        _remove_pack(first)
    return write_pack(target, with_previews(contents, drawn))


def _remove_pack(folder: Path) -> None:
    import shutil

    if (folder / "manifest.json").is_file():
        shutil.rmtree(folder)


def main(
    face: tyro.conf.Positional[Path],
    audio: tyro.conf.Positional[Path | None] = None,
    /,
    *,
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])],
    name: str = "Cast",
    description: str = "Synthetic people who speak with your voice.",
    quality: Path | None = None,
) -> None:
    """Writes an avatar pack from trained checkpoints.

    Args:
        face: Folder of the face checkpoint, or of both (`face/` and `audio/` inside).
        audio: Folder of the audio checkpoint.
        output: The pack to write, a folder ending in .avatar.
        name: What the pack is called.
        description: One sentence about it.
        quality: A JSON file with measured figures to put into the manifest, such as training.metrics writes.
    """
    if audio is None:
        face, audio = face / "face", face / "audio"
    console = Console(stderr=True)
    try:
        if output.suffix != ".avatar":
            raise ValueError(f"expected a name that ends in .avatar, found {output}")
        refuse_other(output)  # before the minutes that an export takes
        figures = json.loads(quality.read_text(encoding="utf-8")) if quality else None
        with console.status("exporting"):
            avatar = export_pack(face, audio, output, name, description, figures)
    except (ValueError, OSError, MouthpieceError) as error:
        sys.exit(f"error: {error}")
    total = sum(entry.size for entry in avatar.manifest.files.values())
    console.print(f"{output}: {', '.join(avatar.people)}; {total / 2**20:.1f} MB")


if __name__ == "__main__":
    tyro.cli(main)
