// Products with a matrix that lies packed, for one level of vector instructions; included once per level.
//
// A few words at a time are unpacked into registers and multiplied with every row of the other operand there.

#ifdef RING_FUSED_ROWS

namespace RING_LEVEL {

// c[r] += the products of R rows with one row that lies packed.
template <class K, int R>
RING_TARGET void packed_dots(const uint8_t* from, ptrdiff_t ahead, const Whole* left, ptrdiff_t groups,
                             typename K::Word* c, ptrdiff_t c_row) {
    typename K::Dot sum[R] = {};
    for (ptrdiff_t g = 0; g < groups; ++g, from += K::bytes, left += R * K::left) {
        // The part of another row that is due soon; the processor would not guess it, as it lies far away.
        for (int at = 0; at < K::bytes; at += 64) __builtin_prefetch(from + ahead + at, 0, 3);
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
                    for (ptrdiff_t r = 0; r < height; ++r) *at++ = K::factor(from[r * words_row + k]);
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
    static constexpr ptrdiff_t side_groups = 32, side_depth = 32, in_cache = 24576;

    RING_TARGET static void turned(const Packed& b, const Whole* left, ptrdiff_t rows, typename K::Word* c,
                                   ptrdiff_t c_row, ptrdiff_t first, ptrdiff_t last) {
        const ptrdiff_t groups = (b.columns + K::words - 1) / K::words, unit = K::left * ptrdiff_t(sizeof(Whole));
        const ptrdiff_t step = std::min(side_groups, std::max<ptrdiff_t>(1, in_cache / (unit * std::min(most, rows))));
        const uint8_t* end = b.at + b.bytes;
        const ptrdiff_t ahead = 2 * b.columns * K::size;
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
                        dots_of<K, most>(height, from, ahead, at, count, c + m * c_row + j, c_row);
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
constexpr Fused FUSED_FOR = {Arranged<K>::room, Arranged<K>::arrange, Arranged<K>::multiply, blend<K::size>};

inline const Fused* fused(int bits) {
    switch (bits) {
    case 32: return &FUSED_FOR<Words32>;
    case 40: return &FUSED_FOR<Words40>;
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
