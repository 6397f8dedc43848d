"""CUDA without a GPU, for tests: pycuda's driver module and the driver library, with a stream that is late on purpose.

What is put on the stream runs only when somebody waits for it, or never; so a copy from memory that was overwritten
meanwhile, a missing wait, work recorded but not launched and memory used after it was freed all show as wrong
numbers or errors. Device memory is host memory, so addresses are true addresses.
"""

import ctypes
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

STREAM, CAPTURE_FAILED = 0x5EAF, 900
Work = Callable[[], None]


class Error(Exception):
    """pycuda.driver.Error."""


class MemoryError_(Error):
    """pycuda.driver.MemoryError."""


class Cuda:
    """The machine: its memory, contexts and the one stream. `room_bytes` is what the GPU has."""

    def __init__(self, room_bytes: int = 1 << 30, devices: int = 1, capability: tuple[int, int] = (8, 9)) -> None:
        self.room_bytes, self.devices, self.capability = room_bytes, devices, capability
        self.memory: dict[int, NDArray[np.uint8]] = {}
        self.pinned: dict[int, NDArray[Any]] = {}
        self.pending: list[Work] = []
        self.captured: list[Work] | None = None
        self.graphs: dict[int, list[Work]] = {}
        self.stack: list[str] = []
        self.primary = 0  # how often the primary context is held
        self.can_capture = True
        self.launches = 0
        self.driver_number = b"570.86.15"  # empty: the management library is not there

    def put(self, work: Work) -> None:
        """Adds work to the stream, or to the graph that is being recorded."""
        self.need_context()
        (self.pending if self.captured is None else self.captured).append(work)

    def wait(self) -> None:
        self.need_context()
        if self.captured is not None:
            raise Error("operation not permitted when stream is capturing")
        while self.pending:
            self.pending.pop(0)()

    def need_context(self) -> None:
        if not self.stack:
            raise Error("invalid device context")

    def at(self, address: int, size_bytes: int) -> NDArray[np.uint8]:
        """Device memory of that size at an address; an error unless it lies inside one allocation that still lives."""
        for start, block in self.memory.items():
            if start <= address and address + size_bytes <= start + len(block):
                return block[address - start : address - start + size_bytes]
        raise Error(f"an illegal memory access was encountered at {address:#x}")

    def own(self, array: NDArray[Any]) -> None:
        assert array.ctypes.data in self.pinned, "an asynchronous copy needs page-locked memory"

    def pycuda(self) -> tuple[ModuleType, ModuleType]:
        """The modules `pycuda` and `pycuda.driver`."""
        package, driver = ModuleType("pycuda"), ModuleType("pycuda.driver")
        package.driver = driver  # type: ignore[attr-defined]
        functions = {
            "Error": Error,
            "MemoryError": MemoryError_,
            "Device": _device_of(self),
            "Context": _context_of(self),
            "Stream": lambda: _Stream(self),
            "Event": lambda: _Event(self),
            "init": lambda: None,
            "get_driver_version": lambda: 12080,
            "mem_get_info": lambda: (self.room_bytes, 1 << 30),
            "mem_alloc": lambda size: _Allocation(self, size),
            "pagelocked_empty": self._pagelocked_empty,
            "memcpy_htod_async": self._upload,
            "memcpy_dtoh_async": self._download,
            "memset_d8_async": self._set,
        }
        vars(driver).update(functions)
        return package, driver

    def _pagelocked_empty(self, shape: Any, dtype: Any, order: str = "C", mem_flags: int = 0) -> NDArray[Any]:
        self.need_context()
        array = np.full(shape, 77, dtype)  # never zeros by luck
        self.pinned[array.ctypes.data] = array
        return array

    def _upload(self, dest: int, src: NDArray[Any], stream: Any) -> None:
        self.own(src)
        self.put(lambda: self.at(dest, src.nbytes).__setitem__(slice(None), src.reshape(-1).view(np.uint8)))

    def _download(self, dest: NDArray[Any], src: int, stream: Any) -> None:
        self.own(dest)
        self.put(lambda: dest.reshape(-1).view(np.uint8).__setitem__(slice(None), self.at(src, dest.nbytes)))

    def _set(self, dest: int, data: int, size: int, stream: Any) -> None:
        self.put(lambda: self.at(dest, size).fill(data))


class Management:
    """NVIDIA's management library as ctypes sees it. Every function answers an error code."""

    def __init__(self, cuda: Cuda) -> None:
        self._cuda, self.fails, self._open = cuda, False, 0

    def nvmlInit_v2(self) -> int:
        self._open += 1
        return 0

    def nvmlSystemGetDriverVersion(self, text: Any, length: ctypes.c_uint) -> int:
        assert self._open > 0
        assert length.value == len(text) >= 80
        text.value = self._cuda.driver_number
        return 999 if self.fails else 0

    def nvmlShutdown(self) -> int:
        self._open -= 1
        assert self._open >= 0
        return 0


class Library:
    """The driver library as ctypes sees it: stream capture and graphs. Every function answers a CUDA error code."""

    def __init__(self, cuda: Cuda) -> None:
        self._cuda = cuda

    def cuStreamBeginCapture_v2(self, stream: ctypes.c_void_p, mode: ctypes.c_int) -> int:
        assert (stream.value, mode.value) == (STREAM, 1)
        if not self._cuda.can_capture:
            return CAPTURE_FAILED
        self._cuda.captured = []
        return 0

    def cuStreamEndCapture(self, stream: ctypes.c_void_p, graph: Any) -> int:
        number = len(self._cuda.graphs) + 1
        assert self._cuda.captured is not None
        self._cuda.graphs[number], self._cuda.captured = self._cuda.captured, None
        graph._obj.value = number
        return 0

    def cuGraphInstantiateWithFlags(self, made: Any, graph: ctypes.c_void_p, flags: ctypes.c_ulonglong) -> int:
        assert flags.value == 0
        made._obj.value = 1000 + (graph.value or 0)
        return 0

    def cuGraphDestroy(self, graph: ctypes.c_void_p) -> int:
        return 0

    def cuGraphLaunch(self, made: ctypes.c_void_p, stream: ctypes.c_void_p) -> int:
        self._cuda.pending += self._cuda.graphs[(made.value or 0) - 1000]
        self._cuda.launches += 1
        return 0

    def cuGraphExecDestroy(self, made: ctypes.c_void_p) -> int:
        self._cuda.graphs.pop((made.value or 0) - 1000)
        return 0

    def cuCtxGetCurrent(self, context: Any) -> int:
        context._obj.value = _HANDLE if self._cuda.stack else 0
        return 0

    def cuCtxPopCurrent_v2(self, context: Any) -> int:
        self._cuda.stack.pop()
        return 0


_HANDLE = 0xC0


def _device_of(cuda: Cuda) -> type:
    class Device:
        def __init__(self, index: int) -> None:
            self.index = index

        @staticmethod
        def count() -> int:
            return cuda.devices

        def name(self) -> str:
            return "Test GPU"

        def compute_capability(self) -> tuple[int, int]:
            return cuda.capability

        def total_memory(self) -> int:
            return 1 << 30

        def retain_primary_context(self) -> Any:
            cuda.primary += 1
            return _context_of(cuda)()

    return Device


def _context_of(cuda: Cuda) -> type:
    class Context:
        handle = _HANDLE

        def push(self) -> None:
            cuda.stack.append("primary")

        @staticmethod
        def pop() -> None:
            cuda.need_context()
            cuda.stack.pop()

        def detach(self) -> None:
            """As pycuda does it: pushes the context to release it, and leaves it on the thread's stack."""
            assert cuda.primary > 0
            cuda.primary -= 1
            cuda.stack.append("primary")

    return Context


class _Stream:
    handle = STREAM

    def __init__(self, cuda: Cuda) -> None:
        cuda.need_context()
        self.synchronize = cuda.wait


class _Event:
    def __init__(self, cuda: Cuda) -> None:
        self._cuda, self._work = cuda, 0

    def record(self, stream: _Stream) -> "_Event":
        self._work = self._cuda.launches
        return self

    def synchronize(self) -> "_Event":
        self._cuda.wait()
        return self

    def time_since(self, start: "_Event") -> float:
        return 0.25 + 0.001 * (self._work - start._work)


class _Allocation:
    def __init__(self, cuda: Cuda, size_bytes: int) -> None:
        cuda.need_context()
        if size_bytes > cuda.room_bytes:
            raise MemoryError_("cuMemAlloc failed: out of memory")
        cuda.room_bytes -= size_bytes
        block = np.full(size_bytes, 0xA5, np.uint8)
        self._cuda, self._address = cuda, block.ctypes.data
        cuda.memory[self._address] = block

    def __int__(self) -> int:
        return self._address

    def free(self) -> None:
        self._cuda.need_context()
        self._cuda.room_bytes += len(self._cuda.memory.pop(self._address))
