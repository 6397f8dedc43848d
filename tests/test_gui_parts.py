"""The parts of the app by themselves, without an engine: sliders, lists, pads, and the pages that are opened from the menu."""

import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
pytest.importorskip("PyQt6", reason="the gui extra is not installed")
pytest.importorskip("pytestqt", reason="the dev extra is not installed")

from PyQt6.QtCore import QPoint, QPointF, Qt
from PyQt6.QtGui import QWheelEvent
from PyQt6.QtTest import QTest
from PyQt6.QtWidgets import QApplication, QLabel, QMessageBox, QPushButton, QWidget

from gui import messages, moods, theme
from gui.guide import GuidePage, prepare_command, training_commands
from gui.health import HealthWindow, series
from gui.journal import Journal
from gui.meter import LevelMeter
from gui.pad import Pad
from gui.state import Report
from gui.widgets import Choice, Dial

PATIENCE_MS = 60_000


def wheel(widget: QWidget, turn: int) -> None:
    event = QWheelEvent(
        QPointF(5, 5), QPointF(5, 5), QPoint(), QPoint(0, turn), Qt.MouseButton.NoButton,
        Qt.KeyboardModifier.NoModifier, Qt.ScrollPhase.NoScrollPhase, False,
    )  # fmt: skip
    QApplication.sendEvent(widget, event)


@pytest.fixture
def dial(qtbot: Any) -> Dial:
    made = Dial("Tilt", -15.0, 15.0, 0.0, lambda v: f"{v:.0f}")
    qtbot.addWidget(made)
    made.show()
    return made


def test_a_dial_is_set_back_by_double_click_and_by_delete(qtbot: Any, dial: Dial) -> None:
    for deed in (
        lambda: QTest.mouseDClick(dial.slider(), Qt.MouseButton.LeftButton),
        lambda: QTest.keyClick(dial.slider(), Qt.Key.Key_Delete),
        lambda: QTest.keyClick(dial.slider(), Qt.Key.Key_Backspace),
    ):
        dial.slider().setValue(900)
        with qtbot.waitSignal(dial.changed) as changed:
            deed()
        assert changed.args == [0.0]
        assert dial.value() == pytest.approx(0.0, abs=0.02)
    QTest.keyClick(dial.slider(), Qt.Key.Key_Right)
    assert dial.value() > 0.3
    assert dial.slider().accessibleDescription() == "1"


def test_scrolling_over_sliders_and_lists_changes_nothing_by_accident(qtbot: Any, dial: Dial) -> None:
    choice = Choice("Gaze")
    choice.addItems(["one", "two", "three"])
    choice.setCurrentIndex(1)
    qtbot.addWidget(choice)
    dial.slider().setValue(500)
    dial.slider().clearFocus()
    for widget in (dial.slider(), choice):
        wheel(widget, -240)
    assert (dial.slider().value(), choice.currentIndex()) == (500, 1)
    dial.activateWindow()
    dial.slider().setFocus()
    qtbot.waitUntil(dial.slider().hasFocus, timeout=PATIENCE_MS)
    wheel(dial.slider(), 240)
    assert dial.slider().value() > 500


def test_a_long_name_is_shortened_with_an_ellipsis_and_told_in_full(qtbot: Any) -> None:
    choice = Choice("Microphone")
    choice.addItem("A microphone whose maker thought that a name should say everything (ALSA)")
    qtbot.addWidget(choice)
    choice.resize(160, 30)
    before = choice.grab().toImage()
    assert choice.toolTip() == choice.currentText()
    choice.setItemText(0, choice.currentText() + " and more")
    assert choice.grab().toImage() == before  # what is beyond the edge is not seen


def test_words_of_the_mood_pad_stand_clear_of_its_rim_and_inside_it(qtbot: Any) -> None:
    pad = Pad("Mood pad", {mood: moods.position(mood) for mood in moods.RIM}, round_pad=True)
    qtbot.addWidget(pad)
    pad.resize(330, 186)
    rim, metrics = pad._field(), pad.fontMetrics()
    for mood in moods.RIM:
        width = metrics.horizontalAdvance(mood.capitalize())
        box = pad._beside(*moods.position(mood), width)
        left, right = box.center().x() - width / 2, box.center().x() + width / 2
        top, bottom = box.center().y() - metrics.ascent() / 2, box.center().y() + metrics.ascent() / 2
        x = min(max(rim.center().x(), left), right) - rim.center().x()
        y = min(max(rim.center().y(), top), bottom) - rim.center().y()
        assert (x * x + y * y) ** 0.5 >= rim.width() / 2 - 1, mood
        assert left >= 0
        assert right <= pad.width()
        assert top >= 0
        assert bottom <= pad.height()


def test_what_clips_shows_long_enough_to_be_seen(qtbot: Any) -> None:
    meter = LevelMeter()
    qtbot.addWidget(meter)
    meter.show_level(1.0, True, False)
    meter.show_level(0.5, False, False)
    assert meter.accessibleDescription() == "too loud"
    meter.show_level(0.5, False, True)
    assert meter.accessibleDescription() == "muted"


def test_the_guides_commands_are_those_that_the_stages_take() -> None:
    pytest.importorskip("torch", reason="training needs the extra train")
    commands = [prepare_command("my videos", "my videos-prepared"), *training_commands("my videos")]
    for words in commands:
        assert words[1] == "-m"
        asked = subprocess.run(
            [sys.executable, "-m", words[2], "--help"], capture_output=True, encoding="utf-8", check=True, timeout=300
        )
        flags = {word for word in words if word.startswith("-") and word != "-m"}
        said = set(asked.stdout.replace(",", " ").split())
        assert flags <= said, words[2]


def test_the_guide_runs_the_preparation_and_shows_what_it_says(qtbot: Any, tmp_path: Path) -> None:
    pytest.importorskip("cv2", reason="the preparation needs it")
    page = GuidePage()
    qtbot.addWidget(page)
    page.show()
    page.go.click()
    assert "choose the one with your videos" in page.log.toPlainText()
    empty = tmp_path / "no videos"
    empty.mkdir()
    page.source.setText(str(empty))
    assert shlex.join(training_commands(str(empty))[0]) in page.commands.toPlainText()
    page._copy()
    board = QApplication.clipboard()
    assert board is not None
    assert board.text().count("\n") == len(training_commands("x"))
    page.go.click()
    assert page.go.text() == "Stop"
    qtbot.waitUntil(lambda: "Ended with status" in page.log.toPlainText(), timeout=PATIENCE_MS)
    assert page.go.text() == "Prepare"
    assert "Traceback" not in page.log.toPlainText()
    assert str(empty) in page.log.toPlainText()


def test_health_plots_what_came_and_its_log_can_be_saved(qtbot: Any, tmp_path: Path) -> None:
    journal = Journal()
    journal.note("microphone lost: Desk mic")
    for late in (0, 0, 3, 3, 5):
        journal.record(Report(alive=True, fps=30.0, late=late, latency_p50_ms=120.0, latency_p95_ms=150.0))
    assert series(list(journal.figures), "late") == [0, 0, 3, 0, 2]
    window = HealthWindow(journal, "1.2.3", theme.DARK)
    qtbot.addWidget(window)
    assert list(window._curves["latency_p95_ms"].getData()[1]) == [150.0] * 5
    assert window.write(str(tmp_path / "log.txt")) == ""
    assert "microphone lost: Desk mic" in (tmp_path / "log.txt").read_text()
    assert "could not be saved" in window.write(str(tmp_path / "nowhere" / "log.txt"))


def test_a_dead_engine_offers_to_start_again_in_words_that_need_no_title(qtbot: Any) -> None:
    parent, pressed = QWidget(), list[str]()
    qtbot.addWidget(parent)
    parent.show()
    messages.engine_stopped(parent, "inference: no more memory", lambda: pressed.append("again"), lambda: None)
    box = parent.findChild(QMessageBox)
    assert box is not None
    assert not box.isModal()
    words = " ".join(label.text() for label in box.findChildren(QLabel))
    assert "The engine stopped" in words
    assert "no more memory" in words
    next(button for button in box.findChildren(QPushButton) if button.text() == "Start again").click()
    assert pressed == ["again"]


def luminance(colour: str) -> float:
    """Relative luminance as the web's accessibility guidelines define it."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("colours", [theme.LIGHT, theme.DARK], ids=["light", "dark"])
def test_words_stand_out_from_what_is_behind_them(colours: theme.Colours) -> None:
    c = colours
    pairs = [(word, ground) for word in (c.text, c.quiet) for ground in (c.window, c.panel, c.field)]
    pairs += [
        (c.on_accent, c.accent),
        (c.on_alert, c.alert),
        (c.alert, c.panel),
        (c.alert, c.window),
        (c.good, c.window),
    ]
    for word, ground in pairs:
        dark, light = sorted((luminance(word), luminance(ground)))
        assert (light + 0.05) / (dark + 0.05) >= 4.5, (word, ground)
