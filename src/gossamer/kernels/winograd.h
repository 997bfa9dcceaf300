// Dense convolutions of three taps by minimal filtering (Winograd; Lavin & Gray 2016).
//
// Two outputs in a row come of four inputs by four products instead of six, and two by two outputs
// by 16 instead of 36; four by four come of 36 instead of 144. The products of a tile's outputs
// are as many numbers for each channel, so that those of many tiles are as many matrix products.
// Of two outputs all factors are 1 or, in the packed weights, 1/2: results are as accurate as those
// of the plain sum. Four outputs are interpolated at 0, +-3/4, +-3/2 and infinity, which loses half
// a digit less than whole numbers do: their error is about twice that of the plain sum. The input
// may not be infinite, since differences of inputs are multiplied.

#pragma once

#include <cstdint>

#include "dense.h"
#include "elementwise.h"
#include "kernel.h"
#include "row_tiles.h"
#include "vec.h"

namespace gossamer {
namespace {

// Of one side of a tile: several outputs of three taps, or one of a single tap.
template <int Taps, int Several>
struct Filter {
    static constexpr int outputs = Taps == 3 ? Several : 1, inputs = outputs + Taps - 1;

    // The tiles of `size` outputs, the first output of a tile, and how many of its outputs there
    // are: they are `dilation` apart, as its inputs are.
    static inline int64_t count(int64_t size, int64_t dilation) {
        const int64_t whole = size / (outputs * dilation) * dilation;
        return whole + least(dilation, size - outputs * whole);
    }
    static inline int64_t first(int64_t tile, int64_t dilation) {
        return tile / dilation * outputs * dilation + tile % dilation;
    }
    static inline int there(int64_t first, int64_t dilation, int64_t size) {
        return static_cast<int>(least(outputs, (size - first + dilation - 1) / dilation));
    }

    // The factors of the products, in place, from inputs `step` apart.
    static inline void spread(V* d, int step) {
        if constexpr (inputs == 4) {
            const V a = d[0], b = d[step], c = d[2 * step], e = d[3 * step];
            d[0] = c - a, d[step] = b + c, d[2 * step] = c - b, d[3 * step] = e - b;
        } else if constexpr (inputs == 6) {
            const V a = d[0], b = d[step], c = d[2 * step], e = d[3 * step], f = d[4 * step];
            const V even = f - 2.25f * c, odd = e - 2.25f * b;
            const V more = f - 0.5625f * c, odds = e - 0.5625f * b;
            d[0] = f - 2.8125f * c + 1.265625f * a;
            d[step] = even + 0.75f * odd, d[2 * step] = even - 0.75f * odd;
            d[3 * step] = more + 1.5f * odds, d[4 * step] = more - 1.5f * odds;
            d[5 * step] = d[5 * step] - 2.8125f * e + 1.265625f * b;
        }
    }
    // The outputs, in place, from products.
    static inline void gather(V* m, int step) {
        if constexpr (inputs == 4) {
            const V a = m[0], b = m[step], c = m[2 * step], e = m[3 * step];
            m[0] = a + b + c, m[step] = b - c + e;
        } else if constexpr (inputs == 6) {
            const V near = m[step] + m[2 * step], slope = m[step] - m[2 * step];
            const V far = m[3 * step] + m[4 * step], steep = m[3 * step] - m[4 * step];
            m[0] = m[0] + near + far;
            m[step] = 0.75f * slope + 1.5f * steep;
            m[2 * step] = 0.5625f * near + 2.25f * far;
            m[3 * step] = 0.421875f * slope + 3.375f * steep + m[5 * step];
        }
    }
};

template <int High, int Wide, int Several>
struct Winograd {
    using Y = Filter<High, Several>;
    using X = Filter<Wide, Several>;
    static constexpr int products = Y::inputs * X::inputs;

    const Call& call;
    const WinogradShape& s;
    const float* zeros;  // as many as channels
    int64_t across = X::count(s.width, s.dilation_width);
    int64_t tiles = Y::count(s.height, s.dilation_height) * across;  // of an item

    // Where the outputs of a tile lie: `high` times `wide` of them are in the image.
    struct Place {
        float* out;
        int high, wide;
    };
    float* output(const Place& place, int64_t y, int64_t x) const {
        return place.out + (y * s.dilation_height * s.width + x * s.dilation_width) * s.outputs;
    }

    // Writes the factors of tile number `tile` of all items, those of a product `pitch` behind the
    // last.
    Place before(int64_t tile, float* to, int64_t pitch) const {
        const int64_t item = tile / tiles, in_item = tile % tiles;
        const int64_t y = Y::first(in_item / across, s.dilation_height);
        const int64_t x = X::first(in_item % across, s.dilation_width);
        const float* image = call.in[0] + item * call.in_size[0];
        const float* in[products];
        for (int i = 0; i < products; ++i) {
            const int64_t row = y - s.top + i / X::inputs * s.dilation_height;
            const int64_t column = x - s.left + i % X::inputs * s.dilation_width;
            const bool inside = row >= 0 && row < s.in_height && column >= 0 && column < s.in_width;
            in[i] = inside ? image + (row * s.in_width + column) * s.channels : zeros;
        }
        for (int64_t c = 0; c < s.channels; c += W) {
            V d[products];
#pragma GCC unroll 36
            for (int i = 0; i < products; ++i) d[i] = load_first(in[i] + c, s.channels - c);
#pragma GCC unroll 6
            for (int i = 0; i < X::inputs; ++i) Y::spread(d + i, X::inputs);
#pragma GCC unroll 6
            for (int i = 0; i < Y::inputs; ++i) X::spread(d + i * X::inputs, 1);
#pragma GCC unroll 36
            for (int i = 0; i < products; ++i)
                store_first(to + i * pitch + c, d[i], s.channels - c);
        }
        return {call.out[0] + item * call.out_size[0] + (y * s.width + x) * s.outputs,
                Y::there(y, s.dilation_height, s.height), X::there(x, s.dilation_width, s.width)};
    }

    // Outputs o to o + n of a tile from its products.
    void after(const Place& place, const float* from, int64_t pitch, int64_t o, int64_t n,
               const float* bias, const Clip& clip) const {
        for (int64_t v = 0; v < n; v += W) {
            V m[products];
#pragma GCC unroll 36
            for (int i = 0; i < products; ++i) m[i] = load(from + i * pitch + v);
#pragma GCC unroll 6
            for (int i = 0; i < X::inputs; ++i) Y::gather(m + i, X::inputs);
#pragma GCC unroll 4
            for (int i = 0; i < Y::outputs; ++i) X::gather(m + i * X::inputs, 1);
            const V first = load(bias + o + v);
#pragma GCC unroll 4
            for (int i = 0; i < Y::outputs; ++i) {
#pragma GCC unroll 4
                for (int j = 0; j < X::outputs; ++j) {
                    if (i >= place.high || j >= place.wide) continue;
                    store_first(output(place, i, j) + o + v, clip(m[i * X::inputs + j] + first),
                                n - v);
                }
            }
        }
    }

    void finish_tile(const Place& place, int64_t o, int64_t n) const {
        float* rows[Y::outputs * X::outputs];
        int count = 0;
        for (int i = 0; i < place.high; ++i)
            for (int j = 0; j < place.wide; ++j) rows[count++] = output(place, i, j) + o;
        finish(call, rows, count, n);
    }
};

// Blocks of tiles whose factors fit the second cache meet all weights of a panel of outputs.

template <int High, int Wide, int Several, int MaxRows, int Vectors>
void winograd(const Call& call) {
    using Form = Winograd<High, Wide, Several>;
    constexpr int64_t width = Vectors * W;
    const auto& s = *reinterpret_cast<const WinogradShape*>(call.shape);
    const auto* weights = static_cast<const float*>(call.data[0]);  // [product][panel][channel]
    const auto* bias = static_cast<const float*>(call.data[1]);
    const Clip clip(static_cast<const float*>(call.data[2]));
    const int64_t panels = (s.outputs + width - 1) / width;
    const int64_t tiles = least(s.tiles, most_winograd_tiles);
    typename Form::Place places[most_winograd_tiles];
    constexpr int32_t start = 0;  // of a tile's inputs
    float* const zeros = call.scratch;
    for (int64_t i = 0; i < s.zeros; ++i) zeros[i] = 0;
    // A line more than the factors are, so that they do not meet in the same set of the cache.
    const int64_t pitch = tiles * s.channels + W, product_pitch = tiles * width + W;
    float* const factors = zeros + s.zeros;
    float* const sums = factors + Form::products * pitch;
    const Form form{call, s, zeros};
    const ProductShare part = product_share(call, call.items * form.tiles, panels, MaxRows);
    const int64_t runs = (part.last_row - part.first_row + MaxRows - 1) / MaxRows;
    const int64_t blocks = (runs * MaxRows + tiles - 1) / tiles;
    for (int64_t b = 0; b < blocks; ++b) {
        const int64_t first = part.first_row + share(runs, b, blocks) * MaxRows;
        const int64_t last =
            least(part.last_row, part.first_row + share(runs, b + 1, blocks) * MaxRows);
        for (int64_t i = 0; i < last - first; ++i)
            places[i] = form.before(first + i, factors + i * s.channels, pitch);
        for (int64_t p = part.first_panel; p < part.last_panel; ++p) {
            for (int64_t m = 0; m < Form::products; ++m) {
                const GemmPanel<float> panel{weights + (m * panels + p) * s.channels * width,
                                             zeros,
                                             nullptr,
                                             &start,
                                             s.channels,
                                             0,
                                             s.channels,
                                             width};
                by_rows<MaxRows>(last - first, [&](auto n, int64_t i) {
                    const float* in[n];
                    float* out[n];
                    for (int r = 0; r < n; ++r) {
                        in[r] = factors + m * pitch + (i + r) * s.channels;
                        out[r] = sums + m * product_pitch + (i + r) * width;
                    }
                    gemm_tile<n, Vectors, W>(panel, in, out);
                });
            }
            const int64_t o = p * width, n = least(width, s.outputs - o);
            for (int64_t i = 0; i < last - first; ++i)
                form.after(places[i], sums + i * width, product_pitch, o, n, bias, clip);
        }
        const int64_t o = part.first_panel * width;
        const int64_t n = least(part.last_panel * width, s.outputs) - o;
        for (int64_t i = 0; call.link_count && i < last - first; ++i)
            form.finish_tile(places[i], o, n);
    }
}

}  // namespace
}  // namespace gossamer
