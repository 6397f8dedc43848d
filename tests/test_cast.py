"""The people that ship: they open, speak the bundled sample, and keep still in silence. Looks are measured elsewhere."""

import json
from pathlib import Path

import numpy as np
import pytest
import safetensors

import engine
from engine.animator import Animator
from engine.audio.files import read_speech
from engine.avatar import Avatar, default_avatar, open_avatar
from engine.backends import load_graphs
from engine.backends.halves import EYES, HEAD, InHalves
from engine.controls import Controls
from engine.decoder import FrameDecoder, between
from engine.errors import AvatarError
from engine.expressions import EXPRESSION_NAMES
from engine.idle import Motion

SAMPLE = Path(engine.__file__).parent / "assets" / "sample.flac"
STILL = Controls(idle=0)


@pytest.fixture(scope="module")
def cast() -> Avatar:
    try:
        return open_avatar(default_avatar())
    except AvatarError as error:
        pytest.skip(f"no bundled avatar here: {error}")


def weights(animator: Animator, sound: np.ndarray, every: int = 3) -> np.ndarray:
    """[frames, 60] of every third frame; the others are skipped, as under load."""
    found = []
    for start in range(0, len(sound), 533 * every):
        animator.push(sound[start : start + 533 * every])
        animator.skip_to_newest()
        if animator.frames_due():
            expression = animator.next_frame(STILL).expression
            assert expression is not None
            found.append(expression)
    return np.array(found)


def test_names_are_the_rigs() -> None:
    rig = pytest.importorskip("training.rig.expressions")
    assert rig.EXPRESSIONS == EXPRESSION_NAMES
    assert len(set(EXPRESSION_NAMES)) == engine.manifest.EXPRESSIONS == 60


def test_parts_of_a_frame_are_those_of_the_whole(cast: Avatar) -> None:
    """What films leave out is really left out, what stays is the same, and `between` fills the gap."""
    (graph,) = load_graphs([cast.graph("frame_decoder")], "openvino", threads=1).graphs
    decoder = FrameDecoder(cast, graph, cast.person(None))
    assert isinstance(graph, InHalves)
    decoder.prepare_for_many()
    assert graph._eyeless is not None
    graph._eyeless.result(timeout=60)
    rng = np.random.default_rng(0)
    context = rng.standard_normal(graph.spec.inputs_of("context")["context"], np.float32)
    zero = np.zeros(3, np.float32)
    motion = Motion(np.zeros(6, np.float32), zero, zero, zero[:2], zero[:1])
    whole, face, eyeless = (decoder.layers(context, motion, part) for part in ("whole", "face", "eyeless"))
    assert whole.keys() - face.keys() == set(HEAD)
    assert face.keys() - eyeless.keys() == {EYES}
    for part in (face, eyeless):
        assert all(np.allclose(value, whole[name], atol=1e-4) for name, value in part.items())
        filled = between(part, whole, whole, 0.3)
        assert np.abs(decoder.finish(filled).rgba.astype(int) - decoder.finish(whole).rgba).max() <= 1
    graph.close()


def test_four_people_who_look_different(cast: Avatar) -> None:
    assert len(cast.people) >= 4
    animator = Animator(cast)
    pictures = []
    for name in cast.people:
        animator.reset()
        animator.push(np.zeros(4800, np.float32))
        frame = animator.next_frame(Controls(idle=0, person=name))
        alpha = frame.rgba[..., 3]
        assert 0.3 < (alpha > 250).mean() < 0.9  # a bust with something free around it
        assert (frame.rgba[..., :3].max(-1) <= alpha.astype(int) + 3).all()
        pictures.append(frame.rgba.astype(int))
    for i, one in enumerate(pictures):
        for other in pictures[:i]:
            assert np.abs(one - other).mean() > 5


def test_the_mouth_speaks_and_rests(cast: Avatar) -> None:
    jaw, close = EXPRESSION_NAMES.index("jawOpen"), EXPRESSION_NAMES.index("mouthClose")
    animator = Animator(cast)
    speech = read_speech(SAMPLE)[: 16_000 * 5]
    spoken = weights(animator, speech)
    animator.reset()
    silent = weights(animator, np.zeros(16_000 * 3, np.float32))[6:]
    assert spoken[:, jaw].std() > 0.04
    assert silent[:, jaw].std() < 0.2 * spoken[:, jaw].std()
    assert silent[:, jaw].mean() < spoken[:, jaw].mean()
    assert np.isfinite(spoken).all()
    assert np.isfinite(silent[:, close]).all()


def test_back_ends_draw_the_same_face(cast: Avatar) -> None:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("openvino")
    speech = read_speech(SAMPLE)[8000:32_000]
    frames = []
    for backend in ("openvino", "onnxruntime"):
        animator = Animator(cast, backend=backend)
        animator.push(speech)
        animator.skip_to_newest()
        frames.append(animator.next_frame(STILL))
        animator.close()
    a, b = frames
    assert np.allclose(a.expression, b.expression, atol=1e-3)
    assert np.abs(a.rgba.astype(int) - b.rgba.astype(int)).mean() < 0.1


def test_weights_are_named_in_the_file(tiny_pack: Path, tmp_path: Path) -> None:
    from engine.film import render
    from engine.film_files import Film

    film = Film(SAMPLE, tmp_path / "a.mp4", (128, 128), frames=tmp_path / "png", seconds=0.2)
    render(open_avatar(tiny_pack), film)
    with safetensors.safe_open(tmp_path / "png" / "expression.safetensors", "np") as file:
        assert tuple(file.metadata()["names"].split()) == EXPRESSION_NAMES
    assert json.loads((tiny_pack / "manifest.json").read_text())["synthetic"] is True
