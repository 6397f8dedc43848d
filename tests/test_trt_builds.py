"""Building TensorRT plans when something goes wrong: altered files, a full disk, cancelling, refusals, odd drivers."""

import errno
import os
import re
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper
from tensorrt_double import VERSIONS, TensorRt
from trt_doubles import ROLES, build, builder, run_main

from engine.avatar import Avatar
from engine.backends import load_graphs, plans
from engine.backends.cuda import CudaDevice
from engine.backends.plans import PlanCache, Precision
from engine.errors import BackendError
from export import trt
from export.progress import BuildProgress


def test_an_altered_plan_is_refused_and_built_again(
    avatar: Avatar, machine: TensorRt, capsys: pytest.CaptureFixture[str]
) -> None:
    path = build(avatar)[0].path
    data = bytearray(path.read_bytes())
    data[-100] ^= 1
    path.write_bytes(data)
    with pytest.raises(BackendError, match="no TensorRT plan"):
        load_graphs([avatar.graph("audio_encoder")], "tensorrt")
    assert [b.reused for b in build(avatar)] == [False, True]
    assert "was altered or made elsewhere" in capsys.readouterr().err
    load_graphs([avatar.graph("audio_encoder")], "tensorrt").graphs[0].close()


def test_a_sealed_plan_that_tensorrt_refuses(
    avatar: Avatar, machine: TensorRt, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ours, whole, and for this version by its name, yet TensorRT does not take it: its own words are told."""
    path = build(avatar)[0].path
    cache, sealed = PlanCache(), None
    sealed = next(s for s in cache.plans() if s.path == path)
    key = plans.PlanKey(**sealed.header["key"])
    cache.write(key, sealed.payload.replace(VERSIONS[-1].encode(), b"9.9.9.9999", 1), sealed.header["facts"])
    with pytest.raises(BackendError, match=r"refuses the plan.*is of version 9\.9\.9\.9999"):
        load_graphs([avatar.graph("audio_encoder")], "tensorrt")
    assert machine.cuda.memory == {}


@pytest.mark.parametrize("damage", [b"no cache at all", b"9.0|other version", None])
def test_a_timing_cache_that_is_no_use_is_begun_anew(
    avatar: Avatar, machine: TensorRt, damage: bytes | None, capsys: pytest.CaptureFixture[str]
) -> None:
    build(avatar)
    cache, name = PlanCache(), f"trt{VERSIONS[-1]}-cc8.9"
    kept = cache.read_timing(name)
    assert kept.count(b"+") == 12  # six steps of each of two builds: the second went on where the first had stopped
    if damage is None:
        (cache.folder / f"{name}.timing").write_bytes(b"rubbish")
    else:
        cache.write_timing(name, damage)
    with builder() as one:
        one.build(avatar, ROLES[0], BuildProgress(), force=True)
    assert PlanCache().read_timing(name).count(b"+") == 6
    assert ("timing anew" in capsys.readouterr().err) == (damage is None)


def test_cancelling_keeps_what_was_timed_and_writes_no_plan(avatar: Avatar, machine: TensorRt) -> None:
    shares: list[float] = []

    def show(share: float, what: str) -> None:
        shares.append(share)
        if share >= 0.5:
            progress.cancel()

    progress = BuildProgress(show)
    with builder() as one, pytest.raises(trt.BuildCancelled, match=r"cancelled while building audio_encoder\.onnx"):
        one.build(avatar, "audio_encoder", progress)
    assert shares == sorted(shares)
    assert list(PlanCache().plans()) == []
    assert 0 < PlanCache().read_timing(f"trt{VERSIONS[-1]}-cc8.9").count(b"+") < 6
    assert machine.cuda.primary == 0


def test_ctrl_c_stops_the_build(avatar: Avatar, machine: TensorRt, monkeypatch: pytest.MonkeyPatch) -> None:
    import threading

    under_way = threading.Event()

    def pressed(thread: threading.Thread, timeout: float | None = None) -> None:
        if timeout is not None and under_way.wait(30):
            raise KeyboardInterrupt
        real_join(thread, timeout)

    real_join = threading.Thread.join
    monkeypatch.setattr(threading.Thread, "join", pressed)
    with builder() as one:
        progress = BuildProgress()

        def hold() -> None:
            under_way.set()
            while not progress.cancelled:
                pass

        machine.during_build = hold
        with pytest.raises(trt.BuildCancelled):
            trt.build_all(avatar, one, progress, False, lambda built: None)
    assert list(PlanCache().plans()) == []


def test_a_full_disk_leaves_nothing_half_written(
    avatar: Avatar, machine: TensorRt, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    PlanCache()  # the secret
    monkeypatch.setattr(plans.os, "fsync", full)
    failed, _ = run_main(capsys, avatar.path, precision="fp32")
    assert re.fullmatch(r"error: cannot write .* \(No space left on device\); free space there or .*", failed)
    assert sorted(path.suffix for path in PlanCache().folder.iterdir()) == ["", ".lock", ".lock"]


@pytest.mark.parametrize(
    ("fails", "said"),
    [
        ("driver", r"cannot start its builder \(error: CUDA initialization failure.*nvidia-smi"),
        ("parse", r"cannot read audio_encoder\.onnx: node node_gelu_3 \(Gelu\): no importer registered for op: Gelu"),
        ("build", r"cannot build audio_encoder\.onnx: error: Error Code 10: no implementation for node Conv_3"),
        ("context", r"cannot make a context for audio_encoder\.onnx"),
        ("address", r"does not take an address for"),
        ("empty timing", "not take even an empty timing cache"),
    ],
)
def test_what_tensorrt_says_reaches_the_user(
    avatar: Avatar, machine: TensorRt, fails: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    machine.fails.add(fails)
    failed, _ = run_main(capsys, avatar.path, precision="fp32")
    assert failed.startswith("error: ")
    assert re.search(said, failed)
    assert "\n" not in failed
    assert list(PlanCache().plans()) == []
    assert machine.cuda.memory == {}


def test_a_gpu_without_room(avatar: Avatar, machine: TensorRt, capsys: pytest.CaptureFixture[str]) -> None:
    machine.cuda.room_bytes = 40_000
    failed, _ = run_main(capsys, avatar.path, precision="fp32")
    assert "the GPU has no room for" in failed
    assert machine.cuda.memory == {}
    failed, _ = run_main(capsys, avatar.path, device=3)
    assert "CUDA device 3 is not there: this machine has 1" in failed


def test_a_plan_must_hold_float32_tensors(machine: TensorRt, avatar: Avatar) -> None:
    build(avatar)
    value = helper.make_tensor_value_info("samples", TensorProto.FLOAT16, [1, 160])
    out = helper.make_tensor_value_info("context", TensorProto.FLOAT16, [1, 160])
    graph = helper.make_graph([helper.make_node("Identity", ["samples"], ["context"])], "half", [value], [out])
    half = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(half)
    cache = PlanCache()
    sealed = next(cache.plans())
    head = sealed.payload.partition(b"\n")[0]
    for found in list(cache.plans()):
        plan = head + b"\n" + half.SerializeToString()
        cache.write(plans.PlanKey(**found.header["key"]), plan, found.header["facts"])
    with pytest.raises(BackendError, match="expected FLOAT on DEVICE"):
        load_graphs([avatar.graph("audio_encoder")], "tensorrt")


def test_options_reach_the_builder(avatar: Avatar, machine: TensorRt) -> None:
    build(avatar, precision="fp32", opt_level=5, hardware_compat="same-cc", version_compatible=True)
    said = {(call.kind, call.name, call.arguments) for call in machine.calls}
    assert ("IBuilderConfig", "clear_flag", ("BuilderFlag",)) in said  # TF32 would not be fp32
    assert ("IBuilderConfig", "set_flag", ("BuilderFlag",)) in said
    assert ("OnnxParser", "set_flag", ("OnnxParserFlag",)) in said
    assert ("Runtime", "=engine_host_code_allowed", ("bool",)) in said
    load_graphs([avatar.graph("audio_encoder")], "tensorrt").graphs[0].close()  # host code was allowed again
    machine.calls.clear()
    build(avatar)
    assert not any(call.name == "set_flag" for call in machine.calls)


def test_half_precision_graphs_are_what_is_built(avatar: Avatar, machine: TensorRt) -> None:
    asked: list[tuple[str, str]] = []

    def conversion(pack: Avatar, role: str, precision: Precision, speech: Path | None) -> bytes:
        asked.append((role, precision))
        return pack.graph(role)[0]

    device = CudaDevice()
    trt.PlanBuilder(device, PlanCache(), trt.BuildOptions(), conversion).build(avatar, ROLES[0], BuildProgress())
    device.close()
    assert asked == [("audio_encoder", "fp16")]
    (graph,) = load_graphs([avatar.graph("audio_encoder")], "tensorrt").graphs
    assert graph.device.endswith("fp16")
    graph.close()
