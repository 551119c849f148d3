// Shares of one-hot rows: whole trees of seeds, as dpf.py describes them, where vectors encrypt two blocks at a time.
//
// A node is its seed, with the control bit in the lowest place, where seeds have a zero. A tree grows level by level;
// nothing branches on a seed or a bit.

#pragma once

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <new>

#include "_ring_keys.hpp"

namespace {

// Keys of `count` ids over a table of `rows` rows; arrays lie one id after the other.
struct Ids {
    const uint8_t* keys;          // of the generators LEFT, RIGHT and LEAF, 16 bytes each
    const uint64_t* seeds;        // (count, 2)
    const uint64_t* corrections;  // (count, depth, 2)
    const uint32_t* leaves;       // (count, 4)
    uint32_t* out;                // (count, rows)
    ptrdiff_t count, depth, rows;
    int holder;  // 0 or 1
};

#ifdef __x86_64__

#define RING_IDS __attribute__((target("avx2,aes,vaes")))

struct IdKeys {
    RoundKeys left, right, leaf;
};

// AES(s) xor s of some vectors of seeds.
template <int K> RING_IDS inline void encrypt(const RoundKeys* const* keys, const __m256i* seeds, __m256i* out) {
#pragma GCC unroll 8
    for (int i = 0; i < K; ++i) out[i] = _mm256_xor_si256(seeds[i], keys[i]->at[0]);
#pragma GCC unroll 10
    for (int r = 1; r < AES_ROUNDS; ++r)
#pragma GCC unroll 8
        for (int i = 0; i < K; ++i) out[i] = _mm256_aesenc_epi128(out[i], keys[i]->at[r]);
#pragma GCC unroll 8
    for (int i = 0; i < K; ++i)
        out[i] = _mm256_xor_si256(_mm256_aesenclast_epi128(out[i], keys[i]->at[AES_ROUNDS]), seeds[i]);
}

// All ones in the nodes whose control bit is set.
RING_IDS inline __m256i controlled(__m256i nodes) {
    const __m256i one = _mm256_set1_epi32(1);
    return _mm256_cmpeq_epi32(_mm256_and_si256(_mm256_shuffle_epi32(nodes, 0), one), one);
}

RING_IDS inline __m256i seeds_of(__m256i nodes) {
    return _mm256_and_si256(nodes, _mm256_setr_epi64x(-4, -1, -4, -1));
}

constexpr ptrdiff_t VECTORS_TOGETHER = 3;

// The children of `vectors` pairs of nodes. fixes: of left children and of right ones, control bits in their place.
RING_IDS inline void grow(const IdKeys& keys, const __m256i* from, ptrdiff_t vectors, const __m256i* fixes, __m256i* to) {
    constexpr int some = int(VECTORS_TOGETHER);
    const RoundKeys* both[2 * some];
    for (int i = 0; i < some; ++i) both[2 * i] = &keys.left, both[2 * i + 1] = &keys.right;
    const __m256i kept = _mm256_setr_epi64x(-3, -1, -3, -1);
    for (ptrdiff_t v = 0; v < vectors; v += some) {  // there is room for whole steps
        __m256i seeds[2 * some], grown[2 * some];
        for (int i = 0; i < some; ++i) seeds[2 * i] = seeds[2 * i + 1] = seeds_of(_mm256_load_si256(from + v + i));
        encrypt<2 * some>(both, seeds, grown);
        for (int i = 0; i < some; ++i) {
            const __m256i on = controlled(_mm256_load_si256(from + v + i));
            __m256i child[2];
            for (int side = 0; side < 2; ++side)
                child[side] = _mm256_xor_si256(_mm256_and_si256(grown[2 * i + side], kept),
                                               _mm256_and_si256(fixes[side], on));
            _mm256_store_si256(to + 2 * (v + i), _mm256_permute2x128_si256(child[0], child[1], 0x20));
            _mm256_store_si256(to + 2 * (v + i) + 1, _mm256_permute2x128_si256(child[0], child[1], 0x31));
        }
    }
}

// One id's row, by way of `room`: two levels of nodes.
RING_IDS inline void expand_id(const Ids& ids, const IdKeys& keys, ptrdiff_t id, __m256i* const* room) {
    const ptrdiff_t blocks = (ids.rows + 3) / 4;
    __m256i *now = room[0], *next = room[1];
    const uint64_t* seed = ids.seeds + 2 * id;
    _mm256_store_si256(now, _mm256_setr_epi64x(int64_t((seed[0] & ~uint64_t(3)) | uint64_t(ids.holder)), int64_t(seed[1]), 0, 0));
    for (ptrdiff_t level = 0; level < ids.depth; ++level) {
        const uint64_t* fix = ids.corrections + 2 * (id * ids.depth + level);
        const uint64_t seed_fix = fix[0] & ~uint64_t(3), bit[2] = {fix[0] & 1, fix[0] >> 1 & 1};
        __m256i fixes[2];
        for (int side = 0; side < 2; ++side) {
            const int64_t low = int64_t(seed_fix | bit[side]), high = int64_t(fix[1]);
            fixes[side] = _mm256_setr_epi64x(low, high, low, high);
        }
        const ptrdiff_t below = ids.depth - 1 - level, children = (blocks + (ptrdiff_t(1) << below) - 1) >> below;
        grow(keys, now, (children + 3) / 4, fixes, next);
        std::swap(now, next);
    }
    const __m256i leaf = _mm256_broadcastsi128_si256(
        _mm_loadu_si128(reinterpret_cast<const __m128i*>(ids.leaves + 4 * id)));
    const __m256i opposed = _mm256_set1_epi32(-ids.holder), one = _mm256_set1_epi32(ids.holder);
    const RoundKeys* ends[2 * VECTORS_TOGETHER];
    for (const RoundKeys*& end : ends) end = &keys.leaf;
    constexpr ptrdiff_t some = 2 * VECTORS_TOGETHER, words = 8;
    uint32_t* out = ids.out + id * ids.rows;
    for (ptrdiff_t v = 0; v * words < ids.rows; v += some) {
        __m256i seeds[some], found[some];
        for (int i = 0; i < some; ++i) seeds[i] = seeds_of(_mm256_load_si256(now + v + i));
        encrypt<int(some)>(ends, seeds, found);
        for (int i = 0; i < some; ++i) {
            const __m256i on = _mm256_and_si256(leaf, controlled(_mm256_load_si256(now + v + i)));
            const __m256i sum = _mm256_add_epi32(found[i], on);
            found[i] = _mm256_add_epi32(_mm256_xor_si256(sum, opposed), one);
        }
        std::memcpy(out + v * words, found, size_t(std::min<ptrdiff_t>(some * words, ids.rows - v * words)) * 4);
    }
}

// Ids [first, last).
RING_IDS inline void expand_ids(const Ids& ids, ptrdiff_t first, ptrdiff_t last) {
    const IdKeys keys = {round_keys(ids.keys), round_keys(ids.keys + 16), round_keys(ids.keys + 32)};
    const size_t nodes = size_t((ids.rows + 3) / 4 + 16 * VECTORS_TOGETHER), bytes = (16 * nodes + 63) / 64 * 64;
    const std::unique_ptr<void, void (*)(void*)> kept(std::aligned_alloc(64, 2 * bytes), std::free);
    if (!kept) throw std::bad_alloc();
    std::memset(kept.get(), 0, 2 * bytes);
    __m256i* const room[2] = {static_cast<__m256i*>(kept.get()),
                              reinterpret_cast<__m256i*>(static_cast<uint8_t*>(kept.get()) + bytes)};
    for (ptrdiff_t id = first; id < last; ++id) expand_id(ids, keys, id, room);
}

#undef RING_IDS

#else

inline void expand_ids(const Ids&, ptrdiff_t, ptrdiff_t) {}

#endif

}  // namespace
