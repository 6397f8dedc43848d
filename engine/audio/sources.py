"""Where sound comes from: a microphone through PortAudio, or a file that plays in real time in its place."""

import time
from contextlib import suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.audio.capture import Batch
from engine.audio.portaudio import SoundDevice, quietly, sounddevice
from engine.audio.ring import Ring
from engine.errors import AudioError

Samples = NDArray[np.float32]
BLOCK_S = 0.01
RING_S = 4.0
MOST_CHANNELS = 2
HEARD_SHARE = 0.01  # a channel with less than this share of the loudest one's energy carries no voice


class Downmix:
    """Many channels to one: the mean of those that carry sound, so that a dead channel does not halve the voice."""

    def __init__(self, channels: int) -> None:
        self._energy = np.zeros(channels, np.float64)

    def mono(self, block: Samples) -> Samples:
        """`[n, channels] -> [n]`."""
        if block.shape[1] == 1 or not len(block):
            return block[:, 0]
        self._energy = 0.99 * self._energy + np.square(block, dtype=np.float64).sum(axis=0)
        heard = self._energy >= HEARD_SHARE * self._energy.max()
        mixed: Samples = block[:, heard].mean(axis=1, dtype=np.float32)
        # Some headsets send the second channel upside down, and the mean would cancel the voice.
        if np.square(mixed).sum() < 0.05 * np.square(block).sum(axis=0).max():
            return block[:, int(self._energy.argmax())]
        return mixed


class Microphone:
    """An open input stream at the device's own rate. Open and close on one thread; `read` on the inference thread."""

    def __init__(self, device: SoundDevice, latency: float | str = "low") -> None:
        module = sounddevice()
        self.name, self.rate, self.latency = device.name, device.rate, latency
        channels = max(1, min(MOST_CHANNELS, device.inputs))
        self._ring = Ring(int(RING_S * self.rate), channels)
        self._downmix = Downmix(channels)
        self._opened_s = time.perf_counter()
        self.flagged = 0
        with quietly():
            try:
                self._stream: Any = module.InputStream(
                    device=device.index, samplerate=self.rate, channels=channels, dtype="float32",
                    blocksize=int(self.rate * BLOCK_S), latency=latency, callback=self._hear,
                )  # fmt: skip
                self._stream.start()
            except module.PortAudioError as error:
                raise AudioError(
                    f"the microphone {device} cannot be opened ({_reason(error)}); is another program holding it?"
                ) from None

    def _hear(self, block: Samples, frames: int, times: Any, status: Any) -> None:
        """PortAudio's thread: copies and counts, nothing else."""
        if status:
            self.flagged += 1
        self._ring.write(block)

    def read(self, now_s: float) -> Batch:
        """Everything captured since the last call, as one channel. Inference thread."""
        stamp = self._ring.stamp()
        lost, block = self._ring.read(stamp.frames)
        return Batch(self._downmix.mono(block), stamp.at_s, lost)

    def age_s(self, now_s: float) -> float:
        """Seconds since the last callback, since opening if there was none. Any thread."""
        return now_s - max(self._opened_s, self._ring.stamp_s)

    @property
    def started(self) -> bool:
        """Whether a callback has come. Any thread."""
        return self._ring.callbacks > 0

    @property
    def latency_ms(self) -> float:
        """What the driver says lies between the air and our callback."""
        return 1000.0 * float(self._stream.latency)

    def close(self) -> None:
        """Lets the device go, whatever state it is in."""
        module = sounddevice()
        with quietly():
            for end in (self._stream.abort, self._stream.close):
                with suppress(module.PortAudioError):
                    end()


class FileMicrophone:
    """Samples that arrive in real time, block by block, as from a microphone; looped, or once. `ppm` makes its clock
    run fast.
    """

    def __init__(self, name: str, samples: Samples, rate: int, *, loop: bool = True, ppm: float = 0.0) -> None:
        if not len(samples):
            raise AudioError(f"{name} holds no sound; give a file with speech in it")
        self.name, self.rate, self.loop = name, rate, loop
        self._samples = np.asarray(samples, np.float32)
        self._block = int(rate * BLOCK_S)
        self._pace = rate * (1 + ppm * 1e-6)
        self._began_s: float | None = None
        self._given = 0

    def read(self, now_s: float) -> Batch:
        """The blocks that are due at `now_s`; the first call starts the file. Inference thread."""
        if self._began_s is None:
            self._began_s = now_s
        due = int((now_s - self._began_s) * self._pace) // self._block * self._block
        if not self.loop:
            due = min(due, len(self._samples))
        at = np.arange(self._given, due) % len(self._samples)
        self._given = due
        return Batch(self._samples[at], self._began_s + due / self._pace)

    @property
    def finished(self) -> bool:
        """Whether a file that plays once has been heard to its end. Any thread."""
        return not self.loop and self._given >= len(self._samples) // self._block * self._block

    def age_s(self, now_s: float) -> float:
        return 0.0

    def close(self) -> None:
        """Nothing to let go."""


def _reason(error: Exception) -> str:
    return str(error.args[0] if error.args else error).splitlines()[0]
