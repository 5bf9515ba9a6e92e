"""Run by test_triton_compile in a process that compiles: a kernel whose loop does one DFMA a round, and its counts."""

import triton
import triton.language as tl
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from bench.chip import sass


@triton.jit
def looped(x_ptr, y_ptr, count):
    x = tl.load(x_ptr + tl.arange(0, 32))
    y = x
    for _ in range(0, count):
        y = y * x + x
    tl.store(y_ptr + tl.arange(0, 32), y)


def main():
    source = ASTSource(looped, {"x_ptr": "*fp64", "y_ptr": "*fp64", "count": "i32"}, {})
    code = sass.Code(triton.compile(source, target=GPUTarget("cuda", 90, 32), options={"num_warps": 1}).asm["cubin"])
    sass.function_at = lambda file, line: "looped"  # it is not in the folder of the kernels
    (all0, double0), (all64, double64), (all128, double128) = (
        code.counts({"looped": extent}, within_loop=False) for extent in (0, 64, 128)
    )
    assert double128 - double64 == double64 - double0 == 64
    assert all128 - all64 == all64 - all0 > 64
    assert code.counts({}, within_loop=True)[1] in (1, 2, 4, 8), "a round of the loop, however unrolled"
    print("counted")


if __name__ == "__main__":
    main()
