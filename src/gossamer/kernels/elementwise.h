// Functions of each number: of one value, or of two of which either may be repeated.

#pragma once

#include <cstdint>

#include "kernel.h"
#include "kinds.h"
#include "lists.h"
#include "vec.h"
#include "vec_math.h"

namespace gossamer {
namespace {

// f of each number of in[0..n). Tails go through the same vectors: a number's result does not
// depend on where it lies.
template <class F>
inline void each_vector(const float* in, float* out, int64_t n, F f) {
    int64_t i = 0;
    for (; i + W <= n; i += W) store(out + i, f(load(in + i)));
    if (i < n) store_first(out + i, f(load_first(in + i, n - i)), n - i);
}

inline void unary_run(Unary kind, const float* in, float* out, int64_t n, const float* limits) {
    const V a = splat(limits[0]), b = splat(limits[1]);
    switch (kind) {
#define KIND(name, expression)                                                              \
    case Unary::name:                                                                       \
        each_vector(in, out, n, [a, b](V v) -> V { return (void)a, (void)b, expression; }); \
        break;
        GOSSAMER_UNARY
#undef KIND
    }
}

void unary(const Call& call) {
    const auto& s = *reinterpret_cast<const UnaryShape*>(call.shape);
    const auto* limits = static_cast<const float*>(call.data[0]);
    const int64_t first = share(s.size, call.part, call.parts);
    const int64_t last = share(s.size, call.part + 1, call.parts);
    for (int64_t item = 0; item < call.items; ++item) {
        if (s.capacity) {
            if (call.part) continue;
            const int64_t count = copy_list_head(call.in[0] + item * call.in_size[0],
                                                 call.out[0] + item * call.out_size[0]);
            const int64_t values = item * call.in_size[0] + list_header + s.capacity;
            unary_run(static_cast<Unary>(s.kind), call.in[0] + values, call.out[0] + values, count,
                      limits);
            continue;
        }
        unary_run(static_cast<Unary>(s.kind), call.in[0] + item * call.in_size[0] + first,
                  call.out[0] + item * call.out_size[0] + first, last - first, limits);
    }
}

// A vector of an operand whose numbers are `step` apart: 0 where one number is repeated.
inline V operand(const float* p, int64_t i, int64_t step, int64_t left) {
    if (step == 1) return load_first(p + i, left);
    if (step == 0) return splat(*p);
    V v{};
    for (int64_t lane = 0; lane < least(W, left); ++lane) v[lane] = p[(i + lane) * step];
    return v;
}

template <class F>
inline void each_pair(const float* x, int64_t dx, const float* y, int64_t dy, float* out, int64_t n,
                      F f) {
    if (dx == 1 && dy == 0) {
        const V right = splat(*y);
        each_vector(x, out, n, [f, right](V v) { return f(v, right); });
    } else if (dx == 0 && dy == 1) {
        const V left = splat(*x);
        each_vector(y, out, n, [f, left](V v) { return f(left, v); });
    } else {
        int64_t i = 0;
        if (dx == 1 && dy == 1) {
            for (; i + W <= n; i += W) store(out + i, f(load(x + i), load(y + i)));
        }
        for (; i < n; i += W) {
            const V left = operand(x, i, dx, n - i), right = operand(y, i, dy, n - i);
            store_first(out + i, f(left, right), n - i);
        }
    }
}

inline void binary_run(Binary kind, const float* x, int64_t dx, const float* y, int64_t dy,
                       float* out, int64_t n) {
    switch (kind) {
#define KIND(name, expression)                                                     \
    case Binary::name:                                                             \
        each_pair(x, dx, y, dy, out, n, [](V v, V w) -> V { return expression; }); \
        break;
        GOSSAMER_BINARY
#undef KIND
    }
}

// The right side is a second tensor (inputs: two) or a constant (data).
void binary(const Call& call) {
    const auto& s = *reinterpret_cast<const BinaryShape*>(call.shape);
    const auto* constant = static_cast<const float*>(call.data[0]);
    const int64_t n = s.sizes[3], whole = s.sizes[0] * s.sizes[1] * s.sizes[2] * n;
    const int64_t first = share(whole, call.part, call.parts);
    const int64_t last = share(whole, call.part + 1, call.parts);
    for (int64_t item = 0; item < call.items; ++item) {
        const float* left = call.in[0] + item * call.in_size[0];
        const float* right = call.in[1] ? call.in[1] + item * call.in_size[1] : constant;
        float* out = call.out[0] + item * call.out_size[0];
        Walk walk(s.sizes, s.left, s.right, first / n);
        for (int64_t i = first, from = first % n; i < last; from = 0, walk.next()) {
            const int64_t count = least(n - from, last - i);  // of a row, what is in the share
            binary_run(static_cast<Binary>(s.kind), left + walk.in_first() + from * s.left[3],
                       s.left[3], right + walk.in_second() + from * s.right[3], s.right[3], out + i,
                       count);
            i += count;
        }
    }
}

}  // namespace
}  // namespace gossamer
