// Sparse weights and sparse activations: the work is the product of both densities.
//
// The weights are ordered by input. For each active input its value is broadcast and
// multiplied into the outputs it reaches; inputs that are zero cost nothing. `slice`
// consecutive outputs at all positions form a tile with weights of its own, small enough
// that its sums stay in L1.
//
// One body serves linear layers (one position, one tap) and convolutions. It differs in
// what a stored weight is: a single number (Scatter), N consecutive outputs (Block), a
// mask of W outputs with only the non-zeros stored (Expand), or whole rows with zeros kept
// (Dense), whose runs over neighbouring taps are contiguous in weights and outputs alike.

// Offsets of two bytes where they reach: a quarter less to read than with four.
template <class Offset>
struct Scatter {
    static constexpr bool merge = true;
    static constexpr int together = 8;
    static inline void run(float value, int64_t begin, int64_t end, const void* offsets,
                           const float* w, const int32_t*, float* to) {
        const auto* offset = static_cast<const Offset*>(offsets);
        // The outputs of one input differ, so several can be in flight at once.
        int64_t e = begin;
        for (; e + Scatter::together <= end; e += Scatter::together) {
            float sum[Scatter::together];
#pragma GCC unroll 8
            for (int i = 0; i < Scatter::together; ++i) sum[i] = to[offset[e + i]] + value * w[e + i];
#pragma GCC unroll 8
            for (int i = 0; i < Scatter::together; ++i) to[offset[e + i]] = sum[i];
        }
        for (; e < end; ++e) to[offset[e]] += value * w[e];
    }
    static inline void prefetch(int64_t begin, int64_t, const void* offsets, const float* w) {
        __builtin_prefetch(static_cast<const Offset*>(offsets) + begin);
        __builtin_prefetch(w + begin);
        __builtin_prefetch(w + begin + 16);
        __builtin_prefetch(w + begin + 32);
    }
};

template <int N>
struct Block {
    static constexpr bool merge = true;
    static inline void run(float value, int64_t begin, int64_t end, const void* offsets,
                           const float* w, const int32_t*, float* to) {
        const auto* offset = static_cast<const int32_t*>(offsets);
        const auto x = splat<N>(value);
        for (int64_t e = begin; e < end; ++e) {
            float* const at = to + offset[e];
            store<N>(at, load<N>(at) + x * load<N>(w + e * N));
        }
    }
    static inline void prefetch(int64_t begin, int64_t end, const void* offsets, const float* w) {
        __builtin_prefetch(static_cast<const int32_t*>(offsets) + begin);
        for (int64_t e = begin; e < end && e < begin + 8; ++e) __builtin_prefetch(w + e * N);
    }
};

struct Dense {
    static constexpr bool merge = false;
    static inline void run(float value, int64_t begin, int64_t end, const void* offsets,
                           const float* w, const int32_t*, float* to) {
        const auto* offset = static_cast<const int32_t*>(offsets);
        const V x = splat(value);
        to += offset[begin];
        const int64_t length = (end - begin) * W;
        w += begin * W;
#pragma GCC unroll 4
        for (int64_t i = 0; i < length; i += W) store(to + i, load(to + i) + x * load(w + i));
    }
    // Long runs, which the processor fetches ahead by itself.
    static inline void prefetch(int64_t, int64_t, const void*, const float*) {}
};

#if defined(__AVX512F__)
struct Expand {
    static constexpr bool merge = true;
    // `more` holds (mask, where the non-zeros start) for each entry.
    static inline void run(float value, int64_t begin, int64_t end, const void* offsets,
                           const float* w, const int32_t* more, float* to) {
        const auto* offset = static_cast<const int32_t*>(offsets);
        const __m512 x = _mm512_set1_ps(value);
        for (int64_t e = begin; e < end; ++e) {
            float* const at = to + offset[e];
            const __m512 weight =
                _mm512_maskz_expand_ps(static_cast<__mmask16>(more[2 * e]), _mm512_loadu_ps(w + more[2 * e + 1]));
            _mm512_storeu_ps(at, _mm512_fmadd_ps(x, weight, _mm512_loadu_ps(at)));
        }
    }
    static inline void prefetch(int64_t begin, int64_t, const void* offsets, const float*) {
        __builtin_prefetch(static_cast<const int32_t*>(offsets) + begin);
    }
};
#endif

// The sums of one tile become its part of the output, clipped and pooled.
inline void finish_tile(const ActiveShape& s, const float* sums, int64_t slice, int64_t tile,
                        const Clip& clip, float* out) {
    const int64_t outputs = least(slice, s.outputs - tile * slice);
    const int64_t height = s.out_height / s.pool, width = s.out_width / s.pool;
    out += tile * slice;
    for (int64_t y = 0; y < height; ++y) {
        for (int64_t x = 0; x < width; ++x, out += s.outputs) {
            const float* at = sums + (y * s.out_width + x) * s.pool * slice;
            for (int64_t o = 0; o < outputs; o += W) {
                V best = load(at + o);
                for (int64_t i = 0; i < s.pool * s.pool && s.pool > 1; ++i) {
                    const int64_t pixel = i / s.pool * s.out_width + i % s.pool;
                    best = at_least(load(at + pixel * slice + o), best);
                }
                store_first(out + o, clip(best), outputs - o);
            }
        }
    }
}

inline void start_tile(const ActiveShape& s, const float* bias, int64_t slice, float* sums) {
    for (int64_t p = 0; p < s.positions; ++p) {
        for (int64_t o = 0; o < slice; o += W) store(sums + p * slice + o, load(bias + o));
    }
}

template <class Weights>
void active(const Call& call) {
    const auto& s = *reinterpret_cast<const ActiveShape*>(call.shape);
    const auto* start = static_cast<const int32_t*>(call.data[0]);  // [tiles][channels][taps + 1]
    const void* offset = call.data[1];
    const auto* weights = static_cast<const float*>(call.data[2]);
    const auto* more = static_cast<const int32_t*>(call.data[3]);
    const auto* bias = static_cast<const float*>(call.data[4]);  // [padded]
    const Clip clip(static_cast<const float*>(call.data[5]));
    // Per input position: where its window starts in a tile, then the ranges of kernel
    // rows and columns that reach an output (all four in one word).
    const auto* place = static_cast<const int32_t*>(call.data[6]);
    const int64_t slice = s.padded / s.tiles;
    const int64_t first = share(s.tiles, call.part, call.parts);
    const int64_t last = share(s.tiles, call.part + 1, call.parts);
    float* sums = call.scratch;
    for (int64_t item = 0; item < call.items; ++item) {
        const float* list = call.in[0] + item * call.in_size[0];
        const auto* index = reinterpret_cast<const int32_t*>(list) + list_header;
        const int64_t count = *reinterpret_cast<const int32_t*>(list);
        const float* value = list + list_header + s.capacity;
        for (int64_t tile = first; tile < last; ++tile) {
            start_tile(s, bias + tile * slice, slice, sums);
            const int32_t* of_tile = start + tile * s.channels * (s.taps + 1);
            if (s.taps == 1 && s.positions == 1) {
                for (int64_t a = 0; a < count; ++a) {
                    const int32_t* bounds = of_tile + 2 * static_cast<int64_t>(index[a]);
                    const int32_t* next = of_tile + 2 * static_cast<int64_t>(index[a + (a + 1 < count)]);
                    Weights::prefetch(next[0], next[1], offset, weights);
                    if (bounds[0] != bounds[1]) {
                        Weights::run(value[a], bounds[0], bounds[1], offset, weights, more, sums);
                    }
                }
            } else {
                for (int64_t a = 0; a < count; ++a) {
                    const int64_t i = index[a];
                    const int64_t quotient = (i * s.multiplier) >> s.shift;
                    const int64_t rest = i - quotient * s.inner;
                    const int64_t channel = s.channel_first ? quotient : rest;
                    const int64_t position = s.channel_first ? rest : quotient;
                    const int32_t* bounds = of_tile + channel * (s.taps + 1);
                    float* const to = sums + place[2 * position] * slice;
                    const auto ranges = static_cast<uint32_t>(place[2 * position + 1]);
                    const int64_t y0 = ranges & 255, y1 = ranges >> 8 & 255;
                    const int64_t x0 = ranges >> 16 & 255, x1 = ranges >> 24;
                    if (Weights::merge && x1 - x0 == s.kernel_width) {
                        Weights::run(value[a], bounds[y0 * s.kernel_width], bounds[y1 * s.kernel_width],
                                     offset, weights, more, to);
                        continue;
                    }
                    for (int64_t y = y0; y < y1; ++y) {
                        const int32_t* row = bounds + y * s.kernel_width;
                        if (row[x0] != row[x1]) {
                            Weights::run(value[a], row[x0], row[x1], offset, weights, more, to);
                        }
                    }
                }
            }
            finish_tile(s, sums, slice, tile, clip, call.out[0] + item * call.out_size[0]);
        }
    }
}

// Convolution in blocks of N outputs, one input channel after the other: each of the
// channel's blocks stays in a register while all its active positions pass by. Positions
// that the tap moves out of the output are added as zeros, because a branch that goes
// either way costs more.
template <int N>
void active_channels(const Call& call) {
    const auto& s = *reinterpret_cast<const ActiveShape*>(call.shape);
    const auto* start = static_cast<const int32_t*>(call.data[0]);
    const auto* offset = static_cast<const int32_t*>(call.data[1]);
    const auto* weights = static_cast<const float*>(call.data[2]);
    // Of each block: how far its tap moves it in a tile, the tap's row and its column.
    const auto* tap = static_cast<const int32_t*>(call.data[3]);
    const auto* bias = static_cast<const float*>(call.data[4]);
    const Clip clip(static_cast<const float*>(call.data[5]));
    const auto* place = static_cast<const int32_t*>(call.data[6]);
    const int64_t slice = s.padded / s.tiles;
    const int64_t first = share(s.tiles, call.part, call.parts);
    const int64_t last = share(s.tiles, call.part + 1, call.parts);
    const int64_t room = s.capacity + W;
    float* sums = call.scratch;
    auto* base = reinterpret_cast<int32_t*>(sums + s.positions * slice);
    auto* reach = base + room;                                   // the ranges of taps
    auto* value = reinterpret_cast<float*>(reach + room);
    auto* tap_value = value + room;
    auto* target = reinterpret_cast<int32_t*>(tap_value + room);
    auto* begins = target + room;                                // [channels + 1]
    auto* channel_of = begins + s.channels + 1;
    // Zeros go to as many places as there are lanes: adding to one place again and again
    // would wait for the last sum each time.
    I elsewhere;
    for (int l = 0; l < W; ++l) elsewhere[l] = static_cast<int32_t>(l % s.positions * slice);
    for (int64_t item = 0; item < call.items; ++item) {
        const float* list = call.in[0] + item * call.in_size[0];
        const auto* index = reinterpret_cast<const int32_t*>(list) + list_header;
        const int64_t count = *reinterpret_cast<const int32_t*>(list);
        const float* values = list + list_header + s.capacity;
        // Sort by channel, by counting.
        for (int64_t c = 0; c <= s.channels; ++c) begins[c] = 0;
        for (int64_t a = 0; a < count; ++a) {
            const int64_t quotient = (index[a] * s.multiplier) >> s.shift;
            const int64_t channel = s.channel_first ? quotient : index[a] - quotient * s.inner;
            channel_of[a] = static_cast<int32_t>(channel);
            ++begins[channel + 1];
        }
        for (int64_t c = 0; c < s.channels; ++c) begins[c + 1] += begins[c];
        for (int64_t a = 0; a < count; ++a) {
            const int64_t quotient = (index[a] * s.multiplier) >> s.shift;
            const int64_t position = s.channel_first ? index[a] - quotient * s.inner : quotient;
            const int32_t to = begins[channel_of[a]]++;
            base[to] = place[2 * position] * static_cast<int32_t>(slice);
            reach[to] = place[2 * position + 1];
            value[to] = values[a];
        }
        for (int64_t tile = first; tile < last; ++tile) {
            start_tile(s, bias + tile * slice, slice, sums);
            int64_t begin = 0;
            for (int64_t c = 0; c < s.channels; ++c) {
                const int64_t end = begins[c];  // the sort left the ends here
                const int32_t* bounds = start + (tile * s.channels + c) * (s.taps + 1);
                if (begin == end) continue;
                for (int64_t e = bounds[0]; e < bounds[s.taps]; ++e) {
                    const I row = splat_int(tap[3 * e + 1]), column = splat_int(tap[3 * e + 2]);
                    for (int64_t a = begin; a < end; a += W) {
                        const I r = load_int(reach + a);
                        const I meets = ((r & 255) <= row) & (((r >> 8) & 255) > row) &
                                        (((r >> 16) & 255) <= column) & (((r >> 24) & 255) > column);
                        const I at = load_int(base + a) + splat_int(tap[3 * e]);
                        store_int(target + (a - begin), (at & meets) | (elsewhere & ~meets));
                        store(tap_value + (a - begin), (V)((I)load(value + a) & meets));
                    }
                    const auto w = load<N>(weights + e * N);
                    float* const to = sums + offset[e];
#pragma GCC unroll 4
                    for (int64_t a = 0; a < end - begin; ++a) {
                        float* const at = to + target[a];
                        store<N>(at, load<N>(at) + splat<N>(tap_value[a]) * w);
                    }
                }
                begin = end;
            }
            finish_tile(s, sums, slice, tile, clip, call.out[0] + item * call.out_size[0]);
        }
    }
}
