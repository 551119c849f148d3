// Products with few rows or few columns, which memory bounds: every word of the large operand is read once, in order.

namespace RING_LEVEL {

// A few rows times a matrix whose rows are contiguous: every row of b is read once, in order, U of them at a time.
template <class W, int R, int U>
RING_TARGET void stream_rows(Matrix<W> a, Matrix<W> b, W* c, ptrdiff_t c_row, ptrdiff_t columns, bool add) {
    Vector<W> left[R][U];
    for (int r = 0; r < R; ++r)
        for (int u = 0; u < U; ++u) left[r][u] = Vector<W>{} + a.at[r * a.row + u * a.column];
    ptrdiff_t j = 0;
    for (; j + LANES<W> <= columns; j += LANES<W>) {
        Vector<W> sum[R];
        for (int r = 0; r < R; ++r) sum[r] = add ? load(c + r * c_row + j) : Vector<W>{};
#pragma GCC unroll 8
        for (int u = 0; u < U; ++u) {
            const Vector<W> right = load(b.at + u * b.row + j);
#pragma GCC unroll 4
            for (int r = 0; r < R; ++r) sum[r] += left[r][u] * right;
        }
        for (int r = 0; r < R; ++r) store(c + r * c_row + j, sum[r]);
    }
    for (; j < columns; ++j)
        for (int r = 0; r < R; ++r) {
            W sum = add ? c[r * c_row + j] : W(0);
            for (int u = 0; u < U; ++u) sum += a.at[r * a.row + u * a.column] * b.at[u * b.row + j];
            c[r * c_row + j] = sum;
        }
}

template <class W, int U>
RING_TARGET void stream(Matrix<W> a, Matrix<W> b, W* c, ptrdiff_t c_row, Size size, bool add) {
    for (ptrdiff_t m = 0; m < size.rows; m += 4, a = a.from(4, 0), c += 4 * c_row) switch (size.rows - m) {
        case 1: stream_rows<W, 1, U>(a, b, c, c_row, size.columns, add); break;
        case 2: stream_rows<W, 2, U>(a, b, c, c_row, size.columns, add); break;
        case 3: stream_rows<W, 3, U>(a, b, c, c_row, size.columns, add); break;
        default: stream_rows<W, 4, U>(a, b, c, c_row, size.columns, add);
        }
}

template <class W>
RING_TARGET void few_rows(Matrix<W> a, Matrix<W> b, W* c, ptrdiff_t c_row, Size size, bool add) {
    const ptrdiff_t together = size.rows <= 2 ? 8 : 4, span = 16384 / std::min<ptrdiff_t>(4, size.rows) / sizeof(W);
    for (ptrdiff_t n = 0; n < size.columns; n += span) {
        const Size part = {size.rows, std::min(span, size.columns - n), size.depth};
        for (ptrdiff_t k = 0; k < size.depth;) {
            const Matrix<W> left = a.from(0, k), right = b.from(k, n);
            const ptrdiff_t step = k + together <= size.depth ? together : 1;
            switch (step) {
            case 8: stream<W, 8>(left, right, c + n, c_row, part, add || k); break;
            case 4: stream<W, 4>(left, right, c + n, c_row, part, add || k); break;
            default: stream<W, 1>(left, right, c + n, c_row, part, add || k);
            }
            k += step;
        }
    }
}

// c[i][s] = or += <many[i], few[s]>, both contiguous along the inner dimension; R of the few, packed one by one.
template <class W, int R>
RING_TARGET void dots(Matrix<W> many, ptrdiff_t count, const W* few, ptrdiff_t depth, W* c, ptrdiff_t c_many,
                      ptrdiff_t c_few, bool add) {
    constexpr ptrdiff_t step = 2 * LANES<W>;
    for (ptrdiff_t i = 0; i < count; ++i) {
        const W* row = many.at + i * many.row;
        Vector<W> sum[R][2] = {};
        ptrdiff_t k = 0;
        for (; k + step <= depth; k += step) {
            const Vector<W> first = load(row + k), second = load(row + k + LANES<W>);
#pragma GCC unroll 4
            for (int s = 0; s < R; ++s) {
                sum[s][0] += first * load(few + s * depth + k);
                sum[s][1] += second * load(few + s * depth + k + LANES<W>);
            }
        }
        for (int s = 0; s < R; ++s) {
            W lanes[LANES<W>], total = 0;
            store(lanes, sum[s][0] + sum[s][1]);
            for (int l = 0; l < LANES<W>; ++l) total += lanes[l];
            for (ptrdiff_t t = k; t < depth; ++t) total += row[t] * few[s * depth + t];
            W& to = c[i * c_many + s * c_few];
            to = add ? W(to + total) : total;
        }
    }
}

template <class W>
RING_TARGET void few_columns(Matrix<W> many, ptrdiff_t count, Matrix<W> few, ptrdiff_t few_count, ptrdiff_t depth,
                             W* c, ptrdiff_t c_many, ptrdiff_t c_few, bool add) {
    std::vector<W> packed(size_t(few_count * depth));
    for (ptrdiff_t s = 0; s < few_count; ++s)
        for (ptrdiff_t k = 0; k < depth; ++k) packed[size_t(s * depth + k)] = few.at[s * few.row + k * few.column];
    ptrdiff_t s = 0;
    for (; s + 2 <= few_count; s += 2)
        dots<W, 2>(many, count, packed.data() + s * depth, depth, c + s * c_few, c_many, c_few, add);
    if (s < few_count) dots<W, 1>(many, count, packed.data() + s * depth, depth, c + s * c_few, c_many, c_few, add);
}

}  // namespace RING_LEVEL
