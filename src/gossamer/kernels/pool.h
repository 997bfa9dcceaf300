// Pools: the maximum or the average of windows.

#pragma once

#include <cstdint>
#include <type_traits>

#include "elementwise.h"
#include "kernel.h"
#include "vec.h"

namespace gossamer {
namespace {

// The larger of neighbors in a row: two vectors become one of every second lane.
inline V pairs_max(V a, V b) { return larger(every_second<1>(a, b), every_second(a, b)); }

// The common pool, channels first: the maximum of 2 x 2 squares side by side.
inline void pool_halves(const PoolShape& s, const float* in, float* out, int64_t first,
                        int64_t last) {
    for (int64_t row = first; row < last; ++row) {
        const float* above = in + (row / s.height * s.in_height + row % s.height * 2) * s.in_width;
        const float* below = above + s.in_width;
        float* to = out + row * s.width;
        for (int64_t x = 0; x < s.width; x += W) {
            const int64_t at = 2 * x, next = 2 * x + W, lanes = 2 * (s.width - x);
            const V left = larger(load_first(below + at, lanes), load_first(above + at, lanes));
            const V right =
                larger(load_first(below + next, lanes - W), load_first(above + next, lanes - W));
            store_first(to + x, pairs_max(left, right), s.width - x);
        }
    }
}

// What a pool does with a window's numbers, by its kind: 0 the maximum, else a sum.
template <bool Largest>
struct Fold {
    static inline V none() { return splat(Largest ? -__builtin_inff() : 0.0f); }
    static inline V of(V folded, V v) {
        if constexpr (Largest) return larger(v, folded);
        return folded + v;
    }
    static inline float one(float folded, float v) {
        if constexpr (Largest) return larger(v, folded);
        return folded + v;
    }
};

// One window, or the part of it that lies in the image.
struct Window {
    int64_t top, bottom, left, right;
};

// The rows of output row y, or the columns of column x, that lie in the image.
inline Window window_of(const PoolShape& s, int64_t y, int64_t x) {
    const int64_t top = y * s.stride_height - s.top, left = x * s.stride_width - s.left;
    return {top < 0 ? 0 : top, least(s.in_height, top + s.kernel_height), left < 0 ? 0 : left,
            least(s.in_width, left + s.kernel_width)};
}

// What the sum of window (y, x) is multiplied by.
inline float pool_scale(const PoolShape& s, int64_t y, int64_t x) {
    if (s.kind == 0 || s.kind == 3) return 1.0f;
    Window in = window_of(s, y, x);
    if (s.kind == 2) {  // the padding counts, but not what lies beyond it
        in.top = y * s.stride_height - s.top;
        in.left = x * s.stride_width - s.left;
        in.bottom = least(s.in_height + s.below, in.top + s.kernel_height);
        in.right = least(s.in_width + s.right, in.left + s.kernel_width);
    }
    return 1.0f / static_cast<float>((in.bottom - in.top) * (in.right - in.left));
}

// All of in[0..n) as one vector, from four sums, since each waits for its last addition.
template <bool Largest>
inline V fold_vector(const float* in, int64_t n) {
    using F = Fold<Largest>;
    V part[4] = {F::none(), F::none(), F::none(), F::none()};
    int64_t i = 0;
    if (n >= 4 * W) {
        for (int k = 0; k < 4; ++k) part[k] = load(in + k * W);
        i = 4 * W;
    }
    for (; i + 4 * W <= n; i += 4 * W) {
        for (int k = 0; k < 4; ++k) part[k] = F::of(part[k], load(in + i + k * W));
    }
    for (; i + W <= n; i += W) part[0] = F::of(part[0], load(in + i));
    if (i < n) {
        const V rest = lanes_from(load_first(in + i, n - i), n - i, F::none()[0]);
        part[0] = F::of(part[0], rest);
    }
    return F::of(F::of(part[0], part[1]), F::of(part[2], part[3]));
}

// All of in[0..n) and what is folded already.
template <bool Largest>
inline float fold_run(const float* in, int64_t n, float folded) {
    using F = Fold<Largest>;
    return n > 0 ? F::one(folded, across(fold_vector<Largest>(in, n), F::of)) : folded;
}

// Runs of n numbers, one after the other: the lanes of W of them at a time are folded together.
template <bool Largest>
inline void fold_runs(const float* in, int64_t n, int64_t count, float scale, float* out) {
    int64_t r = 0;
    for (; r + W <= count; r += W) {
        V rows[W];
        for (int i = 0; i < W; ++i) rows[i] = fold_vector<Largest>(in + (r + i) * n, n);
        across_each(rows, Fold<Largest>::of);
        store(out + r, rows[0] * splat(scale));
    }
    for (; r < count; ++r)
        out[r] = across(fold_vector<Largest>(in + r * n, n), Fold<Largest>::of) * scale;
}

// Windows too wide to be worth a vector of outputs: each alone.
template <bool Largest>
inline void pool_wide(const PoolShape& s, const float* in, float* out, int64_t y) {
    for (int64_t x = 0; x < s.width; ++x) {
        const Window of = window_of(s, y, x);
        const int64_t columns = of.right - of.left;
        float folded = Fold<Largest>::none()[0];
        if (columns == s.in_width) {
            folded =
                fold_run<Largest>(in + of.top * columns, (of.bottom - of.top) * columns, folded);
        } else {
            for (int64_t i = of.top; i < of.bottom; ++i)
                folded = fold_run<Largest>(in + i * s.in_width + of.left, columns, folded);
        }
        out[x] = folded * pool_scale(s, y, x);
    }
}

// Windows narrow enough: their rows become one row first, of which every output takes neighbors.
// That row has room for some outputs and the padding on both sides.
constexpr int64_t row_room = 512, rows_together = 8;
constexpr int64_t widest_window = row_room / 16;

// Outputs [from, from + count) of some rows.
struct Part {
    int64_t from, count;
};

// The row of output row y: the fold of its windows' rows, and nothing in the padding.
template <bool Largest>
inline void fold_rows(const PoolShape& s, const float* in, int64_t y, const Part& part,
                      float* row) {
    using F = Fold<Largest>;
    const Window of = window_of(s, y, 0);
    const int64_t left = part.from * s.stride_width - s.left;  // the column of row[0]
    const int64_t columns = (part.count - 1) * s.stride_width + s.kernel_width;
    const int64_t before = left < 0 ? -left : 0;
    const int64_t inside = least(s.in_width, left + columns) - (left + before);
    for (int64_t i = 0; i < before; i += W) store(row + i, F::none());
    const float* first = in + of.top * s.in_width + left + before;
    const auto fold = [&](auto count) {
        for (int64_t i = 0; i < inside; i += W) {
            V folded = load_first(first + i, inside - i);
            for (int64_t r = 1; r < count; ++r)
                folded = F::of(folded, load_first(first + r * s.in_width + i, inside - i));
            store(row + before + i, folded);
        }
    };
    if (of.bottom - of.top == 3) {
        fold(std::integral_constant<int64_t, 3>{});
    } else {
        fold(of.bottom - of.top);
    }
    for (int64_t i = before + inside; i < columns; i += W) store(row + i, F::none());
}

// The fold of `taps` neighbors, for W windows that begin `Step` numbers apart.
template <bool Largest, int Step, class Taps>
inline V neighbors(const float* row, Taps taps) {
    V folded = Fold<Largest>::none();
    for (int64_t k = 0; k < taps; ++k) {
        const float* at = row + k;
        const V v = Step == 1 ? load(at) : every_second(load(at), load(at + W));
        folded = k ? Fold<Largest>::of(folded, v) : v;
    }
    return folded;
}

// `scale` is of outputs [0, count): what their sums are multiplied by. Outputs beyond the part
// take what is there. Where the stride is more than two, the windows at all columns are folded
// first, in place: that takes less than single windows, whose numbers wait for each other.
template <bool Largest, class Taps>
inline void fold_neighbors(const PoolShape& s, float* row, int64_t count, const float* scale,
                           float* out, Taps taps) {
    const int64_t step = s.stride_width;
    const auto keep = [&](int64_t x, V v) {
        store_first(out + x, Largest ? v : v * load(scale + x), count - x);
    };
    if (step == 1) {
        for (int64_t x = 0; x < count; x += W) keep(x, neighbors<Largest, 1>(row + x, taps));
    } else if (step == 2) {
        for (int64_t x = 0; x < count; x += W) keep(x, neighbors<Largest, 2>(row + 2 * x, taps));
    } else {
        for (int64_t x = 0; x <= (count - 1) * step; x += W)
            store(row + x, neighbors<Largest, 1>(row + x, taps));
        for (int64_t x = 0; x < count; ++x)
            out[x] = Largest ? row[x * step] : row[x * step] * scale[x];
    }
}

// What the sums of a part of row y are multiplied by: one number, but near the borders.
inline void scales(const PoolShape& s, int64_t y, const Part& part, float* scale) {
    const int64_t step = s.stride_width;
    const int64_t begin = least(s.width, (s.left + step - 1) / step);
    int64_t end = s.width;
    while (end > begin && (end - 1) * step - s.left + s.kernel_width > s.in_width) --end;
    const V inside = splat(begin < end ? pool_scale(s, y, begin) : 0.0f);
    for (int64_t x = 0; x < part.count; x += W) store(scale + x, inside);
    for (int64_t x = 0; x < part.count; ++x) {
        if (x + part.from == begin && end - part.from < part.count) x = end - part.from;
        if (x + part.from < begin || x + part.from >= end)
            scale[x] = pool_scale(s, y, x + part.from);
    }
}

// Some rows at a time: what was just written is not yet where it can be read at another place.
template <bool Largest>
inline void pool_rows(const PoolShape& s, const float* in, float* out, int64_t y, int64_t end) {
    alignas(64) float rows[rows_together][row_room + 2 * W];
    alignas(64) float scale[Largest ? 1 : row_room + W] = {};
    const int64_t together = (row_room - s.kernel_width) / s.stride_width;
    for (int64_t from = 0; from < s.width; from += together) {
        const Part part{from, least(together, s.width - from)};
        float whole = 0.0f;  // the scale of a window between the borders, of the rows in `scale`
        float* to = out + from;
        for (int64_t top = y; top < end; top += rows_together) {
            const int64_t count = least(rows_together, end - top);
            for (int64_t r = 0; r < count; ++r) fold_rows<Largest>(s, in, top + r, part, rows[r]);
            for (int64_t r = 0; r < count; ++r, to += s.width) {
                if constexpr (!Largest) {
                    const float here = pool_scale(s, top + r, s.width / 2);
                    if (here != whole) scales(s, top + r, part, scale);
                    whole = here;
                }
                if (s.kernel_width == 3) {
                    fold_neighbors<Largest>(s, rows[r], part.count, scale, to,
                                            std::integral_constant<int64_t, 3>{});
                } else {
                    fold_neighbors<Largest>(s, rows[r], part.count, scale, to, s.kernel_width);
                }
            }
        }
    }
}

// Channels last: the lanes are channels.
template <bool Largest>
inline void pool_channels(const PoolShape& s, const float* in, float* out, int64_t y) {
    using F = Fold<Largest>;
    for (int64_t x = 0; x < s.width; ++x) {
        const Window of = window_of(s, y, x);
        const V scale = splat(pool_scale(s, y, x));
        for (int64_t c = 0; c < s.channels; c += W) {
            const int64_t lanes = s.channels - c;
            V folded = F::none();
            for (int64_t i = of.top; i < of.bottom; ++i) {
                const float* at = in + (i * s.in_width + of.left) * s.channels + c;
                for (int64_t j = of.left; j < of.right; ++j, at += s.channels)
                    folded = F::of(folded, load_first(at, lanes));
            }
            store_first(out + x * s.channels + c, Largest ? folded : folded * scale, lanes);
        }
    }
}

// Rows [y, end) of a plane, or of all channels.
template <bool Largest>
inline void pool_image(const PoolShape& s, const float* in, float* out, int64_t y, int64_t end) {
    if (!s.channels_last && s.kernel_width <= widest_window && s.stride_width <= widest_window &&
        s.width > 1) {
        pool_rows<Largest>(s, in, out, y, end);
        return;
    }
    for (; y < end; ++y) {
        if (s.channels_last) {
            pool_channels<Largest>(s, in, out, y);
            out += s.width * s.channels;
        } else {
            pool_wide<Largest>(s, in, out, y);
            out += s.width;
        }
    }
}

// Rows [first, last) of all planes, one after the other.
template <bool Largest>
inline void pool_planes(const PoolShape& s, const float* in, float* out, int64_t first,
                        int64_t last) {
    const int64_t plane = s.channels_last ? 0 : s.in_height * s.in_width;
    const int64_t pixel = s.channels_last ? s.channels : 1;
    // Windows of whole rows, side by side, lie one after the other.
    const int64_t window = s.kernel_height * s.in_width;
    const bool adjacent = s.height == 1 || s.stride_height == s.kernel_height;
    if (plane && s.width == 1 && s.kernel_width == s.in_width && adjacent &&
        s.height * window == plane && s.top + s.left == 0) {
        fold_runs<Largest>(in + first * window, window, last - first, pool_scale(s, 0, 0),
                           out + first);
        return;
    }
    while (first < last) {
        const int64_t y = first % s.height, end = least(s.height, y + last - first);
        pool_image<Largest>(s, in + first / s.height * plane, out + first * s.width * pixel, y,
                            end);
        first += end - y;
    }
}

void pool(const Call& call) {
    const auto& s = *reinterpret_cast<const PoolShape*>(call.shape);
    const int64_t rows = (s.channels_last ? 1 : s.channels) * s.height;
    const int64_t first = share(rows, call.part, call.parts);
    const int64_t last = share(rows, call.part + 1, call.parts);
    const bool halves = s.kind == 0 && s.kernel_height == 2 && s.kernel_width == 2 &&
                        s.stride_height == 2 && s.stride_width == 2 && s.top + s.left == 0 &&
                        s.in_height >= 2 * s.height && s.in_width >= 2 * s.width;
    for (int64_t item = 0; item < call.items; ++item) {
        const float* in = call.in[0] + item * call.in_size[0];
        float* out = call.out[0] + item * call.out_size[0];
        if (halves && !s.channels_last) {
            pool_halves(s, in, out, first, last);
        } else if (s.kind == 0) {
            pool_planes<true>(s, in, out, first, last);
        } else {
            pool_planes<false>(s, in, out, first, last);
        }
        const int64_t width = s.channels_last ? s.width * s.channels : s.width;
        finish(call, out + first * width, (last - first) * width);
    }
}

}  // namespace
}  // namespace gossamer
