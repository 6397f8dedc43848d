"""One recording -> clips: follow the face, cut scenes, read them, align the transcript, write. Never fails for a file."""

from __future__ import annotations

import errno
from pathlib import Path

import av

from training.data.clip import ClipError, Phone
from training.data.cutting import write_take
from training.data.landmarks import FaceLandmarker
from training.data.record import ClipNote, Outcome
from training.data.recording import Recording
from training.data.segments import stretches
from training.data.take import Settings, Sound, Take, Unusable
from training.data.track import follow
from training.data.video import CUT_SHORT, VideoError, VideoInfo, pictures, probe

LONGEST_ALIGNED_S = 60.0
FULL_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def ingest(recording: Recording, root: Path, settings: Settings, landmarker: FaceLandmarker, stamp: str) -> Outcome:
    """Writes the recording's clips below `root` and says what became of it.

    Raises LandmarkError (the worker died) and KeyboardInterrupt, nothing for a bad file.
    """
    known = {"id": recording.id, "video": str(recording.video), "stamp": stamp, "person": recording.person}
    known |= {"emotion": recording.emotion, "split": recording.split}
    try:
        info = probe(recording.video)
        turned = f", turned {info.rotation_deg}" if info.rotation_deg else ""
        known["picture"] = f"{info.codec} {info.width}x{info.height} {info.rate:.2f} fps{turned}"
        notes, dropped = _clips_of(recording, info, root, settings, landmarker)
        return Outcome(**known, state="clips", notes=notes, dropped=dropped)
    except (Unusable, VideoError) as error:
        return Outcome(**known, state="rejected", reason=str(error))
    except (ClipError, OSError, av.error.FFmpegError, MemoryError) as error:
        return Outcome(**known, state="failed", reason=_plainly(error))


def _plainly(error: BaseException) -> str:
    words = ("No space left", "too large", "disk is full")
    if getattr(error, "errno", None) in FULL_DISK or any(w in str(error) for w in words):
        return "the disk is full; free some space and run the same command again"
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def _clips_of(
    recording: Recording, info: VideoInfo, root: Path, settings: Settings, landmarker: FaceLandmarker
) -> tuple[list[ClipNote], list[str]]:
    """The clips written, and why some scenes gave none. Raises Unusable when none did."""
    Sound.of(recording, info, 0.0)  # before the long work
    track = follow(pictures(recording.video, recording.start_s, recording.end_s), landmarker)
    if not len(track.times):
        raise Unusable("no picture can be decoded")
    reached, length = track.times[-1] - track.times[0], min(info.duration_s, recording.end_s) - recording.start_s
    if reached < CUT_SHORT * length - 0.5:
        raise Unusable(f"cut short: {reached:.1f} of {length:.1f} s can be read; copy the file again")
    heard = Sound.of(recording, info, float(track.times[0]))
    found, reasons = stretches(track, settings.least_s)
    notes: list[ClipNote] = []
    for number, stretch in enumerate(found):
        try:
            take = Take.of(recording, stretch, heard, track)
            phones = _phones(take) if len(found) == 1 else []
        except Unusable as error:
            reasons.append(str(error))
            continue
        scene = f"-s{number}" if len(found) > 1 else ""
        notes += write_take(take, scene, phones, root, settings, landmarker)
    reasons = list(dict.fromkeys(reasons))
    if not notes:
        raise Unusable("; ".join(reasons))
    return notes, reasons


def _phones(take: Take) -> list[Phone]:
    """Phones on the take's clock; none without a transcript. Raises Unusable when it does not match."""
    if not take.recording.text or take.seconds > LONGEST_ALIGNED_S:
        return []
    from training.rig.align import AlignmentError, align_cached

    try:
        return align_cached(take.sound.listen(take.start_s, take.seconds), take.recording.text)
    except AlignmentError as error:
        raise Unusable(f"its transcript: {error}; correct the transcript or take it away") from error
