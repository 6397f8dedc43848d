"""Motion from outside: per-frame arrays that replace controls and idle motion, read from a safetensors file."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray
from safetensors import SafetensorError

from engine.errors import ControlError
from engine.idle import Motion
from engine.manifest import CONDITION_SIZES

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Curves:
    """`emotion [n, 6] pose [n, 3] shift [n, 3] gaze [n, 2] blink [n]` float32, one row a frame at 30 fps, units of
    docs/formats.md.
    """

    emotion: Array
    pose: Array
    shift: Array
    gaze: Array
    blink: Array

    @property
    def frames(self) -> int:
        return len(self.blink)

    def at(self, frame: int) -> Motion:
        """The motion of one frame."""
        blink = self.blink[frame : frame + 1]
        return Motion(self.emotion[frame], self.pose[frame], self.shift[frame], self.gaze[frame], blink)


def read_curves(path: Path) -> Curves:
    """Reads curves; other arrays in the file are ignored.

    Raises `ControlError` for missing, misshapen or non-finite ones.
    """
    try:
        arrays = safetensors.numpy.load_file(path)
    except (OSError, SafetensorError, ValueError) as error:
        raise ControlError(
            f"curves {path} cannot be read ({str(error).splitlines()[0]}); expected a safetensors file"
        ) from None
    curves: dict[str, Array] = {}
    for name, size in CONDITION_SIZES.items():
        array = arrays.get(name)
        expected = "[n]" if name == "blink" else f"[n, {size}]"
        fits = array is not None and array.shape[1:] == (() if name == "blink" else (size,)) and len(array) > 0
        if array is None or not fits or array.dtype.kind != "f" or not np.isfinite(array).all():
            found = "nothing" if array is None else f"{array.dtype} {list(array.shape)}"
            raise ControlError(f"curves {path}: {name}: expected finite floats {expected}, found {found}")
        curves[name] = array.astype(np.float32)
    if len(lengths := {len(a) for a in curves.values()}) != 1:
        raise ControlError(f"curves {path}: the arrays have different lengths: {sorted(lengths)}")
    return Curves(**curves)
