// A network as a list of kernel calls over slots of one arena.

#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "kernel.h"
#include "threads.h"

namespace gossamer {

// All kernels of this machine's instruction sets, narrowest set first.
const std::vector<Kernel>& kernels();

// 64-byte aligned memory, zeroed, with room after the end for a vector's over-read.
class Buffer {
public:
    Buffer() = default;
    explicit Buffer(size_t bytes);
    float* floats() { return reinterpret_cast<float*>(aligned_); }
    const void* data() const { return aligned_; }

private:
    std::unique_ptr<std::byte[]> owned_;
    std::byte* aligned_ = nullptr;
};

class Program {
public:
    // `chunk`: how many examples go through the whole list together.
    Program(int threads, int64_t chunk);

    // A tensor of `floats` floats per example that starts `position` floats into the
    // arena (times the chunk). Slots that are never alive together may overlap.
    int slot(int64_t floats, int64_t position);

    // `items`: how many items (rows of the first dimension) one example has. `data` belongs to the
    // caller and outlives the program: aligned as a Buffer is, with as much room after the end.
    // Behind the integers and arrays that the kernel takes are those of the links of its epilogue,
    // one array for each.
    void add(int kernel, std::vector<int> inputs, std::vector<int> outputs,
             std::vector<int64_t> shape, std::vector<const void*> data, int64_t scratch,
             int64_t items);

    void finish(std::vector<int> inputs, std::vector<int> outputs);

    // Leaves these steps, and no others, to one thread, where threads would share them.
    void single_threaded(const std::vector<int>& steps);

    // Does a kernel leave out zeros, or round to whole numbers? Then inputs must be finite: zero
    // times infinity is NaN.
    bool finite_only() const;

    // Runs `examples`. `nanoseconds`, when given, gets the time spent in each call: of the
    // clock on the wall, or of the processor, which a busy machine does not disturb.
    void run(const float* const* in, float* const* out, int64_t examples, int64_t* nanoseconds,
             bool processor_time);

    int64_t slot_floats(int slot) const { return slots_.at(static_cast<size_t>(slot)).floats; }
    const std::vector<int>& inputs() const { return inputs_; }
    const std::vector<int>& outputs() const { return outputs_; }
    size_t size() const { return steps_.size(); }

private:
    struct Slot {
        int64_t floats, position;
        int input = -1;   // the input that it is, where that is read where it lies
        int output = -1;  // the output that it is, where that is written where it lies
    };
    struct Step {
        const Kernel* kernel;
        std::vector<int> inputs, outputs;
        std::vector<int64_t> shape;
        std::vector<Link> links;
        std::vector<const void*> data;
        int64_t items;
        bool single_threaded = false;
    };
    struct Job;
    struct Pass;
    struct Member;

    bool exact(int slot) const;
    static const void* const* link_data(const Step& step);
    void reserve(int arenas, int64_t examples);
    float* at(const Pass& pass, int slot) const;
    bool all_single_threaded() const;
    void compute(const Pass& pass, size_t step, int part, int parts) const;
    void bring_inputs(const Pass& pass) const;
    void bring_outputs(const Pass& pass) const;
    void alone(const Pass& pass) const;
    void together(const Pass& pass, Member& member);
    static void work(void* job, int thread, int threads);

    const int threads_;
    const int64_t chunk_;
    std::shared_ptr<Pool> pool_;
    Stages stages_;
    ForkMutex running_;
    std::vector<Slot> slots_;
    std::vector<Step> steps_;
    std::vector<int> inputs_, outputs_;
    int64_t arena_floats_ = 0, scratch_floats_ = 0;
    int64_t reserved_ = 0;
    std::vector<Buffer> arenas_, scratches_;
};

}  // namespace gossamer
