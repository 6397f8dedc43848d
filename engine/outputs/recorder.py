"""Films of the avatar: H.264 and AAC in mp4, or pictures with alpha in mov (ProRes 4444) or webm (VP9), through PyAV.

A film is written beside its final name and takes it when it is whole. The mp4 is fragmented while it grows, so that
what was recorded before a full disk or a kill still plays, and becomes a plain mp4 at the end. Every film says in
its metadata that it is synthetic.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.error import FFmpegError
from numpy.typing import NDArray

from engine.errors import OutputError
from engine.manifest import FPS
from engine.outputs.pixels import bleed, to_yuv

Pixels = NDArray[np.uint8]
AAC_RATES = (16_000, 22_050, 24_000, 32_000, 44_100, 48_000)
ALPHA_KINDS = {
    ".mov": ("prores_aw", "yuva444p10le", {"profile": "4"}),
    ".webm": (
        "libvpx-vp9",
        "yuva420p",
        {"deadline": "realtime", "cpu-used": "8", "crf": "24", "b": "0", "row-mt": "1"},
    ),
}


@dataclass(frozen=True)
class FilmSpec:
    """What to record: `width` x `height` at 30 fps; sound of `audio_rate` Hz (0: none); `preset` is x264's, faster
    or smaller.
    """

    width: int
    height: int
    avatar: str
    audio_rate: int = 16_000
    audio_channels: int = 1
    preset: str = "superfast"
    crf: int = 18


def marks(avatar: str) -> dict[str, str]:
    """Metadata of every film: that no camera took it, who is shown and what made it."""
    text = f"synthetic: a generated talking avatar ({avatar}), not a recording of a person"
    return {
        "comment": text,
        "synthetic": "true",
        "avatar": avatar,
        "software": "Mouthpiece",
        "title": f"{avatar} (synthetic)",
    }


def reserve_partial(final: Path) -> Path:
    """Makes an empty file beside the final one, for what is not finished yet: two recordings never share one.

    Raises `OutputError` if the folder is missing or may not be written to.
    """
    if not final.parent.is_dir():
        raise OutputError(f"folder {final.parent} does not exist; make it first")
    for number in range(1, 10_000):
        name = final.with_name(f"{final.stem}.partial{'' if number == 1 else f'-{number}'}{final.suffix}")
        try:
            name.touch(exist_ok=False)
            return name
        except FileExistsError:
            continue
        except OSError as error:
            raise OutputError(f"{final} cannot be written ({error.strerror})") from None
    raise OutputError(f"{final.parent} is full of unfinished recordings of {final.name}; remove them")


class Recorder:
    """Writes one film; its suffix says which kind. One thread calls all methods. Errors are `OutputError`.

    After an error nothing stands under the final name, and `partial` holds what could be saved.
    """

    def __init__(self, path: str | Path, spec: FilmSpec) -> None:
        self.path, self.spec = Path(path), spec
        self.frames = 0
        self._finished = False
        self._alpha = ALPHA_KINDS.get(self.path.suffix.lower())
        if self._alpha is None and self.path.suffix.lower() != ".mp4":
            raise OutputError(f"{self.path.name}: expected .mp4, or .mov or .webm for pictures with alpha")
        if spec.width % 2 or spec.height % 2 or min(spec.width, spec.height) < 16:
            raise OutputError(
                f"a film of {spec.width}x{spec.height} is impossible; both sides must be even and at least 16"
            )
        self.partial = reserve_partial(self.path)
        # hybrid_fragmented: fragments while it grows, an ordinary index once it is closed. delay_moov: the first index knows the
        # codecs' delays, without which sound would come 64 ms late. Sound that fails to come must not hold up the pictures.
        options = {"max_interleave_delta": "1000000"}
        if self.path.suffix.lower() != ".webm":
            options["movflags"] = "hybrid_fragmented+delay_moov+use_metadata_tags"
        try:
            self._container: Any = av.open(str(self.partial), "w", container_options=options)
            self._container.metadata.update(marks(spec.avatar))
            self._video = self._add_video()
            self._audio = self._add_audio() if spec.audio_rate else None
        except (FFmpegError, OSError, ValueError) as error:
            self.partial.unlink(missing_ok=True)
            raise OutputError(f"{self.path} cannot be written ({_reason(error)})") from None
        self._samples = 0
        self._pending: NDArray[np.float32] = np.zeros((0, spec.audio_channels), np.float32)

    def _add_video(self) -> Any:
        codec, pixels, options = self._alpha or (
            "libx264",
            "yuv420p",
            {"preset": self.spec.preset, "crf": str(self.spec.crf)},
        )
        stream = self._container.add_stream(codec, rate=FPS, options=dict(options))
        stream.width, stream.height, stream.pix_fmt = self.spec.width, self.spec.height, pixels
        stream.codec_context.time_base = Fraction(1, FPS)
        if not self._alpha:
            stream.codec_context.gop_size = FPS  # a fragment a second: that much is lost at worst
            # OpenCV converts by BT.601; players guess by the size unless told.
            stream.codec_context.color_primaries = stream.codec_context.color_trc = stream.codec_context.colorspace = 6
            stream.codec_context.color_range = 1
        else:
            stream.codec_context.thread_type = "AUTO"
        return stream

    def _add_audio(self) -> Any:
        webm = self.path.suffix.lower() == ".webm"
        rate = 48_000 if webm else min(AAC_RATES, key=lambda known: (known < self.spec.audio_rate, known))
        rate = 48_000 if self.spec.audio_rate > 48_000 else rate
        stereo = self.spec.audio_channels > 1
        stream = self._container.add_stream(
            "libopus" if webm else "aac", rate=rate, layout="stereo" if stereo else "mono"
        )
        stream.codec_context.bit_rate = 128_000 if stereo else 96_000
        return stream

    def write_frame(self, picture: Pixels, index: int | None = None) -> None:
        """RGB [h, w, 3] for mp4, premultiplied RGBA [h, w, 4] for alpha.

        `index` counts at 30 fps and may leave frames out.
        """
        if picture.shape != (self.spec.height, self.spec.width, 4 if self._alpha else 3):
            raise OutputError(
                f"{self.path.name}: a frame of {picture.shape} does not fit {self.spec.width}x{self.spec.height}"
            )
        if self._alpha:
            self._write_video(av.VideoFrame.from_ndarray(bleed(picture), format="rgba"), index)
        else:
            self.write_yuv(to_yuv(picture), index)

    def write_yuv(self, picture: Pixels, index: int | None = None) -> None:
        """For mp4, a picture that `to_yuv` has already converted, in another thread perhaps."""
        self._write_video(av.VideoFrame.from_ndarray(picture, format="yuv420p"), index)

    def _write_video(self, frame: av.VideoFrame, index: int | None) -> None:
        frame.pts, frame.time_base = self.frames if index is None else index, Fraction(1, FPS)
        self.frames = int(frame.pts) + 1
        self._fill_sound()
        self._mux(self._video, frame)

    def write_audio(self, samples: NDArray[np.float32]) -> None:
        """The sound that follows: [n] or [n, channels] float32 in -1..1 at `audio_rate`."""
        if self._audio is None:
            return
        block = samples[:, None] if samples.ndim == 1 else samples
        if block.shape[1] != self.spec.audio_channels:
            raise OutputError(
                f"{self.path.name}: sound of {block.shape[1]} channels, expected {self.spec.audio_channels}"
            )
        self._pending = np.concatenate([self._pending, block])
        # PortAudio and files deliver small blocks; a fifth of a second at once is cheaper.
        if len(self._pending) >= self.spec.audio_rate // 5:
            self._flush_audio()

    def _fill_sound(self) -> None:
        """Silence for sound that is over a second behind the pictures: the file cannot grow while one of them is
        missing.
        """
        rate = self.spec.audio_rate
        behind = self.frames * rate // FPS - self._samples - len(self._pending) if self._audio is not None else 0
        if behind > rate:
            self.write_audio(np.zeros((behind, self.spec.audio_channels), np.float32))

    def _flush_audio(self) -> None:
        if self._audio is None or not len(self._pending):
            return
        stereo = self._pending[:, :2] if self.spec.audio_channels > 1 else self._pending
        layout = "stereo" if stereo.shape[1] == 2 else "mono"
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(stereo.T), format="fltp", layout=layout)
        frame.sample_rate, frame.pts, frame.time_base = (
            self.spec.audio_rate,
            self._samples,
            Fraction(1, self.spec.audio_rate),
        )
        self._samples += len(self._pending)
        self._pending = self._pending[:0]
        self._mux(self._audio, frame)

    def _mux(self, stream: Any, frame: Any) -> None:
        with self._told("writing"):
            self._container.mux(stream.encode(frame))

    @contextmanager
    def _told(self, doing: str) -> Iterator[None]:
        """Errors of FFmpeg and of the system become `OutputError`."""
        try:
            yield
        except (FFmpegError, OSError, ValueError) as error:
            reason = f"{doing} failed ({_reason(error)}); so far it is in {self.partial}"
            raise OutputError(f"{self.path.name}: {reason}") from None

    def finish(self) -> None:
        """Completes the film under its partial name; `close` then only gives it its own. A film without frames is an error."""
        if self._finished:
            return
        if self.frames == 0:
            self.abort()
            raise OutputError(f"{self.path.name}: nothing was recorded")
        self._flush_audio()
        for stream in filter(None, (self._video, self._audio)):
            self._mux(stream, None)
        self._finished = True
        with self._told("finishing"):
            self._container.close()

    def close(self) -> Path:
        """Finishes the film and gives it its name, which it returns."""
        self.finish()
        with self._told("naming"):
            os.replace(self.partial, self.path)
        return self.path

    def abort(self, keep: bool = False) -> None:
        """Gives up: the final name stays untouched, and what was written is removed unless `keep`."""
        with suppress(FFmpegError, OSError, ValueError):
            self._container.close()
        if not keep:
            self.partial.unlink(missing_ok=True)


def _reason(error: Exception) -> str:
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return str(text).splitlines()[0]
