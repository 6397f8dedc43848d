"""A real virtual camera, end to end: numbered frames go through our `VirtualCamera`, and ffmpeg reads them as a meeting
would.

    python tests/beds/camera_bed.py [--frames 300] [--fps 30] [--size 640x480] [--device /dev/video0]

Every frame carries its number as 16 black or white squares along the top, and four colours along the bottom. Prints one
line of JSON; the exit status is 1 if frames come out of order, if over 5% are missing, or if a colour is off by more
than 12 levels. The camera is opened twice, because v4l2loopback 0.12 fails the second time without `revive_loopback`.
See docs/testbeds.md.
"""

import argparse
import io
import json
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))

from engine.outputs.virtual_camera import VirtualCamera, find_camera

BITS = 16
COLOURS = ((200, 40, 40), (40, 200, 40), (40, 40, 200), (128, 128, 128))


def ground(width: int, height: int) -> np.ndarray:
    """What all frames share: RGB [h, w, 3] uint8, grey with four colours along the bottom."""
    picture = np.full((height, width, 3), 70, np.uint8)
    for place, colour in enumerate(COLOURS):
        picture[-height // 4 :, place * width // 4 : (place + 1) * width // 4] = colour
    return picture


def write_number(picture: np.ndarray, number: int) -> None:
    """Puts the number's squares along the top, in place."""
    side = picture.shape[1] // BITS
    for bit in range(BITS):
        picture[:side, bit * side : (bit + 1) * side] = 255 if number >> bit & 1 else 0


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


def produce(device: str, width: int, height: int, fps: int, frames: int) -> None:
    """The sending half, a process of its own: number 0 until stdin ends, then 1, 2, 3 ..., then 0 for a second."""
    found = find_camera(device)
    camera = VirtualCamera(found, width, height, fps)
    picture = ground(width, height)
    began_s, tick = time.perf_counter(), 0

    def send(number: int) -> None:
        nonlocal tick
        write_number(picture, number)
        camera.send(picture)
        tick += 1
        time.sleep(max(0.0, began_s + tick / fps - time.perf_counter()))

    send(0)  # a client sees the camera only once a frame has been written
    print(found.path, flush=True)
    while not select.select([sys.stdin], [], [], 0)[0]:
        send(0)
    began_s, tick = time.perf_counter(), 0
    for number in range(1, frames + 1):
        send(number)
    spent_s = time.perf_counter() - began_s
    for _ in range(fps):
        send(0)
    camera.close()
    print(json.dumps({"camera": str(found), "sent": frames, "sent_fps": round(frames / spent_s, 2)}), flush=True)


def session(device: str, width: int, height: int, fps: int, frames: int) -> dict[str, object]:
    """One producer, one reader; what arrived beside what was sent."""
    words = [sys.executable, __file__, "--produce", "--device", device, "--size", f"{width}x{height}"]
    words += ["--fps", str(fps), "--frames", str(frames)]
    producer = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert producer.stdin is not None
    assert producer.stdout is not None
    path = producer.stdout.readline().strip()
    if not path:
        return {"ok": False, "reason": "the producer did not open the camera"}
    words = ["ffmpeg", "-loglevel", "error", "-f", "v4l2", "-i", path, "-f", "rawvideo", "-pix_fmt", "yuv420p", "-"]
    client = subprocess.Popen(words, stdout=subprocess.PIPE, bufsize=0)
    numbers, at_s, unclear, worst = [], [], 0, 0.0
    for frame in whole_frames(client, width * height * 3 // 2):
        number = read_number(frame[: width * height].reshape(height, width))
        unclear += number is None
        if number == 0 and numbers:
            break
        if number == 0:
            producer.stdin.close()  # the reader sees: go
        elif number is not None:
            numbers.append(number)
            at_s.append(time.perf_counter())
            if len(numbers) == 1:
                worst = colour_error(frame, width, height)
    client.kill()
    client.wait()
    sent = json.loads(producer.stdout.read() or "{}")
    producer.wait()
    spent_s = at_s[-1] - at_s[0] if len(numbers) > 1 else 0.0
    missing, in_order = frames - len(set(numbers)), numbers == sorted(numbers)
    return sent | {
        "received": len(numbers),
        "missing": missing,
        "duplicates": len(numbers) - len(set(numbers)),
        "in_order": in_order,
        "received_fps": round((len(numbers) - 1) / spent_s, 2) if spent_s else 0.0,
        "unclear": unclear,
        "colour_error": round(worst, 1),
        "ok": in_order and missing <= 0.05 * frames and worst <= 12 and not unclear,
    }


def whole_frames(client: "subprocess.Popen[bytes]", size: int) -> Iterator[np.ndarray]:
    """I420 frames from the client's output until it ends."""
    assert client.stdout is not None
    stream = io.BufferedReader(client.stdout, size)  # type: ignore[type-var]
    while len(data := stream.read(size)) == size:
        yield np.frombuffer(data, np.uint8)


def main() -> int:
    """Two sessions on one device."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--device", default="")
    words.add_argument("--size", default="640x480")
    words.add_argument("--fps", type=int, default=30)
    words.add_argument("--frames", type=int, default=300)
    words.add_argument("--produce", action="store_true", help="only the sending half")
    asked = words.parse_args()
    width, height = map(int, asked.size.split("x"))
    if asked.produce:
        produce(asked.device, width, height, asked.fps, asked.frames)
        return 0
    results = [session(asked.device, width, height, asked.fps, asked.frames) for _ in range(2)]
    print(json.dumps(results))
    return 0 if all(result["ok"] for result in results) else 1


if __name__ == "__main__":
    sys.exit(main())
