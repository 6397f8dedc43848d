"""Learns the net of training/data/sync.py from rig performances: no pictures are drawn, the lips are the rig's truth.

    python -m training.data.learn_sync --speech DIR

Real recordings in many throats and synthetic voices, with rooms and noise over them; sentences whose id starts with
arctic_b05 stay out, for they are the held-out ones. Needs the head pack. About five minutes on one core.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import tyro
from rich.progress import track as progress
from safetensors.numpy import save_file
from torch import nn

from training.data import sync
from training.data.clip import EMOTIONS, FPS
from training.rig.align import AlignmentError
from training.rig.landmarks import LandmarkModel
from training.rig.moods import draw_script
from training.rig.pack import HeadPack, HeadPackError, load_pack
from training.rig.performance import perform
from training.rig.person import Person
from training.rig.sentences import sentence
from training.rig.speech import SpeechError, Utterance, recorded, recordings, say, synthesise
from training.rig.voices import SYNTHETIC, Voice, as_recorded, fitting, manner_of

HIDDEN = 96
HELD_OUT = "arctic_b05"


def main(
    speech: Annotated[Path | None, tyro.conf.arg(help="folder of recordings; MOUTHPIECE_SPEECH by default")] = None,
    out: Path = sync.ASSET,
    recorded_sentences: int = 700,
    synthetic_sentences: int = 300,
    steps: int = 6000,
    seed: int = 0,
) -> int:
    """Learns how lips follow sound and writes the net."""
    try:
        sentences = performances(speech, recorded_sentences, synthetic_sentences, seed)
    except (HeadPackError, SpeechError) as error:
        print(error, file=sys.stderr)
        return 1
    tensors, loss = fit(sentences, steps, seed)
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = out.with_name(f".{out.name}.tmp")
    save_file(tensors, temporary)
    os.replace(temporary, out)
    print(f"{out}: {len(sentences)} sentences, loss {loss:.3f} (1 is knowing nothing)")
    return 0


def performances(
    folder: Path | None, n_recorded: int, n_synthetic: int, seed: int
) -> list[tuple[np.ndarray, np.ndarray]]:
    """(audio [samples], lips [frames, 2] aperture and mouth width over the eyes' distance) of acted sentences."""
    rng = np.random.default_rng(seed)
    root = Path(folder or os.environ.get("MOUTHPIECE_SPEECH", "speech")) / "kathleen"
    known = [r for r in recordings(root) if not r.id.startswith(HELD_OUT)]
    real, synthetic = throats(root.name, rng), list(SYNTHETIC.values())
    picked = [(known[k], real[rng.integers(len(real))]) for k in rng.permutation(len(known))[:n_recorded]]
    picked += [(sentence(int(k)), synthetic[rng.integers(len(synthetic))]) for k in rng.permutation(4000)[:n_synthetic]]
    pack = load_pack()
    out = []
    for number, (what, voice) in enumerate(progress(picked, description="acting")):
        try:
            utterance = synthesise(voice, what) if isinstance(what, str) else recorded(what)
            out.append(act(utterance, voice, pack, number, rng))
        except (AlignmentError, SpeechError):
            continue  # a take that cannot be aligned teaches nothing
    return out


def throats(folder: str, rng: np.random.Generator) -> list[Voice]:
    """The recorded voice as it is, and as women, men and children of many sizes and pitches."""
    ranges = {"woman": (170, 240), "man": (90, 140), "child": (240, 300)}
    changed = [
        fitting(folder, 185.0, f"{who}{k}", who, rng.uniform(*ranges[who]), k) for who in ranges for k in range(5)
    ]
    return [as_recorded(folder, "woman"), *changed]


def act(
    utterance: Utterance, voice: Voice, pack: HeadPack, seed: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """One sentence acted by a random person in a random mood."""
    emotion = EMOTIONS[rng.integers(len(EMOTIONS))]
    script = draw_script(rng, len(utterance.audio) / 16000, emotion)
    spoken = say(utterance, voice, manner_of(emotion, script[0][2], rng))
    face = LandmarkModel(pack, Person.from_seed(seed % 60))
    played = perform(spoken.phones, spoken.audio, script, face, seed)
    still = np.zeros_like(played.pose)
    points = face.project(played.expression, still, still, played.gaze * 0, played.blink * 0, 512)
    width = np.linalg.norm(points[:, 60] - points[:, 64], axis=1) / np.linalg.norm(
        points[:, 36] - points[:, 45], axis=1
    )
    return spoken.audio, np.stack([face.aperture(played.expression), width], 1)


def spoil(audio: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A room, a tilt and noise, as recordings at home have them."""
    out = audio
    if rng.random() < 0.6:
        decay = rng.uniform(0.02, 0.12)
        tail = rng.standard_normal(int(decay * 4 * 16000)) * np.exp(
            -np.arange(int(decay * 4 * 16000)) / (decay * 16000)
        )
        tail *= rng.uniform(0.1, 0.5) / np.sqrt((tail**2).sum())
        tail[0] = 1
        out = np.convolve(out, tail)[: len(audio)]
    tilt = rng.uniform(-0.6, 0.6)
    out = out + tilt * np.concatenate([[0], out[:-1]])
    level = np.sqrt(np.mean(out**2)) * 10 ** (-rng.uniform(8, 45) / 20)
    return (out + rng.standard_normal(len(out)) * level).astype(np.float32)


def fit(sentences: list[tuple[np.ndarray, np.ndarray]], steps: int, seed: int) -> tuple[dict[str, np.ndarray], float]:
    """The net's tensors and its loss on the last tenth of the sentences, which it does not learn from."""
    rng = np.random.default_rng(seed)
    rows, wanted, owner = [], [], []
    for k, (audio, lips) in enumerate(progress(sentences, description="hearing")):
        x = sync.features(spoil(audio, rng))
        at = (np.arange(len(x)) + 0.5) * sync.HOP_S
        y = np.stack([np.interp(at, np.arange(len(lips)) / FPS, lips[:, j]) for j in (0, 1)], 1)
        rows.append(x)
        wanted.append(sync._fast(y))
        owner.append(np.full(len(x), k))
    x, y = torch.tensor(np.vstack(rows)), torch.tensor(np.vstack(wanted), dtype=torch.float32)
    held = torch.tensor(np.concatenate(owner) >= 0.9 * len(sentences))
    mean, scale = x[~held].mean(0), x[~held].std(0) + 1e-3
    x, y = (x - mean) / scale, y / y.std(0)
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Linear(x.shape[1], HIDDEN), QuickGelu(), nn.Linear(HIDDEN, 2))
    optimiser = torch.optim.AdamW(net.parameters(), 2e-3, weight_decay=0.03)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    learn = torch.nonzero(~held)[:, 0]
    for _ in progress(range(steps), description="learning"):
        pick = learn[torch.randint(0, len(learn), (512,))]
        loss = ((net(x[pick]) - y[pick]) ** 2).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    with torch.no_grad():
        left = float(((net(x[held]) - y[held]) ** 2).mean())
    tensors = {"mean": mean, "scale": scale}
    tensors |= {
        "hidden.weight": net[0].weight,
        "hidden.bias": net[0].bias,
        "out.weight": net[2].weight,
        "out.bias": net[2].bias,
    }
    return {name: t.detach().numpy().astype(np.float32) for name, t in tensors.items()}, left


class QuickGelu(nn.Module):
    """x * sigmoid(1.702 x), which numpy writes in one line."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * torch.sigmoid(1.702 * x)


if __name__ == "__main__":
    torch.set_num_threads(1)
    sys.exit(tyro.cli(main))
