// Dense matrix product and convolution in whole numbers: weights of one byte times the codes
// that activations were rounded to, added up in 32 bits. No sum is ever rounded, so that their
// order does not matter; the steps and the bias come at its end, in floats.
//
// Rows and tiles are those of dense.h. 32 bits of codes, a group of neighbors in memory, meet
// the weights of W outputs at once: four unsigned bytes where an instruction multiplies those
// (VNNI's vpdpbusd), two numbers of 16 bits elsewhere on x86 (vpmaddwd), which needs weights
// widened but cannot saturate as vpmaddubsw does.

#pragma once

#include <cstdint>

#include "elementwise.h"
#include "kernel.h"
#include "row_tiles.h"
#include "rows.h"
#include "vec.h"

namespace gossamer {
namespace {

#if defined(__AVX2__) && !defined(__AVX512VNNI__)
using Code = int16_t;
#define GOSSAMER_GROUPS "pairs"
#else
using Code = uint8_t;
#define GOSSAMER_GROUPS "quads"
#endif
constexpr int group = 4 / sizeof(Code);  // codes that meet a weight vector at once

// The weights of a group for W outputs: [output][code].
inline I load_group(const int8_t* p) {
#if defined(__AVX512VNNI__) || !defined(__AVX2__)
    return load_int(reinterpret_cast<const int32_t*>(p));
#elif defined(__AVX512BW__)
    return (I)_mm512_cvtepi8_epi16(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
#else
    return (I)_mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
#endif
}

inline I add_products(I sum, I codes, I weights) {
#if defined(__AVX512VNNI__)
    return (I)_mm512_dpbusd_epi32((__m512i)sum, (__m512i)codes, (__m512i)weights);
#elif defined(__AVX512BW__)
    return sum + (I)_mm512_madd_epi16((__m512i)codes, (__m512i)weights);
#elif defined(__AVX2__)
    return sum + (I)_mm256_madd_epi16((__m256i)codes, (__m256i)weights);
#else
    for (int i = 0; i < 4; ++i) sum += ((codes >> 8 * i) & 255) * ((weights << (24 - 8 * i)) >> 24);
    return sum;
#endif
}

template <int Rows, int Vectors>
inline void integer_tile(const uint8_t* const* in, float* const* out, const IntegerGemmShape& s,
                         const int8_t* w, const int32_t* offset, const int32_t* start,
                         const float* step, const float* bias, int64_t outputs, const Clip& clip) {
    I sum[Rows][Vectors];
    for (int r = 0; r < Rows; ++r) {
        for (int v = 0; v < Vectors; ++v) sum[r][v] = load_int(start + v * W);
    }
    multiply_tile(
        sum, s.groups, [w](int64_t i) { return load_group(w + i * W * group); },
        [in, offset](int r, int64_t k) {
            int32_t codes;
            __builtin_memcpy(&codes, in[r] + offset[k], sizeof codes);
            return splat_int(codes);
        },
        add_products);
    store_tile<Rows, Vectors>(out, outputs, [&](int r, int v) {
        return clip(__builtin_convertvector(sum[r][v], V) * load(step + v * W) +
                    load(bias + v * W));
    });
}

template <int MaxRows, int Vectors>
void integer_gemm(const Call& call) {
    const auto& s = *reinterpret_cast<const IntegerGemmShape*>(call.shape);
    const auto* weights = static_cast<const int8_t*>(call.data[0]);
    const auto* start = static_cast<const int32_t*>(call.data[1]);
    const auto* step = static_cast<const float*>(call.data[2]);
    const auto* bias = static_cast<const float*>(call.data[3]);
    const auto* offset = static_cast<const int32_t*>(call.data[4]);  // in bytes
    const auto* base = static_cast<const int32_t*>(call.data[5]);
    const Clip clip(static_cast<const float*>(call.data[6]));
    over_panels<MaxRows, Vectors * W>(call, s, [&](const ProductShare& part, int64_t o) {
        const auto tile = [&](auto n, const uint8_t* const* in, float* const* out) {
            integer_tile<n, Vectors>(in, out, s, weights + o * s.groups * group, offset, start + o,
                                     step + o, bias + o, s.outputs - o, clip);
            finish(call, out, n, least(s.outputs - o, Vectors * W));
        };
        row_tiles<MaxRows, uint8_t>(call, s, base, part, o, tile);
    });
}

// The codes of values that were rounded: whole multiples of a step, and a shift that leaves none
// of them negative where codes are unsigned.
void codes(const Call& call) {
    const auto& s = *reinterpret_cast<const CodesShape*>(call.shape);
    const auto* grid = static_cast<const float*>(call.data[0]);
    constexpr float whole = 12582912.0f;  // see round_to
    const V per_step = splat(1.0f / grid[0]), shift = splat(whole + grid[1]);
    const int64_t vectors = (s.size + W - 1) / W;
    const int64_t first = share(vectors, call.part, call.parts) * W;
    const int64_t last = least(s.size, share(vectors, call.part + 1, call.parts) * W);
    typedef Code Codes __attribute__((vector_size(W * sizeof(Code))));
    for (int64_t item = 0; item < call.items; ++item) {
        const float* in = call.in[0] + item * call.in_size[0];
        auto* out = reinterpret_cast<uint8_t*>(call.out[0] + item * call.out_size[0]);
        for (int64_t i = first; i < last; i += W) {
            const V x = (load_first(in + i, last - i) * per_step + shift) - splat(whole);
            const Codes rounded = __builtin_convertvector(__builtin_convertvector(x, I), Codes);
            uint8_t* to = out + i * static_cast<int64_t>(sizeof(Code));
            if (last - i >= W) {
                __builtin_memcpy(to, &rounded, sizeof rounded);
            } else {
                __builtin_memcpy(to, &rounded, static_cast<size_t>(last - i) * sizeof(Code));
            }
        }
    }
}

#define GOSSAMER_INTEGER_KERNELS                                             \
    KERNEL("integer gemm", GOSSAMER_GROUPS, "4", IntegerGemmShape, 7, 0,     \
           integer_gemm<roomy ? 6 : 2, 4>),                                  \
        KERNEL("integer gemm", GOSSAMER_GROUPS, "2", IntegerGemmShape, 7, 0, \
               integer_gemm<roomy ? 12 : 6, 2>),                             \
        KERNEL("integer gemm", GOSSAMER_GROUPS, "1", IntegerGemmShape, 7, 0, \
               integer_gemm<roomy ? 12 : 8, 1>),                             \
        PLAIN_KERNEL("codes", GOSSAMER_GROUPS, "1", CodesShape, 1, 0, codes)

}  // namespace
}  // namespace gossamer
