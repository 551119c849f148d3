// The extension module onnxpuma.mpc._ring: ring products, bit packing and fused loops, outside of Python's lock.
//
// Arguments are checked and documented in ring.py, the only caller; here only what keeps memory safe is checked
// again. The same code is compiled for several levels of vector instructions and the best one of this processor is
// chosen when the module is loaded.

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <new>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#ifdef __x86_64__
#include <immintrin.h>
#endif

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "packing is written for little-endian processors"
#endif

namespace {

// A block of A is BLOCK_ROWS x DEPTH words, a panel of B DEPTH x at most MOST_COLUMNS.
constexpr ptrdiff_t BLOCK_ROWS = 192, DEPTH = 192, MOST_COLUMNS = 64;
constexpr ptrdiff_t BLOCK_LANES = 4096;

struct Size {
    ptrdiff_t rows, columns, depth;
};

template <class W> struct Matrix {
    const W* at;
    ptrdiff_t row, column;  // strides, in words
    Matrix from(ptrdiff_t i, ptrdiff_t j) const { return {at + i * row + j * column, row, column}; }
    Matrix transposed() const { return {at, column, row}; }
};

// A fused loop over `count` words: table and other are what the loop's line in _ring_words.hpp makes of them.
struct Loop {
    const void *words, *table, *other;
    void* out;
    ptrdiff_t count;
    uint64_t multiplier, digit;
    int shift;
};
using LoopFunction = void (*)(const Loop&);

inline uint64_t low_bits(int bits) { return bits >= 64 ? ~uint64_t(0) : (uint64_t(1) << bits) - 1; }

// The type to multiply in: a product of two narrow words would be one of signed integers.
inline uint32_t wide(uint8_t x) { return x; }
inline uint32_t wide(uint16_t x) { return x; }
inline uint32_t wide(uint32_t x) { return x; }
inline uint64_t wide(uint64_t x) { return x; }

// The step, at most `most` and a multiple of `unit`, that cuts `length` into equal parts.
inline ptrdiff_t even_step(ptrdiff_t length, ptrdiff_t most, ptrdiff_t unit) {
    const ptrdiff_t parts = (length + most - 1) / most, step = (length + parts - 1) / parts;
    return (step + unit - 1) / unit * unit;
}

// Room for a block and a panel, kept by each thread until it ends.
inline void* scratch() {
    struct Room {
        void* at = std::aligned_alloc(64, size_t(BLOCK_ROWS + MOST_COLUMNS) * DEPTH * 8);
        ~Room() { std::free(at); }
    };
    thread_local Room room;
    if (!room.at) throw std::bad_alloc();
    return room.at;
}

}  // namespace

#define RING_LEVEL baseline
#define RING_TARGET
#define RING_BYTES_32 16
#define RING_ROWS_32 4
#define RING_VECTORS_32 2
#define RING_BYTES_64 8
#define RING_ROWS_64 4
#define RING_VECTORS_64 2
#include "_ring_gemm.hpp"
#include "_ring_words.hpp"
#undef RING_LEVEL
#undef RING_TARGET
#undef RING_BYTES_32
#undef RING_ROWS_32
#undef RING_VECTORS_32
#undef RING_BYTES_64
#undef RING_ROWS_64
#undef RING_VECTORS_64

#ifdef __x86_64__
#define RING_LEVEL avx2
#define RING_TARGET __attribute__((target("avx2,bmi,bmi2")))
#define RING_BYTES_32 32
#define RING_ROWS_32 4
#define RING_VECTORS_32 2
#define RING_BYTES_64 32
#define RING_ROWS_64 3
#define RING_VECTORS_64 2
#define RING_SPLIT_64
#define RING_SWAP_HALVES(x) _mm256_shuffle_epi32(__m256i(x), 0xB1)
#define RING_MULTIPLY_LOW_HALVES(x, y) _mm256_mul_epu32(__m256i(x), __m256i(y))
#include "_ring_gemm.hpp"
#include "_ring_words.hpp"
#undef RING_LEVEL
#undef RING_TARGET
#undef RING_BYTES_32
#undef RING_ROWS_32
#undef RING_VECTORS_32
#undef RING_BYTES_64
#undef RING_ROWS_64
#undef RING_VECTORS_64
#undef RING_SPLIT_64
#undef RING_SWAP_HALVES
#undef RING_MULTIPLY_LOW_HALVES

#define RING_LEVEL avx512
#define RING_TARGET __attribute__((target("avx512f,avx512bw,avx512cd,avx512dq,avx512vl,avx2,bmi,bmi2")))
#define RING_BYTES_32 64
#define RING_ROWS_32 8
#define RING_VECTORS_32 2
#define RING_BYTES_64 64
#define RING_ROWS_64 8
#define RING_VECTORS_64 2
#include "_ring_gemm.hpp"
#include "_ring_words.hpp"
#endif

namespace {

// ---------------------------------------------------------------- levels

struct Level {
    const char* name;
    bool (*usable)();
    void (*gemm32)(Matrix<uint32_t>, Matrix<uint32_t>, uint32_t*, ptrdiff_t, Size, bool);
    void (*gemm64)(Matrix<uint64_t>, Matrix<uint64_t>, uint64_t*, ptrdiff_t, Size, bool);
    void (*pack)(const uint8_t*, ptrdiff_t, int, int, uint8_t*, ptrdiff_t);
    void (*unpack)(const uint8_t*, ptrdiff_t, int, int, uint8_t*, ptrdiff_t);
    const LoopFunction (*loops)[4][4];
};

#define RING_ENTRY(level, usable)                                                                                 \
    {#level, usable, level::gemm<uint32_t>, level::gemm<uint64_t>, level::pack, level::unpack, level::LOOPS}

const Level LEVELS[] = {
#ifdef __x86_64__
    RING_ENTRY(avx512, ([]() -> bool {
        return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
               __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
               __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("bmi2");
    })),
    RING_ENTRY(avx2, ([]() -> bool { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi2"); })),
#endif
    RING_ENTRY(baseline, ([]() -> bool { return true; })),
};

const Level* best_level() {
#ifdef __x86_64__
    __builtin_cpu_init();
#endif
    const Level* level = LEVELS;
    while (!level->usable()) ++level;
    return level;
}

std::atomic<const Level*> current{best_level()};  // the one in use
std::atomic<int> thread_count{1};

// ---------------------------------------------------------------- products

void gemm(const Level& l, Matrix<uint32_t> a, Matrix<uint32_t> b, uint32_t* c, ptrdiff_t c_row, Size s, bool add) {
    l.gemm32(a, b, c, c_row, s, add);
}
void gemm(const Level& l, Matrix<uint64_t> a, Matrix<uint64_t> b, uint64_t* c, ptrdiff_t c_row, Size s, bool add) {
    l.gemm64(a, b, c, c_row, s, add);
}

// Views of numpy arrays, released at the end of the call.
class Views {
public:
    ~Views() {
        for (int i = 0; i < count_; ++i) PyBuffer_Release(&view_[i]);
    }
    Py_buffer* take(PyObject* object, int flags) {
        Py_buffer* view = &view_[count_];
        if (PyObject_GetBuffer(object, view, flags) != 0) return nullptr;
        ++count_;
        return view;
    }

private:
    Py_buffer view_[5];
    int count_ = 0;
};

struct Product {
    const Py_buffer *out, *left[2], *right[2];
    int pairs;
    bool add;

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
    void part(const Level& level, ptrdiff_t index, ptrdiff_t m, ptrdiff_t n, ptrdiff_t rows, ptrdiff_t columns) const {
        const ptrdiff_t c_row = out->strides[out->ndim - 2] / ptrdiff_t(sizeof(W));
        W* c = reinterpret_cast<W*>(matrix(out, index)) + m * c_row + n;
        for (int p = 0; p < pairs; ++p) {
            const Matrix<W> a = operand<W>(left[p], index), b = operand<W>(right[p], index);
            const Size size = {rows, columns, left[p]->shape[left[p]->ndim - 1]};
            if (size.depth > 0) {
                gemm(level, a.from(m, 0), b.from(0, n), c, c_row, size, add || p);
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
        const ptrdiff_t threads = std::max<ptrdiff_t>(1, std::min<ptrdiff_t>(thread_count, ptrdiff_t(work / 1e6)));
        ptrdiff_t m_step = rows, n_step = columns;
        if (threads > 1 && batch < 4 * threads) {
            if (columns >= rows)
                n_step = even_step(columns, (columns + threads - 1) / threads, 64);
            else
                m_step = even_step(rows, (rows + threads - 1) / threads, 8);
        }
        const ptrdiff_t m_parts = (rows + m_step - 1) / m_step, n_parts = (columns + n_step - 1) / n_step;
        std::atomic<ptrdiff_t> next{0};
        std::atomic<bool> out_of_memory{false};
        const auto work_off = [&] {
            try {
                for (ptrdiff_t i; (i = next++) < batch * m_parts * n_parts;) {
                    const ptrdiff_t n = i % n_parts * n_step, m = i / n_parts % m_parts * m_step;
                    part<W>(level, i / n_parts / m_parts, m, n, std::min(m_step, rows - m), std::min(n_step, columns - n));
                }
            } catch (const std::bad_alloc&) {
                out_of_memory = true;
            }
        };
        std::vector<std::thread> helpers;
        try {
            for (ptrdiff_t t = 1; t < threads; ++t) helpers.emplace_back(work_off);
        } catch (const std::system_error&) {
            // No more threads to be had: those that started do the work.
        }
        work_off();
        for (std::thread& helper : helpers) helper.join();
        if (out_of_memory) throw std::bad_alloc();
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

PyObject* py_matmul(PyObject*, PyObject* args) {
    PyObject *out, *operand[4] = {};
    int add;
    if (!PyArg_ParseTuple(args, "OpOO|OO", &out, &add, &operand[0], &operand[1], &operand[2], &operand[3]))
        return nullptr;
    Views views;
    Product p = {};
    p.add = add;
    p.pairs = operand[3] ? 2 : 1;
    if (!(p.out = views.take(out, PyBUF_STRIDED))) return nullptr;
    for (int i = 0; i < p.pairs; ++i) {
        if (!(p.left[i] = views.take(operand[2 * i], PyBUF_STRIDED_RO))) return nullptr;
        if (!(p.right[i] = views.take(operand[2 * i + 1], PyBUF_STRIDED_RO))) return nullptr;
    }
    if (!fits(p)) {
        PyErr_SetString(PyExc_ValueError, "operands do not fit together");
        return nullptr;
    }
    bool out_of_memory = false;
    Py_BEGIN_ALLOW_THREADS
    try {
        p.out->itemsize == 4 ? p.run<uint32_t>() : p.run<uint64_t>();
    } catch (const std::bad_alloc&) {
        out_of_memory = true;
    }
    Py_END_ALLOW_THREADS
    if (out_of_memory) return PyErr_NoMemory();
    Py_RETURN_NONE;
}

// ---------------------------------------------------------------- packing

PyObject* py_pack(PyObject*, PyObject* args) {
    PyObject *words, *out;
    int bits;
    if (!PyArg_ParseTuple(args, "OiO", &words, &bits, &out)) return nullptr;
    Views views;
    const Py_buffer *from, *to;
    if (!(from = views.take(words, PyBUF_ND)) || !(to = views.take(out, PyBUF_ND | PyBUF_WRITABLE))) return nullptr;
    const ptrdiff_t size = from->itemsize;
    if (bits < 1 || bits > 8 * size || to->len != (from->len / size * bits + 7) / 8) {
        PyErr_SetString(PyExc_ValueError, "buffers do not fit");
        return nullptr;
    }
    Py_BEGIN_ALLOW_THREADS
    current.load()->pack(static_cast<const uint8_t*>(from->buf), from->len, int(size), bits,
                         static_cast<uint8_t*>(to->buf), to->len);
    Py_END_ALLOW_THREADS
    Py_RETURN_NONE;
}

PyObject* py_unpack(PyObject*, PyObject* args) {
    PyObject *buffer, *out;
    int bits;
    if (!PyArg_ParseTuple(args, "OiO", &buffer, &bits, &out)) return nullptr;
    Views views;
    const Py_buffer *from, *to;
    if (!(from = views.take(buffer, PyBUF_SIMPLE)) || !(to = views.take(out, PyBUF_ND | PyBUF_WRITABLE))) return nullptr;
    const ptrdiff_t size = to->itemsize;
    if (bits < 1 || bits > 8 * size || from->len != (to->len / size * bits + 7) / 8) {
        PyErr_SetString(PyExc_ValueError, "buffers do not fit");
        return nullptr;
    }
    Py_BEGIN_ALLOW_THREADS
    current.load()->unpack(static_cast<const uint8_t*>(from->buf), from->len, int(size), bits,
                           static_cast<uint8_t*>(to->buf), to->len);
    Py_END_ALLOW_THREADS
    Py_RETURN_NONE;
}

// ---------------------------------------------------------------- fused loops

enum Kind { TABLE_BITS, PICK_BITS, GATHER_TABLE, AXPY, SHIFT_MASK, KINDS };

int size_index(ptrdiff_t itemsize) { return itemsize == 1 ? 0 : itemsize == 2 ? 1 : itemsize == 4 ? 2 : 3; }

// loop(kind, out, words, table or None, other or None, multiplier, shift, bits)
PyObject* py_loop(PyObject*, PyObject* args) {
    PyObject *out, *words, *table, *other;
    int kind, shift, bits;
    unsigned long long multiplier;
    if (!PyArg_ParseTuple(args, "iOOOOKii", &kind, &out, &words, &table, &other, &multiplier, &shift, &bits))
        return nullptr;
    Views views;
    const Py_buffer *to, *from, *tables = nullptr, *others = nullptr;
    if (!(to = views.take(out, PyBUF_ND | PyBUF_WRITABLE)) || !(from = views.take(words, PyBUF_ND))) return nullptr;
    if (table != Py_None && !(tables = views.take(table, PyBUF_ND))) return nullptr;
    if (other != Py_None && !(others = views.take(other, PyBUF_ND))) return nullptr;

    const ptrdiff_t count = from->len / from->itemsize;
    const Py_buffer* typed = tables ? tables : to;
    const bool by_digit = kind == TABLE_BITS || kind == GATHER_TABLE || kind == AXPY;
    const bool two = kind == TABLE_BITS || kind == AXPY;
    bool fit = kind >= 0 && kind < KINDS && shift >= 0 && bits >= 0 && bits <= 64 && shift < 8 * from->itemsize;
    fit = fit && to->len / to->itemsize == count && bool(tables) == (kind != SHIFT_MASK) && bool(others) == two;
    fit = fit && to->itemsize == (kind == PICK_BITS ? 1 : typed->itemsize);
    if (fit && by_digit) fit = bits < 40 && tables->len / tables->itemsize == ptrdiff_t(1) << bits;
    if (fit && kind == PICK_BITS) fit = bits <= 6 && 1 << bits <= 8 * tables->itemsize && tables->len / tables->itemsize == count;
    if (fit && two) fit = others->itemsize == tables->itemsize && others->len / others->itemsize == count;
    if (!fit) {
        PyErr_SetString(PyExc_ValueError, "buffers do not fit");
        return nullptr;
    }
    const Loop loop = {from->buf, tables ? tables->buf : nullptr, others ? others->buf : nullptr, to->buf, count,
                       multiplier, low_bits(bits), shift};
    Py_BEGIN_ALLOW_THREADS
    current.load()->loops[kind][size_index(from->itemsize)][size_index(typed->itemsize)](loop);
    Py_END_ALLOW_THREADS
    Py_RETURN_NONE;
}

// ---------------------------------------------------------------- settings

PyObject* py_levels(PyObject*, PyObject*) {
    PyObject* names = PyList_New(0);
    for (const Level& level : LEVELS) {
        if (!names || !level.usable()) continue;
        PyObject* name = PyUnicode_FromString(level.name);
        if (!name || PyList_Append(names, name) != 0) Py_CLEAR(names);
        Py_XDECREF(name);
    }
    return names;
}

PyObject* py_level(PyObject*, PyObject*) { return PyUnicode_FromString(current.load()->name); }

PyObject* py_set_level(PyObject*, PyObject* args) {
    const char* name;
    if (!PyArg_ParseTuple(args, "s", &name)) return nullptr;
    for (const Level& level : LEVELS)
        if (std::strcmp(level.name, name) == 0 && level.usable()) {
            current = &level;
            Py_RETURN_NONE;
        }
    return PyErr_Format(PyExc_ValueError, "no level %s on this processor", name);
}

PyObject* py_threads(PyObject*, PyObject*) { return PyLong_FromLong(thread_count.load()); }

PyObject* py_set_threads(PyObject*, PyObject* args) {
    int count;
    if (!PyArg_ParseTuple(args, "i", &count)) return nullptr;
    thread_count = std::max(1, count);
    Py_RETURN_NONE;
}

PyMethodDef METHODS[] = {
    {"matmul", py_matmul, METH_VARARGS, "matmul(out, accumulate, a, b[, a2, b2])"},
    {"pack", py_pack, METH_VARARGS, "pack(words, bits, out)"},
    {"unpack", py_unpack, METH_VARARGS, "unpack(buffer, bits, out)"},
    {"loop", py_loop, METH_VARARGS, "loop(kind, out, words, table, other, multiplier, shift, bits)"},
    {"levels", py_levels, METH_NOARGS, "levels() -> names, best first"},
    {"level", py_level, METH_NOARGS, "level() -> name"},
    {"set_level", py_set_level, METH_VARARGS, "set_level(name)"},
    {"threads", py_threads, METH_NOARGS, "threads() -> int"},
    {"set_threads", py_set_threads, METH_VARARGS, "set_threads(count)"},
    {nullptr, nullptr, 0, nullptr},
};

PyModuleDef_Slot SLOTS[] = {
#ifdef Py_mod_gil
    {Py_mod_gil, Py_MOD_GIL_NOT_USED},
#endif
    {0, nullptr},
};

PyModuleDef MODULE = {PyModuleDef_HEAD_INIT, "onnxpuma.mpc._ring", "Ring products, packing and fused loops.", 0,
                      METHODS, SLOTS, nullptr, nullptr, nullptr};

}  // namespace

PyMODINIT_FUNC PyInit__ring() { return PyModuleDef_Init(&MODULE); }
