// Dense matrix product and convolution: register tiles of rows x output vectors.
//
// A row is an example (linear) or an output pixel (convolution). The input of a
// convolution lies padded in memory, so that input k of row r is at base[r] + offset[k]
// and no matrix of patches is ever written (an implicit im2col). Every output sums its
// inputs in the same order whatever tile it falls in.

#pragma once

#include <cstdint>

#include "int8.h"
#include "kernel.h"
#include "row_tiles.h"
#include "vec.h"

namespace gossamer {
namespace {

constexpr int64_t depth_block = 384;  // a block of weights for one panel stays in L2

template <int Rows, int Vectors, bool Contiguous, class Number>
inline void gemm_tile(const float* const* in, const int32_t* offset, int64_t depth, const Number* w,
                      V (&sum)[Rows][Vectors]) {
    for (int64_t k = 0; k < depth; ++k) {
        V weight[Vectors];
#pragma GCC unroll 4
        for (int v = 0; v < Vectors; ++v) weight[v] = load_weights(w + (k * Vectors + v) * W);
        const int64_t at = Contiguous ? k : offset[k];
#pragma GCC unroll 16
        for (int r = 0; r < Rows; ++r) {
            const V x = splat(in[r][at]);
#pragma GCC unroll 4
            for (int v = 0; v < Vectors; ++v) sum[r][v] += x * weight[v];
        }
    }
}

template <int Rows, int Vectors, bool Contiguous, class Number>
void gemm_rows(const float* const* in, float* const* out, const int32_t* offset, int64_t depth,
               const Number* w, const float* bias, int64_t outputs, const Clip* clip) {
    V sum[Rows][Vectors];
    // Before the first block of the depth the sums start at the bias, later at what the
    // last block left in the output.
    for (int r = 0; r < Rows; ++r) {
        for (int v = 0; v < Vectors; ++v) {
            sum[r][v] = bias ? load(bias + v * W) : load_first(out[r] + v * W, outputs - v * W);
        }
    }
    gemm_tile<Rows, Vectors, Contiguous, Number>(in, offset, depth, w, sum);
    for (int r = 0; r < Rows; ++r) {
        for (int v = 0; v < Vectors; ++v) {
            if (outputs <= v * W) break;
            store_first(out[r] + v * W, clip ? (*clip)(sum[r][v]) : sum[r][v], outputs - v * W);
        }
    }
}

template <int MaxRows, int Vectors, bool Contiguous, class Number>
void gemm_run(const Call& call) {
    const auto& s = *reinterpret_cast<const GemmShape*>(call.shape);
    const auto* weights = static_cast<const Number*>(call.data[0]);
    const auto* bias = static_cast<const float*>(call.data[1]);
    const auto* offset = static_cast<const int32_t*>(call.data[2]);
    const auto* base = static_cast<const int32_t*>(call.data[3]);
    const Clip clip(static_cast<const float*>(call.data[4]));
    constexpr int64_t panel = Vectors * W;
    const int64_t panels = (s.outputs + panel - 1) / panel;
    const ProductShare part = product_share(call, call.items * s.rows, panels, MaxRows);
    for (int64_t p = part.first_panel; p < part.last_panel; ++p) {
        const Number* w = weights + p * s.depth * panel;
        const int64_t outputs = least(panel, s.outputs - p * panel);
        for (int64_t k = 0; k < s.depth; k += depth_block) {
            const int64_t depth = least(depth_block, s.depth - k);
            const float* start = k == 0 ? bias + p * panel : nullptr;
            const Clip* end = k + depth == s.depth ? &clip : nullptr;
            const auto tile = [&](auto n, const float* const* in, float* const* out) {
                gemm_rows<n, Vectors, Contiguous, Number>(in, out, offset + k, depth, w + k * panel,
                                                          start, outputs, end);
            };
            row_tiles<MaxRows, float>(call, s, base, part, Contiguous ? k : 0, p * panel, tile);
        }
    }
}

template <int MaxRows, int Vectors, class Number = float>
void gemm(const Call& call) {
    if (reinterpret_cast<const GemmShape*>(call.shape)->contiguous) {
        gemm_run<MaxRows, Vectors, true, Number>(call);
    } else {
        gemm_run<MaxRows, Vectors, false, Number>(call);
    }
}

// Depthwise convolution, channels last: the lanes are channels. The input is padded;
// offset[t] is where tap t lies from the window's first pixel.
template <class Number = float>
void depthwise(const Call& call) {
    const auto& s = *reinterpret_cast<const DepthwiseShape*>(call.shape);
    const auto* weights = static_cast<const Number*>(call.data[0]);  // [tap][channels]
    const auto* bias = static_cast<const float*>(call.data[1]);
    const auto* offset = static_cast<const int32_t*>(call.data[2]);
    const Clip clip(static_cast<const float*>(call.data[3]));
    const int64_t padded = (s.channels + W - 1) / W * W;
    const int64_t first = share(s.height, call.part, call.parts);
    const int64_t last = share(s.height, call.part + 1, call.parts);
    for (int64_t item = 0; item < call.items; ++item) {
        for (int64_t y = first; y < last; ++y) {
            for (int64_t x = 0; x < s.width; ++x) {
                const float* in =
                    call.in[0] + item * call.in_size[0] +
                    (y * s.stride_height * s.in_width + x * s.stride_width) * s.channels;
                float* out = call.out[0] + item * call.out_size[0] + (y * s.width + x) * s.channels;
                for (int64_t c = 0; c < s.channels; c += W) {
                    const int64_t left = s.channels - c;
                    V sum = load(bias + c);
                    for (int64_t t = 0; t < s.taps; ++t) {
                        const V pixel = load_first(in + offset[t] + c, left);
                        sum += pixel * load_weights(weights + t * padded + c);
                    }
                    store_first(out + c, clip(sum), left);
                }
            }
        }
    }
}

}  // namespace
}  // namespace gossamer
