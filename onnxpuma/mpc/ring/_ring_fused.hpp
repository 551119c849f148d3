// Products with a matrix that lies packed, for one level of vector instructions; included once per level.
//
// A few words at a time are unpacked into registers and multiplied with every row of the other operand there. A word
// of 33 to 48 bits is w = l + 2^32 h: of a product of two, l l' counts whole, and of l h' + h l' only the low 16 bits
// do, which one instruction computes from 16 bits of each. So a product is exact mod 2^48; the rest is noise.

#ifdef RING_FUSED_ROWS

namespace RING_LEVEL {

typedef Vector<uint64_t> Whole;
typedef uint32_t Halves __attribute__((vector_size(sizeof(Whole))));
constexpr int WIDE = LANES<uint64_t>;

// How the vector that starts with a word of B bytes turns into words, a neighbouring two of them in 16 bytes.
template <int B> struct Order {
    alignas(64) uint32_t halves[2 * WIDE] = {};  // four that hold the two words
    alignas(64) uint8_t word[8 * WIDE] = {};
    alignas(64) uint8_t mixed[2][8 * WIDE] = {};  // h + 2^16 l of each word, in the lower or the upper half of 8 bytes
    constexpr Order() {
        for (int two = 0; two < WIDE / 2; ++two) {
            const int start = 2 * B * two;
            for (int i = 0; i < 4; ++i) halves[4 * two + i] = uint32_t(start / 4 + i);
            for (int place = 0; place < 16; ++place) {
                const int at = start % 4 + place / 8 * B, byte = place % 8, from = (byte % 4 + 4) % 6;
                word[16 * two + place] = uint8_t(byte < B ? at + byte : 0x80);
                for (int half = 0; half < 2; ++half)
                    mixed[half][16 * two + place] = uint8_t(byte / 4 == half && from < B ? at + from : 0x80);
            }
        }
    }
};
template <int B> constexpr Order<B> ORDER{};

inline uint32_t mixed_of(uint64_t word) { return uint32_t(word & 0xFFFF) | uint32_t(word >> 32) << 16; }

template <class V> RING_TARGET inline V read(const void* from) {
    V v;
    std::memcpy(&v, from, sizeof v);
    return v;
}

// Each kind of word: `words` make a group of `vectors` of `bytes` bytes in all, for which a load reaches that far.
// A row of the other operand has `left` vectors for a group, or one `Factor` for a word. `Dot` and `Axpy` are sums.

// B is 5 or 6 bytes.
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
    RING_TARGET static inline void arrange(const uint64_t* from, Whole* to) {
        uint32_t mixed[2 * WIDE];
        for (int i = 0; i < WIDE; ++i) {
            mixed[2 * i] = mixed_of(from[i]);
            mixed[2 * i + 1] = mixed_of(from[WIDE + i]);
        }
        std::memcpy(to, from, 2 * sizeof(Whole));
        std::memcpy(to + 2, mixed, sizeof(Whole));
    }
    RING_TARGET static inline void load(Right& to, const uint8_t* from) {
        const Halves order = read<Halves>(ORDER<B>.halves);
        const Halves first = Halves(RING_PERMUTE_HALVES(order, read<Halves>(from)));
        const Halves second = Halves(RING_PERMUTE_HALVES(order, read<Halves>(from + WIDE * B)));
        to.first = Whole(RING_SHUFFLE_BYTES(first, read<Halves>(ORDER<B>.word)));
        to.second = Whole(RING_SHUFFLE_BYTES(second, read<Halves>(ORDER<B>.word)));
        to.mixed = Halves(RING_SHUFFLE_BYTES(first, read<Halves>(ORDER<B>.mixed[0]))) |
                   Halves(RING_SHUFFLE_BYTES(second, read<Halves>(ORDER<B>.mixed[1])));
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

// c[r] += the products of R rows with one row that lies packed.
template <class K, int R>
RING_TARGET void packed_dots(const uint8_t* from, const Whole* left, ptrdiff_t groups, typename K::Word* c,
                             ptrdiff_t c_row) {
    typename K::Dot sum[R] = {};
    for (ptrdiff_t g = 0; g < groups; ++g, from += K::bytes, left += R * K::left) {
        typename K::Right right;
        K::load(right, from);
#pragma GCC unroll 8
        for (int r = 0; r < R; ++r) K::dot(sum[r], right, left + r * K::left);
    }
    Whole total[R + R % 2] = {};
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) K::total(sum[r], total[r]);
#pragma GCC unroll 8
    for (int r = 0; r < R; r += 2) {
        const Whole two = Whole(RING_EVEN_LANES(total[r], total[r + 1])) + Whole(RING_ODD_LANES(total[r], total[r + 1]));
        uint64_t lanes[WIDE];
        store(lanes, two);
        for (int l = 2; l < WIDE; l += 2) lanes[0] += lanes[l], lanes[1] += lanes[l + 1];
        c[r * c_row] += typename K::Word(lanes[0]);
        if (r + 1 < R) c[(r + 1) * c_row] += typename K::Word(lanes[1]);
    }
}

// c (R rows, at most a group of columns) += R rows times a group of columns of `depth` rows that lie packed.
template <class K, int R>
RING_TARGET void packed_axpy(const uint8_t* from, ptrdiff_t from_row, const Factor* left, ptrdiff_t depth,
                             typename K::Word* c, ptrdiff_t c_row, ptrdiff_t columns) {
    typename K::Axpy sum[R] = {};
    for (ptrdiff_t k = 0; k < depth; ++k, from += from_row, left += R) {
        typename K::Right right;
        K::load(right, from);
#pragma GCC unroll 8
        for (int r = 0; r < R; ++r) K::axpy(sum[r], right, left[r]);
    }
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
        Whole total[K::vectors];
        K::finish(sum[r], total);
        typename K::Word* to = c + r * c_row;
        if (columns == K::words) {
            for (int v = 0; v < K::vectors; ++v) {
                typename K::Word* at = to + v * K::words / K::vectors;
                typedef typename Lanes<typename K::Word, sizeof(Whole)>::type Sums;
                const Sums sums = read<Sums>(at) + Sums(total[v]);
                std::memcpy(at, &sums, sizeof sums);
            }
        } else {
            typename K::Word side[K::words];
            std::memcpy(side, total, sizeof side);
            for (ptrdiff_t j = 0; j < columns; ++j) to[j] += side[j];
        }
    }
}

template <class K, int R, class... Arguments> RING_TARGET void dots_of(ptrdiff_t rows, Arguments... arguments) {
    if constexpr (R > 1)
        if (rows < R) return dots_of<K, R - 1>(rows, arguments...);
    packed_dots<K, R>(arguments...);
}

template <class K, int R, class... Arguments> RING_TARGET void axpy_of(ptrdiff_t rows, Arguments... arguments) {
    if constexpr (R > 1)
        if (rows < R) return axpy_of<K, R - 1>(rows, arguments...);
    packed_axpy<K, R>(arguments...);
}

// The other operand, RING_FUSED_ROWS rows after the other. Turned: [rows][group][row][vector], zeros after the last
// word; else [rows][word][row].
template <class K> struct Arranged {
    static constexpr ptrdiff_t most = RING_FUSED_ROWS;

    static ptrdiff_t room(ptrdiff_t rows, ptrdiff_t depth, bool turned) {
        const ptrdiff_t groups = (depth + K::words - 1) / K::words;
        return rows * (turned ? groups * K::left * ptrdiff_t(sizeof(Whole)) : depth * ptrdiff_t(sizeof(Factor)));
    }

    RING_TARGET static void arrange(const void* words, ptrdiff_t words_row, ptrdiff_t rows, ptrdiff_t depth,
                                    bool turned, void* to) {
        typedef typename K::Word W;
        for (ptrdiff_t m = 0; m < rows; m += most) {
            const ptrdiff_t height = std::min(most, rows - m);
            const W* from = static_cast<const W*>(words) + m * words_row;
            if (turned) {
                const ptrdiff_t groups = (depth + K::words - 1) / K::words;
                Whole* at = static_cast<Whole*>(to) + m * groups * K::left;
                for (ptrdiff_t r = 0; r < height; ++r)
                    for (ptrdiff_t g = 0; g < groups; ++g) {
                        const W* first = from + r * words_row + g * K::words;
                        W last[K::words] = {};
                        if (const ptrdiff_t rest = depth - g * K::words; rest < K::words) {
                            std::memcpy(last, first, size_t(rest) * sizeof(W));
                            first = last;
                        }
                        K::arrange(first, at + (g * height + r) * K::left);
                    }
            } else {
                Factor* at = static_cast<Factor*>(to) + m * depth;
                for (ptrdiff_t k = 0; k < depth; ++k)
                    for (ptrdiff_t r = 0; r < height; ++r) {
                        const W word = from[r * words_row + k];
                        *at++ = {word, mixed_of(word)};
                    }
            }
        }
    }

    // Columns [first, last) of c += the arranged rows times b. A load that would reach beyond the end of b reads a
    // copy with room behind it.
    RING_TARGET static void multiply(const Packed& b, const void* left, ptrdiff_t rows, void* c, ptrdiff_t c_row,
                                     ptrdiff_t first, ptrdiff_t last) {
        if (b.turned)
            turned(b, static_cast<const Whole*>(left), rows, static_cast<typename K::Word*>(c), c_row, first, last);
        else
            straight(b, static_cast<const Factor*>(left), rows, static_cast<typename K::Word*>(c), c_row, first, last);
    }

private:
    static constexpr ptrdiff_t side_groups = 128, side_depth = 32, in_cache = 24576;

    RING_TARGET static void turned(const Packed& b, const Whole* left, ptrdiff_t rows, typename K::Word* c,
                                   ptrdiff_t c_row, ptrdiff_t first, ptrdiff_t last) {
        const ptrdiff_t groups = (b.columns + K::words - 1) / K::words, unit = K::left * ptrdiff_t(sizeof(Whole));
        const ptrdiff_t step = std::min(side_groups, std::max<ptrdiff_t>(1, in_cache / (unit * std::min(most, rows))));
        const uint8_t* end = b.at + b.bytes;
        for (ptrdiff_t g = 0; g < groups; g += step) {
            const ptrdiff_t count = std::min(step, groups - g), reach = (count - 1) * K::bytes + K::reach;
            for (ptrdiff_t n = first; n < last; n += 64)
                for (ptrdiff_t m = 0; m < rows; m += most) {
                    const ptrdiff_t height = std::min(most, rows - m);
                    const Whole* at = left + (m * groups + g * height) * K::left;
                    for (ptrdiff_t j = n; j < std::min(last, n + 64); ++j) {
                        const uint8_t* from = b.at + (j * b.columns + g * K::words) * K::size;
                        uint8_t side[side_groups * K::bytes + sizeof(Whole)];
                        if (end - from < reach) {
                            std::memset(side, 0, size_t(reach));
                            from = static_cast<const uint8_t*>(std::memcpy(side, from, size_t(end - from)));
                        }
                        dots_of<K, most>(height, from, at, count, c + m * c_row + j, c_row);
                    }
                }
        }
    }

    RING_TARGET static void straight(const Packed& b, const Factor* left, ptrdiff_t rows, typename K::Word* c,
                                     ptrdiff_t c_row, ptrdiff_t first, ptrdiff_t last) {
        constexpr ptrdiff_t span = 16 * K::words;
        const ptrdiff_t b_row = b.columns * K::size;
        const uint8_t* end = b.at + b.bytes;
        for (ptrdiff_t n = first; n < last; n += span)
            for (ptrdiff_t k = 0; k < b.rows; k += side_depth) {
                const ptrdiff_t depth = std::min(side_depth, b.rows - k);
                for (ptrdiff_t m = 0; m < rows; m += most) {
                    const ptrdiff_t height = std::min(most, rows - m);
                    const Factor* at = left + m * b.rows + k * height;
                    for (ptrdiff_t j = n; j < std::min(last, n + span); j += K::words) {
                        const uint8_t* from = b.at + k * b_row + j * K::size;
                        ptrdiff_t from_row = b_row;
                        uint8_t side[side_depth][K::reach];
                        if (end - from < (depth - 1) * b_row + K::reach) {
                            std::memset(side, 0, sizeof side);
                            for (ptrdiff_t i = 0; i < depth; ++i)
                                std::memcpy(side[i], from + i * b_row,
                                            size_t(std::min<ptrdiff_t>(K::reach, end - (from + i * b_row))));
                            from = side[0], from_row = K::reach;
                        }
                        axpy_of<K, most>(height, from, from_row, at, depth, c + m * c_row + j, c_row,
                                         std::min<ptrdiff_t>(K::words, last - j));
                    }
                }
            }
    }
};

template <class K>
constexpr Fused FUSED_FOR = {Arranged<K>::room, Arranged<K>::arrange, Arranged<K>::multiply};

inline const Fused* fused(int bits) {
    switch (bits) {
    case 32: return &FUSED_FOR<Words32>;
    case 40: return &FUSED_FOR<Parted<5>>;
    case 48: return &FUSED_FOR<Parted<6>>;
    case 64: return &FUSED_FOR<Words64>;
    default: return nullptr;
    }
}

}  // namespace RING_LEVEL

#else

namespace RING_LEVEL {

inline const Fused* fused(int) { return nullptr; }

}  // namespace RING_LEVEL

#endif
