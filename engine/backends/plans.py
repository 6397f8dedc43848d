"""TensorRT plans in the user's own cache: named by what they were built from, sealed with a key that never leaves this
machine.

A plan is machine code for one GPU, driver and TensorRT. It is built here, never accepted from a pack or another
machine, and is loaded only if everything it was built from is still so (`PlanKey`), its file belongs to this user
alone, and its seal (HMAC-SHA256 under a secret made at first use) is whole. Sealed file: magic, length of the header,
header (JSON), payload, MAC of all of these.
"""

import hashlib
import hmac
import json
import os
import secrets
import stat
import struct
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from engine.errors import BackendError

Precision = Literal["fp32", "fp16", "bf16", "int8"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)
_MAGIC = b"mouthpiece-plan/1\n"
_LENGTH = struct.Struct("<I")
_MAC_BYTES = hashlib.sha256().digest_size
_HEADER_LIMIT_BYTES = 1 << 20
_POSIX = os.name == "posix"


class PlanMissing(BackendError):
    """No plan with this key has been built on this machine yet."""


class PlanRefused(BackendError):
    """A file is in the plan's place, but it is foreign, altered, damaged or out of date."""


@dataclass(frozen=True)
class PlanKey:
    """All that a plan depends on; change one field and it is another plan. `recipe` counts versions of the precision
    conversion; `calibration` names the sound that chose its scales, empty for the made-up voice.
    """

    graph_sha256: str
    precision: Precision
    recipe: int
    tensorrt: str
    gpu: str
    compute_capability: str
    driver: str
    workspace_bytes: int
    opt_level: int
    hardware_compat: str
    version_compatible: bool
    calibration: str = ""

    def digest(self) -> str:
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class Sealed:
    """An opened file: what its header says, and its payload."""

    path: Path
    header: Mapping[str, Any]
    payload: bytes


def default_folder() -> Path:
    """The plan cache of this user: MOUTHPIECE_PLANS, or `mouthpiece/plans` in the user's cache folder."""
    if chosen := os.environ.get("MOUTHPIECE_PLANS"):
        return Path(chosen)
    base = os.environ.get("LOCALAPPDATA") or os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "mouthpiece" / "plans"


class PlanCache:
    """The folder of plans and timing caches. Safe for several processes: writes are atomic, builds hold a lock for
    their key.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder or default_folder()
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        _refuse_shared(self.folder)
        self._secret = self._shared_secret()

    def path(self, key: PlanKey) -> Path:
        return self.folder / f"{key.digest()[:32]}.plan"

    def write(self, key: PlanKey, plan: bytes, facts: Mapping[str, Any]) -> Path:
        """Seals a plan into its place at once: readers see the old file or the new one. Raises `BackendError` if it
        cannot be kept.
        """
        return self._seal(self.path(key), {"key": asdict(key), "facts": dict(facts)}, plan)

    def read(self, key: PlanKey) -> Sealed:
        """The plan for `key`. Raises `PlanMissing`, or `PlanRefused` with the reason."""
        path = self.path(key)
        sealed = self._open(path)
        if sealed is None:
            raise PlanMissing(
                f"no TensorRT plan for {key.gpu} at {key.precision} yet; build it with python -m export.trt"
            )
        if sealed.header.get("key") != asdict(key):
            raise PlanRefused(f"{path} was built from something else; remove it and build again")
        return sealed

    def find(self, key: PlanKey, precisions: tuple[Precision, ...]) -> tuple[PlanKey, Sealed]:
        """The first plan there is among `precisions`, newest build first, whatever workspace and level it was built
        with.
        """
        for precision in precisions:
            for sealed in sorted(self.plans(), key=lambda s: -float(s.header["facts"].get("built", 0))):
                found = PlanKey(**sealed.header["key"])
                free: dict[str, object] = {"workspace_bytes": found.workspace_bytes, "opt_level": found.opt_level}
                free |= {"hardware_compat": found.hardware_compat, "version_compatible": found.version_compatible}
                free |= {"calibration": found.calibration}
                if asdict(found) == asdict(key) | free | {"precision": precision}:
                    return found, sealed
        raise PlanMissing(
            f"no TensorRT plan for {key.gpu}, TensorRT {key.tensorrt}, "
            f"driver {key.driver} yet; build it: python -m export.trt"
        )

    def plans(self) -> Iterator[Sealed]:
        """Every plan that opens; refused files are passed over (see `refused`)."""
        for path in sorted(self.folder.glob("*.plan")):
            with suppress(PlanRefused):
                if sealed := self._open(path):
                    yield sealed

    def refused(self) -> list[str]:
        """Why each file that does not open is refused."""
        reasons = []
        for path in sorted(self.folder.glob("*.plan")):
            try:
                self._open(path)
            except PlanRefused as error:
                reasons.append(str(error))
        return reasons

    def read_timing(self, name: str) -> bytes:
        """TensorRT's timing cache `name`, empty if there is none yet. Raises `PlanRefused` if it is altered."""
        sealed = self._open(self.folder / f"{name}.timing")
        return sealed.payload if sealed else b""

    def write_timing(self, name: str, data: bytes) -> Path:
        return self._seal(self.folder / f"{name}.timing", {"timing": name}, data)

    def clear(self) -> int:
        """Removes every plan, timing cache and left-over part, and the secret with them. Returns how many files
        went.
        """
        doomed = [
            path
            for pattern in ("*.plan", "*.timing", ".part-*", "*.lock", "secret")
            for path in self.folder.glob(pattern)
        ]
        for path in doomed:
            path.unlink(missing_ok=True)
        return len(doomed)

    @contextmanager
    def building(self, key: PlanKey, keep_waiting: Callable[[], bool] = lambda: True) -> Iterator[None]:
        """Holds the right to build `key`; a second process waits here, and then finds the plan. Raises `BackendError`
        if told to stop.
        """
        with _locked(self.folder / f"{key.digest()[:32]}.lock", keep_waiting):
            yield

    def _seal(self, path: Path, header: Mapping[str, Any], payload: bytes) -> Path:
        digest = hashlib.sha256(payload).hexdigest()
        text = json.dumps({**header, "payload_sha256": digest, "payload_bytes": len(payload)}, sort_keys=True).encode()
        head = _MAGIC + _LENGTH.pack(len(text)) + text
        mac = hmac.new(self._secret, head + payload, hashlib.sha256).digest()
        _write_privately(path, (head, payload, mac))
        return path

    def _open(self, path: Path) -> Sealed | None:
        try:
            data = _read_privately(path)
        except FileNotFoundError:
            return None
        start = len(_MAGIC) + _LENGTH.size
        if not data.startswith(_MAGIC) or len(data) < start + _MAC_BYTES:
            raise PlanRefused(f"{path} is not a sealed plan; remove it and build again")
        body, mac = data[:-_MAC_BYTES], data[-_MAC_BYTES:]
        if not hmac.compare_digest(hmac.new(self._secret, body, hashlib.sha256).digest(), mac):
            raise PlanRefused(
                f"{path} was altered or made elsewhere (its seal does "
                "not fit this machine's key); remove it and build again"
            )
        (length,) = _LENGTH.unpack_from(body, len(_MAGIC))
        if length > min(_HEADER_LIMIT_BYTES, len(body) - start):
            raise PlanRefused(f"{path} is damaged; remove it and build again")
        header, payload = json.loads(body[start : start + length]), body[start + length :]
        if hashlib.sha256(payload).hexdigest() != header["payload_sha256"]:
            raise PlanRefused(f"{path} does not have its digest; remove it and build again")
        return Sealed(path, header, payload)

    def _shared_secret(self) -> bytes:
        path = self.folder / "secret"
        with _locked(self.folder / "secret.lock"):
            try:
                secret = _read_privately(path)
            except FileNotFoundError:
                secret = secrets.token_bytes(32)
                _write_privately(path, (secret,))
        if len(secret) != 32:
            raise PlanRefused(f"{path} is damaged; remove it (plans are then built again)")
        return secret


def _refuse_shared(folder: Path) -> None:
    if not _POSIX:
        return
    facts = folder.lstat()
    if not stat.S_ISDIR(facts.st_mode) or facts.st_uid != os.getuid() or facts.st_mode & 0o022:
        raise PlanRefused(
            f"{folder} must be a folder that you own and that nobody "
            "else can write to; chmod 700 it or set MOUTHPIECE_PLANS"
        )


def _read_privately(path: Path) -> bytes:
    """Reads a file that is plain, ours, and closed to everybody else; anything else is refused before it is read."""
    # Never through a link, and never waiting for whoever holds the other end of a pipe.
    flags = sum(getattr(os, name, 0) for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_BINARY"))
    try:
        handle = os.open(path, os.O_RDONLY | flags)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise PlanRefused(f"{path} cannot be read ({error.strerror}); remove it and build again") from None
    with open(handle, "rb") as file:
        facts = os.fstat(handle)
        if not stat.S_ISREG(facts.st_mode) or (_POSIX and (facts.st_uid != os.getuid() or facts.st_mode & 0o077)):
            raise PlanRefused(
                f"{path} is not a plain file that only you can read (mode "
                f"{facts.st_mode & 0o777:o}); remove it and build again"
            )
        return file.read()


def _write_privately(path: Path, parts: tuple[bytes, ...]) -> None:
    handle, name = tempfile.mkstemp(prefix=".part-", dir=path.parent)  # mkstemp makes it 0600
    try:
        with open(handle, "wb") as file:
            for part in parts:
                file.write(part)
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, path)
    except OSError as error:
        with suppress(OSError):
            os.unlink(name)
        raise BackendError(
            f"cannot write {path} ({error.strerror}); free space there or set MOUTHPIECE_PLANS to another folder"
        ) from None
    except BaseException:
        with suppress(OSError):
            os.unlink(name)
        raise


@contextmanager
def _locked(path: Path, keep_waiting: Callable[[], bool] = lambda: True) -> Iterator[None]:
    """An exclusive lock between processes, dropped by the system when its holder dies."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        while not _try_lock(handle):
            if not keep_waiting():
                raise BackendError("cancelled while another process builds the same plan")
            time.sleep(0.05)
        yield
    finally:
        os.close(handle)


def _try_lock(handle: int) -> bool:
    try:
        if _POSIX:
            import fcntl

            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        else:
            import msvcrt

            locking: Any = msvcrt.__dict__["locking"]  # absent from the typings of other systems
            locking(handle, msvcrt.__dict__["LK_NBLCK"], 1)
    except OSError:
        return False
    return True
