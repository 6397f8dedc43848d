"""Speech2Video: every equation, the networks' shapes, published weight files, the judges' fairness, exact resume."""

from __future__ import annotations

import json
import math
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from training.data.face_runs import FaceRuns
from training.data.face_runs import Run as FaceRun
from training.losses import speech2video as eq
from training.models.speech2video.composer import IDENTITY_SIDES, PaperComposer, PaperComposerConfig
from training.models.speech2video.published import WeightsError
from training.models.speech2video.senet import (
    FER_PLUS,
    Senet,
    SenetConfig,
    as_corpus_emotions,
    load_senet_fer,
)
from training.models.speech2video.senet import published_names as senet_names
from training.models.speech2video.syncnet import (
    Mfcc,
    PublishedSyncNet,
    SyncNet,
    SyncNetConfig,
    distances,
    load_syncnet,
    sound_windows,
    stacks,
    synchrony,
)
from training.models.speech2video.vgg import VggConfig, VggFace, load_vgg_face
from training.models.speech2video.vgg import published_names as vgg_names
from training.stages.run import Run, RunOptions, StageError
from training.stages.speech2video import RATES, Material, Speech2VideoConfig, Speech2VideoObjective, batch_of

SMALL_VGG = VggConfig((4, 6, 8, 8, 8), (1, 1, 1, 1, 1), 64, 32, 48, 3)
SMALL = PaperComposerConfig(
    context_size=8, context_hops=2, feature=16, identity=8, width=16, map_widths=(8, 6, 4), size=64
)


def test_eq_1_is_the_mean_over_frames() -> None:
    logits = torch.tensor([[[1.0, 0.0], [3.0, 2.0]]])
    assert torch.equal(eq.mean_expression(logits), torch.tensor([[2.0, 1.0]]))


def test_eq_3_is_least_where_student_equals_teacher_and_teaches_the_student_alone() -> None:
    teacher = torch.tensor([[2.0, 0.0, -1.0]], requires_grad=True)
    entropy = float(torch.distributions.Categorical(logits=teacher.detach()).entropy())
    assert float(eq.distill(teacher.detach(), teacher).detach()) == pytest.approx(entropy)
    student = torch.tensor([[0.0, 1.0, 0.0]], requires_grad=True)
    loss = eq.distill(student, teacher)
    assert float(loss.detach()) > entropy
    loss.backward()
    assert teacher.grad is None
    p, q = student.detach().softmax(1), teacher.detach().softmax(1)
    torch.testing.assert_close(student.grad, p - q)  # cross-entropy's gradient, teacher as target


def test_eq_2_adds_the_normalised_distances() -> None:
    mu, mu_star = torch.tensor([[3.0, 0.0]]), torch.tensor([[0.0, 5.0]])
    nu = torch.tensor([[1.0, 1.0]])
    assert float(eq.normalised_distance(mu, mu_star)) == pytest.approx(2.0)
    assert float(eq.normalised_distance(nu, 7 * nu)) == pytest.approx(0.0, abs=1e-6)
    total = eq.joint_distillation(mu, mu_star, nu, 7 * nu)
    parts = 0.025 * 2.0 + eq.distill(mu, mu_star) + eq.distill(nu, 7 * nu)
    assert float(total) == pytest.approx(float(parts))


def test_eqs_4_to_7_use_the_papers_labels() -> None:
    zero, one = torch.zeros(3), torch.ones(3)
    assert float(eq.frame_adversarial(one, zero)) == 0.0  # generated 1, real 0: a perfect judge
    assert float(eq.frame_adversarial(zero, one)) == 1.0
    assert float(eq.identity_adversarial([one, one], [zero, zero])) == 0.0
    assert float(eq.identity_adversarial([zero, one], [zero, zero])) == pytest.approx(0.25)
    assert float(eq.sync_adversarial(zero, one, one)) == 0.0
    assert float(eq.sync_adversarial(one, one, one)) == 1.0  # matching pairs weigh fully
    assert float(eq.sync_adversarial(zero, zero, one)) == 0.5  # mismatched and generated half
    assert float(eq.sync_adversarial(zero, one, zero)) == 0.5
    assert float(eq.generator_adversarial(one, zero)) == 1.0  # the generator wants 0 everywhere


def test_eq_8_is_the_lower_half_and_little_of_the_upper() -> None:
    truth = torch.zeros(1, 3, 8, 8)
    lower, upper = truth.clone(), truth.clone()
    lower[:, :, 4:] = 0.5
    upper[:, :, :4] = 0.5
    assert float(eq.similarity(lower, truth)) == pytest.approx(0.5)
    assert float(eq.similarity(upper, truth)) == pytest.approx(0.1)


def test_eq_9_sees_edges_and_no_constant() -> None:
    ramp = torch.linspace(0, 1, 16).expand(1, 3, 16, 16)
    assert float(eq.gradient(ramp + 0.3, ramp)) == pytest.approx(0.0, abs=1e-6)
    step = (ramp > 0.5).float()
    assert float(eq.gradient(step, ramp)) > 0.03
    smooth = eq.smoothed(step)
    assert float((smooth[..., 1:] - smooth[..., :-1]).max()) < 0.5  # psi smooths first
    torch.testing.assert_close(smooth.mean(), step.mean(), atol=0.01, rtol=0)


def test_syncnet_loss_is_least_where_each_mouth_picks_its_own_sound() -> None:
    sounds = torch.eye(4).expand(2, 4, 4)
    assert float(eq.sync_matching(sounds, sounds, 30.0)) == pytest.approx(0.0, abs=1e-6)
    assert float(eq.sync_matching(sounds, sounds.roll(1, 1), 30.0)) == pytest.approx(30.0, abs=1e-3)
    nothing = torch.ones(2, 4, 4) / 2
    assert float(eq.sync_matching(nothing, nothing, 30.0)) == pytest.approx(np.log(4), abs=1e-4)
    # other clips are no wrong answers: their sounds may be the same
    assert float(eq.sync_matching(sounds[:1], sounds[:1], 5.0)) == pytest.approx(
        float(eq.sync_matching(sounds, sounds, 5.0))
    )


def test_vgg_gives_the_papers_feature_and_maps_by_their_sides() -> None:
    model = VggFace(SMALL_VGG)
    pictures = torch.rand(2, 3, 128, 128)
    assert model.feature(pictures).shape == (2, 48)
    assert model(pictures).shape == (2, 3)
    maps = model.maps(torch.rand(2, 3, 64, 64), IDENTITY_SIDES)
    assert [tuple(leaf.shape[1:]) for leaf in maps] == [(8, 8, 8), (6, 16, 16), (4, 32, 32)]
    assert model.map_widths(64, IDENTITY_SIDES) == [8, 6, 4]
    with pytest.raises(ValueError, match="not"):
        model.maps(torch.rand(1, 3, 64, 64), (5,))
    published = VggConfig.published()
    assert (published.size, published.hidden, published.feature, published.people) == (224, 4096, 4096, 2622)
    assert sum(published.counts) == 13


@pytest.mark.parametrize("layout", [0, 1])
def test_vgg_face_files_load_in_both_usual_layouts(tmp_path: Path, layout: int) -> None:
    torch.manual_seed(layout)
    model = VggFace(SMALL_VGG)
    names = vgg_names(SMALL_VGG)[layout]
    assert names["blocks.1.0"] == ("conv2_1", "features.3")[layout]
    theirs = {}
    for name, leaf in model.state_dict().items():
        layer, _, kind = name.rpartition(".")
        theirs[f"{names[layer]}.{kind}"] = leaf
    torch.save({"state_dict": {f"module.{name}": leaf for name, leaf in theirs.items()}}, tmp_path / "vgg.pth")
    loaded = load_vgg_face(tmp_path / "vgg.pth", SMALL_VGG)
    picture = torch.rand(1, 3, 64, 64)
    torch.testing.assert_close(loaded.feature(picture), model.feature(picture).detach())
    save_file(theirs, tmp_path / "vgg.safetensors")
    torch.testing.assert_close(load_vgg_face(tmp_path / "vgg.safetensors", SMALL_VGG)(picture), model(picture).detach())


def test_senet_files_load_in_the_published_layout(tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = SenetConfig((2, 1, 1, 1), 16, 64, "batch", FER_PLUS)
    model = Senet(config)
    for name, leaf in model.named_buffers():
        leaf.uniform_(0.5, 1.5)
        assert "running" in name
    names = senet_names(config)
    assert names["stages.0.1.reduce"] == "conv2_2_1x1_reduce"
    assert names["stages.1.0.project_bn"] == "conv3_1_1x1_proj_bn"
    theirs = {"conv1_7x7_s2_bn.num_batches_tracked": torch.tensor(5)}
    for name, leaf in model.state_dict().items():
        layer, _, kind = name.rpartition(".")
        # squeeze and excitation layers are published as 1x1 convolutions, the classifier too
        theirs[f"{names[layer]}.{kind}"] = leaf[..., None, None] if name == "classifier.weight" else leaf
    torch.save(theirs, tmp_path / "senet.pth")
    loaded = load_senet_fer(tmp_path / "senet.pth", config)
    picture = torch.rand(2, 3, 80, 80)
    logits = loaded(picture)
    torch.testing.assert_close(logits, model(picture).detach())
    moods = as_corpus_emotions(logits, FER_PLUS)
    assert torch.equal(moods[:, 3], logits[:, 1])  # happy
    assert torch.equal(moods[:, 4], logits[:, 0])  # neutral


def test_weight_files_that_do_not_fit_are_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="expected a weight file, found none"):
        load_vgg_face(tmp_path / "nothing.pth")
    (tmp_path / "text.pth").write_text("hello")
    with pytest.raises(WeightsError, match="expected a file of tensors"):
        load_vgg_face(tmp_path / "text.pth")
    torch.save({"conv1_1.weight": torch.zeros(4, 3, 3, 3)}, tmp_path / "part.pth")
    with pytest.raises(WeightsError, match=r"VGGFace .* is missing"):
        load_vgg_face(tmp_path / "part.pth", SMALL_VGG)
    with pytest.raises(WeightsError, match="SyncNet"):
        load_syncnet(tmp_path / "part.pth")
    whole = {f"{k}": v for k, v in VggFace(SMALL_VGG).state_dict().items()}
    names = vgg_names(SMALL_VGG)[0]
    theirs = {f"{names[n.rpartition('.')[0]]}.{n.rpartition('.')[2]}": leaf for n, leaf in whole.items()}
    theirs["fc7.weight"] = torch.zeros(3, 3)
    torch.save(theirs, tmp_path / "other.pth")
    with pytest.raises(WeightsError, match=r"fc7.weight: expected \[48, 32\], found \[3, 3\]"):
        load_vgg_face(tmp_path / "other.pth", SMALL_VGG)


class Evil:
    def __reduce__(self) -> tuple:
        return (Path.touch, (Path("/tmp/mouthpiece_was_here"),))


def test_a_weight_file_with_code_in_it_is_refused(tmp_path: Path) -> None:
    torch.save({"a": Evil()}, tmp_path / "evil.pth")
    with pytest.raises(WeightsError, match="expected a file of tensors"):
        load_vgg_face(tmp_path / "evil.pth")
    assert not Path("/tmp/mouthpiece_was_here").exists()


def test_published_syncnet_loads_and_opens_both_doors(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = PublishedSyncNet().eval()
    torch.save({k: v for k, v in model.state_dict().items() if "num_batches" not in k}, tmp_path / "syncnet_v2.model")
    loaded = load_syncnet(tmp_path / "syncnet_v2.model")
    mfcc = torch.randn(1, 13, 20)
    heard = loaded.hear(mfcc)
    assert heard.shape == (1, 1024)
    torch.testing.assert_close(heard, model.hear(mfcc).detach())
    assert loaded.see(torch.rand(1, 15, 224, 224)).shape == (1, 1024)


def test_mfcc_tells_sounds_apart_and_is_causal() -> None:
    mfcc = Mfcc()
    t = torch.arange(3200) / 16000
    low, high = (torch.sin(2 * math.pi * f * t)[None] for f in (200.0, 3000.0))
    assert mfcc(low).shape == (1, 13, 20)
    assert float((mfcc(low) - mfcc(high)).abs().mean()) > 1.0
    changed = low.clone()
    changed[:, 1600:] = 0
    torch.testing.assert_close(mfcc(low)[:, :, :10], mfcc(changed)[:, :, :10])


def test_offset_and_confidence_are_found_in_a_made_up_pair() -> None:
    """A network that compares one number: mouth openness against loudness; the sound lags by 4 frames."""

    class Plain(torch.nn.Module):
        def see(self, mouths: torch.Tensor) -> torch.Tensor:
            return mouths.mean((2, 3)).view(len(mouths), 5, 3).mean(2)

        def hear(self, mfcc: torch.Tensor) -> torch.Tensor:
            return mfcc[:, 0, 2::4][:, :5]

    rng = np.random.default_rng(0)
    opened = torch.from_numpy(rng.random(120).astype(np.float32))
    first, lag = 40, 4
    mouths = opened[first : first + 16].view(16, 1, 1, 1).expand(16, 3, 8, 8)
    loud = torch.zeros(13, 400)
    for hop in range(400):
        loud[0, hop] = opened[min(max((hop - 1) * 30 // 100 - lag, 0), 119)]
    found = synchrony(distances(Plain(), mouths, loud, first))
    assert abs(found.offset - lag) <= 1
    assert found.confidence > 0.2
    assert stacks(mouths).shape == (12, 15, 8, 8)
    assert sound_windows(loud, [0, 1000]).shape == (2, 13, 20)


def test_the_composer_takes_identity_apart_or_with_the_rest() -> None:
    for branch in (True, False):
        model = PaperComposer(replace(SMALL, identity_branch=branch))
        with torch.no_grad():
            drawn, maps = model(torch.randn(2, 2, 8), torch.randn(2, 16), torch.rand(2, 6))
        assert drawn.shape == (2, 3, 64, 64)
        assert float(drawn.min()) >= 0.0
        assert float(drawn.max()) <= 1.0
        shapes = [tuple(leaf.shape[1:]) for leaf in maps]
        assert shapes == ([(8, 8, 8), (6, 16, 16), (4, 32, 32)] if branch else [])


def material(people: int = 3, frames: int = 8) -> Material:
    rng = np.random.default_rng(0)
    runs = tuple(FaceRun(f"clip{i}", f"P{i}", "v", True, "train", 0) for i in range(people))
    pixels = tuple(rng.integers(0, 255, (frames, 64, 64, 3), dtype=np.uint8) for _ in runs)
    torch.manual_seed(0)
    contexts = tuple(torch.randn(frames, 2, 8) for _ in runs)
    return Material(FaceRuns(runs, pixels, 64, frames), contexts, torch.rand(people, 6), torch.randn(people, 16))


def config_in(folder: Path, without: tuple[str, ...] = (), **options: object) -> Speech2VideoConfig:
    run = RunOptions(
        out=folder, steps=6, lr=3e-4, optimiser="rmsprop", schedule="constant", warmup_steps=1, clip_norm=1e6
    )
    return Speech2VideoConfig(without=without, batch=2, shape=SMALL, run=replace(run, **options))


def train(config: Speech2VideoConfig, stop_after: int = 10**9) -> tuple[list[float], Run]:
    torch.manual_seed(config.run.seed)
    vgg = VggFace(SMALL_VGG).eval().requires_grad_(False)
    data = material()
    run = Run(Speech2VideoObjective(config), config, config.run, groups=RATES)
    losses: list[float] = []
    for step in run.steps("images"):
        batch, picks = batch_of(data, config.batch, (config.run.seed, step))
        loss, terms = run.objective(batch, vgg.maps(batch["still"], IDENTITY_SIDES))
        losses.append(float(loss.detach()))
        run.update(loss, terms, 2, lambda picks=picks: ", ".join(data.runs.runs[p].clip for p in picks))
        if len(losses) == stop_after:
            signal.raise_signal(signal.SIGTERM)
    return losses, run


def test_a_killed_adversarial_run_resumes_to_the_same_losses(tmp_path: Path) -> None:
    whole, _ = train(config_in(tmp_path / "whole"))
    first, _ = train(config_in(tmp_path / "parts"), stop_after=2)
    rest, _ = train(config_in(tmp_path / "parts", resume=True))
    assert len(first) == 2
    assert first + rest == whole
    assert json.loads((tmp_path / "parts" / "model.json").read_text())["step"] == 6


def test_a_loss_that_is_no_number_names_its_clips(tmp_path: Path) -> None:
    config = config_in(tmp_path)
    run = Run(Speech2VideoObjective(config), config, config.run)
    data = material()
    data.mu[:] = torch.nan
    batch, picks = batch_of(data, 2, (0, 0))
    vgg = VggFace(SMALL_VGG).requires_grad_(False)
    loss, terms = run.objective(batch, vgg.maps(batch["still"], IDENTITY_SIDES))
    with pytest.raises(StageError, match=r"step 0: the loss is nan; the batch was clip\d"):
        run.update(loss, terms, 2, lambda: data.runs.runs[picks[0]].clip)


def test_judges_do_not_learn_from_the_generators_loss_nor_it_from_theirs(tmp_path: Path) -> None:
    objective = Speech2VideoObjective(config_in(tmp_path))
    batch, _ = batch_of(material(), 2, (0, 0))
    vgg = VggFace(SMALL_VGG).requires_grad_(False)
    maps = vgg.maps(batch["still"], IDENTITY_SIDES)
    drawn, inflated = objective.composer(batch["heard"], batch["nu"], batch["mu"])
    from training.stages.speech2video import held

    with held(objective.judges):
        objective.generator_loss(batch, drawn, inflated)[0].backward()
    assert all(p.grad is None for p in objective.judges.parameters())
    assert all(p.grad is not None for p in objective.composer.identity.parameters())
    assert all(p.requires_grad for p in objective.judges.parameters())
    objective.zero_grad(set_to_none=True)
    drawn, inflated = objective.composer(batch["heard"], batch["nu"], batch["mu"])
    objective.judges_loss(batch, drawn.detach(), [leaf.detach() for leaf in inflated], maps)[0].backward()
    assert all(p.grad is None for p in objective.composer.parameters())
    assert all(p.grad is not None for p in objective.judges.parameters())


@pytest.mark.parametrize("part", ["d_id", "d_fr", "d_sync", "grad", "identity"])
def test_every_part_can_be_left_out(tmp_path: Path, part: str) -> None:
    objective = Speech2VideoObjective(config_in(tmp_path, without=(part,)))
    batch, _ = batch_of(material(), 2, (0, 0))
    vgg = VggFace(SMALL_VGG).requires_grad_(False)
    loss, terms = objective(batch, vgg.maps(batch["still"], IDENTITY_SIDES))
    loss.backward()
    judged = {name for name in ("d_id", "d_fr", "d_sync") if name in terms}
    gone = {"identity": {"d_id"}}.get(part, {part})
    assert judged == {"d_id", "d_fr", "d_sync"} - gone
    if part.startswith("d_"):
        name = {"d_id": "identity", "d_fr": "frame", "d_sync": "sync"}[part]
        assert all(p.grad is None for p in getattr(objective.judges, name).parameters())
    if part == "identity":
        assert objective.composer.identity is None


def test_the_papers_learning_rates() -> None:
    preset = Speech2VideoConfig().run
    assert (preset.optimiser, preset.lr) == ("rmsprop", 3e-4)
    rates = {prefix: preset.lr * factor for prefix, factor in RATES.items()}
    assert rates["judges.identity."] == pytest.approx(3e-4)
    assert rates["judges.frame."] == pytest.approx(1e-4)
    assert rates["judges.sync."] == pytest.approx(1e-5)


def test_mismatched_contexts_are_of_another_time() -> None:
    data = material()
    for step in range(20):
        batch, _ = batch_of(data, 4, (0, step))
        assert not any(torch.equal(a, b) for a, b in zip(batch["heard"], batch["mismatched"]))
    again, _ = batch_of(data, 4, (0, 19))
    assert all(torch.equal(batch[name], again[name]) for name in batch)


def test_syncnet_learns_which_sound_is_whose() -> None:
    """Mouths as bright as their sound is loud; sixty steps are enough to pick one sound of eight."""
    torch.manual_seed(0)
    net = SyncNet(SyncNetConfig(side=16, width=8, embedding=16))
    optimiser = torch.optim.Adam(net.parameters(), 3e-3)
    told = 0.0
    for _ in range(60):
        level = torch.stack([torch.randperm(8) / 8.0 for _ in range(6)])
        mouths = level.view(-1, 1, 1, 1).expand(48, 15, 16, 16) + 0.02 * torch.randn(48, 15, 16, 16)
        sounds = 16 * (level.view(-1, 1, 1) - 0.5).expand(48, 13, 20)
        seen, heard = net.see(mouths).view(6, 8, -1), net.hear(sounds).view(6, 8, -1)
        loss = eq.sync_matching(heard, seen, 10.0)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        told = float((torch.einsum("cke,cje->ckj", seen, heard).argmax(2) == torch.arange(8)).float().mean())
    assert told > 0.5
