"""The published data sets in their official layouts. File names alone are read; nothing is opened here."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from training.data.recording import Recording, split_of, videos_below


class CremaD:
    """CREMA-D: VideoFlash/1001_DFA_ANG_XX.flv with AudioWAV/1001_DFA_ANG_XX.wav (actor, sentence, emotion, level)."""

    name = "crema-d"
    FILE = re.compile(r"(\d{4})_([A-Z]{3})_(ANG|DIS|FEA|HAP|NEU|SAD)_(LO|MD|HI|X|XX)$")
    EMOTIONS = {"ANG": "anger", "DIS": "disgust", "FEA": "fear", "HAP": "happy", "NEU": "neutral", "SAD": "sad"}  # noqa: RUF012
    LEVELS = {"LO": 0.35, "MD": 0.65, "HI": 1.0}  # noqa: RUF012 - XX: the actor was given no level
    SENTENCES = {  # noqa: RUF012
        "IEO": "It's eleven o'clock.", "TIE": "That is exactly what happened.",
        "IOM": "I'm on my way to the meeting.", "IWW": "I wonder what this is about.",
        "TAI": "The airplane is almost full.", "MTI": "Maybe tomorrow it will be cold.",
        "IWL": "I would like a new alarm clock.", "ITH": "I think I have a doctor's appointment.",
        "DFA": "Don't forget a jacket.", "ITS": "I think I've seen this before.",
        "TSI": "The surface is slick.", "WSI": "We'll stop in a couple of minutes.",
    }  # fmt: skip

    def found_in(self, root: Path) -> bool:
        return (root / "VideoFlash").is_dir()

    def recordings(self, root: Path) -> Iterator[Recording]:
        for video in videos_below(root / "VideoFlash"):
            parts = self.FILE.match(video.stem)
            if not parts:
                continue
            actor, sentence, emotion, level = parts.groups()
            wav = root / "AudioWAV" / f"{video.stem}.wav"
            yield Recording(
                id=f"crema-{video.stem}",
                video=video,
                person=f"crema-{actor}",
                dataset=self.name,
                sound=wav if wav.is_file() else None,
                sentence=f"crema-{sentence}",
                text=self.SENTENCES.get(sentence, ""),
                emotion=self.EMOTIONS[emotion],
                intensity=0.0 if emotion == "NEU" else self.LEVELS.get(level, 0.7),
                split=split_of(f"crema-{actor}", f"crema-{sentence}", hold_people=True),
            )


class VoxCeleb2:
    """VoxCeleb2: dev|test/mp4/id00012/21Uxsk56VDQ/00001.mp4, sound inside or in .../aac/id00012/21Uxsk56VDQ/00001.m4a."""

    name = "voxceleb2"

    def found_in(self, root: Path) -> bool:
        return any((root / part / "mp4").is_dir() for part in ("dev", "test"))

    def recordings(self, root: Path) -> Iterator[Recording]:
        for part in ("dev", "test"):
            folder = root / part / "mp4"
            for video in sorted(folder.glob("id*/*/*.mp4")):
                who, talk = video.parts[-3:-1]
                m4a = root / part / "aac" / who / talk / f"{video.stem}.m4a"
                sentence = f"vox2-{who}-{talk}"
                yield Recording(
                    id=f"{sentence}-{video.stem}",
                    video=video,
                    person=f"vox2-{who}",
                    dataset=self.name,
                    sound=m4a if m4a.is_file() else None,
                    sentence=sentence,
                    split="held_person" if part == "test" else split_of(who, sentence),
                )


class Mead:
    """MEAD: M003/video/front/angry/level_1/001.mp4 with M003/audio/angry/level_1/001.m4a; the frontal camera only."""

    name = "mead"
    EMOTIONS = {  # noqa: RUF012 - contempt and surprise are not among the six: their labels stay empty
        "angry": "anger", "disgusted": "disgust", "fear": "fear", "happy": "happy", "neutral": "neutral", "sad": "sad",
    }  # fmt: skip
    LEVELS = {"level_1": 0.35, "level_2": 0.65, "level_3": 1.0}  # noqa: RUF012
    VIEW = "front"

    def found_in(self, root: Path) -> bool:
        return any(root.glob(f"[MW][0-9][0-9][0-9]/video/{self.VIEW}"))

    def recordings(self, root: Path) -> Iterator[Recording]:
        for video in sorted(root.glob(f"[MW][0-9][0-9][0-9]/video/{self.VIEW}/*/level_*/*.mp4")):
            who, feeling, level = video.parts[-6], video.parts[-3], video.parts[-2]
            m4a = root / who / "audio" / feeling / level / f"{video.stem}.m4a"
            emotion = self.EMOTIONS.get(feeling, "")
            yield Recording(
                id=f"mead-{who}-{feeling}-{level[-1]}-{video.stem}",
                video=video,
                person=f"mead-{who}",
                dataset=self.name,
                sound=m4a if m4a.is_file() else None,
                sentence=f"mead-{feeling}-{video.stem}",
                emotion=emotion,
                intensity=self.LEVELS.get(level, 0.65) if emotion not in ("", "neutral") else 0.0,
                split=split_of(f"mead-{who}", f"mead-{feeling}-{video.stem}", hold_people=True),
            )


class Hdtf:
    """HDTF: HDTF_dataset/*_annotion_time.txt (its own spelling) and the videos, whole or split as its README says.

    A list's line is `Name.mp4 00:05-04:40 05:00-06:10`; the videos lie anywhere below the folder as `Name.mp4` or
    `WDA_Name.mp4` (whole), or as `Name_0.mp4` or `WDA_Name_000.mp4` (its clip 0).
    """

    name = "hdtf"
    LISTS = ("RD", "WDA", "WRA")
    STRETCH = re.compile(r"(\d+(?::\d+){1,2})-(\d+(?::\d+){1,2})$")

    def found_in(self, root: Path) -> bool:
        return any(self._lists(root))

    def recordings(self, root: Path) -> Iterator[Recording]:
        videos: dict[str, list[Path]] = {}
        for path in videos_below(root):
            videos.setdefault(path.stem, []).append(path)
        for table in self._lists(root):
            part = table.name.split("_")[0]
            for line in table.read_text(encoding="utf-8").splitlines():
                words = line.split()
                if len(words) < 2:
                    continue
                yield from self._clips_of(part, Path(words[0]).stem, words[1:], videos)

    def _lists(self, root: Path) -> list[Path]:
        below = (root / "HDTF_dataset", root)
        return [p for name in self.LISTS for p in (f / f"{name}_annotion_time.txt" for f in below) if p.is_file()]

    def _clips_of(
        self, part: str, name: str, stretches: list[str], videos: dict[str, list[Path]]
    ) -> Iterator[Recording]:
        person = f"hdtf-{re.sub(r'[0-9]+$', '', name)}"
        whole = next((videos[s][0] for s in (f"{part}_{name}", name) if s in videos), None)
        for number, stretch in enumerate(stretches):
            cut = [f"{part}_{name}_{number:03d}", f"{part}_{name}_{number}", f"{name}_{number}", f"{name}_{number:03d}"]
            ready = next((videos[s][0] for s in cut if s in videos), None)
            span = self.STRETCH.match(stretch)
            if ready is None and (whole is None or span is None):
                continue  # not downloaded
            start, end = (0.0, float("inf")) if ready else (_seconds(span[1]), _seconds(span[2]))
            sentence = f"hdtf-{part}-{name}-{number}"
            yield Recording(
                id=sentence,
                video=ready or whole,
                person=person,
                dataset=self.name,
                start_s=start,
                end_s=end,
                sentence=sentence,
                split=split_of(person, sentence, hold_people=True),
            )


def _seconds(stamp: str) -> float:
    total = 0.0
    for part in stamp.split(":"):
        total = total * 60 + float(part)
    return total
