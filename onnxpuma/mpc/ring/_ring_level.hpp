// One level: the kernels under the macros that _ring_levels.hpp has set, which end here.

#include "_ring_vector.hpp"
#include "_ring_thin.hpp"
#include "_ring_gemm.hpp"
#include "_ring_narrow.hpp"
#include "_ring_bytes.hpp"
#include "_ring_unpack.hpp"
#include "_ring_words.hpp"
#include "_ring_kinds.hpp"
#include "_ring_fused.hpp"
#include "_ring_deal.hpp"
#include "_ring_series.hpp"
#include "_ring_strips.hpp"

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
#undef RING_FUSED_ROWS
#undef RING_MULTIPLY_PAIRS
#undef RING_PERMUTE_HALVES
#undef RING_TWO_PARTS
#undef RING_SHUFFLE_BYTES
#undef RING_EVEN_HALVES
#undef RING_EVEN_LANES
#undef RING_ODD_LANES
#undef RING_REAL_PARTS
#undef RING_INSERT_BYTES
#undef RING_ADD_PRODUCT
#undef RING_INTEGERS
