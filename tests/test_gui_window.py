"""The window with a real engine behind it: every control is driven as a person would, and what the engine got and drew is looked at."""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
pytest.importorskip("PyQt6", reason="the gui extra is not installed")
pytest.importorskip("pytestqt", reason="the dev extra is not installed")
pytest.importorskip("onnx", reason="the packs of the tests need onnx (extra train)")

from PyQt6.QtCore import QPoint, QPointF, Qt
from PyQt6.QtGui import QWheelEvent
from PyQt6.QtTest import QTest
from PyQt6.QtWidgets import QApplication

from engine import open_avatar
from engine.start import SAMPLE
from gui.bridge import Bridge
from gui.settings import Settings, load, settings_path
from gui.state import MOODS, Intent, change
from gui.translation import background_of, controls_of
from gui.window import Window
from tests.packs import build_tiny_pack

PATIENCE_MS = 180_000  # a starved machine is slow; what never comes fails all the same


@pytest.fixture(scope="module")
def pack(tmp_path_factory):
    return build_tiny_pack(tmp_path_factory.mktemp("gui") / "tiny.avatar")


@pytest.fixture
def window(qtbot, pack, tmp_path, monkeypatch):
    """A window whose engine runs with no microphone; closed in order."""
    monkeypatch.setenv("MOUTHPIECE_CONFIG", str(tmp_path / "config"))
    bridge = Bridge(Settings(intent={"mic": "none", "idle": 0.0, "blink_per_minute": 0.0}), version="test")
    window = Window(bridge)
    window.resize(1100, 700)
    window.show()
    told = []
    bridge.message.connect(lambda title, words: told.append(f"{title}: {words}"))
    window.told = told
    bridge.open(open_avatar(pack))
    qtbot.waitUntil(lambda: window.preview.painted > 0 and bridge.report.alive, timeout=PATIENCE_MS)
    yield window
    bridge.intent = replace(bridge.intent, recording="")
    window.close()


def engine_controls(window):
    return window.bridge._engine._session.controls


def picture_after(qtbot, window, frames: int = 45):
    """The picture on show once `frames` more have been painted: smoothing has settled."""
    wanted = window.preview.painted + frames
    qtbot.waitUntil(lambda: window.preview.painted >= wanted, timeout=PATIENCE_MS)
    return window.preview.picture().astype(np.float32)


def drag(widget, start: QPointF, end: QPointF) -> None:
    QTest.mousePress(widget, Qt.MouseButton.LeftButton, pos=start.toPoint())
    QTest.mouseMove(widget, pos=end.toPoint())
    QTest.mouseRelease(widget, Qt.MouseButton.LeftButton, pos=end.toPoint())


def test_every_dial_reaches_the_engine(qtbot, window):
    for mood in MOODS:
        window.mood.dials[mood].slider().setValue(0)
    window.mood.dials["happy"].slider().setValue(700)
    window.mood.dials["intensity"].slider().setValue(500)
    assert engine_controls(window).emotion[3] == pytest.approx(0.35, abs=1e-3)
    window.pose.roll.slider().setValue(1000)
    assert np.degrees(engine_controls(window).pose[2]) == pytest.approx(15)
    window.pose.blink.slider().setValue(500)
    assert engine_controls(window).blink_rate == pytest.approx(20)
    window.pose.idle.slider().setValue(250)
    assert engine_controls(window).idle == pytest.approx(0.5)
    dial = window.scene.findChild(type(window.pose.roll), "zoom")
    dial.slider().setValue(1000)
    assert engine_controls(window).framing.zoom == pytest.approx(2.0)
    QTest.mouseDClick(dial.slider(), Qt.MouseButton.LeftButton)
    assert engine_controls(window).framing.zoom == pytest.approx(1.0)


def test_pads_turn_the_head_and_the_mood(qtbot, window):
    before = picture_after(qtbot, window, 5)
    pad = window.pose.pad
    window.tabs.setCurrentIndex(1)
    drag(pad, pad._to_screen(0, 0), pad._to_screen(0.8, -0.5))
    yaw, pitch, _ = np.degrees(engine_controls(window).pose)
    assert yaw == pytest.approx(
        -20, abs=0.6
    )  # the preview is a mirror: a drag to the right turns the face to its own right
    assert pitch == pytest.approx(7.5, abs=0.6)
    turned = picture_after(qtbot, window)
    assert np.abs(turned - before).mean() > 1.0
    QTest.mouseDClick(pad, Qt.MouseButton.LeftButton)
    assert np.allclose(engine_controls(window).pose, 0)
    window.tabs.setCurrentIndex(0)
    mood = window.mood.pad
    top = mood._to_screen(0, 1)
    drag(mood, mood._to_screen(0, 0), top)
    assert engine_controls(window).emotion[3] == pytest.approx(1.0, abs=0.05)
    assert window.mood.dials["happy"].value() == pytest.approx(1.0, abs=0.05)
    QTest.keyClick(mood, Qt.Key.Key_Home)
    assert sum(engine_controls(window).emotion) == pytest.approx(0, abs=1e-6)


def test_yaw_moves_the_face_and_mirror_flips_only_the_view(qtbot, window):
    window.bridge.act({"mirror": True})
    straight = picture_after(qtbot, window, 10)
    window.bridge.act({"yaw": 25.0})
    right = picture_after(qtbot, window)
    window.bridge.act({"yaw": -25.0})
    left = picture_after(qtbot, window)
    face = slice(80, 500)
    columns = np.arange(right.shape[1])

    def centre(picture):
        weight = np.abs(picture - picture[5, 5]).sum(-1)[face].sum(0)
        return float((weight * columns).sum() / weight.sum())

    assert centre(left) < centre(straight) < centre(right)
    shown = window.preview.grab().toImage()
    middle = shown.height() // 2
    row = [shown.pixelColor(x, middle).red() for x in range(shown.width())]
    window.bridge.act({"mirror": False})
    window.preview.repaint()
    flipped = window.preview.grab().toImage()
    other = [flipped.pixelColor(x, middle).red() for x in range(flipped.width())]
    assert np.abs(np.array(row) - np.array(other[::-1])).mean() < np.abs(np.array(row) - np.array(other)).mean()


def test_happy_changes_the_mouth_and_mute_closes_it(qtbot, window):
    bridge = window.bridge
    bridge.act({"mic": str(SAMPLE)})
    qtbot.waitUntil(lambda: bridge.report.level > 0.02, timeout=PATIENCE_MS)

    def motion(frames):
        pictures = []
        for _ in range(frames):
            wanted = window.preview.painted + 1
            qtbot.waitUntil(lambda wanted=wanted: window.preview.painted >= wanted, timeout=PATIENCE_MS)
            pictures.append(window.preview.picture()[:, 500:780].astype(np.float32))
        return float(np.std(pictures, axis=0).mean())

    speaking = motion(40)
    window.mute.click()
    assert bridge.view.muted
    qtbot.waitUntil(lambda: bridge._engine.statistics().muted, timeout=PATIENCE_MS)
    picture_after(qtbot, window, 25)
    assert motion(20) < 0.2 * speaking
    assert bridge.view.level == 0
    calm = picture_after(qtbot, window, 5)
    bridge.act({"happy": 1.0})
    assert np.abs(picture_after(qtbot, window) - calm).max() > 20


def test_the_meter_falls_when_no_more_is_heard(qtbot):
    from gui.meter import LevelMeter

    meter = LevelMeter()
    qtbot.addWidget(meter)
    meter.show_level(0.5, False, False)
    assert meter._share > 0.8
    meter.show_level(0.0, False, False)  # and nobody says it again
    qtbot.waitUntil(lambda: meter._share == 0.0, timeout=PATIENCE_MS)
    qtbot.waitUntil(lambda: not meter._fall.isActive(), timeout=PATIENCE_MS)


def test_people_backgrounds_and_framing(qtbot, window):
    bridge = window.bridge
    assert list(window.people.buttons()) == [name for name, _, _ in bridge.people]
    second = bridge.people[1][0]
    window.people.buttons()[second].click()
    assert engine_controls(window).person == second
    window.scene.kind.setCurrentIndex(window.scene.kind.findData("green"))
    window.scene.kind.activated.emit(window.scene.kind.currentIndex())
    qtbot.waitUntil(
        lambda: np.abs(window.preview.picture()[5, 5].astype(int) - (0, 177, 64)).max() <= 2, timeout=PATIENCE_MS
    )
    wheel = QWheelEvent(
        QPointF(100, 100), QPointF(100, 100), QPoint(), QPoint(0, 240), Qt.MouseButton.NoButton,
        Qt.KeyboardModifier.NoModifier, Qt.ScrollPhase.NoScrollPhase, False,
    )  # fmt: skip
    QApplication.sendEvent(window.preview, wheel)
    assert engine_controls(window).framing.zoom == pytest.approx(1.21, abs=0.01)
    QTest.mouseDClick(window.preview, Qt.MouseButton.LeftButton)
    assert engine_controls(window).framing.zoom == pytest.approx(1.0)


def test_recording_plays_and_snapshot_is_marked(qtbot, window, tmp_path):
    import av
    from PyQt6.QtGui import QImage

    film = tmp_path / "film.mp4"
    window.bridge.start_recording(str(film))
    qtbot.waitUntil(lambda: window.bridge.report.recording_s > 1.0, timeout=PATIENCE_MS)
    assert window.record.text().startswith("Stop")
    window.record.click()
    qtbot.waitUntil(film.exists, timeout=PATIENCE_MS)
    with av.open(str(film)) as container:
        times = [float(frame.time) for frame in container.decode(video=0)]
    assert times[-1] > 0.5
    assert len(times) >= 3  # a busy machine leaves frames out
    shot = tmp_path / "face.png"
    assert window.write_snapshot(str(shot))
    image = QImage(str(shot))
    assert (image.width(), image.height()) == (1280, 720)
    assert "Synthetic" in image.text("Comment")
    assert not window.write_snapshot(str(tmp_path / "nowhere" / "face.png"))


def test_recording_to_nowhere_is_told_not_fatal(qtbot, window, tmp_path):
    window.bridge.start_recording(str(tmp_path / "nowhere" / "film.mp4"))
    qtbot.waitUntil(lambda: bool(window.told), timeout=PATIENCE_MS)
    qtbot.waitUntil(lambda: not window.bridge.intent.recording, timeout=PATIENCE_MS)
    assert window.record.text() == "Record"
    picture_after(qtbot, window, 5)


def test_tampered_pack_is_refused_and_the_face_goes_on(qtbot, window, pack, tmp_path):
    import shutil

    broken = tmp_path / "broken.avatar"
    shutil.copytree(pack, broken)
    decoder = broken / "frame_decoder.onnx"
    data = bytearray(decoder.read_bytes())
    data[len(data) // 2] ^= 1
    decoder.write_bytes(bytes(data))
    window.bridge.import_avatar(str(broken))
    qtbot.waitUntil(lambda: bool(window.told), timeout=PATIENCE_MS)
    assert "frame_decoder.onnx" in window.told[0]
    assert window.bridge.settings.avatar == ""
    picture_after(qtbot, window, 5)


def test_a_dead_engine_is_told_and_started_again(qtbot, window):
    engine = window.bridge._engine

    def die(*_):
        raise RuntimeError("killed for the test")

    engine._inference.step = die
    qtbot.waitUntil(lambda: window.bridge.view.engine_failed, timeout=PATIENCE_MS)
    assert "inference" in window.bridge.view.failure
    assert window.preview.picture().size > 0  # the last picture stays
    window._restart()
    qtbot.waitUntil(lambda: window.bridge.report.alive and not window.bridge.view.engine_failed, timeout=PATIENCE_MS)
    picture_after(qtbot, window, 5)


def test_missing_microphone_is_told_in_plain_words(qtbot, window):
    window.bridge.act({"mic": "no such microphone"})
    qtbot.waitUntil(lambda: bool(window.told or window.bridge.view.notices), timeout=PATIENCE_MS)
    told = " ".join([*window.told, *window.bridge.view.notices])
    assert "no such microphone" in told or "PortAudio" in told or "no microphone" in told
    picture_after(qtbot, window, 5)


def test_devices_are_looked_for_anew_and_off_the_windows_thread(qtbot, window, monkeypatch):
    import threading

    from engine.devices import Listed
    from gui import choices
    from gui import plugging as module

    looked_on = []

    def looked_anew():
        looked_on.append(threading.current_thread())
        return [Listed("microphone", "ALSA", "New headset", 48000, 1)], []

    monkeypatch.setattr(choices, "looked_anew", looked_anew)
    qtbot.waitUntil(lambda: not window.bridge.plugging.looking, timeout=PATIENCE_MS)
    window.devices.refresh.emit()
    qtbot.waitUntil(lambda: window.devices.boxes["mic"].findData("ALSA: New headset") >= 0, timeout=PATIENCE_MS)
    assert looked_on[0] is not threading.main_thread()
    assert window.devices.boxes["mic"].currentData() == "none"  # what was chosen stays chosen
    monkeypatch.setattr(module, "plugged", lambda: ("card7",))
    qtbot.waitUntil(lambda: len(looked_on) == 2, timeout=PATIENCE_MS)  # what is plugged in is noticed without asking


def test_presets_save_recall_and_forget(qtbot, window):
    bridge = window.bridge
    bridge.act({"happy": 0.8, "yaw": 10})
    bridge.save_preset("cheerful", "Ctrl+1")
    bridge.act({"happy": 0.0, "yaw": 0})
    window.activateWindow()
    bridge.recall_preset("cheerful")
    assert bridge.intent.happy == pytest.approx(0.8)
    assert engine_controls(window).emotion[3] == pytest.approx(0.8)
    bridge.from_outside("yaw", 5.0)
    qtbot.waitUntil(lambda: bridge.intent.yaw == 5.0, timeout=PATIENCE_MS)
    bridge.from_outside("preset", "cheerful")
    qtbot.waitUntil(lambda: bridge.intent.yaw == 10.0, timeout=PATIENCE_MS)
    bridge.delete_preset("cheerful")
    bridge.recall_preset("cheerful")
    assert bridge.settings.presets == []


def test_closing_remembers_the_look(qtbot, window):
    window.bridge.act({"sad": 0.4, "muted": True})
    window.tabs.setCurrentIndex(2)
    window.close()
    settings, complaint = load(settings_path())
    assert complaint == ""
    assert settings.restored_intent().sad == pytest.approx(0.4)
    assert settings.restored_intent().muted is False
    assert settings.geometry
    assert settings.page == 2


def test_closing_asks_while_recording_and_only_then(qtbot, window, tmp_path):
    from PyQt6.QtCore import QTimer
    from PyQt6.QtWidgets import QMessageBox

    asked = []

    def answer(button):
        box = QApplication.activeModalWidget()
        if not isinstance(box, QMessageBox):
            QTimer.singleShot(50, lambda: answer(button))
            return
        asked.append(box.text())
        box.button(button).click()

    film = tmp_path / "film.mp4"
    window.bridge.start_recording(str(film))
    qtbot.waitUntil(lambda: window.bridge.report.recording_s > 0.5, timeout=PATIENCE_MS)
    QTimer.singleShot(0, lambda: answer(QMessageBox.StandardButton.No))
    assert not window.close()
    assert window.isVisible()
    picture_after(qtbot, window, 5)
    QTimer.singleShot(0, lambda: answer(QMessageBox.StandardButton.Yes))
    assert window.close()
    assert len(asked) == 2
    assert "keep what was recorded" in asked[0]
    assert film.exists()


def test_the_keyboard_reaches_everything_and_everything_has_a_name(qtbot, window):
    reached = set()
    for page in range(window.tabs.count()):
        window.tabs.setCurrentIndex(page)
        widget = window
        while (widget := widget.nextInFocusChain()) is not window:
            if widget.focusPolicy() & Qt.FocusPolicy.TabFocus and widget.isVisibleTo(window) and widget.isEnabled():
                name = widget.accessibleName() or getattr(widget, "text", str)()
                assert name, widget
                reached.add(name)
    wanted = {
        "Start camera", "Record", "Snapshot", "Speak a file", "More", "Mute", "Mood pad", "Head pad", "Gaze", "Background",
        "Happy", "Tilt", "Zoom", "Sideways", "Height", "Microphone", "Monitor", "Camera", "Picture", "Engine", "Save this look",
    }  # fmt: skip
    assert wanted <= reached, wanted - reached


def test_log_holds_events_and_no_paths(qtbot, window):
    window.bridge.journal.note("something happened")
    qtbot.waitUntil(lambda: len(window.bridge.journal.figures) > 0, timeout=PATIENCE_MS)
    text = window.bridge.journal.text("1.2.3")
    assert "Mouthpiece 1.2.3" in text
    assert "something happened" in text
    window.open_health()
    assert window.health is not None
    window.health.refresh()
    window.health.close()


def test_all_controls_have_names_for_screen_readers(qtbot, window):
    from PyQt6.QtWidgets import QAbstractButton, QComboBox, QSlider

    for kind in (QSlider, QComboBox):
        for widget in window.findChildren(kind):
            assert widget.accessibleName(), widget
    for button in window.findChildren(QAbstractButton):
        if button.objectName().startswith("qt_") or not button.isVisibleTo(window):
            continue
        assert button.text() or button.accessibleName() or button.toolTip(), button


def test_clicks_and_drags_all_over_do_not_harm(qtbot, window):
    rng = np.random.default_rng(4)
    targets = [window.mood.pad, window.pose.pad, window.preview, *window.findChildren(type(window.pose.roll.slider()))]
    for _ in range(300):
        widget = targets[rng.integers(len(targets))]
        a, b = (QPointF(rng.uniform(0, widget.width()), rng.uniform(0, widget.height())) for _ in range(2))
        if rng.random() < 0.2:
            QTest.mouseDClick(widget, Qt.MouseButton.LeftButton, pos=a.toPoint())
        else:
            drag(widget, a, b)
        window.tabs.setCurrentIndex(int(rng.integers(3)))
    picture_after(qtbot, window, 5)
    assert window.bridge.report.alive


def test_controls_of_every_extreme_are_valid():
    from gui.state import RANGES

    for name, (low, high) in RANGES.items():
        for value in (low, high):
            controls_of(change(Intent(), **{name: value}))
    assert background_of(change(Intent(), background="image", image="/no/such.png")).kind == "colour"
    assert background_of(change(Intent(), background="transparent")).kind == "transparent"
    assert Path(SAMPLE).is_file()
