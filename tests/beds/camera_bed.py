"""A real virtual camera, end to end: numbered frames go through our `VirtualCamera`, and ffmpeg reads them as a meeting
would.

    python tests/beds/camera_bed.py [--frames 300] [--fps 30] [--size 640x480] [--device /dev/video0]

Every frame carries its number as 16 black or white squares along the top, and four colours along the bottom. Prints one
line of JSON; the exit status is 1 if frames come out of order, if over 5% are missing, or if a colour is off by more
than 12 levels. The camera is opened twice, because v4l2loopback 0.12 fails the second time without `revive_loopback`.
See docs/testbeds.md.
"""

import argparse
import json
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))

from engine.outputs.virtual_camera import VirtualCamera, find_camera

BITS = 16
COLOURS = ((200, 40, 40), (40, 200, 40), (40, 40, 200), (128, 128, 128))


def numbered(number: int, width: int, height: int) -> np.ndarray:
    """RGB [h, w, 3] uint8 that says its number."""
    side = width // BITS
    picture = np.full((height, width, 3), 70, np.uint8)
    for bit in range(BITS):
        picture[:side, bit * side : (bit + 1) * side] = 255 if number >> bit & 1 else 0
    for place, colour in enumerate(COLOURS):
        picture[-height // 4 :, place * width // 4 : (place + 1) * width // 4] = colour
    return picture


def read_number(luma: np.ndarray) -> int | None:
    """The number of a luma plane [h, w], None if a square is neither black nor white."""
    side = luma.shape[1] // BITS
    quarter = side // 4
    squares = [
        luma[quarter : side - quarter, b * side + quarter : (b + 1) * side - quarter].mean() for b in range(BITS)
    ]
    if any(60 < value < 195 for value in squares):
        return None
    return sum(int(value > 128) << bit for bit, value in enumerate(squares))


def colour_error(frame: np.ndarray, width: int, height: int) -> float:
    """The largest difference of a patch's colour from what was sent; `frame` is I420, BT.601 limited range."""
    luma = frame[: width * height].reshape(height, width).astype(float)
    u, v = frame[width * height :].reshape(2, height // 2, width // 2).astype(float) - 128
    worst = 0.0
    for place, colour in enumerate(COLOURS):
        row, column = height - height // 8, (2 * place + 1) * width // 8
        y, cb, cr = 1.164 * (luma[row, column] - 16), u[row // 2, column // 2], v[row // 2, column // 2]
        seen = (y + 1.596 * cr, y - 0.392 * cb - 0.813 * cr, y + 2.017 * cb)
        worst = max(worst, *(abs(a - b) for a, b in zip(seen, colour)))
    return worst


class Reader(threading.Thread):
    """ffmpeg as the client: numbers, times and colours of what arrives."""

    def __init__(self, path: str, width: int, height: int) -> None:
        super().__init__(daemon=True)
        self.width, self.height = width, height
        self.numbers: list[int] = []
        self.at_s: list[float] = []
        self.unclear = 0
        self.worst_colour = 0.0
        self.seen = threading.Event()
        words = ["ffmpeg", "-loglevel", "error", "-f", "v4l2", "-i", path, "-f", "rawvideo", "-pix_fmt", "yuv420p", "-"]
        self.process = subprocess.Popen(words, stdout=subprocess.PIPE)

    def run(self) -> None:
        size = self.width * self.height * 3 // 2
        assert self.process.stdout is not None
        while len(data := self.process.stdout.read(size)) == size:
            frame = np.frombuffer(data, np.uint8)
            number = read_number(frame[: self.width * self.height].reshape(self.height, self.width))
            self.unclear += number is None
            if number == 0:
                self.seen.set()
            elif number is not None:
                self.numbers.append(number)
                self.at_s.append(time.perf_counter())
                if len(self.numbers) % 30 == 1:
                    self.worst_colour = max(self.worst_colour, colour_error(frame, self.width, self.height))

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()
        self.join(5)


def session(device: str, width: int, height: int, fps: int, frames: int) -> dict[str, object]:
    """Sends `frames` numbered frames on a steady grid to one reader."""
    found = find_camera(device)
    camera = VirtualCamera(found, width, height, fps)
    camera.send(numbered(0, width, height))  # a client sees the camera only once a frame has been written
    reader = Reader(found.path, width, height)
    reader.start()
    began_s, tick = time.perf_counter(), 0

    def send(number: int) -> None:
        nonlocal tick
        camera.send(numbered(number, width, height))
        tick += 1
        time.sleep(max(0.0, began_s + tick / fps - time.perf_counter()))

    while not reader.seen.is_set() and tick < 60 * fps:
        send(0)
    sent_from_s = time.perf_counter()
    for number in range(1, frames + 1):
        send(number)
    sent_fps = frames / (time.perf_counter() - sent_from_s)
    for _ in range(fps):
        send(0)
    reader.stop()
    camera.close()
    numbers = reader.numbers
    spent_s = reader.at_s[-1] - reader.at_s[0] if len(numbers) > 1 else 0.0
    return {
        "camera": str(found),
        "sent": frames,
        "sent_fps": round(sent_fps, 2),
        "received": len(numbers),
        "missing": frames - len(set(numbers)),
        "in_order": numbers == sorted(numbers),
        "received_fps": round((len(numbers) - 1) / spent_s, 2) if spent_s else 0.0,
        "unclear": reader.unclear,
        "colour_error": round(reader.worst_colour, 1),
        "ok": numbers == sorted(numbers) and frames - len(set(numbers)) <= 0.05 * frames and reader.worst_colour <= 12,
    }


def main() -> int:
    """Two sessions on one device."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--device", default="")
    words.add_argument("--size", default="640x480")
    words.add_argument("--fps", type=int, default=30)
    words.add_argument("--frames", type=int, default=300)
    asked = words.parse_args()
    width, height = map(int, asked.size.split("x"))
    results = [session(asked.device, width, height, asked.fps, asked.frames) for _ in range(2)]
    print(json.dumps(results))
    return 0 if all(result["ok"] for result in results) else 1


if __name__ == "__main__":
    sys.exit(main())
