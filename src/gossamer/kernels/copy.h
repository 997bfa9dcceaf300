// Values that only move: rearrangements by strides, and rows of tables.

#pragma once

#include <cstdint>

#include "kernel.h"
#include "rows.h"
#include "vec.h"

namespace gossamer {
namespace {

// A copy's two innermost loops.
struct Plane {
    int64_t rows, columns, in_row, in_column, out_row, out_column;
};

inline void move(const float* in, float* out, int64_t n) {
    int64_t i = 0;
    for (; i + W <= n; i += W) store(out + i, load(in + i));
    if (i < n) store_first(out + i, load_first(in + i, n - i), n - i);
}

// Numbers that repeat: each `Times` times in a row, and the row then in `rows` rows, `step` apart.
struct Repeats {
    int64_t rows, step;
};

// Part K of a vector whose every number is there `Times` times in a row, into all rows at once:
// what was just written cannot be read yet at another place without a wait.
template <int Times, int K>
inline void store_repeated(V v, const Repeats& r, float* out, int64_t count) {
    if constexpr (K < Times) {
        const V part = shuffled(v, v, [](int lane) { return (K * W + lane) / Times; });
        for (int64_t row = 0; row < r.rows; ++row) store_first(out + row * r.step, part, count);
        store_repeated<Times, K + 1>(v, r, out + W, count - W);
    }
}

// The last vector of a row ends where the row does: masks take longer than numbers written twice.
template <int Times>
inline void repeat(const Repeats& r, const float* in, float* out, int64_t n) {
    if (n < W) {
        store_repeated<Times, 0>(load_first(in, n), r, out, n * Times);
        return;
    }
    for (int64_t i = 0; i < n; i += W) {
        const int64_t at = least(i, n - W);
        store_repeated<Times, 0>(load(in + at), r, out + at * Times, W * Times);
    }
}

inline void every_second(const float* in, float* out, int64_t n) {
    int64_t i = 0;
    for (; i + W < n; i += W) store(out + i, every_second(load(in + 2 * i), load(in + 2 * i + W)));
    if (i < n) {
        const int64_t left = 2 * (n - i) - 1;
        const V low = load_first(in + 2 * i, left), high = load_first(in + 2 * i + W, left - W);
        store_first(out + i, every_second(low, high), n - i);
    }
}

// A plane, and the same `copies.rows` times where its numbers lie one after the other.
inline void copy_plane(const Plane& p, const Repeats& copies, const float* in, float* out) {
    if (p.in_column == 0 && p.out_column == 1 && p.in_row == 1 && p.out_row == p.columns) {
        if (p.columns == 2) return repeat<2>(copies, in, out, p.rows);
        if (p.columns == 3) return repeat<3>(copies, in, out, p.rows);
        if (p.columns == 4) return repeat<4>(copies, in, out, p.rows);
    }
    if (p.in_column == 1 && p.out_column == 1) {
        for (int64_t d = 0; d < p.rows; ++d)
            move(in + d * p.in_row, out + d * p.out_row, p.columns);
    } else if (p.in_column == 1 && p.out_row == 1) {
        transpose(in, p.in_row, p.rows, p.columns, out, p.out_column);
    } else if (p.in_row == 1 && p.out_column == 1) {
        transpose(in, p.in_column, p.columns, p.rows, out, p.out_row);
    } else if (p.in_column == 2 && p.out_column == 1) {
        for (int64_t d = 0; d < p.rows; ++d)
            every_second(in + d * p.in_row, out + d * p.out_row, p.columns);
    } else {
        for (int64_t d = 0; d < p.rows; ++d) {
            for (int64_t e = 0; e < p.columns; ++e)
                out[d * p.out_row + e * p.out_column] = in[d * p.in_row + e * p.in_column];
        }
    }
    for (int64_t i = 1; i < copies.rows; ++i) move(out, out + i * copies.step, p.rows * p.columns);
}

// The loops of a copy: those that both sides go through one by one innermost, once in order.
struct Loops {
    int64_t sizes[5], in[5], out[5];
    int divided = 3;      // the loop that parts divide
    int64_t skipped = 0;  // of it, what parts before this one do

    explicit Loops(const CopyShape& s) {
        for (int i = 0; i < 5; ++i)
            sizes[i] = s.sizes[i], in[i] = s.in_strides[i], out[i] = s.out_strides[i];
    }

    // Chooses the loop to divide; false if none is worth it. Where the input's channels have so
    // many pixels, one behind the other, parts share the pixels of all channels, as layers do: what
    // one of them wrote is then mostly read by the same core. Small images are shared by channel,
    // by layers too, and others by what lies farthest apart. Each part writes long pieces: cores
    // wait for each other wherever they write to the same cache line.
    bool choose(int64_t pixels, int64_t parts) {
        constexpr int64_t piece = 64;
        if (pixels <= planes_vectors * W) pixels = 0;
        const bool run = in[4] == 1 && out[4] == 1 && sizes[0] == 1;
        if (pixels && run && sizes[4] > pixels && sizes[4] % pixels == 0) {
            for (int i = 0; i < 3; ++i)
                sizes[i] = sizes[i + 1], in[i] = in[i + 1], out[i] = out[i + 1];
            sizes[3] = sizes[4] / pixels, sizes[4] = in[3] = out[3] = pixels;
        }
        int64_t best = 0, farthest = 0;
        for (int i = 0; i < 5; ++i) {
            const int64_t apart = in[i] < 0 ? -in[i] : in[i];
            const bool pixel = apart != 0 && apart < pixels;
            const int64_t worth = sizes[i] / parts * out[i] < piece ? 0 : pixel ? 2 : 1;
            if (worth > best || (worth && worth == best && apart > farthest))
                divided = i, best = worth, farthest = apart;
        }
        return best > 0;
    }

    // Leaves one part's share of that loop, whole vectors of runs of the output.
    void divide(int64_t part, int64_t parts) {
        const int64_t whole = sizes[divided], unit = out[divided] == 1 ? W : 1;
        const int64_t units = (whole + unit - 1) / unit;
        skipped = share(units, part, parts) * unit;
        sizes[divided] = least(whole, share(units, part + 1, parts) * unit) - skipped;
    }

    void order() {
        int last = 4;
        for (int i = 0; i < 4; ++i) last = sizes[i] > 1 && out[i] == 1 ? i : last;
        swap(last, 4);
        int before = 3;
        for (int i = 0; i < 3; ++i) before = sizes[i] > 1 && in[i] == 1 ? i : before;
        if (in[4] != 1) swap(before, 3);
    }

    // Are whole planes there several times?
    bool repeats() const { return sizes[2] > 1 && in[2] == 0 && out[4] == 1 && out[3] == sizes[4]; }

    void swap(int a, int b) {
        int64_t* const arrays[] = {sizes, in, out};
        for (int64_t* each : arrays) {
            const int64_t other = each[a];
            each[a] = each[b], each[b] = other;
        }
        divided = divided == a ? b : divided == b ? a : divided;
    }
};

// What lies between the runs of a copy's output: those of its innermost loop.
struct Gaps {
    int nearest[4] = {0, 1, 2, 3};  // the outer loops: those first whose runs lie close together
    int64_t sizes[4], gap[4] = {};  // from a run to that of the loop's next turn; by loop
    bool apart = true;              // does each run end before the next one begins?
    int64_t reach;                  // floats from the first run to the end of the last

    explicit Gaps(const Loops& l) : reach(l.sizes[4]) {
        for (const int64_t size : l.sizes) apart = apart && size > 0;
        for (int i = 1; i < 4; ++i) {
            for (int j = i; j > 0 && l.out[nearest[j]] < l.out[nearest[j - 1]]; --j) {
                const int other = nearest[j];
                nearest[j] = nearest[j - 1], nearest[j - 1] = other;
            }
        }
        for (const int i : nearest) {
            sizes[i] = l.sizes[i];
            if (sizes[i] == 1) continue;
            gap[i] = l.out[i] - reach;
            apart = apart && gap[i] >= 0;
            reach += (sizes[i] - 1) * l.out[i];
        }
        apart = apart && (l.out[4] == 1 || l.sizes[4] == 1);
    }

    // The floats behind the run of these turns of the outer loops, `behind` the last one.
    int64_t after(const int64_t* turns, int64_t behind) const {
        for (const int i : nearest)
            if (turns[i] + 1 < sizes[i]) return gap[i];
        return behind;
    }
};

inline void clear(float* out, int64_t n) {
    for (int64_t i = 0; i < n; i += W) store_first(out + i, V{}, n - i);
}

// Any rearrangement by strides: transposes, padding, layouts, concatenation, repetition.
void copy(const Call& call) {
    const auto& s = *reinterpret_cast<const CopyShape*>(call.shape);
    Loops l(s);
    bool shared = call.parts > 1 && l.choose(s.pixels, call.parts);
    if (!shared) l = Loops(s);
    l.order();
    const Gaps gaps(l);
    // Each part clears what lies behind its own runs. One thread does so, too, where a cache does
    // not hold all: then everything is written once.
    shared = shared && (!s.clear || gaps.apart);
    const bool between = s.clear && gaps.apart && (shared || s.clear > 1 << 17);
    const int64_t run = l.sizes[4];
    if (shared) l.divide(call.part, call.parts);
    if (shared ? !l.sizes[l.divided] : call.part > 0) return;
    // Whole planes that are there many times are written together.
    Repeats copies{1, l.out[2]};
    if (!between && l.repeats()) copies.rows = l.sizes[2], l.sizes[2] = 1;
    const int64_t outer = l.sizes[0] * l.sizes[1] * l.sizes[2];
    const Plane plane{l.sizes[3], l.sizes[4], l.in[3], l.in[4], l.out[3], l.out[4]};
    const int64_t before = s.out_offset - s.clear_offset, behind = s.clear - before - gaps.reach;
    const bool ends = l.divided < 4 || l.skipped + l.sizes[4] == run;  // do runs end here?
    for (int64_t item = 0; item < call.items; ++item) {
        const float* in =
            call.in[0] + item * call.in_size[0] + s.in_offset + l.skipped * l.in[l.divided];
        float* const cleared = call.out[0] + item * call.out_size[0] + s.clear_offset;
        if (s.clear && !between)
            __builtin_memset(cleared, 0, static_cast<size_t>(s.clear) * sizeof(float));
        if (between && l.skipped == 0) clear(cleared, before);
        float* const out = cleared + before + l.skipped * l.out[l.divided];
        Walk walk(l.sizes, l.in, l.out, 0);
        for (int64_t i = 0; i < outer; ++i, walk.next()) {
            float* const to = out + walk.in_second();
            copy_plane(plane, copies, in + walk.in_first(), to);
            if (!between || !ends) continue;
            int64_t turns[4] = {walk.at[0], walk.at[1], walk.at[2], 0};
            if (l.divided < 4) turns[l.divided] += l.skipped;
            const auto clear_behind = [&](int64_t first, int64_t last) {
                const int64_t n = gaps.after(turns, behind);
                for (int64_t d = first; n && d < last; ++d)
                    clear(to + d * plane.out_row + plane.columns, n);
            };
            clear_behind(0, plane.rows - 1);
            turns[3] += plane.rows - 1;
            clear_behind(plane.rows - 1, plane.rows);
        }
    }
}

// Rows of a table (data) by their numbers, which count from its end where negative. A number
// beyond the table gives NaN: the engine looks at what it is given, not at what it computes.
void embed(const Call& call) {
    const auto& s = *reinterpret_cast<const EmbedShape*>(call.shape);
    const auto* table = static_cast<const float*>(call.data[0]);
    const int64_t last = share(s.count, call.part + 1, call.parts);
    for (int64_t item = 0; item < call.items; ++item) {
        const float* in = call.in[0] + item * call.in_size[0];
        float* out = call.out[0] + item * call.out_size[0];
        for (int64_t i = share(s.count, call.part, call.parts); i < last; ++i) {
            const auto rows = static_cast<float>(s.rows);
            const float at = in[i] < 0.0f ? in[i] + rows : in[i];
            float* to = out + i * s.width;
            if (at >= 0.0f && at < rows) {
                move(table + static_cast<int64_t>(at) * s.width, to, s.width);
            } else {
                for (int64_t j = 0; j < s.width; ++j) to[j] = __builtin_nanf("");
            }
        }
    }
}

}  // namespace
}  // namespace gossamer
