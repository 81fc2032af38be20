// Between floating point and codes with scales: quantize, dequantize, quantize along both axes.
//
// These move memory and do little else. A lane takes 8 neighbours, 16 bytes of a 16-bit type; the
// lanes of a block find its largest magnitude with shuffles; a warp has several such loads under way.
// All plain: codes (m, ceil(k * bits / 8)), scales (m, ceil(k / size)), as mx/layout.py says.
// Aligned kernels take whole blocks at multiples of 16 bytes; the others go element by element.
//
// Build with: QUIRE_TYPE (__nv_bfloat16, __half or float), QUIRE_MAX (its largest value), and the
// macros of rounding.cuh.
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cute/layout.hpp>
#include <type_traits>

#include "element.cuh"
#include "rounding.cuh"

namespace quire {

using namespace cute;
using Real = QUIRE_TYPE;

constexpr int kLane = 8;                              // neighbours that a lane holds
constexpr int kPerWord = 4 / int(sizeof(Real));       // values in 32 bits
constexpr int kWords = kLane / kPerWord;              // 32-bit words of a lane's values
constexpr int kVectors = kWords / 4;                  // 16-byte vectors of them
constexpr int kSegments = 4;                          // that a warp has under way
constexpr int kThreads = 256;
constexpr int kSharing = kSize / kLane;               // lanes that hold a block
constexpr uint32_t kMagnitudes = kPerWord == 2 ? 0x7FFF7FFFu : 0x7FFFFFFFu;
constexpr uint32_t kAll = 0xFFFFFFFFu;

// (lane, value, segment) -> position in the run of a warp: loads of a segment are one run of memory.
using Run = Layout<Shape<_32, Int<kLane>, Int<kSegments>>, Stride<Int<kLane>, _1, Int<32 * kLane>>>;
constexpr int kRun = size(Run{});

__device__ __forceinline__ float to_float(__half x) { return __half2float(x); }
__device__ __forceinline__ float to_float(float x) { return x; }

// Value `i` of a word.
__device__ __forceinline__ float value_of(uint32_t word, int i) {
  if constexpr (std::is_same_v<Real, __nv_bfloat16>) {
    return __uint_as_float(i ? word & 0xFFFF0000u : word << 16);
  } else {
    return to_float(reinterpret_cast<Real const*>(&word)[i]);
  }
}

// Magnitudes are ordered as their bits are, NaN above all. Words of them, each half by itself.
__device__ __forceinline__ uint32_t larger(uint32_t a, uint32_t b) {
  return kPerWord == 2 ? __vmaxu2(a, b) : max(a, b);
}

__device__ __forceinline__ uint32_t smaller(uint32_t a, uint32_t b) {
  return kPerWord == 2 ? __vminu2(a, b) : min(a, b);
}

// A word whose magnitudes are at most those of `limit`, signs kept.
__device__ __forceinline__ uint32_t cut_word(uint32_t word, uint32_t limit) {
  return smaller(word & kMagnitudes, limit) | (word & ~kMagnitudes);
}

// Fixed point saturates by cutting words, in blocks that need it; what is too large for fp16, and
// minifloats, which the largest value does not bound, are cut to infinity, and saturate after.
constexpr bool kCuts = QUIRE_IS_FIXED && !std::is_same_v<Real, __half>;

__device__ __forceinline__ bool needs_cut(Scale const& scale) {
  return kCuts ? scale.saturates : scale.is_bad;
}

// The bits of what magnitudes are cut to, in the low half or the whole of a word.
__device__ __forceinline__ uint32_t limit_of(Scale const& scale) {
  if constexpr (std::is_same_v<Real, __half>) return 0x7C00u;
  uint32_t const bits = kCuts ? __float_as_uint(scale.highest) : kExponent;
  return kPerWord == 2 ? bits >> 16 : bits;
}

// The 8 values of a lane, as they lie in memory.
struct Values {
  uint32_t words[kWords];

  __device__ __forceinline__ float operator[](int i) const {
    return value_of(words[i / kPerWord], i % kPerWord);
  }

  // Those of a row from `column` on; zero from `end` on.
  template <bool kAligned>
  __device__ __forceinline__ void load(Real const* row, int64_t column, int64_t end) {
#pragma unroll
    for (int w = 0; w < kWords; ++w) words[w] = 0;
    if constexpr (kAligned) {
      auto const from = reinterpret_cast<uint4 const*>(row + column);
      if (column < end)
#pragma unroll
        for (int v = 0; v < kVectors; ++v) reinterpret_cast<uint4*>(words)[v] = __ldg(from + v);
    } else {
      auto const to = reinterpret_cast<Real*>(words);
#pragma unroll
      for (int i = 0; i < kLane; ++i)
        if (column + i < end) to[i] = row[column + i];
    }
  }

  // Magnitudes above those of `limit` come down to it, NaN too.
  __device__ __forceinline__ Values cut(uint32_t limit) const {
    Values cut;
#pragma unroll
    for (int w = 0; w < kWords; ++w) cut.words[w] = cut_word(words[w], limit);
    return cut;
  }
};

// The float32 bits of magnitude `i` of a word of magnitudes.
__device__ __forceinline__ uint32_t magnitude(uint32_t word, int i) {
  return __float_as_uint(value_of(word, i));
}

// The float32 bits of the largest magnitude of a word.
__device__ __forceinline__ uint32_t largest_of(uint32_t word) {
  uint32_t const first = magnitude(word, 0);
  return kPerWord == 2 ? max(first, magnitude(word, 1)) : first;
}

// The larger over lanes whose numbers differ in bits kFrom .. kTo / 2, powers of two.
template <int kFrom, int kTo>
__device__ __forceinline__ uint32_t larger_of_lanes(uint32_t word) {
#pragma unroll
  for (int d = kFrom; d < kTo; d *= 2) word = larger(word, __shfl_xor_sync(kAll, word, d));
  return word;
}

// The largest magnitudes of a lane's values, as a word.
__device__ __forceinline__ uint32_t larger_of_values(Values const& x) {
  uint32_t word = x.words[0] & kMagnitudes;
#pragma unroll
  for (int w = 1; w < kWords; ++w) word = larger(word, x.words[w] & kMagnitudes);
  return word;
}

__device__ __forceinline__ uint32_t both_halves(uint32_t half) {
  return kPerWord == 2 ? half * 0x00010001u : half;
}

// Elements of fixed point below 8 bits fit the significand of bf16 beside a magic number, so that one
// multiply-add makes two codes of two values, or two values of two codes.
constexpr bool kPairs =
    std::is_same_v<Real, __nv_bfloat16> && QUIRE_IS_FIXED && QUIRE_FRACTION == kBits - 2 && kBits < 8;
constexpr uint32_t kPairMagic = (((134u - QUIRE_FRACTION) << 7) | 0x40u) * 0x00010001u;  // 1.5 * 2^(7 - f)

// Two numbers that bf16 holds, as a pair.
__device__ __forceinline__ uint32_t pair_of(float low, float high) {
  return __byte_perm(__float_as_uint(low), __float_as_uint(high), 0x7632);
}

// The codes of 8 values under one scale.
__device__ __forceinline__ uint64_t encoded8(Values x, Scale const& scale) {
  if (needs_cut(scale)) x = x.cut(both_halves(limit_of(scale)));
  if constexpr (kPairs) {
    uint32_t const inverses = pair_of(scale.inverse, scale.inverse);
    uint32_t bytes[2];
#pragma unroll
    for (int i = 0; i < 2; ++i)
      bytes[i] = __byte_perm(fma2(x.words[2 * i], inverses, kPairMagic),
                             fma2(x.words[2 * i + 1], inverses, kPairMagic), 0x6420);
    return packed_bytes(bytes[0]) | uint64_t(packed_bytes(bytes[1])) << 4 * kBits;
  } else {
    uint32_t codes[8];
#pragma unroll
    for (int i = 0; i < 8; ++i) codes[i] = encoded<kCuts>(x[i], scale);
    return packed8(codes);
  }
}

// Store 8 codes of a lane to `to`, `room` bytes before the end of the row (0: nothing is stored).
template <bool kAligned>
__device__ __forceinline__ void store_codes(uint8_t* to, int64_t room, uint64_t codes) {
  if constexpr (!kAligned) {
#pragma unroll
    for (int i = 0; i < kBits; ++i)
      if (i < room) to[i] = uint8_t(codes >> 8 * i);
  } else if constexpr (kBits == 8) {
    if (room > 0) *reinterpret_cast<uint64_t*>(to) = codes;
  } else if constexpr (kBits == 4) {
    if (room > 0) *reinterpret_cast<uint32_t*>(to) = uint32_t(codes);
  } else {  // 6 bytes of each of 4 lanes are 8 bytes of 3
    int const part = threadIdx.x % 4;
    uint64_t const next = __shfl_down_sync(kAll, codes, 1);
    uint64_t const own = codes >> 16 * part | next << (48 - 16 * part);
    if (room > 0 && part < 3) *reinterpret_cast<uint64_t*>(to + 2 * part) = own;
  }
}

// Bytes from the codes of `column` to the end of a row, or 0 where there is no such row.
__device__ __forceinline__ int64_t room_for(bool is_row, int64_t column, int64_t bytes) {
  return is_row ? bytes - column / 8 * kBits : 0;
}

// The 8 codes of a lane, zero beyond the row: the inverse of `store_codes`.
template <bool kAligned>
__device__ __forceinline__ uint64_t load_codes(uint8_t const* row, int64_t column, int64_t bytes) {
  int64_t const at = column / 8 * kBits;
  uint64_t codes = 0;
  if constexpr (!kAligned) {
#pragma unroll
    for (int i = 0; i < kBits; ++i)
      if (at + i < bytes) codes |= uint64_t(row[at + i]) << 8 * i;
  } else if constexpr (kBits == 8) {
    if (at < bytes) codes = __ldg(reinterpret_cast<unsigned long long const*>(row + at));
  } else if constexpr (kBits == 4) {
    if (at < bytes) codes = __ldg(reinterpret_cast<uint32_t const*>(row + at));
  } else {
    int const part = threadIdx.x % 4;
    if (at < bytes && part < 3)
      codes = __ldg(reinterpret_cast<unsigned long long const*>(row + at + 2 * part));
  }
  return codes;
}

// What `load_codes` loaded, given out to the lanes.
template <bool kAligned>
__device__ __forceinline__ uint64_t given_out(uint64_t loaded) {
  if constexpr (!kAligned || kBits != 6) return loaded;
  int const part = threadIdx.x % 4;
  uint64_t const last = __shfl_up_sync(kAll, loaded, 1);
  return part == 0 ? loaded : last >> (64 - 16 * part) | loaded << 16 * part;
}

// Where a warp's run of segments lies; aligned rows follow one another, and count as one row.
struct Place {
  int64_t row, column;

  template <bool kAligned>
  static __device__ __forceinline__ Place of(int64_t k, int segment) {
    int64_t const run = int64_t(blockIdx.x) * (kThreads / 32) + threadIdx.x / 32;
    int const at = Run{}(int(threadIdx.x % 32), 0, segment);
    if constexpr (kAligned) return {0, run * kRun + at};
    int64_t const runs = (k + kRun - 1) / kRun;
    return {run / runs, run % runs * kRun + at};
  }
};

template <int kCount>
__device__ __forceinline__ uint32_t pick(uint32_t const (&from)[kCount], int i) {
  uint32_t picked = from[0];
#pragma unroll
  for (int j = 1; j < kCount; ++j) picked = i == j ? from[j] : picked;
  return picked;
}

template <bool kAligned>
__global__ void __launch_bounds__(kThreads)
mx_quantize(uint8_t* __restrict__ codes, uint8_t* __restrict__ scales, Real const* __restrict__ x,
            int64_t m, int64_t k, int64_t bytes, int64_t blocks) {
  Values values[kSegments];
#pragma unroll
  for (int s = 0; s < kSegments; ++s) {
    Place const at = Place::of<kAligned>(k, s);
    values[s].load<kAligned>(x + at.row * k, at.column, at.row < m ? k : 0);
  }
  uint32_t scale_codes[kSegments];
#pragma unroll
  for (int s = 0; s < kSegments; ++s) {
    Place const at = Place::of<kAligned>(k, s);
    Scale const scale(largest_of(larger_of_lanes<1, kSharing>(larger_of_values(values[s]))));
    scale_codes[s] = scale.code;
    store_codes<kAligned>(codes + at.row * bytes + at.column / 8 * kBits,
                          room_for(at.row < m, at.column, bytes), encoded8(values[s], scale));
  }
  // The lanes of a block hold its scale; each stores that of another segment.
  int const lane = threadIdx.x % kSharing;
#pragma unroll
  for (int s = 0; s < kSegments; s += kSharing) {
    if (s + lane >= kSegments) continue;
    Place const at = Place::of<kAligned>(k, s + lane);
    int64_t const block = at.column / kSize;
    if (at.row < m && block < blocks)
      scales[at.row * blocks + block] = uint8_t(pick(scale_codes, s + lane));
  }
}

__device__ __forceinline__ uint32_t word_of(float low, float high) {
  if constexpr (std::is_same_v<Real, __nv_bfloat16>) {
    __nv_bfloat162 const pair = __floats2bfloat162_rn(low, high);
    return reinterpret_cast<uint32_t const&>(pair);
  } else {
    __half2 const pair = __floats2half2_rn(low, high);
    return reinterpret_cast<uint32_t const&>(pair);
  }
}

template <bool kAligned>
__device__ __forceinline__ void store_words(Real* row, int64_t column, int64_t end,
                                            uint32_t const (&words)[kWords]) {
  if constexpr (kAligned) {
    auto const to = reinterpret_cast<uint4*>(row + column);
    if (column < end)
#pragma unroll
      for (int v = 0; v < kVectors; ++v) to[v] = reinterpret_cast<uint4 const*>(words)[v];
  } else {
#pragma unroll
    for (int i = 0; i < kLane; ++i)
      if (column + i < end) row[column + i] = reinterpret_cast<Real const*>(words)[i];
  }
}

// The E8M0 code from which on an element may lie beyond the values of Real.
constexpr uint32_t kHighScale = (std::is_same_v<Real, __half> ? 142 : 254) - QUIRE_EMAX;

// The values of 8 codes under any scale.
__device__ __forceinline__ void decode8(uint64_t codes, uint32_t scale_code,
                                        uint32_t (&words)[kWords]) {
  float const scale = decoded_scale(scale_code);
  float values[kLane];
#pragma unroll
  for (int i = 0; i < kLane; ++i) values[i] = decoded(code_of(codes, i)) * scale;
  if (QUIRE_HAS_INFINITY || scale_code >= kHighScale)
#pragma unroll
    for (int i = 0; i < kLane; ++i) values[i] = saturated(values[i], float(QUIRE_MAX));
#pragma unroll
  for (int w = 0; w < kWords; ++w) {
    if constexpr (kPerWord == 2) {
      words[w] = word_of(values[2 * w], values[2 * w + 1]);
    } else {
      words[w] = __float_as_uint(values[w]);
    }
  }
}

// Codes 2 i and 2 i + 1 of eight in the low bits of the halves of a word, and anything above them.
__device__ __forceinline__ uint32_t spread(uint64_t codes, int i) {
  if constexpr (kBits == 4) {
    uint32_t const word = uint32_t(codes);
    return __byte_perm(word, word >> 4, i | i << 4 | (4 + i) << 8 | (4 + i) << 12);
  }
  uint32_t const both = uint32_t(codes >> 2 * kBits * i);
  return (both & (kNoCode - 1)) | both << (16 - kBits);
}

// From this E8M0 code on the offset below leaves the range of bf16.
constexpr uint32_t kHighPairScale = 249;

// The same, two values at a time: offset binary below the significand of 128, then one multiply-add.
__device__ __forceinline__ void decode8_by_pairs(uint64_t codes, uint32_t scale_code,
                                                 uint32_t (&words)[kWords]) {
  constexpr uint32_t kHalf = kNoCode / 2, kMask = (kNoCode - 1) * 0x00010001u;
  constexpr uint32_t kOffset = (0x4300u | kHalf) * 0x00010001u;
  float const scale = decoded_scale(scale_code), offset = scale * -float(128 + kHalf);
  uint32_t const scales = pair_of(scale, scale), offsets = pair_of(offset, offset);
#pragma unroll
  for (int w = 0; w < kWords; ++w)
    words[w] = fma2((spread(codes, w) & kMask) ^ kOffset, scales, offsets);
}

template <bool kAligned>
__global__ void __launch_bounds__(kThreads)
mx_dequantize(Real* __restrict__ out, uint8_t const* __restrict__ codes,
              uint8_t const* __restrict__ scales, int64_t m, int64_t k, int64_t bytes,
              int64_t blocks) {
  uint64_t loaded[kSegments];
  uint32_t scale_codes[kSegments];
#pragma unroll
  for (int s = 0; s < kSegments; ++s) {
    Place const at = Place::of<kAligned>(k, s);
    bool const is_row = at.row < m;
    int64_t const block = at.column / kSize;
    loaded[s] = load_codes<kAligned>(codes + at.row * bytes, at.column, is_row ? bytes : 0);
    scale_codes[s] = is_row && block < blocks ? __ldg(scales + at.row * blocks + block) : 0;
  }
#pragma unroll
  for (int s = 0; s < kSegments; ++s) {
    Place const at = Place::of<kAligned>(k, s);
    uint64_t const mine = given_out<kAligned>(loaded[s]);
    uint32_t words[kWords];
    if (kPairs && scale_codes[s] < kHighPairScale) {
      decode8_by_pairs(mine, scale_codes[s], words);
    } else {
      decode8(mine, scale_codes[s], words);
    }
    store_words<kAligned>(out + at.row * k, at.column, at.row < m ? k : 0, words);
  }
}

// Both axes: a warp takes 64 x 64 values, each lane 16 rows of 8; four warps take 128 x 128, so that
// blocks of 128 meet in shared memory. Loads are 128 bytes of each of four rows; codes of rows leave in
// 64-byte rows, codes of columns, which are rows of the transposed matrix, in 64-byte columns.
constexpr int kSide = 64, kPatch = 16;
constexpr int kBothThreads = 128;
constexpr int kResident = kPairs && kBits == 4 ? 3 : 2;  // blocks a multiprocessor, measured
constexpr int kBand = 8;  // tiles under one another that run together: their scales share sectors

// (lane, value, row) -> 64 row + column in the tile of a warp
using Patch = Layout<Shape<Shape<_8, _4>, Int<kLane>, Int<kPatch>>,
                     Stride<Stride<Int<kLane>, Int<kSide * kPatch>>, _1, Int<kSide>>>;

// The larger of the words of the two warps that share rows (or columns) of a tile of 128.
template <int kCount>
__device__ __forceinline__ void larger_of_warps(uint32_t (&words)[kCount],
                                                uint32_t (*mine)[kCount],
                                                uint32_t (*other)[kCount], int lane, bool writes) {
  if (writes)
#pragma unroll
    for (int i = 0; i < kCount; ++i) mine[lane][i] = words[i];
  __syncthreads();
#pragma unroll
  for (int i = 0; i < kCount; ++i) words[i] = larger(words[i], other[lane][i]);
}

// Store 16 codes, `room` bytes before the end of the row (0: nothing is stored).
template <bool kAligned>
__device__ __forceinline__ void store_16(uint8_t* to, int64_t room, uint64_t low, uint64_t high) {
  if constexpr (!kAligned) {
#pragma unroll
    for (int i = 0; i < 2 * kBits; ++i)
      if (i < room) to[i] = uint8_t(i < kBits ? low >> 8 * i : high >> 8 * (i - kBits));
  } else if (room > 0) {
    if constexpr (kBits == 8) {
      auto const both = make_uint4(uint32_t(low), uint32_t(low >> 32), uint32_t(high),
                                   uint32_t(high >> 32));
      *reinterpret_cast<uint4*>(to) = both;
    } else if constexpr (kBits == 4) {
      *reinterpret_cast<uint64_t*>(to) = low | high << 32;
    } else {
      auto const words = reinterpret_cast<uint32_t*>(to);
      words[0] = uint32_t(low);
      words[1] = uint32_t((low >> 32) | (high << 16));
      words[2] = uint32_t(high >> 16);
    }
  }
}

struct Both {
  uint8_t *codes, *scales, *column_codes, *column_scales;
  Real const* x;
  int64_t m, k, bytes, blocks, column_bytes, column_blocks;
};

// The tile of a block of threads: down a band of tiles first, then across.
__device__ __forceinline__ void tile_of(Both const& p, int64_t& row, int64_t& column) {
  int64_t const down = (p.m + 2 * kSide - 1) / (2 * kSide);
  int64_t const across = (p.k + 2 * kSide - 1) / (2 * kSide);
  int64_t const band = blockIdx.x / (kBand * across), within = blockIdx.x % (kBand * across);
  int64_t const height = min(int64_t(kBand), down - band * kBand);
  row = (band * kBand + within % height) * 2 * kSide;
  column = within / height * 2 * kSide;
}

template <bool kAligned>
__device__ __forceinline__ void quantize_rows(Both const& p, Values const (&x)[kPatch],
                                              uint32_t const (&largest)[kPatch], int64_t row,
                                              int64_t column, bool stores_scales) {
  uint32_t scale_codes[kPatch];
  uint8_t* to = p.codes + row * p.bytes + column / 8 * kBits;
  bool const is_inside = row < p.m && column < p.k;
#pragma unroll
  for (int i = 0; i < kPatch; ++i, to += p.bytes) {
    Scale const scale(largest_of(largest[i]));
    scale_codes[i] = scale.code;
    int64_t const room = kAligned ? is_inside : room_for(row + i < p.m, column, p.bytes);
    store_codes<kAligned>(to, room, encoded8(x[i], scale));
  }
  constexpr int kLanes = kSharing < 8 ? kSharing : 8;
  int const lane = threadIdx.x % kLanes;
  int64_t const block = column / kSize;
#pragma unroll
  for (int i = 0; i < kPatch; i += kLanes)
    if (stores_scales && row + i + lane < p.m && block < p.blocks)
      p.scales[(row + i + lane) * p.blocks + block] = uint8_t(pick(scale_codes, i + lane));
}

// The codes of the columns of a patch's words: of rows 0 to 7, and of rows 8 to 15.
__device__ __forceinline__ void encode_columns(uint32_t const (&words)[kPatch],
                                               Scale const (&scales)[kPerWord],
                                               uint64_t (&codes)[kPerWord][2]) {
  if constexpr (kPairs) {
    uint32_t const inverses = pair_of(scales[0].inverse, scales[kPerWord - 1].inverse);
#pragma unroll
    for (int i = 0; i < kPatch; i += 4) {
      uint32_t four[4];
#pragma unroll
      for (int j = 0; j < 4; ++j) four[j] = fma2(words[i + j], inverses, kPairMagic);
      uint32_t const first = __byte_perm(four[0], four[1], 0x6240);
      uint32_t const second = __byte_perm(four[2], four[3], 0x6240);
#pragma unroll
      for (int c = 0; c < kPerWord; ++c) {
        uint64_t const packed = packed_bytes(__byte_perm(first, second, c ? 0x7632 : 0x5410));
        codes[c][i / 8] = i % 8 ? codes[c][i / 8] | packed << 4 * kBits : packed;
      }
    }
  } else {
#pragma unroll
    for (int c = 0; c < kPerWord; ++c)
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        uint32_t eight[8];
#pragma unroll
        for (int i = 0; i < 8; ++i)
          eight[i] = encoded<kCuts>(value_of(words[8 * half + i], c), scales[c]);
        codes[c][half] = packed8(eight);
      }
  }
}

template <bool kAligned>
__device__ __forceinline__ void store_column(Both const& p, uint64_t const (&codes)[2], int64_t row,
                                             int64_t column) {
  int64_t const at = row / 8 * kBits;
  bool const is_inside = column < p.k && (!kAligned || row < p.m);
  store_16<kAligned>(p.column_codes + column * p.column_bytes + at,
                     is_inside ? kAligned ? 1 : p.column_bytes - at : 0, codes[0], codes[1]);
}

template <bool kAligned>
__device__ __forceinline__ void quantize_columns(Both const& p, Values const (&x)[kPatch],
                                                 uint32_t const (&largest)[kWords], int64_t row,
                                                 int64_t column, bool stores_scales) {
  uint32_t scale_codes[kLane];
#pragma unroll
  for (int w = 0; w < kWords; ++w) {
    Scale scales[kPerWord];
#pragma unroll
    for (int c = 0; c < kPerWord; ++c) {
      scales[c] = Scale(magnitude(largest[w], c));
      scale_codes[kPerWord * w + c] = scales[c].code;
    }
    Scale const &first = scales[0], &last = scales[kPerWord - 1];
    uint32_t words[kPatch];
#pragma unroll
    for (int i = 0; i < kPatch; ++i) words[i] = x[i].words[w];
    if (needs_cut(first) || needs_cut(last)) {
      uint32_t const limit =
          kPerWord == 2 ? limit_of(first) | limit_of(last) << 16 : limit_of(first);
#pragma unroll
      for (int i = 0; i < kPatch; ++i) words[i] = cut_word(words[i], limit);
    }
    uint64_t codes[kPerWord][2];
    encode_columns(words, scales, codes);
#pragma unroll
    for (int c = 0; c < kPerWord; ++c)
      store_column<kAligned>(p, codes[c], row, column + kPerWord * w + c);
  }
  constexpr int kLanes = kSize / kPatch < 4 ? kSize / kPatch : 4;
  int const lane = threadIdx.x % 32 / 8 % kLanes;
  int64_t const block = row / kSize;
#pragma unroll
  for (int c = 0; c < kLane; c += kLanes) {
    int64_t const at = column + c + lane;
    if (stores_scales && at < p.k && block < p.column_blocks)
      p.column_scales[at * p.column_blocks + block] = uint8_t(pick(scale_codes, c + lane));
  }
}

template <bool kAligned>
__global__ void __launch_bounds__(kBothThreads, kResident) mx_quantize_both(Both const p) {
  int const warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  int const at = Patch{}(lane, 0, 0);
  int64_t row, column;
  tile_of(p, row, column);
  row += warp / 2 * kSide + at / kSide;
  column += warp % 2 * kSide + at % kSide;

  Values x[kPatch];
  Real const* from = p.x + row * p.k;
  bool const is_inside = row < p.m && column < p.k;
#pragma unroll
  for (int i = 0; i < kPatch; ++i, from += p.k)
    x[i].load<kAligned>(from, column, (kAligned ? is_inside : row + i < p.m) ? p.k : 0);

  uint32_t rows[kPatch], columns[kWords] = {};
#pragma unroll
  for (int i = 0; i < kPatch; ++i) {
    rows[i] = larger_of_lanes<1, (kSharing < 8 ? kSharing : 8)>(larger_of_values(x[i]));
#pragma unroll
    for (int w = 0; w < kWords; ++w) columns[w] = larger(columns[w], x[i].words[w] & kMagnitudes);
  }
#pragma unroll
  for (int w = 0; w < kWords; ++w)
    columns[w] = larger_of_lanes<8, (kSize < kSide ? kSize / kPatch * 8 : 32)>(columns[w]);
  if constexpr (kSize > kSide) {
    __shared__ uint32_t row_words[4][4][kPatch], column_words[4][8][kWords];
    larger_of_warps(rows, row_words[warp], row_words[warp ^ 1], lane / 8, lane % 8 == 0);
    larger_of_warps(columns, column_words[warp], column_words[warp ^ 2], lane % 8, lane < 8);
  }
  quantize_rows<kAligned>(p, x, rows, row, column, kSize <= kSide || warp % 2 == 0);
  quantize_columns<kAligned>(p, x, columns, row, column, kSize <= kSide || warp / 2 == 0);
}

static int64_t row_bytes(int64_t k) { return (k * kBits + 7) / 8; }
static int64_t row_blocks(int64_t k) { return (k + kSize - 1) / kSize; }

// Whether rows of k are whole blocks, and whole groups of lanes that share stores.
static bool is_whole(int64_t k) { return k % kSize == 0 && k % 32 == 0; }

template <class... Pointers>
static bool is_aligned(Pointers... pointers) {
  return ((reinterpret_cast<uintptr_t>(pointers) % 16 == 0) && ...);
}

// Blocks of threads for m rows of k, a warp a run.
static unsigned grid(int64_t m, int64_t k) {
  int64_t const warps = m * ((k + kRun - 1) / kRun);
  return unsigned((warps + kThreads / 32 - 1) / (kThreads / 32));
}

}  // namespace quire

using namespace quire;

// x (m, k) to plain codes and scales. All of these return a cudaError_t.
extern "C" int quire_mx_quantize(uint8_t* codes, uint8_t* scales, Real const* x, int64_t m,
                                 int64_t k, cudaStream_t stream) {
  if (is_whole(k) && is_aligned(codes, x)) {
    mx_quantize<true><<<grid(1, m * k), kThreads, 0, stream>>>(
        codes, scales, x, 1, m * k, row_bytes(m * k), row_blocks(m * k));
  } else {
    mx_quantize<false><<<grid(m, k), kThreads, 0, stream>>>(codes, scales, x, m, k, row_bytes(k),
                                                            row_blocks(k));
  }
  return int(cudaGetLastError());
}

// Plain codes and scales to out (m, k).
extern "C" int quire_mx_dequantize(Real* out, uint8_t const* codes, uint8_t const* scales,
                                   int64_t m, int64_t k, cudaStream_t stream) {
  if (is_whole(k) && is_aligned(out, codes)) {
    mx_dequantize<true><<<grid(1, m * k), kThreads, 0, stream>>>(
        out, codes, scales, 1, m * k, row_bytes(m * k), row_blocks(m * k));
  } else {
    mx_dequantize<false><<<grid(m, k), kThreads, 0, stream>>>(out, codes, scales, m, k, row_bytes(k),
                                                              row_blocks(k));
  }
  return int(cudaGetLastError());
}

// x (m, k) to the plain codes and scales of its rows, and to those of the rows of x transposed.
extern "C" int quire_mx_quantize_both(uint8_t* codes, uint8_t* scales, uint8_t* column_codes,
                                      uint8_t* column_scales, Real const* x, int64_t m, int64_t k,
                                      cudaStream_t stream) {
  Both const p = {codes,         scales,        column_codes,  column_scales, x, m, k,
                  row_bytes(k),  row_blocks(k), row_bytes(m),  row_blocks(m)};
  int64_t const tiles = ((m + 2 * kSide - 1) / (2 * kSide)) * ((k + 2 * kSide - 1) / (2 * kSide));
  if (is_whole(k) && is_whole(m) && is_aligned(codes, column_codes, x)) {
    mx_quantize_both<true><<<unsigned(tiles), kBothThreads, 0, stream>>>(p);
  } else {
    mx_quantize_both<false><<<unsigned(tiles), kBothThreads, 0, stream>>>(p);
  }
  return int(cudaGetLastError());
}
