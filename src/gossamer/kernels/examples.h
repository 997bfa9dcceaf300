// Convolution on a batch, sparse weights: the lanes are examples. W examples are transposed
// once, so that all values of one input lie together; every non-zero weight then meets a tile
// of outputs, two rows of up to `Most` pixels, whose sums are in registers. No lane is idle
// and all loads are aligned, whatever the size of the image. Non-zeros are ordered by chunk of
// input channels (what a tile reads of a chunk about fits L1), then by output.

#pragma once

#include <cstdint>

#include "elementwise.h"
#include "int8.h"
#include "kernel.h"
#include "sparse_weights.h"
#include "vec.h"

namespace gossamer {
namespace {

template <int Rows, int N, int Together, class Number>
inline void examples_tile(const ExamplesShape& s, const float* in, const int32_t* start,
                          const int32_t* offset, const Number* weights, const float* bias,
                          const Clip& clip, int64_t first, int64_t last, float* sums, float* out) {
    constexpr int tile = Rows * N;
    const int64_t pitch = s.pitch * W, width = s.width / s.pool;
    const int64_t plane = s.height / s.pool * width * W;
    const int64_t blocks = blocks_of(s.outputs, Together);
    for (int64_t c = 0; c < s.chunks; ++c) {
        const int32_t* bounds = start + c * (blocks + 1);
        for (int64_t b = first; b < last; ++b) {
            const int64_t o = b * Together;
            float* const so_far = sums + (b - first) * Together * tile * W;
            V sum[Together][tile];
#pragma GCC unroll 8
            for (int j = 0; j < Together; ++j) {
#pragma GCC unroll 32
                for (int v = 0; v < tile; ++v)
                    sum[j][v] = c ? load(so_far + (j * tile + v) * W) : splat(bias[o + j]);
            }
            const int64_t end = bounds[b + 1];
            for (int64_t e = bounds[b]; e < end; ++e) {
                const float* const x = in + offset[e];
                V weight[Together];
#pragma GCC unroll 8
                for (int j = 0; j < Together; ++j) weight[j] = splat(weights[e * Together + j]);
#pragma GCC unroll 2
                for (int r = 0; r < Rows; ++r) {
#pragma GCC unroll 16
                    for (int v = 0; v < N; ++v) {
                        const V input = load(x + r * pitch + v * W);
#pragma GCC unroll 8
                        for (int j = 0; j < Together; ++j) sum[j][r * N + v] += weight[j] * input;
                    }
                }
            }
            if (c + 1 < s.chunks) {
#pragma GCC unroll 8
                for (int j = 0; j < Together; ++j) {
#pragma GCC unroll 32
                    for (int v = 0; v < tile; ++v) store(so_far + (j * tile + v) * W, sum[j][v]);
                }
                continue;
            }
#pragma GCC unroll 8
            for (int j = 0; j < Together; ++j) {
                if (o + j >= s.outputs) break;
                float* const to = out + (o + j - first * Together) * plane;
                if (s.pool == 1) {
#pragma GCC unroll 2
                    for (int r = 0; r < Rows; ++r) {
#pragma GCC unroll 16
                        for (int v = 0; v < N; ++v)
                            store(to + (r * width + v) * W, clip(sum[j][r * N + v]));
                    }
                } else if constexpr (Rows == 2 && N % 2 == 0) {
#pragma GCC unroll 8
                    for (int v = 0; v < N; v += 2) {
                        const V best = larger(larger(sum[j][N + v + 1], sum[j][N + v]),
                                              larger(sum[j][v + 1], sum[j][v]));
                        store(to + v / 2 * W, clip(best));
                    }
                }
            }
        }
    }
}

template <int Most, int Together, class Number>
void examples(const Call& call) {
    const auto& s = *reinterpret_cast<const ExamplesShape*>(call.shape);
    const auto* start =
        static_cast<const int32_t*>(call.data[0]);  // [chunks][blocks of outputs + 1]
    const auto* offset = static_cast<const int32_t*>(call.data[1]);
    const auto* weights = static_cast<const Number*>(call.data[2]);  // [entries][Together]
    const auto* bias = static_cast<const float*>(call.data[3]);      // padded to whole blocks
    const Clip clip(static_cast<const float*>(call.data[4]));
    const int64_t blocks = blocks_of(s.outputs, Together);
    const int64_t first = share(blocks, call.part, call.parts);
    const int64_t last = share(blocks, call.part + 1, call.parts);
    const int64_t size = call.in_size[0], width = s.width / s.pool;
    const int64_t plane = s.height / s.pool * width;
    const int64_t from_output = first * Together, to_output = least(s.outputs, last * Together);
    float* image = call.scratch;       // [inputs][W]
    float* result = image + size * W;  // [outputs][pixels][W]
    float* sums = result + s.outputs * plane * W;
    // A max-pool leaves out an odd row or column.
    const int64_t rows = s.height / s.pool * s.pool, columns = width * s.pool;
    for (int64_t item = 0; item < call.items; item += W) {
        const int64_t count = least(W, call.items - item);
        transpose(call.in[0] + item * size, size, count, size, image, W);
        for (int64_t y = 0; y < rows; y += 2) {
            int64_t x = 0;
#define GOSSAMER_PIXELS(N)                                                                        \
    if constexpr (N <= Most)                                                                      \
        for (; columns - x >= N; x += N) {                                                        \
            const float* const from = image + (y * s.pitch + x) * W;                              \
            float* const to =                                                                     \
                result + (from_output * plane + y / s.pool * width + x / s.pool) * W;             \
            if (y + 1 < rows) {                                                                   \
                examples_tile<2, N, Together>(s, from, start, offset, weights, bias, clip, first, \
                                              last, sums, to);                                    \
            } else {                                                                              \
                examples_tile<1, N, Together>(s, from, start, offset, weights, bias, clip, first, \
                                              last, sums, to);                                    \
            }                                                                                     \
        }
            GOSSAMER_PIXELS(6)
            GOSSAMER_PIXELS(4)
            GOSSAMER_PIXELS(2)
            GOSSAMER_PIXELS(1)
#undef GOSSAMER_PIXELS
        }
        transpose(result + from_output * plane * W, W, (to_output - from_output) * plane, count,
                  call.out[0] + item * call.out_size[0] + from_output * plane, call.out_size[0]);
        for (int64_t i = item; i < item + count; ++i)
            finish(call, call.out[0] + i * call.out_size[0] + from_output * plane,
                   (to_output - from_output) * plane);
    }
}

}  // namespace
}  // namespace gossamer
