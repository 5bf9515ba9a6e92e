// Batches of positive definite systems K x = r, on devices with tensor cores: the factor of a Newton step, alone.
//
// qplayer_solve(Systems) with QP_THREADS (32 to n = 32, 64 to n = 64, 128 to n = 128) threads a block, of which each takes
// every so-many-th system, and 64 t + 256 t (t + 1) bytes of shared memory, t being the blocks of 8 in n, rounded up.
#include "factor.h"

namespace qplayer {

struct Systems {
    int64_t batch;
    int n, count;     // right-hand sides of each system
    const double* K;  // [batch, n, n] symmetric
    const double* r;  // [batch, count, n]
    double* x;        // [batch, count, n], NaN where K is not positive definite
    bool* failed;     // [batch] where that is
};

}  // namespace qplayer

extern "C" __global__ void __launch_bounds__(QP_THREADS, 512 / QP_THREADS)
    qplayer_solve(const __grid_constant__ qplayer::Systems call) {
    using namespace qplayer;
    extern __shared__ __align__(16) char near_memory[];
    const Block block{int(threadIdx.x)};
    const int n = call.n;
    Factor<double> factor;
    Arena near{near_memory};
    factor.take(n, near, near);
    for (int64_t k = blockIdx.x; k < call.batch; k += gridDim.x) {
        const bool failed = !factorize(block, factor, Terms<double>{call.K + k * n * n});
        if (block.rank == 0) call.failed[k] = failed;
        for (int64_t which = k * call.count; which < (k + 1) * call.count; which++) {
            QP_EACH_NUMBER(j, factor.np) factor.r[j] = j < n ? call.r[which * n + j] : 0;
            block.sync();
            substitute(block, factor);
            QP_EACH_NUMBER(j, n) call.x[which * n + j] = failed ? NAN : factor.r[j];
            block.sync();
        }
    }
}
