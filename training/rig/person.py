"""A made-up person: everything about the look (and a hint for the voice) that follows from a seed.

A `Person` holds no geometry: the renderer builds it from the head pack, so a person is a few lines of JSON.
"""

from training.rig.traits import Beard, Brows, Clothes, Colour, Frozen, Glasses, Hair, Sex, Skin, Voice


class Person(Frozen):
    """One synthetic person. `shape` are coefficients of the head pack's identity basis."""

    name: str
    seed: int
    age: int
    sex: Sex
    complexion: str
    hair_words: str
    shape: tuple[float, ...]
    skin: Skin
    iris: Colour
    brows: Brows
    hair: Hair
    beard: Beard = Beard()
    clothes: Clothes = Clothes()
    glasses: Glasses | None = None
    light_from: tuple[float, float, float] = (0.42, 0.55, 0.78)
    voice: Voice

    @property
    def femininity(self) -> float:
        return 1.0 if self.sex == "female" else 0.0

    def to_json(self) -> str:
        return self.model_dump_json(indent=1)

    @classmethod
    def from_json(cls, text: str | bytes) -> "Person":
        """Raises pydantic.ValidationError when the text is no person."""
        return cls.model_validate_json(text)

    @classmethod
    def from_seed(cls, seed: int) -> "Person":
        """The person of a seed: the same on every machine."""
        from training.rig.casting import draw_person

        return draw_person(seed)


def cast(n: int, seed: int = 0) -> list[Person]:
    """n people who differ from each other in name, face, age, complexion and hair; the same on every machine."""
    from training.rig.casting import draw_cast

    return draw_cast(n, seed)


# The four people the product ships. A decoder is trained on their pictures: do not change them.
ELENA = Person(
    name="Elena",
    seed=1,
    age=34,
    sex="female",
    complexion="light",
    hair_words="long chestnut brown",
    shape=(1.4, -0.35, 0.3, -0.4, 0.2, -0.3, 0.35, 0.1, -0.2, 0.25, -0.15, 0.2, 0.1, -0.25, 0.2, -0.1),
    skin=Skin(
        colour=(211, 162, 136), lips=(178, 98, 96), lip_strength=0.75, lip_gloss=0.6, blush=0.85, bags=0.3,
        wrinkles=0.18, eye_shadow=(104, 70, 64, 0.3),
    ),
    iris=(92, 116, 104),
    brows=Brows(thickness=0.0105, hairs=420, opacity=0.78, arch=0.002, length=0.85),
    hair=Hair(kind="long", colour=(84, 60, 47), length=32.0, volume=1.1, part=0.9, wave=0.16, hairline=-0.4),
    clothes=Clothes(kind="v", colour=(52, 76, 88), trim=(70, 96, 108), knit=0.35),
    light_from=(0.42, 0.55, 0.78),
    voice=Voice(sex="female", age=34, pitch_hz=198.0),
)  # fmt: skip
AMARA = Person(
    name="Amara",
    seed=23,
    age=26,
    sex="female",
    complexion="deep",
    hair_words="black, in a top knot",
    shape=(1.35, 0.4, -0.3, 0.35, -0.3, 0.2, -0.2, 0.3, 0.15, -0.2, 0.2, 0.1, -0.2, 0.15, -0.1, 0.2),
    skin=Skin(
        colour=(122, 84, 66), lips=(126, 68, 68), lip_strength=0.75, lip_gloss=0.7, blush=0.4, bags=0.2, wrinkles=0.05,
        eye_shadow=(84, 46, 44, 0.35),
    ),
    iris=(62, 39, 27),
    brows=Brows(thickness=0.0112, hairs=440, opacity=0.85, arch=0.003, length=0.9),
    hair=Hair(
        kind="bun", colour=(32, 25, 22), length=17.0, volume=1.0, part=0.4, wave=0.2, hairline=-0.5, knot_height=15.0
    ),
    clothes=Clothes(kind="crew", colour=(196, 172, 132), trim=(150, 120, 84), knit=0.5),
    light_from=(-0.4, 0.55, 0.8),
    voice=Voice(sex="female", age=26, pitch_hz=212.0),
)  # fmt: skip
TOM = Person(
    name="Tom",
    seed=7,
    age=31,
    sex="male",
    complexion="fair",
    hair_words="short light brown, full beard",
    shape=(-0.45, 0.2, 0.35, -0.25, 0.3, 0.25, -0.3, -0.15, 0.2, 0.1, 0.2, -0.2, 0.15, 0.1, -0.15, 0.1),
    skin=Skin(
        colour=(212, 166, 142), lips=(164, 106, 98), lip_strength=0.5, lip_gloss=0.35, blush=0.95, bags=0.35,
        wrinkles=0.18,
    ),
    iris=(88, 116, 132),
    brows=Brows(thickness=0.0135, hairs=460, opacity=0.8, arch=0.001, length=1.0),
    hair=Hair(kind="short", colour=(90, 68, 52), length=5.2, volume=1.05, part=-3.0, wave=0.1, recede=0.2),
    beard=Beard(amount=0.7, shape="full", colour=(86, 60, 44)),
    clothes=Clothes(kind="hoodie", colour=(74, 84, 92), knit=0.4),
    light_from=(0.45, 0.55, 0.8),
    voice=Voice(sex="male", age=31, pitch_hz=114.0),
)  # fmt: skip
RAFAEL = Person(
    name="Rafael",
    seed=40,
    age=57,
    sex="male",
    complexion="tan",
    hair_words="short greying dark",
    shape=(-0.5, -0.3, -0.2, 0.35, 0.1, -0.3, 0.25, 0.2, -0.25, -0.15, -0.2, 0.2, -0.1, 0.2, 0.2, -0.1),
    skin=Skin(
        colour=(184, 136, 110), lips=(154, 94, 84), lip_strength=0.5, lip_gloss=0.3, blush=0.8, bags=0.65, wrinkles=0.7
    ),
    iris=(74, 48, 30),
    brows=Brows(thickness=0.014, hairs=440, opacity=0.8, arch=0.0, length=1.05),
    hair=Hair(
        kind="back", colour=(62, 54, 50), length=6.5, volume=0.95, part=-3.0, wave=0.1, hairline=0.3, recede=0.8,
        grey=0.6,
    ),
    beard=Beard(amount=0.2, shape="stubble", colour=(120, 112, 106)),
    clothes=Clothes(kind="collar", colour=(112, 136, 158), knit=0.2),
    glasses=Glasses(shape="square", colour=(34, 28, 28)),
    light_from=(-0.42, 0.55, 0.8),
    voice=Voice(sex="male", age=57, pitch_hz=104.0),
)  # fmt: skip
SHIPPED_CAST: tuple[Person, ...] = (ELENA, AMARA, TOM, RAFAEL)
