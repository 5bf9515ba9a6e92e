// The solver as a library for the host: one problem at a time on each thread, arrays in and out as raw pointers.
//
// The structures of a call are in ../cuda/call.h; kernels/call.py mirrors them, library.py has Threads. Nothing is retained, nothing is thrown.
#include <algorithm>
#include <atomic>
#include <memory>
#include <new>
#include <system_error>
#include <thread>
#include <vector>

#include "../cuda/solver.h"

using namespace qplayer;

namespace {

// How a call is run.
struct Threads {
    int64_t count;
    void (*parallel)(void (*)(void*), void*, unsigned, unsigned);  // GOMP_parallel of the process; null: std::thread
    const std::atomic<int32_t>* stop = nullptr;                    // no problem is begun once it is not 0; null: never
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

// A thread is worth its start (tens of microseconds) for about this many multiplications in factorizations.
constexpr double WORTH_A_THREAD = 1e5;

// Calls `run` on several threads: those of OpenMP where the process has them, as it leaves its threads spinning for a
// while after each use, where they would be in the way of others.
template <class Run>
void on_threads(Threads by, int64_t count, Run run) {
    if (count > 1 && by.parallel) {
        by.parallel([](void* call) { (*static_cast<Run*>(call))(); }, &run, unsigned(count), 0);
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
template <class F, class Solve>
int for_each_problem(const Rows& rows, Threads by, Solve solve) {
    const double np = rows.sizes.np(), cost = np * np * (np + rows.sizes.sp());
    int64_t useful = 1 + int64_t(rows.batch * cost / WORTH_A_THREAD);
    int64_t count = std::max<int64_t>(1, std::min({by.count, rows.batch, useful}));
    int64_t chunk = std::max<int64_t>(1, std::min<int64_t>(16, rows.batch / (8 * count)));
    std::atomic<int64_t> next{0}, next_memory{0};
    try {
        std::vector<std::unique_ptr<Memory<F>>> memories;
        for (int64_t i = 0; i < count; i++) memories.push_back(std::make_unique<Memory<F>>(rows));
        on_threads(by, count, [&] {
            Solver<F>& solver = memories[next_memory.fetch_add(1)]->solver;
            for (int64_t first; (first = next.fetch_add(chunk)) < rows.batch;)
                for (int64_t k = first; k < std::min(first + chunk, rows.batch) && by.go_on(); k++) solve(solver, k);
        });
    } catch (const std::bad_alloc&) {
        return 1;
    }
    return 0;
}

template <class F>
int forward_batch(const Forward& call, Threads by) {
    return for_each_problem<F>(call.rows, by, [&](Solver<F>& solver, int64_t k) { solver.forward(call, k); });
}

int backward_batch(const Backward& call, Threads by) {
    return for_each_problem<double>(call.rows, by,
                                    [&](Solver<double>& solver, int64_t k) { solver.backward(call, k); });
}

}  // namespace

#pragma GCC visibility push(default)
extern "C" {

int64_t qplayer_size_of_forward() { return sizeof(Forward); }
int64_t qplayer_size_of_backward() { return sizeof(Backward); }

// All return 0, or 1 where there is not enough memory.
int qplayer_forward(const Forward* call, Threads by) { return forward_batch<double>(*call, by); }
int qplayer_forward_mixed(const Forward* call, Threads by) { return forward_batch<float>(*call, by); }
int qplayer_backward(const Backward* call, Threads by) { return backward_batch(*call, by); }
}
#pragma GCC visibility pop
