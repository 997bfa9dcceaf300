// Sparse weights and sparse activations: the work is the product of both densities.
//
// The weights are ordered by input. For each active input its value is broadcast and
// multiplied into the outputs it reaches; inputs that are zero cost nothing. `slice`
// consecutive outputs at all positions form a tile with weights of its own, small enough
// that its sums stay in L1.
//
// One body serves linear layers (one position, one tap) and convolutions. It differs in
// what a stored weight is: a single number (Scatter), N consecutive outputs (Block), a
// mask of W outputs with only the non-zeros stored (Expand), or whole rows with zeros kept
// (Dense), whose runs over neighboring taps are contiguous in weights and outputs alike.

#pragma once

#include <cstdint>
#include <type_traits>

#include "elementwise.h"
#include "int8.h"
#include "kernel.h"
#include "vec.h"

namespace gossamer {
namespace {

// Offsets have two bytes: a quarter less to read than with four.
template <class Stored>
struct Scatter {
    using Number = Stored;
    static constexpr bool merge = true;
    static constexpr int together = 8;
    static inline void run(float value, int64_t begin, int64_t end, const void* offsets,
                           const Number* w, const int32_t*, float* to) {
        const auto* offset = static_cast<const int16_t*>(offsets);
        // The outputs of one input differ, so several can be in flight at once.
        int64_t e = begin;
        for (; e + Scatter::together <= end; e += Scatter::together) {
            float sum[Scatter::together];
#pragma GCC unroll 8
            for (int i = 0; i < Scatter::together; ++i)
                sum[i] = to[offset[e + i]] + value * w[e + i];
#pragma GCC unroll 8
            for (int i = 0; i < Scatter::together; ++i) to[offset[e + i]] = sum[i];
        }
        for (; e < end; ++e) to[offset[e]] += value * w[e];
    }
    static inline void prefetch(int64_t begin, int64_t end, const void* offsets, const Number* w) {
        // Longer runs the processor fetches ahead by itself.
        const int64_t few = least(end, begin + 128);
        for (int64_t e = begin; e < few; e += 16) __builtin_prefetch(w + e);
        for (int64_t e = begin; e < few; e += 32)
            __builtin_prefetch(static_cast<const int16_t*>(offsets) + e);
    }
};

template <int N, class Stored>
struct Block {
    using Number = Stored;
    static constexpr bool merge = true;
    static inline void run(float value, int64_t begin, int64_t end, const void* offsets,
                           const Number* w, const int32_t*, float* to) {
        const auto* offset = static_cast<const int32_t*>(offsets);
        const auto x = splat<N>(value);
        for (int64_t e = begin; e < end; ++e) {
            float* const at = to + offset[e];
            store<N>(at, load<N>(at) + x * load_weights<N>(w + e * N));
        }
    }
    static inline void prefetch(int64_t begin, int64_t end, const void* offsets, const Number* w) {
        __builtin_prefetch(static_cast<const int32_t*>(offsets) + begin);
        for (int64_t e = begin; e < end && e < begin + 8; ++e) __builtin_prefetch(w + e * N);
    }
};

template <class Stored>
struct Dense {
    using Number = Stored;
    static constexpr bool merge = false;
    static inline void run(float value, int64_t begin, int64_t end, const void* offsets,
                           const Number* w, const int32_t*, float* to) {
        const auto* offset = static_cast<const int32_t*>(offsets);
        const V x = splat(value);
        to += offset[begin];
        const int64_t length = (end - begin) * W;
        w += begin * W;
#pragma GCC unroll 4
        for (int64_t i = 0; i < length; i += W)
            store(to + i, load(to + i) + x * load_weights(w + i));
    }
    // Long runs, which the processor fetches ahead by itself.
    static inline void prefetch(int64_t, int64_t, const void*, const Number*) {}
};

#if defined(__AVX512F__)
struct Expand {
    using Number = float;
    static constexpr bool merge = true;
    // `more` holds (mask, where the non-zeros start) for each entry.
    static inline void run(float value, int64_t begin, int64_t end, const void* offsets,
                           const float* w, const int32_t* more, float* to) {
        const auto* offset = static_cast<const int32_t*>(offsets);
        const __m512 x = _mm512_set1_ps(value);
        for (int64_t e = begin; e < end; ++e) {
            float* const at = to + offset[e];
            const __m512 weight = _mm512_maskz_expand_ps(static_cast<__mmask16>(more[2 * e]),
                                                         _mm512_loadu_ps(w + more[2 * e + 1]));
            _mm512_storeu_ps(at, _mm512_fmadd_ps(x, weight, _mm512_loadu_ps(at)));
        }
    }
    static inline void prefetch(int64_t begin, int64_t, const void* offsets, const float*) {
        __builtin_prefetch(static_cast<const int32_t*>(offsets) + begin);
    }
};
#endif

// The sums of W outputs at one pixel, after the max-pool.
inline V pooled(const ActiveShape& s, const float* at, int64_t slice) {
    V best = load(at);
    for (int64_t i = 1; i < s.pool * s.pool; ++i) {
        best = larger(load(at + (i / s.pool * s.pitch + i % s.pool) * slice), best);
    }
    return best;
}

// The sums of one tile become its part of the output, clipped and pooled.
inline void finish_tile(const Call& call, const ActiveShape& s, const float* sums, int64_t slice,
                        int64_t tile, const Clip& clip, float* out) {
    const int64_t outputs = least(slice, s.outputs - tile * slice);
    const int64_t height = s.out_height / s.pool, width = s.out_width / s.pool;
    if (s.planes) {  // W pixels of W outputs at a time, turned
        const int64_t pixels = height * width;
        const int64_t right = s.pool * slice, down = (s.pitch - width) * right;
        for (int64_t o = 0; o < outputs; o += W) {
            float* const to = out + (tile * slice + o) * pixels;
            const float* at = sums + s.origin * slice + o;
            for (int64_t p = 0, x = 0; p < pixels; p += W) {
                V square[W];
#pragma GCC unroll 16
                for (int64_t i = 0; i < W; ++i) {  // beyond the last pixel that one, again
                    square[i] = clip(pooled(s, at, slice));
                    if (p + i + 1 < pixels) {
                        const bool end = ++x == width;
                        at += end ? right + down : right;
                        x = end ? 0 : x;
                    }
                }
                transpose_square(square);
                const int64_t count = least(W, pixels - p);
#pragma GCC unroll 16
                for (int64_t i = 0; i < W; ++i) {
                    if (o + i < outputs) store_first(to + i * pixels + p, square[i], count);
                }
            }
        }
        finish(call, out + tile * slice * pixels, outputs * pixels);
        return;
    }
    out += tile * slice;
    for (int64_t y = 0; y < height; ++y) {
        for (int64_t x = 0; x < width; ++x, out += s.outputs) {
            const float* at = sums + (s.origin + (y * s.pitch + x) * s.pool) * slice;
            for (int64_t o = 0; o < outputs; o += W) {
                store_first(out + o, clip(pooled(s, at + o, slice)), outputs - o);
            }
            finish(call, out, outputs);
        }
    }
}

inline void start_tile(const ActiveShape& s, const float* bias, int64_t slice, float* sums) {
    for (int64_t p = 0; p < s.positions; ++p) {
        for (int64_t o = 0; o < slice; o += W) store(sums + p * slice + o, load(bias + o));
    }
}

template <class Weights>
void active(const Call& call) {
    const auto& s = *reinterpret_cast<const ActiveShape*>(call.shape);
    const auto* start = static_cast<const int32_t*>(call.data[0]);  // [tiles][inputs][rows + 1]
    const void* offset = call.data[1];
    const auto* weights = static_cast<const typename Weights::Number*>(call.data[2]);
    const auto* more = static_cast<const int32_t*>(call.data[3]);
    const auto* bias = static_cast<const float*>(call.data[4]);  // [padded]
    const Clip clip(static_cast<const float*>(call.data[5]));
    // Per input position: where its window starts in a tile; then the first row of taps that
    // reaches an output, the end of those rows, and the position's residue, in one word.
    const auto* place = static_cast<const int32_t*>(call.data[6]) + 2 * s.residues * s.rows;
    const int64_t slice = s.padded / s.tiles;
    const int64_t first = share(s.tiles, call.part, call.parts);
    const int64_t last = share(s.tiles, call.part + 1, call.parts);
    float* sums = call.scratch;
    for (int64_t item = 0; item < call.items; ++item) {
        const float* list = call.in[0] + item * call.in_size[0];
        const auto* index = reinterpret_cast<const int32_t*>(list) + list_header;
        const int64_t count = *reinterpret_cast<const int32_t*>(list);
        const float* value = list + list_header + s.capacity;
        for (int64_t tile = first; tile < last; ++tile) {
            start_tile(s, bias + tile * slice, slice, sums);
            const int32_t* of_tile = start + tile * s.inputs * (s.rows + 1);
            if (s.positions == 1 && s.rows == 1 && s.residues == 1) {  // an index is an input
                // Where the weights of the inputs to come start is fetched well ahead, and
                // the weights themselves a few inputs ahead.
                constexpr int64_t near = 3, far = 8;
                const auto bounds_of = [&](int64_t a) {
                    return of_tile + 2 * static_cast<int64_t>(index[least(a, count - 1)]);
                };
                for (int64_t a = 0; a < count; ++a) {
                    __builtin_prefetch(bounds_of(a + far));
                    const int32_t* next = bounds_of(a + near);
                    Weights::prefetch(next[0], next[1], offset, weights);
                    const int32_t* bounds = bounds_of(a);
                    if (bounds[0] != bounds[1]) {
                        Weights::run(value[a], bounds[0], bounds[1], offset, weights, more, sums);
                    }
                }
            } else {
                for (int64_t a = 0; a < count; ++a) {
                    const int64_t i = index[a];
                    const int64_t quotient = (i * s.multiplier) >> s.shift;
                    const int64_t rest = i - quotient * s.inner;
                    const int64_t channel = s.channel_first ? quotient : rest;
                    const int64_t position = s.channel_first ? rest : quotient;
                    const auto ranges = static_cast<uint32_t>(place[2 * position + 1]);
                    const int64_t y0 = ranges & 255, y1 = ranges >> 8 & 255;
                    const int32_t* bounds =
                        of_tile + (channel * s.residues + (ranges >> 16)) * (s.rows + 1);
                    float* const to = sums + place[2 * position] * slice;
                    if (Weights::merge) {
                        Weights::run(value[a], bounds[y0], bounds[y1], offset, weights, more, to);
                        continue;
                    }
                    for (int64_t y = y0; y < y1; ++y) {
                        Weights::run(value[a], bounds[y], bounds[y + 1], offset, weights, more, to);
                    }
                }
            }
            finish_tile(call, s, sums, slice, tile, clip, call.out[0] + item * call.out_size[0]);
        }
    }
}

// n / divisor in every lane, given 1 / divisor: exact below 2^20, where half a step beyond a
// multiple stays further from any integer than two roundings go.
inline I quotient(I n, float inverse) {
    return __builtin_convertvector((__builtin_convertvector(n, V) + splat(0.5f)) * splat(inverse),
                                   I);
}

// An item's list by input channel (and residue), and in each by rows of the image: what a row
// of taps takes to an output is then one run, and where the rows start says which.
struct ByRow {
    const float* value;
    int32_t* base;    // where each entry's window starts in a tile
    int32_t* before;  // [rows of all inputs + 1]: how many entries come before
    int32_t* ranges;  // [inputs][rows of taps][2]: the first entry that reaches an output, the end
    int32_t* row;     // for sorting: of each entry of the list, counted through all inputs
    float* moved;

    void sort(const ActiveShape& s, const float* list, const int32_t* reach, int64_t slice) {
        const auto* index = reinterpret_cast<const int32_t*>(list) + list_header;
        const int64_t count = *reinterpret_cast<const int32_t*>(list);
        const float* values = list + list_header + s.capacity;
        const int32_t* place = reach + 2 * s.residues * s.rows;
        const int64_t rows = s.inputs * s.in_height;
        for (int64_t r = 0; r <= rows; ++r) before[r] = 0;
        if (s.channel_first && s.residues == 1) {  // it comes sorted
            value = values;
            find_rows(s, index, count, place[0], slice);
            for (int64_t a = 0; a < count; ++a) before[row[a] + 1] = static_cast<int32_t>(a + 1);
            for (int64_t r = 0; r < rows; ++r) before[r + 1] = larger(before[r + 1], before[r]);
        } else {
            value = moved;
            move(s, index, values, count, place, slice);
        }
        for (int64_t c = 0, residue = 0; c < s.inputs; ++c) {
            const int32_t* const before_row = before + c * s.in_height;
            const int32_t* const limits = reach + 2 * residue * s.rows;
            int32_t* const of_input = ranges + 2 * c * s.rows;
            for (int64_t i = 0; i < 2 * s.rows; ++i) of_input[i] = before_row[limits[i]];
            if (++residue == s.residues) residue = 0;
        }
    }

    inline void find_rows(const ActiveShape& s, const int32_t* index, int64_t count, int32_t origin,
                          int64_t slice) const {
        const float by_width = 1.0f / static_cast<float>(s.in_width);
        const float by_height = 1.0f / static_cast<float>(s.in_height);
        const I margin = splat_int(static_cast<int32_t>(s.pitch - s.in_width));
        const I image = splat_int(static_cast<int32_t>(s.pitch * s.in_height));
        for (int64_t a = 0; a < count; a += W) {
            // What lies after the list's end may be anything: no arithmetic with it.
            const I listed = lane_numbers() < splat_int(static_cast<int32_t>(count - a));
            const I at = load_int(index + a) & listed;
            const I y = quotient(at, by_width);
            const I position = splat_int(origin) + at + y * margin - quotient(y, by_height) * image;
            store_int(row + a, y);
            store_int(base + a, position * splat_int(static_cast<int32_t>(slice)));
        }
    }

    inline void move(const ActiveShape& s, const int32_t* index, const float* values, int64_t count,
                     const int32_t* place, int64_t slice) const {
        const int32_t* row_of = place + 2 * s.in_height * s.in_width;  // through the residues
        const int64_t rows = s.residues * s.in_height;
        const auto position = [&](int64_t i, int64_t& channel) {
            const int64_t quotient = (i * s.multiplier) >> s.shift;
            const int64_t rest = i - quotient * s.inner;
            channel = s.channel_first ? quotient : rest;
            return s.channel_first ? rest : quotient;
        };
        int64_t channel;
        for (int64_t a = 0; a < count; ++a) {
            const int32_t at = row_of[position(index[a], channel)];
            row[a] = at + static_cast<int32_t>(channel * rows);
            ++before[row[a]];
        }
        int32_t sum = 0;
        for (int64_t r = 0; r <= s.inputs * s.in_height; ++r) {
            sum += before[r];
            before[r] = sum;
        }
        for (int64_t a = count; a-- > 0;) {  // from the end: each row is filled down to its start
            const int32_t to = --before[row[a]];
            base[to] = place[2 * position(index[a], channel)] * static_cast<int32_t>(slice);
            moved[to] = values[a];
        }
    }
};

// `Blocks` blocks of one input channel and one row of taps stay in registers while the
// channel's active positions in a range pass by.
template <int N, int Blocks, class Number>
inline void strip(const Number* w, const int32_t* offset, const ByRow& sorted, int64_t from,
                  int64_t to, float* sums) {
    typename Of<N>::V weight[Blocks];
    float* at[Blocks];
#pragma GCC unroll 4
    for (int b = 0; b < Blocks; ++b) {
        weight[b] = load_weights<N>(w + b * N);
        at[b] = sums + offset[b];
    }
#pragma GCC unroll 1
    for (int64_t a = from; a < to; ++a) {
        const auto x = splat<N>(sorted.value[a]);
        const int64_t base = sorted.base[a];
#pragma GCC unroll 4
        for (int b = 0; b < Blocks; ++b)
            store<N>(at[b] + base, load<N>(at[b] + base) + x * weight[b]);
    }
}

// Convolution in blocks of N outputs, in strips: the blocks of one input channel and one row of
// taps, at most four together. Positions whose output would lie above or below are left out
// (they ascend, so these are at the ends); those beside fall into the margins.
template <int N, class Number>
void active_channels(const Call& call) {
    const auto& s = *reinterpret_cast<const ActiveShape*>(call.shape);
    const auto* start = static_cast<const int32_t*>(call.data[0]);  // [tiles + 1][strip, block]
    const auto* offset = static_cast<const int32_t*>(call.data[1]);
    const auto* weights = static_cast<const Number*>(call.data[2]);
    const auto* strips = static_cast<const int32_t*>(call.data[3]);  // [][row of taps, blocks]
    const auto* bias = static_cast<const float*>(call.data[4]);
    const Clip clip(static_cast<const float*>(call.data[5]));
    // Per residue and row of taps: the first row of the image that reaches an output, and the end.
    const auto* reach = static_cast<const int32_t*>(call.data[6]);
    const int64_t slice = s.padded / s.tiles;
    const int64_t first = share(s.tiles, call.part, call.parts);
    const int64_t last = share(s.tiles, call.part + 1, call.parts);
    const int64_t room = s.capacity + W;
    float* sums = call.scratch;
    ByRow sorted;
    sorted.moved = sums + s.positions * slice;
    sorted.base = reinterpret_cast<int32_t*>(sorted.moved + room);
    sorted.row = sorted.base + room;
    sorted.before = sorted.row + room;
    sorted.ranges = sorted.before + s.inputs * s.in_height + 1;
    for (int64_t item = 0; item < call.items; ++item) {
        sorted.sort(s, call.in[0] + item * call.in_size[0], reach, slice);
        for (int64_t tile = first; tile < last; ++tile) {
            start_tile(s, bias + tile * slice, slice, sums);
            const int32_t* at = offset + start[2 * tile + 1];
            const Number* w = weights + start[2 * tile + 1] * N;
            for (int64_t i = start[2 * tile]; i < start[2 * tile + 2]; ++i) {
                const int32_t* reached = sorted.ranges + 2 * strips[2 * i];
                const int64_t from = reached[0], to = reached[1], blocks = strips[2 * i + 1];
                switch (blocks) {
                    case 1:
                        strip<N, 1>(w, at, sorted, from, to, sums);
                        break;
                    case 2:
                        strip<N, 2>(w, at, sorted, from, to, sums);
                        break;
                    case 3:
                        strip<N, 3>(w, at, sorted, from, to, sums);
                        break;
                    default:
                        strip<N, 4>(w, at, sorted, from, to, sums);
                }
                at += blocks;
                w += blocks * N;
            }
            finish_tile(call, s, sums, slice, tile, clip, call.out[0] + item * call.out_size[0]);
        }
    }
}

}  // namespace
}  // namespace gossamer
