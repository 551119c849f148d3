// Series of angles, and lifts to a larger ring, on long arrays; included once per level.
//
// A block of words is read into numbers of one size, so that the loops between know no other, and use vectors.

namespace RING_LEVEL {

constexpr ptrdiff_t CELLS = 512;  // of a block

template <class T, class W> RING_TARGET inline void convert(const T* from, ptrdiff_t count, W* to) {
    for (ptrdiff_t i = 0; i < count; ++i) to[i] = W(from[i]);
}

template <class W> RING_TARGET inline void read_cells(const Cells& from, ptrdiff_t start, ptrdiff_t count, W* to) {
    const char* at = from.at + start * from.size;
    switch (from.size) {
    case 1: return convert(reinterpret_cast<const uint8_t*>(at), count, to);
    case 2: return convert(reinterpret_cast<const uint16_t*>(at), count, to);
    case 4: return convert(reinterpret_cast<const uint32_t*>(at), count, to);
    default: return convert(reinterpret_cast<const uint64_t*>(at), count, to);
    }
}

template <class T> RING_TARGET inline void write_cells(const T* from, ptrdiff_t count, const Cells& to, ptrdiff_t start) {
    char* at = to.at + start * to.size;
    switch (to.size) {
    case 1: return convert(from, count, reinterpret_cast<uint8_t*>(at));
    case 2: return convert(from, count, reinterpret_cast<uint16_t*>(at));
    case 4: return convert(from, count, reinterpret_cast<uint32_t*>(at));
    default: return convert(from, count, reinterpret_cast<uint64_t*>(at));
    }
}

// ---- series

template <class T>
RING_TARGET inline void look_up(const Angles& angles, const uint32_t* words, uint32_t multiple, ptrdiff_t count,
                                int32_t* cosines, int32_t* sines) {
    const T* table = static_cast<const T*>(angles.table);
    const uint32_t mask = angles.mask;
    for (ptrdiff_t i = 0; i < count; ++i) {
        const T* at = table + 2 * size_t(words[i] * multiple & mask);
        cosines[i] = at[0], sines[i] = at[1];
    }
}

// The cosines and sines of a block of multiples of angles.
struct Turned {
    int32_t cosines[CELLS], sines[CELLS];
    RING_TARGET Turned(const Angles& angles, const uint32_t* words, int64_t multiple, ptrdiff_t count) {
        if (angles.size == 2)
            look_up<int16_t>(angles, words, uint32_t(multiple), count, cosines, sines);
        else
            look_up<int32_t>(angles, words, uint32_t(multiple), count, cosines, sines);
    }
};

RING_TARGET inline void series_points(const Points& points, ptrdiff_t start, ptrdiff_t count) {
    const ptrdiff_t stop = start + count, length = points.angles.words.count;
    uint32_t words[CELLS];
    for (; start < stop; start += CELLS) {
        const ptrdiff_t part = std::min(CELLS, stop - start);
        read_cells(points.angles.words, start, part, words);
        for (ptrdiff_t h = 0; h < points.harmonics; ++h) {
            Turned at(points.angles, words, points.multiples[h], part);
            const int less = int(points.less[h]);
            const int32_t half = int32_t(1) << (less - 1);
            for (ptrdiff_t i = 0; i < part; ++i) {
                at.cosines[i] = (at.cosines[i] + half) >> less;
                at.sines[i] = (at.sines[i] + half) >> less;
            }
            write_cells(at.cosines, part, points.out, 2 * h * length + start);
            write_cells(at.sines, part, points.out, (2 * h + 1) * length + start);
        }
    }
}

// Of x / 2^by the bits that a word counts: for words of 32 bits a logical shift by at most 32 has them all.
RING_TARGET inline void shifted(int64_t x, int by, uint32_t& to) { to = uint32_t(uint64_t(x) >> by); }
RING_TARGET inline void shifted(int64_t x, int by, uint64_t& to) { to = uint64_t(x >> by); }

template <class W> RING_TARGET inline void series_of(const Series& series, ptrdiff_t start, ptrdiff_t count) {
    const ptrdiff_t stop = start + count;
    const int extra = series.extra;
    const int64_t half = int64_t(1) << (extra - 1);
    uint32_t words[CELLS];
    W total[CELLS], first[CELLS], second[CELLS];
    for (; start < stop; start += CELLS) {
        const ptrdiff_t part = std::min(CELLS, stop - start);
        read_cells(series.angles.words, start, part, words);
        read_cells(series.sum, start, part, total);
        for (ptrdiff_t h = 0; h < series.count; ++h) {
            const Harmonic& by = series.harmonics[h];
            const Turned at(series.angles, words, by.multiple, part);
            const int32_t c = int32_t(by.cosine), s = int32_t(by.sine);
            const int up = int(by.up);
            read_cells(series.dealt[2 * h], start, part, first);
            read_cells(series.dealt[2 * h + 1], start, part, second);
            for (ptrdiff_t i = 0; i < part; ++i) {
                W cosine, sine;
                shifted(int64_t(c) * at.cosines[i] + int64_t(s) * at.sines[i] + half, extra, cosine);
                shifted(int64_t(s) * at.cosines[i] - int64_t(c) * at.sines[i] + half, extra, sine);
                total[i] += W(cosine << up) * first[i] + W(sine << up) * second[i];
            }
        }
        write_cells(total, part, series.sum, start);
    }
}

RING_TARGET inline void series_sum(const Series& series, ptrdiff_t start, ptrdiff_t count) {
    bool narrow = series.sum.size <= 4 && series.extra <= 32;
    for (ptrdiff_t h = 0; h < series.count; ++h) narrow = narrow && series.harmonics[h].up < 32;
    narrow ? series_of<uint32_t>(series, start, count) : series_of<uint64_t>(series, start, count);
}

// ---- lifts: arithmetic is mod 2^64, cut to the words of each array

// One block of a step: `read` arrays, then those that it writes.
template <int READ, int COUNT> struct Block {
    uint64_t at[COUNT][CELLS];

    RING_TARGET void read(const Lift& lift, ptrdiff_t start, ptrdiff_t part) {
        for (int j = 0; j < READ; ++j) read_cells(lift.arrays[j], start, part, at[j]);
    }
    RING_TARGET void write(const Lift& lift, ptrdiff_t start, ptrdiff_t part) const {
        for (int j = READ; j < COUNT; ++j) write_cells(at[j], part, lift.arrays[j], start);
    }
};

// The pivot, from A, r, a_u, m_u and m_v: A less u's mask, A's top bit less u's, and its own two components.
RING_TARGET inline void lift_lead(const Lift& lift, ptrdiff_t start, ptrdiff_t count) {
    const ptrdiff_t stop = start + count;
    const uint64_t whole = low_bits(lift.bits), carry = low_bits(lift.carry), offset = uint64_t(1) << (lift.bits - 2);
    const int bits = lift.bits;
    Block<5, 9> block;
    for (; start < stop; start += CELLS) {
        const ptrdiff_t part = std::min(CELLS, stop - start);
        block.read(lift, start, part);
        auto& x = block.at;
        for (ptrdiff_t i = 0; i < part; ++i) {
            const uint64_t word = (x[0][i] + offset) & whole, left = word - x[1][i];
            x[5][i] = left;
            x[6][i] = (word >> (bits - 1)) - x[2][i];
            x[7][i] = left + ((x[4][i] & carry) << bits) - offset;
            x[8][i] = x[1][i] + ((x[3][i] & carry) << bits);
        }
        block.write(lift, start, part);
    }
}

// A twin, from B, its share a of A's top bit and its mask: a (1 - b) under the mask, b being B's top bit.
RING_TARGET inline void lift_open(const Lift& lift, ptrdiff_t start, ptrdiff_t count) {
    const ptrdiff_t stop = start + count;
    const uint64_t whole = low_bits(lift.bits);
    const int top = lift.bits - 1;
    Block<3, 4> block;
    for (; start < stop; start += CELLS) {
        const ptrdiff_t part = std::min(CELLS, stop - start);
        block.read(lift, start, part);
        auto& x = block.at;
        for (ptrdiff_t i = 0; i < part; ++i)
            x[3][i] = (x[1][i] & (((x[0][i] & whole) >> top) - 1)) + x[2][i];
        block.write(lift, start, part);
    }
}

// A twin, from B, what both opened, the rest and its mask: the component that both twins have, and its own.
RING_TARGET inline void lift_end(const Lift& lift, ptrdiff_t start, ptrdiff_t count) {
    const ptrdiff_t stop = start + count;
    const uint64_t whole = low_bits(lift.bits), carry = low_bits(lift.carry);
    const uint64_t offset = lift.u ? 0 : uint64_t(1) << (lift.bits - 2);
    const int bits = lift.bits, top = lift.bits - 1;
    Block<5, 7> block;
    for (; start < stop; start += CELLS) {
        const ptrdiff_t part = std::min(CELLS, stop - start);
        block.read(lift, start, part);
        auto& x = block.at;
        for (ptrdiff_t i = 0; i < part; ++i) {
            const uint64_t word = x[0][i] & whole;
            x[5][i] = word - (word >> top << bits) - (((x[1][i] + x[2][i]) & carry) << bits);
            x[6][i] = x[3][i] + ((x[4][i] & carry) << bits) - offset;
        }
        block.write(lift, start, part);
    }
}

// In the order of py_lift.
constexpr LiftFunction LIFTS[] = {lift_lead, lift_open, lift_end};

}  // namespace RING_LEVEL
