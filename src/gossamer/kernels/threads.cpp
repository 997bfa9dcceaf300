#include "threads.h"

#include <map>
#include <set>
#include <stdexcept>
#include <string>
#include <system_error>
#include <utility>

#if defined(__unix__) || defined(__APPLE__)
#include <pthread.h>
#define GOSSAMER_FORKS 1
#endif

namespace gossamer {

namespace {

// How often this process's line has forked: workers of another count are the parent's.
std::atomic<int> forks{0};

struct Registry {
    std::mutex pools_guard;  // locked before the other one
    std::map<int, std::weak_ptr<Pool>> pools;
    std::mutex guard;
    std::set<std::mutex*> mutexes;
};

// Never destroyed: programs may outlive what is static.
Registry& registry();

[[maybe_unused]] void before_fork() {
    registry().pools_guard.lock();
    registry().guard.lock();
    for (auto* mutex : registry().mutexes) mutex->lock();
}

void after_fork() {
    for (auto* mutex : registry().mutexes) mutex->unlock();
    registry().guard.unlock();
    registry().pools_guard.unlock();
}

[[maybe_unused]] void in_child() {
    forks.fetch_add(1);
    after_fork();
}

Registry& registry() {
    static Registry* const all = [] {
#if defined(GOSSAMER_FORKS)
        pthread_atfork(before_fork, after_fork, in_child);
#endif
        return new Registry;
    }();
    return *all;
}

}  // namespace

ForkMutex::ForkMutex() {
    const std::lock_guard lock(registry().guard);
    registry().mutexes.insert(this);
}

ForkMutex::~ForkMutex() {
    const std::lock_guard lock(registry().guard);
    registry().mutexes.erase(this);
}

std::shared_ptr<Pool> Pool::of(int threads) {
    const std::lock_guard lock(registry().pools_guard);
    auto& known = registry().pools[threads];
    auto pool = known.lock();
    if (!pool) known = pool = std::make_shared<Pool>(threads);
    return pool;
}

Pool::Pool(int threads)
    : threads_(threads), taken_(new OwnLine<uint32_t>[static_cast<size_t>(threads)]) {
    workers_.reserve(static_cast<size_t>(threads));
    start();
}

void Pool::start() {
    forks_ = forks.load();
    for (int t = 0; t < threads_; ++t) taken_[t].value.store(started_.load());
    try {
        for (int t = 1; t < threads_; ++t) {
            workers_.emplace_back([this, t, seen = started_.load()] { work(t, seen); });
        }
    } catch (const std::system_error& error) {
        stop();
        throw std::runtime_error("cannot start " + std::to_string(threads_) + " threads (" +
                                 error.code().message() + ")");
    }
}

Pool::~Pool() { stop(); }

void Pool::stop() {
    if (forks_ != forks.load()) {
        // Threads of the parent: nothing here can be asked of them, not even their end.
        new std::vector<std::thread>(std::move(workers_));
    } else {
        stop_.store(true);
        started_.fetch_add(1);
        started_.notify_all();
        for (auto& worker : workers_) worker.join();
        stop_.store(false);
    }
    workers_.clear();
}

void Pool::work(int thread, uint32_t seen) {
    while (true) {
        for (int spins = 0; spins < 20000 && started_.load(std::memory_order_acquire) == seen;
             ++spins) {
            pause();
        }
        started_.wait(seen, std::memory_order_acquire);
        seen = started_.load(std::memory_order_acquire);
        if (stop_.load()) return;
        if (take(thread, seen)) compute(thread);
    }
}

// Of each job, each share is taken once. A thread that comes when its share is taken, or to a job
// that has ended, does nothing.
bool Pool::take(int share, uint32_t job) {
    uint32_t before = job - 1;
    return taken_[share].value.compare_exchange_strong(before, job);
}

void Pool::compute(int share) {
    job_(context_, share, threads_);
    running_.fetch_sub(1, std::memory_order_release);
}

void Pool::run(void (*job)(void*, int, int), void* context) {
    std::unique_lock lock(busy_, std::try_to_lock);
    if (threads_ == 1 || !lock.owns_lock()) {
        job(context, 0, 1);
        return;
    }
    if (forks_ != forks.load(std::memory_order_relaxed)) {
        stop();
        start();
    }
    job_ = job;
    context_ = context;
    running_.store(threads_ - 1, std::memory_order_relaxed);
    const uint32_t number = started_.load(std::memory_order_relaxed) + 1;
    started_.store(number, std::memory_order_release);
    started_.notify_all();
    job(context, 0, threads_);
    for (int share = 1; share < threads_; ++share) {
        if (take(share, number)) compute(share);
    }
    for (int spins = 0; running_.load(std::memory_order_acquire) != 0; ++spins) {
        wait_a_moment(spins);
    }
}

}  // namespace gossamer
