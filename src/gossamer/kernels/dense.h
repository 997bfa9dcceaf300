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
#include "row_tiles.h"
#include "vec.h"

namespace gossamer {
namespace {

constexpr int64_t depth_block = 384;  // a block of weights for one panel stays in L2

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
    multiply_tile(
        sum, depth, [w](int64_t i) { return load_weights(w + i * W); },
        [in, offset](int r, int64_t k) { return splat(in[r][Contiguous ? k : offset[k]]); },
        [](V s, V x, V weight) { return s + x * weight; });
    store_tile<Rows, Vectors>(
        out, outputs, [&sum, clip](int r, int v) { return clip ? (*clip)(sum[r][v]) : sum[r][v]; });
}

template <int MaxRows, int Vectors, bool Contiguous, class Number>
void gemm_run(const Call& call) {
    const auto& s = *reinterpret_cast<const GemmShape*>(call.shape);
    const auto* weights = static_cast<const Number*>(call.data[0]);
    const auto* bias = static_cast<const float*>(call.data[1]);
    const auto* offset = static_cast<const int32_t*>(call.data[2]);
    const auto* base = static_cast<const int32_t*>(call.data[3]);
    const Clip clip(static_cast<const float*>(call.data[4]));
    over_panels<MaxRows, Vectors>(call, s, [&](const ProductShare& part, int64_t o) {
        const Number* w = weights + o * s.depth;
        for (int64_t k = 0; k < s.depth; k += depth_block) {
            const int64_t depth = least(depth_block, s.depth - k);
            const float* start = k == 0 ? bias + o : nullptr;
            const Clip* end = k + depth == s.depth ? &clip : nullptr;
            const auto tile = [&](auto n, const float* const* in, float* const* out) {
                gemm_rows<n, Vectors, Contiguous, Number>(
                    in, out, offset + k, depth, w + k * Vectors * W, start, s.outputs - o, end);
                if (end) finish(call, out, n, least(s.outputs - o, Vectors * W));
            };
            row_tiles<MaxRows, float>(call, s, base, part, Contiguous ? k : 0, o, tile);
        }
    });
}

template <int MaxRows, int Vectors, class Number = float>
void gemm(const Call& call) {
    if (reinterpret_cast<const GemmShape*>(call.shape)->contiguous) {
        gemm_run<MaxRows, Vectors, true, Number>(call);
    } else {
        gemm_run<MaxRows, Vectors, false, Number>(call);
    }
}

// One vector of channels of a row of outputs, `Taps` of them (0: any number) in registers.
template <int Taps, class Number>
inline void depthwise_row(const DepthwiseShape& s, const float* in, float* out,
                          const Number* weights, const int32_t* offset, V bias, const Clip& clip,
                          int64_t padded, int64_t lanes) {
    V weight[Taps ? Taps : 1];
    for (int t = 0; t < Taps; ++t) weight[t] = load_weights(weights + t * padded);
    for (int64_t x = 0; x < s.width; ++x, in += s.stride_width * s.channels, out += s.channels) {
        V sum = bias;
        if constexpr (Taps) {
#pragma GCC unroll 9
            for (int t = 0; t < Taps; ++t) sum += load_first(in + offset[t], lanes) * weight[t];
        } else {
            for (int64_t t = 0; t < s.taps; ++t)
                sum += load_first(in + offset[t], lanes) * load_weights(weights + t * padded);
        }
        store_first(out, clip(sum), lanes);
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
    const auto row = s.taps == 3   ? depthwise_row<3, Number>
                     : s.taps == 9 ? depthwise_row<9, Number>
                                   : depthwise_row<0, Number>;
    for (int64_t item = 0; item < call.items; ++item) {
        const float* in = call.in[0] + item * call.in_size[0];
        float* out = call.out[0] + item * call.out_size[0];
        for (int64_t y = first; y < last; ++y) {
            for (int64_t c = 0; c < s.channels; c += W) {
                row(s, in + y * s.stride_height * s.in_width * s.channels + c,
                    out + y * s.width * s.channels + c, weights + c, offset, load(bias + c), clip,
                    padded, s.channels - c);
            }
            finish(call, out + y * s.width * s.channels, s.width * s.channels);
        }
    }
}

}  // namespace
}  // namespace gossamer
