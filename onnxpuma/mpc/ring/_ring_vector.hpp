// Vectors of words and the shape of a tile, for one level of vector instructions; included once per level.
//
// Helpers that touch vectors carry RING_TARGET themselves: a vector type is taken apart before functions are inlined.

namespace RING_LEVEL {

template <class W> struct Shape;
template <> struct Shape<uint32_t> {
    static constexpr int bytes = RING_BYTES_32, rows = RING_ROWS_32, vectors = RING_VECTORS_32;
};
template <> struct Shape<uint64_t> {
    static constexpr int bytes = RING_BYTES_64, rows = RING_ROWS_64, vectors = RING_VECTORS_64;
};

template <class W, int B, bool scalar = (B == sizeof(W))> struct Lanes {
    typedef W type __attribute__((vector_size(B)));
};
template <class W, int B> struct Lanes<W, B, true> { typedef W type; };
template <class W> using Vector = typename Lanes<W, Shape<W>::bytes>::type;
template <class W> constexpr int LANES = Shape<W>::bytes / int(sizeof(W));
template <class W> constexpr int COLUMNS = LANES<W> * Shape<W>::vectors;

template <class T> struct Identity { typedef T type; };
template <class T> using Same = typename Identity<T>::type;  // a parameter that does not take part in deduction

template <class W> RING_TARGET inline Vector<W> load(const W* from) {
    Vector<W> v;
    std::memcpy(&v, from, sizeof v);
    return v;
}

template <class W> RING_TARGET inline void store(W* to, Same<Vector<W>> v) { std::memcpy(to, &v, sizeof v); }

}  // namespace RING_LEVEL
