"""Each published data set in its official layout, a small tree of real files, through the whole of prepare.

Twice: with discs for faces, which runs everywhere, and with a person of the rig read by the landmark library, where the
head pack and the library are there; then landmarks and pose are held against the truth.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import soxr
from films import DiscLandmarker, disc_picture, write_film, write_m4a, write_wav

from training.data import prepare as command
from training.data.clip import EMOTIONS, FPS, RATE, Clip, Corpus
from training.data.record import read_outcome

SECONDS = 1.6
BEFORE_S = 1.0  # HDTF's list leaves this much of its long video out
Filmer = Callable[..., None]


@dataclass(frozen=True)
class Expected:
    """What one clip of a tree must say."""

    id: str
    person: str
    emotion: str  # empty: unlabelled
    intensity: float
    split: str  # empty: whatever its name falls to
    began_s: float = 0.0  # where in its film the show begins


def crema_d(root: Path, film: Filmer) -> list[Expected]:
    """Flash video, sound in a file of its own; a sentence code without known words, so that nothing is aligned."""
    (root / "VideoFlash").mkdir(parents=True)
    (root / "AudioWAV").mkdir()
    for name in ("1001_XYZ_ANG_XX", "1007_XYZ_HAP_HI"):
        film(root / f"VideoFlash/{name}.flv", rate=30.0, codec="flv", apart=root / f"AudioWAV/{name}.wav")
    return [
        Expected("crema-1001_XYZ_ANG_XX", "crema-1001", "anger", 0.7, ""),
        Expected("crema-1007_XYZ_HAP_HI", "crema-1007", "happy", 1.0, ""),
    ]


def voxceleb2(root: Path, film: Filmer) -> list[Expected]:
    """25 pictures a second, sound inside; or apart as in the sets that were downloaded with `aac`."""
    for part in ("dev/mp4/id00012/21Uxsk56VDQ", "test/mp4/id00017/01dfn2spqyE", "dev/aac/id00012/21Uxsk56VDQ"):
        (root / part).mkdir(parents=True)
    film(
        root / "dev/mp4/id00012/21Uxsk56VDQ/00001.mp4", rate=25.0, apart=root / "dev/aac/id00012/21Uxsk56VDQ/00001.m4a"
    )
    film(root / "test/mp4/id00017/01dfn2spqyE/00002.mp4", rate=25.0)
    return [
        Expected("vox2-id00012-21Uxsk56VDQ-00001", "vox2-id00012", "", 0.0, ""),
        Expected("vox2-id00017-01dfn2spqyE-00002", "vox2-id00017", "", 0.0, "held_person"),
    ]


def mead(root: Path, film: Filmer) -> list[Expected]:
    """Several cameras, of which the frontal one is read; labels are folders; sound apart."""
    for who, feeling, level in (("M003", "disgusted", "level_2"), ("W009", "surprised", "level_3")):
        for part in ("video/front", "video/left_30", "audio"):
            (root / who / part / feeling / level).mkdir(parents=True)
        sound = root / who / "audio" / feeling / level / "001.m4a"
        film(root / who / "video/front" / feeling / level / "001.mp4", rate=30.0, apart=sound)
        (root / who / "video/left_30" / feeling / level / "001.mp4").write_bytes(b"never opened")
    return [
        Expected("mead-M003-disgusted-2-001", "mead-M003", "disgust", 0.65, ""),
        Expected("mead-W009-surprised-3-001", "mead-W009", "", 0.0, ""),
    ]


def hdtf(root: Path, film: Filmer) -> list[Expected]:
    """Lists of stretches beside long videos, one of them cut already."""
    (root / "HDTF_dataset").mkdir(parents=True)
    (root / "videos").mkdir()
    end = int(BEFORE_S + SECONDS)
    (root / "HDTF_dataset/WDA_annotion_time.txt").write_text(
        f"SomeBody1.mp4 00:01-00:{end:02d}\nGone0.mp4 00:00-00:09\n"
    )
    (root / "HDTF_dataset/RD_annotion_time.txt").write_text("Radio3.mp4 02:10-02:30\n")
    film(root / "videos/WDA_SomeBody1.mp4", rate=25.0, before_s=BEFORE_S)
    film(root / "videos/Radio3_0.mp4", rate=30.0)
    return [
        Expected("hdtf-RD-Radio3-0", "hdtf-Radio", "", 0.0, ""),
        Expected("hdtf-WDA-SomeBody1-0", "hdtf-SomeBody", "", 0.0, "", BEFORE_S),
    ]


LAYOUTS = {"crema-d": crema_d, "voxceleb2": voxceleb2, "mead": mead, "hdtf": hdtf}


def store(
    path: Path, pictures: list[np.ndarray], said: np.ndarray, rate: float, codec: str, apart: Path | None
) -> None:
    """Writes a film; with `apart`, its own track is other noise, so that taking the wrong one shows."""
    loud = soxr.resample(said, RATE, 48_000).astype(np.float32)
    track = loud if apart is None else 0.2 * np.random.default_rng(0).standard_normal(len(loud)).astype(np.float32)
    sound = None if codec == "flv" else track[None]
    write_film(path, pictures, np.arange(len(pictures)) / rate, sound, codec=codec)
    if apart is not None and apart.suffix == ".wav":
        write_wav(apart, said)
    elif apart is not None:
        write_m4a(apart, loud)


def syllables(seconds: float, seed: int) -> np.ndarray:
    """[samples] float32 at 16 kHz: noise in syllables, no two moments alike."""
    time_s = np.arange(int(seconds * RATE)) / RATE
    noise = soxr.resample(np.random.default_rng(seed).standard_normal(int(seconds * 6000) + 10), 6000, RATE)
    return (0.15 * noise[: len(time_s)] * (0.5 - 0.5 * np.cos(2 * np.pi * 3.1 * time_s))).astype(np.float32)


def check(clip: Clip, wanted: Expected, dataset: str, said: np.ndarray) -> None:
    """Labels, sound and stream time of one clip."""
    info, truth = clip.info, clip.truth()
    clip.verify()
    assert clip.has_pixels()
    assert (info.person, info.size, info.fps) == (wanted.person, 256, FPS)
    assert info.source.startswith(f"{dataset}: ")
    assert info.split == wanted.split or not wanted.split
    emotion = np.zeros(len(EMOTIONS))
    if wanted.emotion:
        emotion[EMOTIONS.index(wanted.emotion)] = wanted.intensity
    np.testing.assert_allclose(truth.emotion, np.tile(emotion, (info.frames, 1)), atol=1e-6)
    assert abs(info.frames / FPS - SECONDS) < (0.7 if dataset == "hdtf" else 0.12)  # HDTF's lists count whole seconds
    heard = clip.audio()
    at = round((read_outcome(clip.folder.parents[1], wanted.id).notes[0].from_s - wanted.began_s) * RATE)
    piece = said[at : at + len(heard)]
    assert np.corrcoef(heard[: len(piece)], piece)[0, 1] > 0.97


def prepare(root: Path, out: Path) -> int:
    return command.main(command.Options(root, out, size=256, jobs=1, least_seconds=0.5))


@pytest.mark.parametrize("dataset", LAYOUTS)
def test_a_tree_of_discs(dataset: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "MediapipeLandmarker", DiscLandmarker)
    said = syllables(SECONDS, 5)

    def film(path: Path, rate: float, codec: str = "libx264", apart: Path | None = None, before_s: float = 0.0) -> None:
        blank, face = disc_picture(320, 240, []), disc_picture(320, 240, [(160, 110, 48)])
        pictures = [blank] * round(before_s * rate) + [face] * round(SECONDS * rate)
        quiet = np.zeros(round(before_s * RATE), np.float32)
        store(path, pictures, np.concatenate([quiet, said]), rate, codec, apart)

    expected = LAYOUTS[dataset](tmp_path / "set", film)
    assert prepare(tmp_path / "set", tmp_path / "out") == 0
    clips = {clip.info.id: clip for clip in Corpus(tmp_path / "out")}
    assert sorted(clips) == sorted(e.id for e in expected)
    for wanted in expected:
        check(clips[wanted.id], wanted, dataset, said)


@pytest.fixture(scope="module")
def actor():  # type: ignore[no-untyped-def]
    """A rig person that the calibration has not seen, speaking: (face, performance, sound, {rate: pictures}, head)."""
    from training.data import proof
    from training.data.landmarks import LandmarkError, MediapipeLandmarker
    from training.rig.pack import HeadPackError
    from training.rig.speech import available

    if not available("flite", "slt"):
        pytest.skip("flite is not installed: no speech to act")
    try:
        MediapipeLandmarker().close()
        from training.rig.landmarks import LandmarkModel
        from training.rig.renderer import Renderer

        renderer = Renderer(230)
    except (LandmarkError, HeadPackError) as error:
        pytest.skip(str(error))
    from training.rig.performance import perform
    from training.rig.person import Person
    from training.rig.speech import synthesise
    from training.rig.voices import SYNTHETIC

    film = proof.Film("x", 7010, "flite-slt", ((0.0, "neutral", 0.0),), 320, 250, (230, 44, 20), 30.0)
    spoken = proof._first(synthesise(SYNTHETIC[film.voice], proof.TEXT), SECONDS)
    person = Person.from_seed(film.person)
    face = LandmarkModel(renderer.pack, person)
    show = perform(spoken.phones, spoken.audio, list(film.script), face, film.person)
    renderer.set_person(person)

    def pictures(rate: float) -> list[np.ndarray]:
        times = np.arange(int(SECONDS * rate)) / rate
        return [proof.frame(film, renderer, proof.at_time(show, t), k) for k, t in enumerate(times)]

    return face, show, spoken.audio, {rate: pictures(rate) for rate in (25.0, 30.0)}, film.head


@pytest.mark.slow
@pytest.mark.parametrize("dataset", LAYOUTS)
def test_a_tree_of_a_person_against_the_truth(dataset: str, actor, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    from training.data import proof

    face, show, said, films, head = actor

    def film(path: Path, rate: float, codec: str = "libx264", apart: Path | None = None, before_s: float = 0.0) -> None:
        pictures = films[rate]
        lead = [np.full_like(pictures[0], 90)] * round(before_s * rate)
        quiet = np.zeros(round(before_s * RATE), np.float32)
        store(path, lead + pictures, np.concatenate([quiet, said]), rate, codec, apart)

    expected = LAYOUTS[dataset](tmp_path / "set", film)
    assert prepare(tmp_path / "set", tmp_path / "out") == 0
    clips = {clip.info.id: clip for clip in Corpus(tmp_path / "out")}
    assert sorted(clips) == sorted(e.id for e in expected)
    for wanted in expected:
        check(clips[wanted.id], wanted, dataset, said)
        errors = proof.clip_errors(clips[wanted.id], head, face, show, wanted.began_s)
        assert np.linalg.norm(errors.landmarks, axis=2).mean() < proof.MOST_PX
        assert np.degrees(np.abs(errors.pose)).mean(0).max() < proof.MOST_DEG
