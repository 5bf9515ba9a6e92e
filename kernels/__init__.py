"""The solver's implementations: each takes and returns the arrays of :mod:`~qplayer_gpu.kernels.interface`."""
