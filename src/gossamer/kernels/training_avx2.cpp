#if defined(__x86_64__)
#define GOSSAMER_ISA "avx2"
#define GOSSAMER_WIDTH 8
#include "training_kernels.h"

gossamer::TrainingTable gossamer::avx2_training() { return {rows, sizeof(rows) / sizeof(rows[0])}; }
#endif
