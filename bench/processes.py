"""The processes that the solvers run in."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from threading import Timer
from typing import Any

ROOT = Path(__file__).parents[1]
TIMEOUT = 600.0  # seconds for one answer


class Worker:
    """A process of ``bench.worker`` that waits for questions; once it has failed, it fails at once.

    Its threads wait asleep (OMP_WAIT_POLICY): with threads that spin, a busy machine made times much longer.
    """

    def __init__(self, solver: str, case: str, divisor: int, threads: int):
        names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
        environment = os.environ | dict.fromkeys(names, str(threads)) | {"OMP_WAIT_POLICY": "PASSIVE"}
        self.failure: str | None = None
        self.process = subprocess.Popen(
            [sys.executable, "-m", "bench.worker", solver, case, str(divisor), str(threads)],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def ask(self, question: str) -> dict[str, Any]:
        """The answer, or {"failure": why there is none}."""
        if self.failure is None:
            answer = self._ask(question)
            self.failure = answer.get("failure")
        return answer if self.failure is None else {"failure": self.failure}

    def _ask(self, question: str) -> dict[str, Any]:
        timer = Timer(TIMEOUT, self.process.kill)
        timer.start()
        try:
            self.process.stdin.write(question + "\n")
            self.process.stdin.flush()
            line = self.process.stdout.readline()
        except BrokenPipeError:
            line = ""
        finally:
            timer.cancel()
        return json.loads(line) if line else {"failure": f"process ended with code {self.process.wait()}"}

    def close(self) -> None:
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait()
