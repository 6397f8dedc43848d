"""The person's visible surface as maps over the stills, and the search for the surface point that each pixel sees.

Nothing here is learned. A surface map holds, for every cell of a still, the head-space point (cm) seen there and how
far it follows the head. Posed and projected it says where that cell goes; `solve` inverts this: where does each cell
of the picture look? Each step moves the guess by the miss, turned back by the head's rotation.

Places are in frame units, as grid_sample wants them: -1 .. 1 over a frame (the picture, or a box in it), y down.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Box:
    """A rectangle in pixels of the picture, or of another box; sides and corner are multiples of 8."""

    x: int
    y: int
    w: int
    h: int

    def within(self, outer: "Box") -> "Box":
        """The same rectangle in coordinates of `outer`."""
        return Box(self.x - outer.x, self.y - outer.y, self.w, self.h)


def rotation(pose: Tensor) -> Tensor:
    """[B, 3] yaw, pitch, roll in radians -> [B, 3, 3] = Ry Rx Rz."""
    (cy, cx, cz), (sy, sx, sz) = pose.cos().split(1, 1), pose.sin().split(1, 1)
    rows = (
        (cy * cz + sy * sx * sz, sy * sx * cz - cy * sz, sy * cx),
        (cx * sz, cx * cz, -sx),
        (cy * sx * sz - sy * cz, sy * sz + cy * sx * cz, cy * cx),
    )
    return torch.cat([entry for row in rows for entry in row], 1).view(-1, 3, 3)


def frame_rows(view_projection: Tensor, size: int, box: Box | None = None) -> Tensor:
    """[3, 4]: homogeneous points (cm) -> (x d, y d, d) with x, y in units of the picture or of a box in it."""
    x, y, d = view_projection[0], -view_projection[1], view_projection[3]
    if box is not None:
        x = (x * size + (size - 2 * box.x - box.w) * d) / box.w
        y = (y * size + (size - 2 * box.y - box.h) * d) / box.h
    return torch.stack([x, y, d])


def head_motion(rows: Tensor, pivot: Tensor, turn: Tensor, shift: Tensor) -> Tensor:
    """[B, 6, 4]: how frame rows [3, 4] see a point that stays (first three), and what full head motion adds to that.

    turn [B, 3, 3] about pivot [3] cm, shift [B, 3] cm.
    """
    linear = rows[:, :3] @ turn
    offset = rows[:, :3] @ (pivot + shift - (turn @ pivot)).unsqueeze(2)
    change = torch.cat([linear - rows[:, :3], offset], 2)
    return torch.cat([rows.expand(len(turn), 3, 4), change], 1)


def plane_map(rows: Tensor, motion: Tensor, z_cm: float) -> Tensor:
    """[B, 3, 3]: place in the posed picture -> place in the still (homogeneous), for points of the head's plane z.

    rows [3, 4] of the still, motion [B, 6, 4] of a point wholly on the head.
    """

    def on_plane(r: Tensor) -> Tensor:
        return torch.cat([r[..., :2], r[..., 2:3] * z_cm + r[..., 3:]], -1)

    a, b, c = on_plane(motion[:, :3] + motion[:, 3:]).unbind(1)
    adjugate = torch.stack([torch.linalg.cross(b, c), torch.linalg.cross(c, a), torch.linalg.cross(a, b)], 2)
    return on_plane(rows) @ adjugate


def back_turn(turn: Tensor) -> Tensor:
    """What a damped step back along a miss adds for points on the head: [B, 3, 3] -> [B, 2, 2], frame units, y down.

    0.9 (T^-1 - 1), T the picture-plane part of the rotation.
    """
    a, b, c, d = (turn[:, i, j].view(-1, 1) for i, j in ((0, 0), (0, 1), (1, 0), (1, 1)))
    det = (a * d - b * c).clamp(min=0.3)
    return 0.9 * (torch.cat([d / det - 1, b / det, c / det, a / det - 1], 1).view(-1, 2, 2))


def middles(height: int, width: int) -> Tensor:
    """Frame units of the middles of a grid of cells, [1, 2, height * width]."""
    x, y = ((torch.arange(n) + 0.5) * 2 / n - 1 for n in (width, height))
    down, right = torch.meshgrid(y, x, indexing="ij")
    return torch.stack([right, down]).view(1, 2, -1)


def sight_lines(rows: Tensor, height: int, width: int) -> dict[str, Tensor]:
    """How distances become points again: point = eye + ray * distance, distance = axis . point + eye_depth.

    For the middles of a grid of cells over the frame with the rows [3, 4]; each [1, 1 or 3, height or 1, width or 1].
    """
    inverse = torch.linalg.inv(rows[:, :3].double())
    at = torch.cat([middles(height, width), torch.ones(1, 1, height * width)], 1).double()
    return {
        "ray": (inverse @ at).float().view(1, 3, height, width),
        "eye": -(inverse @ rows[:, 3].double()).float().view(1, 3, 1, 1),
        "axis": rows[2, :3].clone().view(1, 3, 1, 1),
        "eye_depth": rows[2, 3].clone().view(1, 1, 1, 1),
    }


def sample(image: Tensor, at: Tensor, rows: int, padding: str = "border") -> Tensor:
    """Bilinear image [B, C, H, W] at places [B, 2, rows * columns] -> [B, C, rows, columns]."""
    where = at.transpose(1, 2).reshape(len(at), rows, -1, 2)
    return F.grid_sample(image, where, mode="bilinear", padding_mode=padding, align_corners=False)


def look(surface: Tensor, motion: Tensor, at: Tensor, rows: int) -> tuple[Tensor, Tensor, Tensor]:
    """Surface [B, 4 or more, N, N] (x, y, z, head weight, ...) at places [B, 2, n] of its still, and where the motion
    brings it.

    -> points [B, 4 or more, n], places [B, 2, n] in the posed picture, distance from the camera [B, 1, n] cm.
    """
    points = sample(surface, at, rows).flatten(2)
    both = motion[:, :, :3] @ points[:, :3] + motion[:, :, 3:]
    seen = both[:, :3] + points[:, 3:4] * both[:, 3:]
    return points, seen[:, :2] / seen[:, 2:], seen[:, 2:]


def solve(
    surface: Tensor, motion: Tensor, back: Tensor, target: Tensor, guess: Tensor, rows: int, steps: int
) -> Tensor:
    """Where in the still each target place [1 or B, 2, n] looks, from a guess [B, 2, n]; damped fixed point."""
    for _ in range(steps):
        points, places, _ = look(surface, motion, guess, rows)
        miss = target - places
        guess = guess + 0.9 * miss + points[:, 3:] * (back @ miss)
    return guess
