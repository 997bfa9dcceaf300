// A factor and a summand of each channel: of batch norms that no layer can take, and of layers
// whose sums are whole numbers.

#pragma once

#include <cstdint>

#include "elementwise.h"
#include "kernel.h"
#include "rows.h"
#include "vec.h"

namespace gossamer {
namespace {

// The share of one part: rows, and of each its columns.
struct ScalePart {
    int64_t first, last, begin, end;
};

// Numbers times their channel's factor, plus its summand, clipped.
void scale(const Call& call) {
    const auto& s = *reinterpret_cast<const ScaleShape*>(call.shape);
    const auto* factor = static_cast<const float*>(call.data[0]);
    const auto* summand = static_cast<const float*>(call.data[1]);
    const Clip clip(static_cast<const float*>(call.data[2]));
    const bool together = s.inner == 1;  // channels lie side by side
    const int64_t rows = together ? s.outer : s.outer * s.channels;
    const int64_t columns = together ? s.channels : s.inner;
    // Parts share the pixels of large images, as layers do, which then find them in their caches.
    const auto bound = [&](int64_t part) {
        return least(columns, share((columns + W - 1) / W, part, call.parts) * W);
    };
    const auto row = [&](int64_t part) { return share(rows, part, call.parts); };
    const bool pixelwise = !together && columns > planes_vectors * W;
    const ScalePart p = pixelwise ? ScalePart{0, rows, bound(call.part), bound(call.part + 1)}
                                  : ScalePart{row(call.part), row(call.part + 1), 0, columns};
    for (int64_t item = 0; item < call.items; ++item) {
        for (int64_t r = p.first; r < p.last; ++r) {
            const float* const x = call.in[0] + item * call.in_size[0] + r * columns + p.begin;
            float* const y = call.out[0] + item * call.out_size[0] +
                             r * (together ? columns : s.out_plane) + p.begin;
            if (together) {
                for (int64_t c = 0; c < columns; c += W) {
                    const int64_t left = columns - c;
                    const V product = load_first(x + c, left) * load_first(factor + c, left);
                    store_first(y + c, clip(product + load_first(summand + c, left)), left);
                }
            } else {
                const V by = splat(factor[r % s.channels]), plus = splat(summand[r % s.channels]);
                each_vector(x, y, p.end - p.begin,
                            [by, plus, clip](V v) { return clip(v * by + plus); });
            }
            finish(call, y, p.end - p.begin);
        }
    }
}

}  // namespace
}  // namespace gossamer
