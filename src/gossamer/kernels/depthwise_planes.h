// Depthwise convolution whose lanes are consecutive pixels of a plane. A band of rows of a channel
// is padded and taken apart by the strides in scratch memory, where it stays in the first cache:
// a padded image of all channels would be written and read again further away.

#pragma once

#include <cstdint>

#include "copy.h"
#include "sparse_weights.h"

namespace gossamer {
namespace {

// Numbers 0, 2, 4, ... and 1, 3, 5, ... of n.
inline void split(const float* in, int64_t n, float* even, float* odd) {
    for (int64_t i = 0; 2 * i < n; i += W) {
        const int64_t left = n - 2 * i;
        const V low = load_first(in + 2 * i, left), high = load_first(in + 2 * i + W, left - W);
        store_first(even + i, every_second<0>(low, high), (left + 1) / 2);
        store_first(odd + i, every_second<1>(low, high), left / 2);
    }
}

// The rows of a band that starts at output row y: phase by phase, as the strides leave them. The
// padding beside the image is there: zeros that nobody writes to.
inline void band_of(const DepthwisePlanesShape& s, const float* in, int64_t y, int64_t rows,
                    float* out) {
    const int64_t down = s.stride_height, across = s.stride_width, left = s.left;
    const int64_t width = s.in_width, pitch = s.pitch, phase = s.rows * pitch;
    for (int64_t py = 0; py < down; ++py, out += across * phase) {
        for (int64_t r = 0; r < rows; ++r) {
            const int64_t row = (y + r) * down + py - s.top;
            const float* const from = in + row * width;
            float* const to = out + r * pitch;
            if (row < 0 || row >= s.in_height) {
                for (int64_t px = 0; px < across; ++px) {
                    for (int64_t i = 0; i < pitch; i += W)
                        store_first(to + px * phase + i, V{}, pitch - i);
                }
            } else if (across == 1) {
                move(from, to + left, width);
            } else if (across == 2) {
                const int64_t before = left / 2, odd = left % 2;
                split(from, width, to + odd * phase + before,
                      to + (1 - odd) * phase + before + odd);
            } else {
                for (int64_t x = 0, px = left; x < width; ++x, ++px)
                    to[px % across * phase + px / across] = from[x];
            }
        }
    }
}

template <int Vectors, class Number>
void depthwise_planes(const Call& call) {
    const auto& s = *reinterpret_cast<const DepthwisePlanesShape*>(call.shape);
    const auto* start = static_cast<const int32_t*>(call.data[0]);  // [outputs + 1]
    const auto* offset = static_cast<const int32_t*>(call.data[1]);
    const auto* weights = static_cast<const Number*>(call.data[2]);
    const auto* bias = static_cast<const float*>(call.data[3]);
    const Clip clip(static_cast<const float*>(call.data[4]));
    constexpr int64_t most = Vectors * W;
    float* const sums = call.scratch;
    float* const image = sums + most;
    __builtin_memset(
        image, 0,
        static_cast<size_t>(s.stride_height * s.stride_width * s.rows * s.pitch) * sizeof(float));
    const int64_t each = s.outputs / s.channels;
    const int64_t last = share(s.channels, call.part + 1, call.parts);
    for (int64_t item = 0; item < call.items; ++item) {
        for (int64_t c = share(s.channels, call.part, call.parts); c < last; ++c) {
            const float* in = call.in[0] + item * call.in_size[0] + c * s.in_height * s.in_width;
            for (int64_t y = 0; y < s.height; y += s.band) {
                const PlanesShape band{1, each, s.pitch, least(s.band, s.height - y), s.width, 0};
                band_of(s, in, y, s.rows - s.band + band.height, image);
                const int64_t length = (band.height - 1) * s.pitch + s.width;
                for (int64_t tile = 0; tile < length; tile += most) {
                    const PlanesTile pixels{tile, least(length, tile + most)};
                    for (int64_t o = c * each; o < (c + 1) * each; ++o) {
                        planes_sums<W, Vectors, 1>(
                            image + tile, offset + start[o], weights + start[o],
                            start[o + 1] - start[o], bias + o,
                            {sums, most, nullptr, 0, 1, pixels.last - tile, clip});
                        float* const out =
                            call.out[0] + item * call.out_size[0] + o * s.out_plane + y * s.width;
                        const auto [at, count] = planes_output<W>(band, pixels, clip, sums, out);
                        finish(call, out + at, count);
                    }
                }
            }
        }
    }
}

}  // namespace
}  // namespace gossamer
