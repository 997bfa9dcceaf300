// What this processor and its operating system can run, detected in this one place.

#pragma once

namespace gossamer {

struct Features {
    bool avx2 = false, avx512 = false, vnni = false;  // each with all that its kernels use
};

inline const Features& features() {
    static const Features found = [] {
        Features f;
#if defined(__x86_64__)
        __builtin_cpu_init();
        f.avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
                 __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2") &&
                 __builtin_cpu_supports("popcnt");
        f.avx512 = f.avx2 && __builtin_cpu_supports("avx512f") &&
                   __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512bw") &&
                   __builtin_cpu_supports("avx512dq");
        f.vnni = f.avx512 && __builtin_cpu_supports("avx512vnni");
#endif
        return f;
    }();
    return found;
}

}  // namespace gossamer
