// The compiled module that training leans on: sparse layers bound to the kernels of one
// instruction set. Arrays of torch come as addresses, since their exchange as arrays costs
// more than a small layer's work; the Python side checks types, sizes and layouts.

#include "training.h"

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/array.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#if defined(__unix__) || defined(__APPLE__)
#include <dlfcn.h>
#endif

#include <algorithm>
#include <array>
#include <atomic>
#include <cstring>
#include <memory>
#include <numeric>
#include <stdexcept>
#include <string>
#include <tuple>
#include <vector>

#include "kernel.h"
#include "processor.h"
#include "threads.h"

namespace nb = nanobind;

namespace {

using gossamer::Training;
using gossamer::TrainingKernel;
using Pair = std::array<int64_t, 2>;  // of height and width
using Indices = nb::ndarray<const int32_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;

const std::vector<TrainingKernel>& kernels() {
    static const std::vector<TrainingKernel> all = [] {
        std::vector<TrainingKernel> rows;
        const auto add = [&rows](gossamer::TrainingTable table) {
            rows.insert(rows.end(), table.rows, table.rows + table.size);
        };
#define INSTRUCTION_SET(name, width, needs) \
    if (true needs) add(gossamer::name##_training());
#define EXTENSION(...)
#include "instruction_sets.inc"
        return rows;
    }();
    return all;
}

const TrainingKernel& kernel(const std::string& operation, const std::string& layout,
                             const std::string& isa) {
    for (const auto& k : kernels()) {
        if (operation == k.operation && layout == k.layout && isa == k.isa) return k;
    }
    throw std::invalid_argument("no kernel " + operation + " " + layout + " " + isa);
}

// torch's own threads where it brought GNU OpenMP: they wait by spinning, and a second pool
// would fight them for the cores. Elsewhere the runtime's pool.
using Parallel = void (*)(void (*)(void*), void*, unsigned, unsigned);

Parallel openmp() {
#if defined(__unix__) || defined(__APPLE__)
    static const auto function = reinterpret_cast<Parallel>(dlsym(RTLD_DEFAULT, "GOMP_parallel"));
    return function;
#else
    return nullptr;
#endif
}

void run(gossamer::TrainingFunction function, const Training& training, int threads) {
    if (threads <= 1) {
        function(training, 0, 1);
        return;
    }
    struct Job {
        gossamer::TrainingFunction function;
        const Training& training;
        int shares;
        std::atomic<int> next{0};
    } job{function, training, threads};
    // Shares are taken, not given: all are done however many threads come.
    const auto work = [](void* context) {
        auto& job = *static_cast<Job*>(context);
        for (int share; (share = job.next.fetch_add(1)) < job.shares;) {
            job.function(job.training, share, job.shares);
        }
    };
    if (const auto parallel = openmp()) {
        parallel(work, &job, static_cast<unsigned>(threads), 0);
        return;
    }
    static thread_local std::shared_ptr<gossamer::Pool> pool;
    static thread_local int pooled = 0;
    if (pooled != threads) {
        pool = gossamer::Pool::of(threads);
        pooled = threads;
    }
    pool->run(
        [](void* context, int share, int shares) {
            auto& job = *static_cast<Job*>(context);
            job.function(job.training, share, shares);
        },
        &job);
}

template <class T>
T* at(uintptr_t address) {
    return reinterpret_cast<T*>(address);
}

// A layer [outputs, channels, kernel height, kernel width] with some of its weights.
class SparseLayer {
public:
    SparseLayer(int64_t outputs, int64_t channels, Pair kernel_size, Pair stride, Pair padding,
                Pair dilation, int64_t block, const Indices& start, const Indices& column,
                const std::string& isa)
        : outputs_(outputs),
          channels_(channels),
          kernel_(kernel_size),
          stride_(stride),
          padding_(padding),
          dilation_(dilation),
          block_(block),
          start_(start.data(), start.data() + start.size()),
          column_(column.data(), column.data() + column.size()) {
        check();
        const std::string layout = block_ == 1 ? "unstructured" : "block";
        pack_ = ::kernel("pack", "any", isa);
        apply_ = ::kernel("apply", layout, isa);
        back_ = ::kernel("apply", "unstructured", isa);
        gradient_ = ::kernel("gradient", layout, isa);
        transpose();
        const std::string by_block =
            block_ == 1 ? "unstructured" : "block" + std::to_string(block_);
        list_ = ::kernel("list", "any", isa);
        spread_ = ::kernel("spread", "any", isa);
        columns_ = ::kernel("columns", by_block, isa);
        active_forward_ = ::kernel("active_forward", by_block, isa);
        active_input_ = ::kernel("active_input", by_block, isa);
        active_gradient_ = ::kernel("active_gradient", by_block, isa);
        by_input();
    }

    Pair output_size(Pair size) const {
        Pair out;
        for (int i = 0; i < 2; ++i) {
            out[i] =
                (size[i] + 2 * padding_[i] - dilation_[i] * (kernel_[i] - 1) - 1) / stride_[i] + 1;
        }
        return out;
    }

    // Floats of the packed inputs and of the packed gradients of the outputs.
    Pair packed(int64_t examples, Pair size) const {
        const Planes p = planes(size);
        const int64_t lanes = vectors(examples, size) * pack_.width;
        const int64_t padded = (examples + lanes - 1) / lanes * lanes;
        return {padded * channels_ * p.in[0] * p.in[1],
                padded * outputs_ * p.gradient[0] * p.gradient[1]};
    }

    void forward(int64_t examples, Pair size, uintptr_t input, uintptr_t values, uintptr_t bias,
                 uintptr_t packed_input, uintptr_t output, int threads) {
        const Planes p = planes(size);
        const auto offsets = entry_offsets(size, p);
        nb::gil_scoped_release release;
        Training t = packing(examples, size, channels_, size, p.in, padding_, {1, 1});
        t.in = at<const float>(input);
        t.out = at<float>(packed_input);
        run(pack_.run, t, threads);

        t = packed_planes(examples, size, channels_, p.in, p.out, stride_);
        entries(t, start_, offsets->forward, block_);
        t.values = at<const float>(values);
        t.bias = at<const float>(bias);
        t.in = at<const float>(packed_input);
        t.out = at<float>(output);
        run(apply_.run, t, threads);
    }

    // Addresses of gradients that nobody asked for are 0.
    void backward(int64_t examples, Pair size, uintptr_t output_gradient, uintptr_t values,
                  uintptr_t packed_input, uintptr_t packed_gradient, uintptr_t input_gradient,
                  uintptr_t values_gradient, uintptr_t bias_gradient, int threads) {
        const Planes p = planes(size);
        const auto offsets = entry_offsets(size, p);
        nb::gil_scoped_release release;
        Training t = packing(examples, size, outputs_, p.out, p.gradient, p.margin, stride_);
        t.in = at<const float>(output_gradient);
        t.out = at<float>(packed_gradient);
        run(pack_.run, t, threads);

        if (input_gradient) {
            t = packed_planes(examples, size, outputs_, p.gradient, size, {1, 1});
            entries(t, back_start_, offsets->back, 1);
            t.index = back_index_.data();
            t.values = at<const float>(values);
            t.in = at<const float>(packed_gradient);
            t.out = at<float>(input_gradient);
            run(back_.run, t, threads);
        }
        if (values_gradient || bias_gradient) {
            t = packed_planes(examples, size, channels_, p.in, p.out, stride_);
            entries(t, start_, offsets->forward, block_);
            t.in = at<const float>(packed_input);
            t.gradient = at<const float>(packed_gradient);
            t.gradient_height = p.gradient[0];
            t.gradient_width = p.gradient[1];
            t.gradient_top = p.margin[0];
            t.gradient_left = p.margin[1];
            t.gradient_step_y = stride_[0];
            t.gradient_step_x = stride_[1];
            t.values_gradient = at<float>(values_gradient);
            t.bias_gradient = at<float>(bias_gradient);
            run(gradient_.run, t, threads);
        }
    }

    // The same for examples that are lists of their active inputs. Floats of the lists, of the
    // weights by input behind them, and of the spread gradients of the outputs.
    std::array<int64_t, 3> active(int64_t examples, Pair size) const {
        const int64_t positions = size[0] * size[1], arrays = linear(size) ? 2 : 3;
        const Pair plane = spread_planes(size).plane;
        const int64_t spread = plane[0] * plane[1] * outputs_;
        return {examples * (gossamer::list_header + arrays * channels_ * positions),
                static_cast<int64_t>(column_.size()) * block_,
                spread > outputs_ ? examples * spread : 0};
    }

    void active_forward(int64_t examples, Pair size, uintptr_t input, uintptr_t values,
                        uintptr_t bias, uintptr_t lists, uintptr_t output, int threads) {
        const auto offsets = spread_offsets(size);
        Training t = activity(examples, size, *offsets, lists);
        nb::gil_scoped_release release;
        t.in = at<const float>(input);
        run(list_.run, t, threads);
        t.values = at<const float>(values);
        t.out = at<float>(lists) + active(examples, size)[0];
        run(columns_.run, t, threads);
        t.values = t.out;
        t.bias = at<const float>(bias);
        t.out = at<float>(output);
        run(active_forward_.run, t, threads);
    }

    // The input's gradient only where the input is active. 0 as in `backward`.
    void active_backward(int64_t examples, Pair size, uintptr_t output_gradient, uintptr_t lists,
                         uintptr_t spread_gradient, uintptr_t input_gradient,
                         uintptr_t values_gradient, uintptr_t bias_gradient, int threads) {
        const auto offsets = spread_offsets(size);
        Training t = activity(examples, size, *offsets, lists);
        const auto floats = active(examples, size);
        nb::gil_scoped_release release;
        t.gradient = at<const float>(output_gradient);
        if (floats[2]) {
            t.in = t.gradient;
            t.out = at<float>(spread_gradient);
            run(spread_.run, t, threads);
            t.gradient = t.out;
        }
        t.values = at<const float>(lists) + floats[0];
        if (input_gradient) {
            t.out = at<float>(input_gradient);
            run(active_input_.run, t, threads);
        }
        if (values_gradient || bias_gradient) {
            t.values_gradient = at<float>(values_gradient);
            t.bias_gradient = at<float>(bias_gradient);
            run(active_gradient_.run, t, threads);
        }
    }

private:
    // Heights and widths: packed inputs, outputs, packed gradients and their margin.
    struct Planes {
        Pair in, out, gradient, margin;
    };

    struct Offsets {
        Pair size;
        std::vector<int32_t> forward, back;
    };

    // Planes of the outputs that active inputs meet, and where the first output lies.
    struct SpreadPlanes {
        Pair out, plane, margin;
    };

    struct SpreadOffsets {
        Pair size;
        SpreadPlanes planes;
        std::vector<int32_t> base, first_tap, last_tap;  // by position
        std::vector<int32_t> offset;                     // by entry
    };

    void check() const {
        const int64_t columns = channels_ * kernel_[0] * kernel_[1];
        if (outputs_ < 1 || channels_ < 1 || columns < 1 || stride_[0] < 1 || stride_[1] < 1 ||
            dilation_[0] < 1 || dilation_[1] < 1 || padding_[0] < 0 || padding_[1] < 0) {
            throw std::invalid_argument("a sparse layer's sizes must be positive");
        }
        if ((block_ != 1 && block_ != 8 && block_ != 16) || outputs_ % block_ != 0) {
            throw std::invalid_argument(
                "blocks must have 1, 8 or 16 outputs and divide all of them");
        }
        if (static_cast<int64_t>(start_.size()) != outputs_ / block_ + 1 || start_.front() != 0 ||
            start_.back() != static_cast<int64_t>(column_.size()) ||
            !std::is_sorted(start_.begin(), start_.end())) {
            throw std::invalid_argument("rows of entries must start at rising positions");
        }
        for (const int32_t column : column_) {
            if (column < 0 || column >= columns)
                throw std::invalid_argument("an entry lies outside the weight");
        }
    }

    // The same weights by input channel, for the gradient of the input.
    void transpose() {
        const int64_t taps = kernel_[0] * kernel_[1];
        if (static_cast<int64_t>(column_.size()) * block_ > INT32_MAX)
            throw std::invalid_argument("too many weights");
        std::vector<int32_t> next(static_cast<size_t>(channels_) + 1, 0);
        for (const int32_t column : column_)
            next[static_cast<size_t>(column / taps + 1)] += static_cast<int32_t>(block_);
        for (size_t c = 0; c < static_cast<size_t>(channels_); ++c) next[c + 1] += next[c];
        back_start_ = next;
        back_index_.resize(column_.size() * static_cast<size_t>(block_));
        back_output_.resize(back_index_.size());
        back_tap_.resize(back_index_.size());
        for (size_t row = 0; row + 1 < start_.size(); ++row) {
            for (int32_t e = start_[row]; e < start_[row + 1]; ++e) {
                const int64_t column = column_[static_cast<size_t>(e)];
                for (int64_t r = 0; r < block_; ++r) {
                    const auto to = static_cast<size_t>(next[static_cast<size_t>(column / taps)]++);
                    back_index_[to] = static_cast<int32_t>(e * block_ + r);
                    back_output_[to] = static_cast<int32_t>(static_cast<int64_t>(row) * block_ + r);
                    back_tap_[to] = static_cast<int32_t>(column % taps);
                }
            }
        }
    }

    // The entries by input channel, channels with few entries first, and by row of taps.
    void by_input() {
        const auto channels = static_cast<size_t>(channels_),
                   tap_rows = static_cast<size_t>(kernel_[0]);
        // Rows of taps of all channels, one channel after the other.
        const auto row_of = [&](int32_t column) {
            return static_cast<size_t>(column / kernel_[1]);
        };
        std::vector<int32_t> of_row(channels * tap_rows, 0), entries(channels, 0);
        for (const int32_t column : column_) {
            ++of_row[row_of(column)];
            ++entries[row_of(column) / tap_rows];
        }
        channel_.resize(channels);
        std::iota(channel_.begin(), channel_.end(), 0);
        const auto of = [&](int32_t channel) { return entries[static_cast<size_t>(channel)]; };
        std::stable_sort(channel_.begin(), channel_.end(),
                         [&](int32_t a, int32_t b) { return of(a) < of(b); });
        rank_.resize(channels);
        bucket_.resize(channels);
        column_start_.assign(channels + 1, 0);
        taps_.assign(channels * tap_rows + 1, 0);
        for (size_t r = 0; r < channels; ++r) {
            const auto channel = static_cast<size_t>(channel_[r]);
            if (r == 0 || entries[channel] != of(channel_[r - 1])) ++buckets_;
            rank_[channel] = static_cast<int32_t>(r);
            bucket_[channel] = static_cast<int32_t>(buckets_ - 1);
            column_start_[r + 1] = column_start_[r] + entries[channel];
            for (size_t y = 0; y < tap_rows; ++y) {
                taps_[r * tap_rows + y + 1] =
                    taps_[r * tap_rows + y] + of_row[channel * tap_rows + y];
            }
        }
        std::vector<int32_t> next = taps_;
        column_entry_.resize(column_.size());
        column_output_.resize(column_.size());
        for (size_t row = 0; row + 1 < start_.size(); ++row) {
            for (int32_t e = start_[row]; e < start_[row + 1]; ++e) {
                const size_t of_tap = row_of(column_[static_cast<size_t>(e)]);
                const auto rank = static_cast<size_t>(rank_[of_tap / tap_rows]);
                const auto to = static_cast<size_t>(next[rank * tap_rows + of_tap % tap_rows]++);
                column_entry_[to] = e;
                column_output_[to] = static_cast<int32_t>(static_cast<int64_t>(row) * block_);
            }
        }
    }

    Training activity(int64_t examples, Pair size, const SpreadOffsets& offsets,
                      uintptr_t lists) const {
        const SpreadPlanes& p = offsets.planes;
        Training t = packing(examples, size, channels_, p.out, p.plane, p.margin, stride_);
        t.rows = channels_;
        t.outputs = outputs_;
        t.positions = size[0] * size[1];
        t.base = linear(size) ? nullptr : offsets.base.data();
        t.first_tap = offsets.first_tap.data();
        t.last_tap = offsets.last_tap.data();
        t.taps = taps_.data();
        t.tap_rows = kernel_[0];
        t.lists = at<float>(lists);
        t.buckets = buckets_;
        t.bucket = bucket_.data();
        t.rank = rank_.data();
        t.channel = channel_.data();
        t.start = column_start_.data();
        t.index = column_entry_.data();
        t.offset = offsets.offset.data();
        return t;
    }

    bool linear(Pair size) const {
        const Pair one{1, 1};
        return kernel_ == one && size == one && padding_ == Pair{0, 0};
    }

    SpreadPlanes spread_planes(Pair size) const {
        SpreadPlanes p;
        p.out = planes(size).out;
        const int64_t reach = (kernel_[1] - 1) * dilation_[1];
        p.margin = {0, std::max<int64_t>(0, reach - padding_[1])};
        p.plane = {(p.out[0] - 1) * stride_[0] + 1,
                   p.margin[1] + std::max(size[1] + padding_[1], (p.out[1] - 1) * stride_[1] + 1)};
        if (outputs_ * (p.plane[0] + size[0] + padding_[0]) * p.plane[1] > INT32_MAX) {
            throw std::invalid_argument("one example's activations are too many");
        }
        return p;
    }

    std::shared_ptr<const SpreadOffsets> spread_offsets(Pair size) {
        // As entry_offsets.
        if (spread_offsets_ && spread_offsets_->size == size) return spread_offsets_;
        auto result = std::make_shared<SpreadOffsets>();
        result->size = size;
        const SpreadPlanes p = result->planes = spread_planes(size);
        // The first tap meets the last of an input's outputs: rows and columns count back from it.
        const auto within = [&](int64_t y, int64_t x) { return (y * p.plane[1] + x) * outputs_; };
        for (int64_t y = 0; y < size[0]; ++y) {
            int64_t first = 0, last = kernel_[0];
            while (first < last && y + padding_[0] - first * dilation_[0] >= p.plane[0]) ++first;
            while (first < last && y + padding_[0] - (last - 1) * dilation_[0] < 0) --last;
            for (int64_t x = 0; x < size[1]; ++x) {
                result->base.push_back(
                    static_cast<int32_t>(within(y + padding_[0], x + padding_[1] + p.margin[1])));
                result->first_tap.push_back(static_cast<int32_t>(first));
                result->last_tap.push_back(static_cast<int32_t>(last));
            }
        }
        const int64_t taps = kernel_[0] * kernel_[1];
        for (size_t to = 0; to < column_entry_.size(); ++to) {
            const int64_t tap = column_[static_cast<size_t>(column_entry_[to])] % taps;
            const int64_t back =
                within(tap / kernel_[1] * dilation_[0], tap % kernel_[1] * dilation_[1]);
            result->offset.push_back(static_cast<int32_t>(column_output_[to] - back));
        }
        spread_offsets_ = result;
        return result;
    }

    Planes planes(Pair size) const {
        Planes p;
        p.out = output_size(size);
        for (int i = 0; i < 2; ++i) {
            if (size[i] < 1 || p.out[i] < 1)
                throw std::invalid_argument("the input is smaller than the kernel");
            p.in[i] = size[i] + 2 * padding_[i];
            p.margin[i] = std::max<int64_t>(0, (kernel_[i] - 1) * dilation_[i] - padding_[i]);
            p.gradient[i] =
                p.margin[i] + std::max(size[i] + padding_[i], (p.out[i] - 1) * stride_[i] + 1);
        }
        if (std::max(channels_ * p.in[0] * p.in[1], outputs_ * p.gradient[0] * p.gradient[1]) >
            INT32_MAX) {
            throw std::invalid_argument("one example's activations are too many");
        }
        return p;
    }

    std::shared_ptr<const Offsets> entry_offsets(Pair size, const Planes& p) {
        // Called with the GIL held; another thread keeps what it uses.
        if (offsets_ && offsets_->size == size) return offsets_;
        auto result = std::make_shared<Offsets>();
        result->size = size;
        const int64_t taps = kernel_[0] * kernel_[1];
        for (const int32_t column : column_) {
            const int64_t tap = column % taps;
            result->forward.push_back(static_cast<int32_t>(
                (column / taps * p.in[0] + tap / kernel_[1] * dilation_[0]) * p.in[1] +
                tap % kernel_[1] * dilation_[1]));
        }
        for (size_t e = 0; e < back_output_.size(); ++e) {
            const int64_t tap = back_tap_[e];
            const int64_t y = p.margin[0] + padding_[0] - tap / kernel_[1] * dilation_[0];
            const int64_t x = p.margin[1] + padding_[1] - tap % kernel_[1] * dilation_[1];
            result->back.push_back(
                static_cast<int32_t>((back_output_[e] * p.gradient[0] + y) * p.gradient[1] + x));
        }
        offsets_ = result;
        return result;
    }

    // Vectors of a tile: one where positions are many; else as many as use the registers
    // while the packed activations of a tile stay in the second cache.
    int64_t vectors(int64_t examples, Pair size) const {
        const Pair out = output_size(size);
        if (size[0] * size[1] > 1 || out[0] * out[1] > 1) return 1;
        const int64_t bytes =
            std::max(channels_, outputs_) * pack_.width * static_cast<int64_t>(sizeof(float));
        const int64_t most =
            std::clamp<int64_t>((int64_t{1} << 19) / bytes, 2, gossamer::most_vectors);
        const int64_t all = std::max<int64_t>(1, (examples + pack_.width - 1) / pack_.width);
        const int64_t tiles = (all + most - 1) / most;
        return (all + tiles - 1) / tiles;
    }

    Training packed_planes(int64_t examples, Pair size, int64_t channels, Pair plane, Pair unpacked,
                           Pair step) const {
        Training t{};
        t.examples = examples;
        t.vectors = vectors(examples, size);
        t.channels = channels;
        t.plane_height = plane[0];
        t.plane_width = plane[1];
        t.height = unpacked[0];
        t.width = unpacked[1];
        t.step_y = step[0];
        t.step_x = step[1];
        return t;
    }

    Training packing(int64_t examples, Pair size, int64_t channels, Pair unpacked, Pair plane,
                     Pair margin, Pair step) const {
        Training t = packed_planes(examples, size, channels, plane, unpacked, step);
        t.top = margin[0];
        t.left = margin[1];
        return t;
    }

    static void entries(Training& t, const std::vector<int32_t>& start,
                        const std::vector<int32_t>& offset, int64_t block) {
        t.rows = static_cast<int64_t>(start.size()) - 1;
        t.block = block;
        t.start = start.data();
        t.offset = offset.data();
    }

    int64_t outputs_, channels_;
    Pair kernel_, stride_, padding_, dilation_;
    int64_t block_;
    std::vector<int32_t> start_, column_;
    std::vector<int32_t> back_start_, back_index_, back_output_, back_tap_;
    std::shared_ptr<const Offsets> offsets_;
    TrainingKernel pack_, apply_, back_, gradient_;
    std::vector<int32_t> channel_, rank_, bucket_, column_start_, taps_, column_entry_,
        column_output_;
    int64_t buckets_ = 0;
    std::shared_ptr<const SpreadOffsets> spread_offsets_;
    TrainingKernel list_, spread_, columns_, active_forward_, active_input_, active_gradient_;
};

// The k largest of each row's n boosted values, 0 < k < n: see nn/winners.py.
void pick_winners(int64_t rows, int64_t n, int64_t k, Pair order, uintptr_t input, uintptr_t boost,
                  uintptr_t output, uintptr_t mask, uintptr_t counts, int threads,
                  const std::string& isa) {
    if (rows < 0 || k < 1 || k >= n || n > INT32_MAX || order[0] * order[1] != n) {
        throw std::invalid_argument("of n values, at least one and not all must win");
    }
    Training t{};
    t.examples = rows;
    t.channels = n;
    t.winners = k;
    t.inner = order[0];
    t.outer = order[1];
    t.in = at<const float>(input);
    t.values = at<const float>(boost);
    t.out = at<float>(output);
    t.mask = at<uint8_t>(mask);
    t.counts = at<float>(counts);
    const auto& row = kernel("winners", "any", isa);
    nb::gil_scoped_release release;
    run(row.run, t, threads);
}

// Zeros `count` floats where their byte of the mask is 0.
void zero_masked(int64_t count, uintptr_t weights, uintptr_t mask, int threads,
                 const std::string& isa) {
    Training t{};
    t.examples = count;
    t.out = at<float>(weights);
    t.mask = at<uint8_t>(mask);
    const auto& row = kernel("mask", "any", isa);
    nb::gil_scoped_release release;
    run(row.run, t, threads);
}

}  // namespace

NB_MODULE(_training, m) {
    m.def("training_kernels", [] {
        std::vector<std::tuple<std::string, std::string, std::string, int>> result;
        for (const auto& k : kernels()) result.emplace_back(k.operation, k.layout, k.isa, k.width);
        return result;
    });
    nb::class_<SparseLayer>(m, "SparseLayer")
        .def(nb::init<int64_t, int64_t, Pair, Pair, Pair, Pair, int64_t, const Indices&,
                      const Indices&, const std::string&>(),
             nb::arg("outputs"), nb::arg("channels"), nb::arg("kernel"), nb::arg("stride"),
             nb::arg("padding"), nb::arg("dilation"), nb::arg("block"), nb::arg("start"),
             nb::arg("column"), nb::arg("isa"))
        .def("output_size", &SparseLayer::output_size, nb::arg("size"))
        .def("packed", &SparseLayer::packed, nb::arg("examples"), nb::arg("size"))
        .def("forward", &SparseLayer::forward, nb::arg("examples"), nb::arg("size"),
             nb::arg("input"), nb::arg("values"), nb::arg("bias"), nb::arg("packed_input"),
             nb::arg("output"), nb::arg("threads"))
        .def("backward", &SparseLayer::backward, nb::arg("examples"), nb::arg("size"),
             nb::arg("output_gradient"), nb::arg("values"), nb::arg("packed_input"),
             nb::arg("packed_gradient"), nb::arg("input_gradient"), nb::arg("values_gradient"),
             nb::arg("bias_gradient"), nb::arg("threads"))
        .def("active", &SparseLayer::active, nb::arg("examples"), nb::arg("size"))
        .def("active_forward", &SparseLayer::active_forward, nb::arg("examples"), nb::arg("size"),
             nb::arg("input"), nb::arg("values"), nb::arg("bias"), nb::arg("lists"),
             nb::arg("output"), nb::arg("threads"))
        .def("active_backward", &SparseLayer::active_backward, nb::arg("examples"), nb::arg("size"),
             nb::arg("output_gradient"), nb::arg("lists"), nb::arg("spread_gradient"),
             nb::arg("input_gradient"), nb::arg("values_gradient"), nb::arg("bias_gradient"),
             nb::arg("threads"));
    m.def("pick_winners", &pick_winners, nb::arg("rows"), nb::arg("n"), nb::arg("k"),
          nb::arg("order"), nb::arg("input"), nb::arg("boost"), nb::arg("output"), nb::arg("mask"),
          nb::arg("counts"), nb::arg("threads"), nb::arg("isa"));
    m.def("zero_masked", &zero_masked, nb::arg("count"), nb::arg("weights"), nb::arg("mask"),
          nb::arg("threads"), nb::arg("isa"));
}
