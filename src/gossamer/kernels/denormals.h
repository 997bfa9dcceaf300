// Denormal numbers, which processors compute with up to a hundred times more slowly, as zeros.

#pragma once

#include <cstdint>

#if defined(__x86_64__)
#include <xmmintrin.h>
#endif

namespace gossamer {

// While it lives, operands and results of this thread that are denormal count as zero.
class FlushDenormals {
public:
    FlushDenormals() : before_(control()) { set_control(before_ | flush); }
    ~FlushDenormals() { set_control(before_); }
    FlushDenormals(const FlushDenormals&) = delete;
    FlushDenormals& operator=(const FlushDenormals&) = delete;

private:
#if defined(__x86_64__)
    using Register = unsigned;
    static constexpr Register flush = 0x8040;  // results, and operands
    static Register control() { return _mm_getcsr(); }
    static void set_control(Register value) { _mm_setcsr(value); }
#elif defined(__aarch64__)
    using Register = uint64_t;
    static constexpr Register flush = 1 << 24;
    static Register control() {
        Register value;
        __asm__ volatile("mrs %0, fpcr" : "=r"(value));
        return value;
    }
    static void set_control(Register value) { __asm__ volatile("msr fpcr, %0" : : "r"(value)); }
#else
    using Register = int;
    static constexpr Register flush = 0;
    static Register control() { return 0; }
    static void set_control(Register) {}
#endif
    const Register before_;
};

}  // namespace gossamer
