"""Running TensorRT plans on recording doubles of TensorRT and CUDA: the face, state, the cache and what decides on it, the bench."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from cuda_double import Cuda, Management
from tensorrt_double import VERSIONS, TensorRt
from trt_doubles import ROLES, build, builder, install, run_main

from engine.animator import Animator, newest_hop
from engine.avatar import Avatar, open_avatar
from engine.backends import cuda as cuda_module
from engine.backends import load_graphs
from engine.backends.base import Poisoned
from engine.backends.batched import open_batch
from engine.backends.cuda import CudaDevice
from engine.backends.lanes import SharedBatch
from engine.backends.plans import PlanCache, Precision
from engine.controls import Controls
from engine.errors import BackendError
from export import bench, bench_batch, trt
from export.batch import write_batch
from export.progress import BuildProgress


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
