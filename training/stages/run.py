"""What every training stage shares: options, checkpoints that resume exactly, averages of weights, progress.

A stage stays one flat page that calls, in this order: `read_config`, `Run(...)`, then for each `step` of `run.steps()`
its own forward pass and `run.update(...)`. Batches must be functions of `(seed, step)` alone; then a killed run that is
resumed repeats the same losses.

A run folder holds `config.json`, `model.safetensors` (averaged weights, fp16), `model.json` (configuration, step and
metrics), `resume.safetensors` and `resume.json` (weights, average and optimiser, fp32), and TensorBoard's event files.
"""

from __future__ import annotations

import json
import math
import os
import platform
import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch
import tyro
from lightning_fabric import Fabric
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter

Config = TypeVar("Config")


class StageError(RuntimeError):
    """Something the user must mend; the message says what was expected, found and what to do."""


@dataclass(frozen=True)
class RunOptions:
    """How long, how fast and where to."""

    out: Path = Path("runs/stage")
    """Run folder: checkpoints, configuration, TensorBoard events."""
    steps: int = 10000
    """Length of the schedule in steps."""
    time_limit: float = 0.0
    """Minutes after which the run is saved and stops; 0 means no limit."""
    resume: bool = False
    """Go on from the checkpoint in `out`."""
    lr: float = 1e-3
    optimiser: Literal["adamw", "rmsprop"] = "adamw"
    schedule: Literal["cosine", "constant"] = "cosine"
    warmup_steps: int = 200
    weight_decay: float = 0.01
    ema_decay: float = 0.999
    clip_norm: float = 1.0
    save_minutes: float = 2.0
    seed: int = 0
    threads: int = 1


def read_config(default: Config, arguments: list[str] | None = None) -> Config:
    """`default`, overlaid with the JSON file named by `--config`, overlaid with the command line."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if "--config" in arguments:
        at = arguments.index("--config")
        path = Path(arguments[at + 1]) if at + 1 < len(arguments) else Path("")
        del arguments[at : at + 2]
        try:
            default = _overlay(default, json.loads(path.read_text()))
        except (OSError, json.JSONDecodeError, TypeError) as error:
            raise StageError(f"--config {path}: expected a JSON file of options, found: {error}") from error
    return tyro.cli(type(default), default=default, args=arguments)


def _overlay(config: Any, values: dict[str, Any]) -> Any:
    known = {field.name for field in fields(config)}
    if set(values) - known:
        raise TypeError(f"unknown options {sorted(set(values) - known)}; known are {sorted(known)}")
    changes = {}
    for name, value in values.items():
        old = getattr(config, name)
        if isinstance(value, dict):
            changes[name] = _overlay(old, value)
        elif isinstance(old, Path):
            changes[name] = Path(value)
        elif isinstance(old, tuple):
            changes[name] = tuple(Path(v) if name.endswith(("folders", "audio")) else v for v in value)
        else:
            changes[name] = value
    return replace(config, **changes)


def write_json(path: Path, value: Any) -> None:
    temporary = path.with_name(path.name + ".part")
    temporary.write_text(json.dumps(value, indent=1, default=str) + "\n")
    os.replace(temporary, path)


def write_tensors(path: Path, tensors: dict[str, Tensor]) -> None:
    temporary = path.with_name(path.name + ".part")
    save_file({name: leaf.detach().contiguous().cpu() for name, leaf in tensors.items()}, temporary)
    os.replace(temporary, path)


def cosine(step: int, options: RunOptions) -> float:
    """Learning rate relative to its peak: linear warm-up, then half a cosine down to 2%, or no change."""
    if step < options.warmup_steps:
        return (step + 1) / options.warmup_steps
    if options.schedule == "constant":
        return 1.0
    share = min(1.0, (step - options.warmup_steps) / max(1, options.steps - options.warmup_steps))
    return 0.02 + 0.98 * 0.5 * (1.0 + math.cos(math.pi * share))


class Run:
    """One training run of `objective`, a module whose parameters are trained and whose forward gives the loss.

    `groups` maps name prefixes to factors on the learning rate. Not thread safe.
    """

    def __init__(
        self, objective: nn.Module, config: Any, options: RunOptions, groups: dict[str, float] | None = None
    ) -> None:
        torch.set_num_threads(options.threads)
        self.options, self.config = options, config
        self.fabric = Fabric(accelerator="auto", devices=1)
        named = [(name, p) for name, p in objective.named_parameters() if p.requires_grad]
        self._factors = [_factor(name, groups or {}) for name, _ in named]
        groups_of = [{"params": [p], "weight_decay": options.weight_decay if p.ndim > 1 else 0.0} for _, p in named]
        optimiser: torch.optim.Optimizer
        if options.optimiser == "rmsprop":
            optimiser = torch.optim.RMSprop(groups_of, lr=options.lr)
        else:
            optimiser = torch.optim.AdamW(groups_of, lr=options.lr, betas=(0.9, 0.98))
        self.names = [name for name, _ in named]
        self.bare = objective
        self.objective, self.optimiser = self.fabric.setup(objective, optimiser)
        self.average = {name: leaf.detach().clone() for name, leaf in objective.state_dict().items()}
        self.step = 0
        self.metrics: dict[str, Any] = {}
        options.out.mkdir(parents=True, exist_ok=True)
        if options.resume:
            self._load()
        write_json(options.out / "config.json", asdict(config))
        self._stop_asked = False

    def steps(self, unit: str = "s of sound") -> Iterator[int]:
        """Yields steps until the schedule ends, the time limit passes or the process is asked to stop; then saves."""
        started = saved = time.monotonic()
        previous = [(s, signal.signal(s, self._ask_stop)) for s in (signal.SIGINT, signal.SIGTERM)]
        columns = [TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed}/{task.total}")]
        self._writer = SummaryWriter(str(self.options.out))
        self._unit, self._amount, self._started = unit, 0.0, started
        try:
            with Progress(
                *columns, TimeElapsedColumn(), TimeRemainingColumn(), TextColumn("{task.fields[note]}")
            ) as bar:
                self._bar, self._task = bar, bar.add_task("training", total=self.options.steps, note="")
                while self.step < self.options.steps and not self._stop_asked:
                    now = time.monotonic()
                    if self.options.time_limit and now - started > 60.0 * self.options.time_limit:
                        break
                    if now - saved > 60.0 * self.options.save_minutes:
                        self.save()
                        saved = now
                    yield self.step
        finally:
            self._writer.close()
            for number, handler in previous:
                signal.signal(number, handler)
        self.save()

    def _ask_stop(self, number: int, frame: Any) -> None:
        self._stop_asked = True

    def update(self, loss: Tensor, scalars: dict[str, float], amount: float, batch_name: Callable[[], str]) -> None:
        """Backward pass, clipped step, average; `amount` counts what the batch held (seconds of sound, images)."""
        if not torch.isfinite(loss):
            raise StageError(f"step {self.step}: the loss is {loss.item()}; the batch was {batch_name()}")
        options = self.options
        for group, factor in zip(self.optimiser.param_groups, self._factors):
            group["lr"] = options.lr * factor * cosine(self.step, options)
        self.optimiser.zero_grad(set_to_none=True)
        self.fabric.backward(loss)
        norm = torch.nn.utils.clip_grad_norm_(self.bare.parameters(), options.clip_norm)
        if not torch.isfinite(norm):
            raise StageError(f"step {self.step}: the gradient is {norm.item()}; the batch was {batch_name()}")
        self.optimiser.step()
        # a short average at first, so that early checkpoints are not the random start
        decay = min(options.ema_decay, (1.0 + self.step) / (10.0 + self.step))
        for name, leaf in self.bare.state_dict().items():
            self.average[name].lerp_(leaf.detach(), 1.0 - decay)
        self.step += 1
        self._amount += amount
        if self.step % 20 == 0:
            self._report({"loss": float(loss.detach()), **scalars})

    def _report(self, scalars: dict[str, float]) -> None:
        rate = self._amount / (time.monotonic() - self._started)
        shown = "  ".join(f"{name} {value:.3f}" for name, value in scalars.items())
        note = f"{rate:.0f} {self._unit}/s  {shown}"
        self._bar.update(self._task, completed=self.step, note=note)
        if self.step % 100 == 0:
            for name, value in scalars.items():
                self._writer.add_scalar(name, value, self.step)
            if not sys.stderr.isatty():
                print(f"step {self.step}/{self.options.steps}  {note}", file=sys.stderr, flush=True)

    def averaged(self) -> dict[str, Tensor]:
        """The averaged weights, fp32, under the names of the objective."""
        return self.average

    def save(self) -> None:
        """Writes both checkpoints, each whole or not at all."""
        out = self.options.out
        half = {name: leaf.half() if leaf.is_floating_point() else leaf for name, leaf in self.average.items()}
        write_tensors(out / "model.safetensors", half)
        write_json(out / "model.json", {"config": asdict(self.config), "step": self.step, "metrics": self.metrics})
        state = {f"model.{name}": leaf for name, leaf in self.bare.state_dict().items()}
        state |= {f"average.{name}": leaf for name, leaf in self.average.items()}
        for index, moments in self.optimiser.state_dict()["state"].items():
            state |= {f"optimiser.{index}.{key}": torch.as_tensor(value) for key, value in moments.items()}
        # the step travels inside the one file that is replaced at once
        state["step"] = torch.tensor(self.step)
        write_tensors(out / "resume.safetensors", state)

    def _load(self) -> None:
        path = self.options.out / "resume.safetensors"
        if not path.is_file():
            raise StageError(f"--resume: expected {path}, found none; leave --resume out to start anew")
        state = load_file(path, device=str(self.fabric.device))
        try:
            self.bare.load_state_dict(_part(state, "model."))
        except RuntimeError as error:
            raise StageError(f"--resume: {path} belongs to another configuration: {error}") from error
        self.average = {name: leaf.clone() for name, leaf in _part(state, "average.").items()}
        whole = self.optimiser.state_dict()
        for name, leaf in _part(state, "optimiser.").items():
            index, key = name.split(".")
            whole["state"].setdefault(int(index), {})[key] = leaf
        self.optimiser.load_state_dict(whole)
        self.step = int(state["step"])


def _part(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name[len(prefix) :]: leaf for name, leaf in state.items() if name.startswith(prefix)}


def _factor(name: str, groups: dict[str, float]) -> float:
    return next((factor for prefix, factor in groups.items() if name.startswith(prefix)), 1.0)


def hardware() -> str:
    """The machine, as stories of training tell it."""
    return f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}"
