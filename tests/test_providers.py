"""ONNX Runtime's GPU providers where there is no GPU: each must refuse with a reason, and none may take the CPU in silence."""

import warnings

import numpy as np
import onnxruntime
import pytest

from engine.avatar import Avatar
from engine.backends import AUTOMATIC, BACKENDS, load_graphs, open_backend
from engine.backends.base import NotInstalled, Poisoned
from engine.backends.onnxruntime_gpu import CoreMlProvider, CudaProvider, _ProviderBackend
from engine.errors import BackendError

NAMES = [name for name in BACKENDS if name.startswith("onnxruntime-")]
PROVIDERS = {"onnxruntime-cuda": "CUDA", "onnxruntime-tensorrt": "Tensorrt", "onnxruntime-directml": "Dml",
             "onnxruntime-coreml": "CoreML"}  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_a_runtime_without_the_provider_is_told(name: str) -> None:
    if f"{PROVIDERS[name]}ExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip(f"this machine has {name}")
    with pytest.raises(
        NotInstalled, match=rf"{name}: .* built without {PROVIDERS[name]}.*; pip uninstall .* pip install"
    ):
        open_backend(name)


@pytest.mark.parametrize("name", NAMES)
def test_a_provider_that_does_not_start_is_no_cpu(name: str, avatar: Avatar, monkeypatch: pytest.MonkeyPatch) -> None:
    """As with a driver that is too old: ONNX Runtime lists the provider, and then quietly takes the processor."""
    wanted = f"{PROVIDERS[name]}ExecutionProvider"
    if wanted in onnxruntime.get_available_providers():
        pytest.skip(f"this machine has {name}")
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [wanted, "CPUExecutionProvider"])
    warnings.simplefilter("ignore", UserWarning)  # pytest puts the filters back after each test
    with pytest.raises(BackendError, match=f"{name}: {wanted} did not start, .* took CPU"):
        load_graphs([avatar.graph("audio_encoder")], name)


def test_each_provider_names_what_it_needs() -> None:
    for name in NAMES:
        module, kind = BACKENDS[name]
        backend = getattr(__import__(module, fromlist=[kind]), kind)
        assert (backend.name, backend.provider) == (name, f"{PROVIDERS[name]}ExecutionProvider")
    assert "onnxruntime-cuda" in AUTOMATIC
    assert "onnxruntime-tensorrt" not in AUTOMATIC, "it compiles for minutes when it loads"


class OnCpu(CudaProvider):
    """The same path with the one provider that every machine has."""

    name, provider, words, place = "onnxruntime-cuda", "CPUExecutionProvider", "ONNX Runtime with CUDA", "cpu"
    options = {}  # noqa: RUF012  # as in the class it stands for


class PartlyOnCpu(CoreMlProvider):
    name, provider, words = "onnxruntime-coreml", "CPUExecutionProvider", "ONNX Runtime with CoreML"


def test_state_stays_where_it_was_put(avatar: Avatar) -> None:
    """Leaves live in values of ONNX Runtime and alternate; `initial` clears them."""
    model, spec = avatar.graph("audio_encoder")
    (reference,) = load_graphs([(model, spec)], "onnxruntime").graphs
    graph = Poisoned(PartlyOnCpu().load(model, spec))
    assert graph.device == "ONNX Runtime with CoreML, partly on the CPU"
    sound = np.random.default_rng(0).normal(0, 0.1, (40, 1, 160)).astype(np.float32)
    for _ in range(2):
        one, two = graph.initial(), reference.initial()
        for hop in sound:
            one, found = graph.step(one, {"samples": hop})
            two, expected = reference.step(two, {"samples": hop})
            assert np.array_equal(found["context"], expected["context"])


def test_operators_left_to_the_cpu_are_refused(avatar: Avatar) -> None:
    with pytest.raises(BackendError, match=r"would run partly on the CPU .*; choose another back end"):
        OnCpu().load(*avatar.graph("audio_encoder"))


@pytest.mark.parametrize("kind", [OnCpu, PartlyOnCpu])
def test_a_file_that_is_no_graph(kind: type[_ProviderBackend], avatar: Avatar) -> None:
    with pytest.raises(BackendError, match=r"cannot load audio_encoder\.onnx: "):
        kind().load(b"not a graph", avatar.graph("audio_encoder")[1])
