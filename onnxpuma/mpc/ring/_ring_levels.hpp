// The levels of vector instructions that the kernels are compiled for, and what all of them share.
//
// Each level is one inclusion of the kernels under its own namespace, with its function attribute and the shapes of
// its tiles; which one runs is decided when the module is loaded. No flag of the compiler chooses a processor, so a
// wheel built on one machine runs on any other.

#pragma once

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <new>
#include <type_traits>
#include <utility>
#include <vector>

#ifdef __x86_64__
#include <immintrin.h>
#endif

#include "_ring_cells.hpp"
#include "_ring_operations.hpp"

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "packing is written for little-endian processors"
#endif

namespace {

// A block of A is BLOCK_ROWS x DEPTH words, a panel of B DEPTH x at most MOST_COLUMNS.
constexpr ptrdiff_t BLOCK_ROWS = 192, DEPTH = 192, MOST_COLUMNS = 64;
constexpr ptrdiff_t BLOCK_LANES = 4096;

struct Size {
    ptrdiff_t rows, columns, depth;
};

template <class W> struct Matrix {
    const W* at;
    ptrdiff_t row, column;  // strides, in words
    Matrix from(ptrdiff_t i, ptrdiff_t j) const { return {at + i * row + j * column, row, column}; }
    Matrix transposed() const { return {at, column, row}; }
};

// A fused loop over `count` words: table and other are what the loop's line in _ring_words.hpp makes of them.
struct Loop {
    const void *words, *table, *other;
    void* out;
    ptrdiff_t count;
    uint64_t multiplier, digit;
    int shift;
};
using LoopFunction = void (*)(const Loop&);
using CoinFunction = void (*)(const void* words, const uint8_t* coins, ptrdiff_t count, ptrdiff_t columns, bool all,
                              void* out);

// Reals that become packed words: component 2 of their shares, `bits` a word.
struct Deal {
    const void* reals;
    const uint8_t* streams[2];
    uint8_t* out;
    double scale;
    int bits;
};
using DealFunction = double (*)(const Deal&, ptrdiff_t start, ptrdiff_t stop);
using LiftFunction = void (*)(const Lift&, ptrdiff_t start, ptrdiff_t count);

// A matrix whose words lie packed, row by row, `bits` bits each; `turned`, its rows are the columns of the factor.
struct Packed {
    const uint8_t* at;
    ptrdiff_t bytes, rows, columns;
    int bits;
    bool turned;

    ptrdiff_t size() const { return (rows * columns * bits + 7) / 8; }
};

// A word that a kernel of _ring_fused.hpp multiplies a row with, and 16 bits of each of its parts.
struct Factor {
    uint64_t word;
    uint32_t mixed;
};

// Products with a matrix of one width that lies packed.
struct Fused {
    ptrdiff_t (*room)(ptrdiff_t rows, ptrdiff_t depth, bool turned);  // bytes that arranged rows take
    void (*arrange)(const void* words, ptrdiff_t words_row, ptrdiff_t rows, ptrdiff_t depth, bool turned, void* to);
    void (*multiply)(const Packed& b, const void* left, ptrdiff_t rows, void* c, ptrdiff_t c_row, ptrdiff_t first,
                     ptrdiff_t last);
    void (*blend)(const uint8_t* x, const uint8_t* y, uint8_t* to, ptrdiff_t bytes, bool minus);  // x - y or 2 x + y
};

inline uint64_t low_bits(int bits) { return bits >= 64 ? ~uint64_t(0) : (uint64_t(1) << bits) - 1; }

// The type to multiply in: a product of two narrow words would be one of signed integers.
inline uint32_t wide(uint8_t x) { return x; }
inline uint32_t wide(uint16_t x) { return x; }
inline uint32_t wide(uint32_t x) { return x; }
inline uint64_t wide(uint64_t x) { return x; }

// The step, at most `most` and a multiple of `unit`, that cuts `length` into equal parts.
inline ptrdiff_t even_step(ptrdiff_t length, ptrdiff_t most, ptrdiff_t unit) {
    const ptrdiff_t parts = (length + most - 1) / most, step = (length + parts - 1) / parts;
    return (step + unit - 1) / unit * unit;
}

// Room for a block and a panel, kept by each thread until it ends.
inline void* scratch() {
    struct Room {
        void* at = std::aligned_alloc(64, size_t(BLOCK_ROWS + MOST_COLUMNS) * DEPTH * 8);
        ~Room() { std::free(at); }
    };
    thread_local Room room;
    if (!room.at) throw std::bad_alloc();
    return room.at;
}

}  // namespace

// RING_BYTES_n, RING_ROWS_n and RING_VECTORS_n: for words of n bits, the size of a vector and the shape of a tile.
// RING_FUSED_ROWS: the rows that a fused kernel multiplies with words that it unpacks.

// Scalars multiply 64 bits as fast as the vectors of SSE2 and NEON, which have no such product.
#define RING_LEVEL baseline
#define RING_TARGET
#define RING_BYTES_32 16
#define RING_ROWS_32 4
#define RING_VECTORS_32 2
#define RING_BYTES_64 8
#define RING_ROWS_64 4
#define RING_VECTORS_64 2
#include "_ring_level.hpp"

#ifdef __x86_64__

#define RING_LEVEL avx2
#define RING_TARGET __attribute__((target("avx2,bmi,bmi2")))
#define RING_BYTES_32 32
#define RING_ROWS_32 4
#define RING_VECTORS_32 2
#define RING_BYTES_64 32
#define RING_ROWS_64 3
#define RING_VECTORS_64 2
#define RING_SPLIT_64
#define RING_SWAP_HALVES(x) _mm256_shuffle_epi32(__m256i(x), 0xB1)
#define RING_FUSED_ROWS 4
#define RING_MULTIPLY_LOW_HALVES(x, y) _mm256_mul_epu32(__m256i(x), __m256i(y))
#define RING_MULTIPLY_PAIRS(x, y) _mm256_madd_epi16(__m256i(x), __m256i(y))
#define RING_PERMUTE_HALVES(order, x) _mm256_permutevar8x32_epi32(__m256i(x), __m256i(order))
#define RING_TWO_PARTS(x, y) _mm256_loadu2_m128i((const __m128i*)(y), (const __m128i*)(x))
#define RING_SHUFFLE_BYTES(x, order) _mm256_shuffle_epi8(__m256i(x), __m256i(order))
#define RING_EVEN_HALVES(x, y) \
    _mm256_castps_si256(_mm256_shuffle_ps(_mm256_castsi256_ps(__m256i(x)), _mm256_castsi256_ps(__m256i(y)), 0x88))
#define RING_EVEN_LANES(x, y) _mm256_unpacklo_epi64(__m256i(x), __m256i(y))
#define RING_ODD_LANES(x, y) _mm256_unpackhi_epi64(__m256i(x), __m256i(y))
#include "_ring_level.hpp"

#define RING_LEVEL avx512
#define RING_TARGET __attribute__((target("avx512f,avx512bw,avx512cd,avx512dq,avx512vl,avx2,bmi,bmi2")))
#define RING_BYTES_32 64
#define RING_ROWS_32 8
#define RING_VECTORS_32 2
#define RING_BYTES_64 64
#define RING_ROWS_64 8
#define RING_VECTORS_64 2
#define RING_FUSED_ROWS 8
#define RING_MULTIPLY_LOW_HALVES(x, y) _mm512_mul_epu32(__m512i(x), __m512i(y))
#define RING_MULTIPLY_PAIRS(x, y) _mm512_madd_epi16(__m512i(x), __m512i(y))
#define RING_PERMUTE_HALVES(order, x) _mm512_permutexvar_epi32(__m512i(order), __m512i(x))
#define RING_SHUFFLE_BYTES(x, order) _mm512_shuffle_epi8(__m512i(x), __m512i(order))
#define RING_EVEN_LANES(x, y) _mm512_unpacklo_epi64(__m512i(x), __m512i(y))
#define RING_ODD_LANES(x, y) _mm512_unpackhi_epi64(__m512i(x), __m512i(y))
#define RING_REAL_PARTS
#define RING_INSERT_BYTES(to, mask, x, order) _mm512_mask_shuffle_epi8(__m512i(to), mask, __m512i(x), __m512i(order))
#define RING_ADD_PRODUCT(sum, x, y) _mm512_fmadd_pd(__m512d(x), __m512d(y), __m512d(sum))
#define RING_INTEGERS(x) _mm512_cvttpd_epi64(__m512d(x))
#include "_ring_level.hpp"

#include "_ring_tiles.hpp"

#endif

namespace {

struct Level {
    const char* name;
    bool (*usable)();
    void (*gemm32)(Matrix<uint32_t>, Matrix<uint32_t>, uint32_t*, ptrdiff_t, Size, bool);
    void (*gemm64)(Matrix<uint64_t>, Matrix<uint64_t>, uint64_t*, ptrdiff_t, Size, bool);
    void (*gemm48)(Matrix<uint64_t>, Matrix<uint64_t>, uint64_t*, ptrdiff_t, Size, bool);  // mod 2^48
    void (*pack)(const uint8_t*, ptrdiff_t, int, int, uint8_t*, ptrdiff_t);
    void (*unpack)(const uint8_t*, ptrdiff_t, int, int, uint8_t*, ptrdiff_t);
    const LoopFunction (*loops)[4][4];
    const CoinFunction* coins;
    const Fused* (*fused)(int bits);  // null for a width without such kernels
    const DealFunction* deals;
    void (*series_points)(const Points&, ptrdiff_t start, ptrdiff_t count);
    void (*series_sum)(const Series&, ptrdiff_t start, ptrdiff_t count);
    const LiftFunction* lifts;
    const StripFunction (*strips)[4];
    const StripFunction (*copies)[4];
    ptrdiff_t fused_rows;             // of a product; one with more is faster as a product of unpacked matrices
};

constexpr ptrdiff_t ANY_ROWS = PTRDIFF_MAX;

#define RING_ENTRY(level, usable)                                                                                 \
    {#level, usable, level::gemm<uint32_t>, level::gemm<uint64_t>, level::gemm48, level::pack, level::unpack,    \
     level::LOOPS, level::COINS, level::fused, level::DEALS, level::series_points, level::series_sum, level::LIFTS,  \
     level::STRIPS, level::COPIES, ANY_ROWS}

#ifdef __x86_64__
bool has_avx512() {
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("bmi2");
}
#endif

const Level LEVELS[] = {
#ifdef RING_HAS_TILES
    {"amx", ([]() -> bool { return has_avx512() && tiles::usable(); }), tiles::gemm<uint32_t>, tiles::gemm<uint64_t>,
     tiles::gemm<uint64_t>, avx512::pack, avx512::unpack, avx512::LOOPS, avx512::COINS, avx512::fused,
     avx512::DEALS, avx512::series_points, avx512::series_sum, avx512::LIFTS, avx512::STRIPS,
     avx512::COPIES, 23},
#endif
#ifdef __x86_64__
    RING_ENTRY(avx512, has_avx512),
    RING_ENTRY(avx2, ([]() -> bool { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi2"); })),
#endif
    RING_ENTRY(baseline, ([]() -> bool { return true; })),
};

const Level* best_level() {
#ifdef __x86_64__
    __builtin_cpu_init();
#endif
    const Level* level = LEVELS;
    while (!level->usable()) ++level;
    return level;
}

}  // namespace
