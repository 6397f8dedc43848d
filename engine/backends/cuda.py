"""CUDA through pycuda: the primary context, pinned and device memory, one stream, and captured graphs.

The primary context is the one that torch and the CUDA runtime use as well, so tensors can be shared. It is pushed for
the length of a call and popped again: any thread may make the calls, one at a time. Graphs are captured through the
driver itself, since pycuda does not wrap them. Source: CUDA driver API, sections 6.8 (primary context), 6.18 (streams)
and 6.23 (graphs).
"""

import ctypes
import ctypes.util
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from engine.backends.base import NotInstalled
from engine.errors import BackendError

_DRIVER_TEXT_BYTES = 80  # NVML_SYSTEM_DRIVER_VERSION_BUFFER_SIZE
_CAPTURE_THREAD_LOCAL = 1  # CU_STREAM_CAPTURE_MODE_THREAD_LOCAL: other threads, such as torch's, may go on allocating


@dataclass(frozen=True)
class Gpu:
    """What a plan depends on, and what a person calls it."""

    name: str
    compute_capability: str  # "8.9"
    driver: str  # number of the display driver and the CUDA it brings, "570.86.15, CUDA 12.8"
    memory_bytes: int


class CudaDevice:
    """One GPU with its primary context and one stream. Raises `BackendError` where pycuda, the driver or the GPU is
    missing.
    """

    def __init__(self, index: int = 0) -> None:
        self._cuda = _pycuda()
        try:
            self._cuda.init()
            count = int(self._cuda.Device.count())
            if not 0 <= index < count:
                raise BackendError(
                    f"CUDA device {index} is not there: this machine has {count}; choose another with --device"
                )
            self._device = self._cuda.Device(index)
            self._context = self._device.retain_primary_context()
        except self._cuda.Error as error:
            raise BackendError(f"CUDA does not work here ({error}); check the NVIDIA driver with nvidia-smi") from None
        with self.current():
            self.stream = self._cuda.Stream()
        self.gpu = self._describe()
        self._open = True

    def _describe(self) -> Gpu:
        major, minor = self._device.compute_capability()
        version = int(self._cuda.get_driver_version())
        cuda = f"CUDA {version // 1000}.{version % 1000 // 10}"
        driver = ", ".join(filter(None, (driver_number(), cuda)))
        return Gpu(str(self._device.name()), f"{major}.{minor}", driver, int(self._device.total_memory()))

    @contextmanager
    def current(self) -> Iterator[None]:
        """Makes this device's context current on the calling thread, and what was current before again afterwards."""
        self._context.push()
        try:
            yield
        finally:
            self._cuda.Context.pop()

    @property
    def stream_handle(self) -> int:
        return int(self.stream.handle)

    def pinned(self, shape: tuple[int, ...], dtype: DTypeLike = np.float32) -> NDArray[Any]:
        """Zeros in page-locked host memory, which the GPU reads and writes without a copy in between."""
        array: NDArray[Any] = self._cuda.pagelocked_empty(shape, dtype)
        array.fill(0)
        return array

    def allocate(self, size_bytes: int) -> "DeviceBuffer":
        """Zeroed device memory."""
        try:
            memory = self._cuda.mem_alloc(max(size_bytes, 1))
        except self._cuda.MemoryError:
            free, total = self._cuda.mem_get_info()
            raise BackendError(
                f"the GPU has no room for {size_bytes / 2**20:.1f} MB ({free >> 20} "
                f"of {total >> 20} MB free); close other programs on it"
            ) from None
        buffer = DeviceBuffer(memory, size_bytes)
        self.clear(buffer)
        return buffer

    def upload(self, target: "DeviceBuffer", source: NDArray[Any]) -> None:
        """Host to device, in stream order; `source` must be pinned and stay as it is until the copy is done."""
        self._cuda.memcpy_htod_async(target.address, source, self.stream)

    def download(self, target: NDArray[Any], source: "DeviceBuffer") -> None:
        """Device to pinned host memory, in stream order."""
        self._cuda.memcpy_dtoh_async(target, source.address, self.stream)

    def clear(self, buffer: "DeviceBuffer") -> None:
        self._cuda.memset_d8_async(buffer.address, 0, buffer.size_bytes, self.stream)

    def synchronize(self) -> None:
        """Waits for all that was put on the stream. Raises `BackendError` if any of it failed."""
        try:
            self.stream.synchronize()
        except self._cuda.Error as error:
            raise BackendError(f"the GPU failed ({error}); restart the program") from None

    def milliseconds(self, work: Callable[[], None]) -> float:
        """How long the GPU takes for what `work` puts on the stream."""
        start, end = self._cuda.Event(), self._cuda.Event()
        start.record(self.stream)
        work()
        end.record(self.stream)
        end.synchronize()
        return float(end.time_since(start))

    def capture(self, work: Callable[[], None]) -> "CapturedGraph":
        """Records what `work` puts on the stream, without running it. Raises `BackendError` if it cannot be
        captured.
        """
        return CapturedGraph(_driver(), self.stream_handle, work)

    def close(self) -> None:
        """Waits for the stream and gives the context back; buffers must have been freed."""
        if not self._open:
            return
        self._open = False
        with self.current():
            self.stream.synchronize()
            del self.stream
        handle = int(self._context.handle)
        self._context.detach()
        _leave(handle)


@dataclass
class DeviceBuffer:
    """Device memory and its address."""

    memory: Any
    size_bytes: int

    @property
    def address(self) -> int:
        return int(self.memory)

    def free(self) -> None:
        self.memory.free()


class CapturedGraph:
    """Work recorded once and launched as one: the launch costs microseconds however many kernels it holds."""

    def __init__(self, driver: Any, stream_handle: int, work: Callable[[], None]) -> None:
        self._driver, self._stream = driver, ctypes.c_void_p(stream_handle)
        self._exec = ctypes.c_void_p()
        graph = ctypes.c_void_p()
        self._call("cuStreamBeginCapture_v2", self._stream, ctypes.c_int(_CAPTURE_THREAD_LOCAL))
        try:
            work()
        except BaseException:
            # The capture must be ended, or the stream stays unusable; what it recorded is of no use.
            driver.cuStreamEndCapture(self._stream, ctypes.byref(graph))
            if graph.value:
                driver.cuGraphDestroy(graph)
            raise
        self._call("cuStreamEndCapture", self._stream, ctypes.byref(graph))
        try:
            self._call("cuGraphInstantiateWithFlags", ctypes.byref(self._exec), graph, ctypes.c_ulonglong(0))
        finally:
            driver.cuGraphDestroy(graph)

    def launch(self) -> None:
        """Puts the recorded work on the stream it was captured from."""
        self._call("cuGraphLaunch", self._exec, self._stream)

    def close(self) -> None:
        if self._exec.value:
            self._driver.cuGraphExecDestroy(self._exec)
            self._exec = ctypes.c_void_p()

    def _call(self, name: str, *arguments: Any) -> None:
        code = int(getattr(self._driver, name)(*arguments))
        if code:
            raise BackendError(f"{name} failed with CUDA error {code}")


def _pycuda() -> Any:
    try:
        import pycuda.driver
    except ImportError as error:
        raise NotInstalled(f"pycuda is not installed ({error}); pip install 'mouthpiece[tensorrt]'") from None
    return pycuda.driver


def _leave(context: int) -> None:
    """pycuda makes a context current to release it; a primary one stays current then, and would be found by others."""
    driver, current = _driver(), ctypes.c_void_p()
    if driver.cuCtxGetCurrent(ctypes.byref(current)) == 0 and current.value == context:
        driver.cuCtxPopCurrent_v2(ctypes.byref(current))


def driver_number() -> str:
    """Number of the display driver, "570.86.15"; empty where it cannot be asked, as on Jetson. CUDA's own version stays the
    same over many drivers, whose compilers and kernels differ. Source: NVML API, system queries.
    """
    library = _management()
    if library is None or library.nvmlInit_v2():
        return ""
    try:
        text = ctypes.create_string_buffer(_DRIVER_TEXT_BYTES)
        failed = library.nvmlSystemGetDriverVersion(text, ctypes.c_uint(len(text)))
        return "" if failed else text.value.decode("ascii", "replace")
    finally:
        library.nvmlShutdown()


def _management() -> Any:
    """NVIDIA's management library, which comes with the display driver, or None."""
    try:
        return ctypes.CDLL("nvml.dll" if sys.platform == "win32" else "libnvidia-ml.so.1")
    except OSError:
        return None


def _driver() -> Any:
    """The CUDA driver library, which comes with the display driver."""
    name = "nvcuda.dll" if sys.platform == "win32" else ctypes.util.find_library("cuda") or "libcuda.so.1"
    try:
        return ctypes.CDLL(name)
    except OSError as error:
        raise BackendError(f"the CUDA driver library is missing ({error}); install the NVIDIA driver") from None
