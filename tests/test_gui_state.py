"""The desktop app's model: pure, so tested without a screen."""

import math
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("platformdirs", reason="the gui extra is not installed")
pytest.importorskip("pythonosc", reason="the gui extra is not installed")

from gui import moods
from gui.inputs import midi_setting, osc_setting
from gui.settings import Preset, Settings, load, preset_from, save
from gui.state import EMOTIONS, MOODS, RANGES, Intent, Report, change, health_line, look_of, reset, resolve

RUNNING = Report(alive=True, mic_ok=True, mic_name="Desk mic", camera_ok=True, camera_name="OBS", fps=30.0, frames=900)


def test_change_clips_and_refuses():
    assert change(Intent(), yaw=90).yaw == 25.0
    assert change(Intent(), happy=-1).happy == 0.0
    with pytest.raises(ValueError, match="no such setting"):
        change(Intent(), hapy=1)
    with pytest.raises(ValueError, match="nan"):
        change(Intent(), yaw=math.nan)
    with pytest.raises(ValueError, match="gaze must be"):
        change(Intent(), gaze="sideways")


@given(st.lists(st.floats(0, 1), min_size=5, max_size=5), st.floats(0, 1))
def test_emotion_never_exceeds_its_strength(weights, intensity):
    intent = change(Intent(), **dict(zip(MOODS, weights)), intensity=intensity)
    emotion = intent.emotion()
    assert len(emotion) == len(EMOTIONS) == 6
    assert emotion[EMOTIONS.index("neutral")] == 0
    assert 0 <= sum(emotion) <= intensity + 1e-9


@given(st.floats(-1, 1), st.floats(-1, 1))
def test_mood_pad_goes_there_and_back(x, y):
    weights = moods.weights_at(x, y)
    assert sum(weights.values()) == pytest.approx(min(1.0, math.hypot(x, y)), abs=1e-6)
    px, py = moods.point_of(weights)
    radius = math.hypot(x, y)
    if radius > 1e-3:
        scale = min(1.0, radius) / radius
        assert (px, py) == pytest.approx((x * scale, y * scale), abs=1e-6)


def test_mood_pad_marks_are_pure():
    for mood in moods.RIM:
        weights = moods.weights_at(*moods.position(mood))
        assert weights[mood] == pytest.approx(1.0, abs=1e-6)


def test_view_tells_what_is_wrong():
    view = resolve(change(Intent(), on_air=True), RUNNING)
    assert view.live
    assert view.badge == "On air"
    assert view.notices == ()
    lost = resolve(Intent(), Report(alive=True, mic_ok=False, mic_name="Desk mic"))
    assert "Desk mic" in lost.notices[0]
    silent = Report(alive=True, mic_ok=True, mic_silent_s=9.0)
    assert any("silence" in line for line in resolve(Intent(), silent).notices)
    assert resolve(change(Intent(), muted=True), silent).notices == ()
    waiting = resolve(
        change(Intent(), on_air=True), Report(alive=True, mic_ok=True, camera_ok=False, camera_message="no driver")
    )
    assert not waiting.live
    assert "no driver" in waiting.notices[0]


def test_advice_is_such_that_the_window_can_follow():
    from gui.state import for_the_window

    advice = "close other programs, send fewer frames (--fps 15), or use a graphics card"
    assert for_the_window(advice) == "close other programs, or use a graphics card"
    assert for_the_window("plug one in; or use --mic FILE") == "plug one in"
    assert for_the_window("plug one in, or check the system") == "plug one in, or check the system"


def test_muted_view_shows_no_level():
    view = resolve(change(Intent(), muted=True), Report(alive=True, mic_ok=True, level=0.8, clipping=True))
    assert view.level == 0
    assert not view.clipping


def test_health_line_counts_late_share():
    assert "late 5.0 %" in health_line(Report(alive=True, frames=100, late=5))
    assert health_line(Report()) == "engine stopped"


def test_reset_restores_defaults():
    intent = change(Intent(), yaw=10, happy=0.5, zoom=1.5)
    assert reset(intent, "yaw", "zoom") == change(Intent(), happy=0.5)


def test_preset_keeps_the_look_and_leaves_devices():
    intent = change(Intent(), happy=0.7, yaw=8, mic="Desk mic", on_air=True)
    preset = preset_from(intent, "cheerful", "Ctrl+1")
    worn = preset.apply(change(Intent(), mic="Other mic"))
    assert (worn.happy, worn.yaw, worn.mic, worn.on_air) == (0.7, 8.0, "Other mic", False)
    assert set(preset.look) == set(look_of(intent))


def test_settings_survive_a_round_trip_and_damage(tmp_path):
    path = tmp_path / "deep" / "settings.json"
    settings, complaint = load(path)
    assert complaint == ""
    settings.remember(change(Intent(), happy=0.4, mic="Desk mic", on_air=True, muted=True))
    settings.presets = [Preset(name="calm", look={"happy": 0.1})]
    assert save(settings, path) == ""
    again, complaint = load(path)
    assert complaint == ""
    intent = again.restored_intent()
    assert (intent.happy, intent.mic, intent.on_air, intent.muted) == (0.4, "Desk mic", False, False)
    path.write_text("{ not json")
    fresh, complaint = load(path)
    assert fresh == Settings()
    assert "kept as" in complaint
    assert len(list(path.parent.glob("settings.damaged-*.json"))) == 1


def test_settings_with_nonsense_values_fall_back():
    settings = Settings(intent={"yaw": "left", "gaze": "nowhere", "happy": 0.3, "unknown": 1})
    assert settings.restored_intent() == change(Intent(), happy=0.3)


def test_unwritable_settings_are_reported(tmp_path):
    (tmp_path / "file").write_text("")
    assert "could not be saved" in save(Settings(), tmp_path / "file" / "settings.json")


def test_osc_messages():
    assert osc_setting("/mouthpiece/happy", (0.7,)) == ("happy", 0.7)
    assert osc_setting("/mouthpiece/muted", (1,)) == ("muted", True)
    assert osc_setting("/mouthpiece/preset", ("calm",)) == ("preset", "calm")
    for address, arguments in (
        ("/other/happy", (1.0,)),
        ("/mouthpiece/happy", ("much",)),
        ("/mouthpiece/happy", ()),
        ("/mouthpiece/on_air", (1,)),
        ("/mouthpiece/nothing", (1,)),
    ):
        assert osc_setting(address, arguments) is None


def test_midi_controllers_cover_the_range():
    mapping = {21: "yaw", 22: "person"}
    low, high = RANGES["yaw"]
    assert midi_setting([0xB0, 21, 0], mapping) == ("yaw", low)
    assert midi_setting([0xB3, 21, 127], mapping) == ("yaw", high)
    assert midi_setting([0x90, 21, 64], mapping) is None
    assert midi_setting([0xB0, 22, 64], mapping) is None
    assert midi_setting([0xB0, 99, 64], mapping) is None


def test_osc_server_hears_real_packets_on_loopback():
    import queue

    from pythonosc.udp_client import SimpleUDPClient

    from gui.inputs import OscInput

    heard: queue.Queue[tuple[str, object]] = queue.Queue()
    server = OscInput(lambda name, value: heard.put((name, value)), port=0)
    try:
        client = SimpleUDPClient("127.0.0.1", server.port)
        client.send_message("/mouthpiece/nonsense", 1)
        client.send_message("/mouthpiece/anger", 0.5)
        assert heard.get(timeout=5) == ("anger", 0.5)
        client._sock.close()
    finally:
        server.close()


def test_choices_are_the_names_that_the_engine_takes(tmp_path):
    from engine.devices import Listed
    from gui.choices import choices_of, plugged

    found = [
        Listed("microphone", "ALSA", "Desk", 48000, 1), Listed("output", "ALSA", "Desk", 48000, 2),
        Listed("camera", "/dev/video7", "Loop"),
    ]  # fmt: skip
    choices = choices_of(found)
    assert ("Desk  (ALSA)", "ALSA: Desk") in choices["mic"]
    assert ("Desk  (ALSA)", "ALSA: Desk") in choices["monitor"]
    assert ("Loop", "/dev/video7") in choices["camera"]
    assert choices["mic"][0][1] == ""
    assert choices["mic"][-1][1] == "none"
    before = plugged(tmp_path)
    (tmp_path / "snd").mkdir()
    (tmp_path / "snd/pcmC1D0c").touch()
    if sys.platform.startswith("linux"):
        assert plugged(tmp_path) != before
