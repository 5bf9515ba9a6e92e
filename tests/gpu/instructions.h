// What the instructions of PTX do to registers and memory, by their names; translate.py writes calls of these.
//
// A register is an unsigned integer of its size, a predicate a bool. get<T> reads one as a T, put<T> writes one.
// Approximate instructions have stand-ins, as the machine's own results are not published bit by bit: the exact result in
// single precision (the machine's is within 1 or 2 units in the last place), and for rcp.approx.ftz.f64 and
// rsqrt.approx.ftz.f64, with which divisions and roots begin, the exact result with its lower 32 bits cleared (the
// machine's has as many bits).
#pragma once

#include <cmath>
#include <cstring>
#include <limits>
#include <type_traits>

#include "memory.h"

#define PTX [[gnu::always_inline]] inline

namespace gpu {

using pred = bool;
using b8 = uint8_t;
using b16 = uint16_t;
using b32 = uint32_t;
using b64 = uint64_t;
using u8 = uint8_t;
using u16 = uint16_t;
using u32 = uint32_t;
using u64 = uint64_t;
using s8 = int8_t;
using s16 = int16_t;
using s32 = int32_t;
using s64 = int64_t;
using f32 = float;
using f64 = double;
struct f32z;  // f32 whose denormal operands and results are flushed to zero (.ftz)

template <size_t size>
using Unsigned = std::conditional_t<size == 1, u8, std::conditional_t<size == 2, u16, std::conditional_t<size == 4, u32, u64>>>;

template <class T>
using Number = std::conditional_t<std::is_same_v<T, f32z>, f32, T>;

template <class To, class From>
PTX To bits(From v) {
    static_assert(sizeof(To) == sizeof(From));
    To to;
    memcpy(&to, &v, sizeof to);
    return to;
}

PTX f32 flushed(f32 v) { return std::fabs(v) < std::numeric_limits<f32>::min() ? std::copysign(0.0f, v) : v; }

template <class T, class R>
PTX Number<T> get(R r) {
    using N = Number<T>;
    if constexpr (std::is_same_v<T, f32z>)
        return flushed(bits<f32>(u32(r)));
    else if constexpr (std::is_floating_point_v<N>)
        return bits<N>(Unsigned<sizeof(N)>(r));
    else
        return N(r);
}

template <class T, class R>
PTX void put(R& r, Number<T> v) {
    if constexpr (std::is_same_v<T, f32z>)
        r = R(bits<u32>(flushed(v)));
    else if constexpr (std::is_floating_point_v<T>)
        r = R(bits<Unsigned<sizeof(T)>>(v));
    else
        r = R(v);  // with the sign, where T has one and r is wider
}

struct Nowhere {  // the register _
    Nowhere() = default;
    template <class V>
    explicit Nowhere(V) {}
};

// ---- arithmetic; integers wrap around

template <class T>
using Wrapping = std::conditional_t<std::is_floating_point_v<T>, T, std::make_unsigned_t<std::conditional_t<std::is_floating_point_v<T>, int, T>>>;

#define WRAPPING(name, sign) \
    template <class T> \
    PTX T name(T a, T b) { return T(Wrapping<T>(a) sign Wrapping<T>(b)); }
WRAPPING(add, +)
WRAPPING(sub, -)
WRAPPING(mul, *)
#undef WRAPPING

template <class T>
PTX T div(T a, T b) {
    if constexpr (!std::is_floating_point_v<T>)
        if (!b) return T(-1);
    return a / b;
}
template <class T>
PTX T rem(T a, T b) { return b ? T(a % b) : a; }
template <class T>
PTX T fma(T a, T b, T c) { return std::fma(a, b, c); }
template <class T>
PTX T mad(T a, T b, T c) { return add(mul(a, b), c); }
template <class T>
PTX T neg(T a) {
    if constexpr (std::is_floating_point_v<T>) return -a;
    else return sub(T(0), a);
}
template <class T>
PTX T abs(T a) {
    if constexpr (std::is_floating_point_v<T>) return std::fabs(a);
    else return a < 0 ? neg(a) : a;
}
template <class T>
PTX T min(T a, T b) {
    if constexpr (std::is_floating_point_v<T>) return std::fmin(a, b);
    else return a < b ? a : b;
}
template <class T>
PTX T max(T a, T b) {
    if constexpr (std::is_floating_point_v<T>) return std::fmax(a, b);
    else return a > b ? a : b;
}
template <class T>
PTX T copysign(T sign, T size) { return std::copysign(size, sign); }
template <class T>
PTX T sqrt(T a) { return std::sqrt(a); }
template <class T>
PTX T rcp(T a) { return 1 / a; }

template <class T>
using Wide = std::conditional_t<std::is_signed_v<T>, std::conditional_t<sizeof(T) == 2, s32, s64>, std::conditional_t<sizeof(T) == 2, u32, u64>>;
template <class T>
PTX Wide<T> mul_wide(T a, T b) { return Wide<T>(a) * Wide<T>(b); }
template <class T>
PTX Wide<T> mad_wide(T a, T b, Wide<T> c) { return add(mul_wide(a, b), c); }
template <class T>
PTX T mul_hi(T a, T b) {
    static_assert(sizeof(T) == 4);
    return T(mul_wide(a, b) >> 32);
}

// ---- approximations

PTX f64 upper_half(f64 r) { return std::isfinite(r) ? bits<f64>(bits<u64>(r) & 0xffffffff00000000) : r; }
PTX f64 rcp_approx(f64 a) { return upper_half(1 / a); }
PTX f32 rcp_approx(f32 a) { return 1 / a; }
PTX f64 rsqrt_approx(f64 a) { return upper_half(1 / std::sqrt(a)); }
PTX f32 rsqrt_approx(f32 a) { return 1 / std::sqrt(a); }
PTX f32 sqrt_approx(f32 a) { return std::sqrt(a); }
PTX f32 div_full(f32 a, f32 b) { return a / b; }
PTX f32 ex2_approx(f32 a) { return std::exp2(a); }
PTX f32 lg2_approx(f32 a) { return std::log2(a); }

// ---- bits

template <class T>
PTX T and_(T a, T b) { return T(a & b); }
template <class T>
PTX T or_(T a, T b) { return T(a | b); }
template <class T>
PTX T xor_(T a, T b) { return T(a ^ b); }
template <class T>
PTX T not_(T a) {
    if constexpr (std::is_same_v<T, pred>) return !a;
    else return T(~a);
}
template <class T>
PTX T shl(T a, u32 by) { return by < 8 * sizeof(T) ? T(a << by) : T(0); }
template <class T>
PTX T shr(T a, u32 by) { return by < 8 * sizeof(T) ? T(a >> by) : T(a < 0 ? -1 : 0); }
PTX u32 popc(u32 a) { return __builtin_popcount(a); }
PTX u32 popc(u64 a) { return __builtin_popcountll(a); }
PTX u32 prmt(u32 a, u32 b, u32 selector) {  // of the eight bytes of both, four; those with an 8 only by their sign
    u32 result = 0;
    for (int i = 0; i < 4; i++) {
        const u32 which = selector >> 4 * i & 15;
        const u32 byte = (b64(b) << 32 | a) >> 8 * (which & 7) & 255;
        result |= (which & 8 ? (byte & 128 ? 255 : 0) : byte) << 8 * i;
    }
    return result;
}
template <class T>
PTX T bfe(T a, u32 first, u32 count) {  // the field's highest bit, or that of a, is the sign
    first &= 255, count &= 255;
    if (!count) return 0;
    const u32 size = 8 * sizeof(T), end = first + count < size ? first + count : size;
    if (first >= size) return std::is_signed_v<T> && a < 0 ? T(-1) : T(0);
    return shr(T(Wrapping<T>(a) << (size - end)), size - end + first);
}

template <class T>
PTX T bfi(T a, T b, T first, T count) {  // a's lower bits in place of those of b
    first &= 255, count &= 255;
    const T field = first < 8 * sizeof(T) ? shl(T(shl(T(1), u32(count)) - 1), u32(first)) : T(0);
    return T((b & ~field) | (shl(a, u32(first)) & field));
}

// ---- comparisons: with NaN false, but for those whose names end in u

#define COMPARISON(name, sign) \
    template <class T> \
    PTX pred name(T a, T b) { return a sign b; }
COMPARISON(eq, ==)
COMPARISON(lt, <)
COMPARISON(le, <=)
COMPARISON(gt, >)
COMPARISON(ge, >=)
COMPARISON(lo, <)
COMPARISON(ls, <=)
COMPARISON(hi, >)
COMPARISON(hs, >=)
#undef COMPARISON
template <class T>
PTX pred num(T a, T b) { return a == a && b == b; }
template <class T>
PTX pred nan(T a, T b) { return !num(a, b); }
template <class T>
PTX pred ne(T a, T b) { return num(a, b) && a != b; }
template <class T>
PTX pred equ(T a, T b) { return !ne(a, b); }
template <class T>
PTX pred neu(T a, T b) { return !(a == b); }
template <class T>
PTX pred ltu(T a, T b) { return !(a >= b); }
template <class T>
PTX pred leu(T a, T b) { return !(a > b); }
template <class T>
PTX pred gtu(T a, T b) { return !(a <= b); }
template <class T>
PTX pred geu(T a, T b) { return !(a < b); }

// ---- conversions: between numbers, to an integer by a rounding (NaN to 0, too large to the largest)

template <class To, class From>
PTX Number<To> cvt(From a) { return Number<To>(a); }
template <class To>
PTX Number<To> whole(f64 a) {
    if constexpr (std::is_floating_point_v<Number<To>>)
        return Number<To>(a);
    else
        return a != a ? To(0)
               : a >= f64(std::numeric_limits<To>::max()) ? std::numeric_limits<To>::max()
               : a <= f64(std::numeric_limits<To>::min()) ? std::numeric_limits<To>::min()
                                                           : To(a);
}
template <class To, class From>
PTX Number<To> cvt_rzi(From a) { return whole<To>(std::trunc(a)); }
template <class To, class From>
PTX Number<To> cvt_rni(From a) { return whole<To>(std::nearbyint(a)); }
template <class To, class From>
PTX Number<To> cvt_rmi(From a) { return whole<To>(std::floor(a)); }
template <class To, class From>
PTX Number<To> cvt_rpi(From a) { return whole<To>(std::ceil(a)); }

// ---- memory; local memory and parameters are on the stack of a thread and nobody else's

template <class T, class... R>
PTX void load_own(u64 address, R&... r) {
    T v[sizeof...(R)];
    memcpy(v, reinterpret_cast<const void*>(address), sizeof v);
    const T* next = v;
    ((put<T>(r, *next++)), ...);
}
template <class T, class... R>
PTX void load(Thread& t, u64 address, u32 site, R&... r) {
    const u8* at = accessed(t, address, sizeof(T) * sizeof...(R), Access::READ, site);
    load_own<T>(reinterpret_cast<u64>(at), r...);
}
template <class T, class... R>
PTX void store_own(u64 address, R... r) {
    const T v[] = {get<T>(r)...};
    memcpy(reinterpret_cast<void*>(address), v, sizeof v);
}
template <class T, class... R>
PTX void store(Thread& t, u64 address, u32 site, R... r) {
    const T v[] = {get<T>(r)...};
    memcpy(accessed(t, address, sizeof v, Access::WRITE, site, v), v, sizeof v);
}
template <class T, bool synchronizes, class Update>
PTX T atomic(Thread& t, u64 address, u32 site, Update update) {
    u8* at = accessed(t, address, sizeof(T), Access::ATOMIC, site);
    if (synchronizes) synchronize_blocks(t, address);
    T old;
    memcpy(&old, at, sizeof old);
    const T v = update(old);
    memcpy(at, &v, sizeof v);
    return old;
}

}  // namespace gpu
