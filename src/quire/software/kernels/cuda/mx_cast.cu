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

#include "pairs.cuh"
#include "rounding.cuh"

namespace quire {

using namespace cute;
using Real = QUIRE_TYPE;

constexpr int kLane = 8;                              // neighbours that a lane holds
constexpr int kPerWord = 4 / int(sizeof(Real));       // values in 32 bits
constexpr int kWords = kLane / kPerWord;              // 32-bit words of a lane's values
constexpr int kVectors = kWords / 4;                  // 16-byte vectors of them
// Segments that a warp has under way.
constexpr int kQuantizing = 4, kDequantizing = QUIRE_IS_FIXED && kBits == 8 ? 4 : 2;
constexpr int kThreads = 256;
constexpr int kSharing = kSize / kLane;               // lanes that hold a block
constexpr uint32_t kMagnitudes = kPerWord == 2 ? 0x7FFF7FFFu : 0x7FFFFFFFu;
constexpr uint32_t kAll = 0xFFFFFFFFu;

// (lane, value, segment) -> position in the run of a warp: loads of a segment are one run of memory.
template <int kSegments>
using Run = Layout<Shape<_32, Int<kLane>, Int<kSegments>>, Stride<Int<kLane>, _1, Int<32 * kLane>>>;

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

// Two numbers that bf16 holds, as a pair.
__device__ __forceinline__ uint32_t pair_of(float low, float high) {
  return __byte_perm(__float_as_uint(low), __float_as_uint(high), 0x7632);
}

// The codes of 8 values, and the code of their scale.
struct Coded {
  uint64_t codes;
  uint32_t scale;
};

// largest: a word of the largest magnitudes of the block's even and odd values.
__device__ __forceinline__ Coded coded(Values x, uint32_t largest) {
  if constexpr (kPairs) {
    uint32_t const both = __vmaxu2(largest, __byte_perm(largest, 0, 0x1032));
    return {codes_of_row(x.words, both), both >> 7 & 0xFF};
  } else {
    Scale const scale(largest_of(largest));
    if (needs_cut(scale)) x = x.cut(both_halves(limit_of(scale)));
    uint32_t codes[8];
#pragma unroll
    for (int i = 0; i < 8; ++i) codes[i] = encoded<kCuts>(x[i], scale);
    return {packed8(codes), scale.code};
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

  template <bool kAligned, int kSegments>
  static __device__ __forceinline__ Place of(int64_t k, int segment) {
    constexpr int kRun = size(Run<kSegments>{});
    int64_t const run = int64_t(blockIdx.x) * (kThreads / 32) + threadIdx.x / 32;
    int const at = Run<kSegments>{}(int(threadIdx.x % 32), 0, segment);
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
  Values values[kQuantizing];
#pragma unroll
  for (int s = 0; s < kQuantizing; ++s) {
    Place const at = Place::of<kAligned, kQuantizing>(k, s);
    values[s].load<kAligned>(x + at.row * k, at.column, at.row < m ? k : 0);
  }
  uint32_t scale_codes[kQuantizing];
#pragma unroll
  for (int s = 0; s < kQuantizing; ++s) {
    Place const at = Place::of<kAligned, kQuantizing>(k, s);
    Coded const found = coded(values[s], larger_of_lanes<1, kSharing>(larger_of_values(values[s])));
    scale_codes[s] = found.scale;
    store_codes<kAligned>(codes + at.row * bytes + at.column / 8 * kBits,
                          room_for(at.row < m, at.column, bytes), found.codes);
  }
  // The lanes of a block hold its scale; each stores that of another segment.
  int const lane = threadIdx.x % kSharing;
#pragma unroll
  for (int s = 0; s < kQuantizing; s += kSharing) {
    if (s + lane >= kQuantizing) continue;
    Place const at = Place::of<kAligned, kQuantizing>(k, s + lane);
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
  constexpr uint32_t kHalf = kNoCode / 2, kMask = twice(kNoCode - 1), kOffset = twice(0x4300u | kHalf);
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
  uint64_t loaded[kDequantizing];
  uint32_t scale_codes[kDequantizing];
#pragma unroll
  for (int s = 0; s < kDequantizing; ++s) {
    Place const at = Place::of<kAligned, kDequantizing>(k, s);
    bool const is_row = at.row < m;
    int64_t const block = at.column / kSize;
    loaded[s] = load_codes<kAligned>(codes + at.row * bytes, at.column, is_row ? bytes : 0);
    scale_codes[s] = is_row && block < blocks ? __ldg(scales + at.row * blocks + block) : 0;
  }
#pragma unroll
  for (int s = 0; s < kDequantizing; ++s) {
    Place const at = Place::of<kAligned, kDequantizing>(k, s);
    uint64_t const mine = given_out<kAligned>(loaded[s]);
    uint32_t words[kWords];
    if (kPairs && kBits < 8 && scale_codes[s] < kHighPairScale) {
      decode8_by_pairs(mine, scale_codes[s], words);
    } else {
      decode8(mine, scale_codes[s], words);
    }
    store_words<kAligned>(out + at.row * k, at.column, at.row < m ? k : 0, words);
  }
}

// Both axes: a lane takes 8 rows of 8 values, a warp 32 x 64, the eight warps of a block of threads
// 128 x 128, so that blocks of up to 128 meet in shared memory. Codes of rows leave as they are made;
// those of columns, which are rows of the transposed matrix, turn in shared memory and leave in vectors.
constexpr int kSide = 64, kPatch = 8, kTile = 128;
constexpr int kWarpRows = 4 * kPatch, kBothWarps = 8, kBothThreads = 32 * kBothWarps;
// Blocks a multiprocessor.
constexpr int kBothResident = sizeof(Real) == 4 ? 1 : kPairs && kBits < 8 ? 3 : 2;
constexpr int kBand = 8;  // tiles under one another that run together: their scales share sectors
constexpr int kTileBlocks = kTile / kSize;  // of a row or column of a tile

// (lane, value, row) -> 64 row + column in the patch of a warp
using Patch = Layout<Shape<Shape<_8, _4>, Int<kLane>, Int<kPatch>>,
                     Stride<Stride<Int<kLane>, Int<kSide * kPatch>>, _1, Int<kSide>>>;

// What the warps of a block of threads share: the largest magnitudes of rows and columns, by warp and
// group of lanes, the tile's scales, and the codes of its columns. Column 8 g + j lies in row 16 j + g,
// and rows are padded, so that lanes side by side write to other banks.
struct Shared {
  static constexpr int kPitch = kTile * kBits / 8 + (kBits == 8 ? 32 : 16);
  alignas(16) uint8_t turned[kTile][kPitch];
  alignas(8) uint8_t row_scales[kTile][kTileBlocks], column_scales[kTile][kTileBlocks];
  uint32_t rows[kBothWarps][4][kPatch], columns[kBothWarps][8][kWords];

  __device__ __forceinline__ uint8_t* column(int i) { return turned[i % 8 * 16 + i / 8]; }
};

struct Both {
  uint8_t *codes, *scales, *column_codes, *column_scales;
  Real const* x;
  int64_t m, k, bytes, blocks, column_bytes, column_blocks;
};

// The tile of a block of threads: down a band of tiles first, then across.
__device__ __forceinline__ void tile_of(Both const& p, int64_t& row, int64_t& column) {
  int64_t const down = (p.m + kTile - 1) / kTile, across = (p.k + kTile - 1) / kTile;
  int64_t const band = blockIdx.x / (kBand * across), within = blockIdx.x % (kBand * across);
  int64_t const height = min(int64_t(kBand), down - band * kBand);
  row = (band * kBand + within % height) * kTile;
  column = within / height * kTile;
}

// row, column: of the lane's patch; down, across: the same within the tile.
template <bool kAligned>
__device__ __forceinline__ void quantize_rows(Both const& p, Shared& shared,
                                              Values const (&x)[kPatch],
                                              uint32_t const (&largest)[kPatch], int64_t row,
                                              int64_t column, int down, int across) {
  constexpr int kLanes = kSharing < 8 ? kSharing : 8;  // each keeps the scales of other rows
  uint8_t* to = p.codes + row * p.bytes + column / 8 * kBits;
  bool const is_inside = row < p.m && column < p.k;
#pragma unroll
  for (int i = 0; i < kPatch; ++i, to += p.bytes) {
    Coded const found = coded(x[i], largest[i]);
    int64_t const room = kAligned ? is_inside : room_for(row + i < p.m, column, p.bytes);
    store_codes<kAligned>(to, room, found.codes);
    if (threadIdx.x % kLanes == i % kLanes)
      shared.row_scales[down + i][across / kSize] = uint8_t(found.scale);
  }
}

// The codes of the columns of a patch's words, and those of their scales.
__device__ __forceinline__ void code_columns(uint32_t (&words)[kPatch], uint32_t largest,
                                             Coded (&columns)[kPerWord]) {
  if constexpr (kPairs) {
    uint64_t codes[2];
    codes_of_columns(words, largest, codes);
#pragma unroll
    for (int c = 0; c < kPerWord; ++c) columns[c] = {codes[c], largest >> (16 * c + 7) & 0xFF};
  } else {
    Scale const first(magnitude(largest, 0)), last(magnitude(largest, kPerWord - 1));
    if (needs_cut(first) || needs_cut(last)) {
      uint32_t const limit =
          kPerWord == 2 ? limit_of(first) | limit_of(last) << 16 : limit_of(first);
#pragma unroll
      for (int i = 0; i < kPatch; ++i) words[i] = cut_word(words[i], limit);
    }
#pragma unroll
    for (int c = 0; c < kPerWord; ++c) {
      Scale const& scale = c ? last : first;
      uint32_t codes[8];
#pragma unroll
      for (int i = 0; i < 8; ++i) codes[i] = encoded<kCuts>(value_of(words[i], c), scale);
      columns[c] = {packed8(codes), scale.code};
    }
  }
}

// Put the 8 codes of a lane where the other lanes find them.
__device__ __forceinline__ void turn(uint8_t* to, uint64_t codes) {
  if constexpr (kBits == 8) {
    *reinterpret_cast<uint64_t*>(to) = codes;
  } else if constexpr (kBits == 4) {
    *reinterpret_cast<uint32_t*>(to) = uint32_t(codes);
  } else {
#pragma unroll
    for (int i = 0; i < 3; ++i) reinterpret_cast<uint16_t*>(to)[i] = uint16_t(codes >> 16 * i);
  }
}

__device__ __forceinline__ void quantize_columns(Shared& shared, Values const (&x)[kPatch],
                                                 uint32_t const (&largest)[kWords], int down,
                                                 int across) {
  constexpr int kLanes = kSize / kPatch < 4 ? kSize / kPatch : 4;  // each keeps other scales
#pragma unroll
  for (int w = 0; w < kWords; ++w) {
    uint32_t words[kPatch];
#pragma unroll
    for (int i = 0; i < kPatch; ++i) words[i] = x[i].words[w];
    Coded columns[kPerWord];
    code_columns(words, largest[w], columns);
#pragma unroll
    for (int c = 0; c < kPerWord; ++c) {
      int const i = kPerWord * w + c;
      turn(shared.column(across + i) + down / 8 * kBits, columns[c].codes);
      if (threadIdx.x % 32 / 8 % kLanes == i % kLanes)
        shared.column_scales[across + i][down / kSize] = uint8_t(columns[c].scale);
    }
  }
}

// Store the scales of a row or column of a tile, as far as there are `room` blocks.
__device__ __forceinline__ void store_scales(uint8_t* to, uint8_t const* from, int64_t room) {
  using Whole = std::conditional_t<
      kTileBlocks == 8, uint64_t,
      std::conditional_t<kTileBlocks == 4, uint32_t,
                         std::conditional_t<kTileBlocks == 2, uint16_t, uint8_t>>>;
  if (room >= kTileBlocks && reinterpret_cast<uintptr_t>(to) % kTileBlocks == 0) {
    *reinterpret_cast<Whole*>(to) = *reinterpret_cast<Whole const*>(from);
  } else {
#pragma unroll
    for (int b = 0; b < kTileBlocks; ++b)
      if (b < room) to[b] = from[b];
  }
}

// Store the scales of the tile at (row, column): a thread a row, then a thread a column.
__device__ __forceinline__ void store_tile_scales(Both const& p, Shared const& shared, int64_t row,
                                                  int64_t column) {
  static_assert(kBothThreads == 2 * kTile);
  int const line = threadIdx.x % kTile;
  if (threadIdx.x < kTile) {
    int64_t const block = column / kSize;
    if (row + line < p.m)
      store_scales(p.scales + (row + line) * p.blocks + block, shared.row_scales[line],
                   p.blocks - block);
  } else if (column + line < p.k) {
    int64_t const block = row / kSize;
    store_scales(p.column_scales + (column + line) * p.column_blocks + block,
                 shared.column_scales[line], p.column_blocks - block);
  }
}

// Store the codes of the columns of the tile at (row, column), a Vector at a time.
template <class Vector>
__device__ __forceinline__ void store_columns(Both const& p, Shared& shared, int64_t row,
                                              int64_t column) {
  constexpr int kVector = int(sizeof(Vector)), kOf = kTile * kBits / 8 / kVector;
  int64_t const first = row / 8 * kBits, room = p.column_bytes - first;
#pragma unroll
  for (int i = threadIdx.x; i < kTile * kOf; i += kBothThreads) {
    int const which = i / kOf, at = i % kOf * kVector;
    if (column + which < p.k && at < room)
      *reinterpret_cast<Vector*>(p.column_codes + (column + which) * p.column_bytes + first + at) =
          *reinterpret_cast<Vector const*>(shared.column(which) + at);
  }
}

// The largest magnitudes of blocks that several warps share.
__device__ __forceinline__ void meet(Shared& shared, uint32_t (&rows)[kPatch],
                                     uint32_t (&columns)[kWords], int warp, int lane) {
  if (lane % 8 == 0)
#pragma unroll
    for (int i = 0; i < kPatch; ++i) shared.rows[warp][lane / 8][i] = rows[i];
  if (lane < 8)
#pragma unroll
    for (int w = 0; w < kWords; ++w) shared.columns[warp][lane][w] = columns[w];
  __syncthreads();
  if constexpr (kSize > kSide)
#pragma unroll
    for (int i = 0; i < kPatch; ++i)
      rows[i] = larger(rows[i], shared.rows[warp ^ 1][lane / 8][i]);
  constexpr int kMeeting = kSize / kWarpRows;  // warps under one another
#pragma unroll
  for (int d = 1; d < kMeeting; ++d)
#pragma unroll
    for (int w = 0; w < kWords; ++w)
      columns[w] = larger(columns[w], shared.columns[warp ^ 2 * d][lane % 8][w]);
}

template <bool kAligned>
__global__ void __launch_bounds__(kBothThreads, kBothResident) mx_quantize_both(Both const p) {
  __shared__ Shared shared;
  int const warp = threadIdx.x / 32, lane = threadIdx.x % 32, at = Patch{}(lane, 0, 0);
  int const down = warp / 2 * kWarpRows + at / kSide, across = warp % 2 * kSide + at % kSide;
  int64_t top, left;
  tile_of(p, top, left);
  int64_t const row = top + down, column = left + across;

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
    columns[w] = larger_of_lanes<8, (kSize < kWarpRows ? kSize / kPatch * 8 : 32)>(columns[w]);
  if constexpr (kSize > kWarpRows) meet(shared, rows, columns, warp, lane);
  quantize_rows<kAligned>(p, shared, x, rows, row, column, down, across);
  quantize_columns(shared, x, columns, down, across);
  __syncthreads();
  store_tile_scales(p, shared, top, left);
  // Columns of 6 bits start at multiples of 16 bytes where rows come in 64, else of 8.
  if constexpr (!kAligned) {
    store_columns<uint8_t>(p, shared, top, left);
  } else if (kBits == 6 && p.m % 64) {
    store_columns<uint2>(p, shared, top, left);
  } else {
    store_columns<uint4>(p, shared, top, left);
  }
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
template <int kSegments>
static unsigned grid(int64_t m, int64_t k) {
  constexpr int kRun = size(Run<kSegments>{});
  int64_t const warps = m * ((k + kRun - 1) / kRun);
  return unsigned((warps + kThreads / 32 - 1) / (kThreads / 32));
}

}  // namespace quire

using namespace quire;

// x (m, k) to plain codes and scales. All of these return a cudaError_t.
extern "C" int quire_mx_quantize(uint8_t* codes, uint8_t* scales, Real const* x, int64_t m,
                                 int64_t k, cudaStream_t stream) {
  if (is_whole(k) && is_aligned(codes, x)) {
    mx_quantize<true><<<grid<kQuantizing>(1, m * k), kThreads, 0, stream>>>(
        codes, scales, x, 1, m * k, row_bytes(m * k), row_blocks(m * k));
  } else {
    mx_quantize<false><<<grid<kQuantizing>(m, k), kThreads, 0, stream>>>(codes, scales, x, m, k, row_bytes(k),
                                                            row_blocks(k));
  }
  return int(cudaGetLastError());
}

// Plain codes and scales to out (m, k).
extern "C" int quire_mx_dequantize(Real* out, uint8_t const* codes, uint8_t const* scales,
                                   int64_t m, int64_t k, cudaStream_t stream) {
  if (is_whole(k) && is_aligned(out, codes)) {
    mx_dequantize<true><<<grid<kDequantizing>(1, m * k), kThreads, 0, stream>>>(
        out, codes, scales, 1, m * k, row_bytes(m * k), row_blocks(m * k));
  } else {
    mx_dequantize<false><<<grid<kDequantizing>(m, k), kThreads, 0, stream>>>(out, codes, scales, m, k, row_bytes(k),
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
  int64_t const tiles = ((m + kTile - 1) / kTile) * ((k + kTile - 1) / kTile);
  if (is_whole(k) && is_whole(m) && is_aligned(codes, column_codes, x)) {
    mx_quantize_both<true><<<unsigned(tiles), kBothThreads, 0, stream>>>(p);
  } else {
    mx_quantize_both<false><<<unsigned(tiles), kBothThreads, 0, stream>>>(p);
  }
  return int(cudaGetLastError());
}
