"""The machinery of training runs: exact resume, averages, time limits, configuration, losses that are no numbers."""

from __future__ import annotations

import json
import signal
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from training.stages.run import Run, RunOptions, StageError, cosine, read_config


@dataclass(frozen=True)
class Config:
    """A stage of one line, for the tests."""

    width: int = 4
    folders: tuple[Path, ...] = ()
    run: RunOptions = field(default_factory=RunOptions)


class Line(nn.Module):
    """Mean squared error of a small network against a fixed map."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.first = nn.Linear(4, 8)
        self.second = nn.Linear(8, 1)

    def forward(self, x: Tensor) -> Tensor:
        return (self.second(torch.tanh(self.first(x))) - x.sum(1, keepdim=True)).square().mean()


def train(config: Config, stop_after: int = 10**9) -> tuple[list[float], Run]:
    run = Run(Line(), config, config.run, groups={"first.": 0.5})
    losses: list[float] = []
    for step in run.steps("rows"):
        x = torch.randn(16, 4, generator=torch.Generator().manual_seed(1000 * config.run.seed + step))
        loss = run.objective(x)
        losses.append(float(loss.detach()))
        run.update(loss, {}, 16, lambda: "rows")
        if len(losses) == stop_after:
            signal.raise_signal(
                signal.SIGTERM
            )  # to this thread: worker threads of other libraries may not live through it
    return losses, run


def config_in(folder: Path, **options: object) -> Config:
    return Config(run=replace(RunOptions(out=folder, steps=40, lr=1e-2, warmup_steps=5), **options))


def test_a_stopped_run_resumes_to_the_same_losses(tmp_path: Path) -> None:
    whole, finished = train(config_in(tmp_path / "whole"))
    first, _ = train(config_in(tmp_path / "parts"), stop_after=17)
    assert len(first) == 17
    rest, resumed = train(config_in(tmp_path / "parts", resume=True))
    assert first + rest == whole
    assert whole[-1] < 0.5 * whole[0]
    for name, leaf in finished.averaged().items():
        assert torch.equal(leaf, resumed.averaged()[name])


def test_a_checkpoint_holds_the_average_in_half_precision(tmp_path: Path) -> None:
    _, run = train(config_in(tmp_path))
    tensors = load_file(tmp_path / "model.safetensors")
    for name, leaf in run.averaged().items():
        assert tensors[name].dtype == torch.float16
        torch.testing.assert_close(tensors[name].float(), leaf, atol=2e-3, rtol=2e-3)
    assert json.loads((tmp_path / "model.json").read_text())["step"] == 40
    assert not list(tmp_path.glob("*.part"))


def test_resume_without_a_checkpoint_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(StageError, match="leave --resume out"):
        train(config_in(tmp_path, resume=True))


def test_a_loss_that_is_no_number_names_the_batch(tmp_path: Path) -> None:
    config = config_in(tmp_path)
    run = Run(Line(), config, config.run)
    loss = run.objective(torch.full((2, 4), torch.nan))
    with pytest.raises(StageError, match="step 0: the loss is nan; the batch was clip 7"):
        run.update(loss, {}, 1, lambda: "clip 7")


def test_the_time_limit_ends_a_run(tmp_path: Path) -> None:
    losses, run = train(config_in(tmp_path, steps=10**7, time_limit=0.002))
    assert 0 < len(losses) < 10**7
    assert run.step == len(losses)
    assert (tmp_path / "resume.safetensors").is_file()


def test_options_come_from_file_then_command_line(tmp_path: Path) -> None:
    path = tmp_path / "options.json"
    path.write_text(json.dumps({"width": 9, "folders": ["a", "b"], "run": {"lr": 0.5, "seed": 3}}))
    config = read_config(Config(), ["--config", str(path), "--run.seed", "4"])
    assert (config.width, config.run.lr, config.run.seed) == (9, 0.5, 4)
    assert config.folders == (Path("a"), Path("b"))
    path.write_text(json.dumps({"breadth": 9}))
    with pytest.raises(StageError, match="breadth"):
        read_config(Config(), ["--config", str(path)])


def test_the_learning_rate_rises_then_falls() -> None:
    options = RunOptions(steps=100, warmup_steps=10)
    rates = [cosine(step, options) for step in range(100)]
    assert rates[0] < rates[5] < rates[10]
    assert rates[10] > rates[60] > rates[99] > 0.015
