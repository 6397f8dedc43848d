"""`manifest.json` of an avatar pack, checked where it enters.

The format is described in docs/formats.md, "Avatar pack".
"""

from pathlib import PurePosixPath
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue, model_validator

FORMAT = "mouthpiece-avatar/1"
EMOTIONS = ("anger", "disgust", "fear", "happy", "neutral", "sad")
RATE, HOP_SAMPLES, FPS = 16_000, 160, 30
EXPRESSIONS = 60
CONDITION_SIZES = {"emotion": 6, "pose": 3, "shift": 3, "gaze": 2, "blink": 1}


def _inside(name: str) -> str:
    path = PurePosixPath(name)
    if not name or "\\" in name or ":" in name or path.is_absolute() or ".." in path.parts or str(path) != name:
        raise ValueError(f"{name!r} is not a plain path inside the pack")
    return name


PackPath = Annotated[str, AfterValidator(_inside)]
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
Dimension = Annotated[int, Field(gt=0, le=65_536)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class FileEntry(_Strict):
    sha256: Sha256
    size: int = Field(ge=0)


class AudioSpec(_Strict):
    rate: Literal[16_000] = 16_000
    hop_samples: Literal[160] = 160
    context_size: int = Field(gt=0, le=4096)
    window_hops: int = Field(gt=0, le=400)
    lookahead_hops: int = Field(ge=0, le=50)


class VideoSpec(_Strict):
    fps: Literal[30] = 30
    size: int = Field(ge=64, le=1024, multiple_of=4)


class InputSpec(_Strict):
    name: str
    shape: list[Dimension]
    dtype: Literal["float32"] = "float32"
    role: Literal["samples", "context", "condition", "person", "state"]


class OutputSpec(_Strict):
    name: str
    shape: list[Dimension]
    dtype: Literal["float32"] = "float32"
    role: Literal["context", "state", "picture", "aux"]


class GraphSpec(_Strict):
    """One graph: its named tensors and `state`, which maps each state input to the output that feeds it at the next
    step.
    """

    file: PackPath
    inputs: list[InputSpec]
    outputs: list[OutputSpec]
    state: dict[str, str] = {}

    @model_validator(mode="after")
    def _state_is_closed(self) -> "GraphSpec":
        names = [t.name for t in self.inputs] + [t.name for t in self.outputs]
        if len(set(names)) != len(names):
            raise ValueError(f"{self.file}: two tensors share a name")
        reads = {t.name: t.shape for t in self.inputs if t.role == "state"}
        writes = {t.name: t.shape for t in self.outputs if t.role == "state"}
        if set(reads) != set(self.state) or sorted(writes) != sorted(self.state.values()):
            raise ValueError(f"{self.file}: `state` must pair every state input with one state output")
        for read, write in self.state.items():
            if reads[read] != writes[write]:
                raise ValueError(f"{self.file}: state {read} is {reads[read]} but {write} is {writes[write]}")
        return self

    def inputs_of(self, role: str) -> dict[str, tuple[int, ...]]:
        """Shapes of the inputs of one role, by name."""
        return {t.name: tuple(t.shape) for t in self.inputs if t.role == role}

    def outputs_of(self, role: str) -> dict[str, tuple[int, ...]]:
        """Shapes of the outputs of one role, by name."""
        return {t.name: tuple(t.shape) for t in self.outputs if t.role == role}


class Graphs(_Strict):
    audio_encoder: GraphSpec
    frame_decoder: GraphSpec
    voice_reader: GraphSpec | None = None  # packs without one take no mood and no person from the voice


class Condition(_Strict):
    shape: list[Dimension]
    meaning: str
    unit: str
    min: float | list[float]
    max: float | list[float]
    default: float | list[float]
    prototypes: dict[str, list[float]] = {}


class PersonEntry(_Strict):
    files: list[PackPath]
    preview: PackPath
    shows: str
    trained_on: str
    consent: str
    about: str | dict[str, JsonValue]


class RgbaPicture(_Strict):
    kind: Literal["rgba"]


class LayersPicture(_Strict):
    kind: Literal["layers"]
    stills: int = Field(ge=1, le=16)
    size: int = Field(ge=64, le=1024, multiple_of=4)
    face_box: tuple[int, int, int, int]
    patches: dict[str, tuple[int, int, int, int]] = Field(default_factory=dict, max_length=8)

    @model_validator(mode="after")
    def _boxes_are_inside(self) -> "LayersPicture":
        x, y, w, h = self.face_box
        if min(x, y) < 0 or min(w, h) < 8 or w % 4 or h % 4 or x + w > self.size or y + h > self.size:
            raise ValueError(
                f"face_box {list(self.face_box)} must lie inside the {self.size} px still, sides divisible by 4"
            )
        for name, (left, top, wide, high) in self.patches.items():
            if left < x or top < y or min(wide, high) < 1 or left + wide > x + w or top + high > y + h:
                raise ValueError(
                    f"patch {name} {[left, top, wide, high]} must lie inside face_box {list(self.face_box)}"
                )
        return self


class Manifest(_Strict):
    """The whole of `manifest.json`; construction raises `pydantic.ValidationError`."""

    format: Literal["mouthpiece-avatar/1"]
    name: str = Field(min_length=1, max_length=80)
    version: str
    licence: str
    description: str
    created: str
    synthetic: Literal[True]
    provenance: dict[str, JsonValue]
    quality: dict[str, JsonValue]
    audio: AudioSpec
    video: VideoSpec
    graphs: Graphs
    conditions: dict[str, Condition]
    people: dict[str, PersonEntry] = Field(min_length=1)
    picture: Annotated[RgbaPicture | LayersPicture, Field(discriminator="kind")]
    files: dict[PackPath, FileEntry]

    @model_validator(mode="after")
    def _parts_agree(self) -> "Manifest":
        encoder, decoder = self.graphs.audio_encoder, self.graphs.frame_decoder
        size, context = self.video.size, self.audio.context_size
        _expect(encoder.inputs_of("samples"), {"samples": (1, HOP_SAMPLES)}, "audio_encoder samples")
        _expect(encoder.outputs_of("context"), {"context": (1, context)}, "audio_encoder context")
        _expect(
            decoder.inputs_of("context"), {"context": (1, self.audio.window_hops, context)}, "frame_decoder context"
        )
        if decoder.state:
            raise ValueError("frame_decoder may not have state: frames are skipped under load")
        conditions = decoder.inputs_of("condition")
        allowed = {name: (1, n) for name, n in CONDITION_SIZES.items()}
        _expect(conditions, {name: allowed.get(name, ()) for name in conditions}, "frame_decoder conditions")
        if missing := set(conditions) - set(self.conditions):
            raise ValueError(f"conditions lacks {', '.join(sorted(missing))}")
        _expect(decoder.outputs_of("picture"), self.picture_shapes(), "frame_decoder picture")
        if isinstance(self.picture, LayersPicture) and self.picture.size != size:
            raise ValueError(f"picture.size {self.picture.size} differs from video.size {size}")
        reader = self.graphs.voice_reader
        if reader is not None:
            _check_reader(reader, context, len(self.people))
        named = {graph.file for graph in (encoder, decoder, reader) if graph is not None}
        for person in self.people.values():
            named |= {*person.files, person.preview}
        if missing := named - set(self.files):
            raise ValueError(f"files lacks {', '.join(sorted(missing))}")
        return self

    def picture_shapes(self) -> dict[str, tuple[int, ...]]:
        """Shapes that the decoder's picture outputs must have; the cells' count G is what `grid` declares."""
        size = self.video.size
        if isinstance(self.picture, RgbaPicture):
            return {"picture": (1, 4, size, size)}
        grid = self.graphs.frame_decoder.outputs_of("picture").get("grid", (0,))
        stills, cells = self.picture.stills, grid[-1]
        _, _, w, h = self.picture.face_box
        return {
            "paint": (1, 4, h // 4, w // 4),
            "paint_flow": (1, 2, h // 4, w // 4),
            **{name: (1, 4, high, wide) for name, (_, _, wide, high) in self.picture.patches.items()},
            "grid": (stills, 2, cells, cells),
            "weight": (1, stills, cells, cells),
            "gain": (1, 3, cells, cells),
        }


READER_SAMPLES = 10 * HOP_SAMPLES
"""Samples between two questions to a voice reader, 100 ms."""


def _check_reader(reader: GraphSpec, context: int, people: int) -> None:
    inputs = reader.inputs_of("context")
    hops = (*inputs.get("context", ()), 0, 0)[1]
    _expect(inputs, {"context": (1, hops, context), "usual": (1, context), "seconds": (1, 1)}, "voice_reader context")
    if not 0 < hops <= 1000:
        raise ValueError(f"voice_reader takes a window of 1 to 1000 contexts, found {hops}")
    samples = reader.inputs_of("samples")  # readers of contexts alone have none, and no state
    if samples or reader.state:
        _expect(samples, {"samples": (1, READER_SAMPLES)}, "voice_reader sound")
    if len(reader.inputs) != len(inputs) + len(samples) + len(reader.state):
        raise ValueError("voice_reader takes contexts, samples and state, found other inputs")
    _expect(reader.outputs_of("aux"), {"emotion": (1, 6), "people": (1, people)}, "voice_reader outputs")


def _expect(found: dict[str, tuple[int, ...]], expected: dict[str, tuple[int, ...]], what: str) -> None:
    if found != expected:
        raise ValueError(f"{what}: expected {expected}, found {found}")
