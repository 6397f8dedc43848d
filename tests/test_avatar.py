"""Packs are checked at the door: what is whole opens, what was touched is refused with one line that says why."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import onnx
import packs
import pytest
import safetensors.numpy
from onnx import TensorProto, helper

from engine import avatar as avatar_module
from engine.avatar import default_avatar, open_avatar
from engine.errors import AvatarError
from engine.onnx_scan import refuse_external_data


@pytest.fixture
def pack(tiny_pack: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_pack, tmp_path / "copy.avatar"))


def edit(pack: Path, change: Callable[[dict], None], reseal: bool = False) -> None:
    manifest = json.loads((pack / "manifest.json").read_text())
    change(manifest)
    (pack / "manifest.json").write_text(json.dumps(manifest))
    if reseal:
        packs.seal(pack, manifest)


def refused(pack: Path, words: str) -> None:
    with pytest.raises(AvatarError, match=words) as caught:
        open_avatar(pack).person("ada")
    assert "\n" not in str(caught.value)


def test_opens_and_reads_people(tiny_pack: Path) -> None:
    avatar = open_avatar(tiny_pack)
    assert avatar.people == ("ada", "bo", "chen", "dina")
    person = avatar.person("bo")
    assert person.stills.shape == (2, 128, 128, 4)
    assert person.stills.dtype == np.uint8
    # RGB order survives the PNG: bo's skin is more red than blue.
    red, _, blue, alpha = person.stills[0][70, 64]
    assert red > blue
    assert alpha == 255
    assert set(person.tensors) == {"skin"}
    assert person.preview.is_file()
    assert avatar.person().name == "ada"
    with pytest.raises(AvatarError, match="no person 'eve'; it has ada, bo"):
        avatar.person("eve")


@pytest.mark.parametrize("name", ["frame_decoder.onnx", "people/ada/still_0.png", "people/ada/person.safetensors"])
def test_a_changed_byte_is_refused(pack: Path, name: str) -> None:
    data = bytearray((pack / name).read_bytes())
    data[len(data) // 2] ^= 1
    (pack / name).write_bytes(data)
    refused(pack, f"{name} does not have the size and digest")


def test_a_change_after_opening_is_noticed(pack: Path) -> None:
    avatar = open_avatar(pack)
    file = pack / "audio_encoder.onnx"
    file.write_bytes(file.read_bytes() + b"\0")
    with pytest.raises(AvatarError, match="digest"):
        avatar.graph("audio_encoder")


def test_strangers_links_and_gaps_are_refused(pack: Path) -> None:
    (pack / "extra.bin").write_bytes(b"x")
    refused(pack, "extra.bin is not in the manifest")
    (pack / "extra.bin").unlink()
    (pack / "people/ada/preview.png").rename(pack / "gone.png")
    refused(pack, "gone.png is not in the manifest")
    (pack / "gone.png").unlink()
    refused(pack, "preview.png is missing")
    os.symlink(pack / "audio_encoder.onnx", pack / "people/ada/preview.png")
    refused(pack, "symbolic link")


def test_a_linked_folder_is_refused(pack: Path, tmp_path: Path) -> None:
    shutil.move(pack / "people/ada", tmp_path / "ada")
    os.symlink(tmp_path / "ada", pack / "people/ada")
    refused(pack, "people/ada is a symbolic link")


def test_not_a_pack(tmp_path: Path) -> None:
    refused(tmp_path / "nowhere", "not an avatar pack")
    refused(tmp_path, "no manifest.json")
    (tmp_path / "manifest.json").write_text("{")
    refused(tmp_path, "not JSON")
    (tmp_path / "manifest.json").write_text("[" * 100_000)
    refused(tmp_path, "not JSON")
    (tmp_path / "manifest.json").write_text('{"format": "other/2"}')
    refused(tmp_path, "expected format 'mouthpiece-avatar/1', found 'other/2'")


BAD_MANIFESTS: list[tuple[str, Callable[[dict], None]]] = [
    ("plain path", lambda m: m["files"].update({"../out": m["files"]["audio_encoder.onnx"]})),
    ("plain path", lambda m: m["files"].update({"/etc/passwd": m["files"]["audio_encoder.onnx"]})),
    ("plain path", lambda m: m["graphs"]["audio_encoder"].update(file="..\\x.onnx")),
    ("synthetic", lambda m: m.update(synthetic=False)),
    ("licence", lambda m: m.pop("licence")),
    ("Extra inputs", lambda m: m.update(surprise=1)),
    ("context", lambda m: m["audio"].update(context_size=7)),
    ("every state input", lambda m: m["graphs"]["audio_encoder"].update(state={})),
    (
        "two tensors share a name",
        lambda m: m["graphs"]["audio_encoder"]["outputs"].append(m["graphs"]["audio_encoder"]["outputs"][0]),
    ),
    ("face_box", lambda m: m["picture"].update(face_box=[100, 0, 64, 64])),
    ("picture", lambda m: m["picture"].update(stills=3)),
    ("video.size", lambda m: (m["picture"].update(size=256), m["picture"].update(face_box=[32, 32, 64, 64]))),
    ("files lacks people/ada/preview.png", lambda m: m["files"].pop("people/ada/preview.png")),
    ("conditions lacks pose", lambda m: m["conditions"].pop("pose")),
    ("sha256", lambda m: m["files"]["audio_encoder.onnx"].update(sha256="abc")),
]


@pytest.mark.parametrize(("words", "change"), BAD_MANIFESTS, ids=range(len(BAD_MANIFESTS)))
def test_manifests_that_disagree_are_refused(pack: Path, words: str, change: Callable[[dict], None]) -> None:
    edit(pack, change)
    refused(pack, words)


def test_misfit_person_files_are_refused(pack: Path) -> None:
    still = pack / "people/ada/still_0.png"
    cv2.imwrite(str(still), np.zeros((64, 64, 4), np.uint8))
    edit(pack, lambda m: None, reseal=True)
    refused(pack, "expected a PNG of 128x128, found \\(64, 64\\)")
    cv2.imwrite(str(still), np.zeros((128, 128, 3), np.uint8))
    edit(pack, lambda m: None, reseal=True)
    refused(pack, "8-bit RGBA")
    still.write_bytes(b"GIF89a")
    edit(pack, lambda m: None, reseal=True)
    refused(pack, "another kind of file")


def test_misfit_tensors_are_refused(pack: Path) -> None:
    file = pack / "people/ada/person.safetensors"
    file.write_bytes(safetensors.numpy.save({"skin": np.zeros((1, 4), np.float32)}))
    edit(pack, lambda m: None, reseal=True)
    refused(pack, r"expected float32 \{'skin': \(1, 3\)\}, found \{'skin': \(1, 4\)\}")
    file.write_bytes(b"\x80\x04pickle")
    edit(pack, lambda m: None, reseal=True)
    refused(pack, "not a safetensors file")


def test_size_limit(pack: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(avatar_module, "PACK_LIMIT_BYTES", 10_000)
    refused(pack, "a pack may have")


def test_the_bundled_avatar_is_found_or_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(avatar_module, "__file__", str(tmp_path / "avatar.py"))
    with pytest.raises(AvatarError, match=r"cast\.avatar.*name a pack with --avatar"):
        default_avatar()
    (tmp_path / "assets" / "cast.avatar").mkdir(parents=True)
    (tmp_path / "assets" / "cast.avatar" / "manifest.json").write_text("{}")
    assert default_avatar() == tmp_path / "assets" / "cast.avatar"


def external(tensor: onnx.TensorProto) -> onnx.TensorProto:
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../secret")
    return tensor


def test_external_data_is_found_wherever_it_hides(tiny_pack: Path) -> None:
    weight = external(helper.make_tensor("w", TensorProto.FLOAT, [1], [1.0]))
    constant = helper.make_node("Constant", [], ["c"], value=weight)
    inner = helper.make_graph([constant], "inner", [], [])
    branch = helper.make_node("If", ["x"], ["y"], then_branch=inner, else_branch=inner)
    sparse = onnx.SparseTensorProto(values=weight)
    function = helper.make_function("d", "f", [], ["c"], [constant], [helper.make_opsetid("", 18)])
    graphs = [
        helper.make_model(helper.make_graph([], "g", [], [], [weight])),
        helper.make_model(helper.make_graph([constant], "g", [], [])),
        helper.make_model(helper.make_graph([branch], "g", [], [])),
        helper.make_model(helper.make_graph([], "g", [], [], sparse_initializer=[sparse])),
        helper.make_model(helper.make_graph([], "g", [], []), functions=[function]),
    ]
    for model in graphs:
        with pytest.raises(AvatarError, match="external data"):
            refuse_external_data(model.SerializeToString(), "g.onnx")
    refuse_external_data((tiny_pack / "frame_decoder.onnx").read_bytes(), "whole.onnx")


def test_broken_onnx_is_refused() -> None:
    for data in (b"\xff\xff", b"\x3a\xff\x01abc", b"\x80" * 12):
        with pytest.raises(AvatarError, match="not an ONNX file"):
            refuse_external_data(data, "g.onnx")
