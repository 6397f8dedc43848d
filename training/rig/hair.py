"""Head hair: locks grown step by step from the scalp along a style's flow, as ribbons that carry several hairs.

Locks grow on the mean head and then follow the identity: the displacement of the skull at their roots, and for
long hair that of the shoulders they rest on.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from training.rig.clothes import bust_displacement
from training.rig.mesh import unit, vertex_normals
from training.rig.pack import BACK, HeadPack
from training.rig.part import Part, float32
from training.rig.person import Person
from training.rig.raster import HAIR
from training.rig.skin import ears, hairline
from training.rig.styles import Style, flow, style_of

Array = NDArray[np.float64]
FULL_DETAIL = 0.7  # share of a style's locks that is ever drawn


@dataclass(frozen=True)
class Skull:
    """Outer skin of the mean head, for finding what lies under a point."""

    pack: HeadPack
    triangles: NDArray[np.int32]
    normals: Array
    areas: Array
    ids: NDArray[np.int64]
    tree: cKDTree

    def below(self, points: Array, neighbours: int = 4) -> tuple[Array, Array, Array]:
        """Surface point, normal and distance of the nearest vertex, smoothed over neighbours."""
        distance, near = self.tree.query(points, k=neighbours)
        weight = 1 / (distance + 0.05)
        weight /= weight.sum(1, keepdims=True)
        ids = self.ids[near]
        normal = unit((self.normals[ids] * weight[..., None]).sum(1))
        return (self.pack.mean[ids] * weight[..., None]).sum(1), normal, distance[:, 0]


@dataclass(frozen=True)
class Locks:
    """n locks of K points, root first."""

    points: Array  # [n, K, 3]
    normals: Array  # [n, K, 3] away from the head
    tone: Array  # [n]
    depth: Array  # [n] 0 inside .. 1 outside
    inside: Array  # [n] cm from the hairline


@lru_cache(maxsize=2)
def skull_of(pack: HeadPack) -> Skull:
    """The mean head of a pack, prepared once."""
    triangles = pack.triangle_vertex[pack.triangle_material <= BACK]
    triangles = triangles[pack.outer_skin[triangles].all(1)]
    normals = np.zeros_like(pack.mean)
    vertex_normals(pack.mean, pack.triangle_vertex, normals)
    a, b, c = (pack.mean[triangles[:, k]] for k in range(3))
    ids = np.unique(triangles)
    areas = 0.5 * np.linalg.norm(np.cross(b - a, c - a), axis=1)
    return Skull(pack, triangles, normals, areas, ids, cKDTree(pack.mean[ids]))


def sample_roots(rng: np.random.Generator, skull: Skull, count: int, person: Person) -> tuple[Array, Array, Array]:
    """Random scalp points: points, normals, distance to the hairline (roots thin out around it)."""
    tri = rng.choice(len(skull.triangles), count * 6, p=skull.areas / skull.areas.sum())
    uv = rng.random((len(tri), 2))
    flip = uv.sum(1) > 1
    uv[flip] = 1 - uv[flip]
    bary = np.stack([1 - uv.sum(1), uv[:, 0], uv[:, 1]], 1)[..., None]
    points = (skull.pack.mean[skull.triangles[tri]] * bary).sum(1)
    normals = unit((skull.normals[skull.triangles[tri]] * bary).sum(1))
    inside = hairline(points, person.hair.hairline, person.hair.recede)
    keep = (inside > rng.normal(0.05, 0.32, len(inside))) & ~ears(points) & (points[:, 1] > -5.5)
    return points[keep][:count], normals[keep][:count], inside[keep][:count]


def grow(
    rng: np.random.Generator, skull: Skull, style: Style, roots: Array, normals: Array, inside: Array, rest: Part | None
) -> Locks:
    """Grows all locks together; `rest` is what long hair comes to lie on."""
    n = len(roots)
    layer = rng.random(n)
    clumps = max(40, n // style.clump)
    clump = cKDTree(roots[rng.choice(n, clumps, replace=False)]).query(roots)[1]
    tone = 0.6 * rng.random(clumps)[clump] + 0.4 * rng.random(n)
    jitter = rng.normal(0, 1, (clumps, 3))[clump] * style.clump_jitter + rng.normal(0, 1, (n, 3)) * style.jitter
    top = np.clip((roots[:, 1] - 8.5) / 3.5, 0, 1)
    edge = np.clip(inside / 2.2, 0.15, 1)
    volume = style.volume * (0.35 + 0.65 * layer) * (style.side_volume + (1 - style.side_volume) * top) * edge
    length = style.length * rng.uniform(0.8, 1.08, n) * (style.side_length + (1 - style.side_length) * top)
    length = length * np.clip(0.55 + 0.45 * inside / 1.2, 0.35, 1)  # baby hairs at the edge
    step = length / (style.points - 1)
    phase = rng.uniform(0, 2 * np.pi, clumps)[clump] + rng.normal(0, 0.25, n)
    rest_tree = cKDTree(rest.points) if rest is not None else None

    p = roots - normals * 0.05
    direction = unit(normals * style.lift + flow(style, roots, normals) * (1 - style.lift) + jitter)
    points, strand_normals = [p], [normals]
    for i in range(1, style.points):
        t = i / (style.points - 1)
        want = flow(style, p, strand_normals[-1])
        gravity = np.array([0, -style.gravity * t, 0])
        direction = unit(direction * (1 - style.follow) + want * style.follow + gravity + jitter * 0.6)
        q = p + unit(_curled(direction, strand_normals[-1], style, i * step, phase)) * step[:, None]
        surface, skull_normal, distance = skull.below(q)
        height = ((q - surface) * skull_normal).sum(1)
        missing = volume * np.sin(min(1, t * 2.2) * np.pi / 2) + 0.06 - height
        if style.hugs:
            pull = missing * np.where(missing > 0, 1.0, 0.55) * np.clip(1.8 - distance * 0.25, 0, 1)
        else:
            pull = np.maximum(missing, 0) * (distance < 4)
        q = q + skull_normal * pull[:, None]
        if style.kind == "bun":
            q = np.where(np.linalg.norm(style.knot - p, axis=1, keepdims=True) < 1.2, p + (style.knot - p) * 0.3, q)
        if rest_tree is not None:
            q = _lie_on(q, rest, rest_tree, layer)
        direction = unit(direction * 0.4 + unit(q - p) * 0.6)
        p = q
        points.append(p)
        strand_normals.append(skull_normal)
    return Locks(np.stack(points, 1), np.stack(strand_normals, 1), tone, layer * edge, inside)


def _curled(direction: Array, normal: Array, style: Style, along: Array, phase: Array) -> Array:
    if not style.wave:
        return direction
    s = along * style.wave_frequency * 2 * np.pi + phase
    side = unit(np.cross(direction, normal) + 1e-6)
    return direction + style.wave * (side * np.cos(s)[:, None] + normal * 0.6 * np.sin(s)[:, None])


def _lie_on(q: Array, rest: Part, tree: cKDTree, layer: Array) -> Array:
    """Pushes the points that sink into the shoulders out of them."""
    low = q[:, 1] < -6
    if low.any():
        distance, near = tree.query(q[low])
        outward = rest.normals[near]
        height = ((q[low] - rest.points[near]) * outward).sum(1)
        q = q.copy()
        q[low] += outward * (np.maximum(0.25 + 0.5 * layer[low] - height, 0) * (distance < 6))[:, None]
    return q


def make_hair(pack: HeadPack, person: Person, base: Array, clothes: Part, detail: float) -> Part | None:
    """Ribbons of a person's hair, or None when bald. detail below FULL_DETAIL keeps fewer, wider locks of the same hair."""
    if person.hair.kind == "bald":
        return None
    style = style_of(person.hair)
    rng = np.random.default_rng([person.seed, 77])
    skull = skull_of(pack)
    roots, normals, inside = sample_roots(rng, skull, int(style.count * FULL_DETAIL), person)
    rest = _unfitted(pack, clothes, base) if style.hangs else None
    locks = grow(rng, skull, style, roots, normals, inside, rest)
    moved, head_weight = _follow(pack, skull, style, locks, roots, base, clothes)
    hair = ribbons(rng, style, locks, moved, head_weight, detail)
    if style.kind == "bun":
        from training.rig.bun import make_bun

        hair = Part.join([hair, make_bun(rng, style.knot, style.knot_radius)])
    return hair


def _unfitted(pack: HeadPack, clothes: Part, base: Array) -> Part:
    """The clothes moved back onto the mean bust, where hair grows."""
    points = clothes.points - bust_displacement(pack, clothes.points, base)
    return Part(
        clothes.material, *float32(points), clothes.normals, clothes.attr, clothes.head_weight, clothes.triangles
    )


def _follow(
    pack: HeadPack, skull: Skull, style: Style, locks: Locks, roots: Array, base: Array, clothes: Part
) -> tuple[Array, Array]:
    """How the identity moves each point, and how much of it follows the head."""
    distance, near = skull.tree.query(roots, k=12)
    weight = 1 / (distance + 0.3)
    weight /= weight.sum(1, keepdims=True)
    at_root = ((base - pack.mean)[skull.ids[near]] * weight[..., None]).sum(1)
    moved = np.repeat(at_root[:, None], locks.points.shape[1], 1)
    head_weight = np.ones(locks.points.shape[:2])
    if style.hangs:  # the ends lie on the shoulders: they follow the bust and stay there
        k = np.clip((locks.points[..., 1] + 17) / 12, 0, 1)
        head_weight = k * k * (3 - 2 * k)
        low = head_weight < 1
        on_bust = bust_displacement(pack, locks.points[low], base)
        moved[low] += (on_bust - moved[low]) * (1 - head_weight[low])[:, None]
        placed = locks.points[low] + moved[low]
        distance, near = cKDTree(clothes.points).query(placed)
        outward = clothes.normals[near]
        height = ((placed - clothes.points[near]) * outward).sum(1)
        moved[low] += outward * (np.clip(0.3 - height, 0, 4) * (distance < 5))[:, None]
    return moved, head_weight


def ribbons(
    rng: np.random.Generator, style: Style, locks: Locks, moved: Array, head_weight: Array, detail: float
) -> Part:
    """Turns locks into ribbons; fewer locks (detail < 1) are drawn wider."""
    n, k_points = locks.points.shape[:2]
    normals = locks.normals
    if style.hangs:  # hanging hair faces away from the head's axis
        x, y, z = np.moveaxis(locks.points, -1, 0)
        outward = unit(np.stack([x, np.clip(y - 3, -1, 9) * 0.8, z + 0.5], -1))
        k = np.clip((6 - y) / 6, 0, 1)[..., None]
        normals = unit(normals * (1 - k) + outward * k)
    tangents = unit(np.gradient(locks.points, axis=1))
    side = unit(np.cross(tangents, normals))
    facing = unit(np.cross(side, tangents))
    facing *= np.sign((facing * normals).sum(-1, keepdims=True))
    t = np.linspace(0, 1, k_points)
    width = style.width / detail**0.8 * np.interp(t, [0, 0.15, 0.7, 1], [0.8, 1, 0.9, 0.35])
    width = width[None, :] * np.clip(0.35 + locks.inside / 1.2, 0.35, 1)[:, None]
    side = unit(side + facing * rng.normal(0, 0.35, (n, 1, 1)))
    placed = locks.points + moved
    points = np.stack([placed - side * width[..., None], placed + side * width[..., None]], 2)
    edge_normals = np.stack([unit(facing - side * 0.35), unit(facing + side * 0.35)], 2)
    attr = np.zeros((n, k_points, 2, 6))
    attr[..., 0] = t[None, :, None]
    attr[..., 1] = locks.tone[:, None, None]
    attr[..., 2] = locks.depth[:, None, None]
    attr[..., 3] = (-1, 1)
    attr[..., 4] = rng.random(n)[:, None, None]
    attr[..., 5] = np.clip(0.45 + locks.inside * 0.45, 0.3, 1)[:, None, None]
    kept = min(n, round(n * detail / FULL_DETAIL))  # roots lie in random order: any first part covers the head
    corner_tangents = np.repeat(tangents[:, :, None], 2, 2)
    corner_weight = np.repeat(head_weight[:, :, None], 2, 2)
    flat = (a[:kept].reshape(-1, a.shape[-1]) for a in (points, edge_normals, attr, corner_tangents))
    placed_points, corner_normals, corner_attr, corner_tangents = float32(*flat)
    return Part(
        HAIR,
        placed_points,
        corner_normals,
        corner_attr,
        *float32(corner_weight[:kept].ravel()),
        ribbon_triangles(kept, k_points),
        corner_tangents,
    )


def ribbon_triangles(n: int, k_points: int) -> NDArray[np.int32]:
    first = (np.arange(n)[:, None] * k_points + np.arange(k_points - 1)[None])[..., None] * 2
    quads = np.concatenate([first + np.array([0, 1, 2]), first + np.array([1, 3, 2])], -1)
    return quads.reshape(-1, 3).astype(np.int32)
