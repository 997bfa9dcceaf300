// What works on whole rows: softmax and normalization.

#pragma once

#include <cstdint>

#include "elementwise.h"
#include "kernel.h"
#include "vec.h"
#include "vec_math.h"

namespace gossamer {
namespace {

// Softmax (kind 0) and its logarithm (1) over rows.
void softmax(const Call& call) {
    const auto& s = *reinterpret_cast<const RowsShape*>(call.shape);
    const int64_t rows = call.items * s.rows, whole = s.size - s.size % W;
    const int64_t last = share(rows, call.part + 1, call.parts);
    for (int64_t r = share(rows, call.part, call.parts); r < last; ++r) {
        const float* x = call.in[0] + r * s.size;
        float* y = call.out[0] + r * s.size;
        V most = splat(-__builtin_inff());
        for (int64_t i = 0; i < whole; i += W) most = at_least(load(x + i), most);
        if (whole < s.size) {
            const int64_t count = s.size - whole;
            most = at_least(most, lanes_from(load_first(x + whole, count), count, most[0]));
        }
        const float top = across(most, [](V a, V b) { return at_least(a, b); });
        V sums{};
        for (int64_t i = 0; i < s.size; i += W) {
            const V e = expf(load_first(x + i, s.size - i) - splat(top));
            store_first(y + i, e, s.size - i);
            sums += i < whole ? e : lanes_from(e, s.size - i, 0.0f);
        }
        const float sum = across(sums, [](V a, V b) { return a + b; });
        if (s.kind) {
            const V less = splat(top), log_sum = logf(splat(sum));
            for (int64_t i = 0; i < s.size; i += W)
                store_first(y + i, load_first(x + i, s.size - i) - less - log_sum, s.size - i);
        } else {
            const V by = splat(1.0f / sum);
            for (int64_t i = 0; i < s.size; i += W)
                store_first(y + i, load_first(y + i, s.size - i) * by, s.size - i);
        }
        finish(call, y, s.size);
    }
}

// Vectors of doubles, for sums that no mean far from zero may spoil.
constexpr int H = W / 2;
typedef double D __attribute__((vector_size(H * 8)));
inline D doubles(const float* p) { return __builtin_convertvector(load<H>(p), D); }

// The sum of f(x), in four parts, since each waits for its last addition.
template <class F>
inline double sum_of(const float* x, int64_t n, F f) {
    D part[4] = {};
    int64_t i = 0;
    for (; i + 4 * H <= n; i += 4 * H) {
        for (int k = 0; k < 4; ++k) part[k] += f(doubles(x + i + k * H));
    }
    for (; i + H <= n; i += H) part[0] += f(doubles(x + i));
    const D whole = (part[0] + part[1]) + (part[2] + part[3]);
    double sum = 0.0;
    for (int lane = 0; lane < H; ++lane) sum += whole[lane];
    for (; i < n; ++i) sum += f(D{} + static_cast<double>(x[i]))[0];
    return sum;
}

// (x - mean) / deviation, times a scale plus a bias: of each number of the row (kind 0), or of
// each row, where rows are channels (kind: how many).
void layer_norm(const Call& call) {
    const auto& s = *reinterpret_cast<const RowsShape*>(call.shape);
    const auto* scale = static_cast<const float*>(call.data[0]);
    const auto* bias = static_cast<const float*>(call.data[1]);
    const float epsilon = *static_cast<const float*>(call.data[2]);
    const int64_t rows = call.items * s.rows;
    const int64_t last = share(rows, call.part + 1, call.parts);
    const auto size = static_cast<double>(s.size);
    for (int64_t r = share(rows, call.part, call.parts); r < last; ++r) {
        const float* x = call.in[0] + r * s.size;
        float* y = call.out[0] + r * s.size;
        const double mean = sum_of(x, s.size, [](D v) { return v; }) / size;
        const double squares = sum_of(x, s.size, [mean](D v) { return (v - mean) * (v - mean); });
        const double variance = squares / size + static_cast<double>(epsilon);
        const V factor = splat(static_cast<float>(1.0 / __builtin_sqrt(variance)));
        const V center = splat(static_cast<float>(mean));
        const int64_t channel = s.kind ? r % s.kind : 0;
        const V by = splat(scale[channel]), plus = splat(bias[channel]);
        for (int64_t i = 0; i < s.size; i += W) {
            const int64_t left = s.size - i;
            const V normal = (load_first(x + i, left) - center) * factor;
            const V result =
                s.kind ? normal * by + plus
                       : normal * load_first(scale + i, left) + load_first(bias + i, left);
            store_first(y + i, result, left);
        }
        finish(call, y, s.size);
    }
}

}  // namespace
}  // namespace gossamer
