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

// Solves small problems a lane each, and those that need more one by one.
template <int N>
class InLanes {
    static size_t size(const Rows& rows) {
        Arena arena{nullptr};
        lanes::Solver<N> counted(rows, arena);
        return arena.used;
    }

    Zeros zeros;
    Arena arena = zeros.arena();
    lanes::Solver<N> solver;
    Alone<double> alone;

    template <class Next>
    struct Client : lanes::Client {
        const Work& work;
        Next next_one;
        Client(const Work& w, Solver<double>& alone, Next n) : lanes::Client(w.call, alone), work(w), next_one(n) {}
        int64_t next() override {
            const int64_t k = next_one();
            if (k >= 0) work.begin(k);
            return k;
        }
        void done(int64_t k) override { work.end(k); }
    };

  public:
    explicit InLanes(const Rows& rows) : zeros(size(rows)), solver(rows, arena), alone(rows) {}

    template <class Next>
    void forward(const Work& work, Next next) {
        Client<Next> client(work, alone.solver, next);
        solver.forward(client);
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

// The rows are those of the caller, who may change their max_iter meanwhile.
int forward(const Work& work, Threads by) {
    const Rows& rows = work.call.rows;
    if (!lanes::take(rows) || work.call.again) return forward_by<Alone<double>>(work, by);
    return rows.sizes.n <= 4    ? forward_by<InLanes<4>>(work, by)
           : rows.sizes.n <= 8  ? forward_by<InLanes<8>>(work, by)
           : rows.sizes.n <= 12 ? forward_by<InLanes<12>>(work, by)
                                : forward_by<InLanes<16>>(work, by);
}

int backward(const Backward& call, Threads by) {
    return on_threads<Alone<double>>(call.rows, by, [&](Alone<double>& alone, auto next) {
        for (int64_t k; (k = next()) >= 0;) alone.solver.backward(call, k);
    });
}

int solve(Solve& call, Threads by) {
    Arguments& given = call.given;
    if (!given.rows.batch) return 0;
    std::unique_ptr<double[]> own;
    if (!given.kept) own.reset(new (std::nothrow) double[given.lay_out(nullptr).count]);
    if (!given.kept && !own) return 1;
    const Arguments::Places at = given.lay_out(own ? own.get() : given.kept);
    given.pack(at, 0, true);
    return forward({call.forward(at), &call, at}, by);
}

int pull_back(Pullback& call, Threads by) {
    Arguments& given = call.given;
    std::unique_ptr<double[]> own(new (std::nothrow) double[given.rows.batch * Pullback::count(given.rows.sizes)]);
    if (!own) return 1;
    const Arguments::Places at = given.lay_out(given.kept);
    const Backward backward = call.backward(at, own.get());
    return on_threads<Alone<double>>(given.rows, by, [&](Alone<double>& alone, auto next) {
        for (int64_t k; (k = next()) >= 0; call.scatter(at, backward, k))
            call.gather(at, backward, k), alone.solver.backward(backward, k);
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
int qplayer_forward(const Forward* call, Threads by) { return forward({*call}, by); }
int qplayer_forward_mixed(const Forward* call, Threads by) { return forward_by<Alone<float>>({*call}, by); }
int qplayer_backward(const Backward* call, Threads by) { return backward(*call, by); }
int qplayer_solve(Solve* call, Threads by) { return solve(*call, by); }
int qplayer_pull_back(Pullback* call, Threads by) { return pull_back(*call, by); }
}
#pragma GCC visibility pop
