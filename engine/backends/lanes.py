"""Several avatars share each call of a graph: every one of them has a lane, which looks like a graph of its own.

Lanes belong to threads of their own, as live sessions do. Whoever comes first waits for the others, a few milliseconds
at most; the last to come runs the graph for all, and each takes its part of the answer. A lane that did not come is
computed all the same (shapes are static) and nobody looks at its part. State lies with the lanes, so one may pause,
start over or leave while the others go on.
"""

import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from engine.avatar import Avatar
from engine.backends import Loaded, load_graphs
from engine.backends.base import Array, Graph, State, Tensors, fill
from engine.backends.batched import ROLES, Batch
from engine.errors import BackendError
from engine.manifest import GraphSpec

PATIENCE_MS = 4.0  # how long the first to come waits; a frame at 30 fps lasts 33


@dataclass
class _Round:
    """One call in the making."""

    ends: float  # by time.monotonic(): when it is run with whoever is there
    lanes: set[int] = field(default_factory=set)
    outputs: Mapping[int, dict[str, Array]] | None = None  # by lane
    failure: BaseException | None = None

    @property
    def over(self) -> bool:
        return self.outputs is not None or self.failure is not None


class SharedGraph:
    """A graph for `size` avatars (its declaration as `batched_spec` makes it) and the lanes on it.

    `spec` declares the graph of one avatar. Any thread may call; the graph runs under a lock.
    """

    def __init__(self, graph: Graph, spec: GraphSpec, size: int, patience_ms: float = PATIENCE_MS) -> None:
        self.spec, self.size, self.device = spec, size, f"{graph.device}, shared by up to {size}"
        self._graph, self._patience_s = graph, patience_ms / 1000
        self._state: State = graph.initial()
        self._whole = {t.name: np.zeros(t.shape, np.float32) for t in graph.spec.inputs}
        self._lasting = [t.name for t in graph.spec.inputs if t.role == "person"]
        self._stale = set(self._lasting)  # tensors of people that the graph does not have yet
        self._free = list(range(size))
        self._meeting = threading.Condition()
        self._round: _Round | None = None
        self.calls = 0

    def lane(self) -> "Lane":
        """A place for one more avatar. Raises `BackendError` if all are taken."""
        with self._meeting:
            if not self._free:
                raise BackendError(
                    f"{self.spec.file}: all {self.size} places of the batch are taken; make a larger one"
                )
            return Lane(self, self._free.pop(0))

    def leave(self, lane: int) -> None:
        with self._meeting:
            self._free.append(lane)
            self._meeting.notify_all()  # those who wait need not wait for this one

    def bind(self, lane: int, inputs: Tensors) -> None:
        with self._meeting:
            self._put(lane, inputs)

    def _put(self, lane: int, inputs: Tensors) -> None:
        fill({name: self._part(whole, lane) for name, whole in self._whole.items()}, inputs, self.spec.file)
        self._stale.update(name for name in self._lasting if name in inputs)

    def _part(self, whole: Array, lane: int) -> Array:
        side = len(whole) // self.size
        return whole[lane * side : (lane + 1) * side]

    def run(self, lane: int, inputs: Tensors) -> dict[str, Array]:
        """This lane's outputs, copies; waits for the other lanes as long as patience lasts."""
        with self._meeting:
            self._put(lane, inputs)
            here = self._round
            if here is None:
                here = self._round = _Round(time.monotonic() + self._patience_s)
            here.lanes.add(lane)
            while not here.over:
                left = here.ends - time.monotonic()
                if left <= 0 or len(here.lanes) >= self.size - len(self._free):
                    self._call(here)
                else:
                    self._meeting.wait(left)
            if here.outputs is None:
                raise BackendError(
                    f"{self.spec.file}: the call for all avatars failed ({here.failure})"
                ) from here.failure
            return here.outputs[lane]

    def _call(self, here: _Round) -> None:
        self._round = None
        try:
            self._graph.bind({name: self._whole[name] for name in self._stale})
            self._stale.clear()
            fresh = {name: value for name, value in self._whole.items() if name not in self._lasting}
            self._state, outputs = self._graph.step(self._state, fresh)
            # copies: the graph overwrites its answers after the next call, and a lane may be slower than that
            here.outputs = {
                lane: {name: self._part(whole, lane).copy() for name, whole in outputs.items()} for lane in here.lanes
            }
        except BaseException as error:
            here.failure = error
        self.calls += 1
        self._meeting.notify_all()

    def close(self) -> None:
        with self._meeting:
            self._graph.close()


class Lane:
    """One avatar's place on a `SharedGraph`, as a `Graph`."""

    def __init__(self, shared: SharedGraph, index: int) -> None:
        self.spec, self.device, self._shared, self._index = shared.spec, shared.device, shared, index
        self._open = True

    def initial(self) -> State:
        return {name: np.zeros(shape, np.float32) for name, shape in self.spec.inputs_of("state").items()}

    def bind(self, inputs: Tensors) -> None:
        self._check_open()
        self._shared.bind(self._index, inputs)

    def step(self, state: Any, inputs: Tensors) -> tuple[State, dict[str, Array]]:
        self._check_open()
        outputs = self._shared.run(self._index, {**inputs, **state})
        following = {read: outputs.pop(written) for read, written in self.spec.state.items()}
        return following, outputs

    def close(self) -> None:
        if self._open:
            self._open = False
            self._shared.leave(self._index)

    def _check_open(self) -> None:
        if not self._open:
            raise BackendError(f"{self.spec.file}: the graph is closed")


class SharedBatch:
    """Encoder and decoder of a pack for several avatars on one back end. Close it after its avatars."""

    def __init__(
        self, avatar: Avatar, batch: Batch, backend: str = "auto", *, threads: int = 0, patience_ms: float = PATIENCE_MS
    ) -> None:
        self._loaded = load_graphs(batch.models, backend, threads)
        specs = [avatar.graph(role)[1] for role in ROLES]
        self.graphs: Sequence[SharedGraph] = [
            SharedGraph(graph, spec, batch.size, patience_ms) for graph, spec in zip(self._loaded.graphs, specs)
        ]

    def seat(self) -> Loaded:
        """Graphs for one more avatar, for `Animator(..., graphs=...)`; closing them frees the place."""
        lanes: list[Graph] = []
        try:
            lanes += [graph.lane() for graph in self.graphs]
        except BackendError:
            for lane in lanes:
                lane.close()
            raise
        return Loaded(tuple(lanes), self._loaded.backend, self._loaded.passed_over)

    def close(self) -> None:
        for graph in self.graphs:
            graph.close()
