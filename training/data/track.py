"""One face followed through a video: its mesh in every picture, where scenes change, and whether somebody else is there."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import cv2
import numpy as np

from training.data.crop import cut_square
from training.data.landmarks import MESH_POINTS, FaceLandmarker

LOOK_AROUND_EVERY = 5  # pictures between two searches of the whole picture
SEARCH_SIZE = 640  # long side of the picture that is searched for faces, pixels
MESH_SIZE = 384  # side of the square that the mesh is taken from, pixels
MESH_MARGIN = 1.7  # that square's side over the face's
THUMBNAIL = (32, 18)
CUT_LEVEL = 20.0  # mean difference of two thumbnails, of 255: two scenes. A nod in close-up stays under 8
CUT_RATIO = 5.0  # and this much above the usual, so that a shaking camera cuts nothing
HOLE_S = 0.25  # a longer wait for the next picture ends the scene


@dataclass(frozen=True)
class Track:
    """`n` pictures of one video, in order of container time."""

    times: np.ndarray  # [n] float64, s
    mesh: np.ndarray  # [n, 478, 3] float32, pixels of the upright picture, z away from the camera; NaN: no face
    second: np.ndarray  # [n] width of the second largest face over the largest, 0 when alone, NaN: not looked
    new_scene: np.ndarray  # [n] bool: a scene starts with this picture
    width: int
    height: int

    def found(self) -> np.ndarray:
        return np.isfinite(self.mesh[:, 0, 0])


def follow(pictures: Iterable[tuple[float, np.ndarray]], landmarker: FaceLandmarker) -> Track:
    """Pictures [h, w, 3] uint8 RGB with their times -> the track of the largest face. Raises what `pictures` raises."""
    times, meshes, seconds, scenes = [], [], [], []
    cuts = SceneCuts()
    face: np.ndarray | None = None
    fresh, since_look = True, LOOK_AROUND_EVERY
    shape = (0, 0)
    for time_s, picture in pictures:
        starts = cuts.starts_scene(picture, time_s)
        if starts:
            face, since_look = None, LOOK_AROUND_EVERY
        second = np.nan
        if face is None or since_look >= LOOK_AROUND_EVERY:
            box, second = _search(picture, landmarker, face)
            since_look = 0
            if face is None:
                fresh = True
            elif box is None:
                box = _box_of(face)
        else:
            box = _box_of(face)
        face = _mesh_at(picture, box, landmarker, fresh) if box is not None else None
        fresh = face is None
        since_look += 1
        times.append(time_s)
        meshes.append(face if face is not None else np.full((MESH_POINTS, 3), np.nan, np.float32))
        seconds.append(second)
        scenes.append(starts)
        shape = picture.shape[:2]
    return Track(
        times=np.array(times),
        mesh=np.array(meshes, np.float32).reshape(-1, MESH_POINTS, 3),
        second=np.array(seconds),
        new_scene=np.array(scenes, bool),
        width=shape[1],
        height=shape[0],
    )


class SceneCuts:
    """Tells where one scene ends and the next begins, from thumbnails alone."""

    def __init__(self) -> None:
        self._last: np.ndarray | None = None
        self._last_s = 0.0
        self._usual = 2.0

    def starts_scene(self, picture: np.ndarray, time_s: float) -> bool:
        """Whether [h, w, 3] uint8 starts a scene; call it for every picture in order."""
        thumbnail = cv2.resize(picture, THUMBNAIL, interpolation=cv2.INTER_AREA).astype(np.float32)
        last, self._last = self._last, thumbnail
        waited, self._last_s = time_s - self._last_s, time_s
        if last is None:
            return True
        difference = float(np.abs(thumbnail - last).mean())
        if difference > max(CUT_LEVEL, CUT_RATIO * self._usual):
            return True
        self._usual += 0.05 * (difference - self._usual)
        return waited > HOLE_S


def _search(picture: np.ndarray, landmarker: FaceLandmarker, face: np.ndarray | None):
    """(x, y, w, h) of the face to follow or None, and the second face's width over the largest."""
    scale = min(1.0, SEARCH_SIZE / max(picture.shape[:2]))
    small = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA) if scale < 1 else picture
    boxes = landmarker.boxes(small)[:, :4] / scale
    if not len(boxes):
        return None, 0.0
    boxes = boxes[np.argsort(-boxes[:, 2])]
    second = float(boxes[1, 2] / boxes[0, 2]) if len(boxes) > 1 else 0.0
    if face is not None:
        return _box_of(face), second  # the mesh knows its own place better than a new box does
    return boxes[0], second


def _box_of(face: np.ndarray) -> np.ndarray:
    low, high = face[:, :2].min(0), face[:, :2].max(0)
    return np.array([*low, *(high - low)])


def _mesh_at(picture: np.ndarray, box: np.ndarray, landmarker: FaceLandmarker, fresh: bool) -> np.ndarray | None:
    """The mesh of the face in `box`, in pixels of the picture."""
    side = MESH_MARGIN * max(box[2:])
    left, top = box[0] + box[2] / 2 - side / 2, box[1] + box[3] / 2 - side / 2
    square = cut_square(picture, left, top, side, MESH_SIZE)
    if fresh:
        landmarker.forget()
        if landmarker.mesh(square) is None:  # the detector's guess at where to look ...
            return None
    points = landmarker.mesh(square)  # ... which the mesh itself refines
    if points is None:
        return None
    middle = points[:, :2].mean(0) / MESH_SIZE
    if np.abs(middle - 0.5).max() > 0.35:  # it wandered off to something else
        return None
    return (points * (side / MESH_SIZE) + [left, top, 0]).astype(np.float32)


def look_once(picture: np.ndarray, landmarker: FaceLandmarker) -> np.ndarray | None:
    """The mesh [478, 3] of the largest face of a single picture, in its pixels, or None."""
    box, _ = _search(picture, landmarker, None)
    return None if box is None else _mesh_at(picture, box, landmarker, fresh=True)
