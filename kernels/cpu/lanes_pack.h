// What each lane has a number of, or decides. Decisions are the bits of a mask register where there are such, else of lanes.
#pragma once

#include "../cuda/pack.h"
#ifdef __AVX512F__
#include <immintrin.h>
#endif

namespace qplayer::lanes {

// Not those of ../cuda/pack_host.h, which may alias pointers: each store would have them loaded anew.
typedef double Vector __attribute__((vector_size(LANES * sizeof(double))));
using Integers = decltype(Vector{} < Vector{});

struct Pack {
    Vector v;
    Pack() = default;
    QP_FN Pack(Vector of) : v(of) {}
    QP_FN Pack(double of) : Pack(of, Lanes()) {}
    QP_FN double operator[](int lane) const { return v[lane]; }

  private:
    template <int... L>
    QP_FN Pack(double of, std::integer_sequence<int, L...>) : v{(void(L), of)...} {}
};

QP_FN Pack operator-(Pack a) { return -a.v; }
QP_FN Pack operator+(Pack a, Pack b) { return a.v + b.v; }
QP_FN Pack operator-(Pack a, Pack b) { return a.v - b.v; }
QP_FN Pack operator*(Pack a, Pack b) { return a.v * b.v; }
QP_FN Pack operator/(Pack a, Pack b) { return a.v / b.v; }
QP_FN Pack& operator+=(Pack& a, Pack b) { return a = a + b; }
QP_FN Pack& operator-=(Pack& a, Pack b) { return a = a - b; }
QP_FN Pack& operator*=(Pack& a, Pack b) { return a = a * b; }
QP_FN Pack& operator/=(Pack& a, Pack b) { return a = a / b; }

struct Mask {
#ifdef __AVX512F__
    __mmask8 bits;
    QP_FN bool operator[](int lane) const { return bits >> lane & 1; }
    QP_FN void set(int lane, bool to) { bits = (bits & ~(1 << lane)) | to << lane; }
    QP_FN int count() const { return __builtin_popcount(bits); }
#else
    Integers bits;
    QP_FN bool operator[](int lane) const { return bits[lane] != 0; }
    QP_FN void set(int lane, bool to) { bits[lane] = -int64_t(to); }
    QP_FN int count() const {
        int64_t sum = 0;
        for (int lane = 0; lane < LANES; lane++) sum -= bits[lane];
        return int(sum);
    }
#endif
};

#ifdef __AVX512F__
QP_FN Mask mask(int bits) { return {__mmask8(bits)}; }
QP_FN Mask operator~(Mask a) { return mask(~a.bits & 255); }
QP_FN bool any(Mask a) { return a.bits != 0; }
QP_FN Pack pick(Mask where, Pack yes, Pack no) { return Vector(_mm512_mask_blend_pd(where.bits, no.v, yes.v)); }
#define QP_COMPARISON(op, code) \
    QP_FN Mask operator op(Pack a, Pack b) { return mask(_mm512_cmp_pd_mask(a.v, b.v, code)); }
#else
QP_FN Mask mask(Integers bits) { return {bits}; }
QP_FN Mask operator~(Mask a) { return mask(~a.bits); }
QP_FN bool any(Mask a) {
    int64_t found = 0;
    for (int lane = 0; lane < LANES; lane++) found |= a.bits[lane];
    return found != 0;
}
QP_FN Pack pick(Mask where, Pack yes, Pack no) { return where.bits ? yes.v : no.v; }
#define QP_COMPARISON(op, code) \
    QP_FN Mask operator op(Pack a, Pack b) { return mask(a.v op b.v); }
#endif
QP_COMPARISON(<, _CMP_LT_OQ)
QP_COMPARISON(<=, _CMP_LE_OQ)
QP_COMPARISON(>, _CMP_GT_OQ)
QP_COMPARISON(>=, _CMP_GE_OQ)
QP_COMPARISON(==, _CMP_EQ_OQ)
QP_COMPARISON(!=, _CMP_NEQ_UQ)
#undef QP_COMPARISON

QP_FN Mask operator&(Mask a, Mask b) { return mask(a.bits & b.bits); }
QP_FN Mask operator|(Mask a, Mask b) { return mask(a.bits | b.bits); }
QP_FN Mask operator^(Mask a, Mask b) { return mask(a.bits ^ b.bits); }
QP_FN Mask& operator&=(Mask& a, Mask b) { return a = a & b; }
QP_FN Mask& operator|=(Mask& a, Mask b) { return a = a | b; }
QP_FN Mask every() { return ~Mask{}; }

QP_FN Pack larger(Pack a, Pack b) { return a.v > b.v ? a.v : b.v; }
QP_FN Pack smaller(Pack a, Pack b) { return a.v < b.v ? a.v : b.v; }
QP_FN Pack clamp(Pack v, Pack low, Pack high) { return smaller(high, larger(low, v)); }  // NaN stays NaN
QP_FN Pack magnitude(Pack a) { return Vector((Integers)a.v & INT64_MAX); }
// The larger of magnitudes, NaN if any is NaN: as integers, magnitudes are ordered and NaN is above all.
QP_FN Pack most(Pack a, Pack b) {
    const Integers m = (Integers)a.v, n = (Integers)b.v;
    return Vector(m > n ? m : n);
}
QP_FN Mask is_finite(Pack a) { return a - a == 0.0; }

// As many numbers as there are, and zeros.
QP_FN qplayer::Pack load_some(const double* from, int count) {
#ifdef __AVX512F__
    return _mm512_maskz_loadu_pd(uint8_t((1 << count) - 1), from);
#else
    qplayer::Pack some{};
    for (int lane = 0; lane < LANES; lane++)
        if (lane < count) some[lane] = from[lane];
    return some;
#endif
}

QP_FN Pack inverse_root(Pack size) {  // 1 for 0
#ifdef __AVX512F__
    Pack root = Vector(_mm512_rsqrt14_pd(size.v));
    for (int pass = 0; pass < 2; pass++) root += root * (0.5 - 0.5 * size * root * root);  // Newton
#else
    Pack root;
    for (int lane = 0; lane < LANES; lane++) root.v[lane] = sqrt(size.v[lane]);
    root = 1.0 / root;
#endif
    return pick(size > 0.0, root, 1.0);
}

// Numbers of one pack for some lanes of another.
class Move {
    Mask where{};
    int from[LANES];

  public:
    // To lane `to`, which has been given none yet.
    void add(int to, int of) { where.set(to, true), from[to] = of; }

    QP_FN void operator()(Mask& to, Mask of) const {
        for (int lane = 0; lane < LANES; lane++)
            if (where[lane]) to.set(lane, of[from[lane]]);
    }

    // All packs of a structure.
    template <class Packs>
    QP_FN void operator()(Packs& to, const Packs& of) const {
        constexpr int count = sizeof(Packs) / sizeof(Pack);
        Pack* const t = reinterpret_cast<Pack*>(&to);
        const Pack* const o = reinterpret_cast<const Pack*>(&of);
#ifdef __AVX512F__
        const __m512i lanes = _mm512_cvtepi32_epi64(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)));
        for (int i = 0; i < count; i++) t[i] = Vector(_mm512_mask_permutexvar_pd(t[i].v, where.bits, lanes, o[i].v));
#else
        for (int i = 0; i < count; i++)
            for (int lane = 0; lane < LANES; lane++)
                if (where[lane]) t[i].v[lane] = o[i].v[from[lane]];
#endif
    }
};

constexpr double INF = INFINITY;

}  // namespace qplayer::lanes
