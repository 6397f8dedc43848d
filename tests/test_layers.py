"""Picture kind `layers`: the quick painter against the three steps of docs/formats.md written out in plain numpy."""

from pathlib import Path

import numpy as np
import pytest

from engine.avatar import open_avatar
from engine.layers import LayersPainter, premultiply

SIZE, BOX = 96, (24, 28, 48, 40)
PATCHES = {"eyes": (28, 36, 40, 9), "mouth": (37, 47, 21, 17)}


def enlarge(cells: np.ndarray, height: int, width: int) -> np.ndarray:
    """[h, w] -> [height, width], bilinear, half-pixel centres, edges repeated."""

    def axis(n: int, m: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        at = np.clip((np.arange(m) + 0.5) * n / m - 0.5, 0, n - 1)
        low = np.minimum(at.astype(int), n - 2) if n > 1 else np.zeros(m, int)
        return low, np.minimum(low + 1, n - 1), at - low

    y0, y1, fy = axis(cells.shape[0], height)
    x0, x1, fx = axis(cells.shape[1], width)
    top = cells[y0][:, x0] * (1 - fx) + cells[y0][:, x1] * fx
    low = cells[y1][:, x0] * (1 - fx) + cells[y1][:, x1] * fx
    return top * (1 - fy)[:, None] + low * fy[:, None]


def look(picture: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Bilinear sample of [S, S, 4] at (x, y); outside is transparent."""
    size = len(picture)
    padded = np.zeros((size + 2, size + 2, 4))
    padded[1:-1, 1:-1] = picture
    x, y = np.clip(x + 1, 0, size + 0.9999), np.clip(y + 1, 0, size + 0.9999)
    i, j = y.astype(int), x.astype(int)
    fy, fx = (y - i)[..., None], (x - j)[..., None]
    top = padded[i, j] * (1 - fx) + padded[i, j + 1] * fx
    return top * (1 - fy) + (padded[i + 1, j] * (1 - fx) + padded[i + 1, j + 1] * fx) * fy


def reference(
    stills: np.ndarray,
    box: tuple[int, int, int, int],
    out: dict[str, np.ndarray],
    patches: dict[str, tuple[int, int, int, int]] = PATCHES,
) -> np.ndarray:
    """The definition, slowly and in floating point: 0..255."""
    pre = [
        s[..., :4].astype(float) * np.concatenate([s[..., 3:]] * 3 + [np.full_like(s[..., 3:], 255)], -1) / 255
        for s in stills
    ]
    x, y, w, h = box
    gx, gy = np.meshgrid(np.arange(x, x + w), np.arange(y, y + h))
    warped = look(pre[0], gx + enlarge(out["paint_flow"][0, 0], h, w), gy + enlarge(out["paint_flow"][0, 1], h, w))
    paint = np.stack([enlarge(plane, h, w) for plane in out["paint"][0]])
    for name, (left, top, wide, high) in patches.items():
        paint[:, top - y : top - y + high, left - x : left - x + wide] = out[name][0]
    mask = paint[3][..., None]
    alpha = pre[0][y : y + h, x : x + w, 3:]
    colour = np.concatenate([paint[:3].transpose(1, 2, 0) * 255, alpha], -1)
    front = pre[0].copy()
    front[y : y + h, x : x + w] = mask * colour + (1 - mask) * warped
    frame = np.zeros_like(front)
    for k, still in enumerate([front, *pre[1:]]):
        size = len(front)
        turned = look(still, enlarge(out["grid"][k, 0], size, size), enlarge(out["grid"][k, 1], size, size))
        frame += enlarge(out["weight"][0, k], size, size)[..., None] * turned
    gain = np.stack(
        [enlarge(g, len(front), len(front)) for g in out["gain"][0]] + [np.ones((len(front), len(front)))], -1
    )
    return np.clip(frame * gain, 0, 255)


def smooth(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Noise without sharp edges, 0..1, along the last two axes."""
    cells = rng.random((*shape[:-2], 4, 4))
    flat = cells.reshape(-1, 4, 4)
    return np.stack([enlarge(c, *shape[-2:]) for c in flat]).reshape(shape).astype(np.float32)


def case(
    seed: int, stills: int, cells: int, weight: np.ndarray | None = None
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    rng = np.random.default_rng(seed)
    w, h = BOX[2:]
    pictures = np.stack([(smooth(rng, 4, SIZE, SIZE) * 255).astype(np.uint8).transpose(1, 2, 0) for _ in range(stills)])
    pictures[..., 3] = np.clip(pictures[..., 3].astype(int) * 2, 0, 255)
    centres = (np.arange(cells) + 0.5) * SIZE / cells - 0.5
    base = np.stack(np.meshgrid(centres, centres))
    grid = base + (smooth(rng, stills, 2, cells, cells) - 0.5) * 30  # looks outside here and there
    chosen = smooth(rng, 1, stills, cells, cells) ** 2 + 0.01 if weight is None else weight
    out = {
        "paint": smooth(rng, 1, 4, h // 4, w // 4) * 0.4,
        **{name: smooth(rng, 1, 4, high, wide) for name, (_, _, wide, high) in PATCHES.items()},
        "paint_flow": (smooth(rng, 1, 2, h // 4, w // 4) - 0.5) * 12,
        "grid": grid,
        "weight": chosen / chosen.sum(1, keepdims=True),
        "gain": 0.8 + 0.5 * smooth(rng, 1, 3, cells, cells),
    }
    return pictures, {name: value.astype(np.float32) for name, value in out.items()}


def worst(stills: np.ndarray, out: dict[str, np.ndarray]) -> int:
    """The largest error in levels of 255, rounded; every step rounds to whole levels, so two are allowed."""
    painted = LayersPainter(stills, BOX, PATCHES).paint(out)
    error = np.abs(painted.astype(float) - reference(stills, BOX, out))
    assert error.mean() < 0.6
    return round(float(error.max()))


@pytest.mark.parametrize(("seed", "stills", "cells"), [(0, 1, 16), (1, 2, 16), (2, 3, 24), (3, 3, 32), (4, 4, 20)])
def test_matches_the_definition(seed: int, stills: int, cells: int) -> None:
    assert worst(*case(seed, stills, cells)) <= 2


def test_matches_where_side_stills_count_only_in_places() -> None:
    for seed in range(4):
        weight = np.zeros((1, 3, 24, 24))
        weight[0, 0] = 1
        weight[0, 1, 3:9, 14:20] = smooth(np.random.default_rng(seed), 1, 6, 6)[0] * 3
        weight[0, 2, :, :2] = 2
        assert worst(*case(seed, 3, 24, weight)) <= 2


def test_a_side_still_alone() -> None:
    weight = np.zeros((1, 2, 16, 16))
    weight[0, 1] = 1
    assert worst(*case(5, 2, 16, weight)) <= 2


@pytest.mark.parametrize("seed", range(4))
def test_empty_parts_of_the_picture_are_left_out_rightly(tiny_pack: Path, seed: int) -> None:
    """Busts with much nothing around them, moved, shrunk and looked at from outside."""
    stills = open_avatar(tiny_pack).person("dina").stills
    stills = np.stack([stills[0], np.roll(stills[1], 9, 1)])
    rng = np.random.default_rng(seed)
    size, cells = 128, 32
    centres = (np.arange(cells) + 0.5) * size / cells - 0.5
    base = np.stack(np.meshgrid(centres, centres)) - 64
    scale, moves = rng.uniform(0.7, 1.6, (2, 1, 1, 1)), rng.uniform(-30, 30, (2, 2, 1, 1))
    weight = np.where(base[0] > rng.uniform(-30, 30), 0.7, 0.0)
    out = {
        "paint": smooth(rng, 1, 4, 16, 16) * 0.4,
        "paint_flow": (smooth(rng, 1, 2, 16, 16) - 0.5) * 8,
        "grid": base * scale + moves + 64,
        "weight": np.stack([1 - weight, weight])[None],
        "gain": 0.9 + 0.2 * smooth(rng, 1, 3, cells, cells),
    }
    out = {name: value.astype(np.float32) for name, value in out.items()}
    box = (32, 32, 64, 64)
    error = np.abs(LayersPainter(stills, box).paint(out).astype(float) - reference(stills, box, out, {}))
    assert round(error.max()) <= 2


def test_no_gain_is_no_change() -> None:
    stills, out = case(6, 2, 16)
    out["gain"] = np.ones_like(out["gain"])
    assert worst(stills, out) <= 2


def test_frames_do_not_leak_into_each_other() -> None:
    stills, first = case(7, 3, 16)
    _, second = case(8, 3, 16)
    painter = LayersPainter(stills, BOX, PATCHES)
    before = painter.paint(first)
    kept = before.copy()
    painter.paint(second)
    assert np.array_equal(before, kept)
    assert np.array_equal(painter.paint(first), kept)


def test_premultiply() -> None:
    picture = np.array([[[200, 100, 50, 255], [200, 100, 50, 51], [200, 100, 50, 0]]], np.uint8)
    assert premultiply(picture).tolist() == [[[200, 100, 50, 255], [40, 20, 10, 51], [0, 0, 0, 0]]]


def test_neutral_outputs_give_back_the_still(tiny_pack: Path) -> None:
    person = open_avatar(tiny_pack).person("ada")
    size, cells = 128, 16
    centres = (np.arange(cells, dtype=np.float32) + 0.5) * size / cells - 0.5
    base = np.stack(np.meshgrid(centres, centres))
    out = {
        "paint": np.zeros((1, 4, 16, 16), np.float32),
        "paint_flow": np.zeros((1, 2, 16, 16), np.float32),
        "grid": np.stack([base, base]),
        "weight": np.stack([np.ones((cells, cells)), np.zeros((cells, cells))])[None].astype(np.float32),
        "gain": np.ones((1, 3, cells, cells), np.float32),
    }
    painted = LayersPainter(person.stills, (32, 32, 64, 64)).paint(out)
    inside = np.s_[8:-8, 8:-8]  # enlarging repeats the outermost cells
    assert np.abs(painted[inside].astype(int) - premultiply(person.stills[0])[inside].astype(int)).max() <= 1
