// Runs programs that were written to files, and compares what comes out with what should.
//
//     replay FILE... ends with status 1 where one differs. See test_replay.py for the format.

#include <cmath>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "program.h"

namespace {

struct Reader {
    std::vector<char> bytes;
    size_t at = 0;

    int64_t number() {
        int64_t value;
        std::memcpy(&value, take(sizeof value), sizeof value);
        return value;
    }
    template <class T = int64_t>
    std::vector<T> numbers() {
        std::vector<T> values(static_cast<size_t>(number()));
        for (auto& value : values) value = static_cast<T>(number());
        return values;
    }
    const char* take(size_t count) {
        const char* start = bytes.data() + at;
        at += count;
        return start;
    }
    gossamer::Buffer array() {
        const auto count = static_cast<size_t>(number());
        gossamer::Buffer buffer(count);
        std::memcpy(buffer.floats(), take(count), count);
        return buffer;
    }
    std::vector<float> floats() {
        const auto count = static_cast<size_t>(number());
        std::vector<float> values(count / sizeof(float));
        std::memcpy(values.data(), take(count), count);
        return values;
    }
};

// The largest difference, over the largest number wanted.
double replay(Reader file) {
    const auto threads = static_cast<int>(file.number());
    std::vector<gossamer::Buffer> constants;
    gossamer::Program program(threads, file.number());
    for (auto slots = file.number(); slots--;) {
        const auto floats = file.number();
        program.slot(floats, file.number());
    }
    for (auto steps = file.number(); steps--;) {
        const auto kernel = static_cast<int>(file.number());
        const auto inputs = file.numbers<int>(), outputs = file.numbers<int>();
        const auto shape = file.numbers();
        std::vector<const void*> data(static_cast<size_t>(file.number()));
        for (auto& at : data) {
            constants.push_back(file.array());
            at = constants.back().data();
        }
        const auto scratch = file.number();
        program.add(kernel, inputs, outputs, shape, data, scratch, file.number());
    }
    const auto inputs = file.numbers<int>(), outputs = file.numbers<int>();
    program.finish(inputs, outputs);
    const auto examples = file.number();
    std::vector<std::vector<float>> in, wanted, out;
    for (size_t i = 0; i < inputs.size(); ++i) in.push_back(file.floats());
    for (size_t i = 0; i < outputs.size(); ++i) wanted.push_back(file.floats());
    std::vector<const float*> from;
    std::vector<float*> to;
    for (const auto& values : in) from.push_back(values.data());
    for (const auto& values : wanted) out.emplace_back(values.size());
    for (auto& values : out) to.push_back(values.data());
    program.run(from.data(), to.data(), examples, nullptr, false);
    double largest = 1e-30, difference = 0;
    for (size_t o = 0; o < out.size(); ++o) {
        for (size_t i = 0; i < out[o].size(); ++i) {
            largest = std::fmax(largest, std::fabs(wanted[o][i]));
            const double apart = std::fabs(out[o][i] - wanted[o][i]);
            difference = apart <= difference ? difference : apart;  // NaN too
        }
    }
    return difference / largest;
}

}  // namespace

int main(int count, char** names) {
    int wrong = 0;
    for (int i = 1; i < count; ++i) {
        std::ifstream file(names[i], std::ios::binary);
        Reader reader{{std::istreambuf_iterator<char>(file), {}}};
        const double difference = replay(std::move(reader));
        std::printf("%s %g\n", names[i], difference);
        wrong += !(difference < 1e-5);
    }
    return wrong != 0;
}
