"""Choosing a back end in the app: plans for TensorRT are built by a process of its own while the face goes on, and what does
not run here is told and taken back. The child is `python -m export.trt`, as it is or with doubles for the GPU (plan_child.py).
"""

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
pytest.importorskip("PyQt6", reason="the gui extra is not installed")
pytest.importorskip("pytestqt", reason="the dev extra is not installed")
pytest.importorskip("onnx", reason="the packs of the tests need onnx (extra train)")

from engine import open_avatar
from export import trt
from export.progress import progress_lines
from gui import plans
from gui.bridge import Bridge
from gui.plans import GRAPHS, PlanBuilding, build_command, read_line
from gui.settings import Settings, load, settings_path
from gui.state import Preparing
from gui.window import Window

PATIENCE_MS = 180_000
BEGINNING = Preparing(tuple((name, 0.0) for name in GRAPHS))
Opened = Callable[..., Window]


@pytest.fixture
def opened(qtbot: Any, tiny_pack: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Opened]:
    """Opens the window with settings of the test's own; closed in order."""
    monkeypatch.setenv("MOUTHPIECE_CONFIG", str(tmp_path / "config"))
    monkeypatch.setenv("MOUTHPIECE_PLANS", str(tmp_path / "plans"))
    windows: list[Window] = []

    def open_window(**intent: Any) -> Window:
        window = Window(Bridge(Settings(intent={"mic": "none", **intent}), version="test"))
        window.show()
        window.told = []
        window.bridge.message.connect(lambda title, words: window.told.append(f"{title}: {words}"))
        windows.append(window)
        window.bridge.open(open_avatar(tiny_pack))
        qtbot.waitUntil(lambda: window.preview.painted > 0 and window.bridge.report.alive, timeout=PATIENCE_MS)
        return window

    yield open_window
    for window in windows:
        window.close()


@pytest.fixture
def on_doubles(monkeypatch: pytest.MonkeyPatch) -> None:
    """A GPU and TensorRT, as the doubles are, for this process and for the child."""
    from cuda_double import Cuda
    from tensorrt_double import TensorRt
    from trt_doubles import install

    install(monkeypatch, TensorRt(Cuda()))
    child = str(Path(__file__).with_name("plan_child.py"))
    monkeypatch.setattr(plans, "build_command", lambda pack: [sys.executable, child, str(pack), "--progress-json"])


def choose(window: Window, field: str, value: str) -> None:
    """As the person does: the line of the list, then the list tells."""
    box = window.devices.boxes[field]
    box.setCurrentIndex(box.findData(value))
    box.activated.emit(box.currentIndex())


def goes_on(qtbot: Any, window: Window) -> None:
    wanted = window.preview.painted + 5
    qtbot.waitUntil(lambda: window.preview.painted >= wanted, timeout=PATIENCE_MS)


def with_devices(qtbot: Any, window: Window) -> Window:
    window.bridge.look_for_devices(anew=False)
    qtbot.waitUntil(lambda: window.devices.boxes["backend"].count() > 1, timeout=PATIENCE_MS)
    return window


def test_lines_are_those_that_the_build_prints(capsys: pytest.CaptureFixture[str]) -> None:
    assert GRAPHS == trt.ROLES
    progress, seen = progress_lines(), [BEGINNING]
    for number, role in enumerate(trt.ROLES):
        progress.part(role, number, len(trt.ROLES))
        progress.start("Building", None, 4)
        for step in range(4):
            progress.step("Building", step)
        progress.finish("Building")
    for line in capsys.readouterr().out.splitlines():
        said = read_line(line, seen[-1])
        assert said is not None
        assert all(now >= before for (_, now), (_, before) in zip(said.shares, seen[-1].shares))
        seen.append(said)
    assert any(dict(state.shares) == {"audio_encoder": 1.0, "frame_decoder": 0.5} for state in seen)
    assert "Building" in {state.phase for state in seen}
    assert seen[-1].share == 1.0
    built = read_line('{"built": "audio_encoder"}', BEGINNING)
    assert built is not None
    assert built.share == 0.5
    for other in (
        "",
        "Traceback",
        "[]",
        '{"built": "other"}',
        '{"graph": "frame_decoder", "graph_share": "much"}',
        '{"done": true}',
    ):
        assert read_line(other, BEGINNING) is None


def test_without_tensorrt_the_reason_is_one_line_and_the_face_stays(qtbot: Any, opened: Opened) -> None:
    if all(map(_installed, ("tensorrt", "pycuda"))):
        pytest.skip("TensorRT is installed here")
    window = with_devices(qtbot, opened())
    before = window.bridge.report.backend
    choose(window, "backend", "tensorrt")
    assert window.bridge.view.preparing is not None
    qtbot.waitUntil(lambda: bool(window.told), timeout=PATIENCE_MS)
    assert "is not installed" in window.told[0]
    assert "pip install" in window.told[0]
    assert "\n" not in window.told[0]
    assert window.bridge.view.preparing is None
    assert (window.bridge.intent.backend, window.devices.boxes["backend"].currentData()) == ("auto", "auto")
    goes_on(qtbot, window)
    assert window.bridge.report.backend == before


def _installed(name: str) -> bool:
    from importlib.util import find_spec

    return find_spec(name) is not None


def test_plans_are_built_and_then_the_face_is_tensorrts(qtbot: Any, opened: Opened, on_doubles: None) -> None:
    window = with_devices(qtbot, opened(backend="onnxruntime"))
    seen: list[Preparing] = []
    window.bridge.view_changed.connect(lambda view: seen.append(view.preparing))
    choose(window, "backend", "tensorrt")
    assert not window.devices.preparing.isHidden()
    assert window.bridge.intent.backend == "onnxruntime"
    qtbot.waitUntil(lambda: window.bridge.report.backend == "TensorRT", timeout=PATIENCE_MS)
    assert window.devices.preparing.isHidden()
    assert max(state.share for state in seen if state is not None) == 1.0
    assert {"Building Engine", "Profiling"} <= {state.phase for state in seen if state is not None}
    assert "preparing" not in window.bridge.view.health
    assert window.told == []
    goes_on(qtbot, window)
    choose(window, "backend", "onnxruntime")
    qtbot.waitUntil(lambda: window.bridge.report.backend == "ONNX", timeout=PATIENCE_MS)
    window.close()
    assert load(settings_path())[0].intent["backend"] == "onnxruntime"


def test_a_build_can_be_cancelled(
    qtbot: Any, opened: Opened, on_doubles: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MOUTHPIECE_TEST_SLOW", "1")
    window = with_devices(qtbot, opened())
    choose(window, "backend", "tensorrt")

    def half_done() -> bool:
        state = window.bridge.view.preparing
        return state is not None and dict(state.shares)["audio_encoder"] == 1.0

    qtbot.waitUntil(half_done, timeout=PATIENCE_MS)
    assert (
        window.devices.preparing.bars["audio_encoder"].value()
        == window.devices.preparing.bars["audio_encoder"].maximum()
    )
    assert "preparing TensorRT: 50%" in window.bridge.view.health
    goes_on(qtbot, window)  # the face does not wait for it
    window.devices.preparing.stop.click()
    assert not window.devices.preparing.stop.isEnabled()
    qtbot.waitUntil(lambda: window.bridge.view.preparing is None, timeout=PATIENCE_MS)
    assert window.told == []
    assert window.bridge.intent.backend == "auto"
    assert len(list((tmp_path / "plans").glob("*.plan"))) == 1  # the first graph's, whole; nothing of the second
    goes_on(qtbot, window)


def test_a_remembered_tensorrt_whose_plans_are_gone_is_prepared_anew(
    qtbot: Any, opened: Opened, on_doubles: None, tmp_path: Path
) -> None:
    window = opened(backend="tensorrt")
    qtbot.waitUntil(lambda: window.bridge.report.backend == "TensorRT", timeout=PATIENCE_MS)
    assert len(list((tmp_path / "plans").glob("*.plan"))) == 2
    assert window.bridge.intent.backend == "tensorrt"
    window.close()
    assert load(settings_path())[0].intent["backend"] == "tensorrt"


def test_a_child_that_cannot_be_started_is_told(qtbot: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from PyQt6.QtCore import QObject

    monkeypatch.setattr(plans, "build_command", lambda pack: [str(tmp_path / "no python"), "-c", ""])
    parent = QObject()
    building = PlanBuilding(parent)
    with qtbot.waitSignal(building.failed, timeout=PATIENCE_MS) as failed:
        building.start(tmp_path)
    assert failed.args[0]
    assert building.state is None
    assert build_command(tmp_path)[1:] == ["-m", "export.trt", str(tmp_path), "--progress-json"]


def test_a_back_end_that_does_not_run_here_is_told_and_taken_back(qtbot: Any, opened: Opened) -> None:
    window = with_devices(qtbot, opened(backend="onnxruntime"))
    choose(window, "backend", "onnxruntime-directml")
    qtbot.waitUntil(lambda: bool(window.told), timeout=PATIENCE_MS)
    assert "The face goes on as it is." in window.told[0]
    assert window.bridge.intent.backend == window.devices.boxes["backend"].currentData() == "onnxruntime"
    goes_on(qtbot, window)


def test_a_remembered_back_end_that_is_gone_gives_way_to_the_automatic_one(qtbot: Any, opened: Opened) -> None:
    window = opened(backend="onnxruntime-directml")
    assert window.bridge.intent.backend == "auto"
    assert "onnxruntime-directml does not run here any more" in window.told[0]
    assert not window.bridge.view.engine_failed
    goes_on(qtbot, window)


def test_the_pictures_size_is_chosen_but_not_within_a_film(qtbot: Any, opened: Opened, tmp_path: Path) -> None:
    window = opened()
    choose(window, "quality", "light")
    qtbot.waitUntil(lambda: window.preview.picture().shape[:2] == (360, 640), timeout=PATIENCE_MS)
    window.bridge.start_recording(str(tmp_path / "film.mp4"))
    qtbot.waitUntil(lambda: window.bridge.report.recording_s > 0.5, timeout=PATIENCE_MS)
    choose(window, "quality", "full-hd")
    qtbot.waitUntil(lambda: bool(window.told), timeout=PATIENCE_MS)
    assert "stop the recording first" in window.told[0]
    assert window.devices.boxes["quality"].currentData() == "light"
    window.bridge.stop_recording()
    goes_on(qtbot, window)
    assert window.preview.picture().shape[:2] == (360, 640)
