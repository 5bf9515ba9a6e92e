// Packs and blocks on a GPU: QP_THREADS threads, each with one number at a time.
#pragma once

#include "words.h"

namespace qplayer {

constexpr int LANES = 1;
constexpr int WARP = 32;
constexpr int TEAM = 8;  // threads that share a row of a matrix
constexpr int AT_ONCE = QP_THREADS < WARP ? WARP / QP_THREADS : 1;  // problems, each by a part of a warp

template <class F>
struct PackOf {
    using type = F;
};
using Pack = double;
using Mask = bool;

struct Block {
    int rank;  // of this thread
    static constexpr int size = QP_THREADS, warps = (size + WARP - 1) / WARP;
    static constexpr int width = size < WARP ? size : WARP;  // lanes in a warp

    // The first of the lanes of this thread's warp that are in its block, and all of them as bits. Those of a warp's
    // other blocks are elsewhere in the code: nothing may wait for them.
    QP_FN static int first_lane() { return threadIdx.x % WARP / width * width; }
    QP_FN static unsigned lanes() { return 0xffffffffu >> (WARP - width) << first_lane(); }

    // All threads wait for each other, and see what they have written; those of a warp only.
    QP_FN void sync() const {
        if constexpr (size > WARP)
            __syncthreads();
        else
            sync_lanes();
    }
    QP_FN void sync_lanes() const { __syncwarp(lanes()); }

    // What that lane of the block's lanes in this warp has.
    template <class T>
    QP_FN static T from_lane(int lane, T v) {
        return __shfl_sync(lanes(), v, lane, width);
    }

    // The total over `among` neighbouring threads of a warp, the same bits in each of them.
    template <int among, class T, class Add>
    QP_FN static T gather(T v, Add add) {
        for (int distance = among / 2; distance > 0; distance /= 2) v = add(v, __shfl_xor_sync(lanes(), v, distance));
        return v;
    }

    // Totals over the block.
    QP_FN double sum(double v) const;
    QP_FN bool any(bool v) const;
};

QP_FN Pack load(const double* p) { return *p; }
QP_FN Pack load_anywhere(const double* p) { return *p; }
QP_FN void store(double* p, Pack v) { *p = v; }
QP_FN Pack all(double v) { return v; }
QP_FN Pack pick(Mask where, Pack yes, Pack no) { return where ? yes : no; }
QP_FN Mask no(Mask m) { return !m; }
QP_FN Pack clamp(Pack v, Pack lo, Pack hi) {  // NaN stays NaN
    Pack t = lo > v ? lo : v;
    return hi < t ? hi : t;
}
QP_FN Pack inverse_root(Pack size) { return size > 0 ? 1 / sqrt(size) : 1; }  // 1 for 0
QP_FN Pack magnitude(Pack v) { return fabs(v); }
QP_FN Pack fold(const Pack (&v)[1]) { return v[0]; }

#ifdef QP_TENSOR
// The product of a 4 x 8 with an 8 x 4 matrix on the tensor cores: lane 4 i + q brings a_iq and b_iq, and gets the sums
// over k of a_ik b_jk for j = 2 q, 2 q + 1 added to x and y.
QP_FN void add_quarter(double& x, double& y, double a, double b) {
#ifdef __CUDACC__
    const double before[2] = {x, y};  // not in place, or each sum that begins with zeros would copy them
    asm("mma.sync.aligned.m8n8k4.row.col.f64.f64.f64.f64 {%0, %1}, {%2}, {%3}, {%4, %5};"
        : "=d"(x), "=d"(y)
        : "d"(a), "d"(b), "d"(before[0]), "d"(before[1]));
#else
    blocks::add_quarter(x, y, a, b);
#endif
}
#endif

#if defined(QP_TENSOR) && QP_THREADS == 32
#define QP_TOTAL QP_FN  // the total of a warp is shorter than a call
#else
#define QP_TOTAL QP_CALL
#endif

// Totals: each thread adds to its own, and gather(block, ...) makes those of all threads of them, the same bits in each.
// Then total() says what it is; value(block) does both. total_of_lanes() is the first part of that, within a warp.

// The largest magnitude, NaN if any is NaN: as integers, magnitudes are ordered and NaN is above all.
struct Most {
    long long most = 0;
    QP_FN static long long join(long long a, long long b) { return a > b ? a : b; }
    QP_FN void add(Pack v) { most = join(most, __double_as_longlong(fabs(v))); }
    QP_FN double total() const { return __longlong_as_double(most); }
    QP_TOTAL double value(Block block);
    template <int among>
    QP_FN double gathered() const {
        return __longlong_as_double(Block::gather<among>(most, join));
    }
    QP_FN long long total_of_lanes() const {
#ifdef QP_TENSOR
        const double mine = total();
        const unsigned high = __double2hiint(mine), top = __reduce_max_sync(Block::lanes(), high);
        const unsigned low = __reduce_max_sync(Block::lanes(), high == top ? unsigned(most) : 0);
        return __double_as_longlong(__hiloint2double(top, low));
#else
        return Block::gather<Block::width>(most, join);
#endif
    }
    QP_FN long long& own() { return most; }
};

struct Sum {
    double sum = 0;
    QP_FN static double join(double a, double b) { return a + b; }
    QP_FN void add(Pack v) { sum += v; }
    QP_FN double total() const { return sum; }
    QP_TOTAL double value(Block block);
    template <int among>
    QP_FN double gathered() const {
        return Block::gather<among>(sum, join);
    }
    QP_FN double total_of_lanes() const {
#ifdef QP_TENSOR
        double of_lanes[2] = {}, of_all[2] = {};
        add_quarter(of_lanes[0], of_lanes[1], 1, sum);
        add_quarter(of_all[0], of_all[1], of_lanes[0] + of_lanes[1], 1);
        return of_all[0];
#else
        return Block::gather<Block::width>(sum, join);
#endif
    }
    QP_FN double& own() { return sum; }
};

struct Any {
    long long any = 0;
    QP_FN static long long join(long long a, long long b) { return a | b; }
    QP_FN void add(Mask m) { any |= m; }
    QP_FN bool total() const { return any != 0; }
    QP_TOTAL bool value(Block block);
    QP_FN long long total_of_lanes() const { return __ballot_sync(Block::lanes(), any != 0); }
    QP_FN long long& own() { return any; }
};

constexpr int MOST_TOTALS = 13;  // at once

using Parts = double[MOST_TOTALS][Block::warps];
QP_FN Parts& parts_of_totals() {
    static __shared__ Parts parts;
    return parts;
}

template <class... Total>
QP_FN void gather(Block block, Total&... totals) {
    static_assert(sizeof...(Total) <= MOST_TOTALS);
    ((totals.own() = totals.total_of_lanes()), ...);
    if constexpr (Block::size > WARP) {
        auto& parts = parts_of_totals();
        int k = 0;
        const auto of_warps = [&](auto& total) { return reinterpret_cast<decltype(&total.own())>(parts[k++]); };
        const auto join = [&](auto& total) {
            const auto* of = of_warps(total);
            total.own() = of[0];
            for (int warp = 1; warp < Block::warps; warp++) total.own() = total.join(total.own(), of[warp]);
        };
        if (block.rank % WARP == 0) ((of_warps(totals)[block.rank / WARP] = totals.own()), ...);
        block.sync();
        k = 0;
        (join(totals), ...);
        block.sync();
    }
}

template <class Total>
QP_FN Total gathered(Block block, Total total) {
    gather(block, total);
    return total;
}
QP_TOTAL double Most::value(Block block) { return qplayer::gathered(block, *this).total(); }
QP_TOTAL double Sum::value(Block block) { return qplayer::gathered(block, *this).total(); }
QP_TOTAL bool Any::value(Block block) { return qplayer::gathered(block, *this).total(); }
QP_FN double Block::sum(double v) const { return Sum{v}.value(*this); }
QP_FN bool Block::any(bool v) const { return Any{v}.value(*this); }

// Calls done(i, total of at(i, j) over j) for each row i: in one of its team, which has the row to itself.
template <class Total, class At, class Done>
QP_FN void each_row(Block block, int count, int np, At at, Done done) {
    const int member = block.rank % TEAM;
    QP_ROLLED for (int first = 0; first < count; first += block.size / TEAM) {
        const int i = first + block.rank / TEAM;
        Total total;
        if (i < count)
            QP_AHEAD(Block::width / TEAM) for (int j = member; j < np; j += TEAM) total.add(at(i, j));
        const double value = total.template gathered<TEAM>();
        if (i < count && member == 0) done(i, value);
    }
}

// Lists those i < count that are to be kept, in their order; how many these are. One warp does it.
template <class Keep>
QP_FN int list_those(Block block, int count, int* list, Keep keep) {
    int found = 0;
    if (Block::size <= WARP || block.rank < WARP) {
        QP_ROLLED for (int first = 0; first < count; first += Block::width) {
            const int i = first + block.rank;
            const bool kept = i < count && keep(i);
            const unsigned those = __ballot_sync(Block::lanes(), kept) >> Block::first_lane();
            if (kept) list[found + __popc(those & ((1u << block.rank) - 1))] = i;
            found += __popc(those);
        }
    }
    if constexpr (Block::size > WARP) {
        static __shared__ int told;
        if (block.rank == 0) told = found;
        block.sync();
        found = told;
    }
    block.sync();
    return found;
}

}  // namespace qplayer
