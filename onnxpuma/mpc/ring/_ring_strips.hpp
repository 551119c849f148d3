// Operations on strips of words, element by element, for one level of vector instructions; included once per level.

namespace RING_LEVEL {

// out[i] = F(a[i], b[i]); steps are in bytes, and 0 for one word that all elements share. out may be a or b itself.
template <class To, class From, class F>
RING_TARGET void strip(char* out, const char* a, const char* b, ptrdiff_t count, const ptrdiff_t* step) {
    constexpr ptrdiff_t to = sizeof(To), from = sizeof(From);
    if (step[0] == to && (step[1] == from || step[1] == 0) && (step[2] == from || step[2] == 0)) {
        To* into = reinterpret_cast<To*>(out);
        const From *left = reinterpret_cast<const From*>(a), *right = reinterpret_cast<const From*>(b);
        if (step[1] && step[2]) {
#pragma GCC ivdep
            for (ptrdiff_t i = 0; i < count; ++i) into[i] = To(F::of(left[i], right[i]));
        } else if (step[1]) {
            const From one = *right;
#pragma GCC ivdep
            for (ptrdiff_t i = 0; i < count; ++i) into[i] = To(F::of(left[i], one));
        } else {
            const From one = *left;
            const ptrdiff_t by = step[2] ? 1 : 0;
#pragma GCC ivdep
            for (ptrdiff_t i = 0; i < count; ++i) into[i] = To(F::of(one, right[i * by]));
        }
        return;
    }
    for (ptrdiff_t i = 0; i < count; ++i, out += step[0], a += step[1], b += step[2])
        *reinterpret_cast<To*>(out) = To(F::of(*reinterpret_cast<const From*>(a), *reinterpret_cast<const From*>(b)));
}

#define RING_STRIP(F) {strip<uint8_t, uint8_t, F>, strip<uint16_t, uint16_t, F>, strip<uint32_t, uint32_t, F>, \
                       strip<uint64_t, uint64_t, F>}
#define RING_SIGNED(F) {strip<int8_t, int8_t, F>, strip<int16_t, int16_t, F>, strip<int32_t, int32_t, F>, \
                        strip<int64_t, int64_t, F>}
#define RING_TRUTH(F) {strip<uint8_t, uint8_t, F>, strip<uint8_t, uint16_t, F>, strip<uint8_t, uint32_t, F>, \
                       strip<uint8_t, uint64_t, F>}
#define RING_SIGNED_TRUTH(F) {strip<uint8_t, int8_t, F>, strip<uint8_t, int16_t, F>, strip<uint8_t, int32_t, F>, \
                              strip<uint8_t, int64_t, F>}
#define RING_COPY(From) {strip<uint8_t, From, First>, strip<uint16_t, From, First>, strip<uint32_t, From, First>, \
                         strip<uint64_t, From, First>}

// In the order of Operation, by the bytes of the words that are read: 1, 2, 4, 8.
const StripFunction STRIPS[OPERATIONS][4] = {
    RING_STRIP(Plus), RING_STRIP(Minus), RING_STRIP(Times), RING_STRIP(And), RING_STRIP(Or), RING_STRIP(Xor),
    RING_STRIP(Left), RING_STRIP(Right), RING_SIGNED(RightSigned), RING_TRUTH(Less), RING_SIGNED_TRUTH(Less),
    RING_TRUTH(Equal), RING_TRUTH(Unequal), RING_STRIP(Negative), RING_STRIP(Inverse),
};

// A copy, by the bytes of the words that are read, and of those that are written.
const StripFunction COPIES[4][4] = {RING_COPY(uint8_t), RING_COPY(uint16_t), RING_COPY(uint32_t), RING_COPY(uint64_t)};

#undef RING_STRIP
#undef RING_SIGNED
#undef RING_TRUTH
#undef RING_SIGNED_TRUTH
#undef RING_COPY

}  // namespace RING_LEVEL
