"""The processes that the solvers run in."""

import os
from multiprocessing import get_context
from typing import Any
from unittest.mock import patch

from .worker import serve

THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS")
CONTEXT = get_context("spawn")


class Worker:
    """A process that answers questions; where it has died, the next question starts a new one.

    The threads of peers wait asleep (OMP_WAIT_POLICY), as those of this library always do: with threads that spin, a
    busy machine made times much longer.
    """

    def __init__(self, solver: str, device: str, patience: float):
        self.solver, self.device, self.patience = solver, device, patience  # seconds for one answer
        known = {"OMP_WAIT_POLICY": "PASSIVE", "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
        self.environment = dict.fromkeys(THREADS, str(os.cpu_count() or 1)) | known
        self.process = None

    def ask(self, do: str, **question: Any) -> dict[str, Any]:
        """The answer, or {"failure": why there is none}."""
        if self.process is None:
            self.pipe, there = CONTEXT.Pipe()
            self.process = CONTEXT.Process(target=serve, args=(self.solver, self.device, there), daemon=True)
            with patch.dict(os.environ, self.environment):
                self.process.start()
            there.close()
        try:
            self.pipe.send((do, question))
            if self.pipe.poll(self.patience):
                return self.pipe.recv()
            why = f"no answer in {self.patience:.0f} s"
            self.process.kill()
        except (EOFError, OSError):
            self.process.join()
            why = f"process ended with code {self.process.exitcode}"
        self.close()
        return {"failure": why}

    def close(self) -> None:
        """Ends the process, if there is one."""
        if self.process is not None:
            self.pipe.close()
            self.process.join()
            self.process = None
