// The product of two matrices of ring words, for one level of vector instructions; included once per level.
//
// Blocks after Goto and van de Geijn, "Anatomy of high-performance matrix multiplication" (2008): a block of A
// (up to BLOCK_ROWS x DEPTH) lies in the second-level cache, a panel of B (DEPTH x a tile's columns) in the first,
// and a tile of C in registers. Words wrap, so blocks may be summed in any order and the result is exact.

namespace RING_LEVEL {

#ifdef RING_SPLIT_64
// `tile` (below) for words of 64 bits where vectors multiply 32: `low` sums the products of the low halves; of the
// two mixed products, one in each half of `mixed`, only the low 32 bits count.
template <int R, int V>
RING_TARGET void split_tile(const uint64_t* a, const uint64_t* b, uint64_t* c, ptrdiff_t c_row, ptrdiff_t depth,
                            bool add) {
    typedef Vector<uint64_t> Whole;
    typedef uint32_t Halves __attribute__((vector_size(sizeof(Whole))));
    Whole low[R][V];
    Halves mixed[R][V];
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
        for (int v = 0; v < V; ++v) low[r][v] = Whole{}, mixed[r][v] = Halves{};
    for (ptrdiff_t k = 0; k < depth; ++k, a += R, b += V * LANES<uint64_t>) {
        Whole right[V];
        Halves swapped[V];
#pragma GCC unroll 4
        for (int v = 0; v < V; ++v) {
            right[v] = load(b + v * LANES<uint64_t>);
            swapped[v] = Halves(RING_SWAP_HALVES(right[v]));
        }
#pragma GCC unroll 16
        for (int r = 0; r < R; ++r) {
            const Whole left = Whole{} + a[r];
#pragma GCC unroll 4
            for (int v = 0; v < V; ++v) {
                low[r][v] += Whole(RING_MULTIPLY_LOW_HALVES(left, right[v]));
                mixed[r][v] += Halves(left) * swapped[v];
            }
        }
    }
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
        for (int v = 0; v < V; ++v) {
            uint64_t* to = c + r * c_row + v * LANES<uint64_t>;
            const Whole both = Whole(mixed[r][v]), sum = low[r][v] + ((both + (both >> 32)) << 32);
            store(to, add ? load(to) + sum : sum);
        }
}
#endif

// c (R rows, V vectors) = or += a @ b; a lies as [depth][R], b as [depth][COLUMNS of V vectors].
template <class W, int R, int V>
RING_TARGET void tile(const W* a, const W* b, W* c, ptrdiff_t c_row, ptrdiff_t depth, bool add) {
#ifdef RING_SPLIT_64
    if constexpr (sizeof(W) == 8) return split_tile<R, V>(a, b, c, c_row, depth, add);
#endif
    Vector<W> sum[R][V];
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
        __builtin_prefetch(c + r * c_row, 1);
        __builtin_prefetch(c + r * c_row + V * LANES<W> - 1, 1);
#pragma GCC unroll 4
        for (int v = 0; v < V; ++v) sum[r][v] = Vector<W>{};
    }
    for (ptrdiff_t k = 0; k < depth; ++k, a += R, b += V * LANES<W>) {
        Vector<W> right[V];
#pragma GCC unroll 4
        for (int v = 0; v < V; ++v) right[v] = load(b + v * LANES<W>);
#pragma GCC unroll 16
        for (int r = 0; r < R; ++r) {
            const Vector<W> left = Vector<W>{} + a[r];
#pragma GCC unroll 4
            for (int v = 0; v < V; ++v) sum[r][v] += left * right[v];
        }
    }
    if (add) {
#pragma GCC unroll 16
        for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
            for (int v = 0; v < V; ++v) sum[r][v] += load(c + r * c_row + v * LANES<W>);
    }
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
        for (int v = 0; v < V; ++v) store(c + r * c_row + v * LANES<W>, sum[r][v]);
}

template <class W, int R, int V>
RING_TARGET void tile_of(int rows, int vectors, const W* a, const W* b, W* c, ptrdiff_t c_row, ptrdiff_t depth,
                         bool add) {
    if (rows < R) {
        if constexpr (R > 1) tile_of<W, R - 1, V>(rows, vectors, a, b, c, c_row, depth, add);
    } else if (vectors < V) {
        if constexpr (V > 1) tile_of<W, R, V - 1>(rows, vectors, a, b, c, c_row, depth, add);
    } else {
        tile<W, R, V>(a, b, c, c_row, depth, add);
    }
}

// A tile whose last columns lie outside of c: through a whole tile on the side.
template <class W>
RING_TARGET void tile_edge(int rows, int columns, const W* a, const W* b, W* c, ptrdiff_t c_row, ptrdiff_t depth,
                           bool add) {
    constexpr int R = Shape<W>::rows, V = Shape<W>::vectors;
    const int vectors = (columns + LANES<W> - 1) / LANES<W>, width = vectors * LANES<W>;
    if (width == columns) return tile_of<W, R, V>(rows, vectors, a, b, c, c_row, depth, add);
    W side[R * COLUMNS<W>];
    tile_of<W, R, V>(rows, vectors, a, b, side, width, depth, false);
    for (int r = 0; r < rows; ++r)
        for (int j = 0; j < columns; ++j) c[r * c_row + j] = side[r * width + j] + (add ? c[r * c_row + j] : W(0));
}

// to[k][r] = a[r][k], tile after tile, the last one as narrow as it is.
template <class W>
RING_TARGET void pack_left(Matrix<W> a, ptrdiff_t rows, ptrdiff_t depth, W* to) {
    for (ptrdiff_t m = 0; m < rows; m += Shape<W>::rows) {
        const int height = int(std::min<ptrdiff_t>(Shape<W>::rows, rows - m));
        for (ptrdiff_t k = 0; k < depth; ++k) {
            const W* from = a.at + m * a.row + k * a.column;
            if (height == Shape<W>::rows) {
#pragma GCC unroll 16
                for (int r = 0; r < Shape<W>::rows; ++r) *to++ = from[r * a.row];
            } else {
                for (int r = 0; r < height; ++r) *to++ = from[r * a.row];
            }
        }
    }
}

// to[k][j] = b[k][j], padded with zeros to whole vectors.
template <class W>
RING_TARGET void pack_right(Matrix<W> b, ptrdiff_t depth, int columns, W* to) {
    const int width = (columns + LANES<W> - 1) / LANES<W> * LANES<W>;
    for (ptrdiff_t k = 0; k < depth; ++k) {
        if (b.column == 1 && columns == COLUMNS<W>) {
            std::memcpy(to, b.at + k * b.row, COLUMNS<W> * sizeof(W));
            to += COLUMNS<W>;
            continue;
        }
        for (int j = 0; j < columns; ++j) *to++ = b.at[k * b.row + j * b.column];
        for (int j = columns; j < width; ++j) *to++ = 0;
    }
}

// Ask for rows [from, to) of the next panel while this one is being multiplied: its rows are far apart, and the
// processor would not guess them.
template <class W>
RING_TARGET inline void prefetch(Matrix<W> b, ptrdiff_t from, ptrdiff_t to) {
    constexpr ptrdiff_t bytes = COLUMNS<W> * sizeof(W);
    for (ptrdiff_t k = from; k < to; ++k) {
        const char* row = reinterpret_cast<const char*>(b.at + k * b.row);
        for (ptrdiff_t at = 0; at < bytes; at += 64) __builtin_prefetch(row + at, 0, 2);
        __builtin_prefetch(row + bytes - 1, 0, 2);
    }
}

// c = a @ b, or c += a @ b where `add`. c has contiguous rows; a and b may have any strides.
template <class W>
RING_TARGET void gemm(Matrix<W> a, Matrix<W> b, W* c, ptrdiff_t c_row, Size size, bool add) {
    constexpr int R = Shape<W>::rows;
    if (size.rows <= 2 * R && b.column == 1) return few_rows(a, b, c, c_row, size, add);
    if (size.columns <= 4 && a.column == 1)
        return few_columns<W>(a, size.rows, b.transposed(), size.columns, size.depth, c, c_row, 1, add);
    if (size.rows <= 4 && b.row == 1)
        return few_columns<W>(b.transposed(), size.columns, a, size.rows, size.depth, c, 1, c_row, add);

    static_assert(COLUMNS<W> <= MOST_COLUMNS && BLOCK_ROWS % R == 0, "scratch is sized for these");
    W* left = static_cast<W*>(scratch());
    W* right = left + BLOCK_ROWS * DEPTH;
    const ptrdiff_t depth_step = even_step(size.depth, DEPTH, 1), row_step = even_step(size.rows, BLOCK_ROWS, R);
    for (ptrdiff_t k = 0; k < size.depth; k += depth_step) {
        const ptrdiff_t depth = std::min(depth_step, size.depth - k);
        for (ptrdiff_t m = 0; m < size.rows; m += row_step) {
            const ptrdiff_t rows = std::min(row_step, size.rows - m);
            pack_left(a.from(m, k), rows, depth, left);
            for (ptrdiff_t n = 0; n < size.columns; n += COLUMNS<W>) {
                const int columns = int(std::min<ptrdiff_t>(COLUMNS<W>, size.columns - n));
                pack_right(b.from(k, n), depth, columns, right);
                const bool ahead = b.column == 1 && n + 2 * COLUMNS<W> <= size.columns;
                for (ptrdiff_t t = 0; t < rows; t += R) {
                    const int height = int(std::min<ptrdiff_t>(R, rows - t));
                    if (ahead) prefetch(b.from(k, n + COLUMNS<W>), depth * t / rows, depth * (t + height) / rows);
                    tile_edge<W>(height, columns, left + t * depth, right, c + (m + t) * c_row + n, c_row, depth,
                                 add || k);
                }
            }
        }
    }
}

}  // namespace RING_LEVEL
