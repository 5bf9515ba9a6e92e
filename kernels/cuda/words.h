// The words of CUDA, for compilers that do not know them.
//
// nvcc and NVRTC compile this source for a block of threads (QP_BLOCK). A host compiler takes it for a block of one
// thread, whose packs are vector registers; with QP_BLOCK defined it takes the code of the GPU, for which the includer
// has words of its own (tests/blocks.h). QP_TENSOR, defined with it: the warps of a block are whole, and have tensor cores
// that multiply doubles faster than other units do.
#pragma once

#ifdef __CUDACC__
#define QP_BLOCK
#define QP_PART __device__ __noinline__
#else
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#define __device__
#define __forceinline__ inline __attribute__((always_inline))
#define QP_PART inline
#endif

#ifdef __CUDACC_RTC__  // which has no headers
#define INFINITY __longlong_as_double(0x7ff0000000000000LL)
#define NAN __longlong_as_double(0x7ff8000000000000LL)
namespace qplayer {
using int32_t = int;
using int64_t = long long;
}  // namespace qplayer
#endif

// A small function; QP_PART: a large one, of which a GPU's code has one copy; QP_CALL: a small one of which it has one.
#define QP_FN __device__ __forceinline__
#ifdef __CUDACC__
#define QP_CALL QP_PART
#else
#define QP_CALL QP_FN
#endif

// On a GPU a thread has few rounds of a loop: unrolled, it would be more to compile and more to do.
#ifdef __CUDACC__
#define QP_ROLLED _Pragma("unroll 1")
#else
#define QP_ROLLED
#endif

// Loops over numbers of a matrix: a GPU asks for those of several rounds before it waits for the first.
#ifdef __CUDACC__
#define QP_PRAGMA(text) _Pragma(#text)
#define QP_AHEAD(rounds) QP_PRAGMA(unroll rounds)
#else
#define QP_AHEAD(rounds)
#endif

// Loops that the threads of a block share: over the packs of a vector, over numbers.
#define QP_EACH(i, count) QP_ROLLED for (int i = block.rank * LANES; i < (count); i += block.size * LANES)
#define QP_EACH_NUMBER(i, count) QP_ROLLED for (int i = block.rank; i < (count); i += block.size)
