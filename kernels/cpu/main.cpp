// The solver as a library for the host: one problem at a time on each thread, arrays in and out as raw pointers.
//
// The structures of a call are in ../cuda/call.h; kernels/call.py mirrors them, library.py has Threads. Of a call nothing is
// retained, and nothing is thrown.
#include <algorithm>
#include <atomic>
#include <memory>
#include <new>

#include "../cuda/solver.h"
#include "arguments.h"
#include "pool.h"

using namespace qplayer;

namespace {

// How a call is run.
struct Threads {
    int64_t count;
    const std::atomic<int32_t>* stop = nullptr;  // no problem is begun once it is not 0; null: never
    bool go_on() const { return !stop || !stop->load(std::memory_order_relaxed); }
};

// One thread's memory, and its solver.
template <class F>
class Memory {
    struct Free {
        void operator()(char* p) const { ::operator delete[](p, std::align_val_t(64)); }
    };

    static char* allocate(const Sizes& sizes) {
        Workspace<F> counted;
        Arena arena{nullptr};
        counted.take(sizes, arena, arena, true);
        return new (std::align_val_t(64)) char[arena.used]();
    }

    std::unique_ptr<char[], Free> bytes;
    Workspace<F> work;

  public:
    explicit Memory(const Rows& rows) : bytes(allocate(rows.sizes)), solver(rows, Block(), taken(rows.sizes)) {}
    Solver<F> solver;

  private:
    Workspace<F>& taken(const Sizes& sizes) {
        Arena arena{bytes.get()};
        work.take(sizes, arena, arena, true);
        return work;
    }
};

// About how many multiplications a problem takes besides its factorizations, and how many of both are worth to wake a
// thread (tens of microseconds). What a thread takes at a time is not more, lest the others wait for it at the end.
constexpr double BESIDE = 3e3, WORTH_A_THREAD = 1e5;

// Each problem is solved by one thread, in any order, and its answer does not depend on which.
template <class F, class Solve>
int for_each_problem(const Rows& rows, Threads by, Solve solve) {
    const double np = rows.sizes.np(), cost = BESIDE + np * np * (np + rows.sizes.sp());
    const int64_t useful = 1 + int64_t(rows.batch * cost / WORTH_A_THREAD);
    const int64_t count = std::max<int64_t>(1, std::min({by.count, rows.batch, useful}));
    const int64_t chunk = std::max<int64_t>(1, std::min({int64_t(WORTH_A_THREAD / cost), rows.batch / (8 * count), int64_t(16)}));
    std::atomic<int64_t> next{0};
    Pool::of_process().on_threads(count, [&] {
        try {
            Memory<F> memory(rows);
            for (int64_t first; (first = next.fetch_add(chunk)) < rows.batch;)
                for (int64_t k = first; k < std::min(first + chunk, rows.batch) && by.go_on(); k++) solve(memory.solver, k);
        } catch (const std::bad_alloc&) {
            // the others may have enough
        }
    });
    return next < rows.batch;
}

template <class F>
int forward_batch(const Forward& call, Threads by) {
    return for_each_problem<F>(call.rows, by, [&](Solver<F>& solver, int64_t k) { solver.forward(call, k); });
}

int backward_batch(const Backward& call, Threads by) {
    return for_each_problem<double>(call.rows, by,
                                    [&](Solver<double>& solver, int64_t k) { solver.backward(call, k); });
}

int solve(Solve& call, Threads by) {
    Arguments& given = call.given;
    std::unique_ptr<double[]> own;
    if (!given.kept) own.reset(new (std::nothrow) double[given.lay_out(nullptr).count]);
    if (!given.kept && !own) return 1;
    const Arguments::Places at = given.lay_out(own ? own.get() : given.kept);
    const Forward forward = call.forward(at);
    given.pack(at, 0, true);
    return for_each_problem<double>(given.rows, by, [&](Solver<double>& solver, int64_t k) {
        given.pack(at, k, false);
        call.begin(at, forward, k);
        solver.forward(forward, k);
        call.unpack(at, forward, k);
    });
}

int pull_back(Pullback& call, Threads by) {
    Arguments& given = call.given;
    std::unique_ptr<double[]> own(new (std::nothrow) double[given.rows.batch * Pullback::count(given.rows.sizes)]);
    if (!own) return 1;
    const Arguments::Places at = given.lay_out(given.kept);
    const Backward backward = call.backward(at, own.get());
    return for_each_problem<double>(given.rows, by, [&](Solver<double>& solver, int64_t k) {
        call.gather(at, backward, k);
        solver.backward(backward, k);
        call.scatter(at, backward, k);
    });
}

}  // namespace

#pragma GCC visibility push(default)
extern "C" {

int64_t qplayer_size_of_forward() { return sizeof(Forward); }
int64_t qplayer_size_of_backward() { return sizeof(Backward); }
int64_t qplayer_size_of_solve() { return sizeof(Solve); }
int64_t qplayer_size_of_pull_back() { return sizeof(Pullback); }
int64_t qplayer_kept(Solve* call) { return call->given.lay_out(nullptr).count; }

// All return 0, or 1 where there is not enough memory.
int qplayer_forward(const Forward* call, Threads by) { return forward_batch<double>(*call, by); }
int qplayer_forward_mixed(const Forward* call, Threads by) { return forward_batch<float>(*call, by); }
int qplayer_backward(const Backward* call, Threads by) { return backward_batch(*call, by); }
int qplayer_solve(Solve* call, Threads by) { return solve(*call, by); }
int qplayer_pull_back(Pullback* call, Threads by) { return pull_back(*call, by); }
}
#pragma GCC visibility pop
