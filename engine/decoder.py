"""Contexts become pictures: the frame decoder with a person's tensors and stills."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from engine.avatar import Avatar, Person
from engine.backends.base import Graph, State
from engine.backends.halves import InHalves
from engine.idle import Motion
from engine.layers import LayersPainter
from engine.manifest import Condition, LayersPicture

Array = NDArray[np.float32]
Part = Literal["whole", "face", "eyeless"]


@dataclass(frozen=True)
class Picture:
    """`rgba [S, S, 4]` uint8, premultiplied, owned by the caller; `expression [60]` float32 after the blink, None
    if not offered.
    """

    rgba: NDArray[np.uint8]
    expression: Array | None


class FrameDecoder:
    """Draws any frame from its contexts and motion; keeps nothing between frames. One thread at a time."""

    def __init__(self, avatar: Avatar, graph: Graph, person: Person) -> None:
        self._graph, self._manifest = graph, avatar.manifest
        self._wanted = graph.spec.inputs_of("condition")
        self._limits = {name: _limits(avatar.manifest.conditions[name]) for name in self._wanted}
        self._state: State = graph.initial()
        self.person = person
        self.show(person)

    def show(self, person: Person) -> None:
        """Draws this person from now on."""
        self.person = person
        self._graph.bind(person.tensors)
        picture = self._manifest.picture
        self._painter = None
        if isinstance(picture, LayersPicture):
            self._painter = LayersPainter(person.stills, picture.face_box, picture.patches)

    def draw(self, contexts: Array, motion: Motion) -> Picture:
        """`contexts [1, W, C]`; motion is clipped to what the avatar was trained for.

        Raises `BackendError` on misfit shapes.
        """
        self._state, outputs = self._graph.step(self._state, self._inputs(contexts, motion))
        return self.finish(outputs)

    @property
    def in_halves(self) -> bool:
        """Whether `layers` can leave the head out."""
        return isinstance(self._graph, InHalves)

    def prepare_for_many(self) -> None:
        """Hundreds of frames will be asked for: what makes parts of them quicker may be loaded, beside the work."""
        if isinstance(self._graph, InHalves):
            self._graph.prepare_eyeless()

    def layers(self, contexts: Array, motion: Motion, part: Part = "whole") -> dict[str, Array]:
        """The decoder's outputs alone, copied, for `finish`. "face" leaves out those of `HEAD`, "eyeless" perhaps the
        eyes too, for `between` to fill in. As `draw`.
        """
        inputs = self._inputs(contexts, motion)
        if part == "whole" or not isinstance(self._graph, InHalves):
            self._state, outputs = self._graph.step(self._state, inputs)
        elif part == "face":
            self._state, outputs = self._graph.step_face(self._state, inputs)
        else:
            self._state, outputs = self._graph.step_eyeless(self._state, inputs)
        return {name: value.copy() for name, value in outputs.items()}

    def finish(self, outputs: Mapping[str, Array]) -> Picture:
        """The picture that the decoder's outputs describe."""
        rgba = self._painter.paint(outputs) if self._painter else _quantise(outputs["picture"])
        expression = outputs.get("expression")
        return Picture(rgba, None if expression is None else expression[0].copy())

    def _inputs(self, contexts: Array, motion: Motion) -> dict[str, Array]:
        inputs = {"context": contexts}
        for name in self._wanted:
            low, high = self._limits[name]
            inputs[name] = np.clip(getattr(motion, name), low, high)[None]
        return inputs


def between(
    face: Mapping[str, Array], before: Mapping[str, Array], after: Mapping[str, Array], share: float
) -> dict[str, Array]:
    """Layers of a frame: what `face` lacks and both others have is taken `share` of the way from one to the other."""
    lacking = {
        name: np.asarray(cv2.addWeighted(before[name], 1 - share, after[name], share, 0), np.float32)
        for name in before
        if name in after and name not in face
    }
    return {**face, **lacking}


def _limits(condition: Condition) -> tuple[Array, Array]:
    return np.asarray(condition.min, np.float32), np.asarray(condition.max, np.float32)


def _quantise(picture: Array) -> NDArray[np.uint8]:
    """Premultiplied RGBA [1, 4, S, S] 0..1 -> [S, S, 4] uint8, colour never above alpha."""
    planes = np.clip(picture[0], 0.0, 1.0)
    np.minimum(planes[:3], planes[3:], out=planes[:3])
    return np.ascontiguousarray((planes * 255.0 + 0.5).astype(np.uint8).transpose(1, 2, 0))
