// Dense matrix product and convolution: register tiles of rows x output vectors.
//
// A row is an example (linear) or an output pixel (convolution). The input of a
// convolution lies padded in memory, so that input k of row r is at base[r] + offset[k]
// and no matrix of patches is ever written (an implicit im2col). Every output sums its
// inputs in the same order whatever tile it falls in.

#pragma once

#include <cstdint>

#include "elementwise.h"
#include "int8.h"
#include "kernel.h"
#include "lists.h"
#include "row_tiles.h"
#include "vec.h"

namespace gossamer {
namespace {

constexpr int64_t weight_block = 32768;  // numbers of a panel's weights that stay in L2

// Rows of `Vectors` vectors of N outputs; products(sum) adds to their sums. Before the first block
// of the depth these start at the bias, later at what the last block left in the output.
template <int Rows, int Vectors, int N, class Products>
inline void gemm_rows(float* const* out, const float* bias, int64_t outputs, const Clip* clip,
                      const Products& products) {
    typename Of<N>::V sum[Rows][Vectors];
#pragma GCC unroll 16
    for (int r = 0; r < Rows; ++r) {
#pragma GCC unroll 4
        for (int v = 0; v < Vectors; ++v) {
            sum[r][v] =
                bias ? load<N>(bias + v * N) : load_first<N>(out[r] + v * N, outputs - v * N);
        }
    }
    products(sum);
    store_tile<Rows, Vectors, N>(out, outputs, [&sum, clip](int r, int v) {
        return clip ? clip->template operator()<N>(sum[r][v]) : sum[r][v];
    });
}

// Adds the products of `depth` inputs, input(r, k) for row r, with weights that begin at `w`.
template <int Rows, int Vectors, class T, class Number, class Input>
inline void add_inputs(T (&sum)[Rows][Vectors], int64_t depth, const Number* w,
                       const Input& input) {
    constexpr int N = sizeof(T) / sizeof(float);
    multiply_tile(
        sum, depth, [w](int64_t i) { return load_weights<N>(w + i * N); },
        [input](int r, int64_t k) { return splat<N>(input(r, k)); },
        [](T s, T x, T weight) { return s + x * weight; });
}

// What all rows have in common for one panel and one block of the depth. Their inputs lie in runs
// of `run` adjacent numbers, `offset` behind where the row begins; of the first run `skip` are
// done.
template <class Number>
struct GemmPanel {
    const Number* weights;
    const float* bias;
    const Clip* clip;
    const int32_t* offset;
    int64_t run, skip, depth, outputs;
};

// A function of its own: in a larger one, what the loops around it need takes the registers of the
// addresses of rows.
template <int Rows, int Vectors, int N, class Number>
__attribute__((noinline)) void gemm_tile(const GemmPanel<Number>& p, const float* const* in,
                                         float* const* out) {
    gemm_rows<Rows, Vectors, N>(out, p.bias, p.outputs, p.clip, [&](auto& sum) {
        const Number* w = p.weights;
        const int32_t* offset = p.offset;
        for (int64_t left = p.depth, skip = p.skip; left > 0; skip = 0, ++offset) {
            const int64_t at = *offset + skip, count = least(p.run - skip, left);
            add_inputs(sum, count, w, [in, at](int r, int64_t i) { return in[r][at + i]; });
            left -= count, w += count * Vectors * N;
        }
    });
}

// Where a processor's widest registers take it two steps, vectors of half as many outputs (N) cost
// no more, and fewer of them may be in vain.
template <int MaxRows, int Vectors, class Number, int N = W>
void gemm(const Call& call) {
    const auto& s = *reinterpret_cast<const GemmShape*>(call.shape);
    const auto* weights = static_cast<const Number*>(call.data[0]);
    const auto* bias = static_cast<const float*>(call.data[1]);
    const auto* offset = static_cast<const int32_t*>(call.data[2]);
    const auto* base = static_cast<const int32_t*>(call.data[3]);
    const Clip clip(static_cast<const float*>(call.data[4]));
    constexpr int width = Vectors * N;
    over_panels<MaxRows, width>(call, s, [&](const ProductShare& part, int64_t o) {
        for (int64_t k = 0; k < s.depth; k += weight_block / width) {
            const int64_t depth = least(weight_block / width, s.depth - k);
            const bool last = k + depth == s.depth;
            const GemmPanel<Number> panel{weights + o * s.depth + k * width,
                                          k ? nullptr : bias + o,
                                          last ? &clip : nullptr,
                                          offset + k / s.run,
                                          s.run,
                                          k % s.run,
                                          depth,
                                          s.outputs - o};
            const auto tile = [&](auto n, const float* const* in, float* const* out) {
                gemm_tile<n, Vectors, N>(panel, in, out);
                if (last) finish(call, out, n, least(panel.outputs, width));
            };
            row_tiles<MaxRows, float>(call, s, base, part, o, tile);
        }
    });
}

// A vector of outputs for each of some rows: what they have in common, its inputs and weights.
template <class Number>
struct SparsePanel {
    const int32_t* offset;
    const Number* weights;
    const float* bias;
    const Clip* clip;
    int64_t depth, outputs;
};

// A function of its own, as `gemm_tile` is.
template <int Rows, class Number>
__attribute__((noinline)) void sparse_gemm_tile(const SparsePanel<Number>& p,
                                                const float* const* in, float* const* out) {
    gemm_rows<Rows, 1, W>(out, p.bias, p.outputs, p.clip, [&](auto& sum) {
        add_inputs(sum, p.depth, p.weights,
                   [in, at = p.offset](int r, int64_t i) { return in[r][at[i]]; });
    });
}

// The same where most weights are zero: each vector of outputs has a list of the inputs that any of
// them multiplies, so that blocks of outputs which share their inputs do nothing in vain. Of the
// few weights there are all meet a tile of rows while its inputs are in the first cache.
template <int MaxRows, class Number>
void sparse_gemm(const Call& call) {
    const auto& s = *reinterpret_cast<const SparseGemmShape*>(call.shape);
    const auto* start = static_cast<const int32_t*>(call.data[0]);   // [vectors + 1]
    const auto* offset = static_cast<const int32_t*>(call.data[1]);  // [inputs of all vectors]
    const auto* weights = static_cast<const Number*>(call.data[2]);  // [the same][W]
    const auto* bias = static_cast<const float*>(call.data[3]);
    const auto* base = static_cast<const int32_t*>(call.data[4]);
    const Clip clip(static_cast<const float*>(call.data[5]));
    const ProductShare part =
        product_share(call, call.items * s.rows, (s.outputs + W - 1) / W, MaxRows, work_of(start));
    const int64_t first = part.first_panel * W;
    const int64_t outputs = least(part.last_panel * W, s.outputs) - first;
    const auto tile = [&](auto n, const float* const* in, float* const* out) {
        for (int64_t p = part.first_panel; p < part.last_panel; ++p) {
            const int64_t o = p * W, k = start[p];
            float* to[n];
            for (int r = 0; r < n; ++r) to[r] = out[r] + o - first;
            const SparsePanel<Number> panel{offset + k, weights + k * W,  bias + o,
                                            &clip,      start[p + 1] - k, s.outputs - o};
            sparse_gemm_tile<n>(panel, in, to);
        }
        finish(call, out, n, outputs);
    };
    row_tiles<MaxRows, float>(call, s, base, part, first, tile);
}

// Linear layer of few outputs on one example: the lanes are inputs. With outputs in the lanes there
// would be one sum or two, which wait for themselves at every input.
template <int Together, class Number>
void dots(const Call& call) {
    const auto& s = *reinterpret_cast<const ColumnsShape*>(call.shape);
    const auto* weights = static_cast<const Number*>(call.data[0]);  // padded to [Together][W]
    const auto* bias = static_cast<const float*>(call.data[1]);
    const Clip clip(static_cast<const float*>(call.data[2]));
    const int64_t pitch = (s.depth + W - 1) / W * W, groups = (s.outputs + Together - 1) / Together;
    const int64_t first = share(groups, call.part, call.parts) * Together;
    const int64_t last = least(s.outputs, share(groups, call.part + 1, call.parts) * Together);
    for (int64_t row = 0; row < call.items * s.rows; ++row) {
        const float* x = call.in[0] + row * s.depth;
        float* out = call.out[0] + row * s.outputs;
        for (int64_t o = first; o < last; o += Together) {
            V sum[Together]{};
            const auto add = [&](V v, int64_t k) {
#pragma GCC unroll 8
                for (int i = 0; i < Together; ++i)
                    sum[i] += load_weights(weights + (o + i) * pitch + k) * v;
            };
            int64_t k = 0;
            for (; k + W <= s.depth; k += W) add(load(x + k), k);
            if (k < s.depth) add(load_first(x + k, s.depth - k), k);
            for (int64_t i = 0; i < least(Together, last - o); ++i) {
                const float total = across(sum[i], [](V a, V b) { return a + b; });
                out[o + i] = clip.one(total + bias[o + i]);
            }
        }
        if (first < last) finish(call, out + first, last - first);
    }
}

// Of some elements along one axis, [first, last).
struct Range {
    int64_t first, last;
};

// The taps of the window from `start` on that lie in an image of `size`.
inline Range taps_inside(int64_t start, int64_t taps, int64_t dilation, int64_t size) {
    const int64_t first = start < 0 ? least(taps, (dilation - 1 - start) / dilation) : 0;
    const int64_t last = start < size ? least(taps, (size - start + dilation - 1) / dilation) : 0;
    return {first, last < first ? first : last};
}

// The columns of outputs whose windows lie in the image from side to side.
inline Range columns_inside(const DepthwiseShape& s) {
    const int64_t room = s.in_width - 1 - (s.kernel_width - 1) * s.dilation_width + s.left;
    const int64_t last = room < 0 ? 0 : least(s.width, room / s.stride_width + 1);
    const int64_t first = least(last, (s.left + s.stride_width - 1) / s.stride_width);
    return {first, last};
}

template <class Number>
struct Depthwise {
    const Call& call;
    const DepthwiseShape& s;
    const Number* weights;  // [tap][channels], padded to vectors
    const float* bias;
    const Clip& clip;

    // One vector of channels of neighboring outputs: what lies in the image of windows that begin
    // at `start`. Where taps are adjacent, `Taps` of them in a row, each input that several
    // outputs read is loaded once; 0 are any number of taps. Sums have the same order in all ways.
    template <int Columns, int Taps, int Stride>
    void sum(V (&sums)[Columns], const float* image, int64_t start, int64_t c, Range rows,
             Range across) const {
        const int64_t padded = (s.channels + W - 1) / W * W, lanes = s.channels - c;
        const int64_t down = s.dilation_height * s.in_width * s.channels;
        for (int64_t i = rows.first; i < rows.last; ++i) {
            const int64_t row = start + i * down + c;
            const Number* const w = weights + i * s.kernel_width * padded + c;
            if constexpr (Taps) {
                V weight[Taps];
#pragma GCC unroll 5
                for (int t = 0; t < Taps; ++t) weight[t] = load_weights(w + t * padded);
#pragma GCC unroll 16
                for (int j = 0; j < (Columns - 1) * Stride + Taps; ++j) {
                    const V x = load_first(image + (row + j * s.channels), lanes);
#pragma GCC unroll 4
                    for (int n = 0; n < Columns; ++n) {
                        const int t = j - n * Stride;
                        if (t >= 0 && t < Taps) sums[n] += x * weight[t];
                    }
                }
            } else {
                for (int64_t t = across.first; t < across.last; ++t) {
                    const V weight = load_weights(w + t * padded);
                    const int64_t at = row + t * s.dilation_width * s.channels;
#pragma GCC unroll 4
                    for (int n = 0; n < Columns; ++n) {
                        const int64_t column = n * s.stride_width * s.channels;
                        sums[n] += load_first(image + (at + column), lanes) * weight;
                    }
                }
            }
        }
    }

    // All channels of the outputs from (y, x) on.
    template <int Columns, int Taps, int Stride>
    void outputs(const float* image, int64_t y, int64_t x, Range rows, Range across,
                 float* out) const {
        const int64_t start =
            ((y * s.stride_height - s.top) * s.in_width + x * s.stride_width - s.left) * s.channels;
        for (int64_t c = 0; c < s.channels; c += W) {
            V sums[Columns];
#pragma GCC unroll 4
            for (int n = 0; n < Columns; ++n) sums[n] = load(bias + c);
            sum<Columns, Taps, Stride>(sums, image, start, c, rows, across);
#pragma GCC unroll 4
            for (int n = 0; n < Columns; ++n)
                store_first(out + n * s.channels + c, clip(sums[n]), s.channels - c);
        }
        finish(call, out, Columns * s.channels);
    }

    void border(const float* image, int64_t y, Range columns, Range rows, float* out) const {
        for (int64_t x = columns.first; x < columns.last; ++x) {
            const Range across = taps_inside(x * s.stride_width - s.left, s.kernel_width,
                                             s.dilation_width, s.in_width);
            outputs<1, 0, 0>(image, y, x, rows, across, out + x * s.channels);
        }
    }

    // Those whose windows lie in the image from side to side, `Columns` at a time, at least as
    // many. The last ones may have been computed in part.
    template <int Columns, int Taps, int Stride>
    void inside(const float* image, int64_t y, Range columns, Range rows, float* out) const {
        for (int64_t x = columns.first; x < columns.last; x += Columns) {
            const int64_t at = least(x, columns.last - Columns);
            outputs<Columns, Taps, Stride>(image, y, at, rows, {0, s.kernel_width},
                                           out + at * s.channels);
        }
    }

    template <int Taps, int Stride>
    void row(const float* image, int64_t y, float* out) const {
        const Range rows = taps_inside(y * s.stride_height - s.top, s.kernel_height,
                                       s.dilation_height, s.in_height);
        const Range columns = columns_inside(s);
        border(image, y, {0, columns.first}, rows, out);
        if (columns.last - columns.first >= 4) {
            inside<4, Taps, Stride>(image, y, columns, rows, out);
        } else {
            inside<1, Taps, Stride>(image, y, columns, rows, out);
        }
        border(image, y, {columns.last, s.width}, rows, out);
    }
};

// Depthwise convolution, channels last: the lanes are channels.
template <class Number>
void depthwise(const Call& call) {
    const auto& s = *reinterpret_cast<const DepthwiseShape*>(call.shape);
    const Clip clip(static_cast<const float*>(call.data[2]));
    using D = Depthwise<Number>;
    const D d{call, s, static_cast<const Number*>(call.data[0]),
              static_cast<const float*>(call.data[1]), clip};
    const int64_t form = s.dilation_width == 1 ? 10 * s.kernel_width + s.stride_width : 0;
    const auto row = form == 31   ? &D::template row<3, 1>
                     : form == 32 ? &D::template row<3, 2>
                     : form == 51 ? &D::template row<5, 1>
                     : form == 52 ? &D::template row<5, 2>
                                  : &D::template row<0, 0>;
    const int64_t last = share(s.height, call.part + 1, call.parts);
    for (int64_t item = 0; item < call.items; ++item) {
        const float* image = call.in[0] + item * call.in_size[0];
        float* out = call.out[0] + item * call.out_size[0];
        for (int64_t y = share(s.height, call.part, call.parts); y < last; ++y)
            (d.*row)(image, y, out + y * s.width * s.channels);
    }
}

}  // namespace
}  // namespace gossamer
