// A tape: operations on arrays that stay where they are, one after the other, without a call of Python between them.

#pragma once

#include <Python.h>

#include <deque>
#include <vector>

#include "_ring_levels.hpp"
#include "_ring_product.hpp"

namespace {

constexpr int MOST_AXES = 8;
enum { INTO, ONE, OTHER, OPERANDS };

// An operation on whole arrays: its innermost axis is a strip.
struct Strip {
    StripFunction function;  // null: the words are packed
    int size, bits;          // of a word that is packed: its bytes, and the bits that are kept
    char* at[OPERANDS];
    ptrdiff_t count, step[OPERANDS];
    int outer;  // axes around it, the innermost one first
    ptrdiff_t shape[MOST_AXES], around[MOST_AXES][OPERANDS];

    void run() const {
        if (!function) return pack();
        if (!outer) return function(at[INTO], at[ONE], at[OTHER], count, step);
        ptrdiff_t place[MOST_AXES] = {};
        char* now[OPERANDS] = {at[INTO], at[ONE], at[OTHER]};
        for (;;) {
            function(now[INTO], now[ONE], now[OTHER], count, step);
            int axis = 0;
            for (; axis < outer; ++axis) {
                for (int i = 0; i < OPERANDS; ++i) now[i] += around[axis][i];
                if (++place[axis] < shape[axis]) break;
                for (int i = 0; i < OPERANDS; ++i) now[i] -= shape[axis] * around[axis][i];
                place[axis] = 0;
            }
            if (axis == outer) return;
        }
    }

    void pack() const {
        const ptrdiff_t bytes = count * size;
        const uint8_t* from = reinterpret_cast<const uint8_t*>(at[ONE]);
        uint8_t* to = reinterpret_cast<uint8_t*>(at[INTO]);
        if (bits == 8 * size)
            std::memcpy(to, from, size_t(bytes));
        else
            current.load()->pack(from, bytes, size, bits, to, (count * bits + 7) / 8);
    }
};

// Views of arrays, held as long as this.
class Held {
public:
    Held() = default;
    Held(const Held&) = delete;
    ~Held() {
        for (Py_buffer& view : views_) PyBuffer_Release(&view);
    }

protected:
    const Py_buffer* take(PyObject* object, int flags) {
        views_.emplace_back();
        if (PyObject_GetBuffer(object, &views_.back(), flags) == 0) return &views_.back();
        views_.pop_back();
        return nullptr;
    }

private:
    std::deque<Py_buffer> views_;  // their addresses stay
};

class Tape : public Held {
public:

    // Adds an operation; `right` may be None. All arrays have the shape of `out`. False, with an error set, where they
    // do not fit together.
    bool add(int operation, PyObject* out, PyObject* left, PyObject* right) {
        const Py_buffer* view[OPERANDS] = {take(out, PyBUF_STRIDED), take(left, PyBUF_STRIDED_RO), nullptr};
        if (!view[INTO] || !view[ONE]) return false;
        view[OTHER] = right == Py_None ? view[ONE] : take(right, PyBUF_STRIDED_RO);
        if (!view[OTHER]) return false;
        Strip strip = {};
        if (!(strip.function = function_of(operation, view)) || !lay_out(view, &strip)) {
            PyErr_SetString(PyExc_ValueError, "the arrays of an operation do not fit together");
            return false;
        }
        if (strip.count) strips_.push_back(strip), bytes_ += view[INTO]->len;
        return true;
    }

    // Adds the packing of an array. False, with an error set, where its packed words are not as long as `out`.
    bool add_packing(PyObject* out, PyObject* words, int bits) {
        const Py_buffer *to = take(out, PyBUF_ND | PyBUF_WRITABLE), *from = to ? take(words, PyBUF_ND) : nullptr;
        if (!from) return false;
        const ptrdiff_t size = from->itemsize, count = from->len / size;
        if (place_of(size) < 0 || bits < 1 || bits > 8 * size || to->len != (count * bits + 7) / 8) {
            PyErr_SetString(PyExc_ValueError, "buffers do not fit");
            return false;
        }
        Strip strip = {nullptr, int(size), bits, {}, count, {}, 0, {}, {}};
        strip.at[INTO] = static_cast<char*>(to->buf), strip.at[ONE] = static_cast<char*>(from->buf);
        if (count) strips_.push_back(strip), bytes_ += to->len;
        return true;
    }

    void play() const {
        for (const Strip& strip : strips_) strip.run();
    }

    ptrdiff_t bytes() const { return bytes_; }  // that it writes

private:
    std::vector<Strip> strips_;
    ptrdiff_t bytes_ = 0;

    static int place_of(ptrdiff_t size) { return size == 1 ? 0 : size == 2 ? 1 : size == 4 ? 2 : size == 8 ? 3 : -1; }

    static StripFunction function_of(int operation, const Py_buffer* const* view) {
        const Level& level = *current.load();
        const int out = place_of(view[INTO]->itemsize), in = place_of(view[ONE]->itemsize);
        if (out < 0 || in < 0 || view[OTHER]->itemsize != view[ONE]->itemsize) return nullptr;
        if (operation == COPY) return level.copies[in][out];
        if (operation < 0 || operation >= OPERATIONS) return nullptr;
        const bool truth = operation >= FIRST_TRUTH && operation <= LAST_TRUTH;
        return out == (truth ? 0 : in) ? level.strips[operation][in] : nullptr;
    }

    // Axes of one element are left out, and those that lie one after the other in all arrays become one.
    static bool lay_out(const Py_buffer* const* view, Strip* strip) {
        const int axes = view[INTO]->ndim;
        if (axes > MOST_AXES) return false;
        ptrdiff_t shape[MOST_AXES + 1], step[MOST_AXES + 1][OPERANDS];
        int found = 0;
        strip->count = 1;
        for (int i = 0; i < OPERANDS; ++i) {
            if (view[i]->ndim != axes) return false;
            strip->at[i] = static_cast<char*>(view[i]->buf);
        }
        for (int axis = axes - 1; axis >= 0; --axis) {
            const ptrdiff_t size = view[INTO]->shape[axis];
            if (view[ONE]->shape[axis] != size || view[OTHER]->shape[axis] != size) return false;
            strip->count = size ? strip->count : 0;
            if (size == 1) continue;
            bool joins = found > 0;
            for (int i = 0; i < OPERANDS; ++i) {
                step[found][i] = view[i]->strides[axis];
                joins = joins && step[found][i] == shape[found - 1] * step[found - 1][i];
            }
            if (joins)
                shape[found - 1] *= size;
            else
                shape[found++] = size;
        }
        if (!strip->count || !found) return true;
        strip->count = shape[0];
        std::copy(step[0], step[0] + OPERANDS, strip->step);
        strip->outer = found - 1;
        for (int axis = 1; axis < found; ++axis) {
            strip->shape[axis - 1] = shape[axis];
            std::copy(step[axis], step[axis] + OPERANDS, strip->around[axis - 1]);
        }
        return true;
    }
};

// Arrays to which the words of messages and of key streams go.
class Places : public Held {
public:
    // Adds an array of words of so many bits; None for words that nobody reads.
    bool add(PyObject* out, int bits) {
        const Py_buffer* to = out == Py_None ? nullptr : take(out, PyBUF_ND | PyBUF_WRITABLE);
        if (!to && out != Py_None) return false;
        if (to && (to->itemsize > 8 || bits < 1 || bits > 8 * to->itemsize)) {
            PyErr_SetString(PyExc_ValueError, "an array and its bits do not fit");
            return false;
        }
        places_.push_back({to, bits});
        return true;
    }

    ptrdiff_t count() const { return ptrdiff_t(places_.size()); }

    // Unpacks words to a place; false where they are not as many.
    bool unpack(ptrdiff_t number, const uint8_t* from, ptrdiff_t bytes) const {
        const auto [to, bits] = places_[size_t(number)];
        if (!to) return true;
        const ptrdiff_t size = to->itemsize;
        if (bytes != (to->len / size * bits + 7) / 8) return false;
        if (bits == 8 * size)
            std::memcpy(to->buf, from, size_t(bytes));
        else
            current.load()->unpack(from, bytes, int(size), bits, static_cast<uint8_t*>(to->buf), to->len);
        return true;
    }

    // Copies to all places from one buffer, in which each begins at a multiple of 8 bytes; false where it is too short.
    bool fill(const uint8_t* from, ptrdiff_t bytes) const {
        for (const Place& place : places_) {
            if (!place.to || place.to->len > bytes) return false;
            std::memcpy(place.to->buf, from, size_t(place.to->len));
            const ptrdiff_t step = (place.to->len + 7) / 8 * 8;
            from += step, bytes -= step;
        }
        return true;
    }

private:
    struct Place {
        const Py_buffer* to;
        int bits;
    };
    std::vector<Place> places_;
};

}  // namespace
