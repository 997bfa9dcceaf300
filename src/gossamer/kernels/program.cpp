#include "program.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <ctime>
#include <numeric>
#include <stdexcept>
#include <string>

#include "denormals.h"
#include "processor.h"

namespace gossamer {

const std::vector<Kernel>& kernels() {
    static const std::vector<Kernel> all = [] {
        std::vector<Kernel> rows;
        const auto add = [&rows](Table table) {
            rows.insert(rows.end(), table.rows, table.rows + table.size);
        };
#define INSTRUCTION_SET(name, width, needs) \
    if (true needs) add(name##_table());
#define EXTENSION(name, width, needs) INSTRUCTION_SET(name, width, needs)
#include "instruction_sets.inc"
        return rows;
    }();
    return all;
}

namespace {

int64_t now(bool processor_time) {
#if defined(CLOCK_THREAD_CPUTIME_ID)
    if (processor_time) {
        timespec time{};
        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
        return time.tv_sec * 1'000'000'000 + time.tv_nsec;
    }
#endif
    (void)processor_time;
    const auto time = std::chrono::steady_clock::now().time_since_epoch();
    return std::chrono::duration_cast<std::chrono::nanoseconds>(time).count();
}

}  // namespace

Buffer::Buffer(size_t bytes) : owned_(new std::byte[bytes + slack + alignment]()) {
    auto address = reinterpret_cast<uintptr_t>(owned_.get());
    address = (address + alignment - 1) / alignment * alignment;
    aligned_ = reinterpret_cast<std::byte*>(address);
}

Program::Program(int threads, int64_t chunk)
    : threads_(threads), chunk_(chunk), pool_(Pool::of(threads)), stages_(threads) {}

int Program::slot(int64_t floats, int64_t position) {
    slots_.push_back({floats, position, -1});
    arena_floats_ = std::max(arena_floats_, position + floats);
    return static_cast<int>(slots_.size()) - 1;
}

void Program::add(int kernel, std::vector<int> inputs, std::vector<int> outputs,
                  std::vector<int64_t> shape, std::vector<const void*> data, int64_t scratch,
                  int64_t items) {
    const Kernel& row = kernels().at(static_cast<size_t>(kernel));
    const auto known = [this](int slot) {
        return slot >= -1 && slot < static_cast<int>(slots_.size());
    };
    const auto aligned = [](const void* at) {
        return reinterpret_cast<uintptr_t>(at) % alignment == 0;
    };
    constexpr size_t link_size = sizeof(Link) / sizeof(int64_t);
    const auto own = static_cast<size_t>(row.data);
    const size_t links = data.size() < own ? 0 : data.size() - own;
    if (data.size() != own + links || (links && !row.epilogue) ||
        shape.size() != static_cast<size_t>(row.shape) + links * link_size ||
        inputs.size() > most_inputs || items < 1 ||
        !std::all_of(data.begin(), data.end(), aligned) ||
        !std::all_of(inputs.begin(), inputs.end(), known) ||
        !std::all_of(outputs.begin(), outputs.end(), known)) {
        throw std::invalid_argument(std::string("wrong arguments for kernel ") + row.operation);
    }
    std::vector<Link> epilogue(links);
    for (size_t i = 0; i < links; ++i) {
        const int64_t* from = shape.data() + static_cast<size_t>(row.shape) + i * link_size;
        std::memcpy(&epilogue[i], from, sizeof(Link));
    }
    scratch_floats_ = std::max(scratch_floats_, scratch);
    steps_.push_back({&row, std::move(inputs), std::move(outputs), std::move(shape),
                      std::move(epilogue), std::move(data), items, false});
}

void Program::finish(std::vector<int> inputs, std::vector<int> outputs) {
    inputs_ = std::move(inputs);
    outputs_ = std::move(outputs);
    for (const int slot : inputs_) (void)slot_floats(slot);
    for (const int slot : outputs_) (void)slot_floats(slot);
    for (size_t i = 0; i < inputs_.size(); ++i) {
        if (exact(inputs_[i])) slots_[static_cast<size_t>(inputs_[i])].input = static_cast<int>(i);
    }
    for (size_t i = 0; i < outputs_.size(); ++i) {
        Slot& slot = slots_[static_cast<size_t>(outputs_[i])];
        if (slot.input < 0 && slot.output < 0 && exact(outputs_[i]))
            slot.output = static_cast<int>(i);
    }
}

void Program::single_threaded(const std::vector<int>& steps) {
    const std::lock_guard lock(running_);
    for (Step& step : steps_) step.single_threaded = false;
    for (const int step : steps) steps_.at(static_cast<size_t>(step)).single_threaded = true;
}

bool Program::finite_only() const {
    return !std::all_of(steps_.begin(), steps_.end(),
                        [](const Step& step) { return step.kernel->promises & any_number; });
}

// Do all kernels that read or write a slot keep within it? Most read whole vectors past its end,
// so that an input must be copied to where there is room, and an output from there.
bool Program::exact(int slot) const {
    const auto uses = [slot](const std::vector<int>& slots) {
        return std::find(slots.begin(), slots.end(), slot) != slots.end();
    };
    return std::all_of(steps_.begin(), steps_.end(), [&](const Step& step) {
        return (!uses(step.inputs) && !uses(step.outputs)) ||
               (step.kernel->promises & within) == within;
    });
}

// Numbers of the epilogue lie behind those of the kernel.
const void* const* Program::link_data(const Step& step) {
    return step.data.data() + step.kernel->data;
}

struct Program::Job {
    Program* program;
    const float* const* in;
    float* const* out;
    int64_t examples;
    int64_t* nanoseconds;
    bool processor_time;
};

// One chunk of examples on its way through the steps.
struct Program::Pass {
    const Job& job;
    float *arena, *scratch;
    int64_t first, examples;
    int64_t* nanoseconds;  // of each step, or none
};

// A thread among those that share the steps.
struct Program::Member {
    int thread, threads;
    int64_t stage = 0;
    int looks = Stages::patience;
};

float* Program::at(const Pass& pass, int slot) const {
    if (slot < 0) return nullptr;
    const Slot& at = slots_[static_cast<size_t>(slot)];
    // Nothing writes to an input.
    if (at.input >= 0) return const_cast<float*>(pass.job.in[at.input]) + pass.first * at.floats;
    if (at.output >= 0) return pass.job.out[at.output] + pass.first * at.floats;
    return pass.arena + at.position * pass.examples;
}

void Program::reserve(int arenas, int64_t examples) {
    if (examples > reserved_) {
        arenas_.clear();
        reserved_ = examples;
    }
    while (static_cast<int>(arenas_.size()) < arenas) {
        arenas_.emplace_back(static_cast<size_t>(arena_floats_ * reserved_) * sizeof(float));
    }
    while (static_cast<int>(scratches_.size()) < threads_) {
        scratches_.emplace_back(static_cast<size_t>(scratch_floats_) * sizeof(float));
    }
}

void Program::bring_inputs(const Pass& pass) const {
    for (size_t i = 0; i < inputs_.size(); ++i) {
        if (slots_[static_cast<size_t>(inputs_[i])].input >= 0) continue;
        const int64_t floats = slot_floats(inputs_[i]);
        std::memcpy(at(pass, inputs_[i]), pass.job.in[i] + pass.first * floats,
                    static_cast<size_t>(floats * pass.examples) * sizeof(float));
    }
}

void Program::bring_outputs(const Pass& pass) const {
    for (size_t i = 0; i < outputs_.size(); ++i) {
        const Slot& slot = slots_[static_cast<size_t>(outputs_[i])];
        if (slot.output == static_cast<int>(i)) continue;
        std::memcpy(pass.job.out[i] + pass.first * slot.floats, at(pass, outputs_[i]),
                    static_cast<size_t>(slot.floats * pass.examples) * sizeof(float));
    }
}

void Program::compute(const Pass& pass, size_t number, int part, int parts) const {
    const Step& step = steps_[number];
    const float* in[most_inputs] = {};
    float* out[most_inputs] = {};
    int64_t in_size[most_inputs] = {}, out_size[most_inputs] = {};
    for (size_t i = 0; i < step.inputs.size() && i < most_inputs; ++i) {
        in[i] = at(pass, step.inputs[i]);
        in_size[i] = step.inputs[i] < 0 ? 0 : slot_floats(step.inputs[i]) / step.items;
    }
    for (size_t i = 0; i < step.outputs.size() && i < most_inputs; ++i) {
        out[i] = at(pass, step.outputs[i]);
        out_size[i] = slot_floats(step.outputs[i]) / step.items;
    }
    step.kernel->run({in, out, in_size, out_size, step.shape.data(), step.data.data(), pass.scratch,
                      pass.examples * step.items, part, parts, step.links.data(), link_data(step),
                      static_cast<int64_t>(step.links.size())});
}

namespace {

// Adds what has passed since it was last asked to the times of steps, where they are wanted.
class Clock {
public:
    Clock(int64_t* nanoseconds, bool processor_time)
        : nanoseconds_(nanoseconds),
          processor_time_(processor_time),
          before_(nanoseconds ? now(processor_time) : 0) {}
    void add_to(size_t step) {
        if (!nanoseconds_) return;
        const int64_t after = now(processor_time_);
        nanoseconds_[step] += after - before_;
        before_ = after;
    }

private:
    int64_t* nanoseconds_;
    bool processor_time_;
    int64_t before_;
};

}  // namespace

void Program::alone(const Pass& pass) const {
    bring_inputs(pass);
    Clock clock(pass.nanoseconds, pass.job.processor_time);
    for (size_t s = 0; s < steps_.size(); ++s) {
        compute(pass, s, 0, 1);
        clock.add_to(s);
    }
    bring_outputs(pass);
}

// Steps that one thread computes alone are one stage where they follow each other.
void Program::together(const Pass& pass, Member& member) {
    const auto stage = [&](int parts, const auto& work) {
        stages_.pass(member.stage++, member.thread, parts, member.looks, work);
    };
    stage(1, [&](int) { bring_inputs(pass); });
    Clock clock(pass.nanoseconds, pass.job.processor_time);
    for (size_t begin = 0, end; begin < steps_.size(); begin = end) {
        end = begin + 1;
        const bool single = steps_[begin].single_threaded;
        while (single && end < steps_.size() && steps_[end].single_threaded) ++end;
        const int parts = single ? 1 : member.threads;
        stage(parts, [&](int part) {
            for (size_t s = begin; s < end; ++s) {
                compute(pass, s, part, parts);
                if (s + 1 < end) clock.add_to(s);
            }
        });
        clock.add_to(end - 1);
    }
    stage(1, [&](int) { bring_outputs(pass); });
}

// With an example or more for each thread, each takes its own through the whole network
// and they never wait for one another. With fewer, they share every step.
void Program::work(void* context, int thread, int threads) {
    const FlushDenormals flush;
    const Job& job = *static_cast<Job*>(context);
    Program& program = *job.program;
    const auto t = static_cast<size_t>(thread);
    const bool shared = job.examples < threads;
    const int64_t last = shared ? job.examples : job.examples * (thread + 1) / threads;
    Member member{thread, threads};
    Pass pass{job,
              program.arenas_[shared ? 0 : t].floats(),
              program.scratches_[t].floats(),
              shared ? 0 : job.examples * thread / threads,
              0,
              thread ? nullptr : job.nanoseconds};
    for (; pass.first < last; pass.first += pass.examples) {
        pass.examples = std::min(program.chunk_, last - pass.first);
        if (shared) {
            program.together(pass, member);
        } else {
            program.alone(pass);
        }
    }
}

bool Program::all_single_threaded() const {
    return std::all_of(steps_.begin(), steps_.end(),
                       [](const Step& step) { return step.single_threaded; });
}

void Program::run(const float* const* in, float* const* out, int64_t examples, int64_t* nanoseconds,
                  bool processor_time) {
    const std::lock_guard lock(running_);
    if (examples == 0) return;
    const bool shared = examples < threads_;
    reserve(shared ? 1 : threads_, std::min(chunk_, examples));
    Job job{this, in, out, examples, nanoseconds, processor_time};
    if (threads_ == 1 || (shared && all_single_threaded())) {
        work(&job, 0, 1);
        return;
    }
    stages_.reset();
    if (!nanoseconds || !shared || steps_.empty()) {
        pool_->run(&Program::work, &job);
        return;
    }
    // While another program has the core of this thread, which keeps the times, others may do all
    // of the first steps: that it waited so long is time of the run, too.
    const auto counted = [&] {
        return std::accumulate(nanoseconds, nanoseconds + size(), int64_t{0});
    };
    const int64_t began = now(processor_time) - counted();
    pool_->run(&Program::work, &job);
    nanoseconds[0] += now(processor_time) - began - counted();
}

}  // namespace gossamer
