"""Run by test_cpu in a process of its own: tests of the C++ library, built so that it checks itself."""

from functools import partial

import pytest

FLAGS = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-O1", "-g")
TESTS = {
    "tests/test_cpu.py": "same_as_the_ref or same_in_mixed or never_shifted or depend_on_the_threads or not_finite",
    "tests/test_lanes.py": "each_lane or the_batch_shares or from_a_start",
    "tests/test_direct.py": "same_bits or same_gradients or warm_start",
}


def main() -> None:
    from qplayer_gpu.kernels.cpu import build, library

    library.build = partial(build.build, extra=FLAGS)
    codes = [pytest.main(["-q", "-x", "-p", "no:cacheprovider", "-k", which, file]) for file, which in TESTS.items()]
    print("clean" if not any(codes) else codes)


if __name__ == "__main__":
    main()
