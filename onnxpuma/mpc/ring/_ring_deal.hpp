// A dealer's pass over reals, for one level of vector instructions; included once per level.
//
// Component 2 of a shared real is round(x 2^f) less a word of each of two key streams. A block of words goes from
// reals to packed words while it stays in the first-level cache.

namespace RING_LEVEL {

constexpr ptrdiff_t DEAL_WORDS = 1024;

// The double of a stored real; `Bits` of the same size are its bits, and order magnitudes as the reals do.
struct Half {
    typedef uint16_t Bits;
    static constexpr Bits infinity = 0x7C00;
    // The digits as a single's, whose smallest exponent is 2^112 times smaller; such a single is exact as well.
    RING_TARGET static inline double real(Bits bits) {
        const uint32_t digits = uint32_t(bits & 0x7FFF) << 13, sign = uint32_t(bits & 0x8000) << 16;
        float single;
        std::memcpy(&single, &digits, sizeof single);
        single *= 0x1p112f;
        return sign ? -double(single) : double(single);
    }
};

struct BrainHalf {
    typedef uint16_t Bits;
    static constexpr Bits infinity = 0x7F80;
    RING_TARGET static inline double real(Bits bits) {
        const uint32_t digits = uint32_t(bits) << 16;
        float single;
        std::memcpy(&single, &digits, sizeof single);
        return double(single);
    }
};

template <class R, class B, B I> struct Stored {
    typedef B Bits;
    static constexpr Bits infinity = I;
    RING_TARGET static inline double real(Bits bits) {
        R real;
        std::memcpy(&real, &bits, sizeof real);
        return double(real);
    }
};
typedef Stored<float, uint32_t, 0x7F800000> Single;
typedef Stored<double, uint64_t, 0x7FF0000000000000> Double;

// Words of reals times `scale`, to the nearest integer and of two such to the even one; the largest bits of a
// magnitude. What is no number, or is beyond 64 bits, becomes some word.
template <class K, class W>
RING_TARGET inline typename K::Bits encode(const typename K::Bits* __restrict from, W* __restrict to, ptrdiff_t count,
                                           double scale) {
    typedef typename K::Bits Bits;
    constexpr Bits magnitude = Bits(Bits(~Bits(0)) >> 1);
    Bits largest = 0;
    for (ptrdiff_t i = 0; i < count; ++i) {
        largest = std::max<Bits>(largest, from[i] & magnitude);
        const double scaled = K::real(from[i]) * scale;
        const double within = scaled < 0x1p63 && scaled >= -0x1p63 ? scaled : 0.0;
        to[i] = W(int64_t(__builtin_rint(within)));
    }
    return largest;
}

template <class K, class W>
RING_TARGET typename K::Bits deal_words(const Deal& d, ptrdiff_t start, ptrdiff_t stop) {
    typedef typename K::Bits Bits;
    Bits largest = 0;
    alignas(64) Bits reals[DEAL_WORDS];
    alignas(64) W words[DEAL_WORDS], key[DEAL_WORDS];
    for (ptrdiff_t i = start; i < stop; i += DEAL_WORDS) {
        const ptrdiff_t count = std::min(DEAL_WORDS, stop - i), at = i / 8 * d.bits, bytes = (count * d.bits + 7) / 8;
        std::memcpy(reals, static_cast<const uint8_t*>(d.reals) + size_t(i) * sizeof(Bits), size_t(count) * sizeof(Bits));
        largest = std::max(largest, encode<K, W>(reals, words, count, d.scale));
        for (const uint8_t* stream : d.streams) {
            unpack(stream + at, bytes, sizeof(W), d.bits, reinterpret_cast<uint8_t*>(key), count * ptrdiff_t(sizeof(W)));
            for (ptrdiff_t j = 0; j < count; ++j) words[j] -= key[j];
        }
        pack(reinterpret_cast<const uint8_t*>(words), count * ptrdiff_t(sizeof(W)), sizeof(W), d.bits, d.out + at, bytes);
    }
    return largest;
}

// The magnitude of the largest of some reals; NaN if one is not finite.
template <class K> double deal(const Deal& d, ptrdiff_t start, ptrdiff_t stop) {
    const auto largest = d.bits <= 32 ? deal_words<K, uint32_t>(d, start, stop) : deal_words<K, uint64_t>(d, start, stop);
    return largest < K::infinity ? K::real(largest) : std::numeric_limits<double>::quiet_NaN();
}

// In the order of _REALS in dealing.py.
const DealFunction DEALS[] = {deal<Half>, deal<BrainHalf>, deal<Single>, deal<Double>};

}  // namespace RING_LEVEL
