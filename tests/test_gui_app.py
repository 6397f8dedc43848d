"""The whole app as a process of its own: it comes up, hears knobs from outside, and leaves in order whatever is still busy."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("PyQt6", reason="the gui extra is not installed")
if sys.platform == "win32":
    pytest.skip("ends the app by a signal", allow_module_level=True)

from pythonosc.udp_client import SimpleUDPClient

PATIENCE_S = 180.0


def free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def taken(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        try:
            one.bind(("127.0.0.1", port))
        except OSError:
            return True
    return False


def test_it_leaves_in_order_while_the_first_check_is_running(tiny_pack: Path, tmp_path: Path) -> None:
    port, settings = free_port(), tmp_path / "settings.json"
    words = ["--avatar", str(tiny_pack), "--mic", "none", "--osc-port", str(port)]
    environment = {**os.environ, "QT_QPA_PLATFORM": "offscreen", "MOUTHPIECE_CONFIG": str(tmp_path)}
    app = subprocess.Popen(
        [sys.executable, "-m", "gui", *words],
        env=environment, cwd=Path(__file__).parents[1], stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        until_s = time.monotonic() + PATIENCE_S
        while not taken(port) and app.poll() is None and time.monotonic() < until_s:
            time.sleep(0.1)
        client = SimpleUDPClient("127.0.0.1", port)
        client.send_message("/mouthpiece/happy", 0.5)
        client._sock.close()
        time.sleep(3)  # the first page asks the doctor by now, on a thread that nobody waits for
        app.send_signal(signal.SIGTERM)
        _, complaints = app.communicate(timeout=PATIENCE_S)
    finally:
        app.kill()
    assert app.returncode == 0, complaints
    assert "Traceback" not in complaints
    kept = json.loads(settings.read_text())
    assert (kept["intent"]["happy"], kept["osc_port"], kept["first_run_done"]) == (0.5, port, False)
