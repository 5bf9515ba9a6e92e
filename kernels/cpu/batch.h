// How a library solves a batch: each thread one problem at a time, in memory of its own.
//
// The structures of a call are in ../cuda/call.h; kernels/call.py mirrors them, library.py has Threads. Of a call nothing is
// retained, and nothing is thrown.
#pragma once

#include <algorithm>
#include <atomic>
#include <memory>
#include <new>

#include "../cuda/solver.h"
#include "arguments.h"
#include "pool.h"

namespace qplayer {

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

// The forward solves of a call of rows, or of the arguments that they are made of.
struct Work {
    const Forward& call;
    Solve* of = nullptr;
    Arguments::Places at{};

    void begin(int64_t k) const {
        if (of) of->given.pack(at, k, false), of->begin(at, call, k);
    }
    void end(int64_t k) const {
        if (of) of->unpack(at, call, k);
    }
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
    Workspace<F> workspace;

  public:
    explicit Alone(const Rows& rows) : zeros(size(rows.sizes)), solver(rows, Block(), taken(rows.sizes)) {}
    Solver<F> solver;

    template <class Next>
    void forward(const Work& work, Next next) {
        for (int64_t k; (k = next()) >= 0; work.end(k)) work.begin(k), solver.forward(work.call, k);
    }

  private:
    Workspace<F>& taken(const Sizes& sizes) {
        Arena arena = zeros.arena();
        workspace.take(sizes, arena, arena, true);
        return workspace;
    }
};

// About how many multiplications a problem takes besides its factorizations, and how many of both are worth to wake a
// thread (tens of microseconds). What a thread takes at a time is not more, lest the others wait for it at the end.
constexpr double BESIDE = 3e3, WORTH_A_THREAD = 1e5;

// Each problem is solved by one thread, in any order, and its answer does not depend on which. Calls run(solver, next) on
// each thread, where next() is a problem, or -1 where there are no more.
template <class Solver, class Run>
int on_threads(const Rows& rows, Threads by, Run run) {
    const double np = rows.sizes.np(), cost = BESIDE + np * np * (np + rows.sizes.sp());
    const int64_t useful = 1 + int64_t(rows.batch * cost / WORTH_A_THREAD);
    const int64_t count = std::max<int64_t>(1, std::min({by.count, rows.batch, useful}));
    const int64_t chunk = std::max<int64_t>(1, std::min({int64_t(WORTH_A_THREAD / cost), rows.batch / (8 * count), int64_t(16)}));
    std::atomic<int64_t> first{0};
    Pool::of_process().on_threads(count, [&] {
        try {
            Solver solver(rows);
            int64_t k = 0, end = 0;
            run(solver, [&]() -> int64_t {
                if (k == end) k = first.fetch_add(chunk), end = k + chunk;
                return k < rows.batch && by.go_on() ? k++ : -1;
            });
        } catch (const std::bad_alloc&) {
            // the others may have enough
        }
    });
    return first < rows.batch;
}

template <class Solver>
int forward_by(const Work& work, Threads by) {
    return on_threads<Solver>(work.call.rows, by, [&](Solver& solver, auto next) { solver.forward(work, next); });
}

}  // namespace qplayer
