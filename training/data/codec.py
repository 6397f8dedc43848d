"""Speech through the codecs of calls and podcasts, brought back in step with the original to the sample."""

from __future__ import annotations

import io
from typing import Literal

import av
import numpy as np
import soxr
from scipy import signal

from training.data.sound import RATE, Samples

Codec = Literal["opus", "mp3"]
_FORMATS = {"opus": ("ogg", "libopus", 16000), "mp3": ("mp3", "libmp3lame", 16000)}
MOST_DELAY = 4000
"""Samples by which a codec may be late; longer than any priming."""


def recode(samples: Samples, codec: Codec, kilobits: int) -> Samples:
    """`[n]` float32 at 16 kHz, encoded, decoded and shifted back by the codec's own delay (found by correlation)."""
    container_format, encoder, rate = _FORMATS[codec]
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=container_format) as container:
        stream = container.add_stream(encoder, rate=rate, layout="mono")
        stream.bit_rate = 1000 * kilobits
        stream.codec_context.format = stream.codec_context.codec.audio_formats[0].name
        resampler = av.AudioResampler(
            stream.codec_context.format.name, "mono", rate, frame_size=stream.frame_size or 1152
        )
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples[None], np.float32), format="flt", layout="mono")
        frame.sample_rate = RATE
        for block in [*resampler.resample(frame), *resampler.resample(None)]:
            container.mux(stream.encode(block))
        container.mux(stream.encode(None))
    buffer.seek(0)
    blocks = []
    with av.open(buffer) as container:
        decoded_rate = container.streams.audio[0].rate
        back = av.AudioResampler("flt", "mono", decoded_rate)
        for decoded in container.decode(audio=0):
            blocks += [block.to_ndarray()[0] for block in back.resample(decoded)]
    heard = np.concatenate(blocks)
    heard = soxr.resample(heard, decoded_rate, RATE) if decoded_rate != RATE else heard
    return _in_step(samples, heard.astype(np.float32))


def _in_step(samples: Samples, heard: Samples) -> Samples:
    n = len(samples)
    heard = np.pad(heard, (MOST_DELAY, max(0, n + 2 * MOST_DELAY - len(heard))))
    # valid lags: heard may be early or late by MOST_DELAY
    scores = signal.correlate(heard[: n + 2 * MOST_DELAY], samples, "valid", method="fft")
    start = int(np.argmax(scores))
    return heard[start : start + n]
