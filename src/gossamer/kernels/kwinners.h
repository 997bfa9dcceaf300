// k-winners: the k largest of n values, ties to the lowest index, as a list in the order
// of the indices. The cost is about two passes over the values:
//
// 1. A sample guesses a threshold that a few more than k values reach.
// 2. One pass compresses the values that reach it. (Fewer than k: all are candidates.)
// 3. Counting finds the exact threshold between two bounds that come ever closer.
//
// Floats are compared as integers that sort the same way. NaN counts as infinity, as in every
// other implementation of k-winners, so that the selection always ends with k winners.

#pragma once

#include <cstdint>

#include "kernel.h"
#include "vec.h"

namespace gossamer {
namespace {

constexpr int32_t lowest_key = -2147483647 - 1;

constexpr float infinity = __builtin_inff();

// The bits of floats as integers that sort the same way, and back.
template <class T>
inline T ordered(T bits) {
    return bits ^ ((bits >> 31) & 0x7fffffff);
}

inline int32_t key_of(float x) {
    int32_t bits;
    x = x == x ? x + 0.0f : infinity;  // negative zero ties with zero
    __builtin_memcpy(&bits, &x, 4);
    return ordered(bits);
}

inline I keys_of(V x) { return ordered((I)(x == x ? x + V{} : splat(infinity))); }

// The lanes of a mask side by side; what lies behind them is undefined.
#if defined(__AVX512F__)
using Mask = __mmask16;  // as an unsigned int, GCC 12 with -O1 reads 16 bits too many

inline I compress(I x, Mask mask) { return (I)_mm512_maskz_compress_epi32(mask, (__m512i)x); }

inline Mask mask_reaching(I x, I y) { return _mm512_cmpge_epi32_mask((__m512i)x, (__m512i)y); }

inline Mask mask_nonzero(V x) {
    return _mm512_cmp_ps_mask((__m512)x, _mm512_setzero_ps(), _CMP_NEQ_UQ);
}
#elif defined(__AVX2__)
using Mask = unsigned;

// For each set of lanes, those lanes first: one byte for each.
struct FirstLanes {
    uint64_t of[256] = {};
    constexpr FirstLanes() {
        for (int mask = 0; mask < 256; ++mask) {
            for (int lane = 0, to = 0; lane < 8; ++lane) {
                if (mask >> lane & 1) of[mask] |= static_cast<uint64_t>(lane) << 8 * to++;
            }
        }
    }
};
constexpr FirstLanes first_of_mask;

inline I compress(I x, Mask mask) {
    const __m128i bytes = _mm_cvtsi64_si128(static_cast<int64_t>(first_of_mask.of[mask]));
    return (I)_mm256_permutevar8x32_epi32((__m256i)x, _mm256_cvtepu8_epi32(bytes));
}

inline Mask mask_of(I lanes) { return static_cast<Mask>(_mm256_movemask_ps((__m256)lanes)); }

inline Mask mask_reaching(I x, I y) { return mask_of(x >= y); }

inline Mask mask_nonzero(V x) { return mask_of(x != V{}); }
#endif

// How many of the keys are at least `threshold`; `keys` is padded with the lowest key.
inline int64_t count_reaching(const int32_t* keys, int64_t n, int32_t threshold) {
    const I t = splat_int(threshold);
    I count{};
    for (int64_t i = 0; i < n; i += W) {
#if defined(__AVX512F__)
        const __mmask16 mask = _mm512_cmpge_epi32_mask((__m512i)load_int(keys + i), (__m512i)t);
        count =
            (I)_mm512_mask_add_epi32((__m512i)count, mask, (__m512i)count, _mm512_set1_epi32(1));
#else
        count -= load_int(keys + i) >= t;
#endif
    }
    return sum_of(count);
}

// The k-th largest key lies in [low, high]: `reaching` keys, at least k, are at least `low`,
// and `above` keys, fewer than k, are larger than `high`.
struct Bounds {
    int64_t low, high, reaching, above;
};

inline Bounds bounds_of(const int32_t* keys, int64_t n) {
    I low = splat_int(2147483647), high = splat_int(lowest_key);
    const int rest = static_cast<int>(n % W);
    for (int64_t i = 0; i < n - rest; i += W) {
        const I x = load_int(keys + i);
        low = x < low ? x : low;
        high = x > high ? x : high;
    }
    int64_t lo = low[0], hi = high[0];
    for (int l = 1; l < W; ++l) {
        lo = low[l] < lo ? low[l] : lo;
        hi = high[l] > hi ? high[l] : hi;
    }
    for (int i = 0; i < rest; ++i) {
        const int32_t key = keys[n - rest + i];
        lo = key < lo ? key : lo;
        hi = key > hi ? key : hi;
    }
    return {lo, hi, n, 0};
}

inline float value_of(int32_t key) {
    const int32_t bits = ordered(key);
    float x;
    __builtin_memcpy(&x, &bits, 4);
    return x;
}

// Narrows the bounds until at most k + `slack` keys reach the lower one, or both are equal.
// Most steps follow the line through both ends, where an end that stays counts half as much
// every time (the Illinois method, Dowell & Jarratt 1971): values near the threshold are spread
// evenly. Every sixth step halves the keys between, however they are spread.
inline Bounds narrow(const int32_t* keys, int64_t n, int64_t k, Bounds b, int64_t slack = 0) {
    float low_weight = 1, high_weight = 1;
    for (int step = 1; b.low < b.high && b.reaching - k > slack; ++step) {
        int64_t middle = b.low + (b.high - b.low + 1) / 2;
        if (step % 6) {
            const float below = low_weight * (static_cast<float>(b.reaching - k) -
                                              0.5f * static_cast<float>(slack));
            const float beyond = high_weight * static_cast<float>(k - b.above);
            const float low = value_of(static_cast<int32_t>(b.low)),
                        high = value_of(static_cast<int32_t>(b.high));
            const int64_t key =
                key_of(low + below / (below + beyond) * (high - low));  // NaN: some key
            middle = key <= b.low ? b.low + 1 : key > b.high ? b.high : key;
        }
        const int64_t count = count_reaching(keys, n, static_cast<int32_t>(middle));
        if (count >= k) {
            b.low = middle;
            b.reaching = count;
            high_weight *= 0.5f;
            low_weight = 1;
        } else {
            b.high = middle - 1;
            b.above = count;
            low_weight *= 0.5f;
            high_weight = 1;
        }
    }
    return b;
}

// Appends (key, index) of the values that reach `guess`, and of NaN; returns how many.
inline int64_t gather_candidates(const float* x, const float* boost, int64_t n, int32_t guess,
                                 int32_t* keys, int32_t* indices) {
    int64_t written = 0, i = 0;
#if defined(__AVX512F__)
    // Compared as floats, for speed: keys are made of the few that are kept.
    const __m512 t = _mm512_set1_ps(value_of(guess));
    __m512i at = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
    for (; i + W <= n; i += W) {
        V v = load(x + i);
        if (boost) v *= load(boost + i);
        const __mmask16 mask = _mm512_cmp_ps_mask((__m512)v, t, _CMP_NLT_UQ);
        // Half a vector nearly always holds them, and stores in half the time.
        const __m512 key = _mm512_maskz_compress_ps(mask, (__m512)v);
        const __m512i index = _mm512_maskz_compress_epi32(mask, at);
        if (__builtin_popcount(mask) <= 8) {
            _mm256_storeu_ps(reinterpret_cast<float*>(keys + written), _mm512_castps512_ps256(key));
            _mm256_storeu_si256(reinterpret_cast<__m256i*>(indices + written),
                                _mm512_castsi512_si256(index));
        } else {
            _mm512_storeu_ps(keys + written, key);
            _mm512_storeu_si512(indices + written, index);
        }
        written += __builtin_popcount(mask);
        at = _mm512_add_epi32(at, _mm512_set1_epi32(16));
    }
    for (int64_t j = 0; j < written; j += W) {  // NaN of either sign reaches the guess
        store_int(keys + j, at_least(keys_of(load(reinterpret_cast<const float*>(keys) + j)),
                                     splat_int(guess)));
    }
#elif defined(__AVX2__)
    const I t = splat_int(guess);
    for (; i + W <= n; i += W) {
        V v = load(x + i);
        if (boost) v *= load(boost + i);
        const I key = keys_of(v);
        const Mask mask = mask_reaching(key, t);
        store_int(keys + written, compress(key, mask));
        store_int(indices + written,
                  compress(lane_numbers() + splat_int(static_cast<int32_t>(i)), mask));
        written += __builtin_popcount(mask);
    }
#endif
    for (; i < n; ++i) {
        const int32_t key = key_of(boost ? x[i] * boost[i] : x[i]);
        keys[written] = key;
        indices[written] = static_cast<int32_t>(i);
        written += key >= guess;
    }
    return written;
}

constexpr int64_t sample_bits = 8, sample_size = 1 << sample_bits;

// The list of winners of x[0..n); scratch holds 2 (n + 2 W) words.
inline int64_t select(const float* x, const float* boost, int64_t n, int64_t k, int64_t inner,
                      int64_t outer, int32_t first, float* scratch, int32_t* index, float* value) {
    auto* keys = reinterpret_cast<int32_t*>(scratch);
    int32_t* indices = keys + n + 2 * W;
    int32_t guess = lowest_key, high = 2147483647;
    const bool sampled = n >= 4 * sample_size && k < n / 2;
    if (sampled) {
        alignas(64) float drawn[sample_size];
        alignas(64) int32_t sample[sample_size];
        for (int64_t i = 0; i < sample_size; ++i) {
            const int64_t at = i * n >> sample_bits;
            drawn[i] = boost ? x[at] * boost[at] : x[at];
        }
        for (int64_t i = 0; i < sample_size; i += W)
            store_int(sample + i, keys_of(load(drawn + i)));
        // The rank of the k-th largest that the sample lets expect, and three deviations
        // on either side.
        const int64_t rank = k * sample_size / n;
        int64_t deviation = 1;
        while (deviation * deviation < rank) ++deviation;
        const int64_t last = rank + 3 * deviation + 2, first_rank = rank - 3 * deviation - 2;
        const Bounds all = bounds_of(sample, sample_size);
        const Bounds from = narrow(sample, sample_size, last, all, deviation);
        guess = static_cast<int32_t>(from.low);
        if (first_rank > 0) {
            const Bounds to = narrow(sample, sample_size, first_rank,
                                     {from.low, all.high, from.reaching, 0}, deviation);
            high = static_cast<int32_t>(to.low);
        }
    }
    int64_t candidates = gather_candidates(x, boost, n, guess, keys, indices);
    const bool few = candidates < k;
    if (few) candidates = gather_candidates(x, boost, n, lowest_key, keys, indices);
    for (int64_t i = candidates; i < candidates + W; ++i) keys[i] = lowest_key;
    Bounds within{guess, high, candidates, 0};
    if (sampled && !few) {
        within.above = high == 2147483647 ? 0 : count_reaching(keys, candidates, high + 1);
    }
    if (!sampled || few || within.above >= k) within = bounds_of(keys, candidates);
    const Bounds threshold = narrow(keys, candidates, k, within);
    auto bar = static_cast<int32_t>(threshold.low);
    int64_t ties_left = 0;
    if (threshold.reaching > k && bar == 0 && !boost) {
        bar = 1;  // zeros tie: whichever win, they add nothing
    } else if (threshold.reaching > k) {
        // Among equals the lowest canonical indices win. Their k-th smallest is found as
        // the k-th largest of the complements, in the memory that the list will fill.
        const int64_t above = bar == 2147483647 ? 0 : count_reaching(keys, candidates, bar + 1);
        ties_left = k - above;
        if (inner > 1) {
            const auto complement = [&](int64_t i) {
                return static_cast<int32_t>(-1 - (indices[i] % inner * outer + indices[i] / inner));
            };
            int32_t* ties = indices + n + 2 * W;
            int64_t count = 0;
            for (int64_t i = 0; i < candidates; ++i) {
                if (keys[i] == bar) ties[count++] = complement(i);
            }
            for (int64_t i = count; i < count + W; ++i) ties[i] = lowest_key;
            const auto cut =
                static_cast<int32_t>(narrow(ties, count, ties_left, bounds_of(ties, count)).low);
            for (int64_t i = 0; i < candidates; ++i) {
                if (keys[i] == bar && complement(i) < cut) keys[i] = lowest_key;
            }
        } else {
            int64_t left = ties_left;
            for (int64_t i = 0; i < candidates; ++i) {
                if (keys[i] == bar && left-- <= 0) keys[i] = lowest_key;
            }
        }
    }
    int64_t written = 0, i = 0;
#if defined(__AVX2__)
    // A full vector is written at each step: stop while the list still has room for one.
    for (; i + W <= candidates && written + W <= k; i += W) {
        const I key = load_int(keys + i);
        const Mask mask = mask_reaching(key, splat_int(bar));
        store_int(index + written, compress(load_int(indices + i), mask) + splat_int(first));
        const int64_t count = __builtin_popcount(mask);
        if (!boost) {
            store(value + written, (V)ordered(compress(key, mask)));
        } else {
            for (int64_t j = 0; j < count; ++j) value[written + j] = x[index[written + j] - first];
        }
        written += count;
    }
#endif
    for (; i < candidates && written < k; ++i) {
        index[written] = indices[i] + first;
        value[written] = x[indices[i]];
        written += keys[i] >= bar;
    }
    // A key does not say whether it was infinity or NaN.
    bool infinite = false;
    for (int64_t j = 0; j < written; ++j) infinite |= value[j] == infinity;
    for (int64_t j = 0; infinite && j < written; ++j) value[j] = x[index[j] - first];
    return written;
}

void winners(const Call& call) {
    const auto& s = *reinterpret_cast<const WinnersShape*>(call.shape);
    const float* boost = s.boosted ? static_cast<const float*>(call.data[0]) : nullptr;
    if (call.part) return;
    for (int64_t item = 0; item < call.items; ++item) {
        const float* x = call.in[0] + item * call.in_size[0];
        float* list = call.out[0] + item * call.out_size[0];
        auto* index = reinterpret_cast<int32_t*>(list) + list_header;
        float* value = list + list_header + s.capacity;
        int64_t written = 0;
        for (int64_t g = 0; g < s.groups; ++g) {
            written += select(x + g * s.size, boost ? boost + g * s.size : nullptr, s.size, s.k,
                              s.inner, s.outer, static_cast<int32_t>(g * s.size), call.scratch,
                              index + written, value + written);
        }
        *reinterpret_cast<int32_t*>(list) = static_cast<int32_t>(written);
    }
}

// The list of a dense tensor's non-zeros, so that the zeros behind a ReLU cost nothing.
void nonzeros(const Call& call) {
    const auto& s = *reinterpret_cast<const NonzerosShape*>(call.shape);
    if (call.part) return;
    for (int64_t item = 0; item < call.items; ++item) {
        const float* x = call.in[0] + item * call.in_size[0];
        float* list = call.out[0] + item * call.out_size[0];
        auto* index = reinterpret_cast<int32_t*>(list) + list_header;
        float* value = list + list_header + s.capacity;
        int64_t written = 0, i = 0;
#if defined(__AVX2__)
        for (; i + W <= s.size; i += W) {
            const V v = load(x + i);
            const Mask mask = mask_nonzero(v);
            store_int(index + written,
                      compress(lane_numbers() + splat_int(static_cast<int32_t>(i)), mask));
            store(value + written, (V)compress((I)v, mask));
            written += __builtin_popcount(mask);
        }
#endif
        for (; i < s.size; ++i) {
            index[written] = static_cast<int32_t>(i);
            value[written] = x[i];
            written += x[i] != 0.0f;
        }
        *reinterpret_cast<int32_t*>(list) = static_cast<int32_t>(written);
    }
}

// A list back into a dense tensor, for what does not read lists.
void scatter(const Call& call) {
    const auto& s = *reinterpret_cast<const NonzerosShape*>(call.shape);
    if (call.part) return;
    for (int64_t item = 0; item < call.items; ++item) {
        const float* list = call.in[0] + item * call.in_size[0];
        const auto* index = reinterpret_cast<const int32_t*>(list) + list_header;
        const float* value = list + list_header + s.capacity;
        const int64_t count = *reinterpret_cast<const int32_t*>(list);
        float* out = call.out[0] + item * call.out_size[0];
        for (int64_t i = 0; i < s.size; ++i) out[i] = 0.0f;
        for (int64_t i = 0; i < count; ++i) out[index[i]] = value[i];
    }
}

}  // namespace
}  // namespace gossamer
