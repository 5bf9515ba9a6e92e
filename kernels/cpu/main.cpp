// The solver as a library for the host: on each thread one problem at a time, or so many small ones as there are lanes;
// arrays in and out as raw pointers.
#include "batch.h"
#include "lanes_solver.h"

using namespace qplayer;

namespace {

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
int qplayer_backward(const Backward* call, Threads by) { return backward(*call, by); }
int qplayer_solve(Solve* call, Threads by) { return solve(*call, by); }
int qplayer_pull_back(Pullback* call, Threads by) { return pull_back(*call, by); }
}
#pragma GCC visibility pop
