// Packs and blocks on the host: one thread, and vectors of LANES numbers.
#pragma once

#include <string.h>

#include <utility>

#include "words.h"

namespace qplayer {

#if defined(__AVX512F__)
constexpr int LANES = 8;
#elif defined(__AVX__)
constexpr int LANES = 4;
#else
constexpr int LANES = 2;
#endif

template <class F>
struct PackOf {
    typedef F type __attribute__((vector_size(LANES * sizeof(F)), may_alias));
};
using Pack = PackOf<double>::type;
using Mask = decltype(Pack{} < Pack{});

struct Block {
    static constexpr int rank = 0, size = 1;
    QP_FN void sync() const {}
    QP_FN double sum(double v) const { return v; }
    QP_FN bool any(bool v) const { return v; }
};

QP_FN Pack load(const double* p) { return *reinterpret_cast<const Pack*>(p); }
QP_FN Pack load_anywhere(const double* p) {
    Pack v;
    memcpy(&v, p, sizeof v);
    return v;
}
QP_FN void store(double* p, Pack v) { *reinterpret_cast<Pack*>(p) = v; }
QP_FN Pack all(double v) { return Pack{} + v; }
QP_FN Pack pick(Mask where, Pack yes, Pack no) { return where ? yes : no; }
QP_FN Mask no(Mask m) { return ~m; }
QP_FN Pack clamp(Pack v, Pack lo, Pack hi) {  // NaN stays NaN
    Pack t = lo > v ? lo : v;
    return hi < t ? hi : t;
}
QP_FN Pack inverse_root(Pack size) {  // 1 for 0
    Pack root;
    for (int lane = 0; lane < LANES; lane++) root[lane] = sqrt(size[lane]);
    return pick(size > 0, 1 / root, all(1));
}
QP_FN Pack magnitude(Pack v) { return (Pack)((Mask)v & INT64_MAX); }

// Numbers from a and b, lane by lane: those of b count on from LANES.
#ifdef __clang__
#define QP_SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define QP_SHUFFLE(a, b, ...) __builtin_shuffle(a, b, decltype(a < a){__VA_ARGS__})
#endif

using Lanes = std::make_integer_sequence<int, LANES>;

template <int D, class V, int... L>
QP_FN V swap(V v, std::integer_sequence<int, L...>) {
    return QP_SHUFFLE(v, v, (L ^ D)...);
}

// Of lanes at distance D, those where bit D of the lane is 0, first a's and then b's; and those where it is 1.
template <int D, class V, int... L>
QP_FN V first_of_pairs(V a, V b, std::integer_sequence<int, L...>) {
    return QP_SHUFFLE(a, b, (L & D ? LANES + (L ^ D) : L)...);
}

template <int D, class V, int... L>
QP_FN V second_of_pairs(V a, V b, std::integer_sequence<int, L...>) {
    return QP_SHUFFLE(a, b, (L & D ? LANES + L : L ^ D)...);
}

struct Plus {
    template <class V>
    QP_FN V operator()(V a, V b) const {
        return a + b;
    }
};

// Lane r of the result is the sum of the lanes of v[r], or what else they are put together by.
template <int D = 1, class V, class By = Plus>
QP_FN V fold(const V (&v)[LANES / D], By by = {}) {
    if constexpr (D == LANES) {
        return v[0];
    } else {
        V half[LANES / D / 2];
        for (int r = 0; r < LANES / D / 2; r++)
            half[r] = by(first_of_pairs<D>(v[2 * r], v[2 * r + 1], Lanes()),
                         second_of_pairs<D>(v[2 * r], v[2 * r + 1], Lanes()));
        return fold<2 * D>(half, by);
    }
}

// Lane l of v[r] becomes lane r of v[l].
template <int D = 1>
QP_FN void transpose(Pack (&v)[LANES]) {
    for (int r = 0; r < LANES; r++) {
        if (r & D) continue;
        const Pack a = v[r], b = v[r + D];
        v[r] = first_of_pairs<D>(a, b, Lanes()), v[r + D] = second_of_pairs<D>(a, b, Lanes());
    }
    if constexpr (2 * D < LANES) transpose<2 * D>(v);
}

// The symmetric part of H [np, np], in its place.
inline void symmetrize(double* H, int np) {
    Pack upper[LANES], lower[LANES];
    for (int i = 0; i < np; i += LANES)
        for (int j = i; j < np; j += LANES) {
            for (int r = 0; r < LANES; r++) upper[r] = load(H + (i + r) * np + j), lower[r] = load(H + (j + r) * np + i);
            transpose(lower);
            for (int r = 0; r < LANES; r++) store(H + (i + r) * np + j, upper[r] = 0.5 * (upper[r] + lower[r]));
            transpose(upper);
            for (int r = 0; r < LANES; r++) store(H + (j + r) * np + i, upper[r]);
        }
}

// The largest magnitude, NaN if any is NaN: as integers, magnitudes are ordered and NaN is above all.
struct Most {
    Mask most{};
    QP_FN void add(Pack v) {
        Mask bits = (Mask)v & INT64_MAX;
        most = bits > most ? bits : most;
    }
    template <int D = LANES / 2>
    QP_FN static Mask reduce(Mask m) {
        Mask other = swap<D>(m, Lanes());
        m = m > other ? m : other;
        if constexpr (D > 1) m = reduce<D / 2>(m);
        return m;
    }
    QP_FN double total() const { return ((Pack)reduce(most))[0]; }
    QP_FN double value(Block) const { return total(); }
    QP_FN static Pack values(const Most (&of)[LANES]) {
        Mask v[LANES];
        for (int r = 0; r < LANES; r++) v[r] = of[r].most;
        return (Pack)fold(v, [](Mask a, Mask b) { return a > b ? a : b; });
    }
};

struct Sum {
    Pack sum{};
    QP_FN void add(Pack v) { sum += v; }
    template <int D = LANES / 2>
    QP_FN static Pack reduce(Pack s) {
        s += swap<D>(s, Lanes());
        if constexpr (D > 1) s = reduce<D / 2>(s);
        return s;
    }
    QP_FN double total() const { return reduce(sum)[0]; }
    QP_FN double value(Block) const { return total(); }
};

struct Any {
    Mask any{};
    QP_FN void add(Mask m) { any |= m; }
    QP_FN bool total() const {
        int64_t bits = 0;
        for (int lane = 0; lane < LANES; lane++) bits |= any[lane];
        return bits != 0;
    }
    QP_FN bool value(Block) const { return total(); }
};

// Nothing: a block is one thread.
template <class... Total>
QP_FN void gather(Block, Total&...) {}

// Calls done(i, total of at(i, j) over j) for each row i; the rows that fill the last pack are looked at too.
template <class Total, class At, class Done>
QP_FN void each_row(Block, int count, int np, At at, Done done) {
    for (int i = 0; i < count; i += LANES) {
        Total totals[LANES];
        for (int j = 0; j < np; j += LANES)
            for (int r = 0; r < LANES; r++) totals[r].add(at(i + r, j));
        const Pack values = Total::values(totals);
        for (int r = 0; r < LANES && i + r < count; r++) done(i + r, values[r]);
    }
}

// Lists those i < count that are to be kept, in their order; how many these are.
template <class Keep>
QP_FN int list_those(Block, int count, int* list, Keep keep) {
    int found = 0;
    for (int i = 0; i < count; i++) {
        list[found] = i;
        found += keep(i);
    }
    return found;
}

}  // namespace qplayer
