// Elementary functions of vectors, accurate to a few units in the last place (tests/runtime/
// test_functions.py holds them to that) at all arguments: NaN, infinities, zeros of both signs
// and, where the processor computes with them, denormal numbers.
//
// Arguments are reduced as in Cody & Waite (1980); the polynomials are minimax fits to what is
// left. The names are those of C's functions, so that one expression is code for both.

#pragma once

#include <cstdint>

#include "vec.h"

namespace gossamer {
namespace {

// f of each lane, where no instruction or polynomial is worth its lines.
template <class F>
inline V by_lane(V v, F f) {
    float lane[W];
    store(lane, v);
    for (int i = 0; i < W; ++i) lane[i] = f(lane[i]);
    return load(lane);
}

inline V fabsf(V v) { return (V)((I)v & 0x7fffffff); }
inline V copysign(V size, V sign) { return (V)(((I)size & 0x7fffffff) | ((I)sign & ~0x7fffffff)); }
inline V sqrtf(V v) {
    return by_lane(v, [](float x) { return __builtin_sqrtf(x); });
}
inline V truncf(V v) {
    return by_lane(v, [](float x) { return __builtin_truncf(x); });
}
inline V floorf(V v) {
    return by_lane(v, [](float x) { return __builtin_floorf(x); });
}
inline V ceilf(V v) {
    return by_lane(v, [](float x) { return __builtin_ceilf(x); });
}
inline V rintf(V v) {
    return by_lane(v, [](float x) { return __builtin_rintf(x); });
}
inline V sinf(V v) {
    return by_lane(v, [](float x) { return __builtin_sinf(x); });
}
inline V cosf(V v) {
    return by_lane(v, [](float x) { return __builtin_cosf(x); });
}
inline V powf(V v, V w) {
    float base[W], exponent[W];
    store(base, v);
    store(exponent, w);
    for (int i = 0; i < W; ++i) base[i] = __builtin_powf(base[i], exponent[i]);
    return load(base);
}

// x to the power of a polynomial's terms, the highest first.
template <class... Terms>
inline V polynomial(V x, float highest, Terms... terms) {
    V sum = splat(highest);
    ((sum = sum * x + splat(terms)), ...);
    return sum;
}

// x = n ln 2 + r, |r| <= ln 2 / 2, for |x| below some thousands.
struct Reduced {
    V n, r;
    I whole;  // n as an integer
};

inline Reduced reduced(V x) {
    constexpr float whole = 12582912.0f;  // 1.5 * 2^23: no room for a fraction
    const V shifted = x * splat(1.44269504f) + splat(whole);
    const V n = shifted - splat(whole);
    const V high = x - n * splat(0.693359375f);  // exact
    return {n, high + n * splat(2.12194440e-4f), (I)shifted - (I)splat(whole)};
}

// e^r - 1 of what `reduced` leaves.
inline V expm1_of_rest(V r) {
    const V q = polynomial(r, 1.39475951e-3f, 8.36724695e-3f, 4.16662656e-2f, 1.66665375e-1f, 0.5f);
    return r + r * r * q;
}

inline V power_of_two(I n) { return (V)((n + 127) << 23); }

inline V expf(V x) {
    const Reduced of = reduced(at_most(at_least(x, splat(-104.0f)), splat(89.0f)));
    const V y = splat(1.0f) + expm1_of_rest(of.r);
#if defined(__AVX512F__)
    return (V)_mm512_scalef_ps((__m512)y, (__m512)of.n);
#else
    // In two steps, neither of which is out of range.
    const I half = of.whole >> 1;
    return y * power_of_two(half) * power_of_two(of.whole - half);
#endif
}

// (e^x - 1) / 2 of what `reduced` leaves; n is its whole number, at most 128.
inline V half_expm1(V r, I n) {
    const V half = power_of_two(n - 1);
    return half * expm1_of_rest(r) + (half - splat(0.5f));
}

// Of -0 it is 0.
inline V expm1f(V x) {
    const Reduced of = reduced(at_most(at_least(x, splat(-30.0f)), splat(89.0f)));
    const V y = half_expm1(of.r, at_most(of.whole, splat_int(128)));
    return y + y;
}

inline V tanhf(V x) {
    const Reduced of = reduced(2.0f * at_most(fabsf(x), splat(9.5f)));
    const V y = half_expm1(of.r, of.whole);
    return copysign(y / (y + splat(1.0f)), x);
}

// Near zero x + x p(x^2), elsewhere 1 - e^u(|x|).
inline V erff(V x) {
    const V size = at_most(fabsf(x), splat(4.0f)), square = x * x;
    const V near = polynomial(square, -6.11129159e-4f, 5.01622818e-3f, -2.67819576e-2f,
                              1.12822302e-1f, -3.76125336e-1f, 1.28379151e-1f);
    const V power = polynomial(size, 2.14595886e-4f, -3.21998214e-3f, 2.29060501e-2f,
                               -1.05286881e-1f, -6.35699332e-1f, -1.28519952e-1f);
    const V far = splat(1.0f) - expf(power * size - size);
    return size > splat(0.9f) ? copysign(far, x) : near * x + x;
}

inline V logf(V x) {
    constexpr float least_normal = 1.17549435e-38f, two_23 = 8388608.0f;
    const I small = (I)(x < splat(least_normal));
    // Without the sign, so that nothing overflows: of negative numbers it is NaN anyway.
    const I bits = (I)(small ? x * splat(two_23) : x) & 0x7fffffff;
    const I exponent = (bits - 0x3f3504f3) >> 23;  // so that the rest is near one
    const V n = __builtin_convertvector(exponent - (small & 23), V);
    const V f = (V)(bits - (exponent << 23)) - splat(1.0f);
    const V p = polynomial(f, 6.92179501e-2f, -1.18058808e-1f, 1.18787058e-1f, -1.23821981e-1f,
                           1.42176569e-1f, -1.66693315e-1f, 2.00022757e-1f, -2.49999851e-1f,
                           3.33333105e-1f);
    const V square = f * f;
    const V low = square * f * p - 0.5f * square + n * splat(-2.12194440e-4f);
    const V y = n * splat(0.693359375f) + (f + low);
    const V infinity = splat(__builtin_inff());
    // of negative numbers and NaN: NaN
    return x == V{} ? -infinity : x == infinity ? x : x > V{} ? y : splat(__builtin_nanf(""));
}

// What 1 + x was rounded by is put back.
inline V log1pf(V x) {
    const V sum = x + splat(1.0f);
    const V log = logf(sum);
    return fabsf(log) < splat(__builtin_inff()) ? log - ((sum - splat(1.0f)) - x) / sum : log;
}

}  // namespace
}  // namespace gossamer
