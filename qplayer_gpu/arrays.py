"""Arrays of other libraries (CuPy, NumPy, ...), taken as tensors and given back by the DLPack protocol."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any

from torch import Tensor
from torch.utils.dlpack import from_dlpack

from .errors import ProblemTypeError


def namespace(arguments: Iterable[Any]) -> Any:
    """The library whose arrays these are, a module with ``from_dlpack``; None where they are tensors.

    Raises:
        ProblemTypeError: they are of several libraries.
    """
    given = [a for a in arguments if a is not None]
    if all(isinstance(a, Tensor) for a in given):
        return None
    libraries = {type(a).__module__.partition(".")[0]: a for a in given if hasattr(a, "__dlpack__")}
    if len(libraries) > 1:
        names = " and ".join(sorted(libraries))
        raise ProblemTypeError(f"arrays of {names} in one call: convert them to one library with its from_dlpack()")
    if not libraries or "torch" in libraries:
        return None
    ((name, array),) = libraries.items()
    return array.__array_namespace__() if hasattr(array, "__array_namespace__") else sys.modules[name]


def tensor(array: Any) -> Any:
    """A tensor in the memory of an array, or in that of a copy where a stride is negative; None and scalars as given.

    Raises:
        ProblemTypeError: the array cannot be exported.
    """
    if not hasattr(array, "__dlpack__"):
        return array
    if any(stride < 0 for stride in getattr(array, "strides", None) or ()):  # PyTorch has none such
        array = array.copy()
    try:
        return from_dlpack(array)
    except (BufferError, RuntimeError) as error:
        raise ProblemTypeError(f"an array of {array.dtype} cannot be taken by DLPack: {error}") from error
