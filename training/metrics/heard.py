"""What encoder and talker make of whole clips, without a face: the lips of a checkpoint, measured while it learns."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from training.data.spoken import HOP_SAMPLES, Lips, SpokenClip, hops_of
from training.metrics.lips import Spoken, lip_table
from training.models.cpc import AudioEncoder
from training.models.talker import Talker, newest_hops


@torch.no_grad()
def perform(encoder: AudioEncoder, talker: Talker, clip: SpokenClip) -> NDArray[np.float32]:
    """`[n, 60]`: the clip heard from its start as the live engine would, silence after it."""
    return drive(talker, listen(encoder, clip, talker.config.lookahead_hops), clip)


@torch.no_grad()
def listen(encoder: AudioEncoder, clip: SpokenClip, lookahead_hops: int) -> Tensor:
    """`[1, hops, C]`: contexts of the whole clip, and of silence up to the look-ahead after it."""
    samples = clip.sound.cut(0, HOP_SAMPLES * (hops_of(clip.frames + 2, lookahead_hops) + 1))
    return encoder(torch.from_numpy(samples)[None])


@torch.no_grad()
def drive(talker: Talker, contexts: Tensor, clip: SpokenClip) -> NDArray[np.float32]:
    """`[n, 60]` from contexts of the whole clip and its own emotion."""
    emotion = torch.from_numpy(clip.emotion)[None]
    return talker.offline(contexts, emotion, newest_hops(0, clip.frames, talker.config.lookahead_hops))[0].numpy()


def judge(talker: Talker, heard: Sequence[Tensor], clips: Sequence[SpokenClip], lips: Lips) -> dict[str, float]:
    """Lip figures of clips whose contexts were heard already."""
    drawn = [lips.aperture(drive(talker, contexts, clip)) for contexts, clip in zip(heard, clips)]
    return lip_table([Spoken(np.maximum(d, 0.0), clip.aperture, clip.phones) for d, clip in zip(drawn, clips)])
