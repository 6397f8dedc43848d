"""The bundled faces in the app: what the knobs ask for is what the camera's picture shows, in pixels, held against the rig."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
pytest.importorskip("PyQt6", reason="the gui extra is not installed")
pytest.importorskip("pytestqt", reason="the dev extra is not installed")

from engine import default_avatar, open_avatar
from gui.bridge import Bridge
from gui.settings import Settings
from gui.window import Window
from training.rig.expressions import emotion_expression
from training.rig.pack import HeadPackError, load_pack
from training.rig.person import SHIPPED_CAST
from training.rig.renderer import Renderer

PATIENCE_MS = 180_000
SIDE = 720  # of the bust in the camera's picture, which is as high as that
NOSE, RIGHT_CORNER, LEFT_CORNER = 30, 48, 54  # right and left as the subject has them
Pixels = NDArray[np.uint8]


@pytest.fixture(scope="module")
def rig() -> Renderer:
    try:
        pack = load_pack()
    except HeadPackError as error:
        pytest.skip(str(error))
    made = Renderer(SIDE, pack=pack)
    made.set_person(SHIPPED_CAST[0])
    return made


@pytest.fixture
def window(qtbot: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Window]:
    monkeypatch.setenv("MOUTHPIECE_CONFIG", str(tmp_path))
    still = {"mic": "none", "idle": 0.0, "blink_per_minute": 0.0, "person": SHIPPED_CAST[0].name}
    made = Window(Bridge(Settings(intent=still)))
    made.show()
    made.bridge.open(open_avatar(default_avatar()))
    qtbot.waitUntil(lambda: made.preview.painted > 0 and made.bridge.report.alive, timeout=PATIENCE_MS)
    yield made
    made.close()


def settled(qtbot: Any, window: Window) -> Pixels:
    """The bust's square of the camera's picture once it stands still."""
    before = [np.zeros(1)]

    def still() -> bool:
        now = window.preview.picture().astype(np.int16)
        changed = now.shape != before[0].shape or np.abs(now - before[0]).max() > 3
        before[0] = now
        return not changed

    wanted = window.preview.painted + 45
    qtbot.waitUntil(lambda: window.preview.painted >= wanted and still(), timeout=PATIENCE_MS)
    picture = window.preview.picture()
    left = (picture.shape[1] - SIDE) // 2
    return np.ascontiguousarray(picture[:, left : left + SIDE])


def found(part: NDArray[Any], inside: Pixels, near: NDArray[Any], reach: int) -> NDArray[Any]:
    """Where the middle of `part` is in the picture, within `reach` pixels of `near`."""
    half = part.shape[0] // 2
    x, y = (int(v) for v in np.round(near))
    field = inside[y - reach - half : y + reach + half, x - reach - half : x + reach + half]
    _, _, _, at = cv2.minMaxLoc(cv2.matchTemplate(field, np.ascontiguousarray(part), cv2.TM_CCOEFF_NORMED))
    return np.array([x - reach + at[0], y - reach + at[1]])


def around(picture: Pixels, at: NDArray[Any], half: int) -> Pixels:
    x, y = (int(v) for v in np.round(at))
    return picture[y - half : y + half, x - half : x + half]


@pytest.mark.parametrize("yaw", [20.0, -20.0])
def test_the_nose_turns_as_far_as_was_asked(qtbot: Any, window: Window, rig: Renderer, yaw: float) -> None:
    rest, moved = emotion_expression("neutral"), []
    for angle in (0.0, yaw):
        window.bridge.act({"yaw": angle})
        pose = (np.radians(angle), 0.0, 0.0)
        there = rig.landmarks_for(rest, pose=pose)[NOSE]
        nose = around(np.ascontiguousarray(rig.render(rest, pose=pose)[..., :3]), there, 40)
        moved.append((found(nose, settled(qtbot, window), there, 60), there))
    (start, start_rig), (end, end_rig) = moved
    wanted = end_rig - start_rig
    assert abs(wanted[0]) > 40
    assert np.abs((end - start) - wanted).max() < 0.1 * abs(wanted[0])


def test_happy_widens_the_mouth_as_far_as_the_rigs(qtbot: Any, window: Window, rig: Renderer) -> None:
    widths: dict[str, tuple[float, float]] = {}
    for mood in ("neutral", "happy"):
        window.bridge.act({"happy": float(mood == "happy")})
        weights = emotion_expression(mood)
        drawn, shown = np.ascontiguousarray(rig.render(weights)[..., :3]), settled(qtbot, window)
        there = rig.landmarks_for(weights)
        right, left = (found(around(drawn, there[i], 22), shown, there[i], 30) for i in (RIGHT_CORNER, LEFT_CORNER))
        widths[mood] = (
            float(np.linalg.norm(left - right)),
            float(np.linalg.norm(there[LEFT_CORNER] - there[RIGHT_CORNER])),
        )
    grown, wanted = (widths["happy"][k] / widths["neutral"][k] for k in (0, 1))
    assert wanted > 1.1
    assert grown == pytest.approx(wanted, abs=0.4 * (wanted - 1))
