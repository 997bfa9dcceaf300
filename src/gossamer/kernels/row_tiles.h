// What the products in floats and in whole numbers share: the share of a part, and the walk over
// its rows, as many of them in registers at once as a tile holds.

#pragma once

#include <cstdint>
#include <type_traits>

#include "kernel.h"
#include "vec.h"

namespace gossamer {
namespace {

struct ProductShare {
    int64_t first_panel, last_panel, first_row, last_row;
};

// Rows are shared where each part gets two tiles of them, panels of outputs elsewhere: before(p) is
// the work of those before panel p.
template <class Before>
inline ProductShare product_share(const Call& call, int64_t rows, int64_t panels, int64_t tile_rows,
                                  const Before& before) {
    if (rows >= 2 * tile_rows * call.parts) {
        return {0, panels, share(rows, call.part, call.parts),
                share(rows, call.part + 1, call.parts)};
    }
    return {share_work(panels, call.part, call.parts, before),
            share_work(panels, call.part + 1, call.parts, before), 0, rows};
}

// The same where all panels are equal work.
inline ProductShare product_share(const Call& call, int64_t rows, int64_t panels,
                                  int64_t tile_rows) {
    return product_share(call, rows, panels, tile_rows, [](int64_t panel) { return panel; });
}

// panel(part, o) for every panel of `width` outputs that this part computes: o is its first output.
//
// Rows come in blocks, whose inputs all panels find in the second cache, but not in smaller ones
// than the weights, which are read for every block.
template <int MaxRows, int width, class Shape, class Panel>
inline void over_panels(const Call& call, const Shape& s, const Panel& panel) {
    constexpr int64_t cached_inputs = 65536;
    const int64_t panels = (s.outputs + width - 1) / width;
    const ProductShare all = product_share(call, call.items * s.rows, panels, MaxRows);
    const int64_t row = call.in_size[0] / s.rows + 1;  // floats that a row adds
    const int64_t tiles = larger(cached_inputs, row * s.outputs) / row / MaxRows;
    const int64_t block = (tiles + 1) * MaxRows;
    for (int64_t r = all.first_row; r < all.last_row; r += block) {
        const ProductShare part{all.first_panel, all.last_panel, r, least(r + block, all.last_row)};
        for (int64_t p = part.first_panel; p < part.last_panel; ++p) panel(part, p * width);
    }
}

// Adds `depth` products to the sums: those of weight(i), vector i of the panel's weights, and
// input(r, k), input k of row r in all lanes.
template <int Rows, int Vectors, class T, class Weight, class Input, class Add>
inline void multiply_tile(T (&sum)[Rows][Vectors], int64_t depth, const Weight& weight,
                          const Input& input, const Add& add) {
    for (int64_t k = 0; k < depth; ++k) {
        T w[Vectors];
#pragma GCC unroll 4
        for (int v = 0; v < Vectors; ++v) w[v] = weight(k * Vectors + v);
#pragma GCC unroll 16
        for (int r = 0; r < Rows; ++r) {
            const T x = input(r, k);
#pragma GCC unroll 4
            for (int v = 0; v < Vectors; ++v) sum[r][v] = add(sum[r][v], x, w[v]);
        }
    }
}

// The first `outputs` results of every row: result(r, v), vector v of row r, of N numbers.
template <int Rows, int Vectors, int N = W, class Result>
inline void store_tile(float* const* out, int64_t outputs, const Result& result) {
    const bool whole = outputs >= Vectors * N;
#pragma GCC unroll 16
    for (int r = 0; r < Rows; ++r) {
#pragma GCC unroll 4
        for (int v = 0; v < Vectors; ++v) {
            if (whole) {
                store<N>(out[r] + v * N, result(r, v));
            } else {
                store_first<N>(out[r] + v * N, result(r, v), outputs - v * N);
            }
        }
    }
}

// tile(n, i) for rows i to i + n of `count`, as many at a time as a tile holds; n is known when
// this is compiled.
template <int MaxRows, class Tile>
inline void by_rows(int64_t count, const Tile& tile) {
    int64_t i = 0;
    while (i < count) {
#define GOSSAMER_ROWS(N)                               \
    if constexpr (N <= MaxRows)                        \
        if (count - i >= N) {                          \
            tile(std::integral_constant<int, N>{}, i); \
            i += N;                                    \
            continue;                                  \
        }
        GOSSAMER_ROWS(12)
        GOSSAMER_ROWS(8)
        GOSSAMER_ROWS(6)
        GOSSAMER_ROWS(4)
        GOSSAMER_ROWS(2)
        GOSSAMER_ROWS(1)
#undef GOSSAMER_ROWS
    }
}

// tile(n, in, out) for n rows at a time, n known when this is compiled: where each row's inputs,
// numbers of type In, and its outputs from number `o` on lie.
template <int MaxRows, class In, class Shape, class Tile>
inline void row_tiles(const Call& call, const Shape& s, const int32_t* base,
                      const ProductShare& part, int64_t o, const Tile& tile) {
    int64_t item = part.first_row / s.rows, row = part.first_row % s.rows;
    for (int64_t r = part.first_row; r < part.last_row;) {
        const In* in[MaxRows];
        float* out[MaxRows];
        const int64_t count = least(MaxRows, part.last_row - r);
        for (int64_t i = 0; i < count; ++i) {
            in[i] = reinterpret_cast<const In*>(call.in[0] + item * call.in_size[0]) + base[row];
            out[i] = call.out[0] + item * call.out_size[0] + row * s.out_pitch + s.out_offset + o;
            if (++row == s.rows) row = 0, ++item;
        }
        by_rows<MaxRows>(count, [&](auto n, int64_t i) { tile(n, in + i, out + i); });
        r += count;
    }
}

}  // namespace
}  // namespace gossamer
