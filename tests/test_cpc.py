"""The audio encoder: the streaming law, its front end, export, InfoNCE and the pre-training stage."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from contract import verify_contract
from torch import Tensor, nn

from training.losses.infonce import anchor_times, infonce
from training.models.cpc import HOP_SAMPLES, AudioEncoder, AudioEncoderConfig, AudioEncoderStep, FilterBank
from training.models.streaming import CausalConv, CausalGru, State
from training.stages import cpc
from training.stages.run import RunOptions

FRONTS = ("bank", "waveform")


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.mark.parametrize(("kernel", "stride"), [(10, 5), (4, 2), (3, 1), (2, 2)])
def test_convolution_keeps_the_streaming_law(kernel: int, stride: int) -> None:
    verify_contract(CausalConv(3, 5, kernel, stride), torch.randn(2, 3, 12 * 10), hops=12, time=2, time_out=2)


def test_recurrent_layer_keeps_the_streaming_law() -> None:
    verify_contract(CausalGru(7, 9), torch.randn(2, 12, 7), hops=12, time=1, time_out=1)


@pytest.mark.parametrize("front", FRONTS)
def test_encoder_keeps_the_streaming_law(front: str) -> None:
    encoder = AudioEncoder(AudioEncoderConfig(front=front))
    verify_contract(encoder, 0.1 * torch.randn(2, 12 * HOP_SAMPLES), hops=12, time=1, time_out=1)


class Peeking(nn.Module):
    """A convolution that sees one step too far: the contract must catch it."""

    delay_hops = 0

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(2, 2, 3, padding=1)

    def initial(self, batch: int) -> State:
        return {"past": torch.zeros(batch, 2, 1)}

    def step(self, state: State, chunk: Tensor) -> tuple[State, Tensor]:
        return {"past": chunk[:, :, -1:]}, self.conv(chunk)

    def forward(self, chunk: Tensor) -> Tensor:
        return self.conv(chunk)


def test_contract_refuses_a_block_that_peeks() -> None:
    with pytest.raises(AssertionError):
        verify_contract(Peeking(), torch.randn(2, 2, 12), hops=12, time=2, time_out=2)


def test_filter_bank_tells_pitch_and_is_silent_in_silence() -> None:
    bank = FilterBank(32)
    time = torch.arange(HOP_SAMPLES * 20) / 16000
    low, high = (
        bank.step(bank.initial(1), 0.1 * torch.sin(2 * math.pi * f * time)[None, None])[1] for f in (300, 3000)
    )
    assert low[0, :, -1].argmax() < 12 < 18 < high[0, :, -1].argmax()
    _, silence = bank.step(bank.initial(1), torch.zeros(1, 1, 1600))
    assert torch.equal(silence, torch.zeros_like(silence))


@pytest.mark.filterwarnings("ignore::FutureWarning:torch.*", "ignore::FutureWarning:copyreg")
@pytest.mark.parametrize("front", FRONTS)
def test_exported_step_gives_the_same_contexts(front: str, tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    block = AudioEncoderStep(AudioEncoder(AudioEncoderConfig(front=front, context_size=32, width=32))).eval()
    names_out = ["context", *(name + ".next" for name in block.state_names)]
    path = str(tmp_path / "encoder.onnx")
    with torch.no_grad():
        torch.onnx.export(
            block, block.example(), path, dynamo=True, opset_version=18, verbose=False,
            input_names=["samples", *block.state_names], output_names=names_out,
        )  # fmt: skip
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    samples = 0.1 * torch.randn(1, 30 * HOP_SAMPLES)
    with torch.no_grad():
        expected = block.encoder(samples)[0].numpy()
    leaves = {name: leaf.numpy() for name, leaf in block.initial().items()}
    for hop in range(30):
        chunk = samples[:, hop * HOP_SAMPLES : (hop + 1) * HOP_SAMPLES].numpy()
        context, *after = session.run(names_out, {"samples": chunk, **leaves})
        leaves = dict(zip(block.state_names, after, strict=True))
        np.testing.assert_allclose(context[0], expected[hop], atol=1e-5)


def test_infonce_is_chance_for_noise_and_low_for_true_futures() -> None:
    latents = torch.randn(4, 40, 16)
    anchors = anchor_times(4, 40, 3, per_utterance=8, warm_hops=4, seed=1)
    assert anchors.min() >= 4
    assert anchors.max() + 3 < 40
    rows = torch.arange(4)[:, None]
    truth = torch.stack([latents[rows, anchors + k].flatten(0, 1) for k in (1, 2, 3)])
    loss, accuracy = infonce(truth, latents, anchors)
    assert loss < 0.1
    assert (accuracy == 1.0).all()
    loss, accuracy = infonce(torch.randn_like(truth), latents, anchors)
    assert loss > math.log(32) - 0.5
    assert accuracy.max() < 0.5


def test_anchors_need_room() -> None:
    with pytest.raises(ValueError, match="longer crops"):
        anchor_times(2, 20, 12, per_utterance=8, warm_hops=4, seed=0)


@pytest.fixture
def speech(tmp_path: Path) -> Path:
    """Three recordings of vowels that glide, as 16-bit WAV: enough to learn what comes next."""
    import wave

    folder = tmp_path / "speech"
    folder.mkdir()
    rng = np.random.default_rng(3)
    for index in range(3):
        pitch = np.interp(np.arange(32000), np.arange(9) * 4000, rng.uniform(90, 400, 9))
        phase = 2 * np.pi * np.cumsum(pitch) / 16000
        sound = sum(np.sin(phase * k) / k for k in range(1, 8)) * (0.3 + 0.3 * np.sin(np.arange(32000) / 900.0))
        with wave.open(str(folder / f"{index}.wav"), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(16000)
            file.writeframes((3000 * sound).astype("<i2").tobytes())
    return folder


def tiny(speech: Path, out: Path) -> cpc.CpcConfig:
    return cpc.CpcConfig(
        audio=(speech,), batch=4, crop_hops=64, future_hops=4, anchors=8, no_speech_share=0.0,
        encoder=AudioEncoderConfig(context_size=32, width=32, bands=16),
        run=RunOptions(out=out, steps=40, lr=3e-3, warmup_steps=5),
    )  # fmt: skip


def test_pretraining_learns_what_follows(speech: Path, tmp_path: Path) -> None:
    config = tiny(speech, tmp_path / "run")
    found = cpc.load_speech(cpc.find_sounds([speech], ("2",)))
    assert [Path(utterance.name).name for utterance in found] == ["0.wav", "1.wav"]
    objective = cpc.CpcObjective(config)
    samples, names = cpc.crops(found, np.array([0.5, 0.5]), config, step=0)
    assert samples.shape == (4, 64 * HOP_SAMPLES)
    assert len(names) == 4
    anchors = anchor_times(4, 64, 4, 8, warm_hops=24, seed=0)
    optimiser = torch.optim.Adam(objective.parameters(), 3e-3)
    losses = []
    for _ in range(40):
        loss, _ = objective(samples, anchors)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.6 * losses[0]


def test_batches_depend_on_seed_and_step_alone(speech: Path, tmp_path: Path) -> None:
    config = tiny(speech, tmp_path / "run")
    found = cpc.load_speech(cpc.find_sounds([speech]))
    weights = np.full(3, 1 / 3)
    first, _ = cpc.crops(found, weights, config, step=7)
    again, _ = cpc.crops(found, weights, config, step=7)
    other, _ = cpc.crops(found, weights, config, step=8)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
