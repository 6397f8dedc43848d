"""What sits on the neckline: a shirt collar with its points, a hood lying on the back."""

import numpy as np
from numpy.typing import NDArray

from training.rig.part import Part
from training.rig.person import Person

Array = NDArray[np.float32]


def neckwear(person: Person, shirt: Part) -> list[Part]:
    """Extra cloth on a fitted shirt."""
    return []
