// Packs and blocks on a GPU: QP_THREADS threads, each with one number at a time.
#pragma once

#include "words.h"

namespace qplayer {

constexpr int LANES = 1;
constexpr int WARP = 32;
constexpr int TEAM = 8;  // threads that share a row of a matrix
constexpr unsigned ALL = 0xffffffff;

template <class F>
struct PackOf {
    using type = F;
};
using Pack = double;
using Mask = bool;

struct Block {
    int rank;  // of this thread
    static constexpr int size = QP_THREADS, warps = QP_THREADS / WARP;

    // All threads wait for each other, and see what they have written.
    QP_FN void sync() const {
        if constexpr (size == WARP)
            __syncwarp();
        else
            __syncthreads();
    }

    // The total over `among` neighbouring threads of a warp, the same bits in each of them.
    template <int among, class T, class Add>
    QP_FN static T gather(T v, Add add) {
        for (int distance = among / 2; distance > 0; distance /= 2) v = add(v, __shfl_xor_sync(ALL, v, distance));
        return v;
    }

    // The total over the block, the same bits in every thread.
    template <class T, class Add>
    QP_FN T total(T v, Add add) const {
        v = gather<WARP>(v, add);
        if constexpr (size > WARP) {
            static __shared__ T parts[warps];
            if (rank % WARP == 0) parts[rank / WARP] = v;
            sync();
            v = parts[0];
            for (int warp = 1; warp < warps; warp++) v = add(v, parts[warp]);
            sync();
        }
        return v;
    }

    QP_FN double sum(double v) const {
        return total(v, [](double a, double b) { return a + b; });
    }
    QP_FN bool any(bool v) const {
        return total(int(v), [](int a, int b) { return a | b; }) != 0;
    }
};

QP_FN Pack load(const double* p) { return *p; }
QP_FN void store(double* p, Pack v) { *p = v; }
QP_FN Pack all(double v) { return v; }
QP_FN Pack pick(Mask where, Pack yes, Pack no) { return where ? yes : no; }
QP_FN Mask no(Mask m) { return !m; }
QP_FN Pack clamp(Pack v, Pack lo, Pack hi) {  // NaN stays NaN
    Pack t = lo > v ? lo : v;
    return hi < t ? hi : t;
}
QP_FN Pack magnitude(Pack v) { return fabs(v); }
QP_FN Pack fold(const Pack (&v)[1]) { return v[0]; }

// The largest magnitude, NaN if any is NaN: as integers, magnitudes are ordered and NaN is above all.
struct Most {
    long long most = 0;
    QP_FN static long long larger(long long a, long long b) { return a > b ? a : b; }
    QP_FN void add(Pack v) { most = larger(most, __double_as_longlong(fabs(v))); }
    template <int among>
    QP_FN double gathered() const {
        return __longlong_as_double(Block::gather<among>(most, larger));
    }
    QP_FN double value(Block block) const { return __longlong_as_double(block.total(most, larger)); }
};

struct Sum {
    double sum = 0;
    QP_FN static double plus(double a, double b) { return a + b; }
    QP_FN void add(Pack v) { sum += v; }
    template <int among>
    QP_FN double gathered() const {
        return Block::gather<among>(sum, plus);
    }
    QP_FN double value(Block block) const { return block.sum(sum); }
};

struct Any {
    bool any = false;
    QP_FN void add(Mask m) { any |= m; }
    QP_FN bool value(Block block) const { return block.any(any); }
};

// Calls done(i, total of at(i, j) over j) for each row i: in one of its team, which has the row to itself.
template <class Total, class At, class Done>
QP_FN void each_row(Block block, int count, int np, At at, Done done) {
    const int member = block.rank % TEAM;
    for (int first = 0; first < count; first += block.size / TEAM) {
        const int i = first + block.rank / TEAM;
        Total total;
        if (i < count)
            for (int j = member; j < np; j += TEAM) total.add(at(i, j));
        const double value = total.template gathered<TEAM>();
        if (i < count && member == 0) done(i, value);
    }
}

// Lists those i < count that are to be kept, in their order; how many these are. One warp does it.
template <class Keep>
QP_FN int list_those(Block block, int count, int* list, Keep keep) {
    static __shared__ int found;
    if (block.rank < WARP) {
        int before = 0;
        for (int first = 0; first < count; first += WARP) {
            const int i = first + block.rank;
            const bool kept = i < count && keep(i);
            const unsigned those = __ballot_sync(ALL, kept);
            if (kept) list[before + __popc(those & ((1u << block.rank) - 1))] = i;
            before += __popc(those);
        }
        if (block.rank == 0) found = before;
    }
    block.sync();
    const int count_found = found;
    block.sync();
    return count_found;
}

}  // namespace qplayer
