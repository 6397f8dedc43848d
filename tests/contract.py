"""The streaming law as one check that every stateful block must pass."""

from __future__ import annotations

import torch
from torch import Tensor

from training.models.streaming import State, StreamingBlock

TOLERANCE = 1e-5


def verify_contract(block: StreamingBlock, chunk: Tensor, hops: int, time: int, time_out: int) -> None:
    """Asserts equality, declared latency, causality, several hops at once, purity and reset.

    `chunk` is random input of `hops` hops with its time along axis `time`; `time_out` is the time axis of the output of
    the offline pass. For a single hop, `step` may leave that axis out, as the audio encoder does.
    """
    with torch.no_grad():
        pieces = chunk.split(chunk.shape[time] // hops, dim=time)
        offline = block.forward(chunk)
        _check_equality(block, offline, pieces, time_out)
        _check_causality(block, pieces, time, time_out)
        _check_two_hops(block, pieces, time, time_out)
        _check_reset(block, pieces, time_out)


def _check_equality(block: StreamingBlock, offline: Tensor, pieces: tuple[Tensor, ...], time_out: int) -> None:
    stepped, _ = _walk(block, block.initial(offline.shape[0]), pieces, time_out)
    late = block.delay_hops * offline.shape[time_out] // len(pieces)
    kept = offline.shape[time_out] - late
    found, expected = stepped.narrow(time_out, late, kept), offline.narrow(time_out, 0, kept)
    torch.testing.assert_close(found, expected, atol=TOLERANCE, rtol=0)


def _check_causality(block: StreamingBlock, pieces: tuple[Tensor, ...], time: int, time_out: int) -> None:
    hops = len(pieces)
    for cut in (1, hops // 2, hops - 1):
        future = [torch.full_like(piece, torch.nan) for piece in pieces[cut:]]
        out = block.forward(torch.cat([*pieces[:cut], *future], dim=time))
        heard = out.narrow(time_out, 0, (cut - block.delay_hops) * out.shape[time_out] // hops)
        assert torch.isfinite(heard).all(), f"output before hop {cut} depends on what comes after it"
        # the poison must be able to work: were the future never looked at, this check would prove nothing
        assert torch.isnan(out).any(), "NaN in the input never reached the output"


def _check_two_hops(block: StreamingBlock, pieces: tuple[Tensor, ...], time: int, time_out: int) -> None:
    state = block.initial(pieces[0].shape[0])
    state, _ = block.step(state, pieces[0])
    before = {name: leaf.clone() for name, leaf in state.items()}
    pair_state, pair = block.step(state, torch.cat(pieces[1:3], dim=time))
    single, single_state = _walk(block, state, pieces[1:3], time_out)
    torch.testing.assert_close(pair, single, atol=TOLERANCE, rtol=0)
    assert list(pair_state) == list(single_state) == list(state), "the names of the state change from step to step"
    for name, leaf in single_state.items():
        assert leaf.shape == before[name].shape, f"state '{name}' changes its shape"
        torch.testing.assert_close(pair_state[name], leaf, atol=TOLERANCE, rtol=0)
        assert torch.equal(state[name], before[name]), f"step wrote into the state '{name}' it was given"


def _check_reset(block: StreamingBlock, pieces: tuple[Tensor, ...], time_out: int) -> None:
    rows = pieces[0].shape[0]
    assert not any(leaf.any() for leaf in block.initial(rows).values()), "the initial state is not all zeros"
    first, _ = _walk(block, block.initial(rows), pieces, time_out)
    again, _ = _walk(block, block.initial(rows), pieces, time_out)
    assert torch.equal(first, again), "a fresh state does not start the block anew"


def _walk(block: StreamingBlock, state: State, pieces: tuple[Tensor, ...], time_out: int) -> tuple[Tensor, State]:
    rank = block.forward(pieces[0]).ndim
    outs = []
    for piece in pieces:
        state, out = block.step(state, piece)
        outs.append(out if out.ndim == rank else out.unsqueeze(time_out))
    return torch.cat(outs, dim=time_out), state
