"""Distils emotion and identity from faces into voices: S_emo and S_id read omega = c_T (Speech2Video, eqs. 1-3).

    python -m training.stages.distil --audio runs/audio --teachers runs/teachers --run.out runs/voice_reader

Students never see a picture and never change the audio encoder: contexts of the whole corpus are made once, clean and
spoiled. Two sets of students learn side by side: `paper` from a single omega at any time of the stream, `live` from the
omegas and the manner of 1.5 s. `best.safetensors` (+ .json) are the live ones, `paper.safetensors` the paper's. The
evaluation goes to `evaluation.json` and, as a table, to the terminal; a pack takes the reader in with `export.reader`.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from training.data.clip import ClipError
from training.data.heard import Heard, digest_of, hear_corpora, probe_sound
from training.data.usual import Usual, listened, moments, together, usual_in, without_rows
from training.losses.speech2video import LAMBDA, joint_distillation
from training.metrics.voice import evaluate, gallery_of, table
from training.models.cpc import AudioEncoder
from training.models.speech2video.students import Listened, StudentConfig, Students, cosine, save_reader
from training.models.talker import load_hearing
from training.stages.run import Run, RunOptions, StageError, hardware, read_config, write_json, write_tensors

NEUTRAL = 4
IDENTITY_SPREAD = 2.0


@dataclass(frozen=True)
class DistilConfig:
    """Distillation of the students."""

    audio: Path = Path("runs/audio")
    """Run folder whose audio encoder (best.safetensors) gives the contexts: the one that the pack ships."""
    teachers: Path = Path("runs/teachers")
    """Run folder of training.stages.teachers: what the faces say of each clip."""
    corpus_folders: tuple[Path, ...] = (Path("corpora/voices_own"),)
    spoiled_share: float = 0.25
    """Share of the windows heard through a bad microphone; level and brightness are cues that those take away."""
    copies: int = 2
    """How often each training clip is heard through another bad microphone, besides clean."""
    batch: int = 64
    silence_share: float = 0.08
    """Share of the windows in which nobody speaks: calm, and nobody."""
    mood_labels: float = 0.7
    """Share of the mood's target that is the corpus' own label where the sound was given one; the rest is the teacher."""
    live_distance: float = 3.0
    """lambda of eq. 2 for the live students, which are asked whose face fits; the paper's keep its 0.025."""
    live: StudentConfig = field(default_factory=lambda: StudentConfig(rows=75))
    paper: StudentConfig = field(default_factory=lambda: StudentConfig(window=1, relative=False))
    run: RunOptions = field(
        default_factory=lambda: RunOptions(
            out=Path("runs/voice_reader"), steps=6000, lr=1e-3, warmup_steps=100, ema_decay=0.998, weight_decay=0.05
        )
    )


@dataclass(frozen=True)
class Taught:
    """What the teachers say of each clip that was heard: `mu [clips, 6]`, `nu [clips, 4096]`."""

    mu: Tensor
    nu: Tensor


class DistilObjective(nn.Module):
    """Eq. 2 for both sets of students, summed."""

    def __init__(self, config: DistilConfig) -> None:
        super().__init__()
        self.live, self.paper = Students(config.live), Students(config.paper)
        self.weights = {"live": config.live_distance, "paper": LAMBDA}

    def forward(self, heard: Listened, mu: Tensor, nu: Tensor, speech: Tensor) -> tuple[Tensor, dict[str, float]]:
        losses, terms = [], {}
        for name, students, given in (("live", self.live, heard), ("paper", self.paper, without_rows(heard))):
            felt, who = students(given)
            # nobody is asked for in silence: there eq. 2 has its emotion half alone
            loss = joint_distillation(felt, mu, who[speech], nu[speech], self.weights[name])
            losses.append(loss)
            with torch.no_grad():
                terms[f"{name} mood"] = float((felt.argmax(1) == mu.argmax(1)).float().mean())
                terms[f"{name} id"] = float(F.cosine_similarity(who[speech], nu[speech]).mean())
        return torch.stack(losses).sum(), terms


def teach(heard: Heard, folder: Path, labels: float) -> Taught:
    """The teachers' features in the order of the clips heard. Raises StageError for clips that no teacher saw.

    `nu*` is centred on its mean over the training clips, or all faces would look much alike, and brought to a standard
    deviation of 2, or the softmax of eq. 3 over 4,096 numbers would say nothing. `labels` mixes the corpus' label of the
    sound into the teacher's distribution of moods.
    """
    try:
        clips = json.loads((folder / "features.json").read_text())["clips"]
        leaves = load_file(folder / "features.safetensors")
    except (OSError, KeyError, ValueError) as error:
        raise StageError(f"{folder}: expected features of training.stages.teachers: {error}; run it first") from error
    place = {name: i for i, name in enumerate(clips)}
    if missing := [clip.clip for clip in heard.clips if clip.clip not in place]:
        raise StageError(f"{folder}: the teachers saw no frames of {len(missing)} clips, such as {missing[0]}")
    order = torch.tensor([place[clip.clip] for clip in heard.clips])
    mu, nu = leaves["mu"].float()[order], leaves["nu"].float()[order]
    train = heard.of("train")
    said = mu.softmax(1)
    said = F.normalize(said / said[train].mean(0), p=1, dim=1)
    if labels > 0:
        named = torch.stack([label_of(clip.voice_says, clip.strength, row) for clip, row in zip(heard.clips, said)])
        said = (1 - labels) * said + labels * named
    said = F.normalize(said / said[train].mean(0), p=1, dim=1)  # else the commonest mood, calm, is the answer
    nu = nu - nu[train].mean(0)
    return Taught((said + 1e-4).log(), IDENTITY_SPREAD * nu / nu[train].std())


def label_of(mood: str, strength: float, otherwise: Tensor) -> Tensor:
    """The mood that a sound was given as a distribution `[6]`; where it was given none, `otherwise`."""
    names = ("anger", "disgust", "fear", "happy", "neutral", "sad")
    if not mood:
        return otherwise
    out = torch.zeros(6)
    out[NEUTRAL] = 1.0
    if mood != "neutral":
        sure = 0.75 + 0.25 * strength  # a faint mood is still that mood more than calm
        out[names.index(mood)] = sure
        out[NEUTRAL] = 1.0 - sure
    return out


@dataclass(frozen=True)
class Batch:
    """What a step learns from; `speech [B]` is False where nobody speaks, `clips [B]` are indices into Heard."""

    heard: Listened
    mu: Tensor
    nu: Tensor
    speech: Tensor
    clips: list[int]


def batch_of(heard: Heard, taught: Taught, train: list[int], config: DistilConfig, step: int) -> Batch:
    """The batch of a step, a function of seed and step."""
    rng = np.random.default_rng([config.run.seed, step])
    cut, usual, clips, speech = [], [], [], []
    for _ in range(config.batch):
        pick = int(rng.choice(train))
        spoiled = rng.random() < config.spoiled_share and len(heard.copies[pick]) > 1
        copy = int(rng.integers(1, len(heard.copies[pick]))) if spoiled else 0
        sounds, clip = heard.copies[pick][copy], heard.clips[pick]
        # omega may be taken at any time once something has been said
        low = min(int(clip.speech[0] * 25) + 16, clip.length - 2)
        end = int(rng.integers(low, max(min(int(clip.speech[1] * 25) + 4, clip.length), low + 1)))
        # other clips of a spoiled one went through other microphones: there it is itself all that is known
        known = [] if spoiled else [usual_in(heard, i) for i in _others(heard, pick, rng)]
        usual.append(together([*known, usual_in(heard, pick, copy, end)], sounds.contexts.shape[1]))
        speech.append(rng.random() >= config.silence_share)
        if not speech[-1]:
            sounds = heard.silence[rng.integers(len(heard.silence))]
            end = int(rng.integers(16, len(sounds)))
        omegas, rows = moments(sounds, [min(end, len(sounds) - 1)], config.live)
        cut.append((omegas[0], rows[0]))
        clips.append(pick)
    spoken, index = torch.tensor(speech), torch.tensor(clips)
    calm = torch.full((6,), 1e-4)
    calm[NEUTRAL] = 1.0
    mu = torch.where(spoken[:, None], taught.mu[index], calm.log())
    return Batch(listened(cut, usual), mu, taught.nu[index], spoken, clips)


def _others(heard: Heard, pick: int, rng: np.random.Generator) -> list[int]:
    """None to eight clips of the same voice and split: what a listener may have heard before."""
    mine = heard.by_voice[heard.clips[pick].voice]
    same = [i for i in mine if i != pick and heard.clips[i].split == heard.clips[pick].split]
    count = int(rng.integers(0, 9))
    return [int(i) for i in rng.choice(same, min(count, len(same)), replace=False)] if same else []


def typical_of(heard: Heard, train: list[int]) -> Usual:
    """The mean voice, which stands in while little is known of one."""
    return together([usual_in(heard, i) for i in train], heard.copies[0][0].contexts.shape[1])


def main(arguments: list[str] | None = None) -> None:
    config = read_config(DistilConfig(), arguments)
    torch.manual_seed(config.run.seed)
    torch.set_num_threads(config.run.threads)
    encoder = load_hearing(config.audio / "best").encoder
    heard = hear_corpora(
        config.corpus_folders,
        encoder,
        config.run.out / "contexts",
        config.copies,
        config.run.seed,
        lambda line: print(line, file=sys.stderr, flush=True),
    )
    size = heard.copies[0][0].contexts.shape[1]
    config = replace(
        config, live=replace(config.live, context_size=size), paper=replace(config.paper, context_size=size)
    )
    taught = teach(heard, config.teachers, config.mood_labels)
    train = heard.of("train")
    objective = DistilObjective(config)
    typical = typical_of(heard, train)
    objective.live.typical.copy_(torch.from_numpy(typical.context))
    objective.live.typical_row.copy_(torch.from_numpy(typical.habit))
    run = Run(objective, config, config.run)
    for step in run.steps("windows"):
        batch = batch_of(heard, taught, train, config, step)
        given, mu, nu, speech = run.fabric.to_device((batch.heard, batch.mu, batch.nu, batch.speech))
        loss, terms = run.objective(given, mu, nu, speech)
        run.update(loss, terms, config.batch, lambda batch=batch: ", ".join(heard.clips[i].clip for i in batch.clips))
    finish(run, heard, taught, config, encoder)


def finish(run: Run, heard: Heard, taught: Taught, config: DistilConfig, encoder: AudioEncoder) -> None:
    """Measures the averaged students and writes them."""
    objective = DistilObjective(config).eval()
    objective.load_state_dict(run.averaged())
    gallery, people = gallery_of(heard, taught.nu)
    figures = {
        name: evaluate(students, heard, gallery, people)
        for name, students in (("live", objective.live), ("paper", objective.paper))
    }
    write_json(config.run.out / "evaluation.json", figures)
    print(table(figures), file=sys.stderr)
    mean = taught_mean(config.teachers, heard)
    with torch.no_grad():
        probe = encoder(torch.from_numpy(probe_sound())[None])[0, -1]
    for name, students in (("best", objective.live), ("paper", objective.paper)):
        about = {
            "config": asdict(students.config),
            "encoder": digest_of(encoder),
            "probe": [round(float(value), 5) for value in probe],
            "step": run.step,
            "seed": config.run.seed,
            "corpora": [folder.name for folder in config.corpus_folders],
            "recipe": {
                "windows": run.step * config.batch,
                "spoiled_share": config.spoiled_share,
                "mood_labels": config.mood_labels,
                "learning_rate": config.run.lr,
            },
            "hardware": hardware(),
            "metrics": figures["live" if name == "best" else "paper"],
        }
        save_reader(students, config.run.out / name, about, write_tensors)
    # what a pack needs to score its own people: the mean face, and how every voice scores
    voices = voice_features(objective.live, heard)
    write_tensors(config.run.out / "voices.safetensors", {"face_mean": mean, "voices": voices.half()})


def taught_mean(folder: Path, heard: Heard) -> Tensor:
    """The mean identity feature over the training clips, which the students' targets are centred on."""
    clips = json.loads((folder / "features.json").read_text())["clips"]
    nu = load_file(folder / "features.safetensors")["nu"].float()
    place = {name: i for i, name in enumerate(clips)}
    return nu[[place[heard.clips[i].clip] for i in heard.of("train")]].mean(0)


def voice_features(students: Students, heard: Heard, most: int = 400) -> Tensor:
    """`nu [n, 4096]` of training voices, one window each: the spread of scores that a pack's people are measured by."""
    picks = heard.of("train")[:: max(1, len(heard.of("train")) // most)]
    cut = [moments(heard.copies[i][0], [heard.clips[i].length // 2], students.config) for i in picks]
    given = listened([(omegas[0], rows[0]) for omegas, rows in cut], [usual_in(heard, i) for i in picks])
    with torch.no_grad():
        return students(given)[1]


__all__ = ["DistilConfig", "cosine", "main"]

if __name__ == "__main__":
    try:
        main()
    except (StageError, ClipError, ValueError) as error:
        sys.exit(f"error: {error}")
