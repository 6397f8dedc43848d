"""Fixtures that every room's tests may use."""

import os
import sys
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).parent))  # so that `import packs` works from every test

import pytest

from engine.avatar import Avatar, open_avatar


@pytest.fixture(scope="session")
def tiny_pack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small working pack of picture kind `layers`, 128 px, four people. Read only."""
    packs = pytest.importorskip("packs", reason="needs the onnx package (extra: train)")
    return packs.build_tiny_pack(tmp_path_factory.mktemp("packs") / "tiny.avatar", size=128)


@pytest.fixture(scope="session")
def tiny_rgba_pack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same as `tiny_pack`, of picture kind `rgba`."""
    packs = pytest.importorskip("packs", reason="needs the onnx package (extra: train)")
    return packs.build_tiny_pack(tmp_path_factory.mktemp("packs") / "tiny_rgba.avatar", kind="rgba", size=128)


@pytest.fixture(scope="module")
def avatar(tiny_pack: Path) -> Avatar:
    """`tiny_pack`, opened."""
    return open_avatar(tiny_pack)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """A computer with a GPU, made of the recording doubles (trt_doubles.py), and an empty cache of plans."""
    trt_doubles = pytest.importorskip("trt_doubles", reason="needs the onnx package (extra: train)")
    return trt_doubles.computer(monkeypatch, tmp_path)
