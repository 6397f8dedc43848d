"""Do the real TensorRT bindings have every name that the code uses, with the arguments it passes?

Needs the bindings, not a GPU: MOUTHPIECE_TENSORRT_API names a folder with `lib` (loader libraries), `site` (the module)
and `typings` (generated stubs). What the code calls is not listed by hand: names are read from its source, calls from
the record of a build and a run on the double.
"""

import ast
import inspect
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cuda_double import Cuda
from tensorrt_double import ENUMS, Call, TensorRt
from trt_doubles import build, install

from engine.avatar import open_avatar
from engine.backends import load_graphs

ROOT = Path(__file__).parent.parent
API = os.environ.get("MOUTHPIECE_TENSORRT_API", "")
SOURCES = ("export/trt_network.py", "export/progress.py", "engine/backends/tensorrt.py")
FLAGS = {name for enums in ENUMS.values() for name in enums}
needs_api = pytest.mark.skipif(
    not API, reason="MOUTHPIECE_TENSORRT_API does not name a folder with TensorRT's Python bindings"
)
DUMP = """
import json, sys, tensorrt as trt
names, members = json.loads(sys.stdin.read())
def find(path):
    thing = trt
    for part in path.split("."):
        thing = getattr(thing, part, None)
    return thing
docs = {}
for path in members:
    thing = find(path)
    if thing is not None:
        docs[path] = "property" if isinstance(thing, property) else thing.__doc__ or ""
enums = {}
for path in names:
    found = getattr(find(path), "__members__", None)
    if found:
        enums[path] = {name: int(value) for name, value in found.items()}
print(json.dumps({"version": trt.__version__, "there": [n for n in names if find(n) is not None], "docs": docs, "enums": enums}))
"""


def names_used() -> set[str]:
    """`Builder`, `BuilderFlag.TF32`, ...: every dotted name that the sources read off the module."""
    found = set()
    for file in SOURCES:
        for node in ast.walk(ast.parse((ROOT / file).read_text(encoding="utf-8"))):
            text = ast.unparse(node) if isinstance(node, ast.Attribute) else ""
            if isinstance(node, ast.Constant) and isinstance(node.value, str):  # annotations in quotes
                found |= set(re.findall(r"\btrt\.((?:[A-Za-z_]\w*\.?)+)", node.value))
            elif re.fullmatch(r"trt(\.\w+)+", text):
                found.add(text.removeprefix("trt."))
    return {name.removesuffix(".name").rstrip(".") for name in found if not name.startswith(("py", "main"))}


@pytest.fixture
def calls(tiny_pack: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> set[Call]:
    """Every kind of call in a build and a few steps, with plain and with special options."""
    monkeypatch.setenv("MOUTHPIECE_PLANS", str(tmp_path))
    avatar, machine = open_avatar(tiny_pack), install(monkeypatch, TensorRt(Cuda()))
    build(avatar)
    build(avatar, version_compatible=True, hardware_compat="ampere+")
    graph = load_graphs([avatar.graph("audio_encoder")], "tensorrt").graphs[0]
    graph.step(graph.initial(), {"samples": np.zeros((1, 160), np.float32)})
    graph.close()
    return set(machine.calls)


def test_the_record_holds_the_whole_life_of_a_plan(calls: set[Call]) -> None:
    assert {f"{call.kind}.{call.name}" for call in calls} >= {
        "Builder.__init__", "Builder.create_network", "Builder.create_builder_config", "Builder.build_serialized_network",
        "OnnxParser.__init__", "OnnxParser.parse", "OnnxParser.set_flag", "IBuilderConfig.set_memory_pool_limit",
        "IBuilderConfig.create_timing_cache", "IBuilderConfig.set_timing_cache", "IBuilderConfig.=progress_monitor",
        "ITimingCache.serialize", "Runtime.__init__", "Runtime.deserialize_cuda_engine",
        "Runtime.=engine_host_code_allowed", "ICudaEngine.create_execution_context", "ICudaEngine.get_tensor_shape",
        "IExecutionContext.set_tensor_address", "IExecutionContext.execute_async_v3",
    }  # fmt: skip
    assert {"Builder", "BuilderFlag.TF32", "NetworkDefinitionCreationFlag.STRONGLY_TYPED"} <= names_used()


def fits(call: Call, documented: str) -> bool:
    """Whether pybind's signature takes the call: number of arguments, names of keywords, enums where enums stand."""
    for line in re.findall(rf"^\s*(?:\d+\. )?{call.name}\((.*)\)(?: ->.*)?$", documented, re.MULTILINE):
        if "*" in line:  # the heading over several overloads, which follow
            continue
        parameters = [part.strip() for part in re.split(r",(?![^\[(]*[\])])", line)][1:]
        made = []
        for part in parameters:
            name = part.split(":")[0].strip()
            default = inspect.Parameter.empty if "=" not in part else None
            made.append(inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD, default=default))
        positional = call.arguments[: len(call.arguments) - len(call.keywords)]
        named = dict(zip(call.keywords, call.arguments[len(positional) :]))
        try:
            bound = inspect.Signature(made).bind(*positional, **named)
        except (TypeError, ValueError):
            continue
        kinds = {part.split(":")[0].strip(): part for part in parameters}
        if all(type_ not in FLAGS or type_ in kinds[name] for name, type_ in bound.arguments.items()):
            return True
    return False


def real(members: list[str]) -> dict[str, Any]:
    """What the real module says of itself, asked in a process of its own: its libraries are found at start only."""
    environment = os.environ | {"LD_LIBRARY_PATH": f"{API}/lib", "PYTHONPATH": f"{API}/site"}
    names = sorted(names_used() | FLAGS)
    done = subprocess.run(
        [sys.executable, "-c", DUMP],
        input=json.dumps([names, members]),
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


@needs_api
def test_every_name_exists() -> None:
    missing = names_used() - set(real([])["there"])
    assert not missing


@needs_api
def test_every_call_fits(calls: set[Call]) -> None:
    members = {f"{call.kind}.{call.name.removeprefix('=')}" for call in calls}
    docs = real(sorted(members | {"ParserError.node_name", "ParserError.node_operator", "ParserError.desc"}))["docs"]
    assert members <= set(docs)
    for call in calls:
        documented = docs[f"{call.kind}.{call.name.removeprefix('=')}"]
        if call.name.startswith("="):
            assert documented == "property", call
        else:
            assert fits(call, documented), (call, documented.splitlines()[:4])
    assert {"ParserError.node_name", "ParserError.node_operator", "ParserError.desc"} <= set(docs)


@needs_api
def test_the_doubles_enums_are_the_real_ones() -> None:
    answer = real([])
    if answer["version"] not in ENUMS:
        pytest.skip(f"the double knows {', '.join(ENUMS)}, the bindings are {answer['version']}")
    assert {name: answer["enums"][name] for name in ENUMS[answer["version"]]} == ENUMS[answer["version"]]


def test_the_check_of_calls_can_fail() -> None:
    said = "set_flag(self: tensorrt.IBuilderConfig, flag: tensorrt.BuilderFlag) -> None"
    assert fits(Call("IBuilderConfig", "set_flag", ("BuilderFlag",)), said)
    assert not fits(Call("IBuilderConfig", "set_flag", ("OnnxParserFlag",)), said)
    assert not fits(Call("IBuilderConfig", "set_flag", ()), said)
    assert not fits(Call("IBuilderConfig", "set_flag", ("BuilderFlag", "bool")), said)
    assert not fits(Call("IBuilderConfig", "set_flag", ("BuilderFlag",), ("flags",)), said)
    assert not fits(Call("IBuilderConfig", "clear_flag", ("BuilderFlag",)), said)


@needs_api
def test_types_hold_against_the_generated_stubs(tmp_path: Path) -> None:
    pytest.importorskip("mypy")
    wrong = tmp_path / "wrong.py"
    wrong.write_text("import tensorrt as trt\n\nconfig: trt.IBuilderConfig\nconfig.builder_optimisation_level = 3\n")
    command = [
        sys.executable,
        "-m",
        "mypy",
        "--strict",
        "--no-warn-unused-ignores",
        f"--cache-dir={tmp_path / 'cache'}",
    ]
    environment = os.environ | {"MYPYPATH": f"{API}/typings"}
    files = [
        str(ROOT / file) for file in (*SOURCES, "export/trt.py", "export/trt_report.py", "engine/backends/cuda.py")
    ]
    for what, expected in (([str(wrong)], 1), (files, 0)):
        done = subprocess.run([*command, *what], cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == expected, done.stdout
