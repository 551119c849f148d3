// A batch of products out = or += a1 @ b1 [+ a2 @ b2] over numpy arrays of any strides, shared out to threads.

#pragma once

#include <Python.h>

#include "_ring_levels.hpp"
#include "_ring_threads.hpp"

namespace {

std::atomic<const Level*> current{best_level()};  // the one in use

// The result counts mod 2^bits.
void gemm(const Level& l, Matrix<uint32_t> a, Matrix<uint32_t> b, uint32_t* c, ptrdiff_t c_row, Size s, bool add,
          int = 32) {
    l.gemm32(a, b, c, c_row, s, add);
}
void gemm(const Level& l, Matrix<uint64_t> a, Matrix<uint64_t> b, uint64_t* c, ptrdiff_t c_row, Size s, bool add,
          int bits = 64) {
    (bits <= 48 ? l.gemm48 : l.gemm64)(a, b, c, c_row, s, add);
}

struct Product {
    const Py_buffer *out, *left[2], *right[2];
    int pairs;
    bool add;
    int bits;  // that count of a word of the result

    ptrdiff_t dimension(int from_end) const { return out->shape[out->ndim - from_end]; }

    // The matrix at place `index` of the batch.
    char* matrix(const Py_buffer* view, ptrdiff_t index) const {
        char* at = static_cast<char*>(view->buf);
        for (int d = out->ndim - 3; d >= 0; --d) {
            at += index % out->shape[d] * view->strides[d];
            index /= out->shape[d];
        }
        return at;
    }

    template <class W> Matrix<W> operand(const Py_buffer* view, ptrdiff_t index) const {
        constexpr ptrdiff_t size = sizeof(W);
        return {reinterpret_cast<const W*>(matrix(view, index)), view->strides[view->ndim - 2] / size,
                view->strides[view->ndim - 1] / size};
    }

    // Rows [m, m + rows) and columns [n, n + columns) of one matrix of the batch.
    template <class W>
    void part(const Level& level, ptrdiff_t index, ptrdiff_t m, ptrdiff_t n, ptrdiff_t rows,
              ptrdiff_t columns) const {
        const ptrdiff_t c_row = out->strides[out->ndim - 2] / ptrdiff_t(sizeof(W));
        W* c = reinterpret_cast<W*>(matrix(out, index)) + m * c_row + n;
        for (int p = 0; p < pairs; ++p) {
            const Matrix<W> a = operand<W>(left[p], index), b = operand<W>(right[p], index);
            const Size size = {rows, columns, left[p]->shape[left[p]->ndim - 1]};
            if (size.depth > 0) {
                gemm(level, a.from(m, 0), b.from(0, n), c, c_row, size, add || p, bits);
            } else if (!add && !p) {
                for (ptrdiff_t i = 0; i < rows; ++i) std::memset(c + i * c_row, 0, size_t(columns) * sizeof(W));
            }
        }
    }

    template <class W> void run() const {
        const Level& level = *current.load();
        const ptrdiff_t rows = dimension(2), columns = dimension(1);
        ptrdiff_t batch = 1, depth = 0;
        for (int d = 0; d < out->ndim - 2; ++d) batch *= out->shape[d];
        for (int p = 0; p < pairs; ++p) depth += left[p]->shape[left[p]->ndim - 1];
        if (batch * rows * columns == 0) return;

        // A thread is started for no less than about 50 microseconds of work.
        const double work = double(batch) * double(rows) * double(columns) * double(depth);
        const ptrdiff_t threads = threads_for(work / 1e6), parts = 4 * threads;
        ptrdiff_t m_step = rows, n_step = columns;
        if (threads > 1 && batch < parts) {
            if (columns >= rows)
                n_step = even_step(columns, (columns + parts - 1) / parts, 64);
            else
                m_step = even_step(rows, (rows + parts - 1) / parts, 24);
        }
        const ptrdiff_t m_parts = (rows + m_step - 1) / m_step, n_parts = (columns + n_step - 1) / n_step;
        share_out(batch * m_parts * n_parts, threads, [&](ptrdiff_t i) {
            const ptrdiff_t n = i % n_parts * n_step, m = i / n_parts % m_parts * m_step;
            part<W>(level, i / n_parts / m_parts, m, n, std::min(m_step, rows - m), std::min(n_step, columns - n));
        });
    }
};

bool fits(const Product& p) {
    const Py_buffer& out = *p.out;
    const ptrdiff_t size = out.itemsize;
    if (out.ndim < 2 || (size != 4 && size != 8)) return false;
    if (out.strides[out.ndim - 1] != size && p.dimension(1) > 1) return false;
    for (int i = 0; i < p.pairs; ++i) {
        const Py_buffer &a = *p.left[i], &b = *p.right[i];
        if (a.ndim != out.ndim || b.ndim != out.ndim || a.itemsize != size || b.itemsize != size) return false;
        for (int d = 0; d < out.ndim - 2; ++d)
            if (a.shape[d] != out.shape[d] || b.shape[d] != out.shape[d]) return false;
        const int m = out.ndim - 2, n = out.ndim - 1;
        if (a.shape[m] != out.shape[m] || b.shape[n] != out.shape[n] || a.shape[n] != b.shape[m]) return false;
        for (const Py_buffer* view : {&a, &b, &out})
            for (int d = 0; d < out.ndim; ++d)
                if (view->strides[d] % size) return false;
    }
    return true;
}

}  // namespace
