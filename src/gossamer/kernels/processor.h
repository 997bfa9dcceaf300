// Whether this processor and its operating system can run an instruction set, asked in this one
// place: `true NEEDS(avx2) NEEDS(fma)`.

#pragma once

#if defined(__x86_64__)
#define NEEDS(feature) &&__builtin_cpu_supports(#feature)
#endif
