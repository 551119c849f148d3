// Products of long words (long.py), elements of Z_2^128 in two arrays of halves, which broadcast as numpy's do.

#pragma once

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <cstdint>

namespace {

// A matrix of halves of long words; a stride of zero repeats a row or a column.
struct Halves {
    const char* at;
    ptrdiff_t row, column;
    uint64_t operator()(ptrdiff_t i, ptrdiff_t j) const {
        return *reinterpret_cast<const uint64_t*>(at + i * row + j * column);
    }
};

// Whether an array of up to two axes fills a matrix of this size, repeated where it has one row or column.
inline bool spread(const Py_buffer& from, ptrdiff_t rows, ptrdiff_t columns, Halves* to) {
    if (from.itemsize != 8 || from.ndim > 2) return false;
    ptrdiff_t size[2] = {1, 1}, stride[2] = {0, 0};
    for (int axis = 0; axis < from.ndim; ++axis) {
        const int place = axis + 2 - from.ndim;
        size[place] = from.shape[axis];
        stride[place] = from.shape[axis] == 1 ? 0 : from.strides[axis];
    }
    *to = {static_cast<const char*>(from.buf), stride[0], stride[1]};
    return (size[0] == rows || size[0] == 1) && (size[1] == columns || size[1] == 1);
}

#ifdef __SIZEOF_INT128__

constexpr bool HAS_LONG = true;

struct LongProduct {
    ptrdiff_t rows, columns;
    Halves left[2], right[2];
    uint64_t* out;  // low halves, then high ones
    bool total;     // a sum for each row

    void run() const {
        typedef unsigned __int128 Value;
        const ptrdiff_t plane = total ? rows : rows * columns;
        for (ptrdiff_t i = 0; i < rows; ++i) {
            Value sum = 0;
            for (ptrdiff_t j = 0; j < columns; ++j) {
                const Value a = left[0](i, j) | Value(left[1](i, j)) << 64;
                const Value product = a * (right[0](i, j) | Value(right[1](i, j)) << 64);
                sum += product;
                if (total) continue;
                out[i * columns + j] = uint64_t(product);
                out[plane + i * columns + j] = uint64_t(product >> 64);
            }
            if (total) out[i] = uint64_t(sum), out[plane + i] = uint64_t(sum >> 64);
        }
    }
};

#else

constexpr bool HAS_LONG = false;

struct LongProduct {
    ptrdiff_t rows, columns;
    Halves left[2], right[2];
    uint64_t* out;
    bool total;
    void run() const {}
};

#endif

}  // namespace
