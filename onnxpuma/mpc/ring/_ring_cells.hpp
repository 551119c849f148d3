// Arrays of words of any size, and what the steps of _ring_series.hpp read of them.

#pragma once

#include <cstddef>
#include <cstdint>

namespace {

// Words of any size, read as 64 bits.
struct Cells {
    char* at;
    ptrdiff_t size, count;

    uint64_t operator[](ptrdiff_t i) const {
        switch (size) {
        case 1: return reinterpret_cast<const uint8_t*>(at)[i];
        case 2: return reinterpret_cast<const uint16_t*>(at)[i];
        case 4: return reinterpret_cast<const uint32_t*>(at)[i];
        default: return reinterpret_cast<const uint64_t*>(at)[i];
        }
    }
};

// ---- series (mpc/protocols/fourier.py)

// Angles as words, 2^bits to a turn, and cosines and sines of all of them in pairs, signed numbers of `size` bytes.
struct Angles {
    Cells words;
    const void* table;
    ptrdiff_t size;
    uint32_t mask;
};

// Cosines and sines of harmonic h, rounded to `less` bits less, are rows 2 h and 2 h + 1 of `out`.
struct Points {
    Angles angles;
    const int64_t *multiples, *less;
    ptrdiff_t harmonics;
    Cells out;
};

struct Harmonic {
    int64_t multiple, cosine, sine, up;
};

// sum += the dealt cosines and sines of each harmonic times their factors of this party's angle; `extra` fraction bits
// of the coefficients are rounded away.
struct Series {
    Angles angles;
    const Harmonic* harmonics;
    ptrdiff_t count;
    int extra;
    const Cells* dealt;
    Cells sum;
};

// ---- lifts (mpc/protocols/truncate.py)

// From `bits` bits to the words of the result, which have `carry` bits more; the arrays of a step, of one length.
struct Lift {
    int bits, carry;
    bool u;
    const Cells* arrays;
};

}  // namespace
