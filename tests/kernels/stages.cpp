// Threads of a pool share the stages of jobs: each part is computed once, after all parts of the
// stage before, whether or not the other threads come. Ends with 1 and a message where not so.

#include "threads.h"

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <random>

using gossamer::Pool;
using gossamer::Stages;

namespace {

void check(bool holds, const char* what) {
    if (holds) return;
    std::fprintf(stderr, "%s\n", what);
    std::exit(1);
}

// Stages of one part and of a part for each thread take turns.
int parts_of(int64_t stage, int threads) { return stage % 3 ? threads : 1; }

struct Job {
    int threads;
    int64_t stages;
    bool late;  // threads come at any time, and rest in the middle
    Stages shared;
    std::vector<int64_t> numbers;  // of each part: what the stage before left, and one more
    std::vector<int> computed;     // of each part of each stage
};

void work(void* context, int thread, int) {
    Job& job = *static_cast<Job*>(context);
    std::minstd_rand random(static_cast<unsigned>(thread + 1));
    const auto rest = [&] {
        if (job.late && random() % 8 == 0)
            std::this_thread::sleep_for(std::chrono::microseconds(random() % 50));
    };
    int looks = Stages::patience;
    rest();
    for (int64_t stage = 0; stage < job.stages; ++stage) {
        const int parts = parts_of(stage, job.threads);
        job.shared.pass(stage, thread, parts, looks, [&](int part) {
            rest();
            const int before = stage ? parts_of(stage - 1, job.threads) : 1;
            int64_t sum = 0;
            for (int p = 0; p < before; ++p)
                sum += job.numbers[static_cast<size_t>((stage % 2) * job.threads + p)];
            const auto row = static_cast<size_t>((stage + 1) % 2 * job.threads + part);
            job.numbers[row] = sum / before + 1;
            ++job.computed[static_cast<size_t>(stage * job.threads + part)];
        });
        rest();
    }
}

void verify(const Job& job) {
    for (int64_t stage = 0; stage < job.stages; ++stage) {
        for (int part = 0; part < job.threads; ++part) {
            check(job.computed[static_cast<size_t>(stage * job.threads + part)] ==
                      (part < parts_of(stage, job.threads)),
                  "a part was not computed once");
        }
    }
    check(job.numbers[static_cast<size_t>(job.stages % 2 * job.threads)] == job.stages,
          "a stage began before the one before it was done");
}

Job job_of(int threads, int64_t stages, bool late) {
    return {threads,
            stages,
            late,
            Stages(threads),
            std::vector<int64_t>(static_cast<size_t>(2 * threads)),
            std::vector<int>(static_cast<size_t>(stages * threads))};
}

}  // namespace

int main() {
    for (const int threads : {2, 3, 7}) {
        Job alone = job_of(threads, 40, false);
        work(&alone, threads - 1, threads);
        verify(alone);
        for (const bool late : {false, true}) {
            Pool pool(threads);
            for (int turn = 0; turn < 60; ++turn) {
                Job job = job_of(threads, 30, late);
                pool.run(work, &job);
                verify(job);
            }
        }
    }
    // Shares of a pool's job: each is computed once.
    Pool pool(4);
    for (int turn = 0; turn < 2000; ++turn) {
        std::atomic<int> shares[4] = {};
        pool.run([](void* context, int share,
                    int) { static_cast<std::atomic<int>*>(context)[share].fetch_add(1); },
                 shares);
        for (const auto& share : shares) check(share.load() == 1, "a share was not computed once");
    }
    return 0;
}
