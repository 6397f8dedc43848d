"""The camera frame: the bust where it belongs, blended exactly, over every kind of background."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from engine.compose import Composer, load_background
from engine.controls import Background, Framing, parse_background
from engine.errors import ControlError

RED = (200, 10, 30)


def bust(size: int = 128) -> np.ndarray:
    """A half-transparent green disc in an opaque blue square's middle, premultiplied; empty rim."""
    picture = np.zeros((size, size, 4), np.uint8)
    picture[16:-16, 16:-16] = (0, 0, 255, 255)
    cv2.circle(picture, (size // 2, size // 2), size // 8, (0, 128, 0, 128), -1)
    return picture


def test_blend_is_exact_without_scaling() -> None:
    rng = np.random.default_rng(0)
    alpha = rng.integers(0, 256, (96, 96, 1))
    rgba = np.concatenate([rng.integers(0, 256, (96, 96, 3)) * alpha // 255, alpha], -1).astype(np.uint8)
    out = Composer(96, 96).compose(rgba, Background("colour", RED), Framing())
    expected = rgba[..., :3] + np.array(RED) * (255 - alpha) / 255
    assert np.abs(out - expected).max() <= 1
    assert out.dtype == np.uint8


def test_the_bust_stands_in_the_middle_of_the_lower_edge() -> None:
    out = Composer(1280, 720).compose(bust(), Background("colour", RED), Framing())
    assert out.shape == (720, 1280, 3)
    blue = np.argwhere((out == (0, 0, 255)).all(-1))
    scale, sunk = 720 / 128, 0.032 * 720
    assert abs(blue[:, 0].min() - (16 * scale + sunk)) < 5
    assert abs(blue[:, 0].max() - (720 - 16 * scale + sunk)) < 5
    assert abs(blue[:, 1].mean() - 639.5) < 0.6
    assert (out[:, :280] == RED).all()
    small = Composer(1280, 720).compose(bust(), Background("colour", RED), Framing(zoom=0.5))
    rows = np.argwhere((small == (0, 0, 255)).all(-1))[:, 0]
    assert abs(rows.max() - (720 - 8 * scale + sunk / 2)) < 5  # smaller, still on the lower edge


@pytest.mark.parametrize(
    "framing",
    [Framing(1.7, 0.2, -0.3), Framing(0.3, 0.6, 0.4), Framing(4, 1, 1), Framing(0.2, -1, -1), Framing(1, 0.9, 0)],
)
def test_framing_moves_and_cuts_like_one_big_picture(framing: Framing) -> None:
    """Against the same placement done on a large canvas, without any clipping code."""
    out = Composer(320, 180).compose(bust(), Background("colour", RED), framing)
    side = round(180 * framing.zoom)
    mode = cv2.INTER_LINEAR if side > 128 else cv2.INTER_AREA
    scaled = cv2.resize(bust(), (side, side), interpolation=mode).astype(float)
    left = round((320 - side) / 2 + framing.offset_x * 180)
    sunk = 0.032 * side if side < 320 else 0
    top = round(180 - side + sunk - framing.offset_y * 180)
    canvas = np.full((180 + 1600, 320 + 1600, 3), RED, float)
    spot = canvas[800 + top : 800 + top + side, 800 + left : 800 + left + side]
    spot[:] = scaled[..., :3] + spot * (255 - scaled[..., 3:]) / 255
    difference = np.abs(out - canvas[800:980, 800:1120])
    assert np.percentile(difference, 98) <= 3  # scaling by area and by line differ at edges only
    assert difference.mean() < 1.5


def test_shoulders_that_reach_the_sides_do_not_end_in_mid_air() -> None:
    wide = np.zeros((128, 128, 4), np.uint8)
    wide[-4:] = (0, 0, 255, 255)  # the last 3% of the picture, from side to side
    out = Composer(1280, 720).compose(wide, Background("colour", RED), Framing())
    assert (out[:, 279:1001] == RED).all(-1).mean() > 0.997
    square = Composer(720, 720).compose(wide, Background("colour", RED), Framing())
    assert (square[-16:] == (0, 0, 255)).all()  # where there is nothing beside them, they stay


def test_mirror_flips() -> None:
    composer, framing = Composer(320, 180), Framing(0.8, 0.3, 0)
    plain = composer.compose(bust(), Background("colour", RED), framing)
    assert np.array_equal(composer.compose(bust(), Background("colour", RED), framing, mirror=True), plain[:, ::-1])


def test_frames_are_independent() -> None:
    composer = Composer(160, 90)
    first = composer.compose(bust(), Background("colour", RED), Framing())
    kept = first.copy()
    composer.compose(bust(), Background("colour", (1, 2, 3)), Framing(zoom=2))
    assert np.array_equal(first, kept)


def test_pictures_cover_the_frame_without_distortion(tmp_path: Path) -> None:
    wide = np.zeros((100, 400, 3), np.uint8)
    wide[:, 150:250] = (255, 0, 0)  # BGR blue, in the middle
    cv2.imwrite(str(tmp_path / "wide.png"), wide)
    out = load_background(parse_background(str(tmp_path / "wide.png")), 160, 90)
    assert out.shape == (90, 160, 3)
    blue = (out[45, :, 2] > 128).nonzero()[0]
    assert abs(len(blue) - 90) <= 2  # 100 px of 100 px height become 90 px of 90 px
    assert abs(blue.mean() - 79.5) <= 1
    assert out[45, 80].tolist() == [0, 0, 255]  # RGB


def test_blur_blurs_and_keeps_the_colour(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    cv2.imwrite(str(tmp_path / "noise.png"), rng.integers(0, 256, (360, 640, 3), np.uint8))
    sharp = load_background(parse_background(str(tmp_path / "noise.png")), 640, 360).astype(float)
    soft = load_background(parse_background(f"blur:{tmp_path / 'noise.png'}"), 640, 360).astype(float)
    assert soft.std() < 0.1 * sharp.std()
    assert np.allclose(soft.mean((0, 1)), sharp.mean((0, 1)), atol=1)


def test_bad_pictures_leave_the_old_background(tmp_path: Path) -> None:
    composer = Composer(160, 90)
    composer.prepare(Background("colour", RED))
    (tmp_path / "bad.png").write_bytes(b"not a picture")
    with pytest.raises(ControlError, match=r"bad\.png is not a picture"):
        composer.prepare(Background("image", image=tmp_path / "bad.png"))
    with pytest.raises(ControlError, match="cannot be read"):
        composer.prepare(Background("blurred", image=tmp_path / "gone.png"))
    out = composer.compose(np.zeros((64, 64, 4), np.uint8), Background("colour", RED), Framing())
    assert (out == RED).all()


def test_transparent_is_black_where_alpha_cannot_be_kept() -> None:
    out = Composer(160, 90).compose(np.zeros((64, 64, 4), np.uint8), Background("transparent"), Framing())
    assert not out.any()
