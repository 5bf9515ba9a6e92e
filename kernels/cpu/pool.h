// The threads of a process, which sleep until a call wants them.
//
// A thread that waits is in nobody's way, where those of OpenMP would spin; and on a busy machine one that wakes up begins
// at once, where a new one would have to wait its turn. In the child of a fork, where there are none, a call starts anew.
#pragma once

#include <pthread.h>

#include <condition_variable>
#include <deque>
#include <mutex>
#include <system_error>
#include <thread>

namespace qplayer {

class Pool {
    struct Job {
        void (*run)(void*);
        void* call;
        int64_t wanted, running;  // threads besides that of the caller
    };

    std::mutex mutex;
    std::condition_variable work, done;
    std::deque<Job*> jobs;  // that want more threads
    int64_t threads = 0;

    void serve() {
        std::unique_lock<std::mutex> lock(mutex);
        for (;;) {
            work.wait(lock, [&] { return !jobs.empty(); });
            Job& job = *jobs.front();
            if (--job.wanted == 0) jobs.pop_front();
            job.running++;
            for (int i = 0; i < 2 && !jobs.empty(); i++) work.notify_one();
            lock.unlock();
            job.run(job.call);
            lock.lock();
            if (--job.running == 0) done.notify_all();
        }
    }

    // There are at least `count` threads, or as many as can be.
    void grow(int64_t count) {
        try {
            for (; threads < count; threads++) std::thread(&Pool::serve, this).detach();
        } catch (const std::system_error&) {
            // fewer will do
        }
    }

    // Never destroyed: its threads end with the process.
    static Pool*& current() {
        static Pool* pool = new Pool;
        return pool;
    }

  public:
    static Pool& of_process() {
        [[maybe_unused]] static const int registered = pthread_atfork(nullptr, nullptr, [] { current() = new Pool; });
        return *current();
    }

    // Calls `run` on this thread, and on as many others as wake up before it returns, `count` in all. It wakes one, and each
    // two more, as to wake many would take as long as a small batch.
    template <class Run>
    void on_threads(int64_t count, Run run) {
        if (count <= 1) return run();
        Job job{[](void* call) { (*static_cast<Run*>(call))(); }, &run, count - 1, 0};
        {
            std::lock_guard<std::mutex> lock(mutex);
            grow(job.wanted);
            jobs.push_back(&job);
        }
        work.notify_one();
        run();
        std::unique_lock<std::mutex> lock(mutex);
        for (auto at = jobs.begin(); at != jobs.end(); ++at)
            if (*at == &job) {
                jobs.erase(at);
                break;
            }
        done.wait(lock, [&] { return job.running == 0; });
    }
};

}  // namespace qplayer
