"""Clothes: rings lofted around the mean bust, fitted to the person, with a collar or hood where the kind asks.

Fitting follows the identity's displacement of the bust, pushes out what lies under the skin, and tells which skin
triangles are covered, so that the renderer can drop them.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import PchipInterpolator
from scipy.ndimage import gaussian_filter, maximum_filter
from scipy.spatial import cKDTree

from training.rig.collar import neckwear
from training.rig.loft import grid_triangles
from training.rig.mesh import unit, vertex_normals
from training.rig.pack import BACK, HeadPack
from training.rig.part import Part, columns, float32
from training.rig.person import Person
from training.rig.raster import CLOTH

Array = NDArray[np.float32]
COLUMNS = 96
MARGIN_CM = 0.3  # least distance of cloth over skin
FIRST_COVERING_ROW = 6  # rows before this one are the neckline: skin next to them stays
NECKLINE_DROP_CM = {"crew": 2.2, "v": 5.5, "collar": 2.6, "hoodie": 2.6, "turtle": 0.2}


def bust_displacement(pack: HeadPack, points: Array, base: Array, neighbours: int = 24) -> Array:
    """Smooth displacement mean -> person of points near the neck and shoulders."""
    bust = np.where(pack.outer_skin & (pack.mean[:, 1] < -6))[0]
    distance, near = cKDTree(pack.mean[bust]).query(points, k=neighbours)
    weight = 1 / (distance + 1.0)
    weight /= weight.sum(1, keepdims=True)
    return ((base - pack.mean)[bust[near]] * weight[..., None]).sum(1)


def make_clothes(pack: HeadPack, person: Person, base: Array) -> tuple[Part, NDArray[np.bool_]]:
    """The clothes of a person and which triangles of the head they hide [F]."""
    shirt, n_rows, folds = mean_shirt(pack, person)
    points = shirt.points + bust_displacement(pack, shirt.points, base)
    normals = np.zeros_like(base)
    vertex_normals(base, pack.triangle_vertex, normals)
    # below -17 the bust is cut off and its normals are useless
    skin = np.where(pack.outer_skin & (pack.mean[:, 1] < -6) & (pack.mean[:, 1] > -17))[0]
    points = _push_out(points, shirt.triangles, n_rows, base[skin], normals[skin])
    fitted_normals = cloth_normals(points, shirt.triangles, folds)
    shirt = Part(CLOTH, *float32(points, fitted_normals), shirt.attr, shirt.head_weight, shirt.triangles)
    extras = neckwear(person, shirt, COLUMNS)
    return Part.join([shirt, *extras]), _covered_skin(pack, shirt.points, base)


def _push_out(points: Array, triangles: Array, n_rows: int, skin: Array, skin_normals: Array) -> Array:
    """Lifts cloth that is under the skin. The lift is widened and blurred: no dents or kinks."""
    tree = cKDTree(skin)
    for _ in range(2):
        distance, near = tree.query(points, k=6)
        weight = 1 / (distance + 0.05)
        weight /= weight.sum(1, keepdims=True)
        surface = (skin[near] * weight[..., None]).sum(1)
        normal = unit((skin_normals[near] * weight[..., None]).sum(1))
        height = ((points - surface) * normal).sum(1)
        exact = (np.clip(MARGIN_CM - height, 0, 3) * (distance[:, 0] < 3)).reshape(n_rows, COLUMNS)
        wide = maximum_filter(exact, (9, 9), mode=("nearest", "wrap"))
        for row in range(1, n_rows):  # cloth hangs from the shoulders: no ridge below a lift
            wide[row] = np.maximum(wide[row], 0.97 * wide[row - 1])
        wide = gaussian_filter(wide, (3.5, 3.5), mode=("nearest", "wrap"))
        k = np.clip((np.arange(n_rows) - 4) / 8, 0, 1)[:, None]  # the neckline stays tight
        lift = exact + (wide - exact) * k
        points = points + cloth_normals(points, triangles, np.zeros(len(points))) * lift.reshape(-1, 1)
    return points


def _covered_skin(pack: HeadPack, cloth: Array, base: Array) -> NDArray[np.bool_]:
    """Per triangle of the head: is it hidden under the clothes (and below the moving neck)?"""
    low = np.where(pack.outer_skin & (pack.neck_weight < 0.05))[0]
    _, near = cKDTree(cloth).query(base[low])
    covered = np.zeros(len(pack.mean), bool)
    covered[low] = near // COLUMNS >= FIRST_COVERING_ROW
    return covered[pack.triangle_vertex].all(1) & (pack.triangle_material <= BACK)


def neck_section(pack: HeadPack, y: float) -> tuple[float, float, float]:
    """Half width, front z and back z of the mean neck at height y."""
    ring = pack.outer_skin & (np.abs(pack.mean[:, 1] - y) < 0.8) & (np.abs(pack.mean[:, 0]) < 12)
    q = pack.mean[ring]
    return float(q[:, 0].max()), float(q[:, 2].max()), float(q[:, 2].min())


def mean_shirt(pack: HeadPack, person: Person) -> tuple[Part, int, Array]:
    """The garment on the mean bust, the number of its grid rows and how strongly each point folds."""
    theta = np.linspace(0, 2 * np.pi, COLUMNS, endpoint=False)
    cos, sin = np.cos(theta), np.sin(theta)
    drop = NECKLINE_DROP_CM[person.clothes.kind]
    high = 1.2 if person.clothes.kind == "turtle" else 0.0
    shoulder = (19.5 if person.sex == "male" else 17.0) * person.clothes.width
    neck_x, front, back = neck_section(pack, -10.5)
    neck_z, centre_z = (front - back) / 2, (front + back) / 2
    slope_x = neck_x + 4.5
    middle_x = slope_x + 0.62 * (shoulder - 2.2 - slope_x)
    rings = [  # t, half width, half depth, height, ambient occlusion
        (0.00, neck_x + 0.25, neck_z + 0.45, -9.6 + high, 0.45),
        (0.06, neck_x + 0.95 - 0.4 * (high > 0), neck_z + 1.0 - 0.3 * (high > 0), -9.9 + 0.7 * high, 0.9),
        (0.10, neck_x + 1.6, neck_z + 1.3, -10.7, 0.7),
        (0.30, slope_x, neck_z + 2.6, -12.4, 0.9),
        (0.55, middle_x, neck_z + 3.4, -14.2, 1),
        (0.75, shoulder - 2.2, neck_z + 4.2, -16.2, 1),
        (0.90, shoulder - 0.2, neck_z + 5.0, -18.6, 1),
        (1.00, shoulder + 0.8, neck_z + 5.8, -22.5, 1),
        (1.10, shoulder + 1.0, neck_z + 6.5, -34, 0.9),
    ]
    in_front, behind = np.clip(sin, 0, 1), np.clip(-sin, 0, 1)
    ring_points, ring_attr = [], []
    for i, (t, rx, rz, height, occlusion) in enumerate(rings):
        x = rx * np.sign(cos) * np.abs(cos) ** (0.85 if i < 4 else 0.75)
        z = centre_z + rz * np.sign(sin) * np.abs(sin) ** 0.95 + in_front * (1.2 * np.clip((t - 0.1) * 2, 0, 1))
        k = max(0, 1 - t / 0.75)
        dip = in_front**1.3 if person.clothes.kind != "v" else in_front**2.2
        y = height - dip * (drop + 1.6) * k + behind * 0.8 * k
        ring_points.append(np.stack([x, y, z], 1))
        trim = 0.12 if i < 2 and person.clothes.kind in ("crew", "v") else 0.0
        ring_attr.append(np.stack([np.full(COLUMNS, trim), theta / (2 * np.pi), np.full(COLUMNS, occlusion)], 1))
    ring_t = np.array([ring[0] for ring in rings])
    row_t = np.unique(np.r_[np.linspace(0, 0.12, 8), np.linspace(0.12, 1.1, 26)])
    points = PchipInterpolator(ring_t, np.array(ring_points))(row_t).reshape(-1, 3)
    attr = PchipInterpolator(ring_t, np.array(ring_attr))(row_t).reshape(-1, 3)
    y = points[:, 1].reshape(-1, COLUMNS)  # a deep neckline must not make the chest fold upwards
    for row in range(FIRST_COVERING_ROW, len(y)):
        y[row] = np.minimum(y[row], y[row - 1] - 0.12)
    w = np.clip((points[:, 1] + 15) / 9.5, 0, 1)  # same rule as the skin: bends with the neck
    shirt = Part(
        CLOTH,
        *float32(points, np.zeros_like(points)),
        columns(*attr.T, count=len(points)),
        *float32(w * w * (3 - 2 * w)),
        grid_triangles(len(row_t), COLUMNS),
    )
    return shirt, len(row_t), np.clip((row_t.repeat(COLUMNS) - 0.2) * 2, 0, 1)


def cloth_normals(points: Array, triangles: Array, folds: Array) -> Array:
    """Smooth outward normals with soft folding."""
    a, b, c = (points[triangles[:, k]] for k in range(3))
    face_normal = np.cross(b - a, c - a)
    normals = np.zeros_like(points)
    for k in range(3):
        np.add.at(normals, triangles[:, k], face_normal)
    normals = unit(normals)
    x, y, z = points.T
    if (normals[:, 2] * (z - np.median(z))).sum() < 0:
        normals = -normals
    fold = np.stack(
        [
            np.sin(y * 1.1 + x * 0.5) + 0.6 * np.sin(y * 0.45 - x * 0.8 + 1.0),
            np.sin(x * 0.9 + z) + 0.5 * np.sin(x * 0.37 + y * 0.6),
            np.zeros(len(x)),
        ],
        1,
    )
    return unit(normals + 0.11 * fold * folds[:, None])
