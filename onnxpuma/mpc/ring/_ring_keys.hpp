// The stream of a key, AES-128 in counter mode [CTR], where vectors encrypt two blocks at a time (VAES).

#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace {

constexpr ptrdiff_t AES_BYTES = 16;  // of a block, and of a key

}  // namespace

#ifdef __x86_64__
#include <immintrin.h>

#define RING_AES __attribute__((target("avx2,aes,vaes")))
#define RING_BLOCK __attribute__((target("avx2,aes")))  // a block at a time

namespace {

bool has_aes() { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("aes"); }
bool has_vector_aes() { return has_aes() && __builtin_cpu_supports("vaes"); }

constexpr int AES_ROUNDS = 10;

// The keys of the rounds.
struct BlockKeys {
    __m128i at[AES_ROUNDS + 1];
};

// The same, each twice in a vector.
struct RoundKeys {
    __m256i at[AES_ROUNDS + 1];
};

template <int C> RING_BLOCK inline __m128i next_round_key(__m128i key) {
    const __m128i from = _mm_shuffle_epi32(_mm_aeskeygenassist_si128(key, C), 0xFF);
    for (int i = 0; i < 3; ++i) key = _mm_xor_si128(key, _mm_slli_si128(key, 4));
    return _mm_xor_si128(key, from);
}

RING_BLOCK inline BlockKeys block_keys(const uint8_t* key) {
    BlockKeys keys;
    __m128i* made = keys.at;
    made[0] = _mm_loadu_si128(reinterpret_cast<const __m128i*>(key));
    made[1] = next_round_key<0x01>(made[0]), made[2] = next_round_key<0x02>(made[1]);
    made[3] = next_round_key<0x04>(made[2]), made[4] = next_round_key<0x08>(made[3]);
    made[5] = next_round_key<0x10>(made[4]), made[6] = next_round_key<0x20>(made[5]);
    made[7] = next_round_key<0x40>(made[6]), made[8] = next_round_key<0x80>(made[7]);
    made[9] = next_round_key<0x1B>(made[8]), made[10] = next_round_key<0x36>(made[9]);
    return keys;
}

RING_AES inline RoundKeys round_keys(const uint8_t* key) {
    const BlockKeys made = block_keys(key);
    RoundKeys keys;
    for (int r = 0; r <= AES_ROUNDS; ++r) keys.at[r] = _mm256_broadcastsi128_si256(made.at[r]);
    return keys;
}

// `bytes` of the stream from a block on; the counter of a block is `high`, then its number, most significant byte first.
RING_AES inline void key_stream(const RoundKeys& keys, uint64_t high, uint64_t block, uint8_t* out, ptrdiff_t bytes) {
    constexpr int some = 6;  // vectors at a time: enough to hide what a round takes, and all in registers
    constexpr ptrdiff_t step = some * ptrdiff_t(sizeof(__m256i));
    const __m256i order = _mm256_setr_epi8(7, 6, 5, 4, 3, 2, 1, 0, 15, 14, 13, 12, 11, 10, 9, 8,  //
                                           7, 6, 5, 4, 3, 2, 1, 0, 15, 14, 13, 12, 11, 10, 9, 8);
    const __m256i two = _mm256_setr_epi64x(0, 2, 0, 2);
    __m256i counter = _mm256_setr_epi64x(int64_t(high), int64_t(block), int64_t(high), int64_t(block + 1));
    for (; bytes > 0; bytes -= step, out += step) {
        __m256i state[some];
#pragma GCC unroll 8
        for (int i = 0; i < some; ++i) {
            state[i] = _mm256_xor_si256(_mm256_shuffle_epi8(counter, order), keys.at[0]);
            counter = _mm256_add_epi64(counter, two);
        }
#pragma GCC unroll 10
        for (int r = 1; r < AES_ROUNDS; ++r)
#pragma GCC unroll 8
            for (int i = 0; i < some; ++i) state[i] = _mm256_aesenc_epi128(state[i], keys.at[r]);
#pragma GCC unroll 8
        for (int i = 0; i < some; ++i) state[i] = _mm256_aesenclast_epi128(state[i], keys.at[AES_ROUNDS]);
        if (bytes >= step)
            std::memcpy(out, state, sizeof state);
        else
            std::memcpy(out, state, size_t(bytes));
    }
}

// The same from any byte of an array's stream on.
inline void key_stream_from(const RoundKeys& keys, uint64_t high, ptrdiff_t byte, uint8_t* out, ptrdiff_t bytes) {
    if (const ptrdiff_t before = byte % AES_BYTES) {
        uint8_t block[AES_BYTES];
        key_stream(keys, high, uint64_t(byte / AES_BYTES), block, AES_BYTES);
        const ptrdiff_t some = std::min(bytes, AES_BYTES - before);
        std::memcpy(out, block + before, size_t(some));
        byte += some, out += some, bytes -= some;
    }
    key_stream(keys, high, uint64_t(byte / AES_BYTES), out, bytes);
}

}  // namespace

#undef RING_AES

#else

namespace {

bool has_aes() { return false; }
bool has_vector_aes() { return false; }
struct RoundKeys {};
inline RoundKeys round_keys(const uint8_t*) { return {}; }
inline void key_stream(const RoundKeys&, uint64_t, uint64_t, uint8_t*, ptrdiff_t) {}
inline void key_stream_from(const RoundKeys&, uint64_t, ptrdiff_t, uint8_t*, ptrdiff_t) {}

}  // namespace

#endif
