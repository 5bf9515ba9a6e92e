"""The errors of the library. A problem that cannot be solved raises no error: it gets a status."""


class QPError(Exception):
    """The base of all errors of this library."""


class ProblemError(QPError, ValueError):
    """The arguments do not describe a batch of QPs: shapes, devices, or rows without sides."""


class ProblemTypeError(ProblemError, TypeError):
    """An argument is not a tensor, or does not have the dtype of the others."""


class SettingsError(QPError, ValueError):
    """A setting has a value that is out of its range or of a wrong type."""


class BackendError(QPError, RuntimeError):
    """The backend that was asked for is unknown, cannot run here, or cannot take such problems."""


class SolveError(QPError, RuntimeError):
    """Some problems were not solved; raised by :meth:`.Solution.check` only."""


class OutOfMemoryError(QPError, MemoryError):
    """There is less memory than the problems need; raised before any work."""
