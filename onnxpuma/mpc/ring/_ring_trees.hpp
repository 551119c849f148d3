// Trees of seeds along one path a row, as prefixes.py and seed_tree.py describe them: their dealer and their holders.
//
// A level of one row depends on the one before, so the blocks of a level go through AES side by side, and those of
// two rows with them. Nothing branches on a seed, a bit or a number.

#pragma once

#include "_ring_keys.hpp"

namespace {

enum Generator { LEFT, RIGHT, NUMBER, FACTOR, GENERATORS };

// Rows of numbers of `bits` bits, and the lengths of their prefixes in ascending order, of which the last is the
// depth. Arrays lie one row after the other. A value has two halves; numbers and factors have both: four arrays.
struct Tree {
    const uint8_t* keys;  // of the generators, 16 bytes each
    ptrdiff_t rows;
    int bits;
    const uint8_t* lengths;
    ptrdiff_t count;
    const uint64_t* path;       // (rows)
    const uint64_t* roots;      // (2, rows, 2) at the dealer, (rows, 2) at a holder
    uint64_t* corrections;      // (rows, depth, 2)
    const uint64_t* values[4];  // (rows, count): at the dealer its own, at a holder those that arrived
    uint64_t* out;              // (4, rows, count)
    int holder;                 // 0 or 1

    int depth() const { return lengths[count - 1]; }
};

#ifdef __x86_64__

typedef unsigned __int128 Value;

// AES(s) xor s of some blocks side by side.
template <int K> RING_BLOCK inline void expand(const BlockKeys* const* keys, const __m128i* seeds, __m128i* out) {
    __m128i state[K];
#pragma GCC unroll 8
    for (int i = 0; i < K; ++i) state[i] = _mm_xor_si128(seeds[i], keys[i]->at[0]);
#pragma GCC unroll 10
    for (int r = 1; r < AES_ROUNDS; ++r)
#pragma GCC unroll 8
        for (int i = 0; i < K; ++i) state[i] = _mm_aesenc_si128(state[i], keys[i]->at[r]);
#pragma GCC unroll 8
    for (int i = 0; i < K; ++i)
        out[i] = _mm_xor_si128(_mm_aesenclast_si128(state[i], keys[i]->at[AES_ROUNDS]), seeds[i]);
}

RING_BLOCK inline uint64_t low(__m128i x) { return uint64_t(_mm_cvtsi128_si64(x)); }
RING_BLOCK inline Value value(__m128i x) { return low(x) | Value(uint64_t(_mm_extract_epi64(x, 1))) << 64; }
RING_BLOCK inline __m128i without_controls(__m128i x) { return _mm_and_si128(x, _mm_set_epi64x(-1, -4)); }
RING_BLOCK inline __m128i where(uint64_t bit, __m128i x) { return _mm_and_si128(x, _mm_set1_epi64x(-int64_t(bit))); }
RING_BLOCK inline __m128i chosen(uint64_t bit, __m128i one, __m128i zero) {
    return _mm_xor_si128(zero, where(bit, _mm_xor_si128(one, zero)));
}
inline uint64_t chosen(uint64_t bit, uint64_t one, uint64_t zero) { return zero ^ ((one ^ zero) & -bit); }
inline Value opposed(Value x, uint64_t bit) { return (x ^ -Value(bit)) + bit; }

RING_BLOCK inline __m128i seed_at(const uint64_t* from) {
    return _mm_loadu_si128(reinterpret_cast<const __m128i*>(from));
}

struct Generators {
    BlockKeys of[GENERATORS];
    RING_BLOCK explicit Generators(const uint8_t* keys) {
        for (int g = 0; g < GENERATORS; ++g) of[g] = block_keys(keys + 16 * g);
    }
};

inline void store(const Tree& t, ptrdiff_t row, ptrdiff_t at, Value number, Value factor) {
    const ptrdiff_t plane = t.rows * t.count;
    uint64_t* to = t.out + row * t.count + at;
    to[0] = uint64_t(number), to[plane] = uint64_t(number >> 64);
    to[2 * plane] = uint64_t(factor), to[3 * plane] = uint64_t(factor >> 64);
}

inline Value given(const Tree& t, int which, ptrdiff_t place) {
    return t.values[2 * which][place] | Value(t.values[2 * which + 1][place]) << 64;
}

// What the dealer sends both holders: corrections of seeds and of values.
template <int R> RING_BLOCK void deal_rows(const Tree& t, const Generators& g, ptrdiff_t first) {
    const int depth = t.depth();
    const BlockKeys *sides[4 * R], *ends[4 * R];
    __m128i seeds[4 * R], grown[4 * R];  // of each row: both holders' for the left, both for the right
    uint64_t bits[R][2];
    for (int r = 0; r < R; ++r) {
        for (int h = 0; h < 2; ++h) {
            seeds[4 * r + h] = seeds[4 * r + 2 + h] = seed_at(t.roots + 2 * (h * t.rows + first + r));
            bits[r][h] = uint64_t(h);
            sides[4 * r + h] = &g.of[LEFT], sides[4 * r + 2 + h] = &g.of[RIGHT];
            ends[4 * r + h] = &g.of[NUMBER], ends[4 * r + 2 + h] = &g.of[FACTOR];
        }
    }
    for (int level = 0, next = 0; level < depth; ++level) {
        expand<4 * R>(sides, seeds, grown);
        for (int r = 0; r < R; ++r) {
            const uint64_t right = t.path[first + r] >> (t.bits - 1 - level) & 1;
            const __m128i *left = grown + 4 * r, *other = left + 2;
            const uint64_t left_fix = (low(left[0]) ^ low(left[1]) ^ right ^ 1) & 1;
            const uint64_t right_fix = (low(other[0]) ^ low(other[1]) ^ right) & 1;
            // holders must get equal children off the path, and different ones on it
            const __m128i lost = chosen(right, _mm_xor_si128(left[0], left[1]), _mm_xor_si128(other[0], other[1]));
            const __m128i fix = _mm_or_si128(without_controls(lost), _mm_set_epi64x(0, int64_t(left_fix | right_fix << 1)));
            _mm_storeu_si128(reinterpret_cast<__m128i*>(t.corrections + 2 * ((first + r) * depth + level)), fix);
            for (int h = 0; h < 2; ++h) {
                const __m128i child = chosen(right, other[h], left[h]);
                seeds[4 * r + h] = seeds[4 * r + 2 + h] =
                    without_controls(_mm_xor_si128(child, where(bits[r][h], fix)));
                bits[r][h] = (low(child) & 1) ^ (chosen(right, right_fix, left_fix) & bits[r][h]);
            }
        }
        if (level + 1 != t.lengths[next]) continue;
        expand<4 * R>(ends, seeds, grown);
        for (int r = 0; r < R; ++r) {
            Value fixed[2];
            for (int which = 0; which < 2; ++which) {
                const __m128i* blocks = grown + 4 * r + 2 * which;
                const Value wanted = given(t, which, (first + r) * t.count + next);
                fixed[which] = opposed(wanted - value(blocks[0]) + value(blocks[1]), bits[r][1]);
            }
            store(t, first + r, next, fixed[0], fixed[1]);
        }
        ++next;
    }
}

// A holder's shares of both values, at the prefixes of its number and at those next below added up.
template <int R> RING_BLOCK void walk_rows(const Tree& t, const Generators& g, ptrdiff_t first) {
    const int depth = t.depth();
    const BlockKeys *sides[3 * R], *ends[4 * R];
    __m128i seeds[3 * R], grown[4 * R], reached[4 * R];  // of each row: here to the left, to the right, below to the right
    uint64_t bits[R][2];                                 // here and below
    for (int r = 0; r < R; ++r) {
        for (int i = 0; i < 3; ++i) {
            seeds[3 * r + i] = seed_at(t.roots + 2 * (first + r));
            sides[3 * r + i] = &g.of[i == 0 ? LEFT : RIGHT];
        }
        for (int h = 0; h < 2; ++h) {
            bits[r][h] = uint64_t(t.holder);
            ends[4 * r + h] = &g.of[NUMBER], ends[4 * r + 2 + h] = &g.of[FACTOR];
        }
    }
    for (int level = 0, next = 0; level < depth; ++level) {
        expand<3 * R>(sides, seeds, grown);
        for (int r = 0; r < R; ++r) {
            const uint64_t right = t.path[first + r] >> (t.bits - 1 - level) & 1;
            const __m128i fix = seed_at(t.corrections + 2 * ((first + r) * depth + level));
            const uint64_t left_fix = low(fix) & 1, right_fix = low(fix) >> 1 & 1;
            const __m128i* found = grown + 3 * r;
            __m128i child[3];
            uint64_t bit[3];
            for (int i = 0; i < 3; ++i) {
                const uint64_t own = bits[r][i / 2];
                child[i] = without_controls(_mm_xor_si128(found[i], where(own, fix)));
                bit[i] = (low(found[i]) & 1) ^ ((i == 0 ? left_fix : right_fix) & own);
            }
            // the prefix before a right child is its left sibling, before a left one the cousin's right child
            seeds[3 * r] = seeds[3 * r + 1] = chosen(right, child[1], child[0]);
            seeds[3 * r + 2] = chosen(right, child[0], child[2]);
            bits[r][0] = chosen(right, bit[1], bit[0]), bits[r][1] = chosen(right, bit[0], bit[2]);
        }
        if (level + 1 != t.lengths[next]) continue;
        for (int r = 0; r < R; ++r)
            for (int i = 0; i < 4; ++i) reached[4 * r + i] = seeds[3 * r + 1 + i % 2];
        expand<4 * R>(ends, reached, grown);
        for (int r = 0; r < R; ++r) {
            Value total[2];
            for (int which = 0; which < 2; ++which) {
                const __m128i* blocks = grown + 4 * r + 2 * which;
                const Value fix = given(t, which, (first + r) * t.count + next);
                const Value sum = value(blocks[0]) + (fix & -Value(bits[r][0])) + value(blocks[1]) + (fix & -Value(bits[r][1]));
                total[which] = opposed(sum, uint64_t(t.holder));
            }
            store(t, first + r, next, total[0], total[1]);
        }
        ++next;
    }
}

RING_BLOCK inline void grow(const Tree& t, bool dealing) {
    const Generators g(t.keys);
    ptrdiff_t row = 0;
    for (; row + 2 <= t.rows; row += 2) dealing ? deal_rows<2>(t, g, row) : walk_rows<2>(t, g, row);
    if (row < t.rows) dealing ? deal_rows<1>(t, g, row) : walk_rows<1>(t, g, row);
}

#undef RING_BLOCK

#else

inline void grow(const Tree&, bool) {}

#endif

}  // namespace
