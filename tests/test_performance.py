"""Speech, alignment and performance: lips that obey the phones, at human rates, the same for the same seed."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("scipy", reason="needs scipy (extra: train)")

from training.data.clip import EMOTIONS, FPS, RATE
from training.rig import motion
from training.rig.expressions import INDEX
from training.rig.measure import CONSONANTS, LagMeter, auc, blink_count, log_envelope
from training.rig.moods import draw_script, mood
from training.rig.sentences import sentence
from training.rig.speech import Utterance, say, synthesise
from training.rig.visemes import PHONE_VISEMES, mouth_track
from training.rig.voices import MANNERS, SYNTHETIC, Manner, Voice, change, manner_of, track_pitch

needs_flite = pytest.mark.skipif(not shutil.which("flite"), reason="needs flite (apt install flite)")
PLAIN = Voice("plain", "flite", "slt", "woman")


@pytest.fixture(scope="session")
def spoken() -> list[Utterance]:
    """Five sentences that are rich in M, B and P."""
    if not shutil.which("flite"):
        pytest.skip("needs flite (apt install flite)")
    return [synthesise(SYNTHETIC["flite-slt"], sentence(k)) for k in (4, 5, 28, 33, 34)]


@pytest.fixture(scope="session")
def face():
    from training.rig.landmarks import LandmarkModel
    from training.rig.pack import HeadPackError, load_pack
    from training.rig.person import ELENA

    try:
        return LandmarkModel(load_pack(), ELENA)
    except HeadPackError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def shows(spoken, face):
    from training.rig.performance import perform

    moods = ("anger", "happy", "sad", "fear", "disgust")
    return [perform(u.phones, u.audio, [(0.0, e, 0.8)], face, 7) for u, e in zip(spoken, moods)]


def test_phones_cover_the_sound_and_are_known(spoken):
    for utterance in spoken:
        starts, ends = [a for _, a, _ in utterance.phones], [b for _, _, b in utterance.phones]
        assert starts[0] == 0
        assert ends[-1] == pytest.approx(len(utterance.audio) / RATE)
        assert starts[1:] == pytest.approx(ends[:-1])
        assert {name for name, _, _ in utterance.phones} <= set(PHONE_VISEMES)


@pytest.mark.parametrize("engine", ["espeak-f2", "festival-kal"])
def test_other_engines_time_their_phones(engine: str):
    """Loud vowels, quiet closures: the timings must belong to the sound, whoever made it."""
    from training.rig.speech import available

    voice = SYNTHETIC[engine]
    if not available(voice.engine, voice.model):
        pytest.skip(f"needs {voice.engine} with {voice.model}")
    utterance = synthesise(voice, "The happy baby popped a paper bag in the park.")
    level = np.abs(utterance.audio)
    means = {True: [], False: []}
    for name, a, b in utterance.phones:
        if name in ("P", "B", "AE", "EY", "AA", "IY"):
            means[name in ("P", "B")].append(level[int(a * RATE) : int(b * RATE)].mean())
    assert np.median(means[False]) > 2.5 * np.median(means[True])


def test_lips_shut_within_a_frame_of_every_closure(spoken, shows, face):
    count = 0
    for utterance, show in zip(spoken, shows):
        aperture = face.aperture(show.expression)
        for name, a, b in utterance.phones:
            if name in ("M", "B", "P"):
                first, last = int(np.ceil((a - 1 / FPS) * FPS)), int((b + 1 / FPS) * FPS)
                assert aperture[max(first, 0) : last + 1].min() == 0, f"{name} at {a:.2f} s"
                count += 1
    assert count >= 15


def test_closures_stand_out_from_other_consonants(spoken, shows, face):
    shut, other = [], []
    for utterance, show in zip(spoken, shows):
        aperture = face.aperture(show.expression)
        for k, (name, _, _) in enumerate(utterance.phones):
            if name in CONSONANTS and (show.phone == k).any():
                (shut if name in ("M", "B", "P") else other).append(aperture[show.phone == k].min())
    assert auc(np.array(shut), np.array(other)) >= 0.95


def test_lips_are_in_time_with_the_sound(spoken, shows, face):
    meter = LagMeter()
    for utterance, show in zip(spoken, shows):
        meter.add(face.aperture(show.expression), log_envelope(utterance.audio, len(show.blink)))
    lag, correlation = meter.peak()
    assert -2 <= lag <= 1
    assert correlation > 0.2  # sentences full of M, which is loud with shut lips; a corpus reaches 0.66


def test_lips_never_cross_deeper_than_a_press(shows, face):
    assert min(face.gap(show.expression).min() for show in shows) > -0.15


def test_the_same_seed_gives_the_same_frames(spoken, shows, face):
    from training.rig.performance import perform

    again = perform(spoken[0].phones, spoken[0].audio, [(0.0, "anger", 0.8)], face, 7)
    other = perform(spoken[0].phones, spoken[0].audio, [(0.0, "anger", 0.8)], face, 8)
    for name in ("expression", "pose", "shift", "gaze", "blink", "emotion"):
        np.testing.assert_array_equal(getattr(again, name), getattr(shows[0], name))
    assert np.abs(other.pose - again.pose).max() > 0.01


def test_the_face_rests_shut_and_alive_in_silence(face):
    from training.rig.performance import perform

    seconds = 60
    silence = np.zeros(seconds * RATE, np.float32)
    show = perform([("sil", 0.0, float(seconds))], silence, [(0.0, "neutral", 1.0)], face, 5)
    assert np.percentile(face.aperture(show.expression), 99) < 0.01
    assert 10 <= blink_count(show.blink) * 60 / seconds <= 32
    assert show.blink.max() > 0.95
    assert np.degrees(np.ptp(show.pose[:, 0])) > 2
    assert np.abs(np.degrees(show.pose)).max(0) == pytest.approx([0, 0, 0], abs=30)
    jumps = np.degrees(np.linalg.norm(np.diff(show.gaze, axis=0), axis=1))
    assert 0.5 <= (jumps > 0.5).sum() / seconds <= 5  # saccades a second


def test_expression_holds_no_blink_and_no_gaze_lids(shows):
    lids = [INDEX[f"eyeLook{way}{side}"] for way in ("Up", "Down") for side in ("_L", "_R")]
    happy = shows[1]
    assert np.abs(happy.expression[:, lids]).max() == 0
    assert np.ptp(happy.expression[:, INDEX["eyeBlink_L"]]) < 0.3


def test_a_mood_comes_faster_than_it_goes():
    n = 240
    felt = mood([(1.0, "fear", 0.9), (3.0, "neutral", 1.0)], np.zeros(n), np.random.default_rng(1)).emotion
    fear = felt[:, EMOTIONS.index("fear")]
    up = np.flatnonzero(fear > 0.45)[0] - 1.0 * FPS
    down = np.flatnonzero(fear[95:] < 0.45)[0] + 95 - 3.0 * FPS
    assert 1 <= up <= 15
    assert down > up
    assert felt[:, EMOTIONS.index("neutral")].max() == 0
    assert fear[-1] < 0.1


def test_scripts_are_sane_and_seeded():
    rows = [draw_script(np.random.default_rng(k), 6.0, EMOTIONS[k % 6]) for k in range(200)]
    assert all(0 <= at < 6 and name in EMOTIONS and 0 < size <= 1 for row in rows for at, name, size in row)
    assert any(len(row) > 1 for row in rows)
    assert rows[3] == draw_script(np.random.default_rng(3), 6.0, EMOTIONS[3])


def test_stress_finds_the_loud_high_vowel():
    times = np.arange(2 * RATE) / RATE
    audio, phones = np.zeros(2 * RATE), [("sil", 0.0, 0.2)]
    for k in range(4):
        a, b = 0.2 + 0.4 * k, 0.5 + 0.4 * k
        inside = (times >= a) & (times < b)
        loud = k == 2
        audio[inside] = (0.5 if loud else 0.15) * np.sign(np.sin(2 * np.pi * (210 if loud else 150) * times[inside]))
        phones += [("AA", a, b), ("S", b, b + 0.1)]
    accent, peaks, _ = motion.stress(phones, audio.astype(np.float32), 2 * FPS)
    assert any(abs(p - 1.15) < 0.05 for p in peaks)
    assert accent.argmax() / FPS == pytest.approx(1.15, abs=0.05)


def test_mumbling_opens_less(spoken):
    jaw = [
        mouth_track(spoken[0].phones, spoken[0].audio, effort).weights[:, INDEX["jawOpen"]].max()
        for effort in (0.6, 1.0)
    ]
    assert jaw[0] < 0.8 * jaw[1]


@needs_flite
@pytest.mark.parametrize(("formant", "pitch"), [(0.86, 0.62), (1.17, 1.34)])
def test_the_voice_changer_moves_the_pitch_and_keeps_time(spoken, formant: float, pitch: float):
    voice = replace(PLAIN, formant=formant, pitch=pitch)
    before = track_pitch(spoken[0].audio)
    slow = Manner(rate=0.8)
    audio, grown = change(spoken[0].audio, voice, slow)
    after = track_pitch(audio)
    assert np.median(after[after > 0]) / np.median(before[before > 0]) == pytest.approx(pitch, rel=0.08)
    assert grown == pytest.approx(1 / 0.8, rel=0.01)
    # the sound lies where it lay, stretched
    envelope = [log_envelope(x, int(len(x) / RATE * FPS)) for x in (spoken[0].audio, audio)]
    stretched = np.interp(np.arange(len(envelope[1])) / grown, np.arange(len(envelope[0])), envelope[0])
    assert np.corrcoef(stretched, envelope[1])[0, 1] > 0.85


@needs_flite
def test_emotion_is_audible(spoken):
    """Anger is higher, faster, louder than sadness, by margins that a listener cannot miss."""
    rng = np.random.default_rng(0)
    angry, sad = (say(spoken[0], PLAIN, manner_of(name, 1.0, rng)) for name in ("anger", "sad"))
    pitch = [np.median(f[f > 0]) for f in (track_pitch(angry.audio), track_pitch(sad.audio))]
    assert pitch[0] > 1.1 * pitch[1]
    assert len(angry.audio) < 0.9 * len(sad.audio)
    assert np.sqrt(np.mean(angry.audio**2)) > 1.6 * np.sqrt(np.mean(sad.audio**2))
    assert angry.phones[-1][2] == pytest.approx(len(angry.audio) / RATE, abs=0.01)
    assert set(MANNERS) == set(EMOTIONS)


@needs_flite
def test_alignment_finds_what_the_synthesiser_knows(spoken):
    """pocketsphinx against flite's own timings: vowels in common must start within 60 ms, on the median within 25."""
    pytest.importorskip("pocketsphinx", reason="needs pocketsphinx (extra: train)")
    from training.rig.align import align

    errors = []
    for utterance, k in zip(spoken[:3], (4, 5, 28)):
        phones, score = align(utterance.audio, sentence(k))
        assert score > -25
        truth = [(n, a) for n, a, _ in utterance.phones if n in ("M", "B", "P", "F", "V", "IY", "AE", "UW")]
        for name, a in truth:
            errors.append(min(abs(a - start) for n, start, _ in phones if n == name))
    assert np.median(errors) < 0.025
    assert np.percentile(errors, 85) < 0.06


@needs_flite
@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("We were never told about the lighthouse.", "does not match"),
        ("It costs 45 dollars", "digits"),
        ("...", "no words"),
    ],
)
def test_a_wrong_transcript_is_refused(spoken, text: str, words: str):
    pytest.importorskip("pocketsphinx", reason="needs pocketsphinx (extra: train)")
    from training.rig.align import AlignmentError, align

    with pytest.raises(AlignmentError, match=words):
        align(spoken[0].audio, text)


def test_a_missing_voice_is_named():
    from training.rig.speech import SpeechError

    with pytest.raises(SpeechError, match="no_such_voice is not installed"):
        synthesise(Voice("ghost", "festival", "no_such_voice", "man"), "Hello.")


def test_the_lag_meter_knows_a_known_lag():
    rng = np.random.default_rng(0)
    meter = LagMeter()
    for _ in range(20):
        sound = np.convolve(rng.normal(0, 1, 200), np.ones(5) / 5, "same")
        meter.add(np.roll(sound, 3) + rng.normal(0, 0.2, 200), sound)
    assert meter.peak()[0] == pytest.approx(3, abs=0.2)


def test_the_auc_counts_ties_by_half():
    assert auc(np.array([0.0, 0.0]), np.array([1.0, 2.0])) == 1
    assert auc(np.array([1.0]), np.array([1.0])) == 0.5
    assert auc(np.array([2.0]), np.array([1.0])) == 0


def test_recordings_say_what_is_wrong_with_a_folder(tmp_path: Path):
    from training.rig.speech import SpeechError, recordings

    with pytest.raises(SpeechError, match=r"expected a folder of recordings with transcripts\.tsv"):
        recordings(tmp_path)
    (tmp_path / "transcripts.tsv").write_text("a1 without a tab\n")
    with pytest.raises(SpeechError, match="line 1: expected id, tab, text"):
        recordings(tmp_path)
    (tmp_path / "transcripts.tsv").write_text("a1\tHello there.\n")
    with pytest.raises(SpeechError, match="no sound file for 'a1'"):
        recordings(tmp_path)
