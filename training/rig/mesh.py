"""Meshes in motion: normals, blend shapes, the head bone, and the camera."""

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float32]

FRAME_WIDTH_CM = 38.0  # what the picture shows in the plane of the neck
CAMERA_DISTANCE_CM = 105.0
CAMERA_TARGET_Y_CM = 0.6
CAMERA_LIFT_CM = 1.5


@njit(cache=True, fastmath=True)
def vertex_normals(points, triangles, out):
    """Area-weighted unit normals [N, 3] of an anticlockwise mesh."""
    out[:] = 0
    for i in range(triangles.shape[0]):
        a, b, c = triangles[i, 0], triangles[i, 1], triangles[i, 2]
        ux, uy, uz = points[b, 0] - points[a, 0], points[b, 1] - points[a, 1], points[b, 2] - points[a, 2]
        vx, vy, vz = points[c, 0] - points[a, 0], points[c, 1] - points[a, 1], points[c, 2] - points[a, 2]
        nx, ny, nz = uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx
        for k in (a, b, c):
            out[k, 0] += nx
            out[k, 1] += ny
            out[k, 2] += nz
    for i in range(out.shape[0]):
        inverse = np.float32(1.0) / (np.sqrt(out[i, 0] ** 2 + out[i, 1] ** 2 + out[i, 2] ** 2) + np.float32(1e-9))
        out[i, 0] *= inverse
        out[i, 1] *= inverse
        out[i, 2] *= inverse


@dataclass(frozen=True)
class SparseShapes:
    """Blend shapes that keep only the vertices they move."""

    vertices: NDArray[np.int32]  # [K] all shapes one after another
    deltas: Array  # [K, 3]
    starts: NDArray[np.int64]  # [shapes + 1]

    @classmethod
    def of(cls, shapes: Array, threshold_cm: float = 2e-4) -> "SparseShapes":
        moved = [np.flatnonzero(np.abs(shape).max(1) > threshold_cm) for shape in shapes]
        return cls(
            np.concatenate(moved).astype(np.int32),
            np.concatenate([shape[rows] for shape, rows in zip(shapes, moved)]).astype(np.float32),
            np.cumsum([0, *map(len, moved)]).astype(np.int64),
        )

    def blend(self, base: Array, weights: Array, out: Array) -> None:
        """out [N, 3] = base + sum of weight x delta."""
        active = np.flatnonzero(np.abs(weights) > 1e-4)
        _blend(base, self.vertices, self.deltas, self.starts, weights.astype(np.float32), active, out)


@njit(cache=True, fastmath=True)
def _blend(base, vertices, deltas, starts, weights, active, out):
    out[:] = base
    for q in range(active.shape[0]):
        w = weights[active[q]]
        for j in range(starts[active[q]], starts[active[q] + 1]):
            v = vertices[j]
            out[v, 0] += w * deltas[j, 0]
            out[v, 1] += w * deltas[j, 1]
            out[v, 2] += w * deltas[j, 2]


@njit(cache=True, fastmath=True)
def place(points, normals, rows, weight, rot, pivot, shift, view_proj, pixels, world, world_normal, screen, first):
    """Moves corners with the head bone (linear blend by weight) and projects them: screen holds x, y, depth.

    rows [n] picks the point of each corner; results go to [first, first + n).
    """
    m = view_proj
    half = np.float32(0.5) * np.float32(pixels)
    one = np.float32(1)
    for i in range(rows.shape[0]):
        v = rows[i]
        w = weight[i]
        px, py, pz = points[v, 0], points[v, 1], points[v, 2]
        dx, dy, dz = px - pivot[0], py - pivot[1], pz - pivot[2]
        x = px + w * (rot[0, 0] * dx + rot[0, 1] * dy + rot[0, 2] * dz + pivot[0] + shift[0] - px)
        y = py + w * (rot[1, 0] * dx + rot[1, 1] * dy + rot[1, 2] * dz + pivot[1] + shift[1] - py)
        z = pz + w * (rot[2, 0] * dx + rot[2, 1] * dy + rot[2, 2] * dz + pivot[2] + shift[2] - pz)
        k = first + i
        world[k, 0] = x
        world[k, 1] = y
        world[k, 2] = z
        nx, ny, nz = normals[v, 0], normals[v, 1], normals[v, 2]
        for r in range(3):
            turned = rot[r, 0] * nx + rot[r, 1] * ny + rot[r, 2] * nz
            world_normal[k, r] = normals[v, r] + w * (turned - normals[v, r])
        inverse = one / (m[3, 0] * x + m[3, 1] * y + m[3, 2] * z + m[3, 3])
        screen[k, 0] = ((m[0, 0] * x + m[0, 1] * y + m[0, 2] * z + m[0, 3]) * inverse + one) * half
        screen[k, 1] = (one - (m[1, 0] * x + m[1, 1] * y + m[1, 2] * z + m[1, 3]) * inverse) * half
        screen[k, 2] = (m[2, 0] * x + m[2, 1] * y + m[2, 2] * z + m[2, 3]) * inverse


@njit(cache=True, fastmath=True)
def turn(vectors, rot, out, first):
    """out[first + i] = rot @ vectors[i]."""
    for i in range(vectors.shape[0]):
        for r in range(3):
            out[first + i, r] = rot[r, 0] * vectors[i, 0] + rot[r, 1] * vectors[i, 1] + rot[r, 2] * vectors[i, 2]


def unit(vectors: ArrayLike) -> NDArray[np.floating]:
    """Normalises the last axis."""
    a = np.asarray(vectors)
    return a / (np.linalg.norm(a, axis=-1, keepdims=True) + 1e-9)


def rotation(pose: ArrayLike) -> NDArray[np.float64]:
    """Ry(yaw) Rx(pitch) Rz(roll): pose [..., 3] radians -> [..., 3, 3]."""
    angles = np.asarray(pose, float)
    c, s = np.cos(angles), np.sin(angles)
    (cy, cx, cz), (sy, sx, sz) = np.moveaxis(c, -1, 0), np.moveaxis(s, -1, 0)
    rows = [
        [cy * cz + sy * sx * sz, sy * sx * cz - cy * sz, sy * cx],
        [cx * sz, cx * cz, -sx],
        [cy * sx * sz - sy * cz, sy * sz + cy * sx * cz, cy * cx],
    ]
    return np.moveaxis(np.array(rows), (0, 1), (-2, -1))


@dataclass(frozen=True)
class Camera:
    """The one fixed camera: looks at the head from the front."""

    position: Array  # [3]
    view_proj: Array  # [4, 4]
    size: int

    @classmethod
    def portrait(cls, size: int) -> "Camera":
        position = np.array([0, CAMERA_TARGET_Y_CM + CAMERA_LIFT_CM, CAMERA_DISTANCE_CM])
        view = look_at(position, np.array([0, CAMERA_TARGET_Y_CM, 0]))
        t, near, far = 2 * CAMERA_DISTANCE_CM / FRAME_WIDTH_CM, 20.0, 300.0
        projection = np.diag([t, t, (far + near) / (near - far), 0.0])
        projection[2, 3], projection[3, 2] = 2 * far * near / (near - far), -1.0
        return cls(position.astype(np.float32), (projection @ view).astype(np.float32), size)

    def project(self, points: ArrayLike) -> Array:
        """[..., 3] cm -> [..., 2] pixels; the first pixel's centre is (0.5, 0.5)."""
        p = np.asarray(points, np.float64)
        clip = p @ self.view_proj[:, :3].T.astype(np.float64) + self.view_proj[:, 3]
        x = (clip[..., 0] / clip[..., 3] + 1) * 0.5 * self.size
        y = (1 - clip[..., 1] / clip[..., 3]) * 0.5 * self.size
        return np.stack([x, y], -1).astype(np.float32)


def look_at(eye: ArrayLike, target: ArrayLike) -> NDArray[np.float64]:
    """World to view: the camera looks from `eye` at `target`, y up."""
    eye, target = np.asarray(eye, float), np.asarray(target, float)
    forward = unit(target - eye)
    side = unit(np.cross(forward, (0, 1, 0)))
    matrix = np.eye(4)
    matrix[:3, :3] = side, np.cross(side, forward), -forward
    matrix[:3, 3] = -matrix[:3, :3] @ eye
    return matrix


def light_matrix(direction: ArrayLike, radius_cm: float = 23.0) -> Array:
    """Parallel light from `direction`: world to -1..1, depth growing away from the light."""
    centre = np.array([0.0, 0.0, 3.0])
    view = look_at(np.asarray(direction) * 60 + centre, centre)
    near, far = 1.0, 110.0
    ortho = np.diag([1 / radius_cm, 1 / radius_cm, -2 / (far - near), 1.0])
    ortho[2, 3] = -(far + near) / (far - near)
    return (ortho @ view).astype(np.float32)
