// Words that lie packed, as the kernels of _ring_fused.hpp unpack and multiply them; included once per level.
//
// Each kind of word: `words` make a group of `vectors` of `bytes` bytes in all, for which a load reaches that far.
// A row of the other operand has `left` vectors for a group, or one `Factor` for a word. `Dot` adds up the products
// of two rows, `Axpy` those of a factor and a group; each over at most so many groups, or rows, as the kernels sum.

#ifdef RING_FUSED_ROWS

namespace RING_LEVEL {

// A group of two vectors as two of `word` and one of `mixed`, as the words of Order lie.
template <class K> RING_TARGET inline void arrange_parts(const uint64_t* from, Whole* to) {
    uint64_t word[2 * WIDE];
    uint32_t mixed[2 * WIDE];
    for (int i = 0; i < 2 * WIDE; ++i) {
        const Factor factor = K::factor(from[i]);
        word[i] = factor.word;
        mixed[i % WIDE * 2 + i / WIDE] = factor.mixed;
    }
    std::memcpy(to, word, sizeof word);
    std::memcpy(to + 2, mixed, sizeof mixed);
}

// B is 5 or 6 bytes. A word of 33 to 48 bits is w = l + 2^32 h: of a product of two, l l' counts whole, and of
// l h' + h l' only the low 16 bits do, which one instruction computes from 16 bits of each. So a product is exact
// mod 2^48; what lies above is noise.
template <int B> struct Parted {
    typedef uint64_t Word;
    static constexpr int size = B, vectors = 2, words = 2 * WIDE, bytes = words * B;
    static constexpr int reach = WIDE * B + int(sizeof(Whole)), left = 3;
    struct Right {
        Whole first, second;
        Halves mixed;
    };
    struct Dot {
        Whole low;
        Halves mixed;
    };
    typedef Right Axpy;
    RING_TARGET static inline Factor factor(uint64_t word) {
        return {word, uint32_t(word & 0xFFFF) | uint32_t(word >> 32) << 16};
    }
    RING_TARGET static inline void arrange(const uint64_t* from, Whole* to) { arrange_parts<Parted>(from, to); }
    RING_TARGET static inline void load(Right& to, const uint8_t* from) {
        const Halves first = spread<B>(from), second = spread<B>(from + WIDE * B);
        to.first = Whole(RING_SHUFFLE_BYTES(first, read<Halves>(ORDER<B, 4>.word)));
        to.second = Whole(RING_SHUFFLE_BYTES(second, read<Halves>(ORDER<B, 4>.word)));
        to.mixed = Halves(RING_SHUFFLE_BYTES(first, read<Halves>(ORDER<B, 4>.mixed[0]))) |
                   Halves(RING_SHUFFLE_BYTES(second, read<Halves>(ORDER<B, 4>.mixed[1])));
    }
    RING_TARGET static inline void dot(Dot& sum, const Right& right, const Whole* at) {
        sum.low += Whole(RING_MULTIPLY_LOW_HALVES(at[0], right.first));
        sum.low += Whole(RING_MULTIPLY_LOW_HALVES(at[1], right.second));
        sum.mixed += Halves(RING_MULTIPLY_PAIRS(at[2], right.mixed));
    }
    RING_TARGET static inline void axpy(Axpy& sum, const Right& right, const Factor& by) {
        const Whole word = Whole{} + by.word;
        sum.first += Whole(RING_MULTIPLY_LOW_HALVES(word, right.first));
        sum.second += Whole(RING_MULTIPLY_LOW_HALVES(word, right.second));
        sum.mixed += Halves(RING_MULTIPLY_PAIRS(Halves{} + by.mixed, right.mixed));
    }
    RING_TARGET static inline void total(const Dot& sum, Whole& to) {
        const Whole mixed = Whole(sum.mixed);
        to = sum.low + ((mixed + (mixed >> 32)) << 32);
    }
    RING_TARGET static inline void finish(const Axpy& sum, Whole* to) {
        const Whole mixed = Whole(sum.mixed);
        to[0] = sum.first + (mixed << 32);
        to[1] = sum.second + (mixed >> 32 << 32);
    }
};

struct Words32 {
    typedef uint32_t Word;
    static constexpr int size = 4, vectors = 1, words = 2 * WIDE, bytes = words * size, reach = bytes, left = 1;
    typedef Halves Right;
    typedef Halves Dot;
    typedef Halves Axpy;
    RING_TARGET static inline Factor factor(uint32_t word) { return {word, 0}; }
    RING_TARGET static inline void arrange(const uint32_t* from, Whole* to) { std::memcpy(to, from, sizeof(Whole)); }
    RING_TARGET static inline void load(Right& to, const uint8_t* from) { to = read<Halves>(from); }
    RING_TARGET static inline void dot(Dot& sum, const Right& right, const Whole* at) { sum += Halves(*at) * right; }
    RING_TARGET static inline void axpy(Axpy& sum, const Right& right, const Factor& by) {
        sum += uint32_t(by.word) * right;
    }
    RING_TARGET static inline void total(const Dot& sum, Whole& to) { to = Whole(sum) + (Whole(sum) >> 32); }
    RING_TARGET static inline void finish(const Axpy& sum, Whole* to) { *to = Whole(sum); }
};

struct Words64 {
    typedef uint64_t Word;
    static constexpr int size = 8, vectors = 1, words = WIDE, bytes = words * size, reach = bytes, left = 1;
    RING_TARGET static inline Factor factor(uint64_t word) { return {word, 0}; }
    RING_TARGET static inline void arrange(const uint64_t* from, Whole* to) { std::memcpy(to, from, sizeof(Whole)); }
#ifdef RING_SPLIT_64
    // As split_tile in _ring_gemm.hpp.
    struct Right {
        Whole word;
        Halves swapped;
    };
    struct Dot {
        Whole low;
        Halves mixed;
    };
    typedef Dot Axpy;
    RING_TARGET static inline void load(Right& to, const uint8_t* from) {
        to.word = read<Whole>(from);
        to.swapped = Halves(RING_SWAP_HALVES(to.word));
    }
    RING_TARGET static inline void multiply(Dot& sum, const Right& right, Whole by) {
        sum.low += Whole(RING_MULTIPLY_LOW_HALVES(by, right.word));
        sum.mixed += Halves(by) * right.swapped;
    }
    RING_TARGET static inline void total(const Dot& sum, Whole& to) {
        const Whole mixed = Whole(sum.mixed);
        to = sum.low + ((mixed + (mixed >> 32)) << 32);
    }
#else
    typedef Whole Right;
    typedef Whole Dot;
    typedef Whole Axpy;
    RING_TARGET static inline void load(Right& to, const uint8_t* from) { to = read<Whole>(from); }
    RING_TARGET static inline void multiply(Dot& sum, const Right& right, Whole by) { sum += by * right; }
    RING_TARGET static inline void total(const Dot& sum, Whole& to) { to = sum; }
#endif
    RING_TARGET static inline void dot(Dot& sum, const Right& right, const Whole* at) { multiply(sum, right, *at); }
    RING_TARGET static inline void axpy(Axpy& sum, const Right& right, const Factor& by) {
        multiply(sum, right, Whole{} + by.word);
    }
    RING_TARGET static inline void finish(const Axpy& sum, Whole* to) { total(sum, *to); }
};

#ifdef RING_REAL_PARTS
// Words of 40 bits in fewer instructions: w = l + 2^24 h, and a factor a = m + 2^24 n with |m| <= 2^23. l m is a
// product of reals, exact and so are 64 of them in a sum (2^24 2^23 64 = 2^53); of m h + l n only 16 bits count.
struct Real40 {
    typedef uint64_t Word;
    typedef double Reals __attribute__((vector_size(sizeof(Whole))));
    static constexpr int size = 5, vectors = 2, words = 2 * WIDE, bytes = words * size;
    static constexpr int reach = WIDE * size + int(sizeof(Whole)), left = 3, most_groups = 32, most_depth = 64;
    struct Right {
        Reals first, second;
        Halves mixed;
    };
    struct Dot {
        Reals low;
        Halves mixed;
    };
    typedef Right Axpy;
    static inline Factor factor(uint64_t word) {
        const int64_t low = int64_t(word << 40) >> 40;
        const double real = double(low);
        Factor made = {0, uint32_t(word & 0xFFFF) | uint32_t((word - uint64_t(low)) >> 24) << 16};
        std::memcpy(&made.word, &real, sizeof real);
        return made;
    }
    RING_TARGET static inline void arrange(const uint64_t* from, Whole* to) { arrange_parts<Real40>(from, to); }
    RING_TARGET static inline void load(Right& to, const uint8_t* from) {
        typedef Order<size, 3> O;
        constexpr const O& order = ORDER<size, 3>;
        const Halves halves = read<Halves>(order.halves);
        const Halves first = Halves(RING_PERMUTE_HALVES(halves, read<Halves>(from)));
        const Halves second = Halves(RING_PERMUTE_HALVES(halves, read<Halves>(from + WIDE * size)));
        // 2^52 has a zero where the bytes of l go, which are then added to it.
        const Reals large = Reals{} + 0x1p52;
        to.first = Reals(RING_INSERT_BYTES(large, 0x0707070707070707, first, read<Halves>(order.word))) - large;
        to.second = Reals(RING_INSERT_BYTES(large, 0x0707070707070707, second, read<Halves>(order.word))) - large;
        to.mixed = Halves(RING_SHUFFLE_BYTES(first, read<Halves>(order.mixed[0])));
        to.mixed = Halves(RING_INSERT_BYTES(to.mixed, 0xF0F0F0F0F0F0F0F0, second, read<Halves>(order.mixed[1])));
    }
    RING_TARGET static inline void dot(Dot& sum, const Right& right, const Whole* at) {
        sum.low = Reals(RING_ADD_PRODUCT(sum.low, at[0], right.first));
        sum.low = Reals(RING_ADD_PRODUCT(sum.low, at[1], right.second));
        sum.mixed += Halves(RING_MULTIPLY_PAIRS(at[2], right.mixed));
    }
    RING_TARGET static inline void axpy(Axpy& sum, const Right& right, const Factor& by) {
        const Whole word = Whole{} + by.word;
        sum.first = Reals(RING_ADD_PRODUCT(sum.first, word, right.first));
        sum.second = Reals(RING_ADD_PRODUCT(sum.second, word, right.second));
        sum.mixed += Halves(RING_MULTIPLY_PAIRS(Halves{} + by.mixed, right.mixed));
    }
    RING_TARGET static inline void total(const Dot& sum, Whole& to) {
        const Whole mixed = Whole(sum.mixed);
        to = Whole(RING_INTEGERS(sum.low)) + ((mixed + (mixed >> 32)) << 24);
    }
    RING_TARGET static inline void finish(const Axpy& sum, Whole* to) {
        const Whole mixed = Whole(sum.mixed);
        to[0] = Whole(RING_INTEGERS(sum.first)) + (mixed << 24);
        to[1] = Whole(RING_INTEGERS(sum.second)) + (mixed >> 32 << 24);
    }
};
typedef Real40 Words40;
#else
typedef Parted<5> Words40;
#endif

}  // namespace RING_LEVEL

#endif
