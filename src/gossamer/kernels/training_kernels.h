// The training kernels of one instruction set: included by training_*.cpp, which says which.

#pragma once

#include <cstdint>
#include <new>

#include "kwinners.h"
#include "training.h"
#include "training_active.h"
#include "vec.h"

namespace gossamer {
namespace {

// Accumulators of a tile: as many as there are registers for, beside a weight and an input.
constexpr int most = W == 16 ? 14 : 8;
// Outputs x vectors of a tile of blocks; 8 or 4 outputs share each load of an input.
constexpr int block_rows = W == 16 ? 8 : 4;
constexpr int block_most = 3;

// Calls f<count>(...): the number of accumulators must be known when the kernel is compiled.
#define GOSSAMER_CASE(M, most, f, ...)              \
    case M:                                         \
        if constexpr (M <= most) f(M, __VA_ARGS__); \
        break;
// clang-format off
#define GOSSAMER_COUNT(count, most, f, ...) \
    switch (count) { \
        GOSSAMER_CASE(1, most, f, __VA_ARGS__) \
        GOSSAMER_CASE(2, most, f, __VA_ARGS__) \
        GOSSAMER_CASE(3, most, f, __VA_ARGS__) \
        GOSSAMER_CASE(4, most, f, __VA_ARGS__) GOSSAMER_CASE(5, most, f, __VA_ARGS__) \
            GOSSAMER_CASE(6, most, f, __VA_ARGS__) GOSSAMER_CASE(7, most, f, __VA_ARGS__) \
                GOSSAMER_CASE(8, most, f, __VA_ARGS__) GOSSAMER_CASE(9, most, f, __VA_ARGS__) \
                    GOSSAMER_CASE(10, most, f, __VA_ARGS__) \
                        GOSSAMER_CASE(11, most, f, __VA_ARGS__) \
                            GOSSAMER_CASE(12, most, f, __VA_ARGS__) \
                                GOSSAMER_CASE(13, most, f, __VA_ARGS__) \
                                    GOSSAMER_CASE(14, most, f, __VA_ARGS__) \
    }
// clang-format on

// Cuts `total` into pieces of at most `most`, as equal as can be.
struct Pieces {
    int64_t total, count;
    Pieces(int64_t total, int64_t most) : total(total), count((total + most - 1) / most) {}
    int64_t first(int64_t piece) const { return total * piece / count; }
};

void pack(const Training& t, int64_t part, int64_t parts) {
    const int64_t lanes = t.vectors * W, size = t.height * t.width;
    const int64_t plane = t.plane_height * t.plane_width;
    const int64_t pitch = t.channels * size;
    const bool plain = plane == size;
    // A plain matrix is shared out in whole squares of the transposition.
    const int64_t columns = (pitch + W - 1) / W;
    const int64_t from_column = least(share(columns, part, parts) * W, pitch);
    const int64_t to_column = least(share(columns, part + 1, parts) * W, pitch);
    const int64_t first = share(t.channels, part, parts), last = share(t.channels, part + 1, parts);
    for (int64_t tile = 0, done = 0; done < t.examples; ++tile, done += lanes) {
        const int64_t count = least(lanes, t.examples - done);
        const float* in = t.in + done * pitch;
        float* out = t.out + tile * t.channels * plane * lanes;
        if (plain) {
            if (count < lanes) {
                __builtin_memset(
                    out + from_column * lanes, 0,
                    static_cast<size_t>((to_column - from_column) * lanes) * sizeof(float));
            }
            transpose(in + from_column, pitch, count, to_column - from_column,
                      out + from_column * lanes, lanes);
            continue;
        }
        for (int64_t c = first; c < last; ++c) {
            float* to = out + c * plane * lanes;
            __builtin_memset(to, 0, static_cast<size_t>(plane * lanes) * sizeof(float));
            for (int64_t y = 0; y < t.height; ++y) {
                const float* row = in + c * size + y * t.width;
                float* at = to + ((t.top + y * t.step_y) * t.plane_width + t.left) * lanes;
                transpose(row, pitch, count, t.width, at, t.step_x * lanes);
            }
        }
    }
}

// One row of entries on `N` vectors, `step` floats apart, the sums stored side by side.
template <int N, bool Indexed>
inline void apply_row(const Training& t, const float* in, int64_t step, int64_t lanes, int64_t row,
                      float* out) {
    V sum[N];
    const V bias = splat(t.bias ? t.bias[row] : 0.0f);
#pragma GCC unroll 16
    for (int n = 0; n < N; ++n) sum[n] = bias;
    const int64_t end = t.start[row + 1];
    for (int64_t e = t.start[row]; e < end; ++e) {
        const V weight = splat(t.values[Indexed ? t.index[e] : e]);
        const float* x = in + int64_t{t.offset[e]} * lanes;
#pragma GCC unroll 16
        for (int n = 0; n < N; ++n) sum[n] += weight * load(x + n * step);
    }
#pragma GCC unroll 16
    for (int n = 0; n < N; ++n) store(out + n * W, sum[n]);
}

// The same for `block_rows` outputs of a block, from the output `part` of the block on.
template <int N>
inline void apply_block(const Training& t, const float* in, int64_t step, int64_t lanes,
                        int64_t row, int64_t part, float* out, int64_t out_pitch) {
    V sum[block_rows][N];
#pragma GCC unroll 16
    for (int r = 0; r < block_rows; ++r) {
        const V bias = splat(t.bias ? t.bias[row * t.block + part + r] : 0.0f);
#pragma GCC unroll 16
        for (int n = 0; n < N; ++n) sum[r][n] = bias;
    }
    const int64_t end = t.start[row + 1];
    const float* weight = t.values + t.start[row] * t.block + part;
    for (int64_t e = t.start[row]; e < end; ++e, weight += t.block) {
        const float* from = in + int64_t{t.offset[e]} * lanes;
        V x[N];
#pragma GCC unroll 16
        for (int n = 0; n < N; ++n) x[n] = load(from + n * step);
#pragma GCC unroll 16
        for (int r = 0; r < block_rows; ++r) {
            const V w = splat(weight[r]);
#pragma GCC unroll 16
            for (int n = 0; n < N; ++n) sum[r][n] += w * x[n];
        }
    }
#pragma GCC unroll 16
    for (int r = 0; r < block_rows; ++r) {
#pragma GCC unroll 16
        for (int n = 0; n < N; ++n) store(out + r * out_pitch + n * W, sum[r][n]);
    }
}

// The outputs of entries on packed inputs. Sums of some outputs at a time go through a small
// buffer that the transposition into rows of examples then reads.
template <bool Blocks>
void apply(const Training& t, int64_t part, int64_t parts) {
    const int64_t lanes = t.vectors * W, plane = t.plane_height * t.plane_width;
    const int64_t positions = t.height * t.width;
    const int64_t outputs = t.rows * t.block;
    // Rows whose sums share the buffer: a square's worth of a linear layer's.
    const int64_t group = positions > 1 || t.block > W ? 1 : W / t.block;
    const int64_t first = shared_row(t.start, t.rows, part, parts);
    const int64_t last = shared_row(t.start, t.rows, part + 1, parts);
    float* sums =
        new (std::align_val_t(64)) float[static_cast<size_t>(group * t.block * positions * lanes)];
    for (int64_t tile = 0, done = 0; done < t.examples; ++tile, done += lanes) {
        const int64_t count = least(lanes, t.examples - done);
        const float* in = t.in + tile * t.channels * plane * lanes;
        for (int64_t row = first; row < last; row += group) {
            const int64_t many = least(group, last - row);
            for (int64_t r = 0; r < many; ++r) {
                for (int64_t y = 0; y < t.height; ++y) {
                    const float* from = in + y * t.step_y * t.plane_width * lanes;
                    float* to = sums + (r * t.block * positions + y * t.width) * lanes;
                    const int64_t length = positions > 1 ? t.width : t.vectors;
                    const int64_t step = positions > 1 ? t.step_x * W : W;
                    const Pieces pieces(length, Blocks ? block_most : most);
                    for (int64_t p = 0; p < pieces.count; ++p) {
                        const int64_t at = pieces.first(p), size = pieces.first(p + 1) - at;
                        if constexpr (Blocks) {
                            for (int64_t of = 0; of < t.block; of += block_rows) {
#define GOSSAMER_BLOCK(N, ...)                                    \
    apply_block<N>(t, from + at * step, step, lanes, row + r, of, \
                   to + of * positions * lanes + at * W, positions * lanes)
                                GOSSAMER_COUNT(size, block_most, GOSSAMER_BLOCK, 0)
#undef GOSSAMER_BLOCK
                            }
                        } else if (t.index) {
#define GOSSAMER_ROW(N, indexed) \
    apply_row<N, indexed>(t, from + at * step, step, lanes, row + r, to + at * W)
                            GOSSAMER_COUNT(size, most, GOSSAMER_ROW, true)
                        } else {
                            GOSSAMER_COUNT(size, most, GOSSAMER_ROW, false)
#undef GOSSAMER_ROW
                        }
                    }
                }
            }
            transpose(sums, lanes, many * t.block * positions, count,
                      t.out + (done * outputs + row * t.block) * positions, outputs * positions);
        }
    }
    ::operator delete[](sums, std::align_val_t(64));
}

// Sums of the lanes of W vectors, side by side in one.
inline V lane_sums(const float* from) {
    V v[W];
#pragma GCC unroll 16
    for (int i = 0; i < W; ++i) v[i] = load(from + i * W);
    across_each(v, [](V a, V b) { return a + b; });
    return v[0];
}

// Adds the products of `N` vectors of one output's gradient with each entry's inputs.
template <int N>
inline void gradient_row(const float* gradient, int64_t gradient_step, const float* in,
                         int64_t step, int64_t lanes, const int32_t* offset, int64_t entries,
                         float* sums) {
    V g[N];
#pragma GCC unroll 16
    for (int n = 0; n < N; ++n) g[n] = load(gradient + n * gradient_step);
    for (int64_t e = 0; e < entries; ++e) {
        const float* x = in + int64_t{offset[e]} * lanes;
        V sum = load(sums + e * W);
#pragma GCC unroll 16
        for (int n = 0; n < N; ++n) sum += g[n] * load(x + n * step);
        store(sums + e * W, sum);
    }
}

// The same for the outputs of a block, which share each load of an input.
template <int N>
inline void gradient_block(const float* gradient, int64_t gradient_pitch, int64_t gradient_step,
                           const float* in, int64_t step, int64_t lanes, const int32_t* offset,
                           int64_t entries, int64_t block, float* sums) {
    for (int64_t e = 0; e < entries; ++e) {
        const float* from = in + int64_t{offset[e]} * lanes;
        V x[N];
#pragma GCC unroll 16
        for (int n = 0; n < N; ++n) x[n] = load(from + n * step);
        for (int64_t half = 0; half < block; half += 4) {
            V sum[4];
#pragma GCC unroll 4
            for (int r = 0; r < 4; ++r) sum[r] = load(sums + (e * block + half + r) * W);
            const float* g = gradient + half * gradient_pitch;
#pragma GCC unroll 16
            for (int n = 0; n < N; ++n) {
#pragma GCC unroll 4
                for (int r = 0; r < 4; ++r) {
                    sum[r] += x[n] * load(g + r * gradient_pitch + n * gradient_step);
                }
            }
#pragma GCC unroll 4
            for (int r = 0; r < 4; ++r) store(sums + (e * block + half + r) * W, sum[r]);
        }
    }
}

// The gradient at the non-zeros: products summed over positions and tiles lane by lane, for
// a chunk of entries whose sums stay in the near caches, then over the lanes.
template <bool Blocks>
void gradient(const Training& t, int64_t part, int64_t parts) {
    constexpr int64_t chunk_sums = 256;
    constexpr int count_most = W == 16 ? 14 : 8;
    const int64_t lanes = t.vectors * W, plane = t.plane_height * t.plane_width;
    const int64_t gradient_plane = t.gradient_height * t.gradient_width;
    const int64_t positions = t.height * t.width;
    const int64_t outputs = t.rows * t.block;
    const int64_t tiles = (t.examples + lanes - 1) / lanes;
    const int64_t length = positions > 1 ? t.width : t.vectors;
    const int64_t step = positions > 1 ? t.step_x * W : W;
    const int64_t gradient_step = positions > 1 ? t.gradient_step_x * W : W;
    const int64_t chunk = chunk_sums / t.block;
    const Pieces pieces(length, count_most);
    alignas(64) float sums[chunk_sums * W];
    const int64_t first = shared_row(t.start, t.rows, part, parts);
    const int64_t last = shared_row(t.start, t.rows, part + 1, parts);
    for (int64_t row = first; row < last; ++row) {
        const int64_t end = t.values_gradient ? t.start[row + 1] : t.start[row];
        for (int64_t begin = t.start[row]; begin < end; begin += chunk) {
            const int64_t entries = least(chunk, end - begin);
            const int64_t many = entries * t.block;
            // Whole groups of W: the sums past the last are read and thrown away.
            __builtin_memset(sums, 0,
                             static_cast<size_t>((many + W - 1) / W * W * W) * sizeof(float));
            for (int64_t tile = 0; tile < tiles; ++tile) {
                const float* in = t.in + tile * t.channels * plane * lanes;
                const float* grad =
                    t.gradient + (tile * outputs + row * t.block) * gradient_plane * lanes;
                for (int64_t y = 0; y < t.height; ++y) {
                    const float* x = in + y * t.step_y * t.plane_width * lanes;
                    const float* g =
                        grad + ((t.gradient_top + y * t.gradient_step_y) * t.gradient_width +
                                t.gradient_left) *
                                   lanes;
                    for (int64_t p = 0; p < pieces.count; ++p) {
                        const int64_t at = pieces.first(p), size = pieces.first(p + 1) - at;
                        if constexpr (Blocks) {
#define GOSSAMER_BLOCK(N, ...)                                                       \
    gradient_block<N>(g + at * gradient_step, gradient_plane * lanes, gradient_step, \
                      x + at * step, step, lanes, t.offset + begin, entries, t.block, sums)
                            GOSSAMER_COUNT(size, count_most, GOSSAMER_BLOCK, 0)
#undef GOSSAMER_BLOCK
                        } else {
#define GOSSAMER_ROW(N, ...)                                                           \
    gradient_row<N>(g + at * gradient_step, gradient_step, x + at * step, step, lanes, \
                    t.offset + begin, entries, sums)
                            GOSSAMER_COUNT(size, count_most, GOSSAMER_ROW, 0)
#undef GOSSAMER_ROW
                        }
                    }
                }
            }
            for (int64_t i = 0; i < many; i += W) {
                store_first(t.values_gradient + begin * t.block + i, lane_sums(sums + i * W),
                            many - i);
            }
        }
        if (!t.bias_gradient) continue;
        for (int64_t r = 0; r < t.block; ++r) {
            V sum{};
            for (int64_t tile = 0; tile < tiles; ++tile) {
                // Padding and zeros between the elements add nothing.
                const float* g =
                    t.gradient + (tile * outputs + row * t.block + r) * gradient_plane * lanes;
                for (int64_t i = 0; i < gradient_plane * lanes; i += W) sum += load(g + i);
            }
            float total = 0.0f;
            for (int i = 0; i < W; ++i) total += sum[i];
            t.bias_gradient[row * t.block + r] = total;
        }
    }
}

#define GOSSAMER_ACTIVE(layout, block)                                      \
    {"columns", layout, GOSSAMER_ISA, W, gather_columns<block>},            \
        {"active_forward", layout, GOSSAMER_ISA, W, active_forward<block>}, \
        {"active_input", layout, GOSSAMER_ISA, W, active_input<block>}, {   \
        "active_gradient", layout, GOSSAMER_ISA, W, active_gradient<block>  \
    }

const TrainingKernel rows[] = {
    {"pack", "any", GOSSAMER_ISA, W, pack},
    {"apply", "unstructured", GOSSAMER_ISA, W, apply<false>},
    {"apply", "block", GOSSAMER_ISA, W, apply<true>},
    {"gradient", "unstructured", GOSSAMER_ISA, W, gradient<false>},
    {"gradient", "block", GOSSAMER_ISA, W, gradient<true>},
    {"winners", "any", GOSSAMER_ISA, W, pick_winners},
    {"mask", "any", GOSSAMER_ISA, W, zero_masked},
    {"list", "any", GOSSAMER_ISA, W, list_active},
    {"spread", "any", GOSSAMER_ISA, W, spread_gradient},
    GOSSAMER_ACTIVE("unstructured", 1),
    GOSSAMER_ACTIVE("block8", 8),
    GOSSAMER_ACTIVE("block16", 16),
};

}  // namespace
}  // namespace gossamer
