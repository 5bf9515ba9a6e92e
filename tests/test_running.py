"""Signals and forks while the kernels run."""

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import families as f
import pytest
import torch
from helpers import OPTIONS, as_rows

import qplayer_gpu as qp
from qplayer_gpu.kernels import cpu
from qplayer_gpu.kernels.call import Pointers
from qplayer_gpu.kernels.cpu import running
from qplayer_gpu.kernels.cpu.library import Threads

ROOT = Path(__file__).parents[1]
SOON = 0.2  # seconds
AT_MOST = 1.0  # of them, from a signal to its exception
pytestmark = pytest.mark.usefixtures("compiler")


class Interrupted(Exception):  # noqa: N818
    """What the handler of a signal raises here, as Python's own raises KeyboardInterrupt."""


@contextmanager
def signal_soon(handler):
    before = signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, SOON)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def interrupted(call):
    """The seconds from a signal to the exception that ends the call."""

    def handler(*_):
        raise Interrupted

    began = time.monotonic()
    with signal_soon(handler), pytest.raises(Interrupted):
        call()
    return time.monotonic() - began - SOON


def batch(count):
    C = torch.randn(20, 10).double()
    return {"H": torch.eye(10).double(), "g": torch.randn(count, 10).double(), "C": C, "u": torch.ones(20).double()}


def backward(backend):
    args = batch(2000)
    x = qp.solve_qp(**args | {"g": args["g"].requires_grad_()}, backend=backend).x.repeat(50, 1)
    return lambda: [x.sum().backward(retain_graph=True) for _ in range(10_000)]


CALLS = {
    "many problems": lambda backend: lambda: qp.solve_qp(**batch(400_000), backend=backend),
    "a large one": lambda backend: lambda: qp.solve_qp(**LARGE, backend=backend),
    "backward": backward,
}
LARGE = f.feasible(1, 1500, two_sided=True)
FEW = batch(3)


@pytest.mark.parametrize("backend", ["cpu", "torch"])
@pytest.mark.parametrize("what", CALLS)
def test_a_signal_ends_a_long_call_and_breaks_nothing(what, backend):
    call, before = CALLS[what](backend), qp.solve_qp(**FEW, backend=backend)
    others = threading.enumerate()
    assert interrupted(call) < AT_MOST
    assert torch.equal(qp.solve_qp(**FEW, backend=backend).x, before.x)
    for thread in set(threading.enumerate()).difference(others):
        thread.join(2.0)  # it ends after a step
        assert not thread.is_alive()


@pytest.mark.parametrize("stopped", [True, False])
def test_no_problem_is_begun_after_a_stop(stopped):
    given, stop = Pointers(torch.device("cpu")), ctypes.c_int32(stopped)
    call, answer = given.forward(as_rows(FEW), OPTIONS, None)
    answer.status.fill_(-7)
    cpu.load().qplayer_forward(ctypes.byref(call), Threads(1, ctypes.addressof(stop)))
    assert answer.status.tolist() == [-7 if stopped else qp.Status.SOLVED] * 3


def test_a_signal_that_raises_nothing_changes_nothing():
    heard = []
    args = batch(300_000)
    with signal_soon(lambda *_: heard.append(time.monotonic())):
        sol = qp.solve_qp(**args, backend="cpu").check()
        ended = time.monotonic()
    assert len(heard) == 1
    assert heard[0] < ended - 0.01
    assert torch.equal(sol.x[:50], qp.solve_qp(**args | {"g": args["g"][:50]}, backend="cpu").x)


def test_a_short_call_starts_no_thread(monkeypatch):
    monkeypatch.setattr(running.threading, "Thread", None)
    qp.solve_qp(**FEW, backend="cpu").check()


@pytest.fixture
def three_threads():
    threads = torch.get_num_threads()
    torch.set_num_threads(3)
    yield 3
    torch.set_num_threads(threads)


@pytest.mark.filterwarnings("ignore:os.fork")  # of JAX, where another test has imported it
@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.parametrize("count", [1, 3])
def test_a_fork_after_a_threaded_solve_does_not_hang(three_threads, count):
    rows = as_rows(batch(2000))
    expected = cpu.forward(rows, OPTIONS).x
    child = os.fork()
    if child == 0:
        torch.set_num_threads(count)
        os._exit(7 * torch.equal(cpu.forward(rows, OPTIONS).x, expected))
    assert exit_code(child) == 7


def test_threads_sleep_between_calls(three_threads):
    """Those that waited a while in a loop would take the processor from others."""
    rows = as_rows(batch(2000))
    for _ in range(2):
        cpu.forward(rows, OPTIONS)
    before = time.process_time()
    time.sleep(0.2)
    assert time.process_time() - before < 0.002


COUNTED = """
import os, torch, qplayer_gpu as qp
H, g = torch.eye(10).double(), torch.randn(2000, 10).double()
torch.set_num_threads(1)
before = len(os.listdir("/proc/self/task"))
for count in (1, 3, 2):
    torch.set_num_threads(count)
    qp.solve_qp(H, g, lb=0.0, backend="cpu")
    print(len(os.listdir("/proc/self/task")) - before)
"""


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="threads are counted in /proc")
def test_as_many_threads_are_started_as_pytorch_may_use():
    done = subprocess.run([sys.executable, "-c", COUNTED], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["0", "2", "2"]


def test_calls_at_the_same_time_share_the_threads(three_threads):
    rows = as_rows(batch(500))
    expected, found = cpu.forward(rows, OPTIONS).x, []
    callers = [
        threading.Thread(target=lambda: found.extend(cpu.forward(rows, OPTIONS).x for _ in range(5))) for _ in range(4)
    ]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(60)
    assert len(found) == 20
    assert all(torch.equal(x, expected) for x in found)


def exit_code(child):
    for _ in range(200):
        if any(found := os.waitpid(child, os.WNOHANG)):
            return os.waitstatus_to_exitcode(found[1])
        time.sleep(0.05)
    os.kill(child, signal.SIGKILL)
    return os.waitpid(child, 0)


CTRL_C = """
import sys, torch, qplayer_gpu as qp
H, g = torch.eye(10).double(), torch.randn(400_000, 10).double()
print("begin", flush=True)
qp.solve_qp(H, g, C=torch.randn(20, 10).double(), u=torch.ones(20).double(), backend=sys.argv[1])
"""


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["cpu", "torch"])
def test_ctrl_c_ends_a_program(backend):
    program = subprocess.Popen(
        [sys.executable, "-c", CTRL_C, backend], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert program.stdout.readline() == "begin\n"
    time.sleep(0.5)
    program.send_signal(signal.SIGINT)
    began = time.monotonic()
    assert program.communicate(timeout=60)[1].splitlines()[-1] == "KeyboardInterrupt"
    assert time.monotonic() - began < 2 * AT_MOST  # to the end of the process
    assert program.returncode == -signal.SIGINT
