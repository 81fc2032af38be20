// The tiled layout of a weight as the kernels read it (layout.py writes it), and what every product needs.
#pragma once

#include "element.cuh"

namespace quire {

using Element = QUIRE_ELEMENT;

constexpr int kChunk = 64;  // values along K that a lane decodes at a time
constexpr int kScaleBytes = 2 * kChunk / (QUIRE_BLOCK < 64 ? QUIRE_BLOCK : 64);  // of a pair of rows
constexpr int kCodeChunk = 64 * kChunk * Element::kBits / 8;                     // of 64 rows
constexpr int kScaleChunk = 32 * kScaleBytes;

struct Parameters {
  __nv_bfloat16* out;
  uint8_t const* codes;
  uint8_t const* scales;
  float const* row_scale;
  __nv_bfloat16 const* bias;  // or null
  int m, n, chunks;           // chunks: K in steps of 64, an even number
};

// How the L2 shall keep what is read once (evict first), and what every block reads (evict last).
constexpr uint64_t kOnce = 0x12F0000000000000, kAgain = 0x14F0000000000000;

// A bulk copy of bytes that are read once, to shared memory; `full` counts them. Hopper.
__device__ __forceinline__ void copy_once(void const* from, uint64_t* full, void* to, int bytes) {
  asm volatile(
      "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint"
      " [%0], [%1], %2, [%3], %4;\n" ::"r"(uint32_t(__cvta_generic_to_shared(to))),
      "l"(from), "r"(bytes), "r"(uint32_t(__cvta_generic_to_shared(full))), "l"(kOnce)
      : "memory");
}

// The codes and multipliers of a chunk that one lane holds.
struct Packed {
  uint32_t words[Element::kBits];
  uint32_t scales[(kScaleBytes + 3) / 4];

  __device__ __forceinline__ void load(uint8_t const* codes, uint8_t const* scale, int thread) {
    auto const vectors = reinterpret_cast<uint4 const*>(codes);
    constexpr int kVectors = Element::kBits / 4;
#pragma unroll
    for (int v = 0; v < kVectors; ++v)
      reinterpret_cast<uint4&>(words[4 * v]) = vectors[v * 128 + thread];
    if constexpr (Element::kBits % 4 != 0) {  // the rest of six words
      auto const pairs = reinterpret_cast<uint2 const*>(codes + kVectors * 128 * 16);
      reinterpret_cast<uint2&>(words[4 * kVectors]) = pairs[thread];
    }
    uint8_t const* mine = scale + thread / 4 * kScaleBytes;
    if constexpr (kScaleBytes == 8) {
      reinterpret_cast<uint2&>(scales) = *reinterpret_cast<uint2 const*>(mine);
    } else if constexpr (kScaleBytes == 4) {
      scales[0] = *reinterpret_cast<uint32_t const*>(mine);
    } else {
      scales[0] = *reinterpret_cast<uint16_t const*>(mine);
    }
  }

  template <int kStep>
  __device__ __forceinline__ void decode_step(uint32_t (&a)[4][4]) const {
    constexpr int kBlock = kStep * kScaleBytes / 8;  // index of the step's block in the chunk
    uint32_t const word = scales[kBlock / 2];
    typename Element::Top const top(power_of_two(word, kBlock % 2 * 2));
    typename Element::Bottom const bottom(power_of_two(word, kBlock % 2 * 2 + 1));
    Element::template decode<kStep>(a[kStep], words, top, bottom);
  }

  __device__ __forceinline__ void decode(uint32_t (&a)[4][4]) const {
    decode_step<0>(a);
    decode_step<1>(a);
    decode_step<2>(a);
    decode_step<3>(a);
  }
};

// The scale and bias of the row of w at `row`; rows past the end give 0.
__device__ __forceinline__ float2 row_terms(Parameters const& p, int row) {
  if (row >= p.n) return make_float2(0.f, 0.f);
  return make_float2(p.row_scale[row], p.bias ? __bfloat162float(p.bias[row]) : 0.f);
}

__device__ __forceinline__ uint32_t rounded_pair(float low, float high) {
  __nv_bfloat162 const pair = __floats2bfloat162_rn(low, high);
  return reinterpret_cast<uint32_t const&>(pair);
}

// Round and write the sums of rows `row` (even) and row + 1 of w for one row of x.
__device__ __forceinline__ void store_pair(Parameters const& p, int token, int row, float2 sum) {
  float2 const left = row_terms(p, row), right = row_terms(p, row + 1);
  uint32_t const both = rounded_pair(sum.x * left.x + left.y, sum.y * right.x + right.y);
  __nv_bfloat16* to = p.out + int64_t(token) * p.n + row;
  if (p.n % 2 == 0) {
    *reinterpret_cast<uint32_t*>(to) = both;
  } else {
    to[0] = reinterpret_cast<__nv_bfloat162 const&>(both).x;
    if (row + 1 < p.n) to[1] = reinterpret_cast<__nv_bfloat162 const&>(both).y;
  }
}

}  // namespace quire
