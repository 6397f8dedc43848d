"""The voice, as late as the face: microphone sound to a named output, so that what a call hears and sees is in step.

Sound waits in a ring until the frame that belongs to it has been handed to the camera. The output device runs on a
clock of its own: a small error is eased away by playing a little faster or slower, a large one mended at once by a
pause or a cut.
"""

import time
from contextlib import suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.audio.portaudio import SoundDevice, quietly, sounddevice
from engine.audio.resample import Resampler
from engine.audio.ring import Ring
from engine.errors import AudioError

Samples = NDArray[np.float32]
RING_S, BLOCK_S = 4.0, 0.01
SMOOTHING_S = 0.5
LATENCY_S = 0.05  # of the output device: the face is later than this anyway, and a longer buffer does not crackle
EASE_S, JUMP_S = 0.006, 0.1  # errors of the delay that are eased away, and that are mended at once
EASE_SHARE = 0.004  # how much longer or shorter sound is made meanwhile: a fifteenth of a semitone
MOST_DELAY_S = 1.0


class Delay:
    """Holds sound back by `wanted_s` between a pusher and a puller on another clock. `push` on one thread, `pull` on
    another.
    """

    def __init__(self, rate: int) -> None:
        self.rate = rate
        self.wanted_s = 0.0
        self.underruns = 0
        self._ring = Ring(int(RING_S * rate))
        self._resampler = Resampler(rate, rate)
        self._held_s = 0.0
        self._primed = False

    @property
    def held_s(self) -> float:
        """How long after its capture a sample leaves, smoothed."""
        return self._held_s

    def push(self, samples: Samples, rate: int, late_s: float = 0.0) -> None:
        """Takes mono sound at `rate`, whose last sample was captured `late_s` ago. Pushing thread.

        Devices deliver in bursts; what counts is when a sample will be played after it was captured, not after it came.
        """
        if rate != self._resampler.in_rate:
            self._resampler = Resampler(rate, self.rate)
        sound = self._resampler.push(samples)
        wanted_s = min(MOST_DELAY_S, max(0.0, self.wanted_s))
        held_s = late_s + (self._ring.waiting_frames() + len(sound)) / self.rate
        weight = min(1.0, len(sound) / self.rate / SMOOTHING_S)
        self._held_s = held_s if not self._primed else (1 - weight) * self._held_s + weight * held_s
        error_s = self._held_s - wanted_s
        if not self._primed or error_s < -JUMP_S:
            pause = max(0, int((wanted_s - held_s) * self.rate))
            self._ring.write(np.zeros((pause, 1), np.float32))
            self._primed, self._held_s = True, max(held_s, wanted_s)
        elif error_s > JUMP_S:
            sound = sound[max(0, int((held_s - wanted_s) * self.rate)) :]
        elif abs(error_s) > EASE_S and len(sound) > 8:
            by = max(1, round(EASE_SHARE * len(sound)))
            sound = _stretched(sound, -by if error_s > 0 else by)
        self._ring.write(sound[:, None])

    def pull(self, out: Samples) -> None:
        """Fills `[n, 1]`, with silence where there is no sound. Pulling thread: no allocation."""
        if self._ring.read_into(out) < len(out) and self._primed:
            self.underruns += 1


def _stretched(sound: Samples, by: int) -> Samples:
    """The same sound in `by` samples more or fewer."""
    at = np.linspace(0, len(sound) - 1, len(sound) + by)
    return np.interp(at, np.arange(len(sound)), sound).astype(np.float32)


class Monitor:
    """An open output stream that plays the microphone `delay.wanted_s` late. Open and close on one thread; `push` on
    the inference thread.
    """

    def __init__(self, device: SoundDevice, latency_s: float = LATENCY_S) -> None:
        module = sounddevice()
        self.name = device.name
        self.delay = Delay(device.rate)
        self._mono = np.zeros((device.rate, 1), np.float32)
        self._called_s = time.perf_counter()
        with quietly():
            try:
                self._stream: Any = module.OutputStream(
                    device=device.index,
                    samplerate=device.rate,
                    channels=max(1, min(2, device.outputs)),
                    dtype="float32",
                    blocksize=int(device.rate * BLOCK_S),
                    latency=latency_s,
                    callback=self._play,
                )
                self._stream.start()
            except module.PortAudioError as error:
                raise AudioError(f"the output {device} cannot be opened ({str(error).splitlines()[0]})") from None

    def _play(self, out: Samples, frames: int, times: Any, status: Any) -> None:
        """PortAudio's thread: copies and counts, nothing else."""
        mono = self._mono[:frames]
        self.delay.pull(mono)
        out[:] = mono
        self._called_s = time.perf_counter()

    def set_delay(self, seconds: float) -> None:
        """How late the sound should leave this computer; the output device's own latency is part of it. Any thread."""
        self.delay.wanted_s = max(0.0, seconds - float(self._stream.latency))

    def push(self, samples: Samples, rate: int, late_s: float) -> None:
        """Takes mono sound whose last sample was captured `late_s` ago. Inference thread."""
        self.delay.push(samples, rate, late_s)

    def age_s(self, now_s: float) -> float:
        """Seconds since the output last asked for sound. Any thread."""
        return now_s - self._called_s

    def close(self) -> None:
        """Lets the device go, whatever state it is in."""
        module = sounddevice()
        with quietly():
            for end in (self._stream.abort, self._stream.close):
                with suppress(module.PortAudioError):
                    end()
