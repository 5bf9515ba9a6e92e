"""What the library raises. A problem that cannot be solved raises nothing: it gets a status."""


class QPError(Exception):
    """The base of all errors of this library."""


class ProblemError(QPError, ValueError):
    """The arguments do not describe a batch of QPs: shapes, devices, or rows without sides."""


class ProblemTypeError(ProblemError, TypeError):
    """An argument is no tensor, or not of the dtype of the others."""


class SettingsError(QPError, ValueError):
    """A setting has a value that makes no sense."""


class BackendError(QPError, RuntimeError):
    """The backend asked for is unknown or cannot run here."""


class SolveError(QPError, RuntimeError):
    """Raised by :meth:`.Solution.check` where some problems were not solved."""


class OutOfMemoryError(QPError, MemoryError):
    """There is less memory than the problems take; raised before any work."""
