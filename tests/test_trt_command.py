"""`python -m export.trt` as people and programs use it: lists, progress as lines, cancelling, two at once."""

import errno
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from cuda_double import Cuda
from tensorrt_double import TensorRt
from trt_doubles import ROLES, install, run_main

from engine.avatar import Avatar
from engine.backends import load_graphs, open_backend
from engine.backends.plans import PlanCache
from engine.errors import BackendError
from export import progress as progress_module
from export import trt


def test_the_command_builds_lists_and_clears(
    avatar: Avatar, machine: TensorRt, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    failed, said = run_main(capsys, avatar.path, precision="fp32")
    assert not failed
    assert re.search(r"audio_encoder.*7 layers.*fp32.*ms", said)
    failed, said = run_main(capsys, avatar.path, precision="fp32")
    assert said.count("in the cache") == 2
    path = next(PlanCache().plans()).path
    path.write_bytes(path.read_bytes()[:-1])
    failed, said = run_main(capsys, list_=True)
    assert not failed
    assert said.count("Test GPU (8.9)") == 1
    assert "refused: " in said
    failed, said = run_main(capsys, clear=True)
    assert re.search(r"removed \d+ files", said)
    assert list(PlanCache().plans()) == []


def lines_of(said: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in said.splitlines() if line.startswith("{")]


def test_progress_as_lines_for_programs(avatar: Avatar, machine: TensorRt, capsys: pytest.CaptureFixture[str]) -> None:
    failed, said = run_main(capsys, avatar.path, precision="fp32", progress_json=True)
    assert not failed
    lines = lines_of(said)
    shares = [line["share"] for line in lines if "share" in line]
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    for number, role in enumerate(ROLES, 1):
        own = [line for line in lines if line.get("graph") == role]
        assert {(line["number"], line["of"]) for line in own} == {(number, 2)}
        parts = [line["graph_share"] for line in own]
        assert (parts, parts[0], parts[-1]) == (sorted(parts), 0.0, 1.0)
    built = [line for line in lines if "built" in line]
    assert [(line["built"], line["reused"]) for line in built] == [(role, False) for role in ROLES]
    assert all(line["size_bytes"] > 1000 and line["layers"] == 7 and line["latency_ms"] > 0 for line in built)  # type: ignore[operator]
    assert any("Profiling" in str(line.get("phase", "")) for line in lines)
    assert lines[-1] == {"done": True}
    again = lines_of(run_main(capsys, avatar.path, precision="fp32", progress_json=True)[1])
    assert [line["reused"] for line in again if "built" in line] == [True, True]
    assert again[-1] == {"done": True}


def test_programs_hear_why_nothing_was_built(
    avatar: Avatar, machine: TensorRt, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.fails.add("build")
    failed, said = run_main(capsys, avatar.path, precision="fp32", progress_json=True)
    last = lines_of(said)[-1]
    assert last == {"failed": failed.removeprefix("error: "), "kind": "failed"}
    assert "no implementation for node Conv_3" in failed
    monkeypatch.setitem(sys.modules, "onnx", None)
    for module in [name for name in sys.modules if name.startswith("export.convert")]:
        monkeypatch.delitem(sys.modules, module)
    failed, said = run_main(capsys, avatar.path, progress_json=True)
    assert lines_of(said)[-1]["kind"] == "not-installed"
    assert "fp16 graphs need a package that is not installed" in failed
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    failed, said = run_main(capsys, avatar.path, progress_json=True)
    assert lines_of(said) == [{"failed": failed.removeprefix("error: "), "kind": "not-installed"}]
    assert re.fullmatch(r"error: tensorrt is not installed [^\n]+", failed)


def test_nobody_reading_any_more_cancels(
    avatar: Avatar, machine: TensorRt, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(facts: object) -> None:
        raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))

    monkeypatch.setattr(progress_module, "say", broken)
    failed, _ = run_main(capsys, avatar.path, precision="fp32", progress_json=True)
    assert "cancelled" in failed
    assert list(PlanCache().plans()) == []


CHILD = """
import pathlib, sys
sys.path[:0] = [{tests!r}, {root!r}]
import pytest
from cuda_double import Cuda
from tensorrt_double import TensorRt
from trt_doubles import install
from export import progress, trt

with pytest.MonkeyPatch.context() as patch:
    machine = install(patch, TensorRt(Cuda()))
    lines = progress.progress_lines()
    patch.setattr(trt, "progress_lines", lambda: lines)

    def hold():
        progress.say({{"holding": True}})
        lines._cancelled.wait(60)

    machine.during_build = {meanwhile}
    trt.main(pathlib.Path({pack!r}), precision="fp32", progress_json=True)
"""


def child(avatar: Avatar, plans_folder: Path, meanwhile: str) -> "subprocess.Popen[str]":
    """The command in a process of its own on the doubles; `meanwhile` is run while TensorRT builds."""
    root = Path(trt.__file__).parent.parent
    code = CHILD.format(
        tests=str(Path(__file__).parent), root=str(root), pack=avatar.path.as_posix(), meanwhile=meanwhile
    )
    return subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=os.environ | {"MOUTHPIECE_PLANS": str(plans_folder)},
    )  # fmt: skip


@pytest.mark.parametrize("how", ["word", "signal", "interrupt"])
def test_a_program_cancels_its_child(avatar: Avatar, tmp_path: Path, how: str) -> None:
    """As the app does it: `cancel` on stdin everywhere; SIGTERM and SIGINT where there are signals."""
    if how != "word" and os.name != "posix":
        pytest.skip("signals of this kind are POSIX")
    builds = child(avatar, tmp_path / "plans", "hold")
    assert builds.stdin is not None
    assert builds.stdout is not None
    for line in builds.stdout:
        if "holding" in line:
            break
    if how == "word":
        builds.stdin.write("cancel\n")
        builds.stdin.flush()
    else:
        builds.send_signal(signal.SIGTERM if how == "signal" else signal.SIGINT)
    said, complaints = builds.communicate(timeout=120)
    assert builds.returncode == 1
    assert lines_of(said)[-1]["kind"] == "cancelled"
    assert "cancelled while building audio_encoder.onnx; no plan was written" in complaints
    assert not list((tmp_path / "plans").glob("*.plan"))


def test_two_programs_build_each_plan_once(avatar: Avatar, tmp_path: Path) -> None:
    both = [child(avatar, tmp_path / "plans", "lambda: __import__('time').sleep(0.5)") for _ in range(2)]
    said = [lines_of(one.communicate(timeout=120)[0]) for one in both]
    assert [one.returncode for one in both] == [0, 0]
    for role in ROLES:
        assert sorted(line["reused"] for lines in said for line in lines if line.get("built") == role) == [False, True]
    assert len(list((tmp_path / "plans").glob("*.plan"))) == 2


@pytest.mark.parametrize("size", ["2", "G", "-1G", "2T", "nan", "9999G"])
def test_sizes_that_make_no_sense(
    size: str, machine: TensorRt, avatar: Avatar, capsys: pytest.CaptureFixture[str]
) -> None:
    failed, _ = run_main(capsys, avatar.path, workspace=size)
    assert "expected a size such as 512M or 2G" in failed


def test_sizes_that_do() -> None:
    assert (trt.parse_size("512M"), trt.parse_size("1.5g"), trt.parse_size("4194304")) == (512 << 20, 3 << 29, 4 << 20)


def test_a_machine_without_tensorrt_says_so(
    avatar: Avatar, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("MOUTHPIECE_PLANS", str(tmp_path / "plans"))
    machine = install(monkeypatch, TensorRt(Cuda()))
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    failed, _ = run_main(capsys, avatar.path)
    assert re.search(r"tensorrt is not installed .*; pip install 'mouthpiece\[tensorrt\]'", failed)
    with pytest.raises(BackendError, match="tensorrt is not installed"):
        open_backend("tensorrt")
    assert "tensorrt" in str(load_graphs([avatar.graph("audio_encoder")], "auto")).partition("(")[2]
    old = machine.module()
    vars(old)["__version__"] = "8.6.1"
    monkeypatch.setitem(sys.modules, "tensorrt", old)
    with pytest.raises(BackendError, match=r"TensorRT 10 or later is needed, found 8\.6\.1"):
        open_backend("tensorrt")
    install(monkeypatch, machine)
    monkeypatch.setitem(sys.modules, "pycuda", None)
    monkeypatch.delitem(sys.modules, "pycuda.driver")
    with pytest.raises(BackendError, match="pycuda is not installed"):
        open_backend("tensorrt")
    assert run_main(capsys)[0].startswith("error: expected a pack")
