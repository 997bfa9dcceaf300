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

// Threads of one job meet here; all must arrive before any goes on.
class Barrier {
public:
    explicit Barrier(int threads) : threads_(threads) {}
    void wait() {
        if (threads_ == 1) return;
        const uint32_t round = round_.load(std::memory_order_acquire);
        if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 == threads_) {
            arrived_.store(0, std::memory_order_relaxed);
            round_.store(round + 1, std::memory_order_release);
            return;
        }
        for (int spins = 0; round_.load(std::memory_order_acquire) == round; ++spins) {
            if (spins < 4000) {
                pause();
            } else {
                std::this_thread::yield();
            }
        }
    }

private:
    const int threads_;
    std::atomic<int> arrived_{0};
    std::atomic<uint32_t> round_{0};
};

class Pool {
public:
    // The pool of that many threads; made when first asked for, shared by all programs.
    static std::shared_ptr<Pool> of(int threads);

    explicit Pool(int threads);
    ~Pool();
    Pool(const Pool&) = delete;
    Pool& operator=(const Pool&) = delete;

    // Calls job(context, thread, threads) on every thread, the caller's among them.
    // A pool that is busy with another program's job leaves it to the caller alone:
    // results do not depend on the number of threads. In a forked child, where the pool's
    // threads are not, it first starts others.
    void run(void (*job)(void*, int, int), void* context);

private:
    void start();
    void stop();
    void work(int thread, uint32_t seen);

    const int threads_;
    ForkMutex busy_;
    int forks_;  // of this process's line when the workers were started
    void (*job_)(void*, int, int) = nullptr;
    void* context_ = nullptr;
    std::atomic<uint32_t> started_{0};
    std::atomic<int> running_{0};
    std::atomic<bool> stop_{false};
    std::vector<std::thread> workers_;
};

}  // namespace gossamer
