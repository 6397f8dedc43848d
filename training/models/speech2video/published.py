"""Weight files of published networks, read safely and put under our names; one line for whatever does not fit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

HOLDERS = ("state_dict", "model", "net", "weights")


class WeightsError(ValueError):
    """A weight file that cannot be used; the message says what was expected and found."""


def read_published(path: Path) -> dict[str, Tensor]:
    """Tensors by name from .safetensors, or from a file of torch.save that holds nothing but tensors.

    Pickles are read with torch's restricted loader: a file that would run code is refused. Raises WeightsError.
    """
    path = Path(path)
    if not path.is_file():
        raise WeightsError(f"{path}: expected a weight file, found none; give the path of the file you downloaded")
    try:
        found: Any = (
            load_file(path)
            if path.suffix == ".safetensors"
            else torch.load(path, map_location="cpu", weights_only=True)
        )
    except Exception as error:  # the restricted loader trips over odd bytes in many ways
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise WeightsError(f"{path}: expected a file of tensors (.pth or .safetensors), found: {reason}") from error
    while isinstance(found, Mapping) and (inner := next((h for h in HOLDERS if h in found), None)):
        found = found[inner]
    if not isinstance(found, Mapping) or not all(isinstance(leaf, Tensor) for leaf in found.values()):
        raise WeightsError(f"{path}: expected tensors by name, found {type(found).__name__}")
    return {str(name).removeprefix("module."): leaf for name, leaf in found.items()}


def renamed(
    tensors: Mapping[str, Tensor],
    layouts: Sequence[Mapping[str, str]],
    wanted: Mapping[str, Tensor],
    path: Path,
    what: str,
) -> dict[str, Tensor]:
    """The tensors under our names. `layouts` map our layers to the file's; the first whose names are all there counts.

    Raises WeightsError naming what is missing or has another shape.
    """
    missing: list[str] = []
    for layout in layouts:
        pairs = {name: _theirs(name, layout) for name in wanted}
        missing = [theirs for theirs in pairs.values() if theirs not in tensors]
        if missing:
            continue
        out = {name: tensors[theirs].float() for name, theirs in pairs.items()}
        for name, leaf in out.items():
            if leaf.shape != wanted[name].shape:
                # published linear layers are sometimes stored as 1x1 convolutions
                if leaf.numel() != wanted[name].numel():
                    expected, has = list(wanted[name].shape), list(leaf.shape)
                    raise WeightsError(f"{path}: {pairs[name]}: expected {expected}, found {has}; is it {what}?")
                out[name] = leaf.reshape(wanted[name].shape)
        return out
    known = ", ".join(sorted(tensors)[:3])
    raise WeightsError(f"{path}: expected the layers of {what}; {missing[0]} is missing, it has {known} ...")


def _theirs(name: str, layout: Mapping[str, str]) -> str:
    layer, _, kind = name.rpartition(".")
    return f"{layout.get(layer, layer)}.{kind}"
