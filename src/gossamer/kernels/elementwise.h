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

// f of `rows` runs of n numbers.
template <class F>
inline void each_row(const float* const* in, float* const* out, int64_t rows, int64_t n, F f) {
    for (int64_t r = 0; r < rows; ++r) each_vector(in[r], out[r], n, f);
}

void unary_rows(Unary kind, const float* const* in, float* const* out, int64_t rows, int64_t n,
                const float* limits) {
    const V a = splat(limits[0]), b = splat(limits[1]);
    switch (kind) {
#define KIND(name, expression)                                                                 \
    case Unary::name:                                                                          \
        each_row(in, out, rows, n, [a, b](V v) -> V { return (void)a, (void)b, expression; }); \
        break;
        GOSSAMER_UNARY
#undef KIND
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

// A link of two operands, over n outputs that lie one after the other.
inline void link_operands(const Call& call, const Link& link, const float* constant, float* out,
                          int64_t n) {
    const auto kind = static_cast<Binary>(link.kind);
    const float* other = link.input < 0 ? constant : call.in[link.input];
    const bool whole = link.input >= 0 && link.count == link.size;  // a number for each output
    if (link.input < 0 && link.count == 1) {
        if (link.reversed) return binary_run(kind, other, 0, out, 1, out, n);
        return binary_run(kind, out, 1, other, 0, out, n);
    }
    for (int64_t at = out - call.out[0]; n > 0;) {
        int64_t run = n, step = 1, number = at;
        if (!whole) {
            const int64_t item = at / link.size, i = at % link.size;
            number = i / link.repeat % link.count;
            step = link.repeat == 1 && link.count > 1;
            run = least(n, step ? link.count - number : link.repeat - i % link.repeat);
            number += link.input < 0 ? 0 : item * link.count;
        }
        const float* const from = other + number;
        if (link.reversed) {
            binary_run(kind, from, step, out, 1, out, run);
        } else {
            binary_run(kind, out, 1, from, step, out, run);
        }
        at += run, out += run, n -= run;
    }
}

__attribute__((noinline)) void epilogue(const Call& call, float* const* rows, int64_t count,
                                        int64_t n) {
    bool adjacent = true;  // then they are one row
    for (int64_t r = 1; r < count; ++r) adjacent &= rows[r] == rows[r - 1] + n;
    if (adjacent) n *= count, count = 1;
    for (int64_t l = 0; l < call.link_count; ++l) {
        const Link& link = call.links[l];
        const auto* data = static_cast<const float*>(call.link_data[l]);
        if (link.binary) {
            for (int64_t r = 0; r < count; ++r) link_operands(call, link, data, rows[r], n);
        } else {
            unary_rows(static_cast<Unary>(link.kind), rows, rows, count, n, data);
        }
    }
}

// The epilogue of a call, over `count` rows of n outputs that it has computed.
inline void finish(const Call& call, float* const* rows, int64_t count, int64_t n) {
    if (call.link_count) epilogue(call, rows, count, n);
}

constexpr int64_t cached = 2048;  // floats that every operation finds in the first cache

// The same over outputs that lie one after the other.
inline void finish(const Call& call, float* out, int64_t n) {
    for (int64_t i = 0; call.link_count && i < n; i += cached) {
        float* const row = out + i;
        epilogue(call, &row, 1, least(cached, n - i));
    }
}

// A file whose layers take epilogues alone uses neither of the two kernels below.
[[maybe_unused]] void unary(const Call& call) {
    const auto& s = *reinterpret_cast<const UnaryShape*>(call.shape);
    const auto* limits = static_cast<const float*>(call.data[0]);
    const auto kind = static_cast<Unary>(s.kind);
    const int64_t first = share(s.size, call.part, call.parts);
    const int64_t last = share(s.size, call.part + 1, call.parts);
    for (int64_t item = 0; item < call.items; ++item) {
        const float* in = call.in[0] + item * call.in_size[0];
        float* out = call.out[0] + item * call.out_size[0];
        if (s.capacity) {
            if (call.part) continue;
            const int64_t count = copy_list_head(in, out);
            in += list_header + s.capacity, out += list_header + s.capacity;
            unary_rows(kind, &in, &out, 1, count, limits);
            continue;
        }
        for (int64_t i = first; i < last; i += cached) {
            const float* const from = in + i;
            float* const to = out + i;
            unary_rows(kind, &from, &to, 1, least(cached, last - i), limits);
            finish(call, &to, 1, least(cached, last - i));
        }
    }
}

// The right side is a second tensor (inputs: two) or a constant (data).
[[maybe_unused]] void binary(const Call& call) {
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
        int64_t finished = first;
        for (int64_t i = first, from = first % n; i < last;) {
            const int64_t count = least(cached, least(n - from, last - i));
            binary_run(static_cast<Binary>(s.kind), left + walk.in_first() + from * s.left[3],
                       s.left[3], right + walk.in_second() + from * s.right[3], s.right[3], out + i,
                       count);
            i += count, from += count;
            if (i - finished >= cached || i == last) {
                finish(call, out + finished, i - finished);
                finished = i;
            }
            if (from == n) from = 0, walk.next();
        }
    }
}

}  // namespace
}  // namespace gossamer
