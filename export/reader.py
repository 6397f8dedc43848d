"""A finished pack learns to hear mood and person: adds the voice reader that training.stages.distil made.

    python -m export.reader cast.avatar runs/voice_reader -o cast.avatar

The reader belongs to one audio encoder. What that encoder made of a short test sound stands beside the reader and is
compared with what the pack's own encoder makes of it; a reader of another encoder is refused. The people of the pack are
scored against the voice by their frontal still, as the identity teacher sees it.
"""

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import cv2
import numpy as np
import torch
import tyro
from numpy.typing import NDArray
from rich.console import Console

from engine.avatar import Avatar, open_avatar
from engine.backends import load_graphs
from engine.encoder import AudioEncoder
from engine.errors import MouthpieceError
from engine.manifest import EMOTIONS
from export.graphs import ExportedGraph, Port, trace
from export.onnx import STATE_OUT
from export.pack import rewrite_pack

LEAST_CORRELATION = 0.98  # of contexts: quantised encoders are a little off, other encoders are nowhere near
STILL_SIZE = 128


def probe_contexts(avatar: Avatar, samples: NDArray[np.float32]) -> NDArray[np.float32]:
    """The last context that the pack's encoder makes of a sound, `[C]`."""
    graph = load_graphs([avatar.graph("audio_encoder")], "onnxruntime", threads=1).graphs[0]
    try:
        encoder = AudioEncoder(avatar, graph)
        encoder.push(samples)
        last: NDArray[np.float32] = encoder.window(encoder.hops - 1, 1)[0, 0]
        return last
    finally:
        graph.close()


def check_encoder(avatar: Avatar, about: dict[str, Any]) -> None:
    """Raises `ValueError` if the reader was not made for the pack's audio encoder."""
    from training.data.heard import probe_sound

    expected = np.asarray(about["probe"], np.float32)
    found = probe_contexts(avatar, probe_sound())
    alike = float(np.corrcoef(expected, found)[0, 1]) if expected.shape == found.shape else 0.0
    if not alike >= LEAST_CORRELATION:
        raise ValueError(
            f"the reader was made for another audio encoder than {avatar.path.name}'s (contexts correlate {alike:.3f}, "
            f"expected {LEAST_CORRELATION} or more); train it on this one: python -m training.stages.distil --audio RUN"
        )


def faces_of(avatar: Avatar, teachers: Path) -> torch.Tensor:
    """`nu* [P, 4096]`: the people's frontal stills as the identity teacher sees them."""
    from training.data.face_runs import small
    from training.stages.teachers import load_teachers

    identity = load_teachers(teachers)[0].identity
    stills = []
    for name in avatar.people:
        person = avatar.person(name)
        picture = person.stills[0] if len(person.stills) else _preview(person.preview)
        stills.append(small(picture, STILL_SIZE))
    pictures = torch.from_numpy(np.stack(stills)).permute(0, 3, 1, 2).float() / 255.0
    with torch.no_grad():
        features: torch.Tensor = identity.feature(pictures)
    return features


def _preview(path: Path) -> NDArray[np.uint8]:
    picture = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if picture is None:
        raise ValueError(f"{path}: expected a picture; fetch the pack again")
    return np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGRA2RGBA), np.uint8)


def export_reader(avatar: Avatar, reader: Path, teachers: Path) -> ExportedGraph:
    """The graph for this pack's people. Raises `ValueError` for a reader of another encoder or files that do not fit."""
    from safetensors.torch import load_file

    from training.models.speech2video.students import cosine, load_students
    from training.models.speech2video.voice_reader import VoiceReader

    students, about = load_students(reader / "best")
    check_encoder(avatar, about)
    known = {name: leaf.float() for name, leaf in load_file(reader / "voices.safetensors").items()}
    gallery = faces_of(avatar, teachers) - known["face_mean"]
    scores = cosine(known["voices"], gallery)
    module = VoiceReader(students, gallery, scores.mean(0), scores.std(0).clamp(min=1e-3)).eval()
    size = avatar.manifest.audio.context_size
    given = {
        "context": torch.randn(1, students.config.window_hops, size) * 0.3,
        "usual": torch.randn(1, size) * 0.3,
        "seconds": torch.full((1, 1), 5.0),
        "samples": torch.randn(1, VoiceReader.samples) * 0.1,
    }
    leaves = module.initial()
    state = {name: STATE_OUT + name for name in leaves}
    answers = ["emotion", "people", *state.values()]
    model = trace(module, [*given.values(), *leaves.values()], [*given, *leaves], answers)
    roles = dict.fromkeys(given, "context") | {"samples": "samples"} | dict.fromkeys(leaves, "state")
    inputs = tuple(Port(name, roles[name], tuple(leaf.shape)) for name, leaf in (given | leaves).items())
    outputs: tuple[Port, ...] = (
        Port("emotion", "aux", (1, len(EMOTIONS))),
        Port("people", "aux", (1, len(avatar.people))),
    )
    outputs += tuple(Port(state[name], "state", tuple(leaf.shape)) for name, leaf in leaves.items())
    return ExportedGraph("voice_reader.onnx", model, inputs, outputs, state)


def add_graph(
    avatar: Avatar, target: Path, role: str, graph: ExportedGraph, quality: dict[str, Any], provenance: dict[str, Any]
) -> Avatar:
    """Writes the pack with one graph more (or in place of an older one of that role) and opens it."""
    manifest = avatar.manifest.model_dump(mode="json")
    manifest["graphs"][role] = graph.declared()
    manifest["quality"][role] = quality
    manifest["provenance"][role] = provenance
    return rewrite_pack(avatar, target, manifest, {graph.file: graph.serialized()})


def main(
    pack: tyro.conf.Positional[Path],
    reader: tyro.conf.Positional[Path],
    /,
    *,
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])],
    teachers: Path = Path("runs/teachers"),
) -> None:
    """Adds a voice reader to an avatar pack, so that it can take mood and person from the voice.

    Args:
        pack: The pack to add it to.
        reader: Run folder of training.stages.distil.
        output: The pack to write, a folder ending in .avatar; may be the pack itself.
        teachers: Run folder of training.stages.teachers, for how the people of the pack look to the identity teacher.
    """
    try:
        if output.suffix != ".avatar":
            raise ValueError(f"expected a name that ends in .avatar, found {output}")
        avatar = open_avatar(pack)
        graph = export_reader(avatar, reader, teachers)
        about = json.loads((reader / "best.json").read_text(encoding="utf-8"))
        story = {name: value for name, value in about.items() if name not in ("metrics", "probe")}
        done = add_graph(avatar, output, "voice_reader", graph, about["metrics"], story)
    except (ValueError, OSError, KeyError, RuntimeError, MouthpieceError) as error:
        sys.exit(f"error: {error}")
    size = done.manifest.files[graph.file].size
    Console(stderr=True).print(f"{output}: hears mood and person, {size / 1024:.0f} kB more")


__all__ = ["add_graph", "export_reader", "main"]

if __name__ == "__main__":
    tyro.cli(main)
