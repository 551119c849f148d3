// Packed words of whole bytes, as vectors find and lay them; included once per level.

#ifdef RING_FUSED_ROWS

namespace RING_LEVEL {

typedef Vector<uint64_t> Whole;
typedef uint32_t Halves __attribute__((vector_size(sizeof(Whole))));
constexpr int WIDE = LANES<uint64_t>;

// How the vector that starts with a word of B bytes turns into words, a neighbouring two of them in 16 bytes: `word`
// yields the low L bytes, `mixed` 16 bits above these and, 16 bits higher, the lowest 16.
template <int B, int L> struct Order {
    alignas(64) uint32_t halves[2 * WIDE] = {};  // four that hold the two words
    alignas(64) uint8_t word[8 * WIDE] = {};
    alignas(64) uint8_t packed[8 * WIDE] = {};  // the way back: two words at the start of 16 bytes
    alignas(64) uint8_t mixed[2][8 * WIDE] = {};  // of each word, in the lower or the upper half of 8 bytes
    constexpr Order() {
        for (int two = 0; two < WIDE / 2; ++two) {
            const int start = 2 * B * two;
            for (int i = 0; i < 4; ++i) halves[4 * two + i] = uint32_t(start / 4 + i);
            for (int place = 0; place < 16; ++place) {
                const int at = start % 4 + place / 8 * B, byte = place % 8;
                const int from = byte % 4 < 2 ? L + byte % 4 : byte % 4 - 2;
                word[16 * two + place] = uint8_t(byte < L ? at + byte : 0x80);
                packed[16 * two + place] = uint8_t(place < 2 * B ? place / B * 8 + place % B : 0x80);
                for (int half = 0; half < 2; ++half)
                    mixed[half][16 * two + place] = uint8_t(byte / 4 == half && from < B ? at + from : 0x80);
            }
        }
    }
};
template <int B, int L> constexpr Order<B, L> ORDER{};

template <class V> RING_TARGET inline V read(const void* from) {
    V v;
    std::memcpy(&v, from, sizeof v);
    return v;
}

// The two words of B bytes that belong into each 16 bytes, in place but for up to three bytes (Order::halves). Where a
// vector has two such parts, a load for each is cheaper than to move what one load brings.
template <int B> RING_TARGET inline Halves spread(const uint8_t* from) {
#ifdef RING_TWO_PARTS
    return Halves(RING_TWO_PARTS(from, from + 2 * B / 4 * 4));
#else
    return Halves(RING_PERMUTE_HALVES(read<Halves>(ORDER<B, B>.halves), read<Halves>(from)));
#endif
}

// Words of 64 bits to B bytes each, and back: `from` and `to` are a vector of words, and their bytes with room for a
// whole vector.
template <int B> RING_TARGET inline void unpack_vector(const uint8_t* from, uint8_t* to) {
    const Halves words = Halves(RING_SHUFFLE_BYTES(spread<B>(from), read<Halves>(ORDER<B, B>.word)));
    std::memcpy(to, &words, sizeof words);
}

template <int B> RING_TARGET inline void pack_vector(const uint8_t* from, uint8_t* to) {
    const Halves packed = Halves(RING_SHUFFLE_BYTES(read<Halves>(from), read<Halves>(ORDER<B, B>.packed)));
    for (int two = 0; two < WIDE / 2; ++two)  // each of the 16 bytes covers what the one before wrote too much
        std::memcpy(to + 2 * B * two, reinterpret_cast<const uint8_t*>(&packed) + 16 * two, 16);
}

template <int B> RING_TARGET void unpack_bytes(const uint8_t* from, uint8_t* to, ptrdiff_t count) {
    for (; count * B >= ptrdiff_t(sizeof(Whole)); count -= WIDE, from += WIDE * B, to += sizeof(Whole))
        unpack_vector<B>(from, to);
    uint8_t bytes[2 * sizeof(Whole)] = {}, words[2 * sizeof(Whole)];
    std::memcpy(bytes, from, size_t(count * B));
    unpack_vector<B>(bytes, words);
    unpack_vector<B>(bytes + WIDE * B, words + sizeof(Whole));
    std::memcpy(to, words, size_t(count) * 8);
}

template <int B> RING_TARGET void pack_bytes(const uint8_t* from, uint8_t* to, ptrdiff_t count) {
    for (; count * B >= WIDE * B + 16 - 2 * B; count -= WIDE, from += sizeof(Whole), to += WIDE * B)
        pack_vector<B>(from, to);
    uint8_t words[2 * sizeof(Whole)] = {}, bytes[2 * sizeof(Whole)];
    std::memcpy(words, from, size_t(count) * 8);
    pack_vector<B>(words, bytes);
    pack_vector<B>(words + sizeof(Whole), bytes + WIDE * B);
    std::memcpy(to, bytes, size_t(count * B));
}

// The blend of a vector of words of B bytes, x - y where `minus`, else 2 x + y; `to` has room for a whole vector.
template <int B> RING_TARGET inline void blend_vector(const uint8_t* x, const uint8_t* y, uint8_t* to, bool minus) {
    typedef std::conditional_t<B == 4, Halves, Whole> Words;
    Words first, second;
    if constexpr (B == 4 || B == 8) {
        first = read<Words>(x), second = read<Words>(y);
    } else {
        first = Words(RING_SHUFFLE_BYTES(spread<B>(x), read<Halves>(ORDER<B, B>.word)));
        second = Words(RING_SHUFFLE_BYTES(spread<B>(y), read<Halves>(ORDER<B, B>.word)));
    }
    const Words made = minus ? first - second : first + first + second;
    if constexpr (B == 4 || B == 8)
        std::memcpy(to, &made, sizeof made);
    else
        pack_vector<B>(reinterpret_cast<const uint8_t*>(&made), to);
}

// The same of `bytes` bytes of whole words.
template <int B> RING_TARGET void blend(const uint8_t* x, const uint8_t* y, uint8_t* to, ptrdiff_t bytes, bool minus) {
    constexpr ptrdiff_t size = sizeof(Whole), step = B == 4 || B == 8 ? size : WIDE * B;
    for (; bytes >= size; bytes -= step, x += step, y += step, to += step) blend_vector<B>(x, y, to, minus);
    uint8_t left[2 * size] = {}, right[2 * size] = {}, made[2 * size];
    std::memcpy(left, x, size_t(bytes));
    std::memcpy(right, y, size_t(bytes));
    blend_vector<B>(left, right, made, minus);
    blend_vector<B>(left + step, right + step, made + step, minus);
    std::memcpy(to, made, size_t(bytes));
}

// Packs (from words) or unpacks (to words) whole bytes; false where the width is none of those.
RING_TARGET inline bool by_bytes(bool packs, int size, int bits, const uint8_t* from, uint8_t* to, ptrdiff_t count) {
    if (size != 8) return false;
    switch (bits) {
    case 40: packs ? pack_bytes<5>(from, to, count) : unpack_bytes<5>(from, to, count); return true;
    case 48: packs ? pack_bytes<6>(from, to, count) : unpack_bytes<6>(from, to, count); return true;
    case 56: packs ? pack_bytes<7>(from, to, count) : unpack_bytes<7>(from, to, count); return true;
    default: return false;
    }
}

}  // namespace RING_LEVEL

#else

namespace RING_LEVEL {

inline bool by_bytes(bool, int, int, const uint8_t*, uint8_t*, ptrdiff_t) { return false; }

}  // namespace RING_LEVEL

#endif
