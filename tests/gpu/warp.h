// The instructions in which lanes of a warp take part together.
#pragma once

#include <initializer_list>

#include "instructions.h"

namespace gpu {

// Calls done(lane) for each of the lanes.
template <class Done>
PTX void each_lane(Thread* warp, u32 lanes, Done done) {
    for (int lane = 0; lane < WARP; lane++)
        if (lanes >> lane & 1) done(warp[lane]);
}

inline void synchronize(Thread& t, u32 mask, u32 site) {
    if (!is_removed(site)) meet(t, synchronize_lanes, mask, site);
}

// ---- shuffles: the lane that is asked, by mode, and whether it is in reach

enum class Shuffle { UP, DOWN, BFLY, IDX };

template <Shuffle mode>
bool asked_lane(int lane, u32 by, u32 limits, int& asked) {
    const int limit = limits & 31, segment = limits >> 8 & 31, least = lane & segment, most = least | (limit & ~segment);
    by &= 31;
    asked = mode == Shuffle::UP ? lane - int(by) : mode == Shuffle::DOWN ? lane + int(by)
          : mode == Shuffle::BFLY ? lane ^ int(by) : least | (int(by) & ~segment);
    const bool in_reach = mode == Shuffle::UP ? asked >= most : asked <= most;
    if (!in_reach) asked = lane;
    return in_reach;
}

template <Shuffle mode>
void exchange(Thread* warp, u32 lanes) {
    each_lane(warp, lanes, [&](Thread& t) {
        int asked;
        t.takes[1] = asked_lane<mode>(t.lane, u32(t.brings[1]), u32(t.brings[2]), asked);
        if (!(lanes >> asked & 1)) report({Kind::LANE_OUTSIDE_MASK, t.site, 0, t.number(), warp[asked].number(), 0, 0});
        t.takes[0] = warp[asked].brings[0];
    });
}

template <Shuffle mode>
u32 shuffled(Thread& t, u32 v, u32 by, u32 limits, u32 mask, u32 site) {
    t.brings[0] = v, t.brings[1] = by, t.brings[2] = limits;
    meet(t, exchange<mode>, mask, site);
    return u32(t.takes[0]);
}

// ---- votes and reductions: one result for all lanes

template <class Total>
PTX void share(Thread* warp, u32 lanes, Total total) {
    u64 result = 0;
    bool first = true;
    each_lane(warp, lanes, [&](Thread& t) {
        result = first ? total.begin(t) : total.add(result, t);
        first = false;
    });
    each_lane(warp, lanes, [&](Thread& t) { t.takes[0] = result; });
}

struct Ballot {
    static u64 begin(const Thread& t) { return t.brings[0] << t.lane; }
    static u64 add(u64 total, const Thread& t) { return total | begin(t); }
};
struct AnyVote {
    static u64 begin(const Thread& t) { return t.brings[0]; }
    static u64 add(u64 total, const Thread& t) { return total | t.brings[0]; }
};
struct AllVote {
    static u64 begin(const Thread& t) { return t.brings[0]; }
    static u64 add(u64 total, const Thread& t) { return total & t.brings[0]; }
};
template <class T, T combined(T, T)>
struct Reduction {
    static u64 begin(const Thread& t) { return t.brings[0]; }
    static u64 add(u64 total, const Thread& t) { return u32(combined(T(total), T(t.brings[0]))); }
};

template <class Total>
u32 together(Thread& t, u32 v, u32 mask, u32 site) {
    t.brings[0] = v;
    meet(t, [](Thread* warp, u32 lanes) { share(warp, lanes, Total{}); }, mask, site);
    return u32(t.takes[0]);
}

// ---- products of matrices in double precision: D = A B + C, A [M, K] by rows, B [K, 8] by columns
//
// Lane 4 g + q has of A the entries (g + 8 (i mod M/8), q + 4 (i div M/8)), of B (q + 4 i, g), and of C and D
// (g + 8 (i div 2), 2 q + i mod 2). The sums are rounded at each term, in the order of K.

template <int M, int K>
void multiply(Thread* warp, u32) {
    constexpr int N = 8, OF_A = M * K / WARP, OF_B = K * N / WARP, OF_C = M * N / WARP;
    f64 A[M][K], B[K][N];
    for (int lane = 0; lane < WARP; lane++) {
        const u64* brings = warp[lane].brings;
        const int g = lane / 4, q = lane % 4;
        for (int i = 0; i < OF_A; i++) A[g + 8 * (i % (M / 8))][q + 4 * (i / (M / 8))] = bits<f64>(brings[i]);
        for (int i = 0; i < OF_B; i++) B[q + 4 * i][g] = bits<f64>(brings[OF_A + i]);
    }
    for (int lane = 0; lane < WARP; lane++)
        for (int i = 0; i < OF_C; i++) {
            const int row = lane / 4 + 8 * (i / 2), column = lane % 4 * 2 + i % 2;
            f64 sum = bits<f64>(warp[lane].brings[OF_A + OF_B + i]);
            for (int k = 0; k < K; k++) sum = std::fma(A[row][k], B[k][column], sum);
            warp[lane].takes[i] = bits<u64>(sum);
        }
}

// The entries of A, B and C are one list.
template <int M, int K, class... D>
void mma(Thread& t, u32 site, std::initializer_list<u64> entries, D&... d) {
    u64* brings = t.brings;
    for (u64 entry : entries) *brings++ = entry;
    meet(t, multiply<M, K>, 0xffffffff, site);
    const u64* takes = t.takes;
    ((d = *takes++), ...);
}

// ---- matrices of 8 x 8 halves between registers and shared memory
//
// Lane 8 i + r brings the address of row r of matrix i, and lane l has two entries of row l / 4, from 2 (l mod 4) on.

inline void address_rows(Thread* warp, u32) {
    for (int lane = 0; lane < WARP; lane++)
        for (int i = 0; i < 4; i++) warp[lane].takes[i] = warp[8 * i + lane / 4].brings[0] + 4 * (lane % 4);
}

inline const u64* rows_of_matrices(Thread& t, u64 address, u32 site) {
    t.brings[0] = address;
    meet(t, address_rows, 0xffffffff, site);
    return t.takes;
}

template <class... R>
void store_matrices(Thread& t, u64 address, u32 site, R... r) {
    const u64* at = rows_of_matrices(t, address, site);
    (store<b32>(t, *at++, site, r), ...);
}

template <class... R>
void load_matrices(Thread& t, u64 address, u32 site, R&... r) {
    const u64* at = rows_of_matrices(t, address, site);
    (load<b32>(t, *at++, site, r), ...);
}

}  // namespace gpu
