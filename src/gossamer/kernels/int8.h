// Weights of one or two bytes, and rounding to what eight bits can hold.

#pragma once

#include <cstdint>

#include "kernel.h"
#include "lists.h"
#include "vec.h"

namespace gossamer {
namespace {

// A number of 16 bits (IEEE 754 binary16).
struct Half {
    uint16_t bits;
};

// Weights as a vector of floats, whatever they are stored as.
template <int N = W>
inline typename Of<N>::V load_weights(const float* p) {
    return load<N>(p);
}
template <int N = W>
inline typename Of<N>::V load_weights(const int8_t* p) {
    // Compilers widen in several steps what these instructions do in one.
#if defined(__AVX512F__)
    if constexpr (N == 16) {
        const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
        return (typename Of<N>::V)_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(bytes));
    }
#endif
#if defined(__AVX2__)
    if constexpr (N == 8) {
        const __m128i bytes = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(p));
        return (typename Of<N>::V)_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(bytes));
    }
#endif
    typedef int8_t Bytes __attribute__((vector_size(N)));
    Bytes bytes;
    __builtin_memcpy(&bytes, p, N);
    return __builtin_convertvector(__builtin_convertvector(bytes, typename Of<N>::I),
                                   typename Of<N>::V);
}
#if defined(__AVX512F__)
template <int N = W>
inline typename Of<N>::V load_weights(const Half* p) {
    static_assert(N == 16, "one instruction widens 16 numbers");
    return (typename Of<N>::V)_mm512_cvtph_ps(
        _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
}
#endif

// To the nearest multiple of a step, ties to even, between two multiples. Below 2^22 adding
// 1.5 * 2^23 leaves no room for a fraction. NaN becomes the lowest, as in ONNX Runtime: what
// follows may compute in whole numbers, which have no NaN.
void round_to(const Call& call) {
    const auto& s = *reinterpret_cast<const NonzerosShape*>(call.shape);
    const auto* grid = static_cast<const float*>(call.data[0]);
    const float step = grid[0], low = grid[1], high = grid[2];
    constexpr float whole = 12582912.0f;
    for (int64_t item = 0; item < call.items; ++item) {
        const float* in = call.in[0] + item * call.in_size[0];
        float* out = call.out[0] + item * call.out_size[0];
        int64_t first = share(s.size, call.part, call.parts),
                last = share(s.size, call.part + 1, call.parts);
        if (s.capacity) {  // a list: its count and indices stay
            if (call.part) continue;
            last = copy_list_head(in, out);
            in += list_header + s.capacity;
            out += list_header + s.capacity;
            first = 0;
        }
        int64_t i = first;
        for (; i < last; i += W) {
            const int64_t left = last - i;
            const V steps = load_first(in + i, left) / splat(step);
            const V x = at_most(steps > splat(low) ? steps : splat(low), splat(high));
            store_first(out + i, ((x + splat(whole)) - splat(whole)) * splat(step), left);
        }
    }
}

}  // namespace
}  // namespace gossamer
