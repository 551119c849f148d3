// Unpacking eight words at a time: these begin with a byte, at the same places of as many bytes as a word has bits;
// included once per level.

#ifdef RING_EVEN_HALVES

namespace RING_LEVEL {

constexpr int MOST_EIGHT = 57;  // bits of a word that lies in eight bytes, wherever it begins

// Two vectors of four words each: where the two parts of a vector are loaded from, which bytes its lanes take, and how
// far each lane is shifted. Vectors of words of 32 bits take every other pair of words, as RING_EVEN_HALVES joins them.
struct Eight {
    ptrdiff_t at[2][2];
    uint8_t bytes[2][sizeof(Whole)];
    uint64_t down[2][4];

    Eight(int bits, bool narrow) {
        for (int v = 0; v < 2; ++v)
            for (int part = 0; part < 2; ++part) {
                const int first = narrow ? 4 * part + 2 * v : 4 * v + 2 * part, start = first * bits / 8;
                at[v][part] = start;
                for (int j = 0; j < 2; ++j) {
                    const int place = (first + j) * bits;
                    down[v][2 * part + j] = uint64_t(place % 8);
                    for (int byte = 0; byte < 8; ++byte)
                        bytes[v][16 * part + 8 * j + byte] = uint8_t(place / 8 - start + byte);
                }
            }
    }
    RING_TARGET Whole words(const uint8_t* from, int v) const {
        const Halves both = Halves(RING_TWO_PARTS(from + at[v][0], from + at[v][1]));
        return Whole(RING_SHUFFLE_BYTES(both, read<Halves>(bytes[v]))) >> read<Whole>(down[v]);
    }
    // Bytes that `write` reads.
    ptrdiff_t reach() const { return std::max(at[0][1], at[1][1]) + 16; }
    RING_TARGET void write(const uint8_t* from, bool narrow, Whole mask, uint8_t* to) const {
        const Whole first = words(from, 0), second = words(from, 1);
        if (narrow) {
            const Whole joined = Whole(RING_EVEN_HALVES(first, second)) & mask;
            std::memcpy(to, &joined, sizeof joined);
        } else {
            const Whole made[2] = {first & mask, second & mask};
            std::memcpy(to, made, sizeof made);
        }
    }
};

// Unpacks words of 4 or 8 bytes; false where there is no way.
RING_TARGET inline bool by_eights(const uint8_t* from, ptrdiff_t from_bytes, int size, int bits, uint8_t* to,
                                  ptrdiff_t bytes) {
    if (size < 4 || bits > MOST_EIGHT) return false;
    const bool narrow = size == 4;
    const ptrdiff_t step = 8 * size;
    const Eight eight(bits, narrow);
    const Whole mask = Whole{} + (narrow ? low_bits(bits) << 32 | low_bits(bits) : low_bits(bits));
    for (const ptrdiff_t reach = eight.reach(); bytes >= step && from_bytes >= reach; bytes -= step, to += step) {
        eight.write(from, narrow, mask, to);
        from += bits, from_bytes -= bits;
    }
    while (bytes > 0) {
        uint8_t side[2 * sizeof(Whole) + 16] = {}, made[2 * sizeof(Whole)];
        const ptrdiff_t taken = std::min<ptrdiff_t>(from_bytes, bits), written = std::min(bytes, step);
        std::memcpy(side, from, size_t(taken));
        eight.write(side, narrow, mask, made);
        std::memcpy(to, made, size_t(written));
        from += taken, from_bytes -= taken, to += written, bytes -= written;
    }
    return true;
}

}  // namespace RING_LEVEL

#else

namespace RING_LEVEL {

inline bool by_eights(const uint8_t*, ptrdiff_t, int, int, uint8_t*, ptrdiff_t) { return false; }

}  // namespace RING_LEVEL

#endif
