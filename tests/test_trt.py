"""Building and running TensorRT plans on recording doubles of TensorRT and CUDA (tensorrt_double.py, cuda_double.py): the
whole of export/trt.py and both back ends, but for the GPU.
"""

import errno
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnx
import pytest
from cuda_double import Cuda, Library, Management
from onnx import TensorProto, helper
from tensorrt_double import VERSIONS, TensorRt

from engine.animator import Animator, newest_hop
from engine.avatar import Avatar, open_avatar
from engine.backends import cuda as cuda_module
from engine.backends import load_graphs, open_backend, plans
from engine.backends.base import Poisoned
from engine.backends.batched import open_batch
from engine.backends.cuda import CudaDevice
from engine.backends.lanes import SharedBatch
from engine.backends.plans import PlanCache, Precision
from engine.controls import Controls
from engine.errors import BackendError
from export import bench, bench_batch, trt
from export import progress as progress_module
from export.batch import write_batch
from export.progress import BuildProgress

ROLES = ("audio_encoder", "frame_decoder")


@pytest.fixture(scope="module")
def avatar(tiny_pack: Path) -> Avatar:
    return open_avatar(tiny_pack)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> TensorRt:
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


@pytest.mark.parametrize("version", VERSIONS)
def test_a_face_on_the_gpu_equals_the_face_on_the_cpu(
    avatar: Avatar, version: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """State swapped by address, captured graphs, persons bound once, on a stream that runs nothing until waited for."""
    monkeypatch.setenv("MOUTHPIECE_PLANS", str(tmp_path))
    machine = install(monkeypatch, TensorRt(Cuda(), version))
    build(avatar)
    rng = np.random.default_rng(0)
    animators = [Animator(avatar, backend=name) for name in ("tensorrt", "onnxruntime")]
    for _ in range(12):
        for person in (None, avatar.people[1]):
            sound = rng.normal(0, 0.1, 1600).astype(np.float32)
            for animator in animators:
                animator.push(sound)
            while animators[0].frames_due():
                one, two = (animator.next_frame(Controls(person=person)) for animator in animators)
                assert np.array_equal(one.rgba, two.rgba)
    assert animators[0].backend == f"TensorRT {version} on Test GPU, fp32"
    assert machine.cuda.launches > 12 * 20
    animators[0].close()
    assert (machine.cuda.memory, machine.cuda.graphs, machine.cuda.stack, machine.cuda.primary) == ({}, {}, [], 0)


def test_state_is_handed_on_and_starts_over(avatar: Avatar, machine: TensorRt) -> None:
    build(avatar)
    model = avatar.graph("audio_encoder")
    graphs = [Poisoned(load_graphs([model], name).graphs[0]) for name in ("tensorrt", "onnxruntime")]
    sound = np.random.default_rng(1).normal(0, 0.1, (60, 1, 160)).astype(np.float32)
    for _ in range(2):
        states = [graph.initial() for graph in graphs]
        for hop in sound:
            steps = [graph.step(state, {"samples": hop}) for graph, state in zip(graphs, states)]
            states = [state for state, _ in steps]
            assert np.allclose(steps[0][1]["context"], steps[1][1]["context"], atol=1e-6)
    graphs[0].close()
    with pytest.raises(BackendError, match="closed"):
        graphs[0].initial()


def test_a_gpu_that_cannot_capture_runs_step_by_step(avatar: Avatar, machine: TensorRt) -> None:
    build(avatar)
    machine.cuda.can_capture = False
    (graph,) = load_graphs([avatar.graph("audio_encoder")], "tensorrt").graphs
    assert "launched step by step: cuStreamBeginCapture_v2 failed with CUDA error 900" in graph.device
    _, out = graph.step(graph.initial(), {"samples": np.full((1, 160), 0.1, np.float32)})
    assert np.isfinite(out["context"]).all()
    assert out["context"].any()
    assert machine.cuda.launches == 0 + 2 * 60  # those of the build's own measurement
    graph.close()


def test_what_is_built_stands_in_the_cache(avatar: Avatar, machine: TensorRt) -> None:
    first = build(avatar)
    assert machine.builds == 2
    assert [b.reused for b in first] == [False, False]
    assert all(b.layers == 7 and b.latency_ms > 0 and b.size_bytes > 1000 and b.path.is_file() for b in first)
    assert [b.reused for b in build(avatar)] == [True, True]
    assert machine.builds == 2
    assert (machine.cuda.memory, machine.cuda.primary) == ({}, 0)


def test_a_change_of_what_a_plan_depends_on_builds_again(
    avatar: Avatar, tiny_rgba_pack: Path, machine: TensorRt, monkeypatch: pytest.MonkeyPatch
) -> None:
    build(avatar)
    for options in ({"opt_level": 1}, {"workspace_bytes": 1 << 26}, {"hardware_compat": "ampere+"}):
        assert not any(b.reused for b in build(avatar, **options)), options
    other = [b.reused for b in build(open_avatar(tiny_rgba_pack))]
    assert other == [True, False]  # the two packs share their encoder
    with builder() as one:
        assert not one.build(avatar, ROLES[0], BuildProgress(), force=True).reused
    install(monkeypatch, TensorRt(Cuda(capability=(9, 0))))
    assert not any(b.reused for b in build(avatar))


def test_another_tensorrt_wants_other_plans(avatar: Avatar, machine: TensorRt, monkeypatch: pytest.MonkeyPatch) -> None:
    build(avatar)
    install(monkeypatch, TensorRt(Cuda(), VERSIONS[0]))
    with pytest.raises(BackendError, match=rf"no TensorRT plan for Test GPU, TensorRT {re.escape(VERSIONS[0])}"):
        load_graphs([avatar.graph("audio_encoder")], "tensorrt")
    loaded = load_graphs([avatar.graph("audio_encoder")], "auto")
    assert loaded.backend != "tensorrt"
    assert "tensorrt: no TensorRT plan" in str(loaded)
    assert not any(b.reused for b in build(avatar))


def test_another_driver_wants_other_plans(avatar: Avatar, machine: TensorRt, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its number counts, not only the CUDA that it brings: that is 12.8 for all of these."""
    build(avatar)
    assert CudaDevice().gpu.driver == "570.86.15, CUDA 12.8"
    for number, driver in ((b"570.124.06", "570.124.06, CUDA 12.8"), (b"", "CUDA 12.8")):
        cuda = Cuda()
        cuda.driver_number = number
        install(monkeypatch, TensorRt(cuda))
        with pytest.raises(BackendError, match=rf"no TensorRT plan for Test GPU, .*, driver {re.escape(driver)} yet"):
            load_graphs([avatar.graph("audio_encoder")], "tensorrt")
        assert not any(b.reused for b in build(avatar))
        load_graphs([avatar.graph("audio_encoder")], "tensorrt").graphs[0].close()


def test_other_sound_to_choose_scales_by_wants_other_plans(avatar: Avatar, machine: TensorRt, tmp_path: Path) -> None:
    heard: list[Path | None] = []

    def conversion(pack: Avatar, role: str, precision: Precision, speech: Path | None) -> bytes:
        heard.append(speech)
        return pack.graph(role)[0]

    def again(speech: Path | None) -> bool:
        device = CudaDevice()
        options = trt.BuildOptions("int8", speech=speech)
        built = trt.PlanBuilder(device, PlanCache(), options, conversion).build(avatar, ROLES[0], BuildProgress())
        device.close()
        return built.reused

    corpus = tmp_path / "corpus"
    corpus.mkdir()
    (corpus / "one.flac").write_bytes(b"one")
    assert [again(None), again(None), again(corpus), again(corpus)] == [False, True, False, True]
    (corpus / "two.flac").write_bytes(b"two")
    assert not again(corpus)
    assert heard == [None, corpus, corpus]
    load_graphs([avatar.graph(ROLES[0])], "tensorrt").graphs[0].close()


def test_a_driver_that_does_not_tell_its_number(machine: TensorRt, monkeypatch: pytest.MonkeyPatch) -> None:
    management = Management(machine.cuda)
    management.fails = True
    monkeypatch.setattr(cuda_module, "_management", lambda: management)
    assert CudaDevice().gpu.driver == "CUDA 12.8"


def test_avatars_share_plans_made_for_several(
    avatar: Avatar,
    machine: TensorRt,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """`--batch 2`: one launch of each graph draws both faces, which are the faces of the CPU."""
    monkeypatch.setenv("COLUMNS", "200")
    write_batch(avatar, 2, tmp_path / "two")
    batch = open_batch(tmp_path / "two", avatar)
    with pytest.raises(BackendError, match="no TensorRT plan"):
        SharedBatch(avatar, batch, "tensorrt")
    assert run_main(capsys, avatar.path, precision="fp32", batch=2)[0] == ""
    assert re.search(r"frame_decoder.*Tiny layers.* 2 .*fp32", run_main(capsys, list_=True)[1])
    shared = SharedBatch(avatar, batch, "tensorrt", patience_ms=0)
    launched = machine.cuda.launches
    seats = [Animator(avatar, name, graphs=shared.seat()) for name in avatar.people[:2]]
    alone = [Animator(avatar, name, "onnxruntime") for name in avatar.people[:2]]
    sound = np.random.default_rng(3).normal(0, 0.1, (2, 3200)).astype(np.float32)
    drawn = 0
    for animators in (seats, alone):
        for animator, samples in zip(animators, sound):
            animator.push(samples)
    while alone[0].frames_due():
        for one, two in zip(seats, alone):
            assert np.abs(one.next_frame(Controls()).rgba.astype(int) - two.next_frame(Controls()).rgba).max() <= 1
            drawn += 1
    assert drawn > 6
    assert machine.cuda.launches - launched == shared.graphs[0].calls + shared.graphs[1].calls
    for animator in (*seats, *alone):
        animator.close()
    shared.close()
    assert (machine.cuda.memory, machine.cuda.primary) == ({}, 0)
    assert "1 to 256" in run_main(capsys, avatar.path, precision="fp32", batch=0)[0]


class Clock:
    """Time for the bench: a microsecond passes whenever it is read, and what the GPU does takes what `Timed` says."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        self.now += 1e-6
        return self.now


class Timed(Cuda):
    """A GPU on which every copy and every network takes a millisecond."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self.clock = clock

    def wait(self) -> None:
        self.clock.now += len(self.pending) * 1e-3
        super().wait()


def test_from_the_microphone_to_the_frame_on_the_gpu(
    avatar: Avatar, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Counted on a clock that the GPU moves: from the newest hop to the frame it is one hop and one frame, uploads and
    downloads with them, nothing twice; the hops before do not count, and the look-ahead does.
    """
    monkeypatch.setenv("MOUTHPIECE_PLANS", str(tmp_path))
    clock = Clock()
    install(monkeypatch, TensorRt(Timed(clock)))
    build(avatar)
    build(avatar, batch=2)
    monkeypatch.setattr(bench, "time", clock)
    monkeypatch.setattr(bench_batch, "time", clock)
    capsys.readouterr()
    bench.main(avatar.path, backends="tensorrt", frames=30, batches="2,4", json_=True)
    found = json.loads(capsys.readouterr().out)
    rows = {row["backend"]: row for row in found["results"]}
    gpu = rows["tensorrt"]
    (_, encoder), (_, decoder) = (avatar.graph(role) for role in ROLES)
    hop_ms = 1 + 1 + 1  # samples up, the network, the context down
    frame_ms = len(decoder.inputs) - len(decoder.inputs_of("person")) + 1 + len(decoder.outputs)
    assert len(encoder.inputs_of("state")) > 0, "state must not travel"
    assert gpu["stages"]["encoder"]["p50"] == pytest.approx(hop_ms, abs=0.1)
    assert gpu["stages"]["decoder"]["p50"] == pytest.approx(frame_ms, abs=0.1)
    assert gpu["stages"]["newest sample"]["p50"] == pytest.approx(hop_ms + frame_ms, abs=0.1)
    assert gpu["stages"]["end to end"]["p99"] == pytest.approx(4 * hop_ms + frame_ms, abs=0.1)
    hops_ms = {10 * (newest_hop(k, avatar.lookahead_hops) + 1) - 1000 * k / 30 for k in range(60)}
    behind = gpu["microphone_to_frame_ms"]
    assert behind["p99"] == pytest.approx(max(hops_ms) + hop_ms + frame_ms, abs=0.2)
    assert min(hops_ms) < behind["p50"] - hop_ms - frame_ms < max(hops_ms)
    assert rows["onnxruntime"]["stages"]["newest sample"]["p50"] < 0.1
    two, four = (row for row in found["batches"] if row["backend"] == "tensorrt")
    assert (two["batch"], two["unavailable"]) == (2, "")
    assert two["decoder_ratio"] == pytest.approx(2.0, abs=0.05), "both frames must come from one launch"
    assert "for 4 avatars: python -m export.trt --batch 4" in four["unavailable"]


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
from test_trt import install
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
