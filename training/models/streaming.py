"""Streaming blocks: the same weights step hop by hop and run offline, with the state handed on.

A block has `initial(batch) -> State` and `step(state, chunk) -> (State, out)`. State is a flat dictionary of named
tensors, zeros at the start, and `step` never writes into it. A chunk may hold any whole number of hops, so the offline
pass is one long step from the initial state: "steps equal the offline pass" has no second path that could differ.

    input       . . . x x x x x x x x x          kernel 5, stride 2
    state       [3 kept]                          kernel - stride samples of the past
    output             y   y   y   y              y_j sees nothing later than its own stride
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

State = dict[str, Tensor]


class StreamingBlock(Protocol):
    """What `tests/contract.py` checks. `delay_hops` is the declared latency of the output, in hops."""

    delay_hops: int

    def initial(self, batch: int) -> State: ...

    def step(self, state: State, chunk: Tensor) -> tuple[State, Tensor]: ...

    def forward(self, chunk: Tensor) -> Tensor: ...


def scoped(state: State, name: str) -> State:
    """The leaves of `state` that belong to the block `name`, under their own names."""
    return {key[len(name) + 1 :]: leaf for key, leaf in state.items() if key.startswith(name + ".")}


def under(name: str, state: State) -> State:
    """The leaves of one block, renamed for the state of the block that holds it."""
    return {f"{name}.{key}": leaf for key, leaf in state.items()}


class CausalConv(nn.Module):
    """Strided convolution padded on the left alone. `[B, C_in, T] -> [B, C_out, T / stride]`, `T = n stride`.

    The state keeps the newest `kernel - stride` inputs; zeros stand for the silence before the stream.
    """

    delay_hops = 0

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1) -> None:
        super().__init__()
        if kernel < stride:
            raise ValueError(f"kernel {kernel} is shorter than the stride {stride}: it would skip samples")
        self.inputs, self.kept, self.stride = inputs, kernel - stride, stride
        self.conv = nn.Conv1d(inputs, outputs, kernel, stride)

    def initial(self, batch: int) -> State:
        return {"past": self.conv.weight.new_zeros(batch, self.inputs, self.kept)}

    def step(self, state: State, chunk: Tensor) -> tuple[State, Tensor]:
        seen = torch.cat([state["past"], chunk], dim=2)
        return {"past": seen[:, :, seen.shape[2] - self.kept :]}, self.conv(seen)

    def forward(self, chunk: Tensor) -> Tensor:
        return self.step(self.initial(chunk.shape[0]), chunk)[1]


class ChannelNorm(nn.Module):
    """Normalises each time step over its channels, `[B, C, T] -> [B, C, T]`; other time steps are never looked at.

    `floor` is the variance under which a step counts as silence and is left small, so that a whisper of noise is not
    blown up to the level of speech.
    """

    def __init__(self, channels: int, floor: float = 1e-3) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels, 1))
        self.bias = nn.Parameter(torch.zeros(channels, 1))
        self.floor = floor

    def forward(self, x: Tensor) -> Tensor:
        centred = x - x.mean(dim=1, keepdim=True)
        variance = centred.square().mean(dim=1, keepdim=True)
        return centred * torch.rsqrt(variance + self.floor) * self.weight + self.bias


class CausalGru(nn.Module):
    """One gated recurrent layer, `[B, T, C_in] -> [B, T, C]`, one input a hop; the state is its last output `[B, C]`.

    A single hop is written with matrix products, which every runtime executes fast; longer chunks use the fused layer
    of torch with the same weights. Source: Cho et al. 2014, in the form with the reset gate after the product.
    """

    delay_hops = 0

    def __init__(self, inputs: int, size: int) -> None:
        super().__init__()
        self.size = size
        self.gru = nn.GRU(inputs, size, batch_first=True)

    def initial(self, batch: int) -> State:
        return {"hidden": self.gru.weight_hh_l0.new_zeros(batch, self.size)}

    def step(self, state: State, chunk: Tensor) -> tuple[State, Tensor]:
        if chunk.shape[1] > 1:
            out, hidden = self.gru(chunk, state["hidden"][None].contiguous())
            return {"hidden": hidden[0]}, out
        hidden = self._cell(chunk[:, 0], state["hidden"])
        return {"hidden": hidden}, hidden[:, None]

    def _cell(self, x: Tensor, hidden: Tensor) -> Tensor:
        from_input = F.linear(x, self.gru.weight_ih_l0, self.gru.bias_ih_l0)
        from_past = F.linear(hidden, self.gru.weight_hh_l0, self.gru.bias_hh_l0)
        reset_x, update_x, new_x = from_input.split(self.size, dim=1)
        reset_h, update_h, new_h = from_past.split(self.size, dim=1)
        update = torch.sigmoid(update_x + update_h)
        proposal = torch.tanh(new_x + torch.sigmoid(reset_x + reset_h) * new_h)
        return proposal + update * (hidden - proposal)

    def forward(self, chunk: Tensor) -> Tensor:
        return self.step(self.initial(chunk.shape[0]), chunk)[1]
