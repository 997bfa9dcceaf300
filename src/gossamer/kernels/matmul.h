// Products of two values: attention's scores and mixtures. Matrices lie one after the other.

#pragma once

#include <cstdint>

#include "elementwise.h"
#include "kernel.h"
#include "vec.h"

namespace gossamer {
namespace {

// One tile: R rows of the left matrix times C vectors of columns of the right one.
template <int R, int C>
inline void matmul_tile(const MatmulShape& s, const float* a, const float* b, float* out,
                        int64_t lanes) {
    V sum[R][C];
    for (int r = 0; r < R; ++r) {
        for (int c = 0; c < C; ++c) sum[r][c] = splat(0.0f);
    }
    for (int64_t k = 0; k < s.depth; ++k) {
        V right[C];
        for (int c = 0; c < C; ++c) right[c] = load_first(b + k * s.columns + c * W, lanes - c * W);
        for (int r = 0; r < R; ++r) {
            const V left = splat(a[r * s.depth + k]);
            for (int c = 0; c < C; ++c) sum[r][c] += left * right[c];
        }
    }
    for (int r = 0; r < R; ++r) {
        for (int c = 0; c < C; ++c)
            store_first(out + r * s.columns + c * W, sum[r][c], lanes - c * W);
    }
}

template <int R>
inline void matmul_rows(const MatmulShape& s, const float* a, const float* b, float* out) {
    int64_t column = 0;
    for (; column + 2 * W <= s.columns; column += 2 * W) {
        matmul_tile<R, 2>(s, a, b + column, out + column, 2 * W);
    }
    for (; column < s.columns; column += W) {
        matmul_tile<R, 1>(s, a, b + column, out + column, least(W, s.columns - column));
    }
}

void matmul(const Call& call) {
    const auto& s = *reinterpret_cast<const MatmulShape*>(call.shape);
    const int64_t total = call.items * s.count * s.rows;
    const int64_t last = share(total, call.part + 1, call.parts);
    int64_t row = share(total, call.part, call.parts);
    while (row < last) {
        const int64_t matrix = row / s.rows;
        const int64_t here = least(last, (matrix + 1) * s.rows) - row;
        const float* a = call.in[0] + row * s.depth;
        const float* b = call.in[1] + matrix * s.depth * s.columns;
        float* out = call.out[0] + row * s.columns;
        if (here >= 4) {
            matmul_rows<4>(s, a, b, out);
            finish(call, out, 4 * s.columns);
            row += 4;
        } else {
            matmul_rows<1>(s, a, b, out);
            finish(call, out, s.columns);
            row += 1;
        }
    }
}

}  // namespace
}  // namespace gossamer
