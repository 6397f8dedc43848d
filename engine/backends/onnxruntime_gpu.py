"""Graphs on GPUs through ONNX Runtime's execution providers: CUDA, TensorRT, DirectML (Windows), CoreML (macOS).

ONNX Runtime takes the processor in silence where a provider does not start. Here a provider that does not start is
an error, and so are operators that it leaves to the processor, unless the provider is known to leave some: then the
device's name says so.
"""

from typing import Any, ClassVar

from engine.backends.base import NotInstalled
from engine.backends.onnxruntime import OnnxRuntimeGraph
from engine.errors import BackendError
from engine.manifest import GraphSpec


class _ProviderBackend:
    """One execution provider. Raises `NotInstalled` where this build of ONNX Runtime does not have it.

    `threads` is accepted for the protocol; the GPU has its own.
    """

    name: str
    provider: str
    words: str  # the device for people
    package: str  # what brings the provider
    options: ClassVar[dict[str, str]] = {}
    place = "cpu"  # where state lives between steps
    leaves_some = False  # whether operators that the provider does not know may run on the processor

    def __init__(self, threads: int = 0) -> None:
        try:
            import onnxruntime
        except ImportError as error:
            raise NotInstalled(f"{self.name}: onnxruntime is not installed ({error}); {self._mend()}") from None
        if self.provider not in onnxruntime.get_available_providers():
            raise NotInstalled(f"{self.name}: this ONNX Runtime was built without {self.provider}; {self._mend()}")
        self._ort = onnxruntime

    def _mend(self) -> str:
        return f"pip uninstall onnxruntime, then pip install {self.package}"

    def load(self, model: bytes, spec: GraphSpec) -> OnnxRuntimeGraph:
        words = self.words
        try:
            session = self._session(model, strict=True)
        except Exception as whole:  # its exceptions share no public base class
            try:
                session = self._session(model, strict=False)
            except Exception as error:
                raise BackendError(f"{self.name} cannot load {spec.file}: {_first_line(error)}") from None
            if self.provider in session.get_providers() and not self.leaves_some:
                raise BackendError(
                    f"{self.name}: {spec.file} would run partly on the CPU ({_first_line(whole)}); choose another back end"
                ) from None
            words = f"{self.words}, partly on the CPU"
        if self.provider not in session.get_providers():
            took = ", ".join(session.get_providers())
            raise BackendError(
                f"{self.name}: {self.provider} did not start, ONNX Runtime took {took}; check the driver, and the versions "
                "of the GPU libraries that this ONNX Runtime wants"
            )
        return OnnxRuntimeGraph(self._ort, session, spec, words, self.place)

    def _session(self, model: bytes, strict: bool) -> Any:
        options = self._ort.SessionOptions()
        options.log_severity_level = 3
        if strict:
            options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
        if self.provider == "DmlExecutionProvider":  # it demands both
            options.enable_mem_pattern = False
            options.execution_mode = self._ort.ExecutionMode.ORT_SEQUENTIAL
        return self._ort.InferenceSession(model, options, providers=[(self.provider, dict(self.options))])


class CudaProvider(_ProviderBackend):
    name = "onnxruntime-cuda"
    provider = "CUDAExecutionProvider"
    words = "ONNX Runtime with CUDA"
    package = "onnxruntime-gpu"
    place = "cuda"
    # The graphs are small: an exhaustive search for convolutions costs seconds at start and gains nothing later.
    options: ClassVar[dict[str, str]] = {"cudnn_conv_algo_search": "HEURISTIC"}


class TensorRtProvider(_ProviderBackend):
    name = "onnxruntime-tensorrt"
    provider = "TensorrtExecutionProvider"
    words = "ONNX Runtime with TensorRT"
    package = "onnxruntime-gpu"
    place = "cuda"


class DirectMlProvider(_ProviderBackend):
    name = "onnxruntime-directml"
    provider = "DmlExecutionProvider"
    words = "ONNX Runtime with DirectML"
    package = "onnxruntime-directml"
    leaves_some = True


class CoreMlProvider(_ProviderBackend):
    name = "onnxruntime-coreml"
    provider = "CoreMLExecutionProvider"
    words = "ONNX Runtime with CoreML"
    package = "onnxruntime (on macOS)"
    leaves_some = True


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
