// The product of two matrices of ring words on AMX tiles: words are cut into bytes, and byte matrices multiplied.
//
// With A = sum of A_i 256^i and B alike, A B mod 2^w is the sum over i + j < w / 8 of A_i B_j 256^(i + j). A tile
// instruction multiplies 16 x 64 by 64 x 16 bytes and adds up 32 bits. Of the sum over i + j = s only the low w - 8 s
// bits count: from s = 4 on a sum may wrap, and before that MOST_STEPS keeps it from doing so.

#pragma once

#if defined(__x86_64__) && defined(__linux__) && defined(__GNUC__) && __GNUC__ >= 11
#define RING_HAS_TILES

#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>

#define RING_TILES  \
    __attribute__((  \
        target("amx-tile,amx-int8,avx512f,avx512bw,avx512cd,avx512dq,avx512vl,avx512vbmi,avx2,bmi,bmi2")))

namespace tiles {

constexpr ptrdiff_t EDGE = 16, STEP = 64;  // rows and columns of a tile of sums; depth that one instruction takes
constexpr ptrdiff_t SIDE = 2 * EDGE;       // a block of sums is two by two tiles
constexpr ptrdiff_t TILE_BYTES = EDGE * STEP;
constexpr ptrdiff_t MOST_ROWS = 128, MOST_STEPS = 16;
template <class W> constexpr int LIMBS = int(sizeof(W));
template <class W> constexpr ptrdiff_t PANEL = LIMBS<W> * SIDE * STEP;  // bytes of one step of a panel

static_assert(4 * MOST_STEPS * STEP * 255 * 255 < (int64_t(1) << 32), "sums of four limbs wrap");

struct Room {
    uint8_t* left;   // [row block][step][limb][2][16 rows][64]
    uint8_t* right;  // [step][limb][2][16 groups of 4][16 columns][4]
    uint32_t* sums;  // [limb sum][2][2][16][16]
};

inline Room room() {
    constexpr size_t left = size_t(MOST_ROWS) * MOST_STEPS * STEP * 8, right = size_t(SIDE) * MOST_STEPS * STEP * 8;
    struct Kept {
        uint8_t* at = static_cast<uint8_t*>(std::aligned_alloc(4096, left + right + 8 * 4 * TILE_BYTES));
        ~Kept() { std::free(at); }
    };
    thread_local Kept kept;
    if (!kept.at) throw std::bad_alloc();
    return {kept.at, kept.at + left, reinterpret_cast<uint32_t*>(kept.at + left + right)};
}

// ---- from words to bytes

// Four vectors of four lanes of 128 bits, transposed.
struct Quarters {
    __m512i at[4];
};
RING_TILES inline Quarters turned(__m512i a, __m512i b, __m512i c, __m512i d) {
    const __m512i low = _mm512_shuffle_i64x2(a, b, 0x44), high = _mm512_shuffle_i64x2(a, b, 0xEE);
    const __m512i low2 = _mm512_shuffle_i64x2(c, d, 0x44), high2 = _mm512_shuffle_i64x2(c, d, 0xEE);
    return {{_mm512_shuffle_i64x2(low, low2, 0x88), _mm512_shuffle_i64x2(low, low2, 0xDD),
             _mm512_shuffle_i64x2(high, high2, 0x88), _mm512_shuffle_i64x2(high, high2, 0xDD)}};
}

// Byte i of each of 64 words, in their order, to `to + i * apart`; `last` permutes the bytes of each store.
RING_TILES inline void planes(const __m512i (&word)[8], uint8_t* to, ptrdiff_t apart, const __m512i* last) {
    // Within a vector: byte j of word w from place 8 w + j to 8 j + w.
    const __m512i order = _mm512_set_epi8(
        63, 55, 47, 39, 31, 23, 15, 7, 62, 54, 46, 38, 30, 22, 14, 6, 61, 53, 45, 37, 29, 21, 13, 5, 60, 52, 44, 36,
        28, 20, 12, 4, 59, 51, 43, 35, 27, 19, 11, 3, 58, 50, 42, 34, 26, 18, 10, 2, 57, 49, 41, 33, 25, 17, 9, 1, 56,
        48, 40, 32, 24, 16, 8, 0);
    __m512i a[8], b[8];
    for (int t = 0; t < 8; ++t) a[t] = _mm512_permutexvar_epi8(order, word[t]);
    // Then eight vectors of eight lanes are transposed.
    for (int t = 0; t < 8; t += 2) {
        b[t] = _mm512_unpacklo_epi64(a[t], a[t + 1]);      // lanes 0 2 4 6 of both
        b[t + 1] = _mm512_unpackhi_epi64(a[t], a[t + 1]);  // lanes 1 3 5 7
    }
    for (int odd = 0; odd < 2; ++odd) {
        const Quarters q = turned(b[odd], b[2 + odd], b[4 + odd], b[6 + odd]);
        for (int i = 0; i < 4; ++i) a[2 * i + odd] = q.at[i];
    }
    for (int i = 0; i < 8; ++i)
        _mm512_store_si512(to + i * apart, last ? _mm512_permutexvar_epi8(*last, a[i]) : a[i]);
}

// The same of 64 words of 32 bits.
RING_TILES inline void planes(const __m512i (&word)[4], uint8_t* to, ptrdiff_t apart, const __m512i* last) {
    const __m512i order = _mm512_set_epi8(
        63, 59, 55, 51, 47, 43, 39, 35, 31, 27, 23, 19, 15, 11, 7, 3, 62, 58, 54, 50, 46, 42, 38, 34, 30, 26, 22, 18,
        14, 10, 6, 2, 61, 57, 53, 49, 45, 41, 37, 33, 29, 25, 21, 17, 13, 9, 5, 1, 60, 56, 52, 48, 44, 40, 36, 32, 28,
        24, 20, 16, 12, 8, 4, 0);
    __m512i a[4];
    for (int t = 0; t < 4; ++t) a[t] = _mm512_permutexvar_epi8(order, word[t]);
    const Quarters q = turned(a[0], a[1], a[2], a[3]);
    for (int i = 0; i < 4; ++i)
        _mm512_store_si512(to + i * apart, last ? _mm512_permutexvar_epi8(*last, q.at[i]) : q.at[i]);
}

template <class W> constexpr int VECTORS = int(STEP * sizeof(W) / 64);

// Four words of each of two columns, or of four; `column` words from one to the next.
RING_TILES inline __m512i columns_of(const uint64_t* from, ptrdiff_t column) {
    const __m256i first = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
    const __m256i second = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from + column));
    return _mm512_inserti64x4(_mm512_castsi256_si512(first), second, 1);
}
RING_TILES inline __m512i columns_of(const uint32_t* from, ptrdiff_t column) {
    __m512i all = _mm512_castsi128_si512(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
    all = _mm512_inserti32x4(all, _mm_loadu_si128(reinterpret_cast<const __m128i*>(from + column)), 1);
    all = _mm512_inserti32x4(all, _mm_loadu_si128(reinterpret_cast<const __m128i*>(from + 2 * column)), 2);
    return _mm512_inserti32x4(all, _mm_loadu_si128(reinterpret_cast<const __m128i*>(from + 3 * column)), 3);
}

// `rows` rows of a (SIDE at most) from column k on, `steps` steps, the last one filled up with zeros.
template <class W>
RING_TILES void pack_left(Matrix<W> a, ptrdiff_t rows, ptrdiff_t depth, ptrdiff_t steps, uint8_t* to) {
    if (rows < SIDE) std::memset(to, 0, size_t(steps * PANEL<W>));
    for (ptrdiff_t r = 0; r < rows; ++r) {
        uint8_t* at = to + r / EDGE * TILE_BYTES + r % EDGE * STEP;
        for (ptrdiff_t k = 0; k < steps * STEP; k += STEP, at += PANEL<W>) {
            const W* from = a.at + r * a.row + k * a.column;
            const ptrdiff_t count = std::min(STEP, depth - k);
            alignas(64) W side[STEP];
            if (a.column != 1 || count < STEP) {
                for (ptrdiff_t t = 0; t < count; ++t) side[t] = from[t * a.column];
                for (ptrdiff_t t = count; t < STEP; ++t) side[t] = 0;
                from = side;
            }
            __m512i word[VECTORS<W>];
            for (int v = 0; v < VECTORS<W>; ++v) word[v] = _mm512_loadu_si512(from + v * 64 / sizeof(W));
            planes(word, at, 2 * TILE_BYTES, nullptr);
        }
    }
}

// `columns` columns of b (SIDE at most); four rows of b stand beside one another in a row of a tile.
template <class W>
RING_TILES void pack_right(Matrix<W> b, ptrdiff_t columns, ptrdiff_t depth, ptrdiff_t steps, uint8_t* to) {
    // From four rows of sixteen columns to sixteen columns of four rows.
    alignas(64) uint8_t turn[64];
    for (int j = 0; j < 64; ++j) turn[j] = uint8_t(j % 4 * 16 + j / 4);
    const __m512i turned = _mm512_load_si512(turn);
    for (ptrdiff_t k = 0; k < steps * STEP; k += STEP, to += PANEL<W>)
        for (ptrdiff_t n = 0; n < SIDE; n += EDGE)
            for (ptrdiff_t r = 0; r < STEP; r += 4) {
                uint8_t* at = to + n / EDGE * TILE_BYTES + r * EDGE;
                const ptrdiff_t width = std::min(EDGE, columns - n), height = std::min<ptrdiff_t>(4, depth - k - r);
                const W* from = b.at + (k + r) * b.row + n * b.column;
                __m512i word[VECTORS<W>];
                if (width == EDGE && height == 4 && b.column == 1) {
                    constexpr int a_row = VECTORS<W> / 4;
                    for (int v = 0; v < VECTORS<W>; ++v)
                        word[v] = _mm512_loadu_si512(from + v / a_row * b.row + v % a_row * 64 / sizeof(W));
                    planes(word, at, 2 * TILE_BYTES, &turned);
                    continue;
                }
                if (width == EDGE && height == 4 && b.row == 1) {
                    for (int v = 0; v < VECTORS<W>; ++v)
                        word[v] = columns_of(from + v * EDGE / VECTORS<W> * b.column, b.column);
                    planes(word, at, 2 * TILE_BYTES, nullptr);
                    continue;
                }
                alignas(64) W side[STEP] = {};  // [column][row]
                for (ptrdiff_t j = 0; j < width; ++j)
                    for (ptrdiff_t t = 0; t < height; ++t) side[4 * j + t] = from[t * b.row + j * b.column];
                for (int v = 0; v < VECTORS<W>; ++v) word[v] = _mm512_load_si512(side + v * 64 / sizeof(W));
                planes(word, at, 2 * TILE_BYTES, nullptr);
            }
}

// ---- products of tiles

// sums[s] = the sum over i + j = s of A_i B_j, for a block of two by two tiles, or of one by two.
template <class W, bool BOTH>
RING_TILES void multiply(const uint8_t* left, const uint8_t* right, ptrdiff_t steps, uint32_t* sums) {
    for (int s = 0; s < LIMBS<W>; ++s) {
        _tile_zero(0);
        _tile_zero(1);
        _tile_zero(2);
        _tile_zero(3);
        for (ptrdiff_t k = 0; k < steps; ++k)
            for (int i = 0; i <= s; ++i) {
                const uint8_t* a = left + k * PANEL<W> + i * 2 * TILE_BYTES;
                const uint8_t* b = right + k * PANEL<W> + (s - i) * 2 * TILE_BYTES;
                _tile_loadd(4, a, 64);
                _tile_loadd(6, b, 64);
                _tile_loadd(7, b + TILE_BYTES, 64);
                _tile_dpbuud(0, 4, 6);
                _tile_dpbuud(1, 4, 7);
                if (!BOTH) continue;
                _tile_loadd(5, a + TILE_BYTES, 64);
                _tile_dpbuud(2, 5, 6);
                _tile_dpbuud(3, 5, 7);
            }
        uint32_t* to = sums + s * SIDE * SIDE;
        _tile_stored(0, to, 64);
        _tile_stored(1, to + EDGE * EDGE, 64);
        if (!BOTH) continue;
        _tile_stored(2, to + 2 * EDGE * EDGE, 64);
        _tile_stored(3, to + 3 * EDGE * EDGE, 64);
    }
}

// Sixteen words of the block, from its sums: the upper half of a word needs no more than 32 bits.
RING_TILES inline __m512i part(const uint32_t* sums, int s) { return _mm512_load_si512(sums + s * SIDE * SIDE); }

RING_TILES inline __m512i four(const uint32_t* sums, int s) {
    const __m512i one = _mm512_add_epi32(part(sums, s), _mm512_slli_epi32(part(sums, s + 1), 8));
    const __m512i two = _mm512_slli_epi32(part(sums, s + 2), 16), three = _mm512_slli_epi32(part(sums, s + 3), 24);
    return _mm512_add_epi32(one, _mm512_add_epi32(two, three));
}

RING_TILES inline __m512i widened(__m512i x, int half) {
    return _mm512_cvtepu32_epi64(half ? _mm512_extracti64x4_epi64(x, 1) : _mm512_castsi512_si256(x));
}

RING_TILES inline void put(const uint32_t* sums, uint32_t* c, bool add, ptrdiff_t count) {
    const __mmask16 mask = __mmask16((1u << count) - 1);
    const __m512i made = four(sums, 0);
    _mm512_mask_storeu_epi32(c, mask, add ? _mm512_add_epi32(made, _mm512_maskz_loadu_epi32(mask, c)) : made);
}

RING_TILES inline void put(const uint32_t* sums, uint64_t* c, bool add, ptrdiff_t count) {
    const __m512i upper = four(sums, 4);
    for (int half = 0; half < 2; ++half) {
        const ptrdiff_t here = std::max<ptrdiff_t>(0, std::min<ptrdiff_t>(8, count - 8 * half));
        const __mmask8 mask = __mmask8((1u << here) - 1);
        __m512i made = _mm512_slli_epi64(widened(upper, half), 32);
        for (int s = 0; s < 4; ++s)
            made = _mm512_add_epi64(made, _mm512_slli_epi64(widened(part(sums, s), half), 8 * s));
        uint64_t* to = c + 8 * half;
        _mm512_mask_storeu_epi64(to, mask, add ? _mm512_add_epi64(made, _mm512_maskz_loadu_epi64(mask, to)) : made);
    }
}

template <class W>
RING_TILES void gather(const uint32_t* sums, W* c, ptrdiff_t c_row, ptrdiff_t rows, ptrdiff_t columns, bool add) {
    for (ptrdiff_t r = 0; r < rows; ++r)
        for (ptrdiff_t n = 0; n < columns; n += EDGE)
            put(sums + (r / EDGE * 2 + n / EDGE) * EDGE * EDGE + r % EDGE * EDGE, c + r * c_row + n, add,
                std::min(EDGE, columns - n));
}

RING_TILES inline void open() {
    struct alignas(64) {
        uint8_t palette = 1, start = 0, reserved[14] = {};
        uint16_t bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
        uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
    } shape;
    _tile_loadconfig(&shape);
}

// Whether cutting words into bytes pays: few rows use what was cut too seldom, and what fills up the last tiles is
// computed in vain.
inline bool pays(Size size) {
    const auto whole = [](ptrdiff_t length, ptrdiff_t unit) { return double((length + unit - 1) / unit * unit); };
    const double filled = whole(size.rows, EDGE) * whole(size.columns, SIDE) * whole(size.depth, STEP);
    return size.rows >= 24 && filled <= 2.5 * double(size.rows) * double(size.columns) * double(size.depth);
}

// c = a @ b, or c += a @ b where `add`, as the `gemm` of a level.
template <class W> RING_TILES void gemm(Matrix<W> a, Matrix<W> b, W* c, ptrdiff_t c_row, Size size, bool add) {
    if (!pays(size)) return avx512::gemm(a, b, c, c_row, size, add);
    const Room at = room();
    open();
    for (ptrdiff_t k = 0; k < size.depth; k += MOST_STEPS * STEP) {
        const ptrdiff_t depth = std::min(MOST_STEPS * STEP, size.depth - k), steps = (depth + STEP - 1) / STEP;
        for (ptrdiff_t m = 0; m < size.rows; m += MOST_ROWS) {
            const ptrdiff_t rows = std::min(MOST_ROWS, size.rows - m);
            for (ptrdiff_t r = 0; r < rows; r += SIDE)
                pack_left(a.from(m + r, k), std::min(SIDE, rows - r), depth, steps,
                          at.left + r / SIDE * steps * PANEL<W>);
            for (ptrdiff_t n = 0; n < size.columns; n += SIDE) {
                const ptrdiff_t columns = std::min(SIDE, size.columns - n);
                pack_right(b.from(k, n), columns, depth, steps, at.right);
                for (ptrdiff_t r = 0; r < rows; r += SIDE) {
                    const uint8_t* left = at.left + r / SIDE * steps * PANEL<W>;
                    if (rows - r > EDGE)
                        multiply<W, true>(left, at.right, steps, at.sums);
                    else
                        multiply<W, false>(left, at.right, steps, at.sums);
                    gather(at.sums, c + (m + r) * c_row + n, c_row, std::min(SIDE, rows - r), columns, add || k);
                }
            }
        }
    }
    _tile_release();
}

// Whether the processor has tiles, and Linux lets this process use them (since 5.16 it wants to be asked).
inline bool usable() {
    unsigned a, b, c, d;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return false;
    const bool vbmi = c >> 1 & 1, tile = d >> 24 & 1, int8 = d >> 25 & 1;
    constexpr long ask = 0x1023, tile_data = 18;  // ARCH_REQ_XCOMP_PERM
    return vbmi && tile && int8 && syscall(SYS_arch_prctl, ask, tile_data) == 0;
}

}  // namespace tiles
#endif
