"""A computer with a GPU, made of the recording doubles (tensorrt_double.py, cuda_double.py), and the builder on it."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from cuda_double import Cuda, Library, Management
from tensorrt_double import TensorRt

from engine.avatar import Avatar
from engine.backends import cuda as cuda_module
from engine.backends.cuda import CudaDevice
from engine.backends.plans import PlanCache, Precision
from export import trt
from export.progress import BuildProgress

ROLES = ("audio_encoder", "frame_decoder")


def computer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> TensorRt:
    """A computer with a GPU, pycuda and TensorRT, and an empty cache."""
    monkeypatch.setenv("MOUTHPIECE_PLANS", str(tmp_path / "plans"))
    return install(monkeypatch, TensorRt(Cuda()))


def install(monkeypatch: pytest.MonkeyPatch, made: TensorRt) -> TensorRt:
    package, driver = made.cuda.pycuda()
    for name, module in (("tensorrt", made.module()), ("pycuda", package), ("pycuda.driver", driver)):
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(cuda_module, "_driver", lambda: Library(made.cuda))
    management = Management(made.cuda) if made.cuda.driver_number else None
    monkeypatch.setattr(cuda_module, "_management", lambda: management)
    return made


@contextmanager
def builder(precision: Precision = "fp32", batch: int = 1, **options: object) -> Iterator[trt.PlanBuilder]:
    device = CudaDevice()
    try:
        chosen = trt.BuildOptions(precision=precision, **options)  # type: ignore[arg-type]
        yield trt.PlanBuilder(device, PlanCache(), chosen, batch=batch)
    finally:
        device.close()


def build(avatar: Avatar, **options: object) -> list[trt.Built]:
    with builder(**options) as one:  # type: ignore[arg-type]
        return [one.build(avatar, role, BuildProgress()) for role in ROLES]


def run_main(capsys: pytest.CaptureFixture[str], *arguments: object, **options: object) -> tuple[str, str]:
    """What the command says: (its last words on failure, or nothing; everything it printed)."""
    try:
        trt.main(*arguments, **options)  # type: ignore[arg-type]
        failed = ""
    except SystemExit as exit:
        failed = str(exit.code)
        assert failed, "the command failed without a word"
    said = capsys.readouterr()
    return failed, said.out + said.err
