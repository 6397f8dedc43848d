"""The converter on a small tree in ICT-FaceKit's layout, and what the pack loader says about bad files."""

import json

import numpy as np
import pytest

from training.rig import convert as converter
from training.rig.convert import ConvertError, Topology, convert
from training.rig.expressions import EXPRESSIONS
from training.rig.pack import PACK_ARRAYS, HeadPackError, load_pack
from training.rig.wavefront import ObjError, read_mesh

N = 60
SMALL = Topology(
    vertices=N, left_outside=((40, 43),), mouth_socket=(20, 23), left_eye=(30, 33), right_eye=(34, 37),
    landmarks=tuple(range(8)) * 8 + (44, 45, 46, 47),
)  # fmt: skip
TILE_OF_VERTEX = np.repeat([0, 1, 1, 4, 5, 2, 3, 6], [20, 10, 0, 4, 6, 8, 8, 4])  # per vertex, as uv tile


def write_obj(path, points, faces=""):
    path.write_text("# test\n" + "".join(f"v {x:.6f} {y:.6f} {z:.6f}\n" for x, y, z in points) + faces)


@pytest.fixture
def repository(tmp_path):
    rng = np.random.default_rng(3)
    folder = tmp_path / "ICT-FaceKit" / "FaceXModel"
    folder.mkdir(parents=True)
    points = rng.uniform(-10, 10, (N, 3))
    faces = "".join(
        f"vt {TILE_OF_VERTEX[k] + rng.uniform(0.1, 0.9):.6f} {rng.uniform(0.1, 0.9):.6f}\n" for k in range(N)
    )
    for first in range(0, N, 4):  # one quad for every four vertices
        faces += "f " + " ".join(f"{first + k + 1}/{first + k + 1}" for k in range(4)) + "\n"
    write_obj(folder / "generic_neutral_mesh.obj", points, faces)
    moves = {}
    given = [name for name in EXPRESSIONS if not name.startswith("tongue")]
    for name in ["identity000", "identity001", *given]:
        moves[name] = rng.normal(0, 0.5, (N, 3))
        write_obj(folder / f"{name}.obj", points + moves[name])
    (folder / "vertex_indices.json").write_text(json.dumps({"expressions": [n for n in given if n != "cheekRaiser_L"]}))
    own = tmp_path / "own.npz"
    np.savez(
        own, tongue_vertex=np.array([21, 41], np.int32), tongue_deltas=np.ones((3, 2, 3), np.float16),
        ao_vertex=np.array([0, 41], np.int32), ao=np.array([51, 9], np.uint8),
    )  # fmt: skip
    return folder.parent, own, points, moves


def test_a_small_tree_becomes_a_pack(repository, tmp_path):
    root, own, points, moves = repository
    arrays = convert(root, own, SMALL)
    assert set(arrays) == set(PACK_ARRAYS)
    kept = [k for k in range(N) if not 40 <= k <= 43]
    np.testing.assert_array_equal(arrays["source_vertex"], kept)
    np.testing.assert_allclose(arrays["vertices"], points[kept], atol=1e-5)
    np.testing.assert_allclose(arrays["identity_basis"][1], moves["identity001"][kept], atol=2e-3)
    smile = EXPRESSIONS.index("mouthSmile_L")
    np.testing.assert_allclose(arrays["expression_basis"][smile], moves["mouthSmile_L"][kept], atol=2e-3)
    tongue = arrays["expression_basis"][EXPRESSIONS.index("tongueOut")]
    np.testing.assert_array_equal(np.flatnonzero(tongue.any(1)), [21])
    assert arrays["ao"][0] == pytest.approx(0.2, abs=1e-3)
    assert (arrays["ao"][1:] == 1).all()
    assert len(arrays["triangles"]) == 2 * (N // 4 - 1), "quads are split, and parts left outside go"
    vertex = arrays["corner_vertex"][arrays["triangles"]]
    in_socket = ((vertex >= 20) & (vertex <= 23)).all(1)
    assert set(arrays["triangle_material"][in_socket]) == {2}
    assert (arrays["corner_uv"] >= 0).all()
    assert (arrays["corner_uv"] <= 1).all()
    eyes = np.isin(arrays["corner_material"], (4, 5))
    np.testing.assert_allclose(np.linalg.norm(arrays["corner_eye_dir"][eyes].astype(float), axis=1), 1, atol=2e-3)
    assert not arrays["corner_eye_dir"][~eyes].any()
    path = tmp_path / "pack.npz"
    np.savez_compressed(path, **arrays)
    pack = load_pack(path)
    assert pack.face_position.shape == (1024, 1024, 3)
    np.testing.assert_allclose(pack.mean, points[kept], atol=1e-5)


def test_position_map_holds_the_points_of_the_mesh(repository):
    root, own, *_ = repository
    arrays = convert(root, own, SMALL)
    for name, tile in (("posmap_face", 0), ("posmap_back", 1)):
        last = arrays["triangles"][(arrays["corner_material"][arrays["triangles"]] == tile).all(1)][-1]
        uv = arrays["corner_uv"][last].mean(0)
        expected = arrays["vertices"][arrays["corner_vertex"][last]].mean(0)
        x, y = ((uv * 1024 - 0.5) / 2).round().astype(int)
        np.testing.assert_allclose(arrays[name][y, x].astype(float), expected, atol=0.6)


def test_the_official_topology_keeps_what_the_pack_documents():
    assert len(Topology().kept()) == 24359
    assert len(Topology().landmarks) == 68


@pytest.mark.parametrize(
    ("break_it", "says"),
    [
        (lambda f: (f / "identity000.obj").unlink(), "identity meshes"),
        (lambda f: (f / "jawOpen.obj").unlink(), "jawOpen.obj"),
        (lambda f: (f / "vertex_indices.json").write_text("{"), "vertex_indices.json"),
        (lambda f: (f / "jawOpen.obj").write_text("v 1 2 3\n"), "1 vertices"),
        (lambda f: (f / "jawOpen.obj").write_text("v 1 2\n"), "'v' line"),
        (lambda f: (f / "generic_neutral_mesh.obj").write_text("v 1 2 3\nvt 0 0\nf 1 1 1\n"), "vertex/uv"),
    ],
)
def test_an_incomplete_clone_is_named(repository, break_it, says):
    root, own, *_ = repository
    break_it(root / "FaceXModel")
    with pytest.raises((ConvertError, ObjError), match=says):
        convert(root, own, SMALL)


def test_another_version_of_the_model_is_refused(repository):
    root, own, *_ = repository
    with pytest.raises(ConvertError, match="instead of 26719"):
        convert(root, own)


def test_command_line_says_one_clear_line(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["convert", str(tmp_path), str(tmp_path / "out.npz")])
    assert converter.main() == 1
    said = capsys.readouterr().err
    assert said.startswith("convert: ")
    assert said.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_faces_may_not_point_outside(tmp_path):
    path = tmp_path / "bad.obj"
    path.write_text("v 0 0 0\nv 1 0 0\nv 0 1 0\nvt 0 0\nf 1/1 2/1 4/1\n")
    with pytest.raises(ObjError, match="does not hold"):
        read_mesh(path)


def test_loader_says_how_to_get_a_pack(tmp_path, monkeypatch):
    monkeypatch.delenv("MOUTHPIECE_HEAD_PACK", raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    with pytest.raises(HeadPackError, match=r"training\.rig\.convert"):
        load_pack()
    broken = tmp_path / "head_pack.npz"
    broken.write_bytes(b"not a pack")
    monkeypatch.setenv("MOUTHPIECE_HEAD_PACK", str(broken))
    with pytest.raises(HeadPackError, match="cannot be read"):
        load_pack()
    np.savez(broken, vertices=np.zeros((3, 3)))
    with pytest.raises(HeadPackError, match="no head pack"):
        load_pack()
