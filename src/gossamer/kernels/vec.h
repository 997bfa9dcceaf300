// Vectors of floats as wide as the instruction set that this file is compiled for.
//
// Included once per instruction set, inside that set's own namespace, so that code
// compiled for a newer processor can never be linked in place of older code. For the
// same reason nothing here uses templates of the standard library.

#pragma once

#include <cstddef>
#include <cstdint>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

// A header that is compiled alone is one of the portable set.
#if !defined(GOSSAMER_WIDTH)
#define GOSSAMER_ISA "portable"
#define GOSSAMER_WIDTH 4
#endif

namespace gossamer {
namespace {

constexpr int W = GOSSAMER_WIDTH;

template <int N>
struct Of {
    typedef float V __attribute__((vector_size(N * 4)));
    typedef int32_t I __attribute__((vector_size(N * 4)));
    typedef float VU __attribute__((vector_size(N * 4), aligned(4), may_alias));
    typedef int32_t IU __attribute__((vector_size(N * 4), aligned(4), may_alias));
};
using V = Of<W>::V;
using I = Of<W>::I;

template <int N = W>
inline typename Of<N>::V load(const float* p) {
    return *reinterpret_cast<const typename Of<N>::VU*>(p);
}

template <int N = W>
inline void store(float* p, typename Of<N>::V v) {
    *reinterpret_cast<typename Of<N>::VU*>(p) = v;
}

inline I load_int(const int32_t* p) { return *reinterpret_cast<const Of<W>::IU*>(p); }
inline void store_int(int32_t* p, I v) { *reinterpret_cast<Of<W>::IU*>(p) = v; }

// x - 0 is x for every x, negative zero included: the compiler makes it one broadcast.
template <int N = W>
inline typename Of<N>::V splat(float x) {
    return x - typename Of<N>::V{};
}

inline I splat_int(int32_t x) { return x - I{}; }

inline I lane_numbers() {
    I lane;
    for (int i = 0; i < W; ++i) lane[i] = i;
    return lane;
}

// Lane i of the result is lane at(i) of `a` and `b` side by side. Clang's own shuffle wants numbers
// that are known when it parses; it makes one shuffle of the loop.
template <class T, class At>
inline T shuffled(T a, T b, At at) {
    constexpr int lanes = sizeof(T) / 4;
#if defined(__clang__)
    T result;
#pragma clang loop unroll(full)
    for (int i = 0; i < lanes; ++i) result[i] = at(i) < lanes ? a[at(i)] : b[at(i) - lanes];
    return result;
#else
    typename Of<lanes>::I lane;
    for (int i = 0; i < lanes; ++i) lane[i] = at(i);
    return __builtin_shuffle(a, b, lane);
#endif
}

// What an operation on two vectors makes of all lanes of one, by halves.
template <class F>
inline float across(V v, F f) {
    if constexpr (W >= 16) v = f(v, shuffled(v, v, [](int i) { return i ^ 8; }));
    if constexpr (W >= 8) v = f(v, shuffled(v, v, [](int i) { return i ^ 4; }));
    v = f(v, shuffled(v, v, [](int i) { return i ^ 2; }));
    v = f(v, shuffled(v, v, [](int i) { return i ^ 1; }));
    return v[0];
}

// Where a walk over three loops, the last innermost, is in two arrays that step differently.
struct Walk {
    const int64_t *sizes, *first, *second;
    int64_t at[3];

    Walk(const int64_t* sizes_, const int64_t* first_, const int64_t* second_, int64_t row)
        : sizes(sizes_),
          first(first_),
          second(second_),
          at{row / sizes_[2] / sizes_[1], row / sizes_[2] % sizes_[1], row % sizes_[2]} {}
    int64_t in_first() const { return at[0] * first[0] + at[1] * first[1] + at[2] * first[2]; }
    int64_t in_second() const { return at[0] * second[0] + at[1] * second[1] + at[2] * second[2]; }
    void next() {
        if (++at[2] < sizes[2]) return;
        at[2] = 0;
        if (++at[1] < sizes[1]) return;
        at[1] = 0;
        ++at[0];
    }
};

// The sum of all lanes, by halves.
inline int32_t sum_of(I x) {
    Of<4>::I sum;
    if constexpr (W == 4) {
        __builtin_memcpy(&sum, &x, 16);
    } else {
        Of<4>::I part[W / 4];
        __builtin_memcpy(part, &x, sizeof x);
        sum = part[0];
        for (int i = 1; i < W / 4; ++i) sum += part[i];
    }
    sum += shuffled(sum, sum, [](int i) { return i ^ 2; });
    sum += shuffled(sum, sum, [](int i) { return i ^ 1; });
    return sum[0];
}

#if defined(__AVX2__)
inline __m256i first_lanes(int64_t count) {
    const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(count)), lane);
}
#endif

template <int N = W>
inline void store_first(float* p, typename Of<N>::V v, int64_t count) {
    if (count >= N) {
        store<N>(p, v);
        return;
    }
    if (count <= 0) return;
#if defined(__AVX512VL__)
    if constexpr (N == 16) {
        _mm512_mask_storeu_ps(p, static_cast<__mmask16>((1u << count) - 1), (__m512)v);
        return;
    }
    if constexpr (N == 8) {
        _mm256_mask_storeu_ps(p, static_cast<__mmask8>((1u << count) - 1), (__m256)v);
        return;
    }
#elif defined(__AVX2__)
    if constexpr (N == 8) {
        _mm256_maskstore_ps(p, first_lanes(count), (__m256)v);
        return;
    }
#endif
    for (int64_t i = 0; i < count; ++i) p[i] = v[i];
}

template <int N = W>
inline typename Of<N>::V load_first(const float* p, int64_t count) {
    if (count >= N) return load<N>(p);
    typename Of<N>::V v{};
    if (count <= 0) return v;
#if defined(__AVX512VL__)
    if constexpr (N == 16) {
        return (typename Of<N>::V)_mm512_maskz_loadu_ps(static_cast<__mmask16>((1u << count) - 1),
                                                        p);
    }
    if constexpr (N == 8) {
        return (typename Of<N>::V)_mm256_maskz_loadu_ps(static_cast<__mmask8>((1u << count) - 1),
                                                        p);
    }
#elif defined(__AVX2__)
    if constexpr (N == 8) return (typename Of<N>::V)_mm256_maskload_ps(p, first_lanes(count));
#endif
    for (int64_t i = 0; i < count; ++i) v[i] = p[i];
    return v;
}

// Both keep NaN, as max(x, lo) in ONNX Runtime does.
template <class T>
inline T at_least(T x, T lo) {
    return x < lo ? lo : x;
}
template <class T>
inline T at_most(T x, T hi) {
    return x > hi ? hi : x;
}

// The same in one instruction, which compilers do not find.
#if defined(__AVX512F__)
inline V at_least(V x, V lo) { return (V)_mm512_max_ps((__m512)lo, (__m512)x); }
inline V at_most(V x, V hi) { return (V)_mm512_min_ps((__m512)hi, (__m512)x); }
#elif defined(__AVX2__)
inline V at_least(V x, V lo) { return (V)_mm256_max_ps((__m256)lo, (__m256)x); }
inline V at_most(V x, V hi) { return (V)_mm256_min_ps((__m256)hi, (__m256)x); }
#endif

// The maximum of a pool: NaN if either is.
template <class T>
inline T larger(T x, T y) {
    return ((x > y) | (x != x)) ? x : y;
}

// GCC compares twice for vectors. The instruction answers with its second operand if either is NaN.
#if defined(__AVX512F__) && GOSSAMER_WIDTH == 16
inline V larger(V x, V y) {
    const __mmask16 none = _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q);
    return _mm512_mask_mov_ps(_mm512_max_ps(x, y), none, x);
}
#elif defined(__AVX2__) && GOSSAMER_WIDTH == 8
inline V larger(V x, V y) {
    return _mm256_blendv_ps(_mm256_max_ps(x, y), x, _mm256_cmp_ps(x, x, _CMP_UNORD_Q));
}
#endif

inline int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
inline int64_t share(int64_t total, int64_t part, int64_t parts) { return total * part / parts; }

// The same of blocks that differ: before(b) is the work of those before block b, rising with b.
template <class Before>
inline int64_t share_work(int64_t blocks, int64_t part, int64_t parts, const Before& before) {
    const int64_t wanted = share(before(blocks), part, parts);
    int64_t first = 0;
    for (int64_t left = blocks; left > 0;) {
        const int64_t half = left / 2;
        const bool more = before(first + half) + before(first + half + 1) < 2 * wanted;
        first = more ? first + half + 1 : first;
        left = more ? left - half - 1 : half;
    }
    return first;
}

// The first `count` lanes of v, and `rest` in the others.
inline V lanes_from(V v, int64_t count, float rest) {
    return lane_numbers() < splat_int(static_cast<int32_t>(least(W, count))) ? v : splat(rest);
}

// The last step of a layer: clip to [lo, hi], which is ReLU for [0, infinity].
struct Clip {
    float lo, hi;
    bool any;
    explicit Clip(const float* limits)
        : lo(limits[0]),
          hi(limits[1]),
          any(limits[0] > -__builtin_inff() || limits[1] < __builtin_inff()) {}
    template <int N = W>
    inline typename Of<N>::V operator()(typename Of<N>::V v) const {
        if (!any) return v;
        return at_most(at_least(v, splat<N>(lo)), splat<N>(hi));
    }
    inline float one(float v) const { return any ? (v < lo ? lo : v > hi ? hi : v) : v; }
};

// Lanes First, First + 2, First + 4, ... of two vectors side by side.
template <int First = 0>
inline V every_second(V a, V b) {
    return shuffled(a, b, [](int i) { return 2 * i + First; });
}

// The lower (or the upper) half of each run of 2 x Half lanes of `a`, then that of `b`.
template <int Half>
inline V low_halves(V a, V b) {
    return shuffled(a, b, [](int i) { return (i & Half) ? W + i - Half : i; });
}
template <int Half>
inline V high_halves(V a, V b) {
    return shuffled(a, b, [](int i) { return (i & Half) ? W + i : i + Half; });
}

// What an operation makes of all lanes of each of W vectors, in the order of `across`, in place: in
// lane i of the first vector that of vector i.
template <int Half = W / 2, class F>
inline void across_each(V* rows, F f) {
#pragma GCC unroll 16
    for (int i = 0; i < Half; ++i) {
        const V a = rows[i], b = rows[i + Half];
        rows[i] = f(low_halves<Half>(a, b), high_halves<Half>(a, b));
    }
    if constexpr (Half > 1) across_each<Half / 2>(rows, f);
}

// Transposes a W x W square, from rows `in_pitch` apart to rows `out_pitch` apart.
// Each stage swaps halves of ever smaller squares (Eklundh 1972).
template <int Half>
inline void swap_halves(V* rows) {
#pragma GCC unroll 16
    for (int i = 0; i < W; ++i) {
        if (i & Half) continue;
        const V a = rows[i], b = rows[i + Half];
        rows[i] = low_halves<Half>(a, b);
        rows[i + Half] = high_halves<Half>(a, b);
    }
}

inline void transpose_square(V* rows) {
    if constexpr (W >= 16) swap_halves<8>(rows);
    if constexpr (W >= 8) swap_halves<4>(rows);
    swap_halves<2>(rows);
    swap_halves<1>(rows);
}

inline void transpose_square(const float* in, int64_t in_pitch, float* out, int64_t out_pitch) {
    V rows[W];
#pragma GCC unroll 16
    for (int i = 0; i < W; ++i) rows[i] = load(in + i * in_pitch);
    transpose_square(rows);
#pragma GCC unroll 16
    for (int i = 0; i < W; ++i) store(out + i * out_pitch, rows[i]);
}

// Any rows x columns matrix into its transpose.
inline void transpose(const float* in, int64_t in_pitch, int64_t rows, int64_t columns, float* out,
                      int64_t out_pitch) {
    const int64_t whole_rows = rows - rows % W, whole_columns = columns - columns % W;
    for (int64_t r = 0; r < whole_rows; r += W) {
        for (int64_t c = 0; c < whole_columns; c += W) {
            transpose_square(in + r * in_pitch + c, in_pitch, out + c * out_pitch + r, out_pitch);
        }
    }
    for (int64_t r = 0; r < rows; ++r) {
        for (int64_t c = r < whole_rows ? whole_columns : 0; c < columns; ++c) {
            out[c * out_pitch + r] = in[r * in_pitch + c];
        }
    }
}

}  // namespace
}  // namespace gossamer
