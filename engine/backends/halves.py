"""A frame decoder as two graphs: the face, and where the head's stills go. Neither needs the other's answer, so that two
cores draw one frame in little more than half of the time, and a film need not ask for the head in every frame, nor for
eyes that rest.
"""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from engine.backends.base import Graph, State, Tensors
from engine.manifest import GraphSpec

Array = NDArray[np.float32]
HEAD = ("grid", "weight", "gain")  # what says how the head is turned (docs/formats.md, picture kind `layers`)
EYES = "eyes"  # the patch that shows them


def halves(spec: GraphSpec) -> tuple[GraphSpec, GraphSpec] | None:
    """Declarations of the face's half and the head's; None for a graph that has no such halves."""
    head = [t for t in spec.outputs if t.name in HEAD]
    face = [t for t in spec.outputs if t.name not in HEAD]
    if spec.state or len(head) < len(HEAD) or not face:
        return None
    return spec.model_copy(update={"outputs": face}), spec.model_copy(update={"outputs": head})


def without_eyes(face: GraphSpec) -> GraphSpec | None:
    """Declaration of the face's half less the eyes; None where it has none, or nothing else."""
    rest = [t for t in face.outputs if t.name != EYES]
    return face.model_copy(update={"outputs": rest}) if 0 < len(rest) < len(face.outputs) else None


class _Both:
    def __init__(self, face: State, head: State) -> None:
        self.face, self.head = face, head
        self.eyeless: State | None = None


class InHalves:
    """Both halves as one `Graph`; `side_by_side` runs the head's half in a thread of its own. `load_eyeless` loads the
    face's half less the eyes, should somebody ask for it.
    """

    def __init__(
        self,
        face: Graph,
        head: Graph,
        spec: GraphSpec,
        side_by_side: bool,
        load_eyeless: Callable[[], Graph] | None = None,
    ) -> None:
        self._face, self._head, self.spec = face, head, spec
        self._load_eyeless = load_eyeless
        self._eyeless: Future[Graph] | None = None
        self._bound: dict[str, Array] = {}
        self._eyeless_bound = False
        self.device = f"{face.device}{' for each of two halves' if side_by_side else ''}"
        self._beside = ThreadPoolExecutor(1, "head") if side_by_side else None

    def initial(self) -> State:
        return _Both(self._face.initial(), self._head.initial())

    def bind(self, inputs: Tensors) -> None:
        self._face.bind(inputs)
        self._head.bind(inputs)
        self._bound |= inputs
        self._eyeless_bound = False

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

    def prepare_eyeless(self) -> None:
        """Begins to load what `step_eyeless` is quicker with. For those who will draw hundreds of frames: what it costs,
        two hundred of them save.
        """
        if self._eyeless is None and self._load_eyeless is not None:
            loader = ThreadPoolExecutor(1, "eyeless")
            self._eyeless = loader.submit(self._load_eyeless)
            loader.shutdown(wait=False)

    def step_eyeless(self, state: State, inputs: Tensors) -> tuple[State, dict[str, Array]]:
        """Like `step_face`, without the eyes and their cost too once that part is loaded."""
        assert isinstance(state, _Both)
        if self._eyeless is None or not self._eyeless.done():
            return self.step_face(state, inputs)
        graph = self._eyeless.result()
        if not self._eyeless_bound:  # it came after the first binding, and others may have followed
            graph.bind(self._bound)
            self._eyeless_bound = True
        if state.eyeless is None:
            state.eyeless = graph.initial()
        state.eyeless, drawn = graph.step(state.eyeless, inputs)
        return state, drawn

    def close(self) -> None:
        if self._eyeless is not None and not self._eyeless.cancel() and not self._eyeless.exception():
            self._eyeless.result().close()
        if self._beside is not None:
            self._beside.shutdown()
        self._face.close()
        self._head.close()
