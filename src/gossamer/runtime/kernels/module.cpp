// The compiled module of the runtime: what the processor can do.

#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <string>
#include <vector>

namespace nb = nanobind;

namespace {

// Instruction sets that this processor and operating system offer, widest last.
std::vector<std::string> instruction_sets() {
    std::vector<std::string> found;
#if defined(__x86_64__) && (defined(__GNUC__) || defined(__clang__))
    __builtin_cpu_init();
    found.emplace_back("sse2");
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) found.emplace_back("avx2");
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl")) {
        found.emplace_back("avx512");
    }
#elif defined(__aarch64__)
    found.emplace_back("neon");
#else
    found.emplace_back("portable");
#endif
    return found;
}

}  // namespace

NB_MODULE(_kernels, m) {
    m.doc() = "Compiled part of gossamer.runtime.";
    m.def("instruction_sets", &instruction_sets,
          "Vector instruction sets of this processor, narrowest first.");
}
