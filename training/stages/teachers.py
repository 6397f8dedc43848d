"""The two teachers of Speech2Video on a corpus' own labels: T_id (VGG) learns its people, T_emo (SENet) its moods.

    python -m training.data.face_runs --out corpora/stills128 --frames 4 --train 500 --val 500 --test 500 --spread
    python -m training.stages.teachers --stills corpora/stills128 --run.out runs/teachers

With `--vgg FILE` or `--senet FILE` the published weights (VGGFace, FER+) take the place of training that teacher.
Either way `features.safetensors` holds what they say of every clip: `mu* [clips, 6]` (eq. 1: the mean over its frames)
and `nu* [clips, 4096]` (its first frame). People of the split held_person are never learned from.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from training.data.clip import ClipError, Corpus
from training.data.face_runs import FaceRuns, load_runs
from training.losses.speech2video import mean_expression
from training.models.speech2video.published import WeightsError
from training.models.speech2video.senet import Senet, SenetConfig, as_corpus_emotions, load_senet_fer
from training.models.speech2video.vgg import VggConfig, VggFace, load_vgg_face
from training.stages.run import Run, RunOptions, StageError, read_config, write_json, write_tensors

FACE = (0.20, 0.21, 0.60)
"""Where the face is in a bust picture: left, top and side, shares of the picture; the expression teacher sees no more."""
NEUTRAL = 4


@dataclass(frozen=True)
class TeachersConfig:
    """Training of the teachers, or what published weights say instead."""

    stills: Path = Path("corpora/stills128")
    """Frames of every clip, of training.data.face_runs with --spread."""
    corpus_folders: tuple[Path, ...] = (Path("corpora/voices_own"),)
    """The corpora that the frames are of: their truth names the moods."""
    vgg: Path | None = None
    """Published VGGFace weights (.pth or .safetensors) in place of a trained T_id."""
    senet: Path | None = None
    """Published FER+ SENet-50 weights in place of a trained T_emo."""
    batch: int = 24
    identity_steps: int = 500
    """Steps after which T_id is left alone: a few dozen people are learned long before six moods."""
    identity: VggConfig = field(default_factory=VggConfig)
    emotion: SenetConfig = field(default_factory=SenetConfig)
    run: RunOptions = field(
        default_factory=lambda: RunOptions(
            out=Path("runs/teachers"), steps=3000, lr=1e-3, warmup_steps=50, ema_decay=0.99, clip_norm=5.0
        )
    )


class Teachers(nn.Module):
    """Both networks and their loss: cross-entropy on the person, and on the mood's weights as a distribution."""

    def __init__(self, config: TeachersConfig) -> None:
        super().__init__()
        self.learn_identity = True
        self.identity = VggFace(config.identity)
        self.emotion = Senet(config.emotion)

    def forward(self, pictures: Tensor, person: Tensor, mood: Tensor) -> tuple[Tensor, dict[str, float]]:
        felt = self.emotion(face_of(pictures))
        how = -(mood * felt.log_softmax(1)).sum(1).mean()
        alike = (felt.argmax(1) == mood.argmax(1)).float().mean()
        terms = {"emo": float(how.detach()), "how": float(alike)}
        if not self.learn_identity:
            return how, terms
        whom = self.identity(pictures)
        who = F.cross_entropy(whom, person)
        right = (whom.argmax(1) == person).float().mean()
        return who + how, terms | {"id": float(who.detach()), "who": float(right)}


@dataclass(frozen=True)
class Faces:
    """Frames with their labels: `pictures [n, 3, H, W]` uint8, `person [n]`, `mood [n, 6]`, `clip [n]`."""

    pictures: Tensor
    person: Tensor
    mood: Tensor
    clip: Tensor


def face_of(pictures: Tensor) -> Tensor:
    """The face alone, `[B, 3, side, side]`."""
    x, y, side = (round(share * pictures.shape[-1]) for share in FACE)
    return pictures[:, :, y : y + side, x : x + side]


def as_distribution(emotion: NDArray[np.float32]) -> NDArray[np.float32]:
    """Truth's weights `[n, 6]`, 0 where calm -> a distribution: neutral takes what is left."""
    out = np.clip(emotion, 0.0, 1.0)
    out[:, NEUTRAL] = 0.0
    total = out.sum(1, keepdims=True)
    out = out / np.maximum(total, 1.0)
    out[:, NEUTRAL] = 1.0 - out.sum(1)
    return out


def gather(runs: FaceRuns, corpora: tuple[Path, ...], people: list[str]) -> Faces:
    """Every frame of the runs, with the truth of its moment. A person who is not in `people` is number -1."""
    truth = {clip.info.id: clip for folder in corpora for clip in Corpus(folder)}
    mood, person, index = [], [], []
    for number, run in enumerate(runs.runs):
        if run.clip not in truth:
            raise StageError(f"{run.clip}: its frames are there, but no corpus named with --corpus-folders holds it")
        at = run.first + run.step * np.arange(runs.frames)
        mood.append(as_distribution(truth[run.clip].truth().emotion[at]))
        person += [people.index(run.person) if run.person in people else -1] * runs.frames
        index += [number] * runs.frames
    pixels = np.concatenate([np.asarray(p) for p in runs.pixels])
    pictures = torch.from_numpy(np.ascontiguousarray(pixels.transpose(0, 3, 1, 2)))
    return Faces(pictures, torch.tensor(person), torch.from_numpy(np.concatenate(mood)), torch.tensor(index))


def batch_of(faces: Faces, size: int, seed: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor, list[int]]:
    """Batch of a step: pictures 0..1, shifted by some pixels, mirrored, brighter or darker; a function of the seed."""
    rng = np.random.default_rng(seed)
    pick = rng.choice(len(faces.pictures), size, replace=False)
    x = faces.pictures[pick].float() / 255.0
    x = x * torch.from_numpy(rng.uniform(0.8, 1.2, (size, 1, 1, 1)).astype(np.float32))
    shifts = rng.integers(-6, 7, (size, 2))
    x = torch.stack([torch.roll(picture, tuple(map(int, s)), (1, 2)) for picture, s in zip(x, shifts)])
    mirrored = torch.from_numpy(rng.random(size) < 0.5)
    x = torch.where(mirrored[:, None, None, None], x.flip(3), x).clamp(0, 1)
    return x, faces.person[pick], faces.mood[pick], faces.clip[pick].tolist()


def answers(teachers: Teachers, faces: Faces) -> tuple[Tensor, Tensor, Tensor]:
    """(people logits, 4,096-d features, mood logits in the corpus' order) of all frames."""
    whom, who, how = [], [], []
    classes = tuple(teachers.emotion.config.classes)
    with torch.no_grad():
        for pictures in faces.pictures.split(64):
            x = pictures.float() / 255.0
            nu = teachers.identity.feature(x)
            who.append(nu)
            whom.append(teachers.identity.fc8(torch.relu(nu)))
            how.append(as_corpus_emotions(teachers.emotion(face_of(x)), classes))
    return torch.cat(whom), torch.cat(who), torch.cat(how)


def measure(teachers: Teachers, runs: FaceRuns, faces: Faces, out: Path) -> dict[str, dict[str, float]]:
    """Writes what the teachers say of each clip; returns their accuracy by split (clips, frames pooled)."""
    whom, who, how = answers(teachers, faces)
    clips, k = len(runs.runs), runs.frames
    mu = mean_expression(how.view(clips, k, -1))
    nu = who.view(clips, k, -1)[:, 0]
    write_tensors(out / "features.safetensors", {"mu": mu, "nu": nu.half()})
    write_json(
        out / "features.json", {"clips": [run.clip for run in runs.runs], "people": [r.person for r in runs.runs]}
    )
    mood = faces.mood.view(clips, k, -1).mean(1)
    figures = {}
    for split in sorted({run.split for run in runs.runs}):
        mine = torch.tensor([run.split == split for run in runs.runs])
        frames = mine.repeat_interleave(k) & (faces.person >= 0)
        figures[split] = {
            "emotion": float((mu[mine].argmax(1) == mood[mine].argmax(1)).float().mean()),
            "clips": int(mine.sum()),
        }
        if frames.any() and whom.shape[1] > int(faces.person.max()):
            right = (whom[frames].argmax(1) == faces.person[frames]).float().mean()
            figures[split]["person"] = float(right)
    return figures


def load_teachers(folder: Path) -> tuple[Teachers, list[str]]:
    """Trained teachers of a run folder, and the people they know. Raises StageError with what to do."""
    try:
        about = json.loads((folder / "model.json").read_text())
        people = json.loads((folder / "people.json").read_text())
        options = about["config"]
        config = TeachersConfig(
            identity=VggConfig(**_tuples(options["identity"])), emotion=SenetConfig(**_tuples(options["emotion"]))
        )
        teachers = Teachers(config)
        teachers.load_state_dict({name: leaf.float() for name, leaf in load_file(folder / "model.safetensors").items()})
    except (OSError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise StageError(f"{folder}: expected a run of training.stages.teachers: {error}; train it first") from error
    return teachers.eval().requires_grad_(False), people


def _tuples(options: dict) -> dict:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in options.items()}


def main(arguments: list[str] | None = None) -> None:
    config = read_config(TeachersConfig(), arguments)
    torch.manual_seed(config.run.seed)
    torch.set_num_threads(config.run.threads)
    runs = load_runs(config.stills)
    people = sorted({run.person for run in runs.runs if run.split == "train"})
    config = replace(config, identity=replace(config.identity, people=len(people)))
    faces = gather(runs, config.corpus_folders, people)
    train = runs.of("train")
    seen = torch.tensor([run.split == "train" for run in runs.runs]).repeat_interleave(runs.frames)
    pool = Faces(*(getattr(faces, name)[seen] for name in ("pictures", "person", "mood", "clip")))
    print(f"{len(train.runs)} clips, {len(pool.pictures)} frames of {len(people)} people", file=sys.stderr)

    teachers = Teachers(config)
    config.run.out.mkdir(parents=True, exist_ok=True)
    write_json(config.run.out / "people.json", people)
    if not (config.vgg and config.senet):
        run = Run(teachers, config, config.run)
        for step in run.steps("images"):
            teachers.learn_identity = step < config.identity_steps
            x, person, mood, clips = batch_of(pool, config.batch, (config.run.seed, step))
            loss, terms = run.objective(*(leaf.to(run.fabric.device) for leaf in (x, person, mood)))
            run.update(loss, terms, len(x), lambda clips=clips: ", ".join(runs.runs[i].clip for i in clips))
        teachers.load_state_dict(run.averaged())
    if config.vgg:
        teachers.identity = load_vgg_face(config.vgg)
    if config.senet:
        teachers.emotion = load_senet_fer(config.senet)
    figures = measure(teachers.eval(), runs, faces, config.run.out)
    write_json(config.run.out / "figures.json", {"figures": figures, "config": asdict(config)})
    for split, table in figures.items():
        shown = "  ".join(f"{name} {value:.3f}" for name, value in table.items())
        print(f"{split}: {shown}", file=sys.stderr)


if __name__ == "__main__":
    try:
        main()
    except (StageError, ClipError, WeightsError) as error:
        sys.exit(f"error: {error}")
