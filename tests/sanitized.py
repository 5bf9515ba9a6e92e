"""Run by test_cpu in a process of its own: tests of the C++ kernels with a library that checks itself."""

from functools import partial

import pytest

FLAGS = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-O1", "-g")
TESTS = "same_as_the_reference or same_in_mixed or never_shifted or depend_on_the_threads or not_finite"


def main() -> None:
    from qplayer_gpu.kernels.cpu import build, library

    library.build = partial(build.build, extra=FLAGS)
    code = pytest.main(["-q", "-x", "-p", "no:cacheprovider", "-k", TESTS, "tests/test_cpu.py"])
    print("clean" if code == 0 else code)


if __name__ == "__main__":
    main()
