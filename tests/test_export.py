"""Checkpoints become packs: the command line, parity of torch with both runtimes, other precisions, and bad input."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

pytest.importorskip("torch", reason="the train extra is not installed")
import checkpoints

from engine.animator import Animator
from engine.avatar import Avatar, open_avatar
from engine.backends.plans import Precision
from engine.controls import Controls
from export import bench, compare, convert, parity
from export import onnx as export_onnx
from export.onnx import export_pack
from export.precision import lay_out, to_half
from export.quantize import candidates, quantize
from export.ranges import spreads

BACKENDS = ("onnxruntime", "openvino")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return checkpoints.build_checkpoints(tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="module")
def avatar(runs: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Avatar:
    return export_pack(*runs, tmp_path_factory.mktemp("pack") / "small.avatar", "Small", "Random weights")


@pytest.fixture(scope="module")
def scene(avatar: Avatar) -> convert.Scene:
    return convert.make_scene(avatar, None, frames=4)


def failure(run: object, *arguments: object, **options: object) -> str:
    with pytest.raises(SystemExit) as stopped:
        run(*arguments, **options)  # type: ignore[operator]
    said = str(stopped.value.code)
    assert said.startswith("error: ")
    assert "\n" not in said
    return said


def test_a_pack_animates_and_tells_nothing_of_the_machine(avatar: Avatar, runs: tuple[Path, Path]) -> None:
    sound = np.random.default_rng(0).normal(0, 0.1, 8000).astype(np.float32)
    for name in BACKENDS:
        animator = Animator(avatar, backend=name)
        animator.push(sound)
        frame = animator.next_frame(Controls())
        assert frame.rgba.shape == (checkpoints.SIZE, checkpoints.SIZE, 4)
        assert frame.rgba[..., 3].any()
        animator.close()
    folder = str(runs[0].parent).encode()
    assert not any(folder in path.read_bytes() for path in avatar.path.rglob("*") if path.is_file())


def test_parity_with_torch(avatar: Avatar, runs: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    parity.main(avatar.path, *runs, backends=BACKENDS, steps=200, frames=2, json_=True)
    found = json.loads(capsys.readouterr().out)
    _, encoder = avatar.graph("audio_encoder")
    _, decoder = avatar.graph("frame_decoder")
    assert all(entry["passes"] for entry in found)
    assert {entry["what"] for entry in found} >= {t.name for t in (*encoder.outputs, *decoder.outputs)}
    assert {entry["backend"] for entry in found} == set(BACKENDS)
    outputs = {t.name for t in decoder.outputs}
    own = [entry["float32_itself"] for entry in found if entry["what"] in outputs]
    assert 0 < max(own) < 1e-3


def test_no_back_end_is_held_to_more_than_float32_can() -> None:
    assert parity.Difference("x", "weight", 1.5e-4, float32_itself=1e-4).passes
    assert not parity.Difference("x", "weight", 2.1e-4, float32_itself=1e-4).passes
    assert not parity.Difference("x", "paint", 1.5e-4, float32_itself=5e-6).passes
    assert not parity.Difference("x", "context", 1.1e-4).passes


def test_parity_notices_another_checkpoint(
    avatar: Avatar, runs: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from safetensors.numpy import load_file, save_file

    weights = load_file(runs[1] / "model.safetensors")
    name = next(key for key in weights if key.startswith("encoder.") and weights[key].ndim > 1)
    weights[name] = weights[name] + np.float16(0.01)
    save_file(weights, tmp_path / "model.safetensors")
    (tmp_path / "model.json").write_bytes((runs[1] / "model.json").read_bytes())
    with pytest.raises(SystemExit) as stopped:
        parity.main(avatar.path, runs[0], tmp_path, backends=("onnxruntime",), steps=5, frames=1)
    assert stopped.value.code == 1
    assert "over 1e-4" in capsys.readouterr().out


def test_bad_input_is_one_line_and_leaves_nothing(runs: tuple[Path, Path], tmp_path: Path) -> None:
    out = tmp_path / "out.avatar"
    assert "train it first" in failure(export_onnx.main, tmp_path / "no", runs[1], output=out)
    assert "ends in .avatar" in failure(export_onnx.main, *runs, output=tmp_path / "pack")
    taken = tmp_path / "taken.avatar"
    taken.mkdir()
    (taken / "mine.txt").write_text("keep")
    assert "is not an avatar pack" in failure(export_onnx.main, *runs, output=taken)
    assert "of a *.avatar folder" in failure(parity.main, tmp_path, *runs)
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "model.safetensors").write_bytes(b"rubbish")
    (broken / "model.json").write_bytes((runs[1] / "model.json").read_bytes())
    failure(export_onnx.main, runs[0], broken, output=out)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["broken", "taken.avatar"]
    assert (taken / "mine.txt").read_text() == "keep"


@pytest.mark.parametrize("precision", ["fp16", "bf16", "int8"])
def test_precisions_run_and_keep_the_picture(avatar: Avatar, scene: convert.Scene, precision: Precision) -> None:
    made = {
        role: convert.convert_graph(avatar, role, precision, scene)[0] for role in ("audio_encoder", "frame_decoder")
    }
    fewer = sum(len(data) for data in made.values()) < sum(len(avatar.graph(role)[0]) for role in made)
    assert fewer or precision == "int8"
    truth = convert.fp32_truth(avatar, scene)
    for backend in BACKENDS if precision != "bf16" else ("openvino",):
        cost = convert.cost(avatar, made, precision, backend, scene, truth)
        assert not cost.unavailable
        assert convert.TARGET_DB[precision] <= cost.psnr_db < 100, backend
        assert cost.mouth < 0.02


def test_state_inputs_and_outputs_stay_fp32(avatar: Avatar, scene: convert.Scene) -> None:
    data, spec = avatar.graph("audio_encoder")
    model = onnx.load_model_from_string(data)
    made = to_half(model, scene.encoder, list(spec.state))
    for value in (*made.graph.input, *made.graph.output):
        assert value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    halves = {node.output[0] for node in made.graph.node if node.output[0].endswith(".half")}
    assert halves
    reads_state = [node for node in made.graph.node if set(node.input) & set(spec.state)]
    assert reads_state
    assert not any(name in halves for node in reads_state for name in node.output)


def test_int8_is_explicit_and_leaves_mixed_inputs(avatar: Avatar, scene: convert.Scene) -> None:
    model = onnx.load_model_from_string(avatar.graph("frame_decoder")[0])
    layout = lay_out(model)
    chosen = candidates(layout, [])
    assert chosen
    joined = [i for i, node in enumerate(model.graph.node) if node.op_type == "Concat"]
    fed = {index for i in joined for index in layout.readers.get(model.graph.node[i].output[0], ())}
    assert not fed & set(chosen)
    seen = spreads(model, scene.decoder, {layout.node(index).input[0] for index in chosen})
    made = quantize(layout, chosen, seen)
    kinds = [node.op_type for node in made.graph.node]
    assert kinds.count("QuantizeLinear") == kinds.count("DequantizeLinear") >= len(chosen) + 1
    zeros = [w for w in made.graph.initializer if w.name.endswith(".zero")]
    assert zeros
    assert not any(onnx.numpy_helper.to_array(zero).any() for zero in zeros)  # symmetric


def test_convert_writes_a_pack(avatar: Avatar, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    convert.main(avatar.path, precision=("fp16",), output=tmp_path / "half.avatar", backends=("onnxruntime",))
    half = open_avatar(tmp_path / "half.avatar")
    assert half.graph("frame_decoder")[1] == avatar.graph("frame_decoder")[1]
    assert "fp16 graphs" in half.manifest.description
    assert "name one --precision" in failure(convert.main, avatar.path, output=tmp_path / "x.avatar")
    assert "holds no sound" in failure(convert.main, avatar.path, speech=runs_without_sound(tmp_path))


def runs_without_sound(folder: Path) -> Path:
    (folder / "silent").mkdir()
    return folder / "silent"


def test_bench_measures_and_draws(avatar: Avatar, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = {"frames": 8, "threads": 1, "batches": "1,3", "json_": True, "chart": tmp_path / "speed.png"}
    bench.main(avatar.path, backends="openvino,tensorrt", **options)  # type: ignore[arg-type]
    found = json.loads(capsys.readouterr().out)
    rows = {row["backend"]: row for row in found["results"]}
    assert list(rows) == ["openvino", "tensorrt", "onnxruntime"]
    for name in BACKENDS:
        assert all(rows[name]["stages"][stage]["p50"] > 0 for stage in bench.STAGES)
        assert rows[name]["start_ms"] > 0
        newest, microphone = rows[name]["stages"]["newest sample"]["p50"], rows[name]["microphone_to_frame_ms"]["p50"]
        ahead_ms = avatar.lookahead_hops * 10
        assert ahead_ms - 10 < microphone - newest <= ahead_ms + 1e-3
    if "tensorrt" not in sys.modules:
        assert re.search("not installed", rows["tensorrt"]["unavailable"])
    assert set(found["ratios_to_onnxruntime_cpu"]["onnxruntime"].values()) == {1.0}
    assert [(row["backend"], row["batch"]) for row in found["batches"]] == [
        (name, size) for name in ("openvino", "onnxruntime") for size in (1, 3)
    ]
    for row in found["batches"]:
        assert row["rounds"] >= 3
        for part in ("encoder", "decoder"):
            ratio = row[f"{part}_alone_ms"] / row[f"{part}_ms"]
            assert row[f"{part}_ratio"] == pytest.approx(ratio, rel=0.15, abs=0.02)
    assert (tmp_path / "speed.png").read_bytes().startswith(b"\x89PNG")
    assert "is unknown" in failure(bench.main, avatar.path, backends="abacus")
    for wrong in ("0", "two", "1,999"):
        assert "--batches: expected numbers" in failure(bench.main, avatar.path, batches=wrong)


def test_two_back_ends_are_compared(avatar: Avatar, capsys: pytest.CaptureFixture[str]) -> None:
    compare.main(avatar.path, backend="openvino", hops=100, frames=2)
    assert re.search(r"OpenVINO on the CPU.* against onnxruntime: passes", capsys.readouterr().out)
    compare.main(avatar.path, backend="openvino", hops=60, frames=2, batch=3)
    said = capsys.readouterr().out
    assert re.search(r", 3 avatars a call against onnxruntime: passes\nworst of 2 .*\n.* over 20 hops", said)
    assert "1 to 256 avatars" in failure(compare.main, avatar.path, backend="openvino", batch=0)


def test_a_face_that_differs_is_told(
    avatar: Avatar, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compare, "FP32_DB", 101.0)
    with pytest.raises(SystemExit) as stopped:
        compare.main(avatar.path, backend="openvino", hops=5, frames=1)
    assert stopped.value.code == 1
    assert "FAILS" in capsys.readouterr().out
    assert "not installed" in failure(compare.main, avatar.path, backend="tensorrt")


def test_the_script_for_people_with_a_gpu() -> None:
    script = Path(export_onnx.__file__).with_name("verify_gpu.sh")
    assert subprocess.run(["bash", "-n", script], check=False).returncode == 0
    asked = re.findall(r"-m (export\.\w+)", script.read_text())
    assert set(asked) == {"export.trt", "export.compare", "export.bench"}
    done = subprocess.run(
        ["bash", script], capture_output=True, text=True, env={**os.environ, "PYTHON": sys.executable}, check=False
    )
    if done.returncode == 0:
        pytest.skip("this machine has a GPU and TensorRT, and everything passed")
    assert done.stderr.startswith("error: tensorrt and pycuda are needed")
