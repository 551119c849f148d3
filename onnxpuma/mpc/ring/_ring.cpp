// The extension module onnxpuma.mpc._ring: ring products, bit packing and fused loops, outside of Python's lock.
//
// Arguments are checked and documented in ring.py, the only caller; here only what keeps memory safe is checked
// again.

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <deque>
#include <mutex>
#include <optional>
#include <vector>

#include "_ring_ids.hpp"
#include "_ring_keyed.hpp"
#include "_ring_long.hpp"
#include "_ring_packed.hpp"
#include "_ring_steps.hpp"
#include "_ring_tape.hpp"
#include "_ring_trees.hpp"

namespace {

constexpr ptrdiff_t FEW_BYTES = 1 << 14;  // less than these are not worth giving Python's lock back and waiting for it

// Gives Python's lock back for its lifetime, where that is worth it.
class Unlocked {
public:
    explicit Unlocked(bool worth) : state_(worth ? PyEval_SaveThread() : nullptr) {}
    ~Unlocked() {
        if (state_) PyEval_RestoreThread(state_);
    }

private:
    PyThreadState* state_;
};

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
    Py_buffer view_[10];
    int count_ = 0;
};

PyObject* py_matmul(PyObject*, PyObject* args) {
    PyObject *out, *operand[4] = {};
    int add;
    Product p = {};
    if (!PyArg_ParseTuple(args, "OpiOO|OO", &out, &add, &p.bits, &operand[0], &operand[1], &operand[2], &operand[3]))
        return nullptr;
    Views views;
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

// matmul_packed(out, a, packed, bits, rows, columns, turned): out += a @ b, or a @ b.T
PyObject* py_matmul_packed(PyObject*, PyObject* args) {
    PyObject *out, *left, *packed;
    Packed b = {};
    int turned;
    if (!PyArg_ParseTuple(args, "OOOinnp", &out, &left, &packed, &b.bits, &b.rows, &b.columns, &turned))
        return nullptr;
    Views views;
    const Py_buffer *to, *a, *from;
    if (!(to = views.take(out, PyBUF_STRIDED)) || !(a = views.take(left, PyBUF_STRIDED_RO))) return nullptr;
    if (!(from = views.take(packed, PyBUF_SIMPLE))) return nullptr;
    b.at = static_cast<const uint8_t*>(from->buf), b.bytes = from->len, b.turned = turned;
    if (!fits(*to, *a, b)) {
        PyErr_SetString(PyExc_ValueError, "operands do not fit together");
        return nullptr;
    }
    bool out_of_memory = false;
    Py_BEGIN_ALLOW_THREADS
    try {
        to->itemsize == 4 ? packed_product<uint32_t>(*to, *a, b).run() : packed_product<uint64_t>(*to, *a, b).run();
    } catch (const std::bad_alloc&) {
        out_of_memory = true;
    }
    Py_END_ALLOW_THREADS
    if (out_of_memory) return PyErr_NoMemory();
    Py_RETURN_NONE;
}

// matmul_keyed(out, a, key, index, bits, rows, columns, turned) -> the seconds that the stream took, of all threads;
// None where this processor cannot, and out is as it was
PyObject* py_matmul_keyed(PyObject*, PyObject* args) {
    PyObject *out, *left, *secret;
    Packed b = {};
    unsigned long long index;
    int turned;
    if (!PyArg_ParseTuple(args, "OOOKinnp", &out, &left, &secret, &index, &b.bits, &b.rows, &b.columns, &turned))
        return nullptr;
    Views views;
    const Py_buffer *to, *a, *key;
    if (!(to = views.take(out, PyBUF_STRIDED)) || !(a = views.take(left, PyBUF_STRIDED_RO))) return nullptr;
    if (!(key = views.take(secret, PyBUF_SIMPLE))) return nullptr;
    b.bytes = b.size(), b.turned = turned;
    if (!fits(*to, *a, b) || key->len != AES_BYTES) {
        PyErr_SetString(PyExc_ValueError, "operands do not fit together");
        return nullptr;
    }
    if (!serves_keyed(a->shape[0], b.bits)) Py_RETURN_NONE;
    bool out_of_memory = false;
    Clock clock;
    Py_BEGIN_ALLOW_THREADS
    try {
        run_tiled(*to, *a, b, KeyStream(key->buf, index, 0, b.bits, clock));
    } catch (const std::bad_alloc&) {
        out_of_memory = true;
    }
    Py_END_ALLOW_THREADS
    if (out_of_memory) return PyErr_NoMemory();
    return PyFloat_FromDouble(clock.seconds());
}

// matmul_blended(out, a, minus, bits, rows, columns, turned, (words, None, 0, 0) or (None, key, index, byte) twice) ->
// the seconds that the streams took, of all threads; None where this processor cannot, and out is as it was
PyObject* py_matmul_blended(PyObject*, PyObject* args) {
    PyObject *out, *left, *words[2], *secret[2];
    Packed b = {};
    unsigned long long index[2];
    Py_ssize_t begin[2];
    int minus, turned;
    if (!PyArg_ParseTuple(args, "OOpinnp(OOKn)(OOKn)", &out, &left, &minus, &b.bits, &b.rows, &b.columns, &turned,
                          &words[0], &secret[0], &index[0], &begin[0], &words[1], &secret[1], &index[1], &begin[1]))
        return nullptr;
    Views views;
    const Py_buffer *to, *a, *from[2];
    if (!(to = views.take(out, PyBUF_STRIDED)) || !(a = views.take(left, PyBUF_STRIDED_RO))) return nullptr;
    b.bytes = b.size(), b.turned = turned;
    bool fit = fits(*to, *a, b);
    for (int i = 0; i < 2; ++i) {
        const bool keyed = words[i] == Py_None;
        if (!(from[i] = views.take(keyed ? secret[i] : words[i], PyBUF_SIMPLE))) return nullptr;
        fit = fit && from[i]->len == (keyed ? AES_BYTES : b.size()) && begin[i] >= 0;
    }
    if (!fit) {
        PyErr_SetString(PyExc_ValueError, "operands do not fit together");
        return nullptr;
    }
    if (!serves_keyed(a->shape[0], b.bits)) Py_RETURN_NONE;
    bool out_of_memory = false;
    Clock clock;
    Py_BEGIN_ALLOW_THREADS
    try {
        std::optional<KeyStream> streams[2];
        Blend::Component parts[2] = {};
        for (int i = 0; i < 2; ++i) {
            if (words[i] == Py_None)
                parts[i].stream = &streams[i].emplace(from[i]->buf, index[i], begin[i], b.bits, clock);
            else
                parts[i].at = static_cast<const uint8_t*>(from[i]->buf);
        }
        run_tiled(*to, *a, b, Blend(parts[0], parts[1], minus, b.bits));
    } catch (const std::bad_alloc&) {
        out_of_memory = true;
    }
    Py_END_ALLOW_THREADS
    if (out_of_memory) return PyErr_NoMemory();
    return PyFloat_FromDouble(clock.seconds());
}

// ---- packing

PyObject* py_pack(PyObject*, PyObject* args) {
    PyObject *words, *out;
    int bits;
    if (!PyArg_ParseTuple(args, "OiO", &words, &bits, &out)) return nullptr;
    Views views;
    const Py_buffer *from, *to;
    if (!(from = views.take(words, PyBUF_ND))) return nullptr;
    if (!(to = views.take(out, PyBUF_ND | PyBUF_WRITABLE))) return nullptr;
    const ptrdiff_t size = from->itemsize;
    if (bits < 1 || bits > 8 * size || to->len != (from->len / size * bits + 7) / 8) {
        PyErr_SetString(PyExc_ValueError, "buffers do not fit");
        return nullptr;
    }
    const Unlocked unlocked(from->len > FEW_BYTES);
    const Level& level = *current.load();
    share_out_words(from->len / size, size, [&](ptrdiff_t start, ptrdiff_t count) {
        level.pack(static_cast<const uint8_t*>(from->buf) + start * size, count * size, int(size), bits,
                   static_cast<uint8_t*>(to->buf) + start / 8 * bits, (count * bits + 7) / 8);
    });
    Py_RETURN_NONE;
}

PyObject* py_unpack(PyObject*, PyObject* args) {
    PyObject *buffer, *out;
    int bits;
    if (!PyArg_ParseTuple(args, "OiO", &buffer, &bits, &out)) return nullptr;
    Views views;
    const Py_buffer *from, *to;
    if (!(from = views.take(buffer, PyBUF_SIMPLE))) return nullptr;
    if (!(to = views.take(out, PyBUF_ND | PyBUF_WRITABLE))) return nullptr;
    const ptrdiff_t size = to->itemsize;
    if (bits < 1 || bits > 8 * size || from->len != (to->len / size * bits + 7) / 8) {
        PyErr_SetString(PyExc_ValueError, "buffers do not fit");
        return nullptr;
    }
    const Unlocked unlocked(to->len > FEW_BYTES);
    const Level& level = *current.load();
    share_out_words(to->len / size, size, [&](ptrdiff_t start, ptrdiff_t count) {
        level.unpack(static_cast<const uint8_t*>(from->buf) + start / 8 * bits, (count * bits + 7) / 8, int(size),
                     bits, static_cast<uint8_t*>(to->buf) + start * size, count * size);
    });
    Py_RETURN_NONE;
}

// deal(reals, kind, scale, bits, first, second, out) -> the largest magnitude, NaN if a real is not finite
PyObject* py_deal(PyObject*, PyObject* args) {
    PyObject *reals, *first, *second, *out;
    int kind;
    Deal d = {};
    if (!PyArg_ParseTuple(args, "OidiOOO", &reals, &kind, &d.scale, &d.bits, &first, &second, &out)) return nullptr;
    Views views;
    const Py_buffer *from, *streams[2], *to;
    if (!(from = views.take(reals, PyBUF_ND)) || !(to = views.take(out, PyBUF_ND | PyBUF_WRITABLE))) return nullptr;
    if (!(streams[0] = views.take(first, PyBUF_SIMPLE)) || !(streams[1] = views.take(second, PyBUF_SIMPLE)))
        return nullptr;
    const ptrdiff_t size = kind < 2 ? 2 : kind == 2 ? 4 : 8, count = from->len / size;
    const ptrdiff_t bytes = (count * d.bits + 7) / 8;
    if (kind < 0 || kind > 3 || from->itemsize != size || d.bits < 1 || d.bits > 64 || to->len != bytes ||
        streams[0]->len != bytes || streams[1]->len != bytes) {
        PyErr_SetString(PyExc_ValueError, "buffers do not fit");
        return nullptr;
    }
    d.reals = from->buf, d.out = static_cast<uint8_t*>(to->buf);
    for (int i = 0; i < 2; ++i) d.streams[i] = static_cast<const uint8_t*>(streams[i]->buf);
    double largest = 0;
    std::mutex writing;
    Py_BEGIN_ALLOW_THREADS
    const DealFunction deal = current.load()->deals[kind];
    share_out_words(count, 8, [&](ptrdiff_t start, ptrdiff_t part) {
        const double found = deal(d, start, start + part);
        const std::lock_guard<std::mutex> lock(writing);
        if (!(found <= largest)) largest = largest == largest ? found : largest;
    });
    Py_END_ALLOW_THREADS
    return PyFloat_FromDouble(largest);
}

// ---- key streams

constexpr ptrdiff_t KEY_PIECE = 1 << 19;

// key_stream(key, high, block, out) -> whether this processor made it, else out is as it was
PyObject* py_key_stream(PyObject*, PyObject* args) {
    PyObject *secret, *out;
    unsigned long long high, block;
    if (!PyArg_ParseTuple(args, "OKKO", &secret, &high, &block, &out)) return nullptr;
    Views views;
    const Py_buffer *key, *to;
    if (!(key = views.take(secret, PyBUF_SIMPLE)) || !(to = views.take(out, PyBUF_WRITABLE))) return nullptr;
    if (key->len != AES_BYTES) {
        PyErr_SetString(PyExc_ValueError, "a key has 16 bytes");
        return nullptr;
    }
    if (!makes_streams(*current.load())) Py_RETURN_FALSE;
    Py_BEGIN_ALLOW_THREADS
    const ptrdiff_t pieces = (to->len + KEY_PIECE - 1) / KEY_PIECE;
    const RoundKeys keys = round_keys(static_cast<const uint8_t*>(key->buf));
    share_out(pieces, threads_for(double(to->len) / KEY_PIECE), [&](ptrdiff_t i) {
        const ptrdiff_t at = i * KEY_PIECE;
        key_stream(keys, high, block + uint64_t(at / AES_BYTES),
                   static_cast<uint8_t*>(to->buf) + at, std::min(KEY_PIECE, to->len - at));
    });
    Py_END_ALLOW_THREADS
    Py_RETURN_TRUE;
}

// ---- trees of seeds

constexpr ptrdiff_t FEW_ROWS = 64;  // less than these is not worth giving Python's lock back and waiting for it

// grow(keys, bits, lengths, path, roots, corrections, values x 4, out, holder) -> whether this processor did it
//
// The dealer (holder -1) writes the corrections, a holder reads them; both write out.
PyObject* py_grow(PyObject*, PyObject* args) {
    PyObject *secret, *at, *path, *roots, *corrections, *values[4], *out;
    Tree t = {};
    if (!PyArg_ParseTuple(args, "OiOOOOOOOOOi", &secret, &t.bits, &at, &path, &roots, &corrections, &values[0], &values[1],
                          &values[2], &values[3], &out, &t.holder))
        return nullptr;
    if (!current.load()->fused(64) || !has_aes()) Py_RETURN_FALSE;
    const bool dealing = t.holder < 0;
    Views views;
    const Py_buffer *keys, *lengths, *numbers, *seeds, *fixes, *given[4], *to;
    if (!(keys = views.take(secret, PyBUF_SIMPLE)) || !(lengths = views.take(at, PyBUF_SIMPLE))) return nullptr;
    if (!(numbers = views.take(path, PyBUF_SIMPLE)) || !(seeds = views.take(roots, PyBUF_SIMPLE))) return nullptr;
    if (!(fixes = views.take(corrections, dealing ? PyBUF_WRITABLE : PyBUF_SIMPLE))) return nullptr;
    for (int i = 0; i < 4; ++i)
        if (!(given[i] = views.take(values[i], PyBUF_SIMPLE))) return nullptr;
    if (!(to = views.take(out, PyBUF_WRITABLE))) return nullptr;
    t.keys = static_cast<const uint8_t*>(keys->buf), t.lengths = static_cast<const uint8_t*>(lengths->buf);
    t.path = static_cast<const uint64_t*>(numbers->buf), t.roots = static_cast<const uint64_t*>(seeds->buf);
    t.corrections = static_cast<uint64_t*>(fixes->buf), t.out = static_cast<uint64_t*>(to->buf);
    t.rows = numbers->len / 8, t.count = lengths->len;
    bool fit = keys->len == GENERATORS * AES_BYTES && t.count > 0 && t.bits <= 64 && t.holder < 2;
    for (ptrdiff_t i = 0; fit && i < t.count; ++i)
        fit = t.lengths[i] > (i ? t.lengths[i - 1] : 0) && t.lengths[i] <= t.bits;
    const ptrdiff_t whole = 8 * t.rows * t.count;
    fit = fit && numbers->len == 8 * t.rows && seeds->len == 16 * t.rows * (dealing ? 2 : 1);
    fit = fit && fixes->len == 16 * t.rows * t.depth() && to->len == 4 * whole;
    for (int i = 0; fit && i < 4; ++i) {
        t.values[i] = static_cast<const uint64_t*>(given[i]->buf);
        fit = given[i]->len == whole;
    }
    if (!fit) {
        PyErr_SetString(PyExc_ValueError, "buffers do not fit");
        return nullptr;
    }
    if (t.rows <= FEW_ROWS) {
        grow(t, dealing);
    } else {
        Py_BEGIN_ALLOW_THREADS
        grow(t, dealing);
        Py_END_ALLOW_THREADS
    }
    Py_RETURN_TRUE;
}

// ---- long words

constexpr ptrdiff_t FEW_PRODUCTS = 1 << 12;

// long_product(a low, a high, b low, b high, rows, columns, out, total) -> whether this compiler has long words
PyObject* py_long_product(PyObject*, PyObject* args) {
    PyObject *halves[4], *result;
    LongProduct p = {};
    int total;
    if (!PyArg_ParseTuple(args, "OOOOnnOp", &halves[0], &halves[1], &halves[2], &halves[3], &p.rows, &p.columns, &result,
                          &total))
        return nullptr;
    if (!HAS_LONG) Py_RETURN_FALSE;
    Views views;
    bool fit = p.rows >= 0 && p.columns >= 0;
    for (int i = 0; i < 4; ++i) {
        const Py_buffer* from = views.take(halves[i], PyBUF_STRIDED_RO);
        if (!from) return nullptr;
        fit = fit && spread(*from, p.rows, p.columns, i < 2 ? &p.left[i] : &p.right[i - 2]);
    }
    const Py_buffer* to = views.take(result, PyBUF_WRITABLE);
    if (!to) return nullptr;
    if (!fit || to->len != 16 * p.rows * (total ? 1 : p.columns)) {
        PyErr_SetString(PyExc_ValueError, "buffers do not fit");
        return nullptr;
    }
    p.out = static_cast<uint64_t*>(to->buf), p.total = total;
    if (p.rows * p.columns <= FEW_PRODUCTS) {
        p.run();
    } else {
        Py_BEGIN_ALLOW_THREADS
        p.run();
        Py_END_ALLOW_THREADS
    }
    Py_RETURN_TRUE;
}

// ---- one-hot rows

constexpr double IDS_A_THREAD = 1 << 16;  // words of a row

// expand_ids(keys, holder, seeds, corrections, leaves, rows, out) -> whether this processor did it
PyObject* py_expand_ids(PyObject*, PyObject* args) {
    PyObject *secret, *roots, *fixes, *ends, *result;
    Ids ids = {};
    if (!PyArg_ParseTuple(args, "OiOOOnO", &secret, &ids.holder, &roots, &fixes, &ends, &ids.rows, &result)) return nullptr;
    if (!current.load()->fused(64) || !has_vector_aes()) Py_RETURN_FALSE;
    Views views;
    const Py_buffer *keys, *seeds, *corrections, *leaves, *out;
    if (!(keys = views.take(secret, PyBUF_SIMPLE)) || !(seeds = views.take(roots, PyBUF_SIMPLE))) return nullptr;
    if (!(corrections = views.take(fixes, PyBUF_SIMPLE)) || !(leaves = views.take(ends, PyBUF_SIMPLE))) return nullptr;
    if (!(out = views.take(result, PyBUF_WRITABLE))) return nullptr;
    ids.keys = static_cast<const uint8_t*>(keys->buf), ids.seeds = static_cast<const uint64_t*>(seeds->buf);
    ids.corrections = static_cast<const uint64_t*>(corrections->buf);
    ids.leaves = static_cast<const uint32_t*>(leaves->buf), ids.out = static_cast<uint32_t*>(out->buf);
    ids.count = seeds->len / 16;
    ids.depth = ids.count ? corrections->len / 16 / ids.count : 0;
    bool fit = keys->len == 3 * AES_BYTES && (ids.holder == 0 || ids.holder == 1) && ids.rows > 0 && ids.depth < 60;
    fit = fit && seeds->len == 16 * ids.count && corrections->len == 16 * ids.count * ids.depth;
    fit = fit && leaves->len == 16 * ids.count && out->len == 4 * ids.count * ids.rows;
    fit = fit && (ids.rows + 3) / 4 <= ptrdiff_t(1) << ids.depth;
    if (!fit && ids.count) {
        PyErr_SetString(PyExc_ValueError, "buffers do not fit");
        return nullptr;
    }
    bool out_of_memory = false;
    Py_BEGIN_ALLOW_THREADS
    try {
        const ptrdiff_t threads = threads_for(double(ids.count) * double(ids.rows) / IDS_A_THREAD);
        const ptrdiff_t step = (ids.count + threads - 1) / threads;
        if (ids.count)
            share_out((ids.count + step - 1) / step, threads,
                      [&](ptrdiff_t i) { expand_ids(ids, i * step, std::min(ids.count, (i + 1) * step)); });
    } catch (const std::bad_alloc&) {
        out_of_memory = true;
    }
    Py_END_ALLOW_THREADS
    if (out_of_memory) return PyErr_NoMemory();
    Py_RETURN_TRUE;
}

// ---- fused loops

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
    if (fit && kind == PICK_BITS)
        fit = bits <= 6 && 1 << bits <= 8 * tables->itemsize && tables->len / tables->itemsize == count;
    if (fit && two) fit = others->itemsize == tables->itemsize && others->len / others->itemsize == count;
    if (!fit) {
        PyErr_SetString(PyExc_ValueError, "buffers do not fit");
        return nullptr;
    }
    const auto function = current.load()->loops[kind][size_index(from->itemsize)][size_index(typed->itemsize)];
    // The place of a word in a buffer; a table that every word reads stays whole.
    const auto at = [](const Py_buffer* view, ptrdiff_t start) {
        return view ? static_cast<char*>(view->buf) + start * view->itemsize : nullptr;
    };
    const Unlocked unlocked(from->len + to->len > FEW_BYTES);
    share_out_words(count, std::max(from->itemsize, typed->itemsize), [&](ptrdiff_t start, ptrdiff_t part) {
        function({at(from, start), at(tables, by_digit ? 0 : start), at(others, start), at(to, start), part,
                  multiplier, low_bits(bits), shift});
    });
    Py_RETURN_NONE;
}

// ---- sums of turned rows

// Threads share the columns of the result: rows may go to one place.
template <class T>
void add_turned(const Py_buffer& to, const Py_buffer& table, const int64_t* place, const int64_t* turn, ptrdiff_t count) {
    const ptrdiff_t width = to.shape[1];
    const double bytes = double(count) * double(width) * sizeof(T);
    const ptrdiff_t threads = threads_for(bytes / BYTES_A_THREAD);
    const ptrdiff_t step = std::max<ptrdiff_t>(64, (width + threads - 1) / threads);
    share_out((width + step - 1) / step, threads, [&](ptrdiff_t part) {
        const ptrdiff_t first = part * step, last = std::min(width, first + step);
        for (ptrdiff_t i = 0; i < count; ++i) {
            const T* row = static_cast<const T*>(table.buf) + i * width;
            T* sum = static_cast<T*>(to.buf) + place[i] * width;
            const ptrdiff_t end = width - turn[i];  // the first column of the row that turns over
            for (ptrdiff_t j = first; j < std::min<ptrdiff_t>(last, turn[i]); ++j) sum[j] += row[end + j];
            for (ptrdiff_t j = std::max<ptrdiff_t>(first, turn[i]); j < last; ++j) sum[j] += row[j - turn[i]];
        }
    });
}

// turned_sums(out, table, place, turn): out[place[i], (j + turn[i]) mod width] += table[i, j]
PyObject* py_turned_sums(PyObject*, PyObject* args) {
    PyObject *out, *table, *place, *turn;
    if (!PyArg_ParseTuple(args, "OOOO", &out, &table, &place, &turn)) return nullptr;
    Views views;
    const Py_buffer *to, *from, *places, *turns;
    if (!(to = views.take(out, PyBUF_ND | PyBUF_WRITABLE)) || !(from = views.take(table, PyBUF_ND))) return nullptr;
    if (!(places = views.take(place, PyBUF_ND)) || !(turns = views.take(turn, PyBUF_ND))) return nullptr;
    const ptrdiff_t count = places->len / ptrdiff_t(sizeof(int64_t));
    const auto* where = static_cast<const int64_t*>(places->buf);
    const auto* by = static_cast<const int64_t*>(turns->buf);
    bool fit = to->ndim == 2 && from->ndim == 2 && from->shape[0] == count && from->shape[1] == to->shape[1];
    fit = fit && to->itemsize == from->itemsize && turns->len == places->len && places->itemsize == 8;
    for (ptrdiff_t i = 0; fit && i < count; ++i)
        fit = where[i] >= 0 && where[i] < to->shape[0] && by[i] >= 0 && by[i] < to->shape[1];
    if (!fit) {
        PyErr_SetString(PyExc_ValueError, "buffers do not fit");
        return nullptr;
    }
    Py_BEGIN_ALLOW_THREADS
    switch (to->itemsize) {
        case 1: add_turned<uint8_t>(*to, *from, where, by, count); break;
        case 2: add_turned<uint16_t>(*to, *from, where, by, count); break;
        case 4: add_turned<uint32_t>(*to, *from, where, by, count); break;
        default: add_turned<uint64_t>(*to, *from, where, by, count);
    }
    Py_END_ALLOW_THREADS
    Py_RETURN_NONE;
}

// ---- random parts of rows

// coin_sums(out, terms, coins, all): out[r, j] = the terms of row r, as column j of the coins says (_ring_words.hpp)
PyObject* py_coin_sums(PyObject*, PyObject* args) {
    PyObject *out, *terms, *coins;
    int all;
    if (!PyArg_ParseTuple(args, "OOOp", &out, &terms, &coins, &all)) return nullptr;
    Views views;
    const Py_buffer *to, *from, *by;
    if (!(to = views.take(out, PyBUF_ND | PyBUF_WRITABLE)) || !(from = views.take(terms, PyBUF_ND))) return nullptr;
    if (!(by = views.take(coins, PyBUF_ND))) return nullptr;
    bool fit = to->ndim == 2 && from->ndim == 2 && by->ndim == 2 && by->itemsize == 1;
    fit = fit && to->itemsize == from->itemsize && to->shape[0] == from->shape[0];
    if (!fit || by->shape[0] != from->shape[1] || by->shape[1] != to->shape[1]) {
        PyErr_SetString(PyExc_ValueError, "buffers do not fit");
        return nullptr;
    }
    Py_BEGIN_ALLOW_THREADS
    const CoinFunction sums = current.load()->coins[size_index(from->itemsize)];
    std::memset(to->buf, 0, size_t(to->len));
    for (ptrdiff_t row = 0; row < from->shape[0]; ++row)
        sums(static_cast<const char*>(from->buf) + row * from->shape[1] * from->itemsize,
             static_cast<const uint8_t*>(by->buf), from->shape[1], to->shape[1], all,
             static_cast<char*>(to->buf) + row * to->shape[1] * to->itemsize);
    Py_END_ALLOW_THREADS
    Py_RETURN_NONE;
}

// ---- steps

// Local steps of protocols (_ring_steps.hpp): arrays of words, and their places.

// Buffers of any number of arrays, released at the end of the call.
class Arrays {
public:
    ~Arrays() {
        for (Py_buffer& view : views_) PyBuffer_Release(&view);
    }
    // The contiguous words of an array; ok() is false after one that is none.
    Cells words(PyObject* object, bool writable = false) {
        views_.emplace_back();
        if (PyObject_GetBuffer(object, &views_.back(), PyBUF_ND | (writable ? PyBUF_WRITABLE : 0)) != 0) {
            views_.pop_back();
            ok_ = false;
            return {};
        }
        const Py_buffer& view = views_.back();
        return {static_cast<char*>(view.buf), view.itemsize, view.len / std::max<ptrdiff_t>(view.itemsize, 1)};
    }
    bool ok() const { return ok_; }

private:
    std::deque<Py_buffer> views_;
    bool ok_ = true;
};

PyObject* unfit() {
    if (!PyErr_Occurred()) PyErr_SetString(PyExc_ValueError, "buffers do not fit");
    return nullptr;
}

// xor_ands(out, size, program, rows of one or more arrays): out[target] ^= AND of rows, for each entry of the program
PyObject* py_xor_ands(PyObject*, PyObject* args) {
    PyObject *result, *entries, *given;
    Py_ssize_t size;
    if (!PyArg_ParseTuple(args, "OnOO!", &result, &size, &entries, &PyTuple_Type, &given)) return nullptr;
    Arrays arrays;
    const Cells out = arrays.words(result, true), program = arrays.words(entries);
    if (!arrays.ok() || size < 1 || out.size != 1 || program.size != 4) return unfit();
    std::vector<const uint8_t*> rows;
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(given); ++i) {
        const Cells each = arrays.words(PyTuple_GET_ITEM(given, i));
        if (!arrays.ok() || each.size != 1 || each.count % size) return unfit();
        for (ptrdiff_t at = 0; at < each.count; at += size) rows.push_back(reinterpret_cast<uint8_t*>(each.at) + at);
    }
    const bool fit = xor_ands(reinterpret_cast<uint8_t*>(out.at), out.count / size, rows.data(), ptrdiff_t(rows.size()),
                              size, reinterpret_cast<const int32_t*>(program.at), program.count);
    if (!fit) return unfit();
    Py_RETURN_NONE;
}

// Whether matrices of planes belong to these words: rows for each group, and one more.
bool groups_fit(const Cells& words, const Cells& widths, const Cells& products, ptrdiff_t size) {
    ptrdiff_t bits = 1, rows = 1;
    for (ptrdiff_t g = 0; g < widths.count; ++g) {
        const int width = uint8_t(widths.at[g]);
        if (width < 1 || width > MOST_GROUP) return false;
        bits += width, rows += (ptrdiff_t(1) << width) - 1;
    }
    return bits <= 8 * words.size && size == (words.count + 7) / 8 && products.size == 1 && products.count == rows * size;
}

// group_products(words, widths, masks, out)
PyObject* py_group_products(PyObject*, PyObject* args) {
    PyObject* given[4];
    if (!PyArg_ParseTuple(args, "OOOO", &given[0], &given[1], &given[2], &given[3])) return nullptr;
    Arrays arrays;
    const Cells words = arrays.words(given[0]), widths = arrays.words(given[1]), masks = arrays.words(given[2]);
    const Cells out = arrays.words(given[3], true);
    const ptrdiff_t size = (words.count + 7) / 8;
    if (!arrays.ok() || !groups_fit(words, widths, masks, size) || !groups_fit(words, widths, out, size)) return unfit();
    group_products(words, reinterpret_cast<uint8_t*>(widths.at), widths.count, reinterpret_cast<uint8_t*>(masks.at),
                   reinterpret_cast<uint8_t*>(out.at), size);
    Py_RETURN_NONE;
}

// group_answers(words, less, widths, shares, u, out)
PyObject* py_group_answers(PyObject*, PyObject* args) {
    PyObject* given[4];
    unsigned long long less;
    int u;
    if (!PyArg_ParseTuple(args, "OKOOpO", &given[0], &less, &given[1], &given[2], &u, &given[3])) return nullptr;
    Arrays arrays;
    const Cells words = arrays.words(given[0]), widths = arrays.words(given[1]), shares = arrays.words(given[2]);
    const Cells out = arrays.words(given[3], true);
    const ptrdiff_t size = (words.count + 7) / 8;
    if (!arrays.ok() || !groups_fit(words, widths, shares, size)) return unfit();
    if (out.size != 1 || out.count != (2 * widths.count + 1) * size) return unfit();
    group_answers(words, less, reinterpret_cast<uint8_t*>(widths.at), widths.count,
                  reinterpret_cast<uint8_t*>(shares.at), u, reinterpret_cast<uint8_t*>(out.at), size);
    Py_RETURN_NONE;
}

// Whether words and a table, whose lines are pairs of signed numbers of 16 or 32 bits, make angles.
bool take_angles(const Cells& words, int bits, const Cells& table, Angles* to) {
    if (bits < 1 || bits > 30 || (table.size != 2 && table.size != 4) || table.count != ptrdiff_t(2) << bits) return false;
    *to = {words, table.at, table.size, uint32_t(low_bits(bits))};
    return true;
}

// series_points(words, bits, table, multiples, less, out)
PyObject* py_series_points(PyObject*, PyObject* args) {
    PyObject* given[5];
    int bits;
    if (!PyArg_ParseTuple(args, "OiOOOO", &given[0], &bits, &given[1], &given[2], &given[3], &given[4])) return nullptr;
    Arrays arrays;
    const Cells words = arrays.words(given[0]), table = arrays.words(given[1]), multiples = arrays.words(given[2]);
    const Cells less = arrays.words(given[3]), out = arrays.words(given[4], true);
    Points points = {{}, reinterpret_cast<int64_t*>(multiples.at), reinterpret_cast<int64_t*>(less.at), less.count, out};
    if (!arrays.ok() || !take_angles(words, bits, table, &points.angles)) return unfit();
    if (multiples.size != 8 || less.size != 8 || less.count != multiples.count) return unfit();
    if (out.count != 2 * multiples.count * words.count) return unfit();
    for (ptrdiff_t h = 0; h < less.count; ++h)
        if (points.less[h] < 1 || points.less[h] > 30) return unfit();
    const Unlocked unlocked(out.count > FEW_BYTES);
    const Level& level = *current.load();
    share_out_words(words.count, 8 * less.count,
                    [&](ptrdiff_t start, ptrdiff_t count) { level.series_points(points, start, count); });
    Py_RETURN_NONE;
}

// series_sum(words, bits, table, harmonics, extra, dealt arrays, sum) -> whether it was added: not where a coefficient
// has more than 32 bits
PyObject* py_series_sum(PyObject*, PyObject* args) {
    PyObject *given[4], *parts;
    int bits;
    Series series = {};
    if (!PyArg_ParseTuple(args, "OiOOiO!O", &given[0], &bits, &given[1], &given[2], &series.extra, &PyTuple_Type, &parts,
                          &given[3]))
        return nullptr;
    Arrays arrays;
    const Cells words = arrays.words(given[0]), table = arrays.words(given[1]), harmonics = arrays.words(given[2]);
    series.sum = arrays.words(given[3], true);
    if (!arrays.ok() || !take_angles(words, bits, table, &series.angles)) return unfit();
    series.count = harmonics.count / 4;
    if (harmonics.size != 8 || harmonics.count % 4 || PyTuple_GET_SIZE(parts) != 2 * series.count) return unfit();
    if (series.sum.count != words.count || series.extra < 1 || series.extra > 62) return unfit();
    series.harmonics = reinterpret_cast<Harmonic*>(harmonics.at);
    for (ptrdiff_t h = 0; h < series.count; ++h) {
        const Harmonic& by = series.harmonics[h];
        if (by.up < 0 || by.up > 63) return unfit();
        if (by.cosine != int32_t(by.cosine) || by.sine != int32_t(by.sine)) Py_RETURN_FALSE;
    }
    std::vector<Cells> dealt;
    for (ptrdiff_t i = 0; i < 2 * series.count; ++i) {
        dealt.push_back(arrays.words(PyTuple_GET_ITEM(parts, i)));
        if (!arrays.ok() || dealt.back().count != words.count) return unfit();
    }
    series.dealt = dealt.data();
    const Unlocked unlocked(2 * series.count * words.count > FEW_BYTES);
    const Level& level = *current.load();
    share_out_words(words.count, 8 * series.count,
                    [&](ptrdiff_t start, ptrdiff_t count) { level.series_sum(series, start, count); });
    Py_RETURN_TRUE;
}

// The arrays of a step, all of one length: `read` of them, then those that it writes.
bool step_arrays(Arrays& arrays, PyObject* tuple, int read, int count, Cells* to) {
    if (PyTuple_GET_SIZE(tuple) != count) return false;
    for (int i = 0; i < count; ++i) {
        to[i] = arrays.words(PyTuple_GET_ITEM(tuple, i), i >= read);
        if (!arrays.ok() || to[i].count != to[0].count) return false;
    }
    return true;
}

// lift(step, bits, carry, u, arrays): a step of a lift, in the order of lift_lead, lift_open and lift_end
PyObject* py_lift(PyObject*, PyObject* args) {
    PyObject* tuple;
    int step, u;
    Lift lift = {};
    if (!PyArg_ParseTuple(args, "iiipO!", &step, &lift.bits, &lift.carry, &u, &PyTuple_Type, &tuple)) return nullptr;
    if (lift.bits < 2 || lift.carry < 1 || lift.bits + lift.carry > 64 || step < 0 || step > 2) return unfit();
    constexpr int READ[] = {5, 3, 5}, COUNT[] = {9, 4, 7};
    Arrays arrays;
    Cells x[9];
    if (!step_arrays(arrays, tuple, READ[step], COUNT[step], x)) return unfit();
    lift.u = u, lift.arrays = x;
    const Unlocked unlocked(x[0].count > FEW_BYTES / 2);
    const LiftFunction function = current.load()->lifts[step];
    share_out_words(x[0].count, 8 * COUNT[step],
                    [&](ptrdiff_t start, ptrdiff_t count) { function(lift, start, count); });
    Py_RETURN_NONE;
}

// ---- tapes

constexpr const char *TAPE = "onnxpuma tape", *PLACES = "onnxpuma places";

template <class T> T* in(PyObject* capsule, const char* name) {
    return static_cast<T*>(capsule ? PyCapsule_GetPointer(capsule, name) : nullptr);
}

// A capsule with a T, to which `add` adds each entry of the list in `args`; it returns false with an error set.
template <class T, class Add> PyObject* built(PyObject* args, const char* name, Add add) {
    PyObject* entries;
    if (!PyArg_ParseTuple(args, "O!", &PyList_Type, &entries)) return nullptr;
    PyObject* capsule = PyCapsule_New(new T, name, [](PyObject* object) {
        delete static_cast<T*>(PyCapsule_GetPointer(object, PyCapsule_GetName(object)));
    });
    T* made = in<T>(capsule, name);
    for (Py_ssize_t i = 0; made && i < PyList_GET_SIZE(entries); ++i)
        if (!add(*made, PyList_GET_ITEM(entries, i))) {
            Py_DECREF(capsule);
            return nullptr;
        }
    return capsule;
}

// tape(operations) -> a tape; operations: (number, out, a, b or None), or (-1, out, words, bits) to pack
PyObject* py_tape(PyObject*, PyObject* args) {
    return built<Tape>(args, TAPE, [](Tape& tape, PyObject* entry) {
        int operation;
        PyObject *out, *left, *right;
        if (!PyArg_ParseTuple(entry, "iOOO", &operation, &out, &left, &right)) return false;
        if (operation >= 0) return tape.add(operation, out, left, right);
        const long bits = PyLong_AsLong(right);
        return !PyErr_Occurred() && tape.add_packing(out, left, int(bits));
    });
}

// play(tape)
PyObject* py_play(PyObject*, PyObject* given) {
    const Tape* tape = in<Tape>(given, TAPE);
    if (!tape) return nullptr;
    const Unlocked unlocked(tape->bytes() > 8 * FEW_BYTES);
    tape->play();
    Py_RETURN_NONE;
}

// places(targets) -> places; targets: (array or None, bits) each
PyObject* py_places(PyObject*, PyObject* args) {
    return built<Places>(args, PLACES, [](Places& places, PyObject* entry) {
        PyObject* out;
        int bits;
        return PyArg_ParseTuple(entry, "Oi", &out, &bits) && places.add(out, bits);
    });
}

// unpack_all(places, buffers): a buffer for each place
PyObject* py_unpack_all(PyObject*, PyObject* args) {
    PyObject *capsule, *buffers;
    if (!PyArg_ParseTuple(args, "OO!", &capsule, &PyList_Type, &buffers)) return nullptr;
    const Places* places = in<Places>(capsule, PLACES);
    if (!places) return nullptr;
    if (PyList_GET_SIZE(buffers) != places->count()) return unfit();
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(buffers); ++i) {
        Py_buffer view;
        if (PyObject_GetBuffer(PyList_GET_ITEM(buffers, i), &view, PyBUF_SIMPLE) != 0) return nullptr;
        const bool fit = places->unpack(i, static_cast<const uint8_t*>(view.buf), view.len);
        PyBuffer_Release(&view);
        if (!fit) return unfit();
    }
    Py_RETURN_NONE;
}

// fill(places, buffer, offset): one after the other, each from a multiple of 8 bytes behind the offset on
PyObject* py_fill(PyObject*, PyObject* args) {
    PyObject *capsule, *buffer;
    Py_ssize_t offset;
    if (!PyArg_ParseTuple(args, "OOn", &capsule, &buffer, &offset)) return nullptr;
    const Places* places = in<Places>(capsule, PLACES);
    Views views;
    const Py_buffer* from = places ? views.take(buffer, PyBUF_SIMPLE) : nullptr;
    if (!from) return nullptr;
    if (offset < 0 || offset > from->len) return unfit();
    if (!places->fill(static_cast<const uint8_t*>(from->buf) + offset, from->len - offset)) return unfit();
    Py_RETURN_NONE;
}

// ---- settings

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
    {"matmul", py_matmul, METH_VARARGS, "matmul(out, accumulate, bits, a, b[, a2, b2])"},
    {"matmul_packed", py_matmul_packed, METH_VARARGS, "matmul_packed(out, a, packed, bits, rows, columns, turned)"},
    {"matmul_keyed", py_matmul_keyed, METH_VARARGS,
     "matmul_keyed(out, a, key, index, bits, rows, columns, turned) -> seconds of the stream or None"},
    {"matmul_blended", py_matmul_blended, METH_VARARGS,
     "matmul_blended(out, a, minus, bits, rows, columns, turned, first, second) -> seconds of the streams or None"},
    {"pack", py_pack, METH_VARARGS, "pack(words, bits, out)"},
    {"unpack", py_unpack, METH_VARARGS, "unpack(buffer, bits, out)"},
    {"deal", py_deal, METH_VARARGS, "deal(reals, kind, scale, bits, first, second, out) -> largest magnitude"},
    {"key_stream", py_key_stream, METH_VARARGS, "key_stream(key, high, block, out) -> whether it was made"},
    {"grow", py_grow, METH_VARARGS, "grow(keys, bits, lengths, path, roots, corrections, values x 4, out, holder)"},
    {"long_product", py_long_product, METH_VARARGS, "long_product(a low, a high, b low, b high, rows, columns, out, total)"},
    {"expand_ids", py_expand_ids, METH_VARARGS, "expand_ids(keys, holder, seeds, corrections, leaves, rows, out)"},
    {"loop", py_loop, METH_VARARGS, "loop(kind, out, words, table, other, multiplier, shift, bits)"},
    {"coin_sums", py_coin_sums, METH_VARARGS, "coin_sums(out, terms, coins, all)"},
    {"turned_sums", py_turned_sums, METH_VARARGS, "turned_sums(out, table, place, turn)"},
    {"xor_ands", py_xor_ands, METH_VARARGS, "xor_ands(out, size, program, rows)"},
    {"group_products", py_group_products, METH_VARARGS, "group_products(words, widths, masks, out)"},
    {"group_answers", py_group_answers, METH_VARARGS, "group_answers(words, less, widths, shares, u, out)"},
    {"series_points", py_series_points, METH_VARARGS, "series_points(words, bits, table, multiples, less, out)"},
    {"series_sum", py_series_sum, METH_VARARGS, "series_sum(words, bits, table, harmonics, extra, dealt, sum) -> whether"},
    {"lift", py_lift, METH_VARARGS, "lift(step, bits, carry, u, arrays)"},
    {"tape", py_tape, METH_VARARGS, "tape(operations) -> a tape"},
    {"play", py_play, METH_O, "play(tape)"},
    {"places", py_places, METH_VARARGS, "places(targets) -> places"},
    {"unpack_all", py_unpack_all, METH_VARARGS, "unpack_all(places, buffers)"},
    {"fill", py_fill, METH_VARARGS, "fill(places, buffer, offset)"},
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
