"""The calls of qpth, of proxsuite's QPLayer and of cvxpylayers, for programs that change only their import.

    from qplayer_gpu.compat import QpthQPFunction as QPFunction, QPSolvers  # not from qpth.qp
    from qplayer_gpu.compat import ProxsuiteQPFunction as QPFunction  # not from proxsuite.torch.qplayer
    from qplayer_gpu.compat import CvxpyLayer  # not from cvxpylayers.torch

Order, shapes and signs of inputs and outputs are theirs; docs/migrating.md says what differs.
"""

from .cvxpylayer import CvxpyLayer
from .functions import ProxsuiteQPFunction, QPSolvers, QpthQPFunction

__all__ = ["CvxpyLayer", "ProxsuiteQPFunction", "QPSolvers", "QpthQPFunction"]
