// The compiled module of the runtime: the kernel table and programs that run it.

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <cstring>
#include <memory>
#include <string>
#include <tuple>
#include <vector>

#include "kinds.h"
#include "program.h"

namespace nb = nanobind;

namespace {

constexpr size_t most_dimensions = 32;  // of outputs: what every numpy can hold

using Input = nb::ndarray<const float, nb::c_contig, nb::device::cpu>;
using Output = nb::ndarray<nb::numpy, float>;
using Constant = nb::ndarray<nb::ro, nb::c_contig, nb::device::cpu>;

using Row = std::tuple<std::string, std::string, std::string, std::string, int, bool, bool, bool,
                       std::string>;

std::vector<Row> kernel_table() {
    std::vector<Row> rows;
    for (const auto& k : gossamer::kernels()) {
        rows.emplace_back(k.operation, k.layout, k.tile, k.isa, k.width, k.epilogue,
                          k.promises & gossamer::writes_within, k.promises & gossamer::any_number,
                          k.fields);
    }
    return rows;
}

template <size_t N>
nb::dict by_name(const gossamer::Kind (&kinds)[N]) {
    nb::dict expressions;
    for (const auto& kind : kinds) expressions[kind.name] = kind.expression;
    return expressions;
}

bool all_finite(const float* x, size_t count) {
    uint32_t infinite = 0;
    for (size_t i = 0; i < count; ++i) {
        uint32_t bits;
        std::memcpy(&bits, x + i, sizeof bits);
        infinite |= (bits & 0x7f800000u) == 0x7f800000u;
    }
    return !infinite;
}

// A program with the shapes of its inputs and outputs. In a shape, the first number is
// multiplied by the number of examples.
class Runner {
public:
    Runner(int threads, int64_t chunk) : program_(threads, chunk) {}

    int slot(int64_t floats, int64_t position) { return program_.slot(floats, position); }

    void add(int kernel, std::vector<int> inputs, std::vector<int> outputs,
             std::vector<int64_t> shape, const std::vector<Constant>& data, int64_t scratch,
             int64_t items) {
        std::vector<const void*> arrays;
        for (const auto& array : data) arrays.push_back(array.data());
        program_.add(kernel, std::move(inputs), std::move(outputs), std::move(shape),
                     std::move(arrays), scratch, items);
        constants_.insert(constants_.end(), data.begin(), data.end());
    }

    void finish(std::vector<int> inputs, std::vector<int> outputs,
                std::vector<std::vector<int64_t>> input_shapes,
                std::vector<std::vector<int64_t>> output_shapes) {
        for (const auto& shape : output_shapes) {
            if (shape.empty() || shape.size() > most_dimensions)
                throw nb::value_error("an output of too many dimensions");
        }
        program_.finish(std::move(inputs), std::move(outputs));
        input_shapes_ = std::move(input_shapes);
        output_shapes_ = std::move(output_shapes);
    }

    void single_threaded(const std::vector<int>& steps) { program_.single_threaded(steps); }

    bool finite_only() const { return program_.finite_only(); }

    // The outputs; None where `check_finite` is set, the program is for finite inputs only, and one
    // is not.
    nb::object run(const std::vector<Input>& inputs, bool check_finite) {
        const int64_t examples = check(inputs);
        std::vector<const float*> in;
        const bool check_numbers = check_finite && program_.finite_only();
        for (const auto& input : inputs) {
            if (check_numbers && !all_finite(input.data(), input.size())) return nb::none();
            in.push_back(input.data());
        }
        std::vector<Output> outputs;
        std::vector<float*> out;
        for (const auto& shape : output_shapes_) {
            std::vector<size_t> sizes(shape.begin(), shape.end());
            sizes[0] *= static_cast<size_t>(examples);
            size_t count = 1;
            for (const size_t size : sizes) count *= size;
            std::unique_ptr<float[]> memory(new float[count + 1]);  // not cleared
            out.push_back(memory.get());
            nb::capsule owner(memory.get(),
                              [](void* p) noexcept { delete[] static_cast<float*>(p); });
            outputs.emplace_back(memory.release(), sizes.size(), sizes.data(), owner);
        }
        {
            nb::gil_scoped_release release;
            program_.run(in.data(), out.data(), examples, nullptr, false);
        }
        if (outputs.size() == 1) return nb::cast(outputs[0]);
        nb::list all;
        for (auto& output : outputs) all.append(nb::cast(output));
        return all;
    }

    // The common case, one input, without a list around it.
    nb::object run_one(const Input& input, bool check_finite) { return run({input}, check_finite); }

    // Nanoseconds of each step in each of `repeats` runs.
    std::vector<std::vector<int64_t>> profile(const std::vector<Input>& inputs, int repeats,
                                              bool processor_time) {
        const int64_t examples = check(inputs);
        std::vector<const float*> in;
        for (const auto& input : inputs) in.push_back(input.data());
        std::vector<std::unique_ptr<float[]>> memory;
        std::vector<float*> out;
        for (const int slot : program_.outputs()) {
            memory.push_back(std::make_unique<float[]>(
                static_cast<size_t>(program_.slot_floats(slot) * examples)));
            out.push_back(memory.back().get());
        }
        std::vector<std::vector<int64_t>> times(static_cast<size_t>(repeats),
                                                std::vector<int64_t>(program_.size()));
        nb::gil_scoped_release release;
        for (auto& row : times)
            program_.run(in.data(), out.data(), examples, row.data(), processor_time);
        return times;
    }

private:
    int64_t check(const std::vector<Input>& inputs) const {
        if (inputs.size() != input_shapes_.size()) throw nb::value_error("wrong number of inputs");
        int64_t examples = -1;
        for (size_t i = 0; i < inputs.size(); ++i) {
            const auto& shape = input_shapes_[i];
            bool fits = inputs[i].ndim() == shape.size();
            for (size_t d = 1; fits && d < shape.size(); ++d) {
                fits = static_cast<int64_t>(inputs[i].shape(d)) == shape[d];
            }
            if (!fits) throw nb::value_error("wrong shape of input");
            const auto first = static_cast<int64_t>(inputs[i].shape(0));
            if (first % shape[0] || (examples >= 0 && examples != first / shape[0])) {
                throw nb::value_error("wrong number of examples");
            }
            examples = first / shape[0];
        }
        return examples;
    }

    gossamer::Program program_;
    std::vector<Constant> constants_;  // of the program's kernels, shared with other programs
    std::vector<std::vector<int64_t>> input_shapes_, output_shapes_;
};

}  // namespace

NB_MODULE(_kernels, m) {
    m.doc() = "Compiled part of gossamer.runtime.";
    m.def(
        "kernel_table", &kernel_table,
        "The row of every kernel that runs here: operation, layout, tile, instruction set, vector "
        "width, whether it takes an epilogue, writes within its outputs and takes any number, "
        "fields of its shape.");
    m.attr("LIST_HEADER") = gossamer::list_header;
    m.attr("ALIGNMENT") = gossamer::alignment;
    m.attr("SLACK") = gossamer::slack;
    m.attr("MOST_INPUTS") = gossamer::most_inputs;
    m.attr("MOST_DIMENSIONS") = most_dimensions;
    m.attr("MOST_WINOGRAD_TILES") = gossamer::most_winograd_tiles;
    m.attr("UNARY") = by_name(gossamer::unary_kinds);
    m.attr("BINARY") = by_name(gossamer::binary_kinds);
    nb::class_<Runner>(m, "Program", "A network as a list of kernel calls.")
        .def(nb::init<int, int64_t>(), nb::arg("threads"), nb::arg("chunk"))
        .def("slot", &Runner::slot, nb::arg("floats"), nb::arg("position"))
        .def("add", &Runner::add, nb::arg("kernel"), nb::arg("inputs"), nb::arg("outputs"),
             nb::arg("shape"), nb::arg("data"), nb::arg("scratch"), nb::arg("items"))
        .def("single_threaded", &Runner::single_threaded, nb::arg("steps"))
        .def("finish", &Runner::finish, nb::arg("inputs"), nb::arg("outputs"),
             nb::arg("input_shapes"), nb::arg("output_shapes"))
        .def_prop_ro("finite_only", &Runner::finite_only)
        .def("run", &Runner::run, nb::arg("inputs"), nb::arg("check_finite"))
        .def("run_one", &Runner::run_one, nb::arg("input").noconvert(), nb::arg("check_finite"))
        .def("profile", &Runner::profile, nb::arg("inputs"), nb::arg("repeats"),
             nb::arg("processor_time"));
}
