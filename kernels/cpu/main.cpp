// The solver as a library for the host: one problem at a time on each thread, arrays in and out as raw pointers.
//
// The structures below are mirrored in library.py. A stride is the distance from one problem's array to the next one's,
// in numbers: 0 where the batch shares it. Nothing is retained, nothing is thrown.
#include <algorithm>
#include <atomic>
#include <cstring>
#include <memory>
#include <new>
#include <system_error>
#include <thread>
#include <vector>

#include "../cuda/adjoint.h"
#include "../cuda/forward.h"

using namespace qplayer;

namespace {

struct Array {
    const double* data;
    int64_t stride;
    const double* of(int64_t problem) const { return data ? data + problem * stride : nullptr; }
};

struct Rows {
    int64_t batch;
    Sizes sizes;
    Array H, g, A, C, lo, hi, w, hard;
    Options options;
    int64_t threads;
    void (*parallel)(void (*)(void*), void*, unsigned, unsigned);  // GOMP_parallel of the process; null: std::thread
};

struct Forward {
    Rows rows;
    Array x_start, z_start, s_start;  // null: starts at zero
    double *x, *z, *s, *primal, *dual, *gap;
    int64_t *status, *iterations;
};

struct Backward {
    Rows rows;
    const double *x, *z, *s, *seed_x, *seed_z, *seed_s;
    double *b_x, *p, *z_unique, *ws, *b_s, *q_z, *b_z;  // zero at first
};

// Copies numbers; whether all are finite.
bool copy_finite(double* to, const double* from, int count) {
    double zeros[LANES] = {}, zero = 0;
    int i = 0;
    for (; i + LANES <= count; i += LANES)
        for (int lane = 0; lane < LANES; lane++) {
            to[i + lane] = from[i + lane];
            zeros[lane] += from[i + lane] - from[i + lane];
        }
    for (; i < count; i++) {
        to[i] = from[i];
        zero += from[i] - from[i];
    }
    for (double z : zeros) zero += z;
    return zero == 0;
}

// Between vectors of rows as the caller has them and padded ones.
void load_rows(const Sizes& sizes, double* to, const double* from, double padding) {
    std::fill_n(to, sizes.mp(), padding);
    if (!from) return;
    std::copy_n(from, sizes.stored(), to);
    std::copy_n(from + sizes.stored(), sizes.m() - sizes.stored(), to + sizes.sp());
}

void store_rows(const Sizes& sizes, double* to, const double* from) {
    std::copy_n(from, sizes.stored(), to);
    std::copy_n(from + sizes.sp(), sizes.m() - sizes.stored(), to + sizes.stored());
}

void load_x(const Sizes& sizes, double* to, const double* from) {
    std::fill_n(to, sizes.np(), 0.0);
    if (from) std::copy_n(from, sizes.n, to);
}

// One thread's memory and the problem in it. Matrices that the batch shares are read once.
class Solver {
  public:
    explicit Solver(const Rows& rows)
        : rows(rows),
          memory(new(std::align_val_t(64)) char[Workspace<double>::bytes(rows.sizes)]()),
          arena{memory.get()},
          work(rows.sizes, arena),
          problem{Block(),
                  rows.sizes,
                  rows.options,
                  {rows.sizes.n, rows.sizes.np(), rows.sizes.stored(), rows.sizes.sp(), rows.sizes.mp(),
                   rows.H.data ? work.H : nullptr, work.G},
                  work} {
        const int m = rows.sizes.m();
        for (int i = 0; i < m; i++) problem.log_mean_w += log(rows.w.data[i]) / m;
        load_rows(rows.sizes, work.hard, rows.hard.data, 0);
        problem.has_hard = std::any_of(work.hard, work.hard + rows.sizes.mp(), [](double h) { return h != 0; });
    }

    // Whether all numbers of problem k are finite, sides that are absent (lo = -inf, hi = inf) aside.
    bool load(int64_t k) {
        const Sizes& sizes = rows.sizes;
        load_matrices(k);
        const double *lo = rows.lo.of(k), *hi = rows.hi.of(k);
        load_rows(sizes, work.lo, lo, -INFINITY);
        load_rows(sizes, work.hi, hi, INFINITY);
        load_rows(sizes, work.w, rows.w.data, 1);
        bool usable = copy_finite(work.g, rows.g.of(k), sizes.n) && matrices_are_finite;
        for (int i = 0; i < sizes.m(); i++) usable &= lo[i] < INFINITY && hi[i] > -INFINITY;
        return usable;
    }

    void forward(const Forward& call, int64_t k) {
        const Sizes& sizes = rows.sizes;
        const int n = sizes.n, m = sizes.m();
        if (!load(k)) {
            std::fill_n(call.x + k * n, n, NAN);
            std::fill_n(call.z + k * m, m, NAN);
            std::fill_n(call.s + k * m, m, NAN);
            call.status[k] = NONFINITE_INPUT, call.iterations[k] = 0;
            call.primal[k] = call.dual[k] = call.gap[k] = NAN;
            return;
        }
        load_x(sizes, work.x, call.x_start.of(k));
        load_rows(sizes, work.z, call.z_start.of(k), 0);
        load_rows(sizes, work.s, call.s_start.of(k), 0);
        Result result = qplayer::forward(problem, is_scaled);
        is_scaled = true;
        std::copy_n(work.x, n, call.x + k * n);
        store_rows(sizes, call.z + k * m, work.z);
        store_rows(sizes, call.s + k * m, work.s);
        call.status[k] = result.status, call.iterations[k] = result.steps;
        call.primal[k] = result.primal, call.dual[k] = result.dual, call.gap[k] = result.gap;
    }

    void backward(const Backward& call, int64_t k) {
        const Sizes& sizes = rows.sizes;
        const int n = sizes.n, m = sizes.m();
        auto zero = [](const double* v, int count) { return std::count(v, v + count, 0.0) == count; };
        if (zero(call.seed_x + k * n, n) && zero(call.seed_z + k * m, m) && zero(call.seed_s + k * m, m)) return;
        load(k);
        load_x(sizes, work.x, call.x + k * n);
        load_rows(sizes, work.z, call.z + k * m, 0);
        load_rows(sizes, work.s, call.s + k * m, 0);
        load_x(sizes, work.seed_x, call.seed_x + k * n);
        load_rows(sizes, work.seed_z, call.seed_z + k * m, 0);
        load_rows(sizes, work.seed_s, call.seed_s + k * m, 0);
        qplayer::adjoint(problem, is_scaled);
        is_scaled = true;
        std::copy_n(work.x, n, call.b_x + k * n);
        std::copy_n(work.b_s, n, call.b_s + k * n);
        std::copy_n(work.beta, n, call.b_z + k * n);
        store_rows(sizes, call.p + k * m, work.z_trial);
        store_rows(sizes, call.z_unique + k * m, work.z);
        store_rows(sizes, call.ws + k * m, work.s);
        store_rows(sizes, call.q_z + k * m, work.z_k);
    }

  private:
    void load_matrices(int64_t k) {
        const Sizes& sizes = rows.sizes;
        const double *H = rows.H.of(k), *A = rows.A.of(k), *C = rows.C.of(k);
        if (is_loaded && H == H_loaded && A == A_loaded && C == C_loaded) return;
        H_loaded = H, A_loaded = A, C_loaded = C, is_loaded = true, is_scaled = false;
        matrices_are_finite = load_lines(work.H, H, H ? sizes.n : 0);
        matrices_are_finite &= load_lines(work.G, A, sizes.n_eq);
        matrices_are_finite &= load_lines(work.G + sizes.n_eq * sizes.np(), C, sizes.n_in);
    }

    bool load_lines(double* to, const double* from, int count) const {
        const int n = rows.sizes.n, np = rows.sizes.np();
        bool finite = true;
        for (int i = 0; i < count; i++) finite &= copy_finite(to + i * np, from + i * n, n);
        return finite;
    }

    struct Free {
        void operator()(char* p) const { ::operator delete[](p, std::align_val_t(64)); }
    };

    const Rows& rows;
    std::unique_ptr<char[], Free> memory;
    Arena arena;
    Workspace<double> work;
    Problem<double> problem;
    const double *H_loaded = nullptr, *A_loaded = nullptr, *C_loaded = nullptr;
    bool is_loaded = false, is_scaled = false, matrices_are_finite = false;
};

// A thread is worth its start (tens of microseconds) for about this many multiplications in factorizations.
constexpr double WORTH_A_THREAD = 1e5;

// Calls `run` on several threads: those of OpenMP where the process has them, as it leaves its threads spinning for a
// while after each use, where they would be in the way of others.
template <class Run>
void on_threads(const Rows& rows, int64_t count, Run run) {
    if (count > 1 && rows.parallel) {
        rows.parallel([](void* call) { (*static_cast<Run*>(call))(); }, &run, unsigned(count), 0);
        return;
    }
    std::vector<std::thread> threads;
    threads.reserve(count);
    try {
        for (int64_t i = 1; i < count; i++) threads.emplace_back(run);
    } catch (const std::system_error&) {
        // fewer threads will do
    }
    run();
    for (std::thread& thread : threads) thread.join();
}

// Each problem is solved by one thread, in any order, and its answer does not depend on which.
template <class Solve>
int for_each_problem(const Rows& rows, Solve solve) {
    const double np = rows.sizes.np(), cost = np * np * (np + rows.sizes.sp());
    int64_t useful = 1 + int64_t(rows.batch * cost / WORTH_A_THREAD);
    int64_t count = std::max<int64_t>(1, std::min({rows.threads, rows.batch, useful}));
    int64_t chunk = std::max<int64_t>(1, std::min<int64_t>(16, rows.batch / (8 * count)));
    std::atomic<int64_t> next{0}, next_solver{0};
    try {
        std::vector<std::unique_ptr<Solver>> solvers;
        for (int64_t i = 0; i < count; i++) solvers.push_back(std::make_unique<Solver>(rows));
        on_threads(rows, count, [&] {
            Solver& solver = *solvers[next_solver.fetch_add(1)];
            for (int64_t first; (first = next.fetch_add(chunk)) < rows.batch;)
                for (int64_t k = first; k < std::min(first + chunk, rows.batch); k++) solve(solver, k);
        });
    } catch (const std::bad_alloc&) {
        return 1;
    }
    return 0;
}

}  // namespace

#pragma GCC visibility push(default)
extern "C" {

int64_t qplayer_size_of_forward() { return sizeof(Forward); }
int64_t qplayer_size_of_backward() { return sizeof(Backward); }

// Both return 0, or 1 where there is not enough memory.
int qplayer_forward(const Forward* call) {
    return for_each_problem(call->rows, [&](Solver& solver, int64_t k) { solver.forward(*call, k); });
}

int qplayer_backward(const Backward* call) {
    return for_each_problem(call->rows, [&](Solver& solver, int64_t k) { solver.backward(*call, k); });
}
}
#pragma GCC visibility pop
