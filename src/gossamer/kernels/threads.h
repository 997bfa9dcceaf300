// A pool of threads that spin for a moment, then sleep.

#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

namespace gossamer {

inline void pause() {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
}

// A mutex that a fork waits for: the child, which has none of the other threads, never finds
// it locked by one of them.
class ForkMutex : public std::mutex {
public:
    ForkMutex();
    ~ForkMutex();
};

// What one does each time around while waiting for another thread.
inline void wait_a_moment(int spins) {
    if (spins < 4000) {
        pause();
    } else {
        std::this_thread::yield();
    }
}

// A number that has its cache line to itself, so that writing to another does not move it.
template <class T>
struct alignas(64) OwnLine {
    std::atomic<T> value{0};
};

// The parts of the stages of one job: a stage begins when all parts of the one before are done.
// A thread takes its own part, and while it waits also those that nobody has begun: the core of
// the thread that should may be busy with another program. One thread alone would finish the job.
class Stages {
public:
    static constexpr int patience = 64;  // looks at whether a stage is done before helping out

    explicit Stages(int threads)
        : threads_(threads), taken_(new OwnLine<int64_t>[static_cast<size_t>(threads)]) {}

    // Before a job, while no thread is at work.
    void reset() {
        for (int part = 0; part < threads_; ++part) taken_[part].value.store(0);
        done_.value.store(0);
    }

    // Returns when compute(part) has been called for all parts, here or elsewhere. Every thread
    // passes the stages 0, 1, 2, ... with the same number of parts: one, or one for each thread.
    // `looks` is the thread's own, `patience` at first.
    template <class Compute>
    void pass(int64_t stage, int thread, int parts, int& looks, const Compute& compute) {
        const auto take = [&](int part) {
            int64_t begun = taken_[part].value.load(std::memory_order_relaxed);
            const bool taken =
                begun <= stage && taken_[part].value.compare_exchange_strong(begun, stage + 1);
            if (taken) {
                compute(part);
                done_.value.fetch_add(threads_ / parts, std::memory_order_release);
            }
            return taken;
        };
        if (thread < parts) take(thread);
        const int64_t all = (stage + 1) * threads_;
        for (int spins = 0; done_.value.load(std::memory_order_acquire) < all; ++spins) {
            if (spins == looks) {
                bool helped = false;
                for (int part = 0; part < parts; ++part) helped |= take(part);
                looks = helped ? 0 : patience;  // who was late once is late again
            }
            wait_a_moment(spins);
        }
    }

private:
    const int threads_;
    std::unique_ptr<OwnLine<int64_t>[]> taken_;  // of each part: the number of stages begun
    OwnLine<int64_t> done_;                      // parts, times the threads of each
};

class Pool {
public:
    // The pool of that many threads; made when first asked for, shared by all programs.
    static std::shared_ptr<Pool> of(int threads);

    explicit Pool(int threads);
    ~Pool();
    Pool(const Pool&) = delete;
    Pool& operator=(const Pool&) = delete;

    // Calls job(context, share, shares) for every share, one for each thread. The caller computes
    // the first, and then those that their threads have not begun.
    // A pool that is busy with another program's job leaves it to the caller alone:
    // results do not depend on the number of threads. In a forked child, where the pool's
    // threads are not, it first starts others.
    void run(void (*job)(void*, int, int), void* context);

private:
    void start();
    void stop();
    void work(int thread, uint32_t seen);
    bool take(int share, uint32_t job);
    void compute(int share);

    const int threads_;
    ForkMutex busy_;
    int forks_;  // of this process's line when the workers were started
    void (*job_)(void*, int, int) = nullptr;
    void* context_ = nullptr;
    std::atomic<uint32_t> started_{0};
    std::unique_ptr<OwnLine<uint32_t>[]> taken_;  // of each share: the last job that has it begun
    std::atomic<int> running_{0};
    std::atomic<bool> stop_{false};
    std::vector<std::thread> workers_;
};

}  // namespace gossamer
