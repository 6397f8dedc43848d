"""The emotion pad's geometry: a disc with the five moods on its rim and calm in the middle. Pure."""

import math

RIM = ("happy", "fear", "sad", "disgust", "anger")
"""Moods clockwise from the top: neighbours mix well (fear and sad, disgust and anger)."""


def position(mood: str) -> tuple[float, float]:
    """Where a mood stands on the unit disc, y upwards."""
    angle = math.pi / 2 - RIM.index(mood) * math.tau / len(RIM)
    return math.cos(angle), math.sin(angle)


def weights_at(x: float, y: float) -> dict[str, float]:
    """Mood weights for a point of the disc: the two nearest moods share the radius by angle. Outside the disc the rim counts."""
    radius = min(1.0, math.hypot(x, y))
    result = dict.fromkeys(RIM, 0.0)
    if radius < 1e-6:
        return result
    step = math.tau / len(RIM)
    along = ((math.pi / 2 - math.atan2(y, x)) % math.tau) / step
    first = int(along) % len(RIM)
    share = along - int(along)
    result[RIM[first]] = radius * (1 - share)
    result[RIM[(first + 1) % len(RIM)]] = radius * share
    return result


def point_of(weights: dict[str, float]) -> tuple[float, float]:
    """The pad's point that shows these weights best: where the two strongest neighbours put it."""
    total = sum(max(0.0, weights.get(mood, 0.0)) for mood in RIM)
    if total < 1e-6:
        return 0.0, 0.0
    step = math.tau / len(RIM)
    best, share = (0, 0.0), -1.0
    for i, mood in enumerate(RIM):
        a, b = max(0.0, weights.get(mood, 0.0)), max(0.0, weights.get(RIM[(i + 1) % len(RIM)], 0.0))
        if a + b > share + 1e-9:
            best, share = (i, b / (a + b) if a + b > 0 else 0.0), a + b
    angle = math.pi / 2 - (best[0] + best[1]) * step
    radius = min(1.0, share)
    return radius * math.cos(angle), radius * math.sin(angle)
