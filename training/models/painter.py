"""What a face shows that no warp of its neutral still can: mouth, teeth, tongue, lids, irises, folds.

The painter works in the face box of the frontal still, where mouth and eyes always stand in the same place. Skin is
moved there by the person's blend shapes (`FaceMotion`, nothing learned); the painter corrects that flow, tints the
skin coarsely, and paints two patches, eyes and mouth, at full resolution.
"""

from collections.abc import Iterator, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.models.blocks import Film, FilmBlock, Up, feather
from training.models.surface import Box, back_turn, frame_rows, head_motion, middles, sample, sight_lines, solve

CELL = 4  # pixels of the still per cell of the flow
WIDE, FINE, HALF, FULL = 64, 40, 32, 16  # channels at 1/8, 1/4, 1/2 and full resolution
FLOW_PX = 4.0  # pixels per unit of the learned correction


def eye_cells(box: Box, eyes: Box) -> Tensor:
    """Pixels of the still in the middles of the half-size cells of the eyes' patch (in the box), [1, 2, h / 2, w / 2]."""
    x = box.x + eyes.x + torch.arange(eyes.w // 2) * 2 + 0.5
    y = box.y + eyes.y + torch.arange(eyes.h // 2) * 2 + 0.5
    down, right = torch.meshgrid(y, x, indexing="ij")
    return torch.stack([right, down]).unsqueeze(0)


def around(cells: int, start: int, size: int) -> slice:
    """The cells of an axis that the pixels from `start` on are enlarged from."""
    return slice(max(start // CELL - 1, 0), min((start + size) // CELL + 1, cells))


def enlarging(cells: int, start: int, size: int) -> Tensor:
    """[size, cells around them]: one axis of enlarging cells bilinearly to pixels, for the pixels from `start` on."""
    whole = F.interpolate(torch.eye(cells).unsqueeze(0), scale_factor=CELL, mode="linear", align_corners=False)[0]
    return whole[around(cells, start, size), start : start + size].T.contiguous()


class FaceMotion(nn.Module):
    """The person's blend shapes as displacement maps over the face box: expression -> where each cell looks.

    `motion` [R, 3 h w] cm and `motion_mix` [60, R] are the rank-R displacement of the surface point seen at each cell
    of the neutral face.
    """

    def __init__(self, view_projection: Tensor, pivot: Tensor, size: int, box: Box, steps: int = 4) -> None:
        super().__init__()
        self.box, self.steps = box, steps
        self.rows, self.columns = box.h // CELL, box.w // CELL
        still = torch.eye(3).unsqueeze(0)
        motion = head_motion(frame_rows(view_projection, size, box), pivot, still, torch.zeros(1, 3))
        constants = {
            "camera": motion,
            "back": back_turn(still),
            "target": middles(self.rows, self.columns),
            "rim": feather(self.rows, self.columns, 4),
            "pixels": torch.tensor([box.w / 2, box.h / 2]).view(1, 2, 1),
            **sight_lines(frame_rows(view_projection, size, box), self.rows, self.columns),
        }
        for name, value in constants.items():
            self.register_buffer(name, value, persistent=False)

    def forward(self, expression: Tensor, surface: Tensor, mix: Tensor, motion: Tensor) -> tuple[Tensor, Tensor]:
        """Surface of the box [1, 4, rows, columns] -> flow [B, 2, rows, columns] px, moved surface [B, 4, ...]."""
        b = len(expression)
        moved = ((expression @ mix) @ motion).view(-1, 3, self.rows, self.columns) * self.rim
        moved = surface + F.pad(moved, (0, 0, 0, 0, 0, 1))
        guess = self.target.expand(b, -1, -1)
        at = solve(moved, self.camera.expand(b, -1, -1), self.back, self.target, guess, self.rows, self.steps)
        flow = ((at - self.target) * self.pixels).view(-1, 2, self.rows, self.columns)
        # Between lips and lids the search finds no surface and wanders: keep the distance it found, smoothed, and put
        # the point where this cell looks.
        found = sample(moved, at, self.rows)
        depth = (found[:, :3] * self.axis).sum(1, keepdim=True)
        depth = F.avg_pool2d(depth, 3, 1, 1, count_include_pad=False) + self.eye_depth
        return flow, torch.cat([self.eye + self.ray * depth, found[:, 3:]], 1)


class Painter(nn.Module):
    """Expression, gaze and person -> paint [B, 4, h / 4, w / 4], paint_flow [B, 2, h / 4, w / 4], the eyes' and the
    mouth's patches [B, 4, ...] at full size by name, and the moved surface of the box.
    """

    def __init__(self, motion: FaceMotion, eyes: Box, mouth: Box, embedding: int, places: int) -> None:
        super().__init__()
        self.motion, self.box = motion, motion.box
        self.patches = {"eyes": eyes, "mouth": mouth}
        blocks = [WIDE] * 3 + [FINE] * 3 + [HALF, HALF, FULL] * 2
        self.film = Film(60 + 2 + embedding, 128, blocks)
        self.coarse = nn.Conv2d(2 + places, WIDE, 1)
        self.coarse_blocks = nn.ModuleList(FilmBlock(WIDE, 5) for _ in range(3))
        self.up = Up(WIDE, FINE)
        self.join = nn.Conv2d(FINE + 2 + places, FINE, 1)
        self.blocks = nn.ModuleList(FilmBlock(FINE, 5) for _ in range(2))
        self.head = nn.Conv2d(FINE, 6, 1)
        self.up2 = nn.ModuleDict({name: Up(FINE, HALF) for name in self.patches})
        extra = {"eyes": 3, "mouth": 0}
        self.join2 = nn.ModuleDict({n: nn.Conv2d(HALF + places + extra[n], HALF, 1) for n in self.patches})
        self.block2 = nn.ModuleDict({name: FilmBlock(HALF, 5) for name in self.patches})
        self.up1 = nn.ModuleDict({name: Up(HALF, FULL) for name in self.patches})
        self.out = nn.ModuleDict({name: nn.Conv2d(FULL, 4, 1) for name in self.patches})
        for conv in (self.head, *self.out.values()):
            nn.init.zeros_(conv.weight)
            nn.init.zeros_(conv.bias)
        self.register_buffer("rim", feather(self.box.h // CELL, self.box.w // CELL, 12 // CELL), persistent=False)
        self.register_buffer("eye_cells", eye_cells(self.box, eyes), persistent=False)
        for name, patch in self.patches.items():
            self.register_buffer("rim_" + name, feather(patch.h, patch.w, 8), persistent=False)
            self.register_buffer("rows_" + name, enlarging(self.box.h // CELL, patch.y, patch.h), persistent=False)
            self.register_buffer("columns_" + name, enlarging(self.box.w // CELL, patch.x, patch.w).T, persistent=False)

    def forward(
        self, expression: Tensor, gaze: Tensor, person: Mapping[str, Tensor]
    ) -> tuple[Tensor, Tensor, dict[str, Tensor], Tensor]:
        b = len(expression)
        flow, moved = self.motion(expression, person["face_surface"], person["motion_mix"], person["motion"])
        film = self.film(torch.cat([expression, gaze * 4, person["embedding"].expand(b, -1)], 1))
        skin = torch.cat([flow / 16, person["place"].expand(b, -1, -1, -1)], 1)
        x = self.coarse(F.avg_pool2d(skin, 2))
        for block in self.coarse_blocks:
            x = block(x, film)
        x = self.join(torch.cat([self.up(x, film), skin], 1))
        for block in self.blocks:
            x = block(x, film)
        head = self.head(x)
        flow = flow + head[:, :2] * (FLOW_PX * self.motion.rim)
        tint, level = head[:, 2:], torch.cat([person["tone"], person["tone"].new_full((1, 1, 1, 1), -3.0)], 1)
        paint = torch.sigmoid(tint + level)
        paint = torch.cat([paint[:, :3], paint[:, 3:] * self.rim * self._solid(flow, person["solid"])], 1)
        known = {"eyes": [self._irises(gaze, person["pupils"])], "mouth": []}
        patches = {}
        for name, patch in self.patches.items():
            detail = self._patch(name, patch, x, film, [person["place_" + name], *known[name]])
            patches[name] = torch.sigmoid(self._under(tint, name, patch) + detail + level)
        return paint, flow, patches, moved

    def _solid(self, flow: Tensor, solid: Tensor) -> Tensor:
        """1 where the still is opaque both here and where the flow looks: paint stays off the silhouette."""
        at = self.motion.target + flow.flatten(2) / self.motion.pixels
        return solid * sample(solid.expand(len(flow), -1, -1, -1), at, self.motion.rows)

    def _under(self, tint: Tensor, name: str, patch: Box) -> Tensor:
        """The coarse tint under a patch, enlarged as all of it would be. As two products: a third of an interpolation's time."""
        rows, columns = getattr(self, "rows_" + name), getattr(self, "columns_" + name)
        y, x = around(self.box.h // CELL, patch.y, patch.h), around(self.box.w // CELL, patch.x, patch.w)
        return rows @ (tint[:, :, y, x] @ columns)

    def _irises(self, gaze: Tensor, pupils: Tensor) -> Tensor:
        """Where each half-size cell of the eyes' patch lies from the pupil of its eye, [B, 3, h, w]: x, y, distance.

        pupils [1, 2, 3]: place of each pupil in the still, looking ahead, and what a radian moves it, px.
        """
        aim = torch.cat([gaze[:, :1].sin(), -gaze[:, 1:].sin()], 1).unsqueeze(1)
        at = (pupils[:, :, :2] + pupils[:, :, 2:] * aim).unsqueeze(3).unsqueeze(4)  # [B, 2 eyes, 2, 1, 1]
        at = torch.where(self.eye_cells[:, :1] < self.box.x + self.box.w / 2, at[:, 0], at[:, 1])
        away = ((self.eye_cells - at) / 8).clamp(-3, 3)
        return torch.cat([away, (away.square().sum(1, keepdim=True) + 1e-4).sqrt()], 1)

    def _patch(self, name: str, patch: Box, x: Tensor, film: Iterator[Tensor], known: list[Tensor]) -> Tensor:
        """Eyes or mouth, drawn from the cells under the patch, with a soft rim."""
        top, left = patch.y // CELL, patch.x // CELL
        x = x[:, :, top : top + patch.h // CELL, left : left + patch.w // CELL]
        x = self.up2[name](x, film)
        x = self.join2[name](torch.cat([x, *(k.expand(len(x), -1, -1, -1) for k in known)], 1))
        x = self.up1[name](self.block2[name](x, film), film)
        return self.out[name](x) * getattr(self, "rim_" + name)
