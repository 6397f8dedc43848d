"""The doctor looks at every part, says how to mend what is missing, and tells by its exit status."""

import json
import shutil
from pathlib import Path

import pytest

from engine import doctor
from engine.errors import BackendError, OutputError


@pytest.fixture
def healthy(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with all devices; back ends and avatar are this machine's own."""
    from test_devices import Listing

    from engine.audio import portaudio

    listing = Listing()
    monkeypatch.setattr(portaudio, "sounddevice", lambda: listing)
    monkeypatch.setattr(doctor, "find_camera", lambda name: "Mouthpiece (/dev/video4)")
    monkeypatch.setattr(doctor.importlib.metadata, "version", lambda name: "1.0")
    monkeypatch.setattr(doctor, "has_display", lambda: True)
    monkeypatch.setattr(doctor, "FRAME_MS", 1e6)  # how fast this machine is must not decide a test
    monkeypatch.setattr(doctor, "SPEED_SECONDS", 1)


@pytest.mark.usefixtures("healthy")
def test_a_healthy_machine_passes(tiny_rgba_pack: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert doctor.command(tiny_rgba_pack, as_json=True) == 0
    checks = json.loads(capsys.readouterr().out)
    parts = [check["part"] for check in checks]
    for part in ("python", "sound", "microphone", "output", "virtual camera", "display", "avatar", "speed"):
        assert part in parts
    assert any(part.startswith("back end") for part in parts)
    assert "HD Webcam" in next(check["found"] for check in checks if check["part"] == "microphone")
    assert "ms a frame" in next(check["found"] for check in checks if check["part"] == "speed")


@pytest.mark.usefixtures("healthy")
def test_a_tampered_avatar_is_found(tiny_rgba_pack: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pack = tmp_path / "bad.avatar"
    shutil.copytree(tiny_rgba_pack, pack)
    file = pack / "frame_decoder.onnx"
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    assert doctor.command(pack) == 1
    said = capsys.readouterr().out
    assert "digest" in said
    assert "fetch the pack again" in said
    assert "speed" not in said, "an avatar that does not verify is not run"


@pytest.mark.usefixtures("healthy")
def test_what_is_missing_is_mended_in_words(
    tiny_rgba_pack: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def no_camera(name: str) -> None:
        raise OutputError("no virtual camera found: load the module; or use --camera none")

    monkeypatch.setattr(doctor, "find_camera", no_camera)
    monkeypatch.setattr(doctor, "has_display", lambda: False)
    assert doctor.command(tiny_rgba_pack) == 1
    lines = capsys.readouterr().out.splitlines()
    at = next(n for n, line in enumerate(lines) if "virtual camera" in line)
    assert lines[at].startswith("mend")
    assert lines[at + 1].strip() == "-> load the module; or use --camera none"
    assert any(line.startswith("mend display") for line in lines)


@pytest.mark.usefixtures("healthy")
def test_a_machine_without_back_ends_is_told_and_not_timed(
    tiny_rgba_pack: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def none(name: str) -> None:
        raise BackendError(f"{name} is not installed")

    monkeypatch.setattr(doctor, "open_backend", none)
    assert doctor.command(tiny_rgba_pack) == 1
    said = capsys.readouterr().out
    assert "pip install" in said
    assert "speed" not in said


@pytest.mark.usefixtures("healthy")
def test_a_slow_machine_is_told(
    tiny_rgba_pack: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(doctor, "FRAME_MS", 1e-6)
    assert doctor.command(tiny_rgba_pack) == 1
    assert "close other programs" in capsys.readouterr().out
