"""Draws people: one from a seed, or a whole cast whose members differ from each other."""

import numpy as np

from training.rig.person import Person
from training.rig.traits import Beard, Brows, Clothes, Colour, Frozen, Glasses, Hair, HairKind, Sex, Skin, Voice


class _Wish(Frozen):
    """What a cast asks of one of its members; None is left to chance."""

    name: str | None = None
    sex: Sex | None = None
    complexion: str | None = None
    age: int | None = None
    kind: HairKind | None = None
    glasses: bool | None = None


COMPLEXIONS: dict[str, tuple[Colour, ...]] = {  # paint stays <= 222, or the tone curve burns it out
    "fair": ((216, 172, 151), (213, 168, 145), (215, 172, 148)),
    "light": ((209, 162, 137), (206, 158, 132), (205, 156, 129)),
    "olive": ((196, 150, 122), (190, 143, 114), (199, 152, 124)),
    "tan": ((180, 132, 104), (172, 124, 97), (184, 137, 109)),
    "brown": ((152, 108, 84), (142, 99, 77), (158, 114, 90)),
    "deep": ((122, 84, 66), (108, 73, 58), (114, 79, 63)),
}
HAIR_COLOURS: dict[str, Colour] = {
    "black": (30, 24, 22), "soft black": (40, 31, 27), "dark brown": (58, 40, 30), "brown": (82, 55, 37),
    "chestnut": (100, 60, 38), "light brown": (124, 88, 58), "blond": (176, 136, 88), "sandy": (150, 112, 74),
    "auburn": (112, 52, 32), "copper": (140, 68, 36), "grey": (124, 119, 115), "white": (186, 183, 179),
}  # fmt: skip
IRISES: tuple[Colour, ...] = (
    (58, 36, 24), (74, 50, 34), (104, 76, 44), (96, 116, 92), (86, 118, 138), (110, 134, 150), (74, 92, 70),
)  # fmt: skip
CLOTHS: tuple[Colour, ...] = (
    (60, 80, 112), (38, 42, 52), (204, 210, 218), (122, 66, 62), (72, 92, 82), (176, 152, 118), (98, 88, 108),
    (206, 182, 170), (44, 62, 74), (96, 100, 106), (164, 114, 90), (48, 80, 96),
)  # fmt: skip
FEMALE_NAMES = (
    "Ines", "Mira", "Zola", "Hana", "Freya", "Lucia", "Noor", "Sofie", "Imani", "Yuki", "Greta", "Paloma", "Asha",
    "Clara", "Nadia", "Wren", "Thandi", "Mei", "Ilse", "Rosa", "Priya", "Ada", "Leila", "Edith",
)  # fmt: skip
MALE_NAMES = (
    "Jonas", "Kofi", "Marco", "Ravi", "Erik", "Diego", "Samir", "Otis", "Kenji", "Pavel", "Tomas", "Emeka", "Luca",
    "Arjun", "Felix", "Hugo", "Jin", "Malik", "Anton", "Bruno", "Idris", "Leo", "Omar", "Walter",
)  # fmt: skip
_BRIGHTNESS_OF_DARK_SKIN = 130
ALL_GREY = 0.75  # share of grey hairs from which all of it is grey or white


def _pick(rng: np.random.Generator, options):
    return options[int(rng.integers(len(options)))]


def _near(rng: np.random.Generator, colour: Colour, spread: float, low: float = 12, high: float = 222) -> Colour:
    value = np.clip(np.array(colour) + rng.normal(0, spread) + rng.normal(0, spread * 0.3, 3), low, high)
    return (round(float(value[0]), 1), round(float(value[1]), 1), round(float(value[2]), 1))


def _draw(rng: np.random.Generator, seed: int, wish: _Wish) -> Person:
    sex: Sex = wish.sex or _pick(rng, ("female", "male"))
    complexion = wish.complexion or _pick(rng, tuple(COMPLEXIONS))
    age = wish.age or int(rng.integers(20, 68))
    name = wish.name or _pick(rng, FEMALE_NAMES if sex == "female" else MALE_NAMES)
    skin_colour = _near(rng, _pick(rng, COMPLEXIONS[complexion]), 3.0)
    hair, hair_words = _draw_hair(rng, sex, complexion, age, wish.kind)
    dark = float(np.mean(skin_colour)) < _BRIGHTNESS_OF_DARK_SKIN
    beard = _draw_beard(rng, sex, age, hair)
    with_glasses = wish.glasses if wish.glasses is not None else bool(rng.random() < 0.22)
    light_side = float(rng.choice([-1, 1]))
    return Person(
        name=name,
        seed=seed,
        age=age,
        sex=sex,
        complexion=complexion,
        hair_words=hair_words + (f", {beard.shape} beard" if beard.amount > 0.3 else ""),
        shape=_draw_shape(rng, sex),
        skin=_draw_skin(rng, sex, age, skin_colour, dark),
        iris=_near(rng, _pick(rng, IRISES[:2] if complexion in ("tan", "brown", "deep") else IRISES), 4, 20),
        brows=_draw_brows(rng, sex),
        hair=hair,
        beard=beard,
        clothes=Clothes(
            kind=_pick(rng, ("crew", "crew", "v", "collar", "hoodie", "turtle")),
            colour=_near(rng, _pick(rng, CLOTHS), 5),
            trim=_near(rng, _pick(rng, CLOTHS), 5),
            width=round(float(rng.uniform(0.94, 1.05)), 3),
            knit=round(float(rng.uniform(0.2, 0.8)), 2),
        ),
        glasses=Glasses(shape=_pick(rng, ("round", "square", "oval")), colour=_pick(rng, GLASSES_COLOURS))
        if with_glasses
        else None,
        light_from=(round(light_side * float(rng.uniform(0.2, 0.55)), 3), round(float(rng.uniform(0.45, 0.7)), 3), 0.8),
        voice=_draw_voice(rng, sex, age),
    )


GLASSES_COLOURS: tuple[Colour, ...] = ((26, 24, 26), (70, 44, 30), (120, 118, 116), (36, 44, 66), (120, 88, 48))


def _draw_shape(rng: np.random.Generator, sex: Sex) -> tuple[float, ...]:
    """Identity coefficients: the first one runs from large and masculine to small and feminine."""
    shape = rng.standard_normal(100) * 0.6
    shape[40:] *= 0.5
    shape[0] = (1.2 if sex == "female" else -0.7) + rng.normal(0, 0.3)
    return tuple(round(float(c), 3) for c in np.clip(shape, -1.5, 1.5))


def _draw_skin(rng: np.random.Generator, sex: Sex, age: int, colour: Colour, dark: bool) -> Skin:
    base = np.array(colour)
    made_up = sex == "female" and rng.random() < 0.6
    tint = np.array([0.89, 0.65, 0.64] if sex == "female" else [0.92, 0.71, 0.70]) + dark * np.array([0, 0.09, 0.10])
    lips = np.clip(base * tint + np.array([16, 4, 6]) - made_up * np.array([10, 14, 8]), 30, 220)
    years = np.clip((age - 25) / 40, 0, 1)
    return Skin(
        colour=colour,
        lips=_near(rng, tuple(lips), 4, 30),
        lip_strength=0.85 if made_up else 0.6,
        lip_gloss=0.75 if made_up else 0.4,
        blush=0.45 if dark else round(float(rng.uniform(0.7, 1.05)), 2),
        freckles=round(float(rng.uniform(0.3, 0.7)), 2) if not dark and rng.random() < 0.2 else 0.0,
        bags=round(float(rng.uniform(0.15, 0.45) + 0.35 * years), 2),
        wrinkles=round(float(np.clip(0.08 + 0.8 * years + rng.normal(0, 0.07), 0, 1)), 2),
        eye_shadow=(96, 66, 62, 0.3) if made_up else None,
    )


def _draw_brows(rng: np.random.Generator, sex: Sex) -> Brows:
    slim = sex == "female"
    return Brows(
        thickness=round(float(rng.uniform(0.0085, 0.0115) if slim else rng.uniform(0.0115, 0.0155)), 4),
        hairs=int(rng.integers(380, 520)),
        opacity=round(float(rng.uniform(0.7, 0.9)), 2),
        arch=round(float(rng.uniform(0, 0.004)), 4),
        length=0.85 if slim else 1.0,
    )


def _draw_hair(
    rng: np.random.Generator, sex: Sex, complexion: str, age: int, kind: HairKind | None
) -> tuple[Hair, str]:
    dark = complexion in ("tan", "brown", "deep")
    drawn = kind or _draw_kind(rng, sex, complexion, age)
    names = ("black", "soft black", "dark brown") if dark else tuple(HAIR_COLOURS)[:-2]
    grey = float(np.clip((age - 38) / 30 + rng.normal(0, 0.15), 0, 1)) if age > 38 else 0.0
    if grey > 0.15:  # white among copper or blond looks pink
        names = ("black", "soft black", "dark brown", "brown")
    colour_name = _pick(rng, names)
    if sex == "female" and rng.random() < 0.4:
        grey = 0.0  # dyed
    if drawn in ("long", "bob") and grey <= ALL_GREY:
        grey = 0.0  # single white strands of long hair look like straw
    if grey > ALL_GREY:
        colour_name = "white" if rng.random() < 0.4 else "grey"
    length = {
        "long": rng.uniform(30, 36), "bob": rng.uniform(17, 22), "bun": 17.0, "short": rng.uniform(4, 6.5),
        "curly": rng.uniform(6, 9.5) if sex == "female" else rng.uniform(3, 5), "quiff": rng.uniform(4.5, 6.5),
        "crop": rng.uniform(1.2, 2.2), "back": rng.uniform(6, 8), "bald": 0.0,
    }[drawn]  # fmt: skip
    hair = Hair(
        kind=drawn,
        colour=_near(rng, HAIR_COLOURS[colour_name], 4, 14),
        length=round(float(length), 2),
        volume=round(float(rng.uniform(0.85, 1.25)), 2),
        part=float(_pick(rng, (-3.0, -1.2, 0.4, 1.2, 3.0))),
        wave=float(_pick(rng, (0.05, 0.1, 0.3, 0.45))),
        hairline=round(float(rng.uniform(-0.9, -0.2) if sex == "female" else rng.uniform(-0.4, 0.5)), 2),
        recede=0.0 if sex == "female" else round(float(max(0, rng.normal(0.2, 0.4) + max(0, age - 40) * 0.03)), 2),
        grey=round(grey, 2) if grey <= ALL_GREY else 0.0,
        knot_height=round(float(rng.uniform(11, 15.5)), 2),
    )
    shown = "greying " + colour_name if hair.grey > 0.15 else colour_name
    words = "bald" if drawn == "bald" else f"{drawn} {shown}"
    return hair, words


def _draw_kind(rng: np.random.Generator, sex: Sex, complexion: str, age: int) -> HairKind:
    curls = complexion in ("brown", "deep")
    if sex == "female":
        kinds = (
            ("curly", "curly", "long", "bun", "short") if curls else ("long", "long", "bob", "bun", "curly", "short")
        )
    else:
        kinds = (
            ("crop", "crop", "curly", "short", "bald")
            if curls
            else ("short", "short", "quiff", "crop", "back", "curly")
        )
        if age > 45:
            kinds = (*kinds, "bald")
    return _pick(rng, kinds)


def _draw_beard(rng: np.random.Generator, sex: Sex, age: int, hair: Hair) -> Beard:
    if sex == "female":
        return Beard(colour=hair.colour)
    amount = float(rng.choice([0.0, 0.0, 0.2, 0.35, 0.6, 0.85]))
    shape = "stubble" if amount < 0.3 else _pick(rng, ("full", "full", "full", "full", "goatee", "moustache"))
    whiter = np.array(hair.colour) + (np.array([150, 147, 143]) - np.array(hair.colour)) * min(1, hair.grey * 1.2)
    return Beard(amount=amount, shape=shape, colour=_near(rng, tuple(whiter), 3))


def _draw_voice(rng: np.random.Generator, sex: Sex, age: int) -> Voice:
    pitch = rng.uniform(180, 235) if sex == "female" else rng.uniform(92, 140)
    pitch -= max(0, age - 45) * (0.6 if sex == "female" else -0.2)
    return Voice(sex=sex, age=age, pitch_hz=round(float(pitch), 1))


def draw_cast(n: int, seed: int = 0) -> list[Person]:
    """n people with different names, faces and hair: sexes alternate, complexions, ages and hair take turns."""
    rng = np.random.default_rng([seed, 23])
    complexions = tuple(COMPLEXIONS)
    kinds: dict[Sex, tuple[HairKind, ...]] = {
        "female": ("long", "bob", "curly", "bun", "short", "long"),
        "male": ("short", "crop", "quiff", "curly", "back", "bald"),
    }
    names = {"female": list(rng.permutation(FEMALE_NAMES)), "male": list(rng.permutation(MALE_NAMES))}
    offset = {"female": int(rng.integers(6)), "male": int(rng.integers(6))}
    people: list[Person] = []
    for i in range(n):
        sex: Sex = "female" if i % 2 == 0 else "male"
        turn = i // 2
        pool = names[sex]
        again = "" if turn < len(pool) else f" {turn // len(pool) + 1}"
        wish = _Wish(
            name=str(pool[turn % len(pool)]) + again,
            sex=sex,
            complexion=complexions[(turn + (0 if sex == "female" else 3)) % len(complexions)],
            age=int(20 + (turn * 17 + (0 if sex == "female" else 9)) % 47),
            kind=kinds[sex][(turn * 5 // 4 + turn // 6 + offset[sex]) % 6],
            glasses=(i % 5) == 3,
        )
        people.append(_most_different(rng, seed * 10_000 + i, wish, people))
    return people


def _most_different(rng: np.random.Generator, seed: int, wish: _Wish, others: list[Person]) -> Person:
    """Of a few draws, the one whose face shape lies furthest from the nearest other."""
    best: Person | None = None
    best_distance = -1.0
    for attempt in range(4):
        person = _draw(np.random.default_rng([seed, 71, attempt]), seed, wish)
        shape = np.array(person.shape)
        distance = min((float(np.linalg.norm(shape - np.array(o.shape))) for o in others), default=np.inf)
        if distance > best_distance:
            best, best_distance = person, distance
    assert best is not None
    return best


def draw_person(seed: int) -> Person:
    """The person of a seed."""
    return _draw(np.random.default_rng([seed, 71]), seed, _Wish())


def cast_styles() -> list[Person]:
    """One person of every kind of hair, for measuring."""
    kinds = ("long", "bob", "bun", "curly", "short", "quiff", "crop", "back", "bald")
    females = ("long", "bob", "bun", "curly")
    return [
        _draw(np.random.default_rng([i, 71]), i, _Wish(kind=kind, sex="female" if kind in females else "male"))
        for i, kind in enumerate(kinds)
    ]
