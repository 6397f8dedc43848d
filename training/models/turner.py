"""Turns the head: where each cell of the picture looks in each of the person's stills, and how the light changes.

Geometry does most of it (`surface.solve` on each still's own surface, nothing learned). What is learned, at half the
grid and then at the grid: which still to believe, small corrections where surfaces fold or hide, and the light, which
stays with the room while the head turns. The side stills travel together along the batch axis, still by still.
"""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.models.blocks import Film, FilmBlock, Up
from training.models.painter import CELL
from training.models.surface import (
    Box,
    back_turn,
    frame_rows,
    head_motion,
    look,
    middles,
    plane_map,
    rotation,
    sample,
    solve,
)

LOOKS = 4  # colour and alpha of the stills, on the coarse grid
PLACES = 6  # learned maps over each still
WIDE, LOW, FINE = 32, 64, 16  # channels on the coarse grid, on half of it, and on the grid
FLOW_PX = 8.0  # pixels per unit of a learned correction
MIDDLE_CM, DEPTH_CM = 105.0, 8.0  # distance of the head from the camera, and the scale of its depth
CRISP, SILENT = 2.0, 0.12  # in use, belief counts so many times, and what is left under the second is nothing
FRONT_STEPS, SIDE_STEPS = 3, 3
FACE_PLANE_CM = 8.0  # z of the plane through the face from which the search starts

Person = Mapping[str, Tensor]


def _decided(belief: Tensor) -> Tensor:
    """Belief [B, K, h, w] -> weights that sum to 1, most of them 0: stills without a say need not be drawn."""
    weight = ((CRISP * belief).softmax(1) - SILENT).clamp(min=0)
    return weight / weight.sum(1, keepdim=True)


class Turner(nn.Module):
    """Pose, shift and the moved face -> grid [B, K, 2, G, G] px, weight [B, K, G, G], gain [B, 3, G, G]."""

    def __init__(
        self,
        view_projection: Tensor,
        pivot: Tensor,
        size: int,
        box: Box,
        still_poses: Tensor,
        grid: int,
        embedding: int,
    ) -> None:
        super().__init__()
        self.size, self.box, self.grid, self.half, self.stills = size, box, grid, grid // 2, len(still_poses)
        self.decided = False  # True: weights are as crisp in training as in use
        rows, sides = frame_rows(view_projection, size), still_poses[1:]
        constants = {
            "rows": rows,
            "pivot": pivot,
            "to_sides": head_motion(rows, pivot, rotation(sides), torch.zeros(len(sides), 3)),
            "coarse_cells": middles(self.half, self.half),
            "coarse_points": torch.cat([middles(self.half, self.half), torch.ones(1, 1, self.half**2)], 1),
            "fine_cells": middles(grid, grid),
            # the frontal still carries the face: believe it first
            "prior": torch.tensor([2.0] + [0.0] * len(sides)).view(1, -1, 1, 1),
        }
        for name, value in constants.items():
            self.register_buffer(name, value, persistent=False)
        n = self.stills
        self.film = Film(6 + embedding, 64, [WIDE] * 2 + [LOW] * 3 + [WIDE] * 2 + [FINE] * 2)
        self.enter = nn.Conv2d(n * (6 + LOOKS + PLACES) + 6, WIDE, 1)
        self.high_blocks = nn.ModuleList(FilmBlock(WIDE) for _ in range(2))
        self.down = nn.Conv2d(WIDE, LOW, 1)
        self.low_blocks = nn.ModuleList(FilmBlock(LOW, 5) for _ in range(3))
        self.up = Up(LOW, WIDE)
        self.leave_block = FilmBlock(WIDE)
        self.widen, self.shuffle = nn.Conv2d(WIDE, FINE * 4, 1), nn.PixelShuffle(2)
        self.join, self.join_seen = nn.Conv2d(FINE, FINE, 1), nn.Conv2d(n * 6, FINE, 1)
        self.fine_blocks = nn.ModuleList(FilmBlock(FINE) for _ in range(2))
        self.flow, self.belief, self.light = (nn.Conv2d(FINE, channels, 1) for channels in (2 * n, n, 3))
        for conv in (self.flow, self.belief, self.light):
            nn.init.zeros_(conv.weight)
            nn.init.zeros_(conv.bias)

    def forward(self, pose: Tensor, shift: Tensor, moved: Tensor, person: Person) -> tuple[Tensor, Tensor, Tensor]:
        b, n, g = len(pose), self.stills, self.grid
        turn = rotation(pose)
        motion, back = head_motion(self.rows, self.pivot, turn, shift), back_turn(turn)
        motion, back = motion.repeat(n, 1, 1), back.repeat(n, 1, 1)
        surfaces = self._surfaces(moved, person["surface"])
        at = self._solve(surfaces, motion, back, b)
        # outside the trained range the head turns on, but the corrections stay as they are at its border
        state = torch.cat([(pose * 3).clamp(-1.6, 1.6), shift.clamp(-1, 1), person["embedding"].expand(b, -1)], 1)
        film = self.film(state)
        x = self._coarse(surfaces, at, motion, turn, film, person)

        at = F.interpolate(at.view(-1, 2, self.half, self.half), scale_factor=2, mode="bilinear", align_corners=False)
        at, seen, doubt = self._refine(surfaces, at.flatten(2), motion, back, person)
        x = self.join(self.shuffle(self.widen(x))) + self.join_seen(seen)
        for block in self.fine_blocks:
            x = block(x, film)
        found = at.view(n, b, 2, g, g).transpose(0, 1) if n * b > n else at.view(1, n, 2, g, g)
        pixels = (found + 1) * (self.size / 2) - 0.5 + FLOW_PX * self.flow(x).view(b, n, 2, g, g)
        belief = 4 * self.belief(x) + self.prior - doubt
        # early learning needs every still's say; a finished picture is crisper, and cheaper, with fewer of them mixed
        weight = belief.softmax(1) if self.training and not self.decided else _decided(belief)
        return pixels, weight, torch.exp(self.light(x).clamp(-2, 1.5))

    def _surfaces(self, moved: Tensor, surface: Tensor) -> Tensor:
        """Surface of each still, [K B, 4, N, N]; into the frontal one goes the face as its expression has moved it."""
        b, size = len(moved), self.size // CELL
        x, y, w, h = (v // CELL for v in (self.box.x, self.box.y, self.box.w, self.box.h))
        change = moved - surface[:1, :, y : y + h, x : x + w]
        frontal = surface[:1] + F.pad(change, (x, size - x - w, y, size - y - h))
        sides = surface[1:] if b == 1 else surface[1:].repeat_interleave(b, 0)
        return torch.cat([frontal, sides])

    def _solve(self, surfaces: Tensor, motion: Tensor, back: Tensor, b: int) -> Tensor:
        """Where each coarse cell looks in each still, [K B, 2, n]; sides are searched from the frontal answer."""
        target, half, front = self.coarse_cells, self.half, surfaces[:b]
        flat = plane_map(self.rows, motion[:b], FACE_PLANE_CM) @ self.coarse_points
        held = sample(front[:, 3:], target.expand(b, -1, -1), half).flatten(2)
        guess = target + held * (flat[:, :2] / flat[:, 2:] - target)
        frontal = solve(front, motion[:b], back[:b], target, guess, half, FRONT_STEPS)
        points = sample(front, frontal, half).flatten(2).repeat(self.stills - 1, 1, 1)
        to_sides = self.to_sides if b == 1 else self.to_sides.repeat_interleave(b, 0)
        both = to_sides[:, :, :3] @ points[:, :3] + to_sides[:, :, 3:]
        seen = both[:, :3] + points[:, 3:] * both[:, 3:]
        guess = seen[:, :2] / seen[:, 2:]
        sides = solve(surfaces[b:], motion[b:], back[b:], target, guess, half, SIDE_STEPS)
        return torch.cat([frontal, sides])

    def _coarse(self, surfaces: Tensor, at: Tensor, motion: Tensor, turn: Tensor, film, person: Person) -> Tensor:
        """Features of every candidate on the coarse grid, through a small U of blocks."""
        b, half = len(turn), self.half
        points, places, depth = look(surfaces, motion, at, half)
        miss = ((self.coarse_cells - places) * (self.size / 2 / FLOW_PX)).clamp(-3, 3)
        found = torch.cat([miss, (at - self.coarse_cells) * 4, (depth - MIDDLE_CM) / DEPTH_CM, points[:, 3:]], 1)
        looks = torch.cat([person["looks"], person["place_stills"]], 1)
        looks = looks if b == 1 else looks.repeat_interleave(b, 0)
        features = torch.cat([found.unflatten(2, (half, half)), sample(looks, at, half)], 1)
        normals = sample(person["normals"].expand(b, -1, -1, -1), at[:b], half)
        turned = (turn @ normals.flatten(2)).view(-1, 3, half, half)
        x = self.enter(torch.cat([self._by_frame(features, b), normals, turned], 1))
        for block in self.high_blocks:
            x = block(x, film)
        y = self.down(F.avg_pool2d(x, 2))
        for block in self.low_blocks:
            y = block(y, film)
        return self.leave_block(x + self.up(y, film), film)

    def _refine(
        self, surfaces: Tensor, at: Tensor, motion: Tensor, back: Tensor, person: Person
    ) -> tuple[Tensor, Tensor, Tensor]:
        """One more step on the fine grid: better places [K B, 2, n], features [B, 6 K, G, G], doubt [B, K, G, G]."""
        g, b = self.grid, len(at) // self.stills
        solid = person["solid_stills"] if b == 1 else person["solid_stills"].repeat_interleave(b, 0)
        points, places, depth = look(torch.cat([surfaces, solid], 1), motion, at, g)
        miss = self.fine_cells - places
        at = at + (0.9 * miss + points[:, 3:4] * (back @ miss)).clamp(-0.025, 0.025)
        miss = (miss * (self.size / 2 / FLOW_PX)).clamp(-3, 3)
        front = depth[:b].repeat(self.stills, 1, 1)
        found = torch.cat([miss, (depth - front) / 4, (at - self.fine_cells) * 4, points[:, 4:]], 1)
        seen = self._by_frame(found.unflatten(2, (g, g)), b)
        doubt = self._by_frame(miss.abs().sum(1, keepdim=True).unflatten(2, (g, g)), b)
        return at, seen, doubt

    def _by_frame(self, x: Tensor, b: int) -> Tensor:
        """[K B, C, h, w] -> [B, K C, h, w]."""
        shape = (b, -1, *x.shape[2:])
        return x.reshape(shape) if b == 1 else x.unflatten(0, (self.stills, b)).transpose(0, 1).reshape(shape)
