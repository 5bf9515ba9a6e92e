// The kernels of a GPU. QP_THREADS threads solve one problem from start to end, then take the next of the batch.
//
// A module is one variant, chosen when it is compiled (C++17, no headers but those of this folder):
//     QP_THREADS   threads of a problem: 8 to n = 8, 32 (a warp) to n = 32, 64 to n = 64, 128 to n = 128, 256 beyond
//     QP_TENSOR    defined where tensor cores make factors in double precision and products: see words.h
//     QP_FORWARD   defined for the first of the kernels below, QP_BACKWARD for the second
//     QP_SINGLE    defined for a factor in single precision (Options.mixed), of the forward only
//
// Both kernels take (call, launch), the structures by value; those of the call are in call.h, launch is below:
//     qplayer_forward(Forward, Launch)      qplayer_backward(Backward, Launch)
// with as many blocks as shall run at once (what the device holds, at most what the batch needs). A block has the
// threads and the memory of one problem, but those of four where QP_THREADS is 8, each by its part of the warp. For each
// problem that is
//     shared memory (dynamic, bytes):   near + (factor_is_near ? factor : 0), or more, which vectors go to
//     scratch (global, bytes):          8 (VECTORS_OF_X n + VECTORS_OF_ROWS m) + 4 (rows of A and C, rounded up to even)
//                                       + 2 sums + (factor_is_near ? 0 : factor)
// where m is the length of lo, and
//     near    F (np (BLOCK_CHUNK + 3) + BLOCK_CHUNK)     on tensor cores   64 t
//     factor  F np (np + 2)                                                256 t (t + 1)
//     sums    F np np                                                      256 t (t + 1)
// with F the size of a number of the factor, np n rounded up to a multiple of 4, t blocks of 8 in n, rounded up, and
// numbers of kernels/numbers.py. There is factor_is_near wherever a block may have that much shared memory and 2 KB more for each
// problem, which is static; else the factor is in the scratch. Scratch need not be cleared; its start and distances are multiples of 16.
// `next` is zero at the launch. Pointers are to float64 and int64 on the device.
// have no batch. Nothing is allocated, nothing waits for the host.
//
// A mixed solve is two launches: float with max_iter = min(max_iter, 200), then double with `again` = 1, the steps that
// are left as max_iter, and no start. Backward is one launch, in double; its outputs are zero at first.
#include "solver.h"

namespace qplayer {

#ifdef QP_SINGLE
using Scalar = float;
#else
using Scalar = double;
#endif

constexpr int LAUNCHED = QP_THREADS * AT_ONCE;  // threads of a block
constexpr int RESIDENT = 512;                   // threads of a multiprocessor at once, which leaves each 128 registers

struct Launch {
    char* scratch;
    int64_t scratch_stride;  // bytes from one problem's to the next one's, of all that are solved at once
    int64_t shared_stride;   // the same of the shared memory, in a block
    int64_t* next;           // the next problem to be taken
    int64_t factor_is_near;
};

// Calls solve(solver, k) for the problems k that these threads take.
template <class F, class Solve>
__device__ void for_each_problem(const Rows& rows, const Launch& launch, Solve solve) {
    extern __shared__ __align__(16) char near_memory[];
    static __shared__ Workspace<F> works[AT_ONCE];
    static __shared__ int64_t taken[AT_ONCE];
    const Block block{int(threadIdx.x) % Block::size};
    const int which = int(threadIdx.x) / Block::size;  // of the problems at once
    Workspace<F>& work = works[which];
    if (block.rank == 0) {
        Arena arena{launch.scratch + (int64_t(blockIdx.x) * AT_ONCE + which) * launch.scratch_stride};
        Arena near{near_memory + which * launch.shared_stride, size_t(launch.shared_stride)};
        work.take(rows.sizes, arena, near, launch.factor_is_near);
    }
    block.sync();
    Solver<F> solver(rows, block, work);
    for (;;) {
        if (block.rank == 0)
            taken[which] = int64_t(atomicAdd(reinterpret_cast<unsigned long long*>(launch.next), 1ULL));
        block.sync();
        const int64_t k = taken[which];
        block.sync();
        if (k >= rows.batch) return;
        solve(solver, k);
    }
}

}  // namespace qplayer

#ifdef QP_FORWARD
extern "C" __global__ void __launch_bounds__(qplayer::LAUNCHED, qplayer::RESIDENT / qplayer::LAUNCHED)
    qplayer_forward(const __grid_constant__ qplayer::Forward call, const __grid_constant__ qplayer::Launch launch) {
    qplayer::for_each_problem<qplayer::Scalar>(call.rows, launch,
                                               [&](auto& solver, auto k) { solver.forward(call, k); });
}

#endif

#ifdef QP_BACKWARD
extern "C" __global__ void __launch_bounds__(qplayer::LAUNCHED, qplayer::RESIDENT / qplayer::LAUNCHED)
    qplayer_backward(const __grid_constant__ qplayer::Backward call, const __grid_constant__ qplayer::Launch launch) {
    qplayer::for_each_problem<qplayer::Scalar>(call.rows, launch,
                                               [&](auto& solver, auto k) { solver.backward(call, k); });
}
#endif
