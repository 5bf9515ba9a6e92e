"""Run by test_cpu in a process of its own: the cases of test_cpu with a library that checks itself."""

from dataclasses import replace
from functools import partial
from itertools import product

import pytest
import torch

FLAGS = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-O1", "-g")


def main() -> None:
    from qplayer_gpu.kernels.cpu import build, library

    library.build = partial(build.build, FLAGS)
    import test_cpu

    problems = [test_cpu.rows_of(make()) for make in test_cpu.CASES.values()]
    problems += [test_cpu.rows_of(*case) for case in test_cpu.HARD_ROWS.values()]
    for rows, mixed in product(problems, (False, True)):
        options = replace(test_cpu.OPTIONS, mixed=mixed)
        answer = test_cpu.cpu.forward(rows, options)
        seeds = test_cpu.Seeds(*(torch.randn_like(t) for t in (answer.x, answer.z, answer.s)))
        test_cpu.cpu.adjoint(rows, answer, seeds, options)
    with pytest.MonkeyPatch.context() as patch:
        test_cpu.test_the_answer_does_not_depend_on_the_threads(None, patch)
    for name in ("H", "g", "A", "C", "lo", "hi"):
        test_cpu.test_what_is_not_finite_is_not_solved(name)
    print("clean")


if __name__ == "__main__":
    main()
