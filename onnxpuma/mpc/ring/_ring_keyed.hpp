// Products with a matrix that lies nowhere: its packed words are the stream of a key, made a tile at a time.

#pragma once

#include <chrono>

#include "_ring_keys.hpp"
#include "_ring_packed.hpp"

namespace {

// A tile stays in the second-level cache until it is multiplied. Its rows are whole steps of the stream.
constexpr ptrdiff_t TILE_ROWS = 64, TILE_COLUMNS = 384, TILE_MARGIN = 128;

bool makes_streams(const Level& level) { return level.fused(64) && has_vector_aes(); }

bool serves_keyed(ptrdiff_t rows, int bits) {
    const Level& level = *current.load();
    return makes_streams(level) && level.fused(bits) && rows <= level.fused_rows;
}

// out += a @ b as in PackedProduct, for widths that a fused kernel serves.
template <class W> struct KeyedProduct : PackedProduct<W> {
    const RoundKeys& keys;
    uint64_t index;

    // The seconds that the stream took, of all threads.
    double run() const {
        const auto& b = this->b;
        if (this->rows == 0 || b.rows == 0 || b.columns == 0) return 0;
        const Fused& fused = *current.load()->fused(b.bits);
        const ptrdiff_t depth = this->depth(), unit = b.turned ? TILE_ROWS : TILE_COLUMNS;
        const ptrdiff_t deep = std::min(depth, b.turned ? TILE_COLUMNS : TILE_ROWS), pieces = (depth + deep - 1) / deep;
        const ptrdiff_t room = (fused.room(std::min(ROWS_AT_ONCE, this->rows), deep, b.turned) + 63) / 64 * 64;
        const Room left(size_t(pieces * room));
        std::atomic<int64_t> nanoseconds{0};
        for (ptrdiff_t m = 0; m < this->rows; m += ROWS_AT_ONCE) {
            const ptrdiff_t some = std::min(ROWS_AT_ONCE, this->rows - m);
            for (ptrdiff_t i = 0; i < pieces; ++i)
                fused.arrange(this->a.at + m * this->a.row + i * deep, this->a.row, some,
                              std::min(deep, depth - i * deep), b.turned, left.at() + i * room);
            share_out_columns(this->products(some), this->columns(), unit, [&](ptrdiff_t first, ptrdiff_t last) {
                const Room words(size_t(TILE_ROWS * TILE_COLUMNS * b.bits / 8 + TILE_MARGIN));
                for (ptrdiff_t n = first; n < last; n += unit)
                    for (ptrdiff_t i = 0; i < pieces; ++i) {
                        const ptrdiff_t k = i * deep, wide = std::min(unit, last - n), high = std::min(deep, depth - k);
                        const auto began = std::chrono::steady_clock::now();
                        const Packed tile = b.turned ? made(n, k, wide, high, words) : made(k, n, high, wide, words);
                        const auto spent = std::chrono::steady_clock::now() - began;
                        nanoseconds += std::chrono::duration_cast<std::chrono::nanoseconds>(spent).count();
                        fused.multiply(tile, left.at() + i * room, some, this->out + m * this->out_row + n,
                                       this->out_row, 0, wide);
                    }
            });
        }
        return 1e-9 * double(nanoseconds);
    }

    // Rows [i, i + rows) and columns [j, j + columns) of b. A load may reach beyond its last word.
    Packed made(ptrdiff_t i, ptrdiff_t j, ptrdiff_t rows, ptrdiff_t columns, const Room& to) const {
        const ptrdiff_t size = this->b.bits / 8, across = this->b.columns;
        if (columns == across)
            key_stream_from(keys, index, i * across * size, to.at(), rows * columns * size);
        else
            for (ptrdiff_t r = 0; r < rows; ++r)
                key_stream_from(keys, index, ((i + r) * across + j) * size, to.at() + r * columns * size,
                                columns * size);
        return {to.at(), rows * columns * size + TILE_MARGIN, rows, columns, this->b.bits, this->b.turned};
    }
};

template <class W>
double run_keyed(const Py_buffer& out, const Py_buffer& a, const Packed& b, const RoundKeys& keys, uint64_t index) {
    return KeyedProduct<W>{packed_product<W>(out, a, b), keys, index}.run();
}

}  // namespace
