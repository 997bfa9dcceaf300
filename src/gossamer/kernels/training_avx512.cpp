#if defined(__x86_64__)
#define GOSSAMER_ISA "avx512"
#define GOSSAMER_WIDTH 16
#include "training_kernels.h"

gossamer::TrainingTable gossamer::avx512_training() {
    return {rows, sizeof(rows) / sizeof(rows[0])};
}
#endif
