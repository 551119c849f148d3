// Bit packing and fused loops over arrays of words, for one level of vector instructions; included once per level.
//
// Packing goes through 64-bit lanes. The 8, 4, 2 or 1 words of a lane are drawn together (`squeeze`), neighbouring
// lanes are merged while two fit into one, and then 64 items of w bits, 32 < w < 64, fill w lanes of the stream with
// shifts that are the same for every such group. Unpacking runs the same steps backwards. Words of whole bytes go
// another way (_ring_bytes.hpp), and vectors of 32 bytes unpack faster (_ring_unpack.hpp).

namespace RING_LEVEL {

typedef uint64_t Lane;

// One halving of the gaps of a lane: pairs of cells, `word` bits used in each.
struct Halving {
    Lane low, high;
    int shift;
};

inline int halvings(int size, int bits, Halving* to) {
    int count = 0;
    for (int cell = 8 * size, word = bits; cell < 64; cell *= 2, word *= 2) {
        const Lane ones = cell == 8 ? 0x0001000100010001u : cell == 16 ? 0x0000000100000001u : 1u;
        to[count++] = {low_bits(word) * ones, (low_bits(word) * ones) << cell, cell - word};
    }
    return count;
}

template <int H>
RING_TARGET void squeeze(const Lane* __restrict from, Lane* __restrict to, ptrdiff_t lanes, const Halving* h) {
    for (ptrdiff_t i = 0; i < lanes; ++i) {
        Lane x = from[i];
        for (int s = 0; s < H; ++s) x = (x & h[s].low) | (x & h[s].high) >> h[s].shift;
        to[i] = x;
    }
}

template <int H>
RING_TARGET void spread(const Lane* __restrict from, Lane* __restrict to, ptrdiff_t lanes, const Halving* h) {
    for (ptrdiff_t i = 0; i < lanes; ++i) {
        Lane x = from[i];
        for (int s = H - 1; s >= 0; --s) x = (x & h[s].low) | (x << h[s].shift & h[s].high);
        to[i] = x;
    }
}

RING_TARGET inline void merge(const Lane* __restrict from, Lane* __restrict to, ptrdiff_t count, int w) {
    for (ptrdiff_t i = 0; i < count; ++i) to[i] = from[2 * i] | from[2 * i + 1] << w;
}

RING_TARGET inline void divide(const Lane* __restrict from, Lane* __restrict to, ptrdiff_t count, int w) {
    for (ptrdiff_t i = 0; i < count; ++i) {
        to[2 * i] = from[i] & low_bits(w);
        to[2 * i + 1] = from[i] >> w;
    }
}

// Groups of 64 items of w bits, 32 < w < 64, to and from groups of w lanes of the stream.
RING_TARGET inline void fill(const Lane* __restrict from, Lane* __restrict to, ptrdiff_t groups, int w) {
    for (int q = 0; q < w; ++q) {
        const int item = 64 * q / w, skip = 64 * q % w;
        const Lane* x = from + item;
        if (2 * w - skip < 64) {
            for (ptrdiff_t g = 0; g < groups; ++g)
                to[g * w + q] = x[64 * g] >> skip | x[64 * g + 1] << (w - skip) | x[64 * g + 2] << (2 * w - skip);
        } else {
            for (ptrdiff_t g = 0; g < groups; ++g) to[g * w + q] = x[64 * g] >> skip | x[64 * g + 1] << (w - skip);
        }
    }
}

RING_TARGET inline void drain(const Lane* __restrict from, Lane* __restrict to, ptrdiff_t groups, int w) {
    for (int item = 0; item < 64; ++item) {
        const int q = item * w / 64, skip = item * w % 64;
        const Lane* x = from + q;
        if (skip + w > 64) {
            for (ptrdiff_t g = 0; g < groups; ++g)
                to[64 * g + item] = (x[g * w] >> skip | x[g * w + 1] << (64 - skip)) & low_bits(w);
        } else {
            for (ptrdiff_t g = 0; g < groups; ++g) to[64 * g + item] = x[g * w] >> skip & low_bits(w);
        }
    }
}

// How an array of words is cut into blocks of lanes.
struct Packing {
    Halving halving[3];
    int in_lane;       // halvings of a lane
    int merges;        // times that neighbouring lanes are merged
    int lane_bits;     // bits of a lane before the first merge
    int item_bits;     // bits of an item after the last merge
    Packing(int size, int bits) : in_lane(halvings(size, bits, halving)), merges(0) {
        lane_bits = item_bits = bits * (8 / size);
        for (; item_bits <= 32; item_bits *= 2) ++merges;
    }
    // Lanes of a block that holds `bytes` of words: at most BLOCK_LANES, a whole number of groups.
    ptrdiff_t lanes(ptrdiff_t bytes) const {
        const ptrdiff_t group = ptrdiff_t(64) << merges, wanted = (bytes + 7) / 8;
        return std::min<ptrdiff_t>(BLOCK_LANES, (wanted + group - 1) / group * group);
    }
};

RING_TARGET inline void pack(const uint8_t* words, ptrdiff_t bytes, int size, int bits, uint8_t* out,
                             ptrdiff_t out_bytes) {
    if (by_bytes(true, size, bits, words, out, bytes / 8)) return;
    const Packing p(size, bits);
    alignas(64) Lane one[BLOCK_LANES], two[BLOCK_LANES];
    while (out_bytes > 0) {
        ptrdiff_t lanes = p.lanes(bytes);
        const ptrdiff_t taken = std::min(bytes, lanes * 8), made = std::min(out_bytes, lanes / 8 * p.lane_bits);
        const Lane* from = reinterpret_cast<const Lane*>(words);
        if (taken < lanes * 8 || reinterpret_cast<uintptr_t>(words) % 8) {
            std::memcpy(two, words, size_t(taken));
            std::memset(reinterpret_cast<uint8_t*>(two) + taken, 0, size_t(lanes * 8 - taken));
            from = two;
        }
        switch (p.in_lane) {
        case 0:
            for (ptrdiff_t i = 0; i < lanes; ++i) one[i] = from[i] & low_bits(bits);
            break;
        case 1: squeeze<1>(from, one, lanes, p.halving); break;
        case 2: squeeze<2>(from, one, lanes, p.halving); break;
        default: squeeze<3>(from, one, lanes, p.halving);
        }
        Lane *now = one, *next = two;
        for (int m = 0, w = p.lane_bits; m < p.merges; ++m, w *= 2) {
            merge(now, next, lanes /= 2, w);
            std::swap(now, next);
        }
        if (p.item_bits < 64) {
            fill(now, next, lanes / 64, p.item_bits);
            std::swap(now, next);
        }
        std::memcpy(out, now, size_t(made));
        words += taken, bytes -= taken, out += made, out_bytes -= made;
    }
}

RING_TARGET inline void unpack(const uint8_t* from, ptrdiff_t from_bytes, int size, int bits, uint8_t* words,
                               ptrdiff_t bytes) {
    if (by_bytes(false, size, bits, from, words, bytes / 8)) return;
    if (by_eights(from, from_bytes, size, bits, words, bytes)) return;
    const Packing p(size, bits);
    alignas(64) Lane one[BLOCK_LANES], two[BLOCK_LANES];
    while (bytes > 0) {
        const ptrdiff_t lanes = p.lanes(bytes);
        const ptrdiff_t made = std::min(bytes, lanes * 8), taken = std::min(from_bytes, lanes / 8 * p.lane_bits);
        ptrdiff_t items = lanes >> p.merges;
        std::memcpy(one, from, size_t(taken));
        std::memset(reinterpret_cast<uint8_t*>(one) + taken, 0, size_t(lanes / 8 * p.lane_bits - taken));
        Lane *now = one, *next = two;
        if (p.item_bits < 64) {
            drain(now, next, items / 64, p.item_bits);
            std::swap(now, next);
        }
        for (int m = 0, w = p.item_bits / 2; m < p.merges; ++m, w /= 2, items *= 2) {
            divide(now, next, items, w);
            std::swap(now, next);
        }
        switch (p.in_lane) {
        case 0: next = now; break;
        case 1: spread<1>(now, next, lanes, p.halving); break;
        case 2: spread<2>(now, next, lanes, p.halving); break;
        default: spread<3>(now, next, lanes, p.halving);
        }
        std::memcpy(words, next, size_t(made));
        words += made, bytes -= made, from += taken, from_bytes -= taken;
    }
}

// The fused loops; each is a line or two of numpy in ring_numpy.py under the same name.

template <class W> RING_TARGET inline W digit_of(W word, const Loop& l) { return W(W(word >> l.shift) & W(l.digit)); }

template <class W> RING_TARGET inline W product_of(W word, const Loop& l) { return W(wide(word) * W(l.multiplier)); }

template <class W, class T> RING_TARGET void table_bits(const Loop& loop) {
    const Loop l = loop;
    const W* __restrict words = static_cast<const W*>(l.words);
    const T *__restrict lut = static_cast<const T*>(l.table), *__restrict mask = static_cast<const T*>(l.other);
    T* __restrict out = static_cast<T*>(l.out);
    for (ptrdiff_t i = 0; i < l.count; ++i) out[i] = T(lut[digit_of(words[i], l)] ^ mask[i]);
}

template <class W, class T> RING_TARGET void pick_bits(const Loop& loop) {
    const Loop l = loop;
    const W* __restrict words = static_cast<const W*>(l.words);
    const T* __restrict tables = static_cast<const T*>(l.table);
    uint8_t* __restrict out = static_cast<uint8_t*>(l.out);
    for (ptrdiff_t i = 0; i < l.count; ++i) out[i] = uint8_t(tables[i] >> digit_of(words[i], l) & 1);
}

template <class W, class T> RING_TARGET void gather_table(const Loop& loop) {
    const Loop l = loop;
    const W* __restrict words = static_cast<const W*>(l.words);
    const T* __restrict lut = static_cast<const T*>(l.table);
    T* __restrict out = static_cast<T*>(l.out);
    for (ptrdiff_t i = 0; i < l.count; ++i) out[i] = lut[digit_of(product_of(words[i], l), l)];
}

template <class W, class T> RING_TARGET void axpy(const Loop& loop) {
    const Loop l = loop;
    const W* __restrict words = static_cast<const W*>(l.words);
    const T *__restrict lut = static_cast<const T*>(l.table), *__restrict x = static_cast<const T*>(l.other);
    T* __restrict acc = static_cast<T*>(l.out);
    for (ptrdiff_t i = 0; i < l.count; ++i)
        acc[i] = T(acc[i] + wide(lut[digit_of(product_of(words[i], l), l)]) * x[i]);
}

template <class W, class T> RING_TARGET void shift_mask(const Loop& loop) {
    const Loop l = loop;
    const W* __restrict words = static_cast<const W*>(l.words);
    T* __restrict out = static_cast<T*>(l.out);
    for (ptrdiff_t i = 0; i < l.count; ++i) out[i] = T(digit_of(words[i], l));
}

// out[j] += the words, each as coin j of it says: bit 1 of a coin counts the word, bit 0 negates it. `all` counts every
// word, and the signs lie in bit 0.
template <class W> RING_TARGET void coin_sums(const void* words, const uint8_t* coins, ptrdiff_t count, ptrdiff_t columns,
                                              bool all, void* out) {
    const W* from = static_cast<const W*>(words);
    W* __restrict sums = static_cast<W*>(out);
    for (ptrdiff_t i = 0; i < count; ++i) {
        const W word = from[i];
        const uint8_t* __restrict coin = coins + i * columns;
        if (all) {
            for (ptrdiff_t j = 0; j < columns; ++j) {
                const W sign = W(0) - W(coin[j] & 1);
                sums[j] += W(word ^ sign) - sign;
            }
        } else {
            for (ptrdiff_t j = 0; j < columns; ++j) {
                const W sign = W(0) - W(coin[j] & 1), counts = W(0) - W(coin[j] >> 1 & 1);
                sums[j] += W(W(word ^ sign) - sign) & counts;
            }
        }
    }
}

// For words of 1, 2, 4 and 8 bytes.
const CoinFunction COINS[] = {coin_sums<uint8_t>, coin_sums<uint16_t>, coin_sums<uint32_t>, coin_sums<uint64_t>};

#define RING_BY_TABLE(f, W) {f<W, uint8_t>, f<W, uint16_t>, f<W, uint32_t>, f<W, uint64_t>}
#define RING_BY_WORD(f) \
    {RING_BY_TABLE(f, uint8_t), RING_BY_TABLE(f, uint16_t), RING_BY_TABLE(f, uint32_t), RING_BY_TABLE(f, uint64_t)}

// In the order of `Kind`.
const LoopFunction LOOPS[][4][4] = {RING_BY_WORD(table_bits), RING_BY_WORD(pick_bits), RING_BY_WORD(gather_table),
                                    RING_BY_WORD(axpy), RING_BY_WORD(shift_mask)};

#undef RING_BY_TABLE
#undef RING_BY_WORD

}  // namespace RING_LEVEL
