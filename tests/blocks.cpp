// Runs the kernels of kernels/cuda/main.cu on a block of fibers: a batch comes in on the standard input, the answers
// and the adjoint vectors go out on the standard output (test_blocks.py).
// The numbers of kernels/numbers.py are put before it.
#include "blocks.h"

int removed = -1;  // the barrier that no thread waits at, by its number in the sources that the test has made
inline bool is_kept(int barrier) { return barrier != removed; }

namespace qplayer {
char near_memory[1 << 20] __align__(16);
}
#define QP_FORWARD
#ifndef QP_SINGLE
#define QP_BACKWARD
#endif
#include "../kernels/cuda/main.cu"

using namespace qplayer;
using Numbers = std::vector<double>;

template <class T>
static T read() {
    T v;
    if (std::fread(&v, sizeof v, 1, stdin) != 1) std::exit(2);
    return v;
}

static Numbers read_numbers() {
    Numbers v(read<int64_t>());
    if (std::fread(v.data(), sizeof(double), v.size(), stdin) != v.size()) std::exit(2);
    return v;
}

static void write(const void* data, size_t bytes) {
    if (std::fwrite(data, 1, bytes, stdout) != bytes) std::exit(2);
}

#ifdef __SANITIZE_ADDRESS__  // which leaves room between arrays
constexpr bool CHECKS_ADDRESSES = true;
#else
constexpr bool CHECKS_ADDRESSES = false;
#endif

// Bytes of scratch and of shared memory that the kernels take, where there are so many of the latter.
static std::pair<int64_t, int64_t> used(const Sizes& sizes, bool factor_is_near, int64_t near_bytes) {
    Workspace<Scalar> counted;
    Arena scratch{nullptr}, near{nullptr, size_t(near_bytes)};
    counted.take(sizes, scratch, near, factor_is_near);
    return {int64_t(scratch.used), int64_t(near.used)};
}

int main() {
    removed = int(read<int64_t>());
    const unsigned seed = unsigned(read<int64_t>());
    const int64_t scratch_bytes = read<int64_t>(), near_bytes = read<int64_t>(), room = read<int64_t>();
    const int64_t factor_is_near = read<int64_t>();
    Forward forward{};
    const int64_t B = forward.rows.batch = read<int64_t>();
    forward.rows.sizes = read<Sizes>(), forward.rows.options = read<Options>();
    const auto least = used(forward.rows.sizes, factor_is_near, near_bytes);
    const auto [scratch_used, near_used] = used(forward.rows.sizes, factor_is_near, near_bytes + room);
    if (!CHECKS_ADDRESSES && least != std::pair(scratch_bytes, near_bytes)) {
        std::fputs("the kernels take another amount of memory than the head of main.cu says\n", stderr);
        return 4;
    }
    std::vector<Numbers> kept;
    auto array = [&] {  // of one problem, or of each one
        kept.push_back(read_numbers());
        const Numbers& v = kept.back();
        const bool shared = read<int64_t>();
        return Array{v.empty() ? nullptr : v.data(), shared ? 0 : int64_t(v.size()) / B};
    };
    kept.reserve(14);
    Rows& rows = forward.rows;
    for (Array* a : {&rows.H, &rows.g, &rows.A, &rows.C, &rows.lo, &rows.hi, &rows.w, &rows.hard}) *a = array();
    const int64_t n = rows.sizes.n, m = rows.sizes.m();
    Numbers grads = read_numbers(), out(B * (n + 2 * m + 3)), adjoint(B * (3 * n + 4 * m));
    std::vector<int64_t> status(2 * B);
    double* o = out.data();
    forward.x = o, forward.z = o + B * n, forward.s = forward.z + B * m, forward.primal = forward.s + B * m;
    forward.dual = forward.primal + B, forward.gap = forward.dual + B;
    forward.status = status.data(), forward.iterations = status.data() + B;
    double *a = adjoint.data(), *grad_x = grads.data(), *grad_z = grad_x + B * n;
    Backward backward{rows,  forward.x, forward.z,     forward.s, grad_x, grad_z, grad_z + B * m, a,
                      a + B * n, a + B * (n + m), a + B * (n + 2 * m), a + B * (n + 3 * m), a + B * (2 * n + 3 * m),
                      a + B * (2 * n + 4 * m)};

    std::vector<char> scratch(AT_ONCE * (scratch_used + 64), char(0xff));  // NaN where nothing was written
    int64_t next = 0;
    const Launch launch{scratch.data(), scratch_used + 64, near_bytes + room, &next, factor_is_near};
    blocks::run(AT_ONCE * QP_THREADS, seed, [&] { qplayer_forward(forward, launch); });
#ifndef QP_SINGLE
    next = 0;
    blocks::run(AT_ONCE * QP_THREADS, seed + 1, [&] { qplayer_backward(backward, launch); });
#endif
    write(status.data(), sizeof(int64_t) * status.size());
    write(out.data(), sizeof(double) * out.size());
    write(adjoint.data(), sizeof(double) * adjoint.size());
}
