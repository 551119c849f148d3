// The product of two matrices of words of 64 bits of which the low 48 count, for one level of vector instructions;
// included once per level.
//
// A word is w = l + 2^32 h. Of a product, l l' counts whole, and of l h' + h l' only the low 16 bits do, which one
// instruction computes from 16 bits of each: three multiplications for eight products, where words of 64 bits take
// four (split_tile in _ring_gemm.hpp).

namespace RING_LEVEL {

#ifdef RING_SPLIT_64

constexpr int NARROW_ROWS = 4, NARROW_COLUMNS = 8, NARROW_BYTES = 96;  // of a tile; of a row of a panel

// A word of A: l, and 16 bits each of l and h.
struct NarrowFactor {
    uint32_t low, mixed;
};

// c (R rows, 8 columns) = or += a @ b; a lies as [depth][R], b as [depth] of two vectors of words and one of their
// parts, h before l, those of the second vector in the upper halves.
template <int R>
RING_TARGET void narrow_tile(const NarrowFactor* a, const uint8_t* b, uint64_t* c, ptrdiff_t c_row, ptrdiff_t depth,
                             bool add) {
    typedef Vector<uint64_t> Whole;
    typedef uint32_t Halves __attribute__((vector_size(sizeof(Whole))));
    Whole first[R], second[R];
    Halves mixed[R];
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) first[r] = second[r] = Whole{}, mixed[r] = Halves{};
    for (ptrdiff_t k = 0; k < depth; ++k, a += R, b += NARROW_BYTES) {
        const uint64_t* words = reinterpret_cast<const uint64_t*>(b);
        const Whole one = load(words), two = load(words + 4), parts = load(words + 8);
#pragma GCC unroll 8
        for (int r = 0; r < R; ++r) {
            const Whole low = Whole(Halves{} + a[r].low);
            first[r] += Whole(RING_MULTIPLY_LOW_HALVES(low, one));
            second[r] += Whole(RING_MULTIPLY_LOW_HALVES(low, two));
            mixed[r] += Halves(RING_MULTIPLY_PAIRS(Halves{} + a[r].mixed, parts));
        }
    }
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
        uint64_t* to = c + r * c_row;
        const Whole both = Whole(mixed[r]);
        const Whole left = first[r] + (both << 32), right = second[r] + (both >> 32 << 32);
        store(to, add ? load(to) + left : left);
        store(to + 4, add ? load(to + 4) + right : right);
    }
}

template <int R, class... Arguments> RING_TARGET void narrow_of(int rows, Arguments... arguments) {
    if constexpr (R > 1)
        if (rows < R) return narrow_of<R - 1>(rows, arguments...);
    narrow_tile<R>(arguments...);
}

RING_TARGET inline void narrow_edge(int rows, int columns, const NarrowFactor* a, const uint8_t* b, uint64_t* c,
                                    ptrdiff_t c_row, ptrdiff_t depth, bool add) {
    if (columns == NARROW_COLUMNS) return narrow_of<NARROW_ROWS>(rows, a, b, c, c_row, depth, add);
    uint64_t side[NARROW_ROWS * NARROW_COLUMNS];
    narrow_of<NARROW_ROWS>(rows, a, b, side, ptrdiff_t(NARROW_COLUMNS), depth, false);
    for (int r = 0; r < rows; ++r)
        for (int j = 0; j < columns; ++j)
            c[r * c_row + j] = side[r * NARROW_COLUMNS + j] + (add ? c[r * c_row + j] : 0);
}

// to[k][r] = a[r][k], tile after tile, the last one as narrow as it is.
RING_TARGET inline void narrow_left(Matrix<uint64_t> a, ptrdiff_t rows, ptrdiff_t depth, NarrowFactor* to) {
    for (ptrdiff_t m = 0; m < rows; m += NARROW_ROWS) {
        const ptrdiff_t height = std::min<ptrdiff_t>(NARROW_ROWS, rows - m);
        for (ptrdiff_t k = 0; k < depth; ++k) {
            const uint64_t* from = a.at + m * a.row + k * a.column;
            for (ptrdiff_t r = 0; r < height; ++r) {
                const uint64_t word = from[r * a.row];
                *to++ = {uint32_t(word), uint32_t(word & 0xFFFF) | uint32_t(word >> 32) << 16};
            }
        }
    }
}

// A panel of b, padded with zeros to eight columns.
RING_TARGET inline void narrow_right(Matrix<uint64_t> b, ptrdiff_t depth, int columns, uint8_t* to) {
    typedef Vector<uint64_t> Whole;
    const bool whole = b.column == 1 && columns == NARROW_COLUMNS;
    for (ptrdiff_t k = 0; k < depth; ++k, to += NARROW_BYTES) {
        uint64_t side[NARROW_COLUMNS] = {};
        const uint64_t* from = b.at + k * b.row;
        if (!whole) {
            for (int j = 0; j < columns; ++j) side[j] = from[j * b.column];
            from = side;
        }
        const Whole one = load(from), two = load(from + 4);
        const Whole parts = (one >> 32 & 0xFFFF) | (one & 0xFFFF) << 16;
        const Whole upper = (two & uint64_t(0xFFFF00000000)) | (two & 0xFFFF) << 48;
        uint64_t* words = reinterpret_cast<uint64_t*>(to);
        store(words, one);
        store(words + 4, two);
        store(words + 8, parts | upper);
    }
}

// As `gemm`, with the blocks of that one; the result counts mod 2^48.
RING_TARGET inline void gemm48(Matrix<uint64_t> a, Matrix<uint64_t> b, uint64_t* c, ptrdiff_t c_row, Size size,
                               bool add) {
    if (size.rows <= 2 * Shape<uint64_t>::rows || size.columns <= 4) return gemm(a, b, c, c_row, size, add);
    static_assert(NARROW_BYTES <= MOST_COLUMNS * sizeof(uint64_t) && BLOCK_ROWS % NARROW_ROWS == 0,
                  "scratch is sized for these");
    NarrowFactor* left = static_cast<NarrowFactor*>(scratch());
    uint8_t* right = reinterpret_cast<uint8_t*>(left + BLOCK_ROWS * DEPTH);
    const ptrdiff_t depth_step = even_step(size.depth, DEPTH, 1);
    const ptrdiff_t row_step = even_step(size.rows, BLOCK_ROWS, NARROW_ROWS);
    for (ptrdiff_t k = 0; k < size.depth; k += depth_step) {
        const ptrdiff_t depth = std::min(depth_step, size.depth - k);
        for (ptrdiff_t m = 0; m < size.rows; m += row_step) {
            const ptrdiff_t rows = std::min(row_step, size.rows - m);
            narrow_left(a.from(m, k), rows, depth, left);
            for (ptrdiff_t n = 0; n < size.columns; n += NARROW_COLUMNS) {
                const int columns = int(std::min<ptrdiff_t>(NARROW_COLUMNS, size.columns - n));
                narrow_right(b.from(k, n), depth, columns, right);
                const bool ahead = b.column == 1 && n + 2 * NARROW_COLUMNS <= size.columns;
                for (ptrdiff_t t = 0; t < rows; t += NARROW_ROWS) {
                    const int height = int(std::min<ptrdiff_t>(NARROW_ROWS, rows - t));
                    if (ahead)
                        prefetch(b.from(k, n + NARROW_COLUMNS), depth * t / rows, depth * (t + height) / rows);
                    narrow_edge(height, columns, left + t * depth, right, c + (m + t) * c_row + n, c_row, depth,
                                add || k);
                }
            }
        }
    }
}

#else

inline void gemm48(Matrix<uint64_t> a, Matrix<uint64_t> b, uint64_t* c, ptrdiff_t c_row, Size size, bool add) {
    gemm(a, b, c, c_row, size, add);
}

#endif

}  // namespace RING_LEVEL
