// The operations of a tape on two words each, as numpy defines them; included once, before the levels.

#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>

namespace {

using StripFunction = void (*)(char* out, const char* a, const char* b, ptrdiff_t count, const ptrdiff_t* step);

// In this order: plus, minus, times, and, or, xor, left, right, right signed, less, less signed, equal, unequal,
// negative, inverse, copy. tape.py has the same numbers.
constexpr int OPERATIONS = 15, COPY = 15, FIRST_TRUTH = 9, LAST_TRUTH = 12;

// Narrow words are promoted to signed integers, which must not overflow.
template <class T> using Widened = std::conditional_t<(sizeof(T) < 8), uint32_t, uint64_t>;
template <class T> constexpr int BITS = 8 * int(sizeof(T));

struct Plus { template <class T> static T of(T a, T b) { return T(Widened<T>(a) + Widened<T>(b)); } };
struct Minus { template <class T> static T of(T a, T b) { return T(Widened<T>(a) - Widened<T>(b)); } };
struct Times { template <class T> static T of(T a, T b) { return T(Widened<T>(a) * Widened<T>(b)); } };
struct And { template <class T> static T of(T a, T b) { return a & b; } };
struct Or { template <class T> static T of(T a, T b) { return a | b; } };
struct Xor { template <class T> static T of(T a, T b) { return a ^ b; } };
struct Left { template <class T> static T of(T a, T b) { return b < T(BITS<T>) ? T(Widened<T>(a) << b) : T(0); } };
struct Right { template <class T> static T of(T a, T b) { return b < T(BITS<T>) ? T(a >> b) : T(0); } };
// Of signed words: a shift of as many bits as a word has, or of a negative number, leaves the sign alone.
struct RightSigned {
    template <class T> static T of(T a, T b) { return T(a >> (b >= 0 && b < BITS<T> ? b : T(BITS<T> - 1))); }
};
struct Less { template <class T> static uint8_t of(T a, T b) { return a < b; } };
struct Equal { template <class T> static uint8_t of(T a, T b) { return a == b; } };
struct Unequal { template <class T> static uint8_t of(T a, T b) { return a != b; } };
struct Negative { template <class T> static T of(T a, T) { return T(Widened<T>(0) - Widened<T>(a)); } };
struct Inverse { template <class T> static T of(T a, T) { return T(~a); } };
struct First { template <class T> static T of(T a, T) { return a; } };

}  // namespace
