"""Students on made-up voices: what they are given, what departs from the usual, and the streaming graph of a pack."""

from __future__ import annotations

import math

import pytest
import torch

from training.models.speech2video.manner import HOP, Manner
from training.models.speech2video.students import PRIOR_S, Listened, StudentConfig, Students, cosine, habit_of
from training.models.speech2video.voice_reader import USUAL_S, VoiceReader

LIVE = StudentConfig(context_size=8, window=5, stride=4, hidden=16, feature=200, rows=20)


def moment(rows: int = 20, voices: int = 1) -> Listened:
    torch.manual_seed(5)
    return Listened(
        torch.randn(voices, 5, 8),
        torch.randn(voices, 8),
        torch.full((voices, 1), 12.0),
        torch.rand(voices, rows, 18),
        torch.rand(voices, 18),
        torch.full((voices, 1), 12.0),
    )


def test_students_hear_one_omega_or_a_second_of_them() -> None:
    for window in (1, 7):
        students = Students(StudentConfig(context_size=8, window=window, hidden=16, feature=24)).eval()
        mu, nu = students(Listened(torch.randn(3, window, 8), torch.randn(3, 8), torch.ones(3, 1)))
        assert (mu.shape, nu.shape) == ((3, 6), (3, 24))
    mu, nu = Students(LIVE).eval()(moment(voices=3))
    assert (mu.shape, nu.shape) == ((3, 6), (3, 200))


def test_a_mood_is_a_departure_and_a_person_is_not() -> None:
    """A voice that is a third higher and louder by habit has the same mood, and another throat."""
    students = Students(LIVE).eval()
    plain = moment()
    assert plain.rows is not None
    assert plain.habit is not None
    raised = torch.zeros(18)
    raised[1], raised[2:] = 0.4, 0.5
    higher = plain.rows + torch.cat(
        [torch.zeros(1, 20, 1), plain.rows[..., :1] * 0.4, torch.full((1, 20, 16), 0.5)], -1
    )
    # a habit of so many seconds counts beside the typical one
    habit = plain.habit + raised * (PRIOR_S + 12.0) / 12.0
    other = plain._replace(rows=higher, habit=habit)
    torch.testing.assert_close(students(other)[0], students(plain)[0], atol=1e-5, rtol=1e-5)
    assert float((students(other)[1] - students(plain)[1]).detach().abs().max()) > 1e-4
    louder = plain._replace(rows=plain.rows + torch.cat([torch.zeros(2), torch.full((16,), 0.7)]))
    torch.testing.assert_close(students(louder)[1], students(plain)[1], atol=1e-5, rtol=1e-5)
    assert float((students(louder)[0] - students(plain)[0]).detach().abs().max()) > 1e-4


def test_a_habit_is_the_mean_where_there_is_a_voice() -> None:
    rows = torch.zeros(10, 18)
    rows[:4, 0], rows[:4, 1], rows[:4, 2:] = 1.0, 0.5, 2.0
    rows[4:, 2:] = 1.0  # breath: it counts for nothing
    sums, seconds = habit_of(rows)
    assert float(seconds) == pytest.approx(0.08)
    torch.testing.assert_close(sums / seconds, torch.tensor([0.0, 0.5] + [2.0] * 16))


def test_the_reader_folds_the_features_away_exactly() -> None:
    torch.manual_seed(1)
    students = Students(LIVE).eval()
    gallery, mean, spread = torch.randn(3, 200), torch.randn(3), torch.rand(3) + 0.5
    reader = VoiceReader(students, gallery, mean, spread).eval()
    context = torch.randn(1, LIVE.window_hops, 8)
    usual, seconds = torch.randn(1, 8), torch.full((1, 1), 12.0)
    t = torch.arange(4800)[None] / 16_000
    sound = 0.1 * torch.sin(2 * math.pi * 130 * t) + 0.05 * torch.sin(2 * math.pi * 260 * t)
    leaves = reader.initial()
    for chunk in sound.split(VoiceReader.samples, 1):
        emotion, people, *after = reader(context, usual, seconds, chunk, *leaves.values())
        leaves = dict(zip(leaves, after, strict=True))
    # the same, all at once
    rows = Manner()(sound)
    sums, voiced = habit_of(rows[0])
    forgotten = math.exp(-float(voiced) / USUAL_S)
    assert float(leaves["voiced"]) == pytest.approx(float(voiced), rel=1 - forgotten + 1e-4)
    heard = Listened(
        context[:, ::4], usual, seconds, leaves["rows"], leaves["habit"] / leaves["voiced"], leaves["voiced"]
    )
    torch.testing.assert_close(leaves["rows"][:, -15:], rows, atol=1e-5, rtol=1e-5)
    assert not leaves["rows"][:, :-15].any()  # before the stream
    torch.testing.assert_close(leaves["habit"] / leaves["voiced"], sums[None] / voiced, atol=1e-3, rtol=1e-2)
    mu, nu = students(heard)
    torch.testing.assert_close(emotion, mu.softmax(1), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(people, (cosine(nu, gallery) - mean) / spread, atol=1e-4, rtol=1e-4)
    assert context[:, ::4].shape[1] == 5  # the newest hop is among them
    assert VoiceReader.samples % HOP == 0


def test_a_reader_needs_live_students() -> None:
    paper = Students(StudentConfig(context_size=8, window=1, hidden=16, feature=24))
    with pytest.raises(ValueError, match="live students"):
        VoiceReader(paper, torch.randn(2, 24), torch.zeros(2), torch.ones(2))
