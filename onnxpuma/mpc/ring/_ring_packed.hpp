// Products with a matrix that lies packed, out += a @ b or a @ b.T, shared out to threads.

#pragma once

#include <Python.h>

#include <memory>

#include "_ring_product.hpp"

namespace {

constexpr ptrdiff_t ROWS_AT_ONCE = 64;        // of a, that are arranged for the fused kernels
constexpr ptrdiff_t WORDS_AT_ONCE = 1 << 15;  // unpacked where no fused kernel serves: they stay in the cache

// work(first, last) for ranges of the columns of a result, each a multiple of `unit` but for the last.
template <class Work>
void share_out_columns(double products, ptrdiff_t columns, ptrdiff_t unit, const Work& work) {
    const ptrdiff_t threads = threads_for(products / 1e6), parts = threads > 1 ? 4 * threads : 1;
    const ptrdiff_t step = even_step(columns, (columns + parts - 1) / parts, unit);
    share_out((columns + step - 1) / step, threads,
              [&](ptrdiff_t i) { work(i * step, std::min(columns, (i + 1) * step)); });
}

// Room for rows of a factor that fused kernels arrange, or for what they multiply it with.
class Room {
public:
    explicit Room(size_t bytes) : at_(std::aligned_alloc(64, (bytes + 63) / 64 * 64), std::free) {
        if (!at_) throw std::bad_alloc();
    }
    uint8_t* at() const { return static_cast<uint8_t*>(at_.get()); }

private:
    std::unique_ptr<void, void (*)(void*)> at_;
};

// out (rows x columns of the result) += a @ b; W is the word of out and a.
template <class W> struct PackedProduct {
    Packed b;
    Matrix<W> a;
    W* out;
    ptrdiff_t out_row, rows;

    ptrdiff_t columns() const { return b.turned ? b.rows : b.columns; }
    ptrdiff_t depth() const { return b.turned ? b.columns : b.rows; }
    double products(ptrdiff_t some_rows) const { return double(some_rows) * double(b.rows) * double(b.columns); }

    void run() const {
        if (rows == 0 || b.rows == 0 || b.columns == 0) return;
        const Level& level = *current.load();
        const Fused* fused = rows <= level.fused_rows ? level.fused(b.bits) : nullptr;
        if (!fused) {
            share_out_columns(products(rows), columns(), 64,
                              [&](ptrdiff_t first, ptrdiff_t last) { unpacked(level, first, last); });
            return;
        }
        const Room left(size_t(fused->room(std::min(ROWS_AT_ONCE, rows), depth(), b.turned)));
        for (ptrdiff_t m = 0; m < rows; m += ROWS_AT_ONCE) {
            const ptrdiff_t some = std::min(ROWS_AT_ONCE, rows - m);
            fused->arrange(a.at + m * a.row, a.row, some, depth(), b.turned, left.at());
            share_out_columns(products(some), columns(), 64, [&](ptrdiff_t first, ptrdiff_t last) {
                fused->multiply(b, left.at(), some, out + m * out_row, out_row, first, last);
            });
        }
    }

    // Columns [first, last) of the result: blocks of b become words, and each is multiplied as a matrix.
    void unpacked(const Level& level, ptrdiff_t first, ptrdiff_t last) const {
        const ptrdiff_t top = b.turned ? first : 0, bottom = b.turned ? last : b.rows;
        const ptrdiff_t start = b.turned ? 0 : first, stop = b.turned ? b.columns : last;
        const ptrdiff_t width = std::min(WORDS_AT_ONCE, stop - start);
        const ptrdiff_t height = std::min(WORDS_AT_ONCE / width, bottom - top);
        std::vector<W> words(size_t(height * width + 8)), row(size_t(width + 8));
        for (ptrdiff_t n = start; n < stop; n += width)
            for (ptrdiff_t i = top; i < bottom; i += height) {
                const ptrdiff_t some = std::min(height, bottom - i), wide = std::min(width, stop - n);
                Matrix<W> block = {words.data(), wide, 1};
                if (wide == b.columns)
                    block.at += unpack(level, i * wide, some * wide, words.data());
                else
                    for (ptrdiff_t r = 0; r < some; ++r) {
                        const ptrdiff_t before = unpack(level, (i + r) * b.columns + n, wide, row.data());
                        std::memcpy(&words[size_t(r * wide)], &row[size_t(before)], size_t(wide) * sizeof(W));
                    }
                if (b.turned)
                    gemm(level, a.from(0, n), block.transposed(), out + i, out_row, {rows, some, wide}, true);
                else
                    gemm(level, a.from(0, i), block, out + n, out_row, {rows, wide, some}, true);
            }
    }

    // Word `start` and `count` - 1 more, after those (whose number is returned) since a word that begins a byte.
    ptrdiff_t unpack(const Level& level, ptrdiff_t start, ptrdiff_t count, W* to) const {
        const ptrdiff_t before = start % 8, words = count + before;
        level.unpack(b.at + start / 8 * b.bits, (words * b.bits + 7) / 8, int(sizeof(W)), b.bits,
                     reinterpret_cast<uint8_t*>(to), words * ptrdiff_t(sizeof(W)));
        return before;
    }
};

// Whether a, out and the packed words fit together; `shape` is that of the matrix that lies packed.
bool fits(const Py_buffer& out, const Py_buffer& a, const Packed& b) {
    const ptrdiff_t size = out.itemsize, depth = b.turned ? b.columns : b.rows, columns = b.turned ? b.rows : b.columns;
    return size == (b.bits <= 32 ? 4 : 8) && a.itemsize == size && out.ndim == 2 && a.ndim == 2 && b.bits >= 1 &&
           b.bits <= 64 && b.rows >= 0 && b.columns >= 0 && b.bytes == b.size() &&
           a.shape[0] == out.shape[0] && a.shape[1] == depth && out.shape[1] == columns &&
           (out.strides[1] == size || columns <= 1) && (a.strides[1] == size || depth <= 1) &&
           out.strides[0] % size == 0 && a.strides[0] % size == 0;
}

template <class W> PackedProduct<W> packed_product(const Py_buffer& out, const Py_buffer& a, const Packed& b) {
    constexpr ptrdiff_t size = sizeof(W);
    return {b, {static_cast<const W*>(a.buf), a.strides[0] / size, 1}, static_cast<W*>(out.buf), out.strides[0] / size,
            out.shape[0]};
}

}  // namespace
