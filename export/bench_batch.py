"""What sharing calls gains: graphs for N avatars against N calls of the pack's own, in turns, on every back end.

One call draws N frames of N different people, or hears a hop of each. Compositing is not in these figures; it is done
for each avatar by itself.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from engine.avatar import Avatar
from engine.backends import load_graphs
from engine.backends.base import Array, Graph
from engine.backends.batched import ROLES, batched_spec
from engine.backends.plans import PlanMissing
from engine.errors import BackendError
from engine.manifest import FPS, HOP_SAMPLES, RATE
from export.batch import batched
from export.signals import random_inputs, speech_like

SIZES = (1, 2, 4, 8, 16, 32, 64)
LEAST_ROUNDS, MOST_ROUNDS = 3, 12
PATIENCE_S = 4.0  # after which no more rounds are begun than the least
HOPS_A_FRAME = RATE / FPS / HOP_SAMPLES
CAPTION = "one call for all avatars; `alone`: a call for each; ×: how many times as fast; medians, compositing left out"


@dataclass(frozen=True)
class BatchRow:
    """Medians in milliseconds: one call for `batch` avatars, and `batch` calls for one each; `ratio` is how many times as
    fast the first is. `frames_per_second` of all avatars together, their hearing included; at 30 times `batch` or more
    they all keep up.
    """

    backend: str
    batch: int
    encoder_ms: float = 0.0
    encoder_alone_ms: float = 0.0
    encoder_ratio: float = 0.0
    decoder_ms: float = 0.0
    decoder_alone_ms: float = 0.0
    decoder_ratio: float = 0.0
    frames_per_second: float = 0.0
    rounds: int = 0
    unavailable: str = ""


def measure_batches(avatar: Avatar, backends: Sequence[str], sizes: Sequence[int], threads: int) -> list[BatchRow]:
    """A row for each back end and size; those that cannot run here say why."""
    rows = []
    for backend in backends if sizes else ():
        try:
            alone = _load(avatar, backend, 1, threads)
        except BackendError as error:
            rows.append(BatchRow(backend, 1, unavailable=str(error)))
            continue
        try:
            rows += [_row(avatar, backend, size, alone, threads) for size in sizes]
        finally:
            _close(alone)
    return rows


def _load(avatar: Avatar, backend: str, size: int, threads: int) -> tuple[Graph, ...]:
    """Encoder and decoder for `size` avatars; state goes in and out as plain tensors, also for one."""
    models = []
    for role in ROLES:
        model, spec = avatar.graph(role)
        models.append((batched(model, size), batched_spec(spec, size)))
    return load_graphs(models, backend, threads).graphs


def _close(graphs: Sequence[Graph]) -> None:
    for graph in graphs:
        graph.close()


def _row(avatar: Avatar, backend: str, size: int, alone: Sequence[Graph], threads: int) -> BatchRow:
    try:
        together = _load(avatar, backend, size, threads)
    except BackendError as error:
        hint = f"; for {size} avatars: python -m export.trt --batch {size}" if isinstance(error, PlanMissing) else ""
        return BatchRow(backend, size, unavailable=f"{error}{hint}")
    try:
        medians: dict[str, tuple[float, float]] = {}
        rounds = MOST_ROUNDS
        for role, graph, single in zip(ROLES, together, alone):
            found = _in_turns(*_calls(graph, single, _inputs(avatar, role, size)))
            medians[role] = float(np.median(found[:, 0])), float(np.median(found[:, 1]))
            rounds = min(rounds, len(found))
    except BackendError as error:
        return BatchRow(backend, size, unavailable=str(error))
    finally:
        _close(together)
    (encoder, encoder_alone), (decoder, decoder_alone) = (medians[role] for role in ROLES)
    frame_ms = decoder + encoder * HOPS_A_FRAME
    return BatchRow(
        backend,
        size,
        round(encoder, 3),
        round(encoder_alone, 3),
        round(encoder_alone / encoder, 2),
        round(decoder, 3),
        round(decoder_alone, 3),
        round(decoder_alone / decoder, 2),
        round(size * 1000 / frame_ms, 1),
        rounds,
    )


def _inputs(avatar: Avatar, role: str, size: int) -> list[dict[str, Array]]:
    """What each avatar gives: sound of its own, or a person, contexts and a pose of its own."""
    _, spec = avatar.graph(role)
    if role == "frame_decoder":
        return [random_inputs(avatar, avatar.people[k % len(avatar.people)], k) for k in range(size)]
    leaves = {name: np.zeros(shape, np.float32) for name, shape in spec.inputs_of("state").items()}
    return [{"samples": speech_like(20, k)[-1:], **leaves} for k in range(size)]


def _calls(graph: Graph, single: Graph, each: list[dict[str, Array]]) -> tuple[Callable[[], None], Callable[[], None]]:
    """One call for all, and a call for each; tensors of people are bound before, as they are in use."""
    lasting = set(single.spec.inputs_of("person"))
    whole = {name: np.concatenate([one[name] for one in each]) for name in each[0]}
    for target, inputs in ((graph, whole), (single, each[0])):
        target.bind({name: inputs[name] for name in lasting})
    fresh = {name: value for name, value in whole.items() if name not in lasting}
    steps = [{name: value for name, value in one.items() if name not in lasting} for one in each]

    def together() -> None:
        graph.step(graph.initial(), fresh)

    def apart() -> None:
        for inputs in steps:
            single.step(single.initial(), inputs)

    return together, apart


def _in_turns(*work: Callable[[], None]) -> NDArray[np.float64]:
    """Milliseconds [rounds, len(work)], after one round that is not counted."""
    times: list[list[float]] = []
    began = time.perf_counter()
    while len(times) <= LEAST_ROUNDS or (len(times) <= MOST_ROUNDS and time.perf_counter() - began < PATIENCE_S):
        times.append([])
        for task in work:
            start = time.perf_counter()
            task()
            times[-1].append((time.perf_counter() - start) * 1000)
    return np.array(times[1:])


def print_batches(rows: Sequence[BatchRow], console: Console) -> None:
    if not rows:
        return
    table = Table(
        "back end", "avatars", "encoder ms", "alone", "×", "decoder ms", "alone", "×", "frames/s", caption=CAPTION
    )
    for row in rows:
        if row.unavailable:
            table.add_row(row.backend, str(row.batch), "[dim]not here[/dim]", *[""] * 6)
            console.print(f"{row.backend}, {row.batch} avatars: {row.unavailable}", style="dim", highlight=False)
            continue
        figures = (
            f"{row.encoder_ms:.2f}",
            f"{row.encoder_alone_ms:.2f}",
            f"{row.encoder_ratio:.2f}",
            f"{row.decoder_ms:.1f}",
            f"{row.decoder_alone_ms:.1f}",
            f"{row.decoder_ratio:.2f}",
            f"{row.frames_per_second:.0f}",
        )
        table.add_row(row.backend, str(row.batch), *figures)
    console.print(table)
