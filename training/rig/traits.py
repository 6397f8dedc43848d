"""What a person's look and voice are made of. Colours are sRGB 0..255 as paint, lengths centimetres."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Colour = tuple[float, float, float]
Sex = Literal["female", "male"]
HairKind = Literal["long", "bob", "bun", "curly", "short", "quiff", "crop", "back", "bald"]


class Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Skin(Frozen):
    """Complexion and what time did to it."""

    colour: Colour
    lips: Colour
    lip_strength: float = 0.6  # how much lip colour covers the skin
    lip_gloss: float = 0.5
    blush: float = 1.0
    freckles: float = 0.0
    bags: float = 0.4  # shadow under the eyes
    wrinkles: float = 0.2  # 0 smooth .. 1 deeply lined
    eye_shadow: tuple[float, float, float, float] | None = None  # r, g, b, strength


class Brows(Frozen):
    """Eyebrows, in the units of the face texture (1 = its width)."""

    thickness: float = 0.012
    hairs: int = 420
    opacity: float = 0.85
    arch: float = 0.002
    lift: float = -0.004
    length: float = 1.0


class Hair(Frozen):
    """Head hair. `part` is the x of the parting."""

    kind: HairKind
    colour: Colour
    length: float = 5.0
    volume: float = 1.0
    part: float = 1.2
    wave: float = 0.1
    density: float = 1.0
    hairline: float = 0.0  # cm the forehead hairline is moved up
    recede: float = 0.0  # cm the temples are moved up
    grey: float = 0.0  # share of grey strands
    knot_height: float = 12.0  # of a bun


class Beard(Frozen):
    """Facial hair: amount 0 shaved .. 1 full."""

    amount: float = 0.0
    shape: Literal["full", "goatee", "moustache", "stubble"] = "full"
    colour: Colour = (40, 30, 24)


class Clothes(Frozen):
    """What covers the shoulders."""

    kind: Literal["crew", "v", "collar", "hoodie", "turtle"] = "crew"
    colour: Colour = (60, 80, 112)
    trim: Colour = (226, 226, 230)
    width: float = 1.0
    knit: float = 0.5


class Glasses(Frozen):
    """Spectacles: frame shape and colour."""

    shape: Literal["round", "square", "oval"] = "oval"
    colour: Colour = (30, 26, 26)
    thickness: float = 0.16


class Voice(Frozen):
    """What the voice should be like."""

    sex: Sex
    age: int
    pitch_hz: float = Field(ge=60, le=320)
