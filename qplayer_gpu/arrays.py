"""Arrays of other libraries (CuPy, NumPy, ...), taken as tensors and given back by the DLPack protocol."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any, Protocol

from torch import Tensor
from torch.utils.dlpack import from_dlpack
from typing_extensions import TypeVar

from .errors import ProblemTypeError


class Exported(Protocol):
    """What speaks DLPack: tensors, and the arrays of NumPy, CuPy and JAX."""

    def __dlpack__(self, *args: Any, **kwargs: Any) -> Any: ...


Array = TypeVar("Array", bound=Exported, default=Tensor)


def namespace(arguments: Mapping[str, Any]) -> Any:
    """The library whose arrays these are, a module with ``from_dlpack``; None where they are tensors.

    Raises:
        ProblemTypeError: they are of several libraries.
    """
    arrays = {name: a for name, a in arguments.items() if isinstance(a, Tensor) or _is_array(a)}
    libraries = {"torch" if isinstance(a, Tensor) else _library(a): name for name, a in arrays.items()}
    if len(libraries) > 1:
        found = ", ".join(f"{name} of {library}" for library, name in libraries.items())
        raise ProblemTypeError(
            f"the arguments are arrays of several libraries, {found}: convert them to one with its from_dlpack()"
        )
    if not libraries or "torch" in libraries:
        return None
    ((library, name),) = libraries.items()
    array = arrays[name]
    return array.__array_namespace__() if hasattr(array, "__array_namespace__") else sys.modules[library]


def _is_array(value: Any) -> bool:
    """Whether it is an array of another library. Of the numbers that torch.compile traces nothing else can be asked."""
    return not isinstance(value, (int, float)) and hasattr(value, "__dlpack__")


def _library(array: Any) -> str:
    """The first name of the module that the class of an array, or what that derives from, was written in."""
    known = [base.__module__.partition(".")[0] for base in type(array).__mro__ if hasattr(base, "__dlpack__")]
    return known[-1]


def tensor(name: str, array: Any) -> Any:
    """A tensor in the memory of an array, or in that of a copy where a stride is negative; None and scalars as given.

    Raises:
        ProblemTypeError: the array cannot be exported, or would lose its mask.
    """
    if not hasattr(array, "__dlpack__"):
        return array
    if hasattr(array, "mask"):
        raise ProblemTypeError(f"{name} has a mask, which would be lost: fill it with .filled()")
    if any(stride < 0 for stride in getattr(array, "strides", None) or ()):  # PyTorch has none such
        array = array.copy()
    try:
        return from_dlpack(array)
    except (AttributeError, BufferError, RuntimeError, TypeError) as error:
        traced = "; where JAX traces, call qplayer_gpu.jax.solve_qp" if _library(array) == "jax" else ""
        raise ProblemTypeError(
            f"{name}, an array of {array.dtype}, cannot be taken by DLPack: {error}{traced}"
        ) from error
