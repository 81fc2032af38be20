// Elements of MX formats in registers: from packed words to bf16 pairs that a matrix product takes.
//
// A lane of a warp holds, for 64 values along K of a tile of 16 rows, `kBits` words of 32 bits: four
// steps of k16, each the A fragment of m16n8k16 (PTX ISA, "Matrix Fragments for mma.m16n8k16"):
//   a[0] row r,   k 2q and 2q+1        a[2] row r,   k 2q+8 and 2q+9       r = lane / 4
//   a[1] row r+8, k 2q and 2q+1        a[3] row r+8, k 2q+8 and 2q+9       q = lane % 4
// In every word the low half belongs to the even k of a pair and the high half to the odd k.
// `layout.py` writes these words; the multiplier of a block is stored as the exponent field of a bf16.
#pragma once

#include <cuda_bf16.h>
#include <cstdint>

namespace quire {

// a * b + c on two bf16 at once, rounded once; subnormals are kept.
__device__ __forceinline__ uint32_t fma2(uint32_t a, uint32_t b, uint32_t c) {
  uint32_t d;
  asm("fma.rn.bf16x2 %0, %1, %2, %3;\n" : "=r"(d) : "r"(a), "r"(b), "r"(c));
  return d;
}

constexpr uint32_t kNegativeZero = 0x80008000u;  // x * y + (-0) keeps the sign of a zero

// (a & mask) | b as the one instruction that it is.
template <uint32_t kMask>
__device__ __forceinline__ uint32_t and_or(uint32_t a, uint32_t b) {
  uint32_t d;
  asm("lop3.b32 %0, %1, %2, %3, 0xEA;\n" : "=r"(d) : "r"(a), "n"(kMask), "r"(b));
  return d;
}

// Byte `i` of `word`, an exponent field, as a pair of equal powers of two.
__device__ __forceinline__ uint32_t power_of_two(uint32_t word, int i) {
  return __byte_perm(word, 0, 0x4040 | (i << 8) | i) << 7;
}

// The power of two by which signed magnitudes are multiplied.
struct Power {
  uint32_t power;
  __device__ __forceinline__ explicit Power(uint32_t power) : power(power) {}

  __device__ __forceinline__ uint32_t times(uint32_t subnormals) const {
    return fma2(subnormals, power, kNegativeZero);
  }
};

// Offset binary below the significand of 128: the pair 128 + u 2^i is exact in bf16, and one
// multiply-add with (S, -(128 + offset) S) leaves the value.
template <uint32_t kOffsetBits>  // of -(128 + offset), beside the exponent of S
struct OffsetPower {
  uint32_t power, offset;
  // No carry leaves a half, since an exponent field is at most 240 here.
  __device__ __forceinline__ explicit OffsetPower(uint32_t power)
      : power(power), offset(power + kOffsetBits) {}

  template <uint32_t kMask>
  __device__ __forceinline__ uint32_t times(uint32_t word) const {
    return fma2(and_or<kMask>(word, 0x43004300u), power, offset);
  }
};

// The two bytes of each half changed about.
__device__ __forceinline__ uint32_t swapped(uint32_t word) { return __byte_perm(word, 0, 0x2301); }

// Sign and magnitude. A half of word 2 step + (0: row r, 1: row r+8) is
//   bit 15 sign of k, bits 14..8 magnitude of k+8, bit 7 sign of k+8, bits 6..0 magnitude of k,
// so that one mask leaves k as a bf16 subnormal, magnitude * 2^-133, and after a swap of bytes k+8.
// The product with 2^c, c the E8M0 code, is the value. 1.25 instructions an element.
struct MxInt8 {
  static constexpr int kBits = 8;
  using Top = Power;
  using Bottom = Power;

  template <int kStep>
  static __device__ __forceinline__ void decode(uint32_t (&a)[4], uint32_t const (&words)[8],
                                                Top top, Bottom bottom) {
    constexpr uint32_t kMask = 0x807F807Fu;
    uint32_t const w0 = words[2 * kStep], w1 = words[2 * kStep + 1];
    a[0] = top.times(w0 & kMask);
    a[1] = bottom.times(w1 & kMask);
    a[2] = top.times(swapped(w0) & kMask);
    a[3] = bottom.times(swapped(w1) & kMask);
  }
};

// Row r by sign and magnitude, row r+8 by offset binary u = q + 8, so that four elements of a half need
// no shift: a half of word `step` is
//   bit 15 sign of (r, k), bits 14..11 u of (r+8, k+8), bits 10..8 magnitude of (r, k+8),
//   bit 7 sign of (r, k+8), bits 6..3 u of (r+8, k), bits 2..0 magnitude of (r, k),
// and after a swap of bytes the same with k and k+8 changed about. 1.13 instructions an element.
struct MxInt4 {
  static constexpr int kBits = 4;
  using Top = Power;
  using Bottom = OffsetPower<0x83C083C0u>;  // 128 + 8 * 8 = 192 = 1.5 * 2^7

  template <int kStep>
  static __device__ __forceinline__ void decode(uint32_t (&a)[4], uint32_t const (&words)[4],
                                                Top top, Bottom bottom) {
    uint32_t const w = words[kStep], v = swapped(w);
    a[0] = top.times(w & 0x80078007u);
    a[1] = bottom.times<0x00780078u>(w);
    a[2] = top.times(v & 0x80078007u);
    a[3] = bottom.times<0x00780078u>(v);
  }
};

// Offset binary u = q + 32. Four words of low nibbles: bits 4j+3..4j of a half of word `step` belong to a[j];
// two words of the upper two bits: field 4 (step % 2) + j of a half of word 4 + step / 2.
struct MxInt6 {
  static constexpr int kBits = 6;
  using Top = OffsetPower<0x83A083A0u>;  // 128 + 32 = 160 = 1.25 * 2^7
  using Bottom = Top;

  template <int kShift>
  static __device__ __forceinline__ uint32_t shifted(uint32_t word) {
    return kShift >= 0 ? word << (kShift & 31) : word >> (-kShift & 31);
  }

  template <int kStep, int j>
  static __device__ __forceinline__ uint32_t element(uint32_t const (&words)[6], Top power) {
    constexpr int kField = 4 * (kStep % 2) + j;
    uint32_t const upper = shifted<4 - 2 * kField>(words[4 + kStep / 2]) & 0x00300030u;
    return power.times<0x003F003Fu>(and_or<0x000F000Fu>(words[kStep] >> 4 * j, upper));
  }

  template <int kStep>
  static __device__ __forceinline__ void decode(uint32_t (&a)[4], uint32_t const (&words)[6],
                                                Top top, Bottom bottom) {
    a[0] = element<kStep, 0>(words, top);
    a[1] = element<kStep, 1>(words, bottom);
    a[2] = element<kStep, 2>(words, top);
    a[3] = element<kStep, 3>(words, bottom);
  }
};

}  // namespace quire
