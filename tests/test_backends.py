"""What runs the graphs: back ends agree, carry state, refuse what does not fit, and never fall back in silence."""

import re
import sys

import numpy as np
import packs
import pytest

from engine.animator import Animator
from engine.avatar import Avatar
from engine.backends import AUTOMATIC, BACKENDS, load_graphs, open_backend
from engine.backends.base import Poisoned
from engine.controls import Controls
from engine.encoder import AudioEncoder
from engine.errors import BackendError

CPU = ("openvino", "onnxruntime")


def test_back_ends_agree_and_carry_state(avatar: Avatar) -> None:
    t = np.arange(19_200) / 16_000
    sound = (0.3 * np.sin(2 * np.pi * 200 * t) * (t % 1 >= 0.5)).astype(np.float32)
    animators = [Animator(avatar, backend=name) for name in CPU]
    for animator in animators:
        animator.push(sound)
    assert animators[0].frames_due() > 30
    while animators[0].frames_due():
        a, b = (animator.next_frame(Controls()) for animator in animators)
        assert np.abs(a.rgba.astype(int) - b.rgba.astype(int)).max() <= 2
        assert np.allclose(a.expression, b.expression, atol=1e-4)


@pytest.mark.parametrize("name", CPU)
def test_state_equals_one_long_calculation(avatar: Avatar, name: str) -> None:
    """The leaky envelope after 50 hops of a constant level, against its formula: state went from step to step."""
    (graph,) = load_graphs([avatar.graph("audio_encoder")], name).graphs
    poisoned = Poisoned(graph)
    state = poisoned.initial()
    loud = np.full((1, 160), 0.1, np.float32)
    kept = []
    for _ in range(50):
        state, out = poisoned.step(state, {"samples": loud})
        kept.append(out["context"].copy())
    level = (20 * np.log10(0.1) + 50) / 40
    expected = level * (1 - np.array([0.5, 0.8, 0.95, 0.99]) ** 50)
    assert np.allclose(kept[-1][0, 2:], expected, atol=1e-4)
    assert np.allclose(kept[0][0, 2:], level * np.array([0.5, 0.2, 0.05, 0.01]), atol=1e-4)
    # initial() starts over.
    _, out = poisoned.step(poisoned.initial(), {"samples": loud})
    assert np.array_equal(out["context"], kept[0])


def test_using_a_state_twice_is_noticed(avatar: Avatar) -> None:
    graph = Poisoned(load_graphs([avatar.graph("audio_encoder")], "onnxruntime").graphs[0])
    state = graph.initial()
    sound = {"samples": np.zeros((1, 160), np.float32)}
    following, first = graph.step(state, sound)
    with pytest.raises(BackendError, match="consumed"):
        graph.step(state, sound)
    following, _ = graph.step(following, sound)
    assert np.isnan(first["context"]).all()


@pytest.mark.parametrize("name", CPU)
def test_misfit_inputs_are_named(avatar: Avatar, name: str) -> None:
    (graph,) = load_graphs([avatar.graph("audio_encoder")], name).graphs
    with pytest.raises(BackendError, match="input sound"):
        graph.step(graph.initial(), {"sound": np.zeros((1, 160), np.float32)})
    with pytest.raises(BackendError, match=r"\(1, 99\): expected \(1, 160\)"):
        graph.step(graph.initial(), {"samples": np.zeros((1, 99), np.float32)})
    graph.close()
    graph.close()
    with pytest.raises(BackendError, match="closed"):
        graph.step(graph.initial(), {})


@pytest.mark.parametrize("name", CPU)
def test_a_graph_that_is_not_what_the_manifest_says(avatar: Avatar, name: str) -> None:
    encoder, _ = avatar.graph("audio_encoder")
    _, decoder_spec = avatar.graph("frame_decoder")
    with pytest.raises(BackendError, match="the manifest says"):
        load_graphs([(encoder, decoder_spec)], name)
    with pytest.raises(BackendError, match="cannot load"):
        load_graphs([(b"not a graph", decoder_spec)], name)


def test_a_named_back_end_never_falls_back(avatar: Avatar, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(BackendError, match="openvino is not installed"):
        Animator(avatar, backend="openvino")
    loaded = load_graphs([avatar.graph("audio_encoder")], "auto")
    assert loaded.backend == "onnxruntime"
    assert "openvino: not installed" in loaded.passed_over
    assert re.fullmatch(r"ONNX Runtime on the CPU, .* \(.*openvino: not installed\)", str(loaded))
    with pytest.raises(BackendError, match="unknown; choose auto"):
        open_backend("abacus")


def test_auto_takes_the_fastest_on_a_cpu(avatar: Avatar) -> None:
    animator = Animator(avatar)
    assert AUTOMATIC.index("openvino") < AUTOMATIC.index("onnxruntime")
    assert set(AUTOMATIC) <= set(BACKENDS)
    assert animator.backend
    animator.close()


def test_windows_across_the_ring_seam(avatar: Avatar, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.encoder.RING_HOPS", 10)
    (graph,) = load_graphs([avatar.graph("audio_encoder")], "onnxruntime").graphs
    encoder = AudioEncoder(avatar, graph)
    rng = np.random.default_rng(0)
    seen = np.zeros((packs.WINDOW, packs.CONTEXT), np.float32)  # hops before 0 are zeros
    for hop in range(60):
        encoder.push(rng.standard_normal(160).astype(np.float32) * 0.1 * (hop % 7))
        window = encoder.window(hop)
        assert np.array_equal(window[0, :-1], seen[1:])
        seen = window[0]
        if hop > 12:
            assert np.array_equal(encoder.window(hop - 5)[0, -3:], seen[-8:-5])
    with pytest.raises(ValueError, match="not among"):
        encoder.window(10)
