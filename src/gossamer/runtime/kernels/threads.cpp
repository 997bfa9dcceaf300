#include "threads.h"

#include <map>

#if defined(__unix__) || defined(__APPLE__)
#include <pthread.h>
#define GOSSAMER_FORKS 1
#endif

namespace gossamer {

namespace {

// A forked child has none of its parent's threads: there, programs run on the caller.
std::atomic<bool> forked{false};

void note_forks() {
#if defined(GOSSAMER_FORKS)
    static const int once = pthread_atfork(nullptr, nullptr, [] { forked.store(true); });
    (void)once;
#endif
}

}  // namespace

std::shared_ptr<Pool> Pool::of(int threads) {
    static std::mutex guard;
    static std::map<int, std::weak_ptr<Pool>> pools;
    const std::lock_guard lock(guard);
    auto pool = pools[threads].lock();
    if (!pool) pools[threads] = pool = std::make_shared<Pool>(threads);
    return pool;
}

Pool::Pool(int threads) : threads_(threads) {
    note_forks();
    for (int t = 1; t < threads; ++t) workers_.emplace_back([this, t] { work(t); });
}

Pool::~Pool() {
    if (forked.load()) {
        for (auto& worker : workers_) worker.detach();
        return;
    }
    stop_.store(true);
    started_.fetch_add(1);
    started_.notify_all();
    for (auto& worker : workers_) worker.join();
}

void Pool::work(int thread) {
    uint32_t seen = 0;
    while (true) {
        for (int spins = 0; spins < 20000 && started_.load(std::memory_order_acquire) == seen; ++spins) {
            pause();
        }
        started_.wait(seen, std::memory_order_acquire);
        seen = started_.load(std::memory_order_acquire);
        if (stop_.load()) return;
        job_(context_, thread, threads_);
        running_.fetch_sub(1, std::memory_order_release);
    }
}

void Pool::run(void (*job)(void*, int, int), void* context) {
    std::unique_lock lock(busy_, std::try_to_lock);
    if (threads_ == 1 || forked.load(std::memory_order_relaxed) || !lock.owns_lock()) {
        job(context, 0, 1);
        return;
    }
    job_ = job;
    context_ = context;
    running_.store(threads_ - 1, std::memory_order_relaxed);
    started_.fetch_add(1, std::memory_order_release);
    started_.notify_all();
    job(context, 0, threads_);
    for (int spins = 0; running_.load(std::memory_order_acquire) != 0; ++spins) {
        if (spins < 4000) {
            pause();
        } else {
            std::this_thread::yield();
        }
    }
}

}  // namespace gossamer
