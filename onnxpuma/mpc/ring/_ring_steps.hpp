// Local steps of protocols on short arrays: what a party does between two messages, in one call.
//
// Where no kernel is built numpy does the same (carry.py, fallback.py).

#pragma once

#include <cstdint>
#include <cstring>

#include "_ring_levels.hpp"

namespace {

// ---- planes of bits

// out[target] ^= the AND of some rows, for each entry (target, number of rows, rows) of a program; whether all of them
// are there. `size` bytes a row.
inline bool xor_ands(uint8_t* out, ptrdiff_t outs, const uint8_t* const* rows, ptrdiff_t count, ptrdiff_t size,
                     const int32_t* program, ptrdiff_t length) {
    const int32_t* const end = program + length;
    for (const int32_t* at = program; at < end;) {
        if (end - at < 2 || at[0] < 0 || at[0] >= outs || at[1] < 0 || at[1] > end - at - 2) return false;
        for (int32_t i = 0; i < at[1]; ++i)
            if (at[2 + i] < 0 || at[2 + i] >= count) return false;
        at += 2 + at[1];
    }
    constexpr ptrdiff_t STEP = 512;
    for (ptrdiff_t start = 0; start < size; start += STEP) {
        const ptrdiff_t part = size - start < STEP ? size - start : STEP;
        for (const int32_t* at = program; at < end; at += 2 + at[1]) {
            uint8_t both[STEP];
            uint8_t* __restrict to = out + at[0] * size + start;
            std::memset(both, 255, size_t(part));
            for (int32_t i = 0; i < at[1]; ++i) {
                const uint8_t* __restrict row = rows[at[2 + i]] + start;
                for (ptrdiff_t j = 0; j < part; ++j) both[j] &= row[j];
            }
            for (ptrdiff_t j = 0; j < part; ++j) to[j] ^= both[j];
        }
    }
    return true;
}

// ---- carries of groups of bits (mpc/protocols/carry.py)

constexpr int MOST_GROUP = 10;  // bits of a group

// 64 words at a time: bit j of a plane belongs to word j.
struct Planes {
    uint64_t at[64];

    // Rows and columns of a matrix of eight bytes change places.
    static uint64_t turned(uint64_t x) {
        uint64_t t = (x ^ (x >> 7)) & 0x00AA00AA00AA00AAu;
        x ^= t ^ (t << 7);
        t = (x ^ (x >> 14)) & 0x0000CCCC0000CCCCu;
        x ^= t ^ (t << 14);
        t = (x ^ (x >> 28)) & 0x00000000F0F0F0F0u;
        return x ^ t ^ (t << 28);
    }

    // The lowest `bits` bits of words from `start` on, each less a number.
    Planes(const Cells& words, uint64_t less, ptrdiff_t start, int bits) : at() {
        for (int byte = 0; byte < 8 && start + 8 * byte < words.count; ++byte) {
            uint64_t eight[8] = {};
            for (int j = 0; j < 8 && start + 8 * byte + j < words.count; ++j) eight[j] = words[start + 8 * byte + j] - less;
            for (int q = 0; 8 * q < bits; ++q) {
                uint64_t x = 0;
                for (int j = 0; j < 8; ++j) x |= (eight[j] >> 8 * q & 255) << 8 * j;
                x = turned(x);
                for (int r = 0; r < 8; ++r) at[8 * q + r] |= (x >> 8 * r & 255) << 8 * byte;
            }
        }
    }
};

// Up to eight bytes of each row of a matrix of planes.
template <class Byte> struct Rows {
    Byte* at;
    ptrdiff_t size, start;
    size_t part;

    Rows(Byte* at, ptrdiff_t size, ptrdiff_t start)
        : at(at), size(size), start(start), part(size_t(size - start < 8 ? size - start : 8)) {}
    uint64_t operator[](ptrdiff_t row) const {
        uint64_t x = 0;
        std::memcpy(&x, at + row * size + start, part);
        return x;
    }
    void set(ptrdiff_t row, uint64_t x) const { std::memcpy(at + row * size + start, &x, part); }
};

// The products of all non-empty sets of each group's bits, and the top bit, xor the masks: (count, size).
inline void group_products(const Cells& words, const uint8_t* widths, ptrdiff_t groups, const uint8_t* masks,
                           uint8_t* out, ptrdiff_t size) {
    int bits = 1;
    for (ptrdiff_t g = 0; g < groups; ++g) bits += widths[g];
    for (ptrdiff_t start = 0; start < size; start += 8) {
        const Planes planes(words, 0, 8 * start, bits);
        const Rows<const uint8_t> mask(masks, size, start);
        const Rows<uint8_t> to(out, size, start);
        ptrdiff_t row = 0;
        const uint64_t* bit = planes.at;
        for (ptrdiff_t g = 0; g < groups; bit += widths[g++]) {
            uint64_t found[1 << MOST_GROUP];
            found[0] = ~uint64_t(0);
            for (int b = 0; b < widths[g]; ++b)
                for (int set = 0; set < 1 << b; ++set) found[(1 << b) + set] = found[set] & bit[b];
            for (int set = 1; set < 1 << widths[g]; ++set, ++row) to.set(row, found[set] ^ mask[row]);
        }
        to.set(row, *bit ^ mask[row]);
    }
}

// A twin's answers about A + b less a threshold, from shares of A's products: for each group whether it carries and
// whether it passes a carry on, then the xor of the top bits; (2 groups + 1, size).
inline void group_answers(const Cells& words, uint64_t less, const uint8_t* widths, ptrdiff_t groups,
                          const uint8_t* shares, bool u, uint8_t* out, ptrdiff_t size) {
    int bits = 1;
    for (ptrdiff_t g = 0; g < groups; ++g) bits += widths[g];
    for (ptrdiff_t start = 0; start < size; start += 8) {
        const Planes planes(words, less, 8 * start, bits);
        const Rows<const uint8_t> share(shares, size, start);
        const Rows<uint8_t> to(out, size, start);
        ptrdiff_t row = 0;
        const uint64_t* bit = planes.at;
        for (ptrdiff_t g = 0; g < groups; bit += widths[g++]) {
            const int sets = 1 << widths[g];
            uint64_t rest[1 << MOST_GROUP], passes[1 << MOST_GROUP], carries[1 << MOST_GROUP];
            rest[0] = passes[0] = u ? ~uint64_t(0) : 0;
            for (int set = 1; set < sets; ++set, ++row) rest[set] = passes[set] = share[row];
            carries[0] = 0;
            for (int b = 0, left = sets / 2; b < widths[g]; ++b, left /= 2)
                for (int i = 0; i < left; ++i) {
                    const uint64_t both = rest[2 * i + 1] & bit[b];
                    carries[i] = b ? (carries[2 * i] & bit[b]) ^ carries[2 * i + 1] ^ both : both;
                    passes[i] = (passes[2 * i] & bit[b]) ^ passes[2 * i + 1];
                    rest[i] = rest[2 * i];
                }
            to.set(2 * g, carries[0]);
            to.set(2 * g + 1, passes[0]);
        }
        to.set(2 * groups, share[row] ^ (u ? *bit : 0));
    }
}

}  // namespace
