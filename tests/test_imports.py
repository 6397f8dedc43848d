"""The law of imports: which room may know which. Read from the source itself, so lazy imports count too."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ROOMS = ("engine", "export", "gui", "training")
# Packages that only the named files or rooms may import.
GUARDED = {
    "torch": ("training/", "export/"),
    "PyQt6": ("gui/",),
    "pyqtgraph": ("gui/",),
    # The GPU's packages, only where they are used: the back ends that run on it, and what builds plans for it.
    "tensorrt": (
        "engine/backends/tensorrt.py",
        "engine/backends/plans.py",
        "export/trt_network.py",
        "export/progress.py",
    ),
    "pycuda": ("engine/backends/tensorrt.py", "engine/backends/cuda.py"),
    "onnx": ("training/", "export/"),
    "onnxruntime": ("engine/backends/onnxruntime", "engine/doctor.py", "export/"),
    "openvino": ("engine/backends/openvino.py", "engine/doctor.py", "export/"),
}
NEVER = ("pickle", "dill", "cloudpickle", "shelve", "marshal", "joblib")


def imports(file: Path) -> set[str]:
    """Full names of all modules that a file imports, anywhere in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


FILES = sorted(p for room in ROOMS for p in (ROOT / room).rglob("*.py"))


def violations(name: str, modules: set[str]) -> list[str]:
    """What a file of that name (`engine/avatar.py`) imports against the law."""
    room = name.split("/")[0]
    bad = [m for m in modules if m.split(".")[0] in NEVER]
    for module in modules:
        top = module.split(".")[0]
        if top in GUARDED and not name.startswith(GUARDED[top]):
            bad.append(module)
        if top not in ROOMS or top == room:
            continue
        allowed = (room == "gui" and top == "engine") or (room == "export" and top in ("engine", "training"))
        if not allowed:
            bad.append(module)
    return sorted(bad)


@pytest.mark.parametrize("file", FILES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_law_of_imports(file: Path) -> None:
    assert violations(file.relative_to(ROOT).as_posix(), imports(file)) == []


def test_there_is_something_to_check() -> None:
    assert any(f.name == "animator.py" for f in FILES)


def test_the_check_can_fail() -> None:
    assert violations("engine/avatar.py", {"torch.nn"}) == ["torch.nn"]
    assert violations("engine/live.py", {"gui.window", "numpy"}) == ["gui.window"]
    assert violations("training/rig/mesh.py", {"engine.avatar"}) == ["engine.avatar"]
    assert violations("gui/bridge.py", {"engine", "PyQt6.QtCore", "training.data"}) == ["training.data"]
    assert violations("export/onnx.py", {"engine.avatar", "training.models", "torch", "pickle"}) == ["pickle"]


def test_relative_imports_are_not_used() -> None:
    for file in FILES:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            assert not (isinstance(node, ast.ImportFrom) and node.level), f"{file}: write the full name instead"
