"""The renderer: person, expression and head pose -> RGBA picture, landmarks and correspondence. CPU only.

One process uses one core; run several processes for several cores (set OPENBLAS_NUM_THREADS=1).
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from training.rig import light, raster
from training.rig.clothes import make_clothes
from training.rig.expressions import INDEX
from training.rig.face import Face
from training.rig.glasses import make_glasses
from training.rig.hair import make_hair
from training.rig.hair_raster import number_lanes, rasterize_hair
from training.rig.lighting import uniforms
from training.rig.mesh import Camera, SparseShapes, light_matrix, place, rotation, turn
from training.rig.pack import BACK, EYE_LEFT, EYE_RIGHT, HeadPack, load_pack
from training.rig.part import Part
from training.rig.person import Person
from training.rig.picture import straight_alpha
from training.rig.shade import TONE, shade
from training.rig.skin import halved, paint_skin

Array = NDArray[np.float32]
SHADOW_SIZE = 448
SHADOW_BLOCK, SHADOW_STEP = 64, 3  # every third block of hair triangles casts a shadow
SURVEYED_RANGE = np.array([0.75, 0.4, 0.35])  # radians of yaw, pitch, roll: beyond, all hair is drawn
SURVEYED_POSES = (
    *((yaw, 0.0, 0.0) for yaw in (-0.75, -0.5, -0.3, -0.15, 0.0, 0.15, 0.3, 0.5, 0.75)),
    *((yaw, pitch, 0.0) for yaw in (-0.4, 0.0, 0.4) for pitch in (-0.35, 0.35)),
    *((yaw, 0.0, roll) for yaw in (-0.2, 0.2) for roll in (-0.3, 0.3)),
)
NONE, HEAD, HAIR, CLOTH, INSIDE_MOUTH = range(5)  # layers of correspondence()
_LAYER_OF_MATERIAL = np.array(
    [HEAD, HEAD, INSIDE_MOUTH, INSIDE_MOUTH, HEAD, HEAD, HEAD, NONE, HAIR, CLOTH, HEAD], np.uint8
)


class Renderer:
    """Draws one person at a time.

    size: pixels; supersample: samples per pixel side (alpha has supersample ** 2 + 1 levels); pack: the face model
    (default: load_pack()). After `render`, `landmarks` [68, 2] px belong to the picture, `landmarks_frontal` to the
    same face at pose zero. Landmark pixels count from the corner: the first pixel's centre is (0.5, 0.5).
    """

    def __init__(self, size: int = 512, supersample: int = 2, pack: HeadPack | None = None) -> None:
        self.size = size
        self.supersample = supersample
        self.pack = pack or load_pack()
        self.camera = Camera.portrait(size)
        self.face = Face(self.pack, SparseShapes.of(self.pack.expression_basis))
        self.landmarks = np.zeros((68, 2), np.float32)
        self.landmarks_frontal = np.zeros((68, 2), np.float32)
        pixels = size * supersample
        self._depth = np.empty((pixels, pixels), np.float32)
        self._tri_id = np.empty((pixels, pixels), np.int32)
        self._shadow = np.empty((SHADOW_SIZE, SHADOW_SIZE), np.float32)
        self._premultiplied = np.empty((size, size, 4), np.float32)
        self._detail, self._lanes = (0.4, 3) if size <= 256 else (0.7, 4)

    def set_person(self, person: Person) -> None:
        """Builds all that depends on the person only (some seconds): shape, skin, hair, clothes."""
        self.person = person
        self.face.set_person(person)
        self._uniforms = uniforms(person, self._lanes)
        self._light = light_matrix(self._uniforms[light.KEY_DIR : light.KEY_DIR + 3])
        skin = paint_skin(self.pack, person)
        self._texture = np.ascontiguousarray(halved(skin) if self.size <= 256 else skin)
        self._join()

    def _join(self) -> None:
        """One triangle list of head, clothes, hair and glasses."""
        pack, base = self.pack, self.face.base
        clothes, hidden = make_clothes(pack, self.person, base)
        pieces = [clothes]
        glasses = make_glasses(pack, self.person, base)
        if glasses is not None:
            pieces.append(glasses)
        hair = make_hair(pack, self.person, base, clothes, self._detail)
        if hair is not None:
            pieces.append(hair)
        n_head = len(pack.corner_vertex)
        triangles, materials = [pack.triangles[~hidden]], [pack.triangle_material[~hidden]]
        self._parts: list[tuple[int, Part]] = []
        first = n_head
        for piece in pieces:
            triangles.append(piece.triangles + first)
            materials.append(np.full(len(piece.triangles), piece.material, np.int32))
            self._parts.append((first, piece))
            first += len(piece.points)
        self._triangles = np.concatenate(triangles).astype(np.int32)
        self._materials = np.concatenate(materials).astype(np.int32)
        self._n_skin = int((self._materials <= BACK).sum())
        self._first_hair = int((self._materials != raster.HAIR).sum())  # hair comes last
        self._attr = np.concatenate([_head_attributes(pack), *(p.attr for p in pieces)]).astype(np.float32)
        self._last_seen = len(self._triangles)
        self._number_locks(hair)
        self._rest = np.concatenate([base[pack.corner_vertex], *(p.points for p in pieces)]).astype(np.float32)
        self._world, self._world_normals, self._screen = (np.zeros((first, 3), np.float32) for _ in range(3))
        self._tangents = np.zeros((first, 3), np.float32)
        self._head_weight = np.ascontiguousarray(pack.neck_weight[pack.corner_vertex])
        if hair is not None:
            self._survey_hair()

    def _number_locks(self, hair: Part | None) -> None:
        """Puts lock numbers in place of seeds, sorts the locks front to back, and picks those that cast shadows."""
        self._shadow_hair = np.zeros((0, 3), np.int32)
        self._numbers = np.zeros((1, self._lanes, 2), np.float32)
        if hair is None:
            return
        seeds = hair.attr[:, 4]
        lock = np.cumsum(np.r_[False, seeds[1:] != seeds[:-1]])
        self._numbers = number_lanes(seeds[np.r_[True, seeds[1:] != seeds[:-1]]], self._lanes)
        self._attr[-len(seeds) :, 4] = lock
        triangles = self._triangles[self._first_hair :]
        self._shadow_hair = triangles[(np.arange(len(triangles)) // SHADOW_BLOCK) % SHADOW_STEP == 0].copy()
        front = np.bincount(lock, hair.points[:, 2]) / np.bincount(lock)
        order = np.argsort(-front[lock[hair.triangles[:, 0]]], kind="stable")
        self._triangles[self._first_hair :] = triangles[order]

    def _survey_hair(self) -> None:
        """Puts the hair that shows in none of a range of poses last, so that those poses need not draw it."""
        self.face.deform(np.zeros(len(INDEX)), (0, 0), 0.0)
        self._last_hair = len(self._triangles)
        seen = np.zeros(len(self._triangles), bool)
        for pose in SURVEYED_POSES:
            self._place(rotation(pose).astype(np.float32), np.zeros(3, np.float32))
            self._draw_visibility(self._screen, self._depth, self._tri_id)
            seen[self._tri_id[self._tri_id >= 0]] = True
        hair = np.arange(self._first_hair, len(self._triangles))
        order = np.concatenate([hair[seen[hair]], hair[~seen[hair]]])
        self._triangles[self._first_hair :] = self._triangles[order]
        self._last_seen = self._first_hair + int(seen[hair].sum())

    @property
    def triangle_count(self) -> int:
        return len(self._triangles)

    def render(
        self,
        expression: ArrayLike,
        pose: ArrayLike = (0, 0, 0),
        shift: ArrayLike = (0, 0, 0),
        gaze: ArrayLike = (0, 0),
        blink: float = 0.0,
    ) -> NDArray[np.uint8]:
        """RGBA [size, size, 4] uint8 with straight alpha; conventions in docs/formats.md."""
        weights = self.face.deform(expression, gaze, blink)
        self._last_hair = self._last_seen if (np.abs(pose) <= SURVEYED_RANGE).all() else len(self._triangles)
        self._place(rotation(pose).astype(np.float32), np.asarray(shift, np.float32))
        self._set_moving_uniforms(weights, pose)
        self._draw_shadow()
        self._draw_visibility(self._screen, self._depth, self._tri_id)
        shade(
            self._tri_id, self._depth, self.supersample, self._triangles, self._materials, self._screen, self._world,
            self._world_normals, self._unposed, self._attr, self._tangents, self._numbers,
            self._texture, self._shadow, self._light,
            self.camera.position, self._uniforms, self.face.lids(), TONE, self._premultiplied,
        )  # fmt: skip
        self.landmarks = self.landmarks_for(expression, pose, shift, gaze, blink)
        self.landmarks_frontal = self.landmarks_for(expression, (0, 0, 0), (0, 0, 0), gaze, blink)
        return straight_alpha(self._premultiplied)

    def landmarks_for(
        self,
        expression: ArrayLike,
        pose: ArrayLike = (0, 0, 0),
        shift: ArrayLike = (0, 0, 0),
        gaze: ArrayLike = (0, 0),
        blink: ArrayLike = 0.0,
    ) -> Array:
        """Landmarks [..., 68, 2] px without drawing; expression [..., 60], the rest broadcast to its leading axes."""
        w = np.asarray(expression, np.float32)
        lead = w.shape[:-1]
        pose, shift = np.broadcast_to(pose, (*lead, 3)), np.broadcast_to(shift, (*lead, 3))
        gaze, blink = np.broadcast_to(gaze, (*lead, 2)), np.broadcast_to(blink, lead)
        return self.camera.project(self.face.landmarks(w, pose, shift, gaze, blink))

    def fix_lips(self, expressions: ArrayLike, closure: ArrayLike) -> Array:
        """[n, 60] weights whose lips close where closure [n] is 1 and never cross, for this person."""
        return self.face.lips.fix(expressions, closure)

    def project(self, points: ArrayLike) -> Array:
        """Points [..., 3] (cm, world) -> pixels [..., 2]."""
        return self.camera.project(points)

    def correspondence(self) -> tuple[Array, NDArray[np.uint8]]:
        """For every pixel centre of the last picture: where its surface point lies at rest.

        rest [size, size, 3] float32 cm: the person's neutral, pose-zero position of the surface point seen there (NaN
        where empty), so `project(rest)` is its place in the frontal neutral still. layer [size, size] uint8: 0 none,
        1 head skin, eyes and glasses, 2 hair, 3 cloth, 4 inside of the mouth.
        """
        screen = self._screen.copy()
        screen[:, :2] /= self.supersample
        depth = np.empty((self.size, self.size), np.float32)
        tri_id = np.empty((self.size, self.size), np.int32)
        self._draw_visibility(screen, depth, tri_id)
        clip_w = self._world @ self.camera.view_proj[3, :3] + self.camera.view_proj[3, 3]
        rest = np.empty((self.size, self.size, 3), np.float32)
        raster.surface_rest(tri_id, self._triangles, screen, 1.0, clip_w, self._rest, rest)
        layer = np.where(tri_id < 0, np.uint8(NONE), _LAYER_OF_MATERIAL[self._materials[tri_id]]).astype(np.uint8)
        return rest, layer

    def _place(self, rot: Array, shift: Array) -> None:
        """Poses and projects head, clothes, hair and glasses."""
        pack, camera, pixels = self.pack, self.camera.view_proj, self.size * self.supersample
        out = (self._world, self._world_normals, self._screen)
        place(
            self.face.points, self.face.normals, pack.corner_vertex, self._head_weight, rot, pack.neck_pivot, shift,
            camera, pixels, *out, 0,
        )  # fmt: skip
        self._unposed = self.face.points[pack.corner_vertex]
        for first, part in self._parts:
            rows = np.arange(len(part.points), dtype=np.int32)
            place(
                part.points, part.normals, rows, part.head_weight, rot, pack.neck_pivot, shift, camera, pixels, *out,
                first,
            )  # fmt: skip
            if part.tangents is not None:
                turn(part.tangents, rot, self._tangents, first)

    def _set_moving_uniforms(self, weights: Array, pose: ArrayLike) -> None:
        def both(name: str) -> float:
            return float(weights[INDEX[name + "_L"]] + weights[INDEX[name + "_R"]]) / 2

        u = self._uniforms
        inner_lips = self.face.points[self.pack.landmarks[[62, 66]]]
        u[light.MOUTH_Z] = inner_lips[:, 2].mean() - 0.1
        u[light.WRINKLE_BROW] = np.clip(0.6 * both("browInnerUp") + 0.6 * both("browOuterUp"), 0, 1.2)
        u[light.WRINKLE_FROWN] = np.clip(0.8 * both("browDown") + 0.3 * both("noseSneer"), 0, 1.2)
        squint = 0.5 * both("eyeSquint") + 0.6 * both("cheekSquint") + 0.3 * both("mouthSmile")
        u[light.WRINKLE_SMILE] = np.clip(squint, 0, 1.2)
        u[light.ROTATION : light.ROTATION + 9] = rotation(pose).ravel()

    def _draw_shadow(self) -> None:
        self._shadow.fill(raster.EMPTY_DEPTH)
        skin = self._triangles[: self._n_skin]
        raster.rasterize_shadow(self._world, skin, self._light, self._shadow, False)
        raster.rasterize_shadow(self._world, self._shadow_hair, self._light, self._shadow, True)

    def _draw_visibility(self, screen: Array, depth: Array, tri_id: NDArray[np.int32]) -> None:
        depth.fill(raster.EMPTY_DEPTH)
        tri_id.fill(-1)
        lash_length = 0.55 + 0.45 * self.person.femininity
        hair, last = self._first_hair, self._last_hair
        raster.rasterize(screen, self._triangles, self._materials, self._attr, 0, hair, depth, tri_id, lash_length)
        rasterize_hair(
            screen, self._triangles, self._attr, self._numbers, hair, last, depth, tri_id, self._world,
            self._world_normals,
        )  # fmt: skip


def _head_attributes(pack: HeadPack) -> Array:
    """[M, 6] per corner of the head: skin u, v, ambient occlusion; eyes the direction in the eye's frame."""
    attr = np.zeros((len(pack.corner_vertex), 6), np.float32)
    attr[:, :2] = pack.corner_uv
    attr[:, 2] = np.clip(pack.ambient_occlusion * 1.12, 0, 1)[pack.corner_vertex]
    is_eye = (pack.corner_material == EYE_LEFT) | (pack.corner_material == EYE_RIGHT)
    attr[is_eye, :3] = pack.corner_eye_direction[is_eye]
    return attr
