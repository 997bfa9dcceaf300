// Sparse weights, dense activations: every non-zero weight is broadcast over lanes that
// are pixels or examples, so that no weight pattern needs a gather.

#pragma once

#include <cstdint>
#include <type_traits>
#include <utility>

#include "elementwise.h"
#include "int8.h"
#include "kernel.h"
#include "lists.h"
#include "rows.h"
#include "vec.h"

namespace gossamer {
namespace {

// Layouts: non-zeros one by one, or in blocks of several outputs that share their input. A block
// reads its input once, where single weights read it for every output.
inline int64_t blocks_of(int64_t outputs, int together) {
    return (outputs + together - 1) / together;
}

// Convolution whose lanes are consecutive pixels of the (padded) input plane. Rows of the
// plane are wider than rows of the output: the lanes between them compute what nobody
// reads, which costs less than leaving them out. Non-zeros are ordered by chunk of
// input channels, then by output. A tile of pixels goes through all chunks before the next one,
// so that its sums stay in a cache.

// Where the sums of a tile of pixels go, for each output of a block: to `sums`, `apart` floats from
// those of one output to the next one's, or, clipped, as outputs to `out`.
struct PlanesTarget {
    float* sums;
    int64_t apart;
    float* out;  // null: to `sums`
    int64_t plane, outputs, pixels;
    const Clip& clip;
};

// Sums that one addition after the other would keep waiting have several chains of additions.
constexpr int chains_of(int vectors, int together) {
    return together > 1 || vectors > 7 ? 1 : vectors > 2 ? 2 : 4;
}

// The weight of each of `Together` outputs, and what it adds to their sums.
template <int N, int Vectors, int Together, class Number>
inline void add_weighted(const float* x, const Number* w,
                         typename Of<N>::V (&sum)[Together][Vectors]) {
    using T = typename Of<N>::V;
    T weight[Together];
#pragma GCC unroll 8
    for (int o = 0; o < Together; ++o) weight[o] = splat<N>(w[o]);
#pragma GCC unroll 32
    for (int v = 0; v < Vectors; ++v) {
        const T input = load<N>(x + v * N);
#pragma GCC unroll 8
        for (int o = 0; o < Together; ++o) sum[o][v] += weight[o] * input;
    }
}

// Adds the products of `count` weights, whose inputs are `scale` times their offsets from `in`.
template <int N, int Vectors, int Together, class Number>
inline void add_all(const float* in, const int32_t* offset, int64_t scale, const Number* w,
                    int64_t count, typename Of<N>::V (&sum)[Together][Vectors]) {
    using T = typename Of<N>::V;
    constexpr int chains = chains_of(Vectors, Together);
    int64_t e = 0;
    if constexpr (chains > 1) {
        T more[chains - 1][Together][Vectors]{};
        for (; e + chains <= count; e += chains) {
            add_weighted<N>(in + offset[e] * scale, w + e, sum);
#pragma GCC unroll 4
            for (int c = 1; c < chains; ++c)
                add_weighted<N>(in + offset[e + c] * scale, w + e + c, more[c - 1]);
        }
#pragma GCC unroll 4
        for (int c = 1; c < chains; ++c) {
#pragma GCC unroll 32
            for (int v = 0; v < Vectors; ++v) sum[0][v] += more[c - 1][0][v];
        }
    }
    for (; e < count; ++e) add_weighted<N>(in + offset[e] * scale, w + e * Together, sum);
}

template <int N, int Vectors, int Together, class Number>
inline void planes_tile(const float* in, const int32_t* offset, const Number* w, int64_t count,
                        const float* bias, const PlanesTarget& to) {
    typename Of<N>::V sum[Together][Vectors];
#pragma GCC unroll 8
    for (int o = 0; o < Together; ++o) {
#pragma GCC unroll 32
        for (int v = 0; v < Vectors; ++v)
            sum[o][v] = bias ? splat<N>(bias[o]) : load<N>(to.sums + o * to.apart + v * N);
    }
    add_all<N>(in, offset, 1, w, count, sum);
    const Clip clip = to.clip;  // a copy, which no store can change
#pragma GCC unroll 8
    for (int o = 0; o < Together; ++o) {
        float* const sums = to.sums + o * to.apart;
        float* const out = to.out + (to.out ? o * to.plane : 0);
        if (!to.out) {
#pragma GCC unroll 32
            for (int v = 0; v < Vectors; ++v) store<N>(sums + v * N, sum[o][v]);
        } else if (o < to.outputs) {
            constexpr int last = Vectors - 1;
#pragma GCC unroll 32
            for (int v = 0; v < last; ++v) store<N>(out + v * N, clip.operator()<N>(sum[o][v]));
            store_first<N>(out + last * N, clip.operator()<N>(sum[o][last]), to.pixels - last * N);
        }
    }
}

// The same of M + 1 vectors for each M, chosen when it is called.
template <int N, int Together, class Number, int... M>
inline void planes_tile_of(std::integer_sequence<int, M...>, int64_t vectors, const float* in,
                           const int32_t* offset, const Number* w, int64_t count, const float* bias,
                           const PlanesTarget& to) {
    static constexpr decltype(&planes_tile<N, 1, Together, Number>) tiles[] = {
        planes_tile<N, M + 1, Together, Number>...};
    tiles[vectors - 1](in, offset, w, count, bias, to);
}

// The same of `to.pixels` pixels, in as few tiles as registers hold, of about as many vectors each:
// a tile of few vectors waits for its own sums.
template <int N, int Vectors, int Together, class Number>
inline void planes_sums(const float* in, const int32_t* offset, const Number* w, int64_t count,
                        const float* bias, PlanesTarget to) {
    constexpr int registers = roomy ? 32 : 16;
    constexpr int most = Together == 1 ? Vectors : (registers - 1) / Together - 1;
    const int64_t vectors = (to.pixels + N - 1) / N;
    for (int64_t v = 0, passes = (vectors + most - 1) / most; passes > 0; --passes) {
        const int64_t tile = (vectors - v + passes - 1) / passes;
        planes_tile_of<N, Together>(std::make_integer_sequence<int, most>{}, tile, in + v * N,
                                    offset, w, count, bias, to);
        v += tile;
        to.sums += tile * N, to.pixels -= tile * N;
        if (to.out) to.out += tile * N;
    }
}

// Pixels [first, last) of a plane.
struct PlanesTile {
    int64_t first, last;
};

// Outputs that lie one after the other.
struct PlanesOutput {
    int64_t begin, count;
};

// Writes the sums of a tile without those between its rows; returns which outputs they are.
template <int N>
inline PlanesOutput planes_output(const PlanesShape& s, const PlanesTile& tile, const Clip& clip,
                                  const float* sums, float* out) {
    // Rows without anything between them are one.
    const int64_t width = s.pitch == s.width ? s.height * s.width : s.width;
    const int64_t pitch = s.pitch == s.width ? width : s.pitch;
    const int64_t y = tile.first / pitch, skipped = least(width, tile.first % pitch);
    int64_t at = tile.first % pitch, count = 0;
    const float* from = sums;
    float* const to = out + y * width + skipped;
    for (int64_t left = tile.last - tile.first; left > 0; at = 0) {
        const int64_t row = least(left, pitch - at), inside = least(row, width - at);
        for (int64_t x = 0; x < inside; x += N) {
            store_first<N>(to + count + x, clip.operator()<N>(load_first<N>(from + x, inside - x)),
                           inside - x);
        }
        count += inside > 0 ? inside : 0;
        from += row, left -= row;
    }
    return {y * width + skipped, count};
}

// Tiles of at most so many vectors, and their pixels: about equal, and an even number of tiles if
// there are some, so that threads find equal shares. How many threads there are does not
// change them: the order of a sum depends on the size of its tile.
struct PlanesTiles {
    int64_t pixels, count;
};

inline PlanesTiles planes_tiles(int64_t length, int64_t lanes, int64_t most) {
    const int64_t vectors = (length + lanes - 1) / lanes;
    int64_t count = (vectors + most - 1) / most;
    if (count > 1) count += count % 2;
    const int64_t each = (vectors + count - 1) / count;
    return {each * lanes, (vectors + each - 1) / each};
}

template <int N, int Vectors, int Together, class Number>
void planes(const Call& call) {
    const auto& s = *reinterpret_cast<const PlanesShape*>(call.shape);
    const auto* start =
        static_cast<const int32_t*>(call.data[0]);  // [chunks][blocks of outputs + 1]
    const auto* offset = static_cast<const int32_t*>(call.data[1]);
    const auto* weights = static_cast<const Number*>(call.data[2]);  // [entries][Together]
    const auto* bias = static_cast<const float*>(call.data[3]);      // padded to whole blocks
    const Clip clip(static_cast<const float*>(call.data[4]));
    const int64_t length = (s.height - 1) * s.pitch + s.width;
    const auto [most, tiles] = planes_tiles(length, N, Vectors);
    const int64_t blocks = blocks_of(s.outputs, Together);
    // Threads share the tiles, so that each finds its pixels in its own cache, where none gets much
    // more than another, and outputs elsewhere.
    const bool pixelwise = call.parts * ((tiles + call.parts - 1) / call.parts) * 4 <= tiles * 5;
    const auto before = [start, blocks, chunks = s.chunks](int64_t b) {
        int64_t work = 0;
        for (int64_t c = 0; c < chunks; ++c) {
            const int32_t* bounds = start + c * (blocks + 1);
            work += work_of(bounds)(b) - bounds[0];
        }
        return work;
    };
    const int64_t first = pixelwise ? 0 : share_work(blocks, call.part, call.parts, before);
    const int64_t last = pixelwise ? blocks : share_work(blocks, call.part + 1, call.parts, before);
    const int64_t first_tile = pixelwise ? share(tiles, call.part, call.parts) : 0;
    const int64_t last_tile = pixelwise ? share(tiles, call.part + 1, call.parts) : tiles;
    for (int64_t item = 0; item < call.items; ++item) {
        const float* in = call.in[0] + item * call.in_size[0];
        float* out = call.out[0] + item * call.out_size[0];
        for (int64_t t = first_tile; t < last_tile; ++t) {
            const int64_t tile = t * most;
            const PlanesTile pixels{tile, least(length, tile + most)};
            for (int64_t c = 0; c < s.chunks; ++c) {
                const int32_t* bounds = start + c * (blocks + 1);
                for (int64_t b = first; b < last; ++b) {
                    const int64_t begin = bounds[b], count = bounds[b + 1] - begin;
                    const int64_t o = b * Together;
                    const float* const initial = c == 0 ? bias + o : nullptr;
                    float* const sums =
                        call.scratch + (s.chunks > 1 ? (b - first) * Together * most : 0);
                    const bool done = c + 1 == s.chunks, direct = done && s.pitch == s.width;
                    const int64_t there = least(Together, s.outputs - o);
                    const int64_t wide = pixels.last - tile;
                    float* const to = direct ? out + o * s.out_plane + tile : nullptr;
                    if (count || initial || direct) {
                        planes_sums<N, Vectors, Together>(
                            in + tile, offset + begin, weights + begin * Together, count, initial,
                            {sums, most, to, s.out_plane, there, wide, clip});
                    }
                    if (!done) continue;
                    for (int64_t j = 0; direct && j < there; ++j)
                        finish(call, to + j * s.out_plane, wide);
                    if (direct) continue;
                    for (int64_t j = 0; j < there; ++j) {
                        float* const rows = out + (o + j) * s.out_plane;
                        const auto [at, outputs] =
                            planes_output<N>(s, pixels, clip, sums + j * most, rows);
                        finish(call, rows + at, outputs);
                    }
                }
            }
        }
    }
}

// Linear layer on a batch: the lanes are examples. A tile of examples is transposed once,
// then every non-zero weight meets `Vectors` vectors of it.
template <int Vectors, int Together, class Number>
void columns(const Call& call) {
    const auto& s = *reinterpret_cast<const ColumnsShape*>(call.shape);
    const auto* start = static_cast<const int32_t*>(call.data[0]);  // [blocks of outputs + 1]
    const auto* input = static_cast<const int32_t*>(call.data[1]);
    const auto* weights = static_cast<const Number*>(call.data[2]);  // [entries][Together]
    const auto* bias = static_cast<const float*>(call.data[3]);      // padded to whole blocks
    const Clip clip(static_cast<const float*>(call.data[4]));
    constexpr int64_t lanes = Vectors * W;
    const int64_t blocks = blocks_of(s.outputs, Together);
    // Tiles of examples are shared where there are several for each part, outputs elsewhere: then
    // every part transposes all examples.
    const int64_t all_rows = call.items * s.rows, tiles = (all_rows + lanes - 1) / lanes;
    const bool by_rows = tiles >= 2 * call.parts;
    const auto bound = [&](int64_t part) {
        return share_work(blocks, part, call.parts, work_of(start));
    };
    const int64_t first = by_rows ? 0 : bound(call.part) * Together;
    const int64_t last = by_rows ? s.outputs : least(s.outputs, bound(call.part + 1) * Together);
    const int64_t first_row = by_rows ? share(tiles, call.part, call.parts) * lanes : 0;
    const int64_t last_row =
        by_rows ? least(all_rows, share(tiles, call.part + 1, call.parts) * lanes) : all_rows;
    float* tile = call.scratch;            // [depth][lanes]
    float* sums = tile + s.depth * lanes;  // [W][lanes]
    for (int64_t row = first_row; row < last_row; row += lanes) {
        const int64_t count = least(lanes, last_row - row);
        transpose(call.in[0] + row * s.depth, s.depth, count, s.depth, tile, lanes);
        for (int64_t o = first; o < last; o += W) {
            const int64_t outputs = least(W, last - o);
            for (int64_t j = 0; j < outputs; j += Together) {
                V sum[Together][Vectors];
#pragma GCC unroll 8
                for (int t = 0; t < Together; ++t) {
#pragma GCC unroll 8
                    for (int v = 0; v < Vectors; ++v) sum[t][v] = splat(bias[o + j + t]);
                }
                const int64_t block = (o + j) / Together, begin = start[block];
                add_all<W>(tile, input + begin, lanes, weights + begin * Together,
                           start[block + 1] - begin, sum);
#pragma GCC unroll 8
                for (int t = 0; t < Together; ++t) {
#pragma GCC unroll 8
                    for (int v = 0; v < Vectors; ++v)
                        store(sums + (j + t) * lanes + v * W, clip(sum[t][v]));
                }
            }
            transpose(sums, lanes, outputs, count, call.out[0] + row * s.outputs + o, s.outputs);
        }
        for (int64_t r = row; r < row + count; ++r)
            finish(call, call.out[0] + r * s.outputs + first, last - first);
    }
}

#if GOSSAMER_WIDTH > 4
// `index` picks for each lane one of the 2 W values of two vectors.
inline V pick(V low, V high, const uint8_t* index) {
#if defined(__AVX512F__)
    const __m512i at =
        _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(index)));
    return (V)_mm512_permutex2var_ps((__m512)low, at, (__m512)high);
#else
    const __m256i at =
        _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(index)));
    const __m256 lower = _mm256_permutevar8x32_ps((__m256)low, at);
    const __m256 upper = _mm256_permutevar8x32_ps((__m256)high, at);
    return (V)_mm256_blendv_ps(lower, upper, _mm256_castsi256_ps(_mm256_slli_epi32(at, 28)));
#endif
}

// Linear layer on one example: the lanes are outputs, and nothing is gathered. Every step
// takes one weight for each of W outputs, all from the same two blocks of W inputs, which a
// permutation of two registers brings to their lanes (see packing.by_windows).
template <class Number>
void windows(const Call& call) {
    const auto& s = *reinterpret_cast<const ColumnsShape*>(call.shape);
    const auto* start = static_cast<const int32_t*>(call.data[0]);   // [groups + 1], even
    const auto* block = static_cast<const uint16_t*>(call.data[1]);  // [steps][2]
    const auto* index = static_cast<const uint8_t*>(call.data[2]);   // [steps][W]
    const auto* weights = static_cast<const Number*>(call.data[3]);  // [steps][W]
    const auto* bias = static_cast<const float*>(call.data[4]);      // padded to W
    const Clip clip(static_cast<const float*>(call.data[5]));
    const int64_t groups = (s.outputs + W - 1) / W;
    const int64_t first = share_work(groups, call.part, call.parts, work_of(start));
    const int64_t last = share_work(groups, call.part + 1, call.parts, work_of(start));
    for (int64_t row = 0; row < call.items * s.rows; ++row) {
        const float* x = call.in[0] + row * s.depth;
        float* out = call.out[0] + row * s.outputs;
        for (int64_t g = first; g < last; ++g) {
            V even = load(bias + g * W), odd{};
            const int64_t end = start[g + 1];
            for (int64_t e = start[g]; e < end; e += 2) {
                const uint16_t* from = block + 2 * e;
                even += load_weights(weights + e * W) *
                        pick(load(x + from[0] * W), load(x + from[1] * W), index + e * W);
                odd += load_weights(weights + (e + 1) * W) *
                       pick(load(x + from[2] * W), load(x + from[3] * W), index + (e + 1) * W);
            }
            store_first(out + g * W, clip(even + odd), s.outputs - g * W);
        }
        finish(call, out + first * W, least(last * W, s.outputs) - first * W);
    }
}
#endif

// The inputs of the blocks of a vector of outputs, each in the lanes of its block.
template <int Blocks>
inline V block_inputs(const float* x, const int32_t* input) {
    V v = splat(x[input[0]]);
    for (int b = 1; b < Blocks; ++b) v = lane_numbers() < b * (W / Blocks) ? v : splat(x[input[b]]);
    return v;
}

// Linear layer on one example, of blocks of W / Blocks outputs that need the same inputs: the
// lanes are outputs, and each block has a list of its inputs. A sum waits for itself at every
// step, so several vectors of outputs go side by side as far as the shortest list. Blocks are
// sorted by the length of their lists, so that those side by side are about as long.
template <int Blocks, int Together, class Number>
void block_lists(const Call& call) {
    const auto& s = *reinterpret_cast<const ColumnsShape*>(call.shape);
    const auto* start = static_cast<const int32_t*>(call.data[0]);   // [vectors + 1]
    const auto* input = static_cast<const int32_t*>(call.data[1]);   // [steps][Blocks]
    const auto* weights = static_cast<const Number*>(call.data[2]);  // [steps][W]
    const auto* place = static_cast<const int32_t*>(call.data[3]);   // [vectors][Blocks]: outputs
    const auto* bias = static_cast<const float*>(call.data[4]);      // [vectors][W]
    const Clip clip(static_cast<const float*>(call.data[5]));
    const int64_t vectors = (s.outputs + W - 1) / W;
    const int64_t first = share_work(vectors, call.part, call.parts, work_of(start));
    const int64_t last = share_work(vectors, call.part + 1, call.parts, work_of(start));
    for (int64_t row = 0; row < call.items * s.rows; ++row) {
        const float* x = call.in[0] + row * s.depth;
        float* out = call.out[0] + row * s.outputs;
        const auto add = [&](V& sum, int64_t e) {
            sum += load_weights(weights + e * W) * block_inputs<Blocks>(x, input + e * Blocks);
        };
        for (int64_t v = first; v < last; v += Together) {
            const int64_t there = least(Together, last - v);
            V sum[Together];
            int64_t common = there < Together ? 0 : start[v + 1] - start[v];
            for (int64_t i = 0; i < there; ++i) {
                sum[i] = load(bias + (v + i) * W);
                common = least(common, start[v + i + 1] - start[v + i]);
            }
            for (int64_t e = 0; e < common; ++e) {
#pragma GCC unroll 8
                for (int i = 0; i < Together; ++i) add(sum[i], start[v + i] + e);
            }
            for (int64_t i = 0; i < there; ++i) {
                const int64_t end = start[v + i + 1];
                for (int64_t e = start[v + i] + common; e < end; ++e) add(sum[i], e);
                constexpr int N = W / Blocks;
                typename Of<N>::V block[Blocks];
                sum[i] = clip(sum[i]);
                __builtin_memcpy(block, &sum[i], sizeof sum[i]);
                for (int b = 0; b < Blocks; ++b) {
                    const int64_t o = place[(v + i) * Blocks + b];
                    if (o >= s.outputs) continue;
                    store_first<N>(out + o, block[b], s.outputs - o);
                    finish(call, out + o, least(N, s.outputs - o));
                }
            }
        }
    }
}

// Convolution with few input channels: the lanes are output columns. Each input row is
// kept as `shifts` copies, copy i holding the columns i, i + step, i + 2 step, ... so that
// every load is aligned; a max-pool after the convolution
// (whose stride is then 1) is taken in registers.
template <int Rows, int Pool, int Together, class Number>
inline void lanes_sums(const float* const* at, const int32_t* offset, const Number* w,
                       int64_t begin, int64_t end, V (&sum)[Together][Rows * Pool][Pool]) {
#pragma GCC unroll 8
    for (int j = 0; j < Together; ++j) {
#pragma GCC unroll 8
        for (int r = 0; r < Rows * Pool; ++r) {
            for (int x = 0; x < Pool; ++x) sum[j][r][x] = V{};
        }
    }
    for (int64_t e = begin; e < end; ++e) {
        const int64_t o = offset[e];
        V weight[Together];
#pragma GCC unroll 8
        for (int j = 0; j < Together; ++j) weight[j] = splat(w[e * Together + j]);
#pragma GCC unroll 8
        for (int r = 0; r < Rows * Pool; ++r) {
#pragma GCC unroll 2
            for (int x = 0; x < Pool; ++x) {
                const V input = load(at[r] + o + x * W);
#pragma GCC unroll 8
                for (int j = 0; j < Together; ++j) sum[j][r][x] += weight[j] * input;
            }
        }
    }
}

template <int Rows, int Pool, int Together, class Number>
void lanes_rows(const LanesShape& s, const float* copies, int64_t x, int64_t row_pitch,
                const int32_t* start, const int32_t* order, const int32_t* offset,
                const Number* weights, const float* bias, const Clip& clip, int64_t y, float* out) {
    const float* at[Rows * Pool];
    for (int r = 0; r < Rows * Pool; ++r) {
        at[r] = copies + ((y + r / Pool) * s.row_step + r % Pool) * row_pitch + x * s.shifts;
    }
    for (int64_t i = 0; i < blocks_of(s.outputs, Together); ++i) {
        const int64_t o = static_cast<int64_t>(order[i]) * Together;
        V sum[Together][Rows * Pool][Pool];
        lanes_sums<Rows, Pool, Together>(at, offset, weights, start[i], start[i + 1], sum);
#pragma GCC unroll 8
        for (int j = 0; j < Together; ++j) {
            if (o + j >= s.outputs) break;
            const V b = splat(bias[o + j]);
#pragma GCC unroll 8
            for (int r = 0; r < Rows; ++r) {
                V best = sum[j][r * Pool][0];
                if constexpr (Pool == 2) {
                    best = larger(larger(sum[j][2 * r + 1][1], sum[j][2 * r + 1][0]),
                                  larger(sum[j][2 * r][1], best));
                }
                store_first(out + ((o + j) * s.height + y + r) * s.width + x, clip(best + b),
                            s.width - x);
            }
        }
    }
}

// The shifted copies of a row, one vector of each after the other.
inline void lanes_copies(const LanesShape& s, const float* from, int64_t tiles, float* to) {
    for (int64_t t = 0; t < tiles; ++t) {
        for (int64_t i = 0; i < s.shifts; ++i, to += W) {
            // Lanes past the last output read past the row: nobody reads them.
            const int64_t column = t * W * s.step + i;
            const int64_t there = least(W, s.width - t * W);
            if (s.step == 1) {
                store(to, load(from + column));
            } else if (s.step == 2) {
                store(to, every_second(load(from + column), load(from + column + W)));
            } else {
                for (int64_t l = 0; l < there; ++l) to[l] = from[column + l * s.step];
            }
        }
    }
}

// Outputs come in the order of their numbers of non-zeros: the end of each loop is then
// where the last one ended, and the processor foresees it.
template <int Pool, int Together, class Number>
void lanes(const Call& call) {
    const auto& s = *reinterpret_cast<const LanesShape*>(call.shape);
    const auto* start = static_cast<const int32_t*>(call.data[0]);
    const auto* offset = static_cast<const int32_t*>(call.data[1]);
    const auto* weights = static_cast<const Number*>(call.data[2]);
    const auto* bias = static_cast<const float*>(call.data[3]);
    const Clip clip(static_cast<const float*>(call.data[4]));
    const auto* order = static_cast<const int32_t*>(call.data[5]);
    const int64_t tiles = (s.width + W - 1) / W;
    const int64_t row_pitch = tiles * s.shifts * W;
    const int64_t first = share(s.height, call.part, call.parts);
    const int64_t last = share(s.height, call.part + 1, call.parts);
    if (first == last) return;
    // The rows of the image that those of the output need.
    const int64_t first_in = first * s.row_step;
    const int64_t rows_in = s.in_height - (s.height - last) * s.row_step - first_in;
    float* copies = call.scratch;
    for (int64_t item = 0; item < call.items; ++item) {
        const float* in = call.in[0] + item * call.in_size[0];
        float* out = call.out[0] + item * call.out_size[0];
        for (int64_t row = first_in; row < s.channels * s.in_height; row += s.in_height) {
            for (int64_t r = row; r < row + rows_in; ++r)
                lanes_copies(s, in + r * s.in_width, tiles, copies + r * row_pitch);
        }
        for (int64_t x = 0; x < s.width; x += W) {
            int64_t y = first;
            constexpr int most = Pool == 1 ? 8 : W == 16 ? 4 : 2;  // rows that registers hold
            constexpr int many = Together == 1 ? most : Pool == 1 ? 4 : 1;
            const auto rows = [&](auto n) {
                for (; y + n <= last; y += n) {
                    lanes_rows<n, Pool, Together>(s, copies, x, row_pitch, start, order, offset,
                                                  weights, bias, clip, y, out);
                }
            };
            rows(std::integral_constant<int, many>{});
            if constexpr (many > 2) rows(std::integral_constant<int, 2>{});
            if constexpr (many > 1) rows(std::integral_constant<int, 1>{});
        }
        for (int64_t o = 0; call.link_count && o < s.outputs; ++o)
            finish(call, out + (o * s.height + first) * s.width, (last - first) * s.width);
    }
}

}  // namespace
}  // namespace gossamer
