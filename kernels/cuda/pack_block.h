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

    // The total over the block, the same bits in every thread.
    template <class T, class Add>
    QP_FN T total(T v, Add add) const {
        v = gather<width>(v, add);
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
    int found = 0;
    if (block.rank < WARP) {
        for (int first = 0; first < count; first += Block::width) {
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
