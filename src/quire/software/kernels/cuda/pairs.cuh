// MXInt codes of bf16, two values at a time.
//
// Below 8 bits an element fits the significand of bf16 beside a magic number, so that one multiply-add
// rounds two values to two codes. Scales come in pairs too: the largest magnitudes of two columns are
// the halves of a word. Codes of a block with NaN or Inf are undefined, as they are in
// the format: its scale says NaN.
#pragma once

#include <cuda_bf16.h>

#include <type_traits>

#include "element.cuh"
#include "rounding.cuh"

namespace quire {

constexpr bool kPairs = std::is_same_v<QUIRE_TYPE, __nv_bfloat16> && QUIRE_IS_FIXED &&
                        QUIRE_FRACTION == kBits - 2 && QUIRE_LOW == 0 && QUIRE_OFFSET == 0;

__host__ __device__ constexpr uint32_t twice(uint32_t half) { return half * 0x00010001u; }

constexpr uint32_t kFields = twice(0x7F80u);     // exponents
constexpr uint32_t kLargest = twice(0x7F00u);    // the exponent 127
constexpr uint32_t kSubnormal = twice(0x0040u);  // 2^-127
// 1.5 * 2^(7 - f), whose last bit is that of the elements, and the codes' ends beside it.
constexpr uint32_t kPairMagic = twice((134u - QUIRE_FRACTION) << 7 | 0x40u);
constexpr uint32_t kTop = twice(kNoCode / 2 - 1);
// From this mantissa on, a largest magnitude may round beyond the largest element.
constexpr uint32_t kHighHalf = kHighMantissa >> 16;

// mask ? a : b, bit by bit.
__device__ __forceinline__ uint32_t select_bits(uint32_t mask, uint32_t a, uint32_t b) {
  uint32_t d;
  asm("lop3.b32 %0, %1, %2, %3, 0xE4;\n" : "=r"(d) : "r"(a), "r"(b), "r"(mask));
  return d;
}

// 2^-X of both halves, from their largest magnitudes.
__device__ __forceinline__ uint32_t inverses(uint32_t largest) {
  return __vmaxu2(kLargest - __vminu2(largest & kFields, kLargest), kSubnormal);
}

// Whether something may saturate below either largest magnitude.
__device__ __forceinline__ bool may_saturate(uint32_t largest) {
  return (largest & twice(0x7F)) + twice(0x80 - kHighHalf) & twice(0x80);
}

// Words of two values to words of two codes, each in the low bits of its half; below 8 bits.
template <int kCount>
__device__ __forceinline__ void round_pairs(uint32_t (&words)[kCount], uint32_t inverse,
                                            bool saturates) {
#pragma unroll
  for (int i = 0; i < kCount; ++i) words[i] = fma2(words[i], inverse, kPairMagic);
  if (saturates)
#pragma unroll
    for (int i = 0; i < kCount; ++i)
      words[i] = __vmaxu2(__vminu2(words[i], kPairMagic + kTop), kPairMagic - kTop);
}

__device__ __forceinline__ float half_of(uint32_t word, int i) {
  return __uint_as_float(i ? word & 0xFFFF0000u : word << 16);
}

// Eight values to codes of 8 bits, `value(i)` being the i-th.
template <class Value>
__device__ __forceinline__ uint64_t codes_of_8_bits(Value value, float inverse, bool saturates) {
  constexpr float kMagic = 1.5f * float(1 << (23 - QUIRE_FRACTION)), kEnd = float(QUIRE_HIGHEST);
  uint32_t codes[8];
  auto round = [&](auto clamps) {
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      float sum = __fmaf_rn(value(i), inverse, kMagic);
      if constexpr (clamps.value) sum = fminf(fmaxf(sum, kMagic - kEnd), kMagic + kEnd);
      codes[i] = __float_as_uint(sum);
    }
  };
  if (saturates) {
    round(std::true_type{});
  } else {
    round(std::false_type{});
  }
  return packed8(codes);
}

// Two times 24 bits, with anything above them, as 48.
__device__ __forceinline__ uint64_t joined_24(uint32_t low, uint32_t high) {
  return __byte_perm(low, high, 0x4210) | uint64_t(__byte_perm(high, 0, 0x4421)) << 32;
}

// The codes of 8 neighbours; their largest magnitude is in both halves of a word.
__device__ __forceinline__ uint64_t codes_of_row(uint32_t const* x, uint32_t largest) {
  uint32_t const inverse = inverses(largest);
  bool const saturates = may_saturate(largest);
  if constexpr (kBits == 8) {
    return codes_of_8_bits([&](int i) { return half_of(x[i / 2], i % 2); }, half_of(inverse, 0),
                           saturates);
  } else {
    uint32_t r[4] = {x[0], x[1], x[2], x[3]};
    round_pairs(r, inverse, saturates);
    if constexpr (kBits == 4) {
      uint32_t const p = __byte_perm(r[0], r[1], 0x6240), q = __byte_perm(r[2], r[3], 0x6240);
      return select_bits(0x0F0F0F0Fu, __byte_perm(p, q, 0x5410), __byte_perm(p, q, 0x7632) << 4);
    } else {
      uint32_t y[4];
#pragma unroll
      for (int i = 0; i < 4; ++i) y[i] = select_bits(0x3Fu, r[i], r[i] >> 10);
      return joined_24(select_bits(0xFFFu, y[0], y[1] << 12), select_bits(0xFFFu, y[2], y[3] << 12));
    }
  }
}

// The codes of 8 rows of two columns, which are the halves of the words.
__device__ __forceinline__ void codes_of_columns(uint32_t (&r)[8], uint32_t largest,
                                                 uint64_t* codes) {
  uint32_t const inverse = inverses(largest);
  bool const saturates = may_saturate(largest);
  if constexpr (kBits == 8) {
#pragma unroll
    for (int c = 0; c < 2; ++c)
      codes[c] = codes_of_8_bits([&](int i) { return half_of(r[i], c); }, half_of(inverse, c),
                                 saturates);
  } else {
    round_pairs(r, inverse, saturates);
    uint32_t u[4];  // of two rows, one above the other
#pragma unroll
    for (int i = 0; i < 4; ++i)
      u[i] = select_bits(twice(kNoCode - 1), r[2 * i], r[2 * i + 1] << kBits);
    if constexpr (kBits == 4) {
      uint32_t const p = __byte_perm(u[0], u[1], 0x6240), q = __byte_perm(u[2], u[3], 0x6240);
      codes[0] = __byte_perm(p, q, 0x5410);
      codes[1] = __byte_perm(p, q, 0x7632);
    } else {
#pragma unroll
      for (int c = 0; c < 2; ++c) {
        uint32_t v[2];  // of four rows
#pragma unroll
        for (int i = 0; i < 2; ++i) {
          uint32_t const both = __byte_perm(u[2 * i], u[2 * i + 1], c ? 0x7632 : 0x5410);
          v[i] = select_bits(0xFFFu, both, both >> 4);
        }
        codes[c] = joined_24(v[0], v[1]);
      }
    }
  }
}

}  // namespace quire
