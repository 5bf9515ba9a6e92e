// The solver as a library for the host: on each thread one problem at a time, or so many small ones as there are lanes;
// arrays in and out as raw pointers.
//
// The structures of a call are in ../cuda/call.h; kernels/call.py mirrors them, library.py has Threads. Of a call nothing is
// retained, and nothing is thrown.
#include <algorithm>
#include <atomic>
#include <memory>
#include <new>

#include "../cuda/solver.h"
#include "arguments.h"
#include "lanes_solver.h"
#include "pool.h"

using namespace qplayer;

namespace {

// How a call is run.
struct Threads {
    int64_t count;
    const std::atomic<int32_t>* stop = nullptr;  // no problem is begun once it is not 0; null: never
    bool go_on() const { return !stop || !stop->load(std::memory_order_relaxed); }
};

// Zeros, from a boundary of a pack on.
class Zeros {
    struct Free {
        void operator()(char* p) const { ::operator delete[](p, std::align_val_t(64)); }
    };
    std::unique_ptr<char[], Free> bytes;

  public:
    explicit Zeros(size_t count) : bytes(new (std::align_val_t(64)) char[count]()) {}
    Arena arena() const { return {bytes.get()}; }
};

// Solves problems one by one, in memory of its own.
template <class F>
class Alone {
    static size_t size(const Sizes& sizes) {
        Workspace<F> counted;
        Arena arena{nullptr};
        counted.take(sizes, arena, arena, true);
        return arena.used;
    }

    Zeros zeros;
    Workspace<F> work;

  public:
    static constexpr int AT_ONCE = 1;
    explicit Alone(const Rows& rows) : zeros(size(rows.sizes)), solver(rows, Block(), taken(rows.sizes)) {}
    Solver<F> solver;

    void forward(const Forward& call, int64_t k, int64_t) { solver.forward(call, k); }

  private:
    Workspace<F>& taken(const Sizes& sizes) {
        Arena arena = zeros.arena();
        work.take(sizes, arena, arena, true);
        return work;
    }
};

// Solves small problems a lane each, and those that need more one by one.
class InLanes {
    static size_t size(const Rows& rows) {
        Arena arena{nullptr};
        lanes::Solver counted(rows, arena);
        return arena.used;
    }

    Zeros zeros;
    Arena arena = zeros.arena();
    lanes::Solver solver;
    Alone<double> alone;

  public:
    static constexpr int AT_ONCE = LANES;
    explicit InLanes(const Rows& rows) : zeros(size(rows)), solver(rows, arena), alone(rows) {}

    void forward(const Forward& call, int64_t first, int64_t count) {
        const auto leave = [&](int64_t k) { alone.solver.forward(call, k); };
        if (!call.again) return solver.forward(call, first, count, leave);
        for (int64_t k = first; k < first + count; k++) leave(k);  // the few that others left
    }
};

// About how many multiplications a problem takes besides its factorizations, and how many of both are worth to wake a
// thread (tens of microseconds). What a thread takes at a time is not more, lest the others wait for it at the end.
constexpr double BESIDE = 3e3, WORTH_A_THREAD = 1e5;

// Each problem is solved by one thread, in any order, and its answer does not depend on which. Calls
// solve(solver, first, count) for so many problems as a solver takes at once.
template <class Solver, class Solve>
int for_each_problem(const Rows& rows, Threads by, Solve solve) {
    const double np = rows.sizes.np(), cost = BESIDE + np * np * (np + rows.sizes.sp());
    const int64_t useful = 1 + int64_t(rows.batch * cost / WORTH_A_THREAD), once = Solver::AT_ONCE;
    const int64_t count = std::max<int64_t>(1, std::min({by.count, rows.batch, useful}));
    const int64_t some = std::max<int64_t>(1, std::min({int64_t(WORTH_A_THREAD / cost), rows.batch / (8 * count), int64_t(16)}));
    const int64_t chunk = (some + once - 1) / once * once;
    std::atomic<int64_t> next{0};
    Pool::of_process().on_threads(count, [&] {
        try {
            Solver solver(rows);
            for (int64_t first; (first = next.fetch_add(chunk)) < rows.batch;) {
                const int64_t end = std::min(first + chunk, rows.batch);
                for (int64_t k = first; k < end && by.go_on(); k += once) solve(solver, k, std::min(once, end - k));
            }
        } catch (const std::bad_alloc&) {
            // the others may have enough
        }
    });
    return next < rows.batch;
}

// The same forward: solve(solver, first, count) calls solver.forward. The rows are those of the caller, who may change
// their max_iter meanwhile.
template <class Solve>
int for_each_forward(const Rows& rows, Threads by, Solve solve) {
    return lanes::take(rows) ? for_each_problem<InLanes>(rows, by, solve)
                             : for_each_problem<Alone<double>>(rows, by, solve);
}

int forward(const Forward& call, Threads by) {
    return for_each_forward(call.rows, by, [&](auto& solver, int64_t k, int64_t count) { solver.forward(call, k, count); });
}

int forward_mixed(const Forward& call, Threads by) {
    return for_each_problem<Alone<float>>(call.rows, by, [&](Alone<float>& solver, int64_t k, int64_t count) {
        solver.forward(call, k, count);
    });
}

int backward(const Backward& call, Threads by) {
    return for_each_problem<Alone<double>>(
        call.rows, by, [&](Alone<double>& alone, int64_t k, int64_t) { alone.solver.backward(call, k); });
}

int solve(Solve& call, Threads by) {
    Arguments& given = call.given;
    if (!given.rows.batch) return 0;
    std::unique_ptr<double[]> own;
    if (!given.kept) own.reset(new (std::nothrow) double[given.lay_out(nullptr).count]);
    if (!given.kept && !own) return 1;
    const Arguments::Places at = given.lay_out(own ? own.get() : given.kept);
    const Forward& forward = call.forward(at);
    given.pack(at, 0, true);
    return for_each_forward(forward.rows, by, [&](auto& solver, int64_t first, int64_t count) {
        for (int64_t k = first; k < first + count; k++) given.pack(at, k, false), call.begin(at, forward, k);
        solver.forward(forward, first, count);
        for (int64_t k = first; k < first + count; k++) call.unpack(at, forward, k);
    });
}

int pull_back(Pullback& call, Threads by) {
    Arguments& given = call.given;
    std::unique_ptr<double[]> own(new (std::nothrow) double[given.rows.batch * Pullback::count(given.rows.sizes)]);
    if (!own) return 1;
    const Arguments::Places at = given.lay_out(given.kept);
    const Backward backward = call.backward(at, own.get());
    return for_each_problem<Alone<double>>(given.rows, by, [&](Alone<double>& alone, int64_t k, int64_t) {
        call.gather(at, backward, k);
        alone.solver.backward(backward, k);
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
int qplayer_forward(const Forward* call, Threads by) { return forward(*call, by); }
int qplayer_forward_mixed(const Forward* call, Threads by) { return forward_mixed(*call, by); }
int qplayer_backward(const Backward* call, Threads by) { return backward(*call, by); }
int qplayer_solve(Solve* call, Threads by) { return solve(*call, by); }
int qplayer_pull_back(Pullback* call, Threads by) { return pull_back(*call, by); }
}
#pragma GCC visibility pop
