// Dense convolutions of three taps by minimal filtering (Winograd; Lavin & Gray 2016).
//
// Two outputs in a row come of four inputs by four products instead of six, and two by two outputs
// by 16 instead of 36. The products of a tile's outputs are 16 numbers for each channel, so that
// those of many tiles are 16 matrix products. All factors are 1 or, in the packed weights, 1/2:
// results are as accurate as those of the plain sum. The input may not be infinite, since
// differences of inputs are multiplied.

#pragma once

#include <cstdint>

#include "dense.h"
#include "elementwise.h"
#include "kernel.h"
#include "row_tiles.h"
#include "vec.h"

namespace gossamer {
namespace {

// Of one side of a tile: three taps, or a single one which needs no filtering.
template <int Taps>
struct Filter {
    static constexpr int inputs = Taps == 3 ? 4 : 1, outputs = Taps == 3 ? 2 : 1;

    // The factors of the products, in place, from inputs `step` apart.
    static inline void spread(V* d, int step) {
        if constexpr (Taps == 3) {
            const V a = d[0], b = d[step], c = d[2 * step], e = d[3 * step];
            d[0] = a - c, d[step] = b + c, d[2 * step] = c - b, d[3 * step] = b - e;
        }
    }
    // The outputs, in place, from products.
    static inline void gather(V* m, int step) {
        if constexpr (Taps == 3) {
            const V a = m[0], b = m[step], c = m[2 * step], e = m[3 * step];
            m[0] = a + b + c, m[step] = b - c - e;
        }
    }
};

template <int High, int Wide>
struct Winograd {
    using Y = Filter<High>;
    using X = Filter<Wide>;
    static constexpr int products = Y::inputs * X::inputs;

    const Call& call;
    const WinogradShape& s;
    const float* zeros;  // as many as channels
    int64_t across = (s.width + X::outputs - 1) / X::outputs;
    int64_t tiles = (s.height + Y::outputs - 1) / Y::outputs * across;  // of an item

    // The factors of tile number `tile` of all items, those of a product `pitch` behind the last.
    void before(int64_t tile, float* to, int64_t pitch) const {
        const float* image = call.in[0] + tile / tiles * call.in_size[0];
        const int64_t y = tile % tiles / across * Y::outputs - s.top;
        const int64_t x = tile % tiles % across * X::outputs - s.left;
        const float* in[products];
        for (int i = 0; i < products; ++i) {
            const int64_t row = y + i / X::inputs, column = x + i % X::inputs;
            const bool inside = row >= 0 && row < s.in_height && column >= 0 && column < s.in_width;
            in[i] = inside ? image + (row * s.in_width + column) * s.channels : zeros;
        }
        for (int64_t c = 0; c < s.channels; c += W) {
            V d[products];
#pragma GCC unroll 16
            for (int i = 0; i < products; ++i) d[i] = load_first(in[i] + c, s.channels - c);
#pragma GCC unroll 4
            for (int i = 0; i < X::inputs; ++i) Y::spread(d + i, X::inputs);
#pragma GCC unroll 4
            for (int i = 0; i < Y::inputs; ++i) X::spread(d + i * X::inputs, 1);
#pragma GCC unroll 16
            for (int i = 0; i < products; ++i)
                store_first(to + i * pitch + c, d[i], s.channels - c);
        }
    }

    // Outputs o to o + n of a tile from its products.
    void after(int64_t tile, const float* from, int64_t pitch, int64_t o, int64_t n,
               const float* bias, const Clip& clip) const {
        float* image = call.out[0] + tile / tiles * call.out_size[0];
        const int64_t y = tile % tiles / across * Y::outputs;
        const int64_t x = tile % tiles % across * X::outputs;
        const int64_t high = least(Y::outputs, s.height - y), wide = least(X::outputs, s.width - x);
        float* out[Y::outputs * X::outputs];
        for (int64_t i = 0; i < high; ++i)
            for (int64_t j = 0; j < wide; ++j)
                out[i * wide + j] = image + ((y + i) * s.width + x + j) * s.outputs + o;
        for (int64_t v = 0; v < n; v += W) {
            V m[products];
#pragma GCC unroll 16
            for (int i = 0; i < products; ++i) m[i] = load(from + i * pitch + v);
#pragma GCC unroll 4
            for (int i = 0; i < X::inputs; ++i) Y::gather(m + i, X::inputs);
#pragma GCC unroll 2
            for (int i = 0; i < Y::outputs; ++i) X::gather(m + i * X::inputs, 1);
            const V first = load(bias + o + v);
#pragma GCC unroll 2
            for (int i = 0; i < Y::outputs; ++i) {
#pragma GCC unroll 2
                for (int j = 0; j < X::outputs; ++j) {
                    if (i >= high || j >= wide) continue;
                    const V sum = m[i * X::inputs + j] + first;
                    store_first(out[i * wide + j] + v, clip(sum), n - v);
                }
            }
        }
        finish(call, out, high * wide, n);
    }
};

// Blocks of tiles whose factors fit the second cache meet all weights of a panel of outputs.
template <int High, int Wide, int MaxRows, int Vectors>
void winograd(const Call& call) {
    using Form = Winograd<High, Wide>;
    constexpr int64_t width = Vectors * W;
    const auto& s = *reinterpret_cast<const WinogradShape*>(call.shape);
    const auto* weights = static_cast<const float*>(call.data[0]);  // [product][panel][channel]
    const auto* bias = static_cast<const float*>(call.data[1]);
    const Clip clip(static_cast<const float*>(call.data[2]));
    const int64_t panels = (s.outputs + width - 1) / width;
    float* const zeros = call.scratch;
    for (int64_t i = 0; i < s.zeros; ++i) zeros[i] = 0;
    // A line more than the factors are, so that they do not meet in the same set of the cache.
    const int64_t pitch = s.tiles * s.channels + W, product_pitch = s.tiles * width + W;
    float* const factors = zeros + s.zeros;
    float* const sums = factors + Form::products * pitch;
    const Form form{call, s, zeros};
    const ProductShare part = product_share(call, call.items * form.tiles, panels, MaxRows);
    const int64_t runs = (part.last_row - part.first_row + MaxRows - 1) / MaxRows;
    const int64_t blocks = (runs * MaxRows + s.tiles - 1) / s.tiles;
    for (int64_t b = 0; b < blocks; ++b) {
        const int64_t first = part.first_row + share(runs, b, blocks) * MaxRows;
        const int64_t last =
            least(part.last_row, part.first_row + share(runs, b + 1, blocks) * MaxRows);
        for (int64_t i = 0; i < last - first; ++i)
            form.before(first + i, factors + i * s.channels, pitch);
        for (int64_t p = part.first_panel; p < part.last_panel; ++p) {
            for (int64_t m = 0; m < Form::products; ++m) {
                const float* const w = weights + (m * panels + p) * s.channels * width;
                by_rows<MaxRows>(last - first, [&](auto n, int64_t i) {
                    const float* in[n];
                    float* out[n];
                    for (int r = 0; r < n; ++r) {
                        in[r] = factors + m * pitch + (i + r) * s.channels;
                        out[r] = sums + m * product_pitch + (i + r) * width;
                    }
                    gemm_rows<n, Vectors, true>(in, out, nullptr, s.channels, w, zeros, width,
                                                nullptr);
                });
            }
            const int64_t o = p * width, n = least(width, s.outputs - o);
            for (int64_t i = 0; i < last - first; ++i)
                form.after(first + i, sums + i * width, product_pitch, o, n, bias, clip);
        }
    }
}

}  // namespace
}  // namespace gossamer
