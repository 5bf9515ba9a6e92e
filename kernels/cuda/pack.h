// What one thread handles at once, and how the threads of a block work together.
//
// A block solves one problem. On the host it is one thread, and a Pack is a vector of LANES numbers; a GPU build gives
// the same names other bodies: a Pack is one number, a barrier waits, and reductions go through shared memory. All
// else is written as loops over packs (QP_EACH) with block.sync() between loops of which one needs the other's results.
// Vectors are padded to whole packs, with numbers that change nothing.
#pragma once

#include <math.h>
#include <stdint.h>

#define QP_FN inline __attribute__((always_inline))
#define QP_EACH(i, count) for (int i = block.rank * LANES; i < (count); i += block.size * LANES)

namespace qplayer {

constexpr int LANES = 8;

template <class F>
struct PackOf {
    typedef F type __attribute__((vector_size(LANES * sizeof(F)), may_alias));
};
using Pack = PackOf<double>::type;
using Mask = decltype(Pack{} < Pack{});

struct Block {
    static constexpr int rank = 0, size = 1;
    QP_FN void sync() const {}
};

QP_FN int padded(int count) { return (count + LANES - 1) / LANES * LANES; }

QP_FN Pack load(const double* p) { return *reinterpret_cast<const Pack*>(p); }
QP_FN void store(double* p, Pack v) { *reinterpret_cast<Pack*>(p) = v; }
QP_FN Pack all(double v) { return Pack{} + v; }
QP_FN Pack pick(Mask where, Pack yes, Pack no) { return where ? yes : no; }
QP_FN Pack clamp(Pack v, Pack lo, Pack hi) {  // NaN stays NaN
    Pack t = lo > v ? lo : v;
    return hi < t ? hi : t;
}
QP_FN Pack magnitude(Pack v) { return (Pack)((Mask)v & INT64_MAX); }

#if defined(__clang__) || __GNUC__ >= 12
#define QP_SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define QP_SHUFFLE(a, b, ...) __builtin_shuffle(a, b, Mask{__VA_ARGS__})
#endif

// Lane r of the result is the sum of the lanes of v[r].
QP_FN Pack fold(const Pack (&v)[LANES]) {
    Pack pair[4], four[2];
    for (int r = 0; r < 4; r++)
        pair[r] = QP_SHUFFLE(v[2 * r], v[2 * r + 1], 0, 8, 2, 10, 4, 12, 6, 14) +
                  QP_SHUFFLE(v[2 * r], v[2 * r + 1], 1, 9, 3, 11, 5, 13, 7, 15);
    for (int r = 0; r < 2; r++)
        four[r] = QP_SHUFFLE(pair[2 * r], pair[2 * r + 1], 0, 1, 8, 9, 4, 5, 12, 13) +
                  QP_SHUFFLE(pair[2 * r], pair[2 * r + 1], 2, 3, 10, 11, 6, 7, 14, 15);
    return QP_SHUFFLE(four[0], four[1], 0, 1, 2, 3, 8, 9, 10, 11) +
           QP_SHUFFLE(four[0], four[1], 4, 5, 6, 7, 12, 13, 14, 15);
}

// The largest magnitude, NaN if any is NaN: as integers, magnitudes are ordered and NaN is above all.
struct Most {
    Mask most{};
    QP_FN void add(Pack v) {
        Mask bits = (Mask)v & INT64_MAX;
        most = bits > most ? bits : most;
    }
    QP_FN double value(Block) const {
        Mask m = most, other = QP_SHUFFLE(m, m, 4, 5, 6, 7, 0, 1, 2, 3);
        m = m > other ? m : other;
        other = QP_SHUFFLE(m, m, 2, 3, 0, 1, 6, 7, 4, 5);
        m = m > other ? m : other;
        other = QP_SHUFFLE(m, m, 1, 0, 3, 2, 5, 4, 7, 6);
        m = m > other ? m : other;
        return ((Pack)m)[0];
    }
};

struct Sum {
    Pack sum{};
    QP_FN void add(Pack v) { sum += v; }
    QP_FN double value(Block) const {
        Pack s = sum + QP_SHUFFLE(sum, sum, 4, 5, 6, 7, 0, 1, 2, 3);
        s += QP_SHUFFLE(s, s, 2, 3, 0, 1, 6, 7, 4, 5);
        return s[0] + s[1];
    }
};

struct Any {
    Mask any{};
    QP_FN void add(Mask m) { any |= m; }
    QP_FN bool value(Block) const {
        int64_t bits = 0;
        for (int lane = 0; lane < LANES; lane++) bits |= any[lane];
        return bits != 0;
    }
};

template <class At>
QP_FN double largest(Block block, int count, At at) {
    Most most;
    QP_EACH(i, count) most.add(at(i));
    return most.value(block);
}

template <class At>
QP_FN bool any(Block block, int count, At at) {
    Any found;
    QP_EACH(i, count) found.add(at(i));
    return found.value(block);
}

}  // namespace qplayer
