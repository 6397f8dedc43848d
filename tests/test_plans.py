"""The plan cache: what a key holds, who may read and write, and every file that must be refused."""

import errno
import multiprocessing
import os
import stat
from dataclasses import replace
from pathlib import Path

import pytest

from engine.backends import plans
from engine.backends.plans import PlanCache, PlanKey, PlanMissing, PlanRefused
from engine.errors import BackendError

KEY = PlanKey("ab" * 32, "fp16", 1, "11.4", "Test GPU", "8.9", "570.86.15, CUDA 12.8", 2 << 30, 3, "none", False)
FACTS = {"role": "frame_decoder", "built": 1.0}
posix = pytest.mark.skipif(os.name != "posix", reason="owners and modes of files are POSIX")


@pytest.fixture
def cache(tmp_path: Path) -> PlanCache:
    return PlanCache(tmp_path / "plans")


def test_a_plan_comes_back_with_what_it_says(cache: PlanCache) -> None:
    with pytest.raises(PlanMissing, match=r"Test GPU at fp16 yet; build it with python -m export\.trt"):
        cache.read(KEY)
    path = cache.write(KEY, b"machine code" * 99, FACTS)
    sealed = PlanCache(cache.folder).read(KEY)
    assert (sealed.payload, sealed.path) == (b"machine code" * 99, path)
    assert sealed.header["facts"] == FACTS


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("graph_sha256", "cd" * 32), ("precision", "int8"), ("recipe", 2), ("tensorrt", "11.5"), ("gpu", "Other GPU"),
        ("compute_capability", "9.0"), ("driver", "570.124.06, CUDA 12.8"), ("workspace_bytes", 1 << 30), ("opt_level", 5),
        ("hardware_compat", "ampere+"), ("version_compatible", True), ("calibration", "ab12"),
    ],
)  # fmt: skip
def test_everything_a_plan_depends_on_makes_another_plan(cache: PlanCache, name: str, value: object) -> None:
    cache.write(KEY, b"plan", FACTS)
    with pytest.raises(PlanMissing):
        cache.read(replace(KEY, **{name: value}))


def test_the_key_covers_all_of_its_fields() -> None:
    assert len(set(vars(KEY))) == 12, "a field was added: add it to the test above"


def test_the_newest_plan_of_the_first_precision_is_found(cache: PlanCache) -> None:
    cache.write(replace(KEY, precision="fp32"), b"slow", {"built": 9.0})
    cache.write(replace(KEY, opt_level=1), b"old", {"built": 2.0})
    cache.write(replace(KEY, opt_level=5, hardware_compat="ampere+", calibration="ab12"), b"new", {"built": 3.0})
    found, sealed = cache.find(replace(KEY, opt_level=0), ("fp16", "fp32"))
    assert (found.opt_level, sealed.payload) == (5, b"new")
    assert cache.find(KEY, ("int8", "fp32"))[1].payload == b"slow"
    with pytest.raises(PlanMissing):
        cache.find(replace(KEY, driver="570.124.06, CUDA 12.8"), ("fp16", "fp32"))


@posix
def test_nobody_else_can_read_what_is_written(cache: PlanCache) -> None:
    cache.write(KEY, b"plan", FACTS)
    cache.write_timing("trt", b"timing")
    assert stat.S_IMODE(cache.folder.stat().st_mode) == 0o700
    for path in cache.folder.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path


@posix
def test_a_folder_that_others_may_write_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "plans"
    folder.mkdir()
    folder.chmod(0o777)
    with pytest.raises(PlanRefused, match="chmod 700"):
        PlanCache(folder)
    real = tmp_path / "real"
    real.mkdir(mode=0o700)
    (tmp_path / "link").symlink_to(real)
    with pytest.raises(PlanRefused, match="must be a folder that you own"):
        PlanCache(tmp_path / "link")


def test_an_altered_byte_is_noticed(cache: PlanCache) -> None:
    path = cache.write(KEY, b"machine code", FACTS)
    whole = path.read_bytes()
    for at in {*range(0, len(whole), 37), *range(30), *range(len(whole) - 40, len(whole))}:
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        with pytest.raises(PlanRefused):
            cache.read(KEY)
    for damaged in (b"", whole[:20], whole[:-1], whole + b"\0"):
        path.write_bytes(damaged)
        with pytest.raises(PlanRefused, match="build again"):
            cache.read(KEY)
    path.write_bytes(whole)
    assert cache.read(KEY).payload == b"machine code"


def test_a_plan_of_another_machine_is_refused(cache: PlanCache, tmp_path: Path) -> None:
    """Same key, same bytes, other secret."""
    elsewhere = PlanCache(tmp_path / "elsewhere")
    foreign = elsewhere.write(KEY, b"evil", FACTS).read_bytes()
    path = cache.write(KEY, b"good", FACTS)
    path.write_bytes(foreign)
    with pytest.raises(PlanRefused, match="made elsewhere"):
        cache.read(KEY)
    assert list(cache.plans()) == []
    assert len(cache.refused()) == 1


def test_a_plan_under_another_name_is_refused(cache: PlanCache) -> None:
    other = replace(KEY, precision="fp32")
    os.replace(cache.write(other, b"fp32", FACTS), cache.path(KEY))
    with pytest.raises(PlanRefused, match="built from something else"):
        cache.read(KEY)


@posix
def test_links_pipes_and_open_files_are_refused_unread(cache: PlanCache) -> None:
    path = cache.write(KEY, b"plan", FACTS)
    path.chmod(0o640)
    with pytest.raises(PlanRefused, match="only you can read"):
        cache.read(KEY)
    path.chmod(0o600)
    aside = path.with_suffix(".aside")
    path.rename(aside)
    path.symlink_to(aside)
    with pytest.raises(PlanRefused, match="cannot be read"):
        cache.read(KEY)
    path.unlink()
    os.mkfifo(path, 0o600)
    with pytest.raises(PlanRefused, match="not a plain file"):
        cache.read(KEY)


def test_an_interrupted_write_leaves_the_old_plan(cache: PlanCache, monkeypatch: pytest.MonkeyPatch) -> None:
    cache.write(KEY, b"old", FACTS)

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(plans.os, "fsync", full)
    with pytest.raises(BackendError, match=r"No space left.*MOUTHPIECE_PLANS"):
        cache.write(KEY, b"new", FACTS)
    assert cache.read(KEY).payload == b"old"
    assert not list(cache.folder.glob(".part-*"))


def test_a_damaged_secret_is_told(cache: PlanCache) -> None:
    (cache.folder / "secret").write_bytes(b"short")
    with pytest.raises(PlanRefused, match="secret is damaged; remove it"):
        PlanCache(cache.folder)


def test_clear_takes_everything_and_nothing_else(cache: PlanCache) -> None:
    plan = cache.write(KEY, b"plan", FACTS)
    cache.write_timing("trt", b"timing")
    (cache.folder / "mine.txt").write_text("keep")
    assert cache.clear() == 4  # plan, timing, secret, secret.lock
    assert not plan.exists()
    assert [path.name for path in cache.folder.iterdir()] == ["mine.txt"]
    with pytest.raises(PlanMissing):
        PlanCache(cache.folder).read(KEY)


def _build_once(
    folder: Path, begun: "multiprocessing.synchronize.Barrier", built: "multiprocessing.Queue[int]"
) -> None:
    cache = PlanCache(folder)
    begun.wait(30)
    with cache.building(KEY):
        try:
            cache.read(KEY)
        except PlanMissing:
            cache.write(KEY, b"built by one", FACTS)
            built.put(os.getpid())


def test_two_processes_build_one_plan(tmp_path: Path) -> None:
    """They also make the secret at the same time."""
    context = multiprocessing.get_context("spawn")
    begun, built = context.Barrier(2), context.Queue()
    processes = [context.Process(target=_build_once, args=(tmp_path / "plans", begun, built)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    assert built.get(timeout=5) in [process.pid for process in processes]
    assert built.empty()
    built.close()
    built.join_thread()
    assert PlanCache(tmp_path / "plans").read(KEY).payload == b"built by one"


def test_waiting_for_another_build_can_be_cancelled(cache: PlanCache) -> None:
    asked = iter([True, False])
    with (
        cache.building(KEY),
        pytest.raises(BackendError, match="cancelled while another process"),
        cache.building(KEY, lambda: next(asked)),
    ):
        raise AssertionError("two held the right to build")
    with cache.building(KEY):  # free again
        pass
