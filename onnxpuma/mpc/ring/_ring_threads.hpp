// Work cut into parts and shared out to threads, which start and end with it.

#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <new>
#include <system_error>
#include <thread>
#include <vector>

namespace {

std::atomic<int> thread_count{1};

constexpr ptrdiff_t BYTES_A_THREAD = 1 << 19;  // of words in a loop: about 50 microseconds of work
constexpr ptrdiff_t PIECE = 1 << 14;           // words that are not parted: whole lanes when they are packed

// Threads for work that is worth so many of them.
inline ptrdiff_t threads_for(double worth) {
    return std::max<ptrdiff_t>(1, std::min<ptrdiff_t>(thread_count, ptrdiff_t(std::min(worth, 1e6))));
}

// work(i) for every i below `parts`, in any order. A thread takes the next part when it is done with one, so one
// that finds no free core holds up little. Throws bad_alloc if a part did.
template <class Work> void share_out(ptrdiff_t parts, ptrdiff_t threads, const Work& work) {
    std::atomic<ptrdiff_t> next{0};
    std::atomic<bool> out_of_memory{false};
    const auto work_off = [&] {
        try {
            for (ptrdiff_t i; (i = next++) < parts;) work(i);
        } catch (const std::bad_alloc&) {
            out_of_memory = true;
        }
    };
    std::vector<std::thread> helpers;
    helpers.reserve(size_t(threads));
    try {
        for (ptrdiff_t t = 1; t < threads; ++t) helpers.emplace_back(work_off);
    } catch (const std::system_error&) {
        // No more threads to be had: those that started do the work.
    }
    work_off();
    for (std::thread& helper : helpers) helper.join();
    if (out_of_memory) throw std::bad_alloc();
}

// work(start, count) over `words` words of `size` bytes; every start is a multiple of PIECE.
template <class Work> void share_out_words(ptrdiff_t words, ptrdiff_t size, const Work& work) {
    const ptrdiff_t threads = threads_for(double(words) * double(size) / BYTES_A_THREAD);
    if (threads == 1) return work(ptrdiff_t(0), words);
    const ptrdiff_t pieces = (words + PIECE - 1) / PIECE, step = (pieces + 4 * threads - 1) / (4 * threads) * PIECE;
    share_out((words + step - 1) / step, threads,
              [&](ptrdiff_t i) { work(i * step, std::min(step, words - i * step)); });
}

}  // namespace
