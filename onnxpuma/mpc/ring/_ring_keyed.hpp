// Products with a matrix that is made a tile at a time: its packed words are the stream of a key, or the blend of two
// components, each of which lies in memory or is such a stream.

#pragma once

#include <chrono>

#include "_ring_keys.hpp"
#include "_ring_packed.hpp"

namespace {

// A tile stays in the second-level cache until it is multiplied. Its rows are whole steps of the stream.
constexpr ptrdiff_t TILE_ROWS = 64, TILE_COLUMNS = 384, TILE_MARGIN = 128;
constexpr ptrdiff_t BLEND_WORDS = 384;  // of each component at a time: they stay in the first-level cache

bool makes_streams(const Level& level) { return level.fused(64) && has_vector_aes(); }

bool serves_keyed(ptrdiff_t rows, int bits) {
    const Level& level = *current.load();
    return makes_streams(level) && level.fused(bits) && rows <= level.fused_rows;
}

// The time that threads spend, together.
class Clock {
public:
    template <class Work> void measure(const Work& work) {
        const auto began = std::chrono::steady_clock::now();
        work();
        const auto spent = std::chrono::steady_clock::now() - began;
        nanoseconds_ += std::chrono::duration_cast<std::chrono::nanoseconds>(spent).count();
    }
    double seconds() const { return 1e-9 * double(nanoseconds_); }

private:
    std::atomic<int64_t> nanoseconds_{0};
};

// A matrix of packed words that are made where they are needed; `words` has room for a tile and its margin.
class Maker {
public:
    // `count` words from word `start` on, to `to`; `side` has room for BLEND_WORDS words of two components.
    virtual void make(ptrdiff_t start, ptrdiff_t count, uint8_t* to, uint8_t* side) const = 0;

protected:
    ~Maker() = default;
};

// out += a @ b as in PackedProduct, for widths that a fused kernel serves.
template <class W> struct TiledProduct : PackedProduct<W> {
    const Maker& maker;

    void run() const {
        const auto& b = this->b;
        if (this->rows == 0 || b.rows == 0 || b.columns == 0) return;
        const Fused& fused = *current.load()->fused(b.bits);
        const ptrdiff_t depth = this->depth(), unit = b.turned ? TILE_ROWS : TILE_COLUMNS;
        const ptrdiff_t deep = std::min(depth, b.turned ? TILE_COLUMNS : TILE_ROWS), pieces = (depth + deep - 1) / deep;
        const ptrdiff_t room = (fused.room(std::min(ROWS_AT_ONCE, this->rows), deep, b.turned) + 63) / 64 * 64;
        const Room left(size_t(pieces * room));
        for (ptrdiff_t m = 0; m < this->rows; m += ROWS_AT_ONCE) {
            const ptrdiff_t some = std::min(ROWS_AT_ONCE, this->rows - m);
            for (ptrdiff_t i = 0; i < pieces; ++i)
                fused.arrange(this->a.at + m * this->a.row + i * deep, this->a.row, some,
                              std::min(deep, depth - i * deep), b.turned, left.at() + i * room);
            share_out_columns(this->products(some), this->columns(), unit, [&](ptrdiff_t first, ptrdiff_t last) {
                const Room words(size_t(TILE_ROWS * TILE_COLUMNS * b.bits / 8 + TILE_MARGIN));
                const Room side(size_t(2 * BLEND_WORDS * b.bits / 8));
                for (ptrdiff_t n = first; n < last; n += unit)
                    for (ptrdiff_t i = 0; i < pieces; ++i) {
                        const ptrdiff_t k = i * deep, wide = std::min(unit, last - n), high = std::min(deep, depth - k);
                        const Packed tile = b.turned ? made(n, k, wide, high, words.at(), side.at())
                                                     : made(k, n, high, wide, words.at(), side.at());
                        fused.multiply(tile, left.at() + i * room, some, this->out + m * this->out_row + n,
                                       this->out_row, 0, wide);
                    }
            });
        }
    }

    // Rows [i, i + rows) and columns [j, j + columns) of b. A load may reach beyond its last word.
    Packed made(ptrdiff_t i, ptrdiff_t j, ptrdiff_t rows, ptrdiff_t columns, uint8_t* to, uint8_t* side) const {
        const ptrdiff_t size = this->b.bits / 8, across = this->b.columns;
        if (columns == across)
            maker.make(i * across, rows * columns, to, side);
        else
            for (ptrdiff_t r = 0; r < rows; ++r) maker.make((i + r) * across + j, columns, to + r * columns * size, side);
        return {to, rows * columns * size + TILE_MARGIN, rows, columns, this->b.bits, this->b.turned};
    }
};

// The stream of a key for one array, from a byte on.
struct KeyStream final : Maker {
    RoundKeys keys;
    uint64_t index;
    ptrdiff_t begin, size;  // in bytes; of a word
    Clock& clock;

    KeyStream(const void* key, uint64_t index, ptrdiff_t begin, int bits, Clock& clock)
        : keys(round_keys(static_cast<const uint8_t*>(key))), index(index), begin(begin), size(bits / 8), clock(clock) {}

    void make(ptrdiff_t start, ptrdiff_t count, uint8_t* to, uint8_t*) const override {
        clock.measure([&] { key_stream_from(keys, index, begin + start * size, to, count * size); });
    }
};

// Two components that become their blend.
struct Blend final : Maker {
    // Words in memory, or a key's stream where there are none.
    struct Component {
        const uint8_t* at;
        const KeyStream* stream;
    } first, second;
    bool minus;
    int bits;
    const Fused& fused;

    Blend(Component first, Component second, bool minus, int bits)
        : first(first), second(second), minus(minus), bits(bits), fused(*current.load()->fused(bits)) {}

    void make(ptrdiff_t start, ptrdiff_t count, uint8_t* to, uint8_t* side) const override {
        const ptrdiff_t size = bits / 8;
        for (ptrdiff_t done = 0; done < count; done += BLEND_WORDS) {
            const ptrdiff_t some = std::min(BLEND_WORDS, count - done);
            // They arrive while the other component's stream is made; rows are far apart.
            for (const Component* one : {&first, &second})
                for (ptrdiff_t at = 0; one->at && at < some * size; at += 64)
                    __builtin_prefetch(one->at + (start + done) * size + at, 0, 3);
            const uint8_t* x = words(first, start + done, some, side);
            const uint8_t* y = words(second, start + done, some, side + BLEND_WORDS * size);
            fused.blend(x, y, to + done * size, some * size, minus);
        }
    }

private:
    const uint8_t* words(const Component& from, ptrdiff_t start, ptrdiff_t count, uint8_t* side) const {
        if (from.at) return from.at + start * (bits / 8);
        from.stream->make(start, count, side, nullptr);
        return side;
    }
};

void run_tiled(const Py_buffer& out, const Py_buffer& a, const Packed& b, const Maker& maker) {
    if (out.itemsize == 4)
        TiledProduct<uint32_t>{packed_product<uint32_t>(out, a, b), maker}.run();
    else
        TiledProduct<uint64_t>{packed_product<uint64_t>(out, a, b), maker}.run();
}

}  // namespace
