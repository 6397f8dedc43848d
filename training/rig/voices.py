"""Who speaks and how: the table of voices, and one voice changer that gives any of them another throat and a mood.

The voice changer is pitch-synchronous overlap-add (Moulines and Charpentier 1990, TD-PSOLA): grains of two periods
around pitch marks are laid down again at other distances. Formants move by resampling first. Times stretch evenly,
so phone times stay exact.
"""

from __future__ import annotations

import bisect
import math
from dataclasses import dataclass
from functools import cache, lru_cache

import numpy as np
import scipy.fft
from scipy.signal import lfilter, medfilt, resample_poly

from training.data.clip import RATE

HOP = 160  # pitch is tracked every 10 ms
WINDOW = 1024
F0_LOW, F0_HIGH = 65.0, 480.0


@dataclass(frozen=True)
class Voice:
    """One voice. formant and pitch are ratios to the engine's own (formant > 1: a smaller head)."""

    name: str
    engine: str  # recorded, flite, espeak, festival
    model: str  # the engine's name for it; for recorded speech the folder
    who: str  # woman, man, child
    formant: float = 1.0
    pitch: float = 1.0

    @property
    def real(self) -> bool:
        return self.engine == "recorded"


@dataclass(frozen=True)
class Manner:
    """How something is said. pitch, spread (of log pitch), rate: ratios; gain and tilt (above 1 kHz) in dB."""

    pitch: float = 1.0
    spread: float = 1.0
    rate: float = 1.0
    gain_db: float = 0.0
    tilt_db: float = 0.0
    tremor: float = 0.0  # share of pitch, at 7 Hz


# After the usual findings on vocal emotion (Scherer 2003; Juslin and Laukka 2003): arousal raises pitch, spread,
# rate, level and brightness; sadness lowers all of them; fear is high, fast, flat and shaky.
MANNERS = {
    "anger": Manner(1.12, 1.40, 1.10, 5.0, 5.0),
    "disgust": Manner(0.92, 0.90, 0.90, 0.0, -1.0),
    "fear": Manner(1.24, 0.75, 1.12, -2.0, 1.0, 0.025),
    "happy": Manner(1.16, 1.50, 1.04, 2.5, 2.0),
    "neutral": Manner(),
    "sad": Manner(0.90, 0.50, 0.86, -5.0, -5.0),
}
HELD_VOICE = "flite-awb"

_ESPEAK = """f1 en-US+f1 woman|f2 en-US+f2 woman|f3 en+f3 woman|f5 en-US+f5 woman|annie en-US+Annie woman
linda en-GB-x-rp+linda woman|m1 en-US+m1 man|m3 en+m3 man|m7 en-US+m7 man|scot en-GB-scotland+m2 man
nyc en-US-nyc+m5 man|rp en-GB-x-rp man|alex en-US+Alex man|michael en-US+michael man"""


def _table() -> dict[str, Voice]:
    voices = [Voice(f"flite-{m}", "flite", m, w) for m, w in (("slt", "woman"), ("rms", "man"), ("awb", "man"))]
    voices.append(Voice("flite-kal", "flite", "kal16", "man"))
    voices.append(Voice("flite-rms-young", "flite", "rms", "man", 1.06, 1.25))
    voices.append(Voice("flite-rms-woman", "flite", "rms", "woman", 1.16, 1.75))
    voices.append(Voice("flite-slt-man", "flite", "slt", "man", 0.85, 0.62))
    voices.append(Voice("flite-slt-child", "flite", "slt", "child", 1.16, 1.32))
    for row in _ESPEAK.replace("\n", "|").split("|"):
        name, model, who = row.split()
        voices.append(Voice(f"espeak-{name}", "espeak", f"gmw/{model}", who))
    voices.append(Voice("festival-slt", "festival", "cmu_us_slt_arctic_hts", "woman"))
    voices.append(Voice("festival-kal", "festival", "kal_diphone", "man"))
    voices.append(Voice("festival-ked", "festival", "ked_diphone", "man"))
    return {voice.name: voice for voice in voices}


SYNTHETIC = _table()


def recorded_who(median_hz: float) -> str:
    """Whoever was recorded at this pitch: woman or man."""
    return "woman" if median_hz > 155 else "man"


def throat_scale(median_hz: float) -> float:
    """What turns formants relative to a woman's recording into those relative to this one's: a man's throat is larger."""
    return 1.0 if recorded_who(median_hz) == "woman" else 1.17


def fitting(folder: str, median_hz: float, person_name: str, who: str, pitch_hz: float, seed: int) -> Voice:
    """The recorded voice of a folder, given a throat that fits a person: woman, man or child, and a mean pitch."""
    rng = np.random.default_rng([seed, 11])
    scale = throat_scale(median_hz)
    sizes = {"woman": (0.95, 1.06), "man": (0.82, 0.90), "child": (1.13, 1.20)}
    low, high = (size * scale for size in sizes[who])
    return in_throat(folder, median_hz, person_name, who, float(rng.uniform(low, high)), pitch_hz)


def in_throat(folder: str, median_hz: float, person_name: str, who: str, formant: float, pitch_hz: float) -> Voice:
    """The recorded voice of a folder with a person's formants and mean pitch."""
    return Voice(
        f"{folder}-{person_name.lower()}" + ("-child" if who == "child" else ""),
        "recorded",
        folder,
        who,
        formant,
        float(np.clip(pitch_hz / median_hz, 0.45, 2.0)),
    )


def as_recorded(folder: str, who: str) -> Voice:
    return Voice(folder, "recorded", folder, who)


def manner_of(emotion: str, intensity: float, rng: np.random.Generator) -> Manner:
    """The emotion's manner at `intensity` 0..1, with the small differences from one take to the next."""
    full = MANNERS[emotion]

    def ratio(value: float, scatter: float) -> float:
        return float(value**intensity * np.exp(rng.normal(0, scatter)))

    return Manner(
        pitch=ratio(full.pitch, 0.03),
        spread=ratio(full.spread, 0.10),
        rate=float(np.clip(ratio(full.rate, 0.06), 0.75, 1.3)),
        gain_db=full.gain_db * intensity + rng.normal(0, 2.0),
        tilt_db=full.tilt_db * intensity + rng.normal(0, 1.0),
        tremor=full.tremor * intensity,
    )


@cache
def _hann() -> np.ndarray:
    return np.hanning(WINDOW).astype(np.float32)


@cache
def _hann_acf() -> np.ndarray:
    acf = scipy.fft.irfft(np.abs(scipy.fft.rfft(_hann(), 2 * WINDOW)) ** 2)[:WINDOW]
    return np.maximum(acf / acf[0], 1e-3)


@lru_cache(maxsize=4096)
def _grain(rise: int, fall: int) -> np.ndarray:
    """A window that rises over `rise` samples and falls over `fall`."""
    ramp = np.concatenate([np.arange(rise) / max(rise, 1), 1 - np.arange(fall) / max(fall - 1, 1)])
    return 0.5 - 0.5 * np.cos(np.pi * ramp)


def track_pitch(audio: np.ndarray) -> np.ndarray:
    """[samples] -> fundamental in Hz every 10 ms, 0 where unvoiced: the peak of the normalised autocorrelation."""
    n = len(audio) // HOP + 1
    padded = np.pad(audio.astype(np.float32), (WINDOW // 2, WINDOW + HOP))
    blocks = np.lib.stride_tricks.sliding_window_view(padded, WINDOW)[::HOP][:n] * _hann()
    blocks = blocks - blocks.mean(1, keepdims=True)
    spectrum = scipy.fft.rfft(blocks, 2 * WINDOW)
    acf = scipy.fft.irfft(spectrum.real**2 + spectrum.imag**2)[:, :WINDOW]
    acf = acf / (acf[:, :1] + 1e-9) / _hann_acf()
    low, high = int(RATE / F0_HIGH), int(RATE / F0_LOW)
    lags = np.arange(low, high)
    region = acf[:, low:high] - 0.10 * np.log2(lags / low) / np.log2(high / low)  # the shorter of two equal periods
    best = region.argmax(1)
    strength = np.take_along_axis(acf[:, low:high], best[:, None], 1)[:, 0]
    level = np.sqrt((blocks**2).mean(1))
    voiced = (strength > 0.5) & (level > 0.04 * np.percentile(level, 95))
    f0 = np.where(voiced, RATE / lags[best], 0.0)
    return medfilt(f0, 5)


def _marks(audio: np.ndarray, f0: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pitch marks: sample positions and the local period in samples; every 10 ms where unvoiced."""
    smooth = lfilter([1], [1, -0.95], audio)
    positions, periods = [], []
    at = 0
    while at < len(audio):
        hz = f0[min(at // HOP, len(f0) - 1)]
        period = int(RATE / hz) if hz > 0 else HOP
        if hz > 0:  # onto the next peak of the smoothed wave
            a, b = max(at - period // 4, 0), min(at + period // 4 + 1, len(audio))
            at = a + int(np.argmax(smooth[a:b])) if b > a else at
        if not positions or at > positions[-1]:
            positions.append(at)
            periods.append(period)
        at = max(at, positions[-1]) + period
    return np.array(positions), np.array(periods)


def change(audio: np.ndarray, voice: Voice, manner: Manner) -> tuple[np.ndarray, float]:
    """Says `audio` with the voice's throat and in this manner.

    audio [samples] float32, 16 kHz. Returns the new samples and the factor by which every time in it grew.
    """
    if (voice.formant, voice.pitch, manner.pitch, manner.spread, manner.rate) == (1.0,) * 5:
        return np.asarray(audio, np.float32), 1.0  # as it was recorded
    audio = np.asarray(audio, np.float64)
    original = len(audio)
    formant = round(voice.formant * 50) / 50
    if formant != 1:
        audio = resample_poly(audio, 50, round(50 * formant))
    f0 = track_pitch(audio)
    stretch = original / len(audio) / manner.rate
    ratio = voice.pitch * manner.pitch / formant
    out = _overlap_add(audio, f0, stretch, ratio, manner)
    if manner.tilt_db:
        low = lfilter([0.28], [1, -0.72], out)  # one pole near 1 kHz
        out = low + (out - low) * 10 ** (manner.tilt_db / 20)
    return out.astype(np.float32), len(out) / original


def _overlap_add(audio, f0, stretch: float, ratio: float, manner: Manner) -> np.ndarray:
    positions, periods = _marks(audio, f0)
    voiced = f0[f0 > 0]
    centre = np.median(voiced) if len(voiced) else 150.0
    length = round(len(audio) * stretch)
    places = positions.tolist()
    out, norm = np.zeros(length + 2048), np.full(length + 2048, 1e-3)
    at = 0.0
    while at < length:
        source = at / stretch
        k = min(max(bisect.bisect_left(places, source), 1), len(places) - 1) if len(places) > 1 else 0
        if k and source - positions[k - 1] < positions[k] - source:
            k -= 1
        period = int(periods[k])
        hz = f0[min(int(source) // HOP, len(f0) - 1)]
        step = float(period)
        if hz > 0:
            wanted = hz * ratio * (hz / centre) ** (manner.spread - 1)
            wanted *= 1 + manner.tremor * math.sin(2 * math.pi * 7 * at / RATE)
            step = RATE / min(max(wanted, 55.0), 600.0)
        mark = int(positions[k])
        half = min(period, mark)
        a, b = mark - half, min(mark + period, len(audio))
        window = _grain(half, b - mark)
        start = round(at) - half
        if start >= 0:
            out[start : start + b - a] += audio[a:b] * window
            norm[start : start + b - a] += window
        at += step
    return (out / np.maximum(norm, 0.35))[:length]
