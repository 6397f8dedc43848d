"""A frame decoder as two graphs: the face, and where the head's stills go. Neither needs the other's answer, so that two
cores draw one frame in little more than half of the time, and a film need not ask for the head in every frame.
"""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from engine.backends.base import Graph, State, Tensors
from engine.manifest import GraphSpec

Array = NDArray[np.float32]
HEAD = ("grid", "weight", "gain")  # what says how the head is turned (docs/formats.md, picture kind `layers`)


def halves(spec: GraphSpec) -> tuple[GraphSpec, GraphSpec] | None:
    """Declarations of the face's half and the head's; None for a graph that has no such halves."""
    head = [t for t in spec.outputs if t.name in HEAD]
    face = [t for t in spec.outputs if t.name not in HEAD]
    if spec.state or len(head) < len(HEAD) or not face:
        return None
    return spec.model_copy(update={"outputs": face}), spec.model_copy(update={"outputs": head})


class _Both:
    def __init__(self, face: State, head: State) -> None:
        self.face, self.head = face, head


class InHalves:
    """Both halves as one `Graph`; `side_by_side` runs the head's half in a thread of its own."""

    def __init__(self, face: Graph, head: Graph, spec: GraphSpec, side_by_side: bool) -> None:
        self._face, self._head, self.spec = face, head, spec
        self.device = f"{face.device}{' for each of two halves' if side_by_side else ''}"
        self._beside = ThreadPoolExecutor(1, "head") if side_by_side else None

    def initial(self) -> State:
        return _Both(self._face.initial(), self._head.initial())

    def bind(self, inputs: Tensors) -> None:
        self._face.bind(inputs)
        self._head.bind(inputs)

    def step(self, state: State, inputs: Tensors) -> tuple[State, dict[str, Array]]:
        assert isinstance(state, _Both)
        if self._beside is None:
            state.head, turned = self._head.step(state.head, inputs)
            state.face, drawn = self._face.step(state.face, inputs)
        else:
            waiting = self._beside.submit(self._head.step, state.head, inputs)
            try:
                state.face, drawn = self._face.step(state.face, inputs)
            finally:
                waiting.exception()  # the inputs are the caller's again when this returns
            state.head, turned = waiting.result()
        return state, drawn | turned

    def step_face(self, state: State, inputs: Tensors) -> tuple[State, dict[str, Array]]:
        """Like `step`, without the head's outputs and without their cost."""
        assert isinstance(state, _Both)
        state.face, drawn = self._face.step(state.face, inputs)
        return state, drawn

    def close(self) -> None:
        if self._beside is not None:
            self._beside.shutdown()
        self._face.close()
        self._head.close()
