"""The processes that the solvers run in."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from threading import Event, Timer
from typing import Any

ROOT = Path(__file__).parents[1]
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS")


class Worker:
    """A process of ``bench.worker`` that waits for questions; where it has died, the next question starts a new one.

    Its threads wait asleep (OMP_WAIT_POLICY): with threads that spin, a busy machine made times much longer.
    """

    def __init__(self, solver: str, device: str, patience: float):
        self.patience = patience  # seconds for one answer
        self.arguments = [sys.executable, "-m", "bench.worker", solver, device]
        known = {"OMP_WAIT_POLICY": "PASSIVE", "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
        self.environment = os.environ | dict.fromkeys(THREADS, str(os.cpu_count() or 1)) | known
        self.process: subprocess.Popen | None = None

    def ask(self, do: str, **question: Any) -> dict[str, Any]:
        """The answer, or {"failure": why there is none}."""
        if self.process is None:
            self._start()
        late = Event()
        timer = Timer(self.patience, lambda: (late.set(), self.process.kill()))
        timer.start()
        try:
            self.process.stdin.write(json.dumps({"do": do, **question}) + "\n")
            self.process.stdin.flush()
            line = self.process.stdout.readline()
        except BrokenPipeError:
            line = ""
        finally:
            timer.cancel()
        if line:
            return json.loads(line)
        code = self.process.wait()
        self.close()
        return {
            "failure": f"no answer in {self.patience:.0f} s" if late.is_set() else f"process ended with code {code}"
        }

    def _start(self) -> None:
        streams = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        self.process = subprocess.Popen(self.arguments, cwd=ROOT, env=self.environment, text=True, **streams)

    def close(self) -> None:
        """Ends the process, if there is one."""
        if self.process is not None:
            self.process.stdout.close()
            with suppress(BrokenPipeError):
                self.process.stdin.close()
            self.process.wait()
            self.process = None
