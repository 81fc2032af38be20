// Elements of MX formats as codes: rounding, packing and their inverse, on the bits of float32.
//
// The same arithmetic as in kernels/triton/arithmetic.py; what the macros mean is said by the records of
// kernels/elements.py: QUIRE_BITS, QUIRE_IS_FIXED, QUIRE_FRACTION, QUIRE_BIAS, QUIRE_EMIN, QUIRE_EMAX,
// QUIRE_LOWEST, QUIRE_HIGHEST, QUIRE_LAST, QUIRE_HAS_INFINITY of the element, QUIRE_SIZE, QUIRE_LOW,
// QUIRE_HIGH, QUIRE_OFFSET of the block. Numbers in hexadecimal are fields of IEEE binary32.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

namespace quire {

constexpr int kBits = QUIRE_BITS;
constexpr int kSize = QUIRE_SIZE;
constexpr uint32_t kExponent = 0x7F800000u, kNoCode = 1u << kBits;
static_assert(kBits == 4 || kBits == 6 || kBits == 8, "codes that fill bytes in groups of at most 4");
static_assert(kSize >= 16 && kSize <= 128 && (kSize & (kSize - 1)) == 0, "blocks of 16 to 128");

// The exponent field of a block's scale, in place, from the bits of its largest magnitude.
__device__ __forceinline__ uint32_t scale_field(uint32_t largest) {
  uint32_t const field = largest & kExponent;
  return min(max(field, uint32_t(QUIRE_LOW)), uint32_t(QUIRE_HIGH)) - uint32_t(QUIRE_OFFSET);
}

// 2^X from its exponent field in place; a field of 0 means 2^-127, a subnormal number.
__device__ __forceinline__ float power_of_two(uint32_t field) {
  return __uint_as_float(max(field, 0x00400000u));
}

// The mantissa from which on a block's largest magnitude may round beyond the largest element.
constexpr double kBeyond = double(QUIRE_HIGHEST) + 0.5 * (1 << QUIRE_EMAX) / (1 << QUIRE_FRACTION);
constexpr uint32_t kHighMantissa = uint32_t((kBeyond / (1 << QUIRE_EMAX) - 1) * (1 << 23));

// What a block's elements need: from the bits of its largest magnitude.
struct Scale {
  float inverse, highest;  // 2^-X, and the largest element times 2^X
  uint32_t code, sign_mask;
  bool is_bad, saturates;  // it holds NaN or Inf; it may hold what rounds beyond the largest element

  __device__ __forceinline__ explicit Scale(uint32_t largest) {
    uint32_t const field = scale_field(largest);
    inverse = power_of_two(0x7F000000u - field);
    highest = power_of_two(field) * float(QUIRE_HIGHEST);
    is_bad = largest >= kExponent;
    saturates = is_bad || (largest & ~kExponent) >= kHighMantissa;
    code = is_bad ? 255u : field >> 23;
    sign_mask = largest ? 1u << (kBits - 1) : 0u;  // an empty block has codes of +0
  }
};

// The code of x under a scale, in the low bits; those above are undefined.
// kIsCut: |x| is at most scale.highest.
template <bool kIsCut>
__device__ __forceinline__ uint32_t encoded(float x, Scale const& scale) {
#if QUIRE_IS_FIXED
  // The magic number pushes what lies below the last bit out of the sum, which is rounded once, to
  // nearest even; |x * inverse| < 2, so that saturation may follow.
  constexpr float kMagic = 1.5f * float(1 << (23 - QUIRE_FRACTION));
  float sum = __fmaf_rn(x, scale.inverse, kMagic);
  if constexpr (!kIsCut)
    sum = fminf(fmaxf(sum, kMagic + float(QUIRE_LOWEST)), kMagic + float(QUIRE_HIGHEST));
  return __float_as_uint(sum);
#else
  constexpr uint32_t kSmallest = uint32_t(QUIRE_EMIN + 127) << 23;
  constexpr uint32_t kUp = uint32_t(23 - QUIRE_FRACTION) << 23;
  constexpr uint32_t kRebias = uint32_t(QUIRE_BIAS) << 23;
  float const y = x * scale.inverse;
  float const a = fminf(fabsf(y), float(QUIRE_HIGHEST));
  float const magic = __uint_as_float(max(__float_as_uint(a) & kExponent, kSmallest) + kUp);
  // With the format's bias for float32's, the code is the head of the float.
  float const rebased = ((a + magic) - magic) * power_of_two(kRebias);
  uint32_t const sign = (__float_as_uint(y) >> (32 - kBits)) & scale.sign_mask;
  return (__float_as_uint(rebased) >> (23 - QUIRE_FRACTION)) | sign;
#endif
}

// Four codes, one in the low bits of each, as 4 * kBits bits.
__device__ __forceinline__ uint32_t packed4(uint32_t a, uint32_t b, uint32_t c, uint32_t d) {
  uint32_t const bytes = __byte_perm(__byte_perm(a, b, 0x0040), __byte_perm(c, d, 0x0040), 0x5410);
  if constexpr (kBits == 8) return bytes;
  constexpr uint32_t kEven = (kNoCode - 1) * 0x00010001u;
  uint32_t const pairs = (bytes & kEven) | ((bytes >> (8 - kBits)) & (kEven << kBits));
  constexpr uint32_t kPair = (1u << 2 * kBits) - 1;
  return (pairs & kPair) | ((pairs >> (16 - 2 * kBits)) & (kPair << 2 * kBits));
}

// Eight codes as 8 * kBits bits, the first lowest.
__device__ __forceinline__ uint64_t packed8(uint32_t const (&c)[8]) {
  uint64_t const low = packed4(c[0], c[1], c[2], c[3]), high = packed4(c[4], c[5], c[6], c[7]);
  return low | high << 4 * kBits;
}

// Code `i` of eight, with nothing above it.
__device__ __forceinline__ uint32_t code_of(uint64_t codes, int i) {
  if constexpr (kBits == 8) return __byte_perm(uint32_t(codes >> i / 4 * 32), 0, 0x4440 | (i % 4));
  return uint32_t(codes >> kBits * i) & (kNoCode - 1);
}

// What a decoded element is multiplied by: of an E8M0 code, NaN for 255.
__device__ __forceinline__ float decoded_scale(uint32_t code) {
  float const power = code == 255 ? __uint_as_float(0x7FC00000u) : power_of_two(code << 23);
  return QUIRE_IS_FIXED ? power * (1.f / float(1 << QUIRE_FRACTION)) : power;
}

// A code as the number that its block's `decoded_scale` multiplies.
__device__ __forceinline__ float decoded(uint32_t code) {
#if QUIRE_IS_FIXED
  // Offset binary as the low bits of 2^23: an integer's conversion is slow.
  constexpr uint32_t kHalf = kNoCode / 2;
  return __uint_as_float((code ^ kHalf) | 0x4B000000u) - float((1u << 23) + kHalf);
#else
  constexpr uint32_t kMagnitude = kNoCode / 2 - 1, kSpecial = QUIRE_LAST + 1;
  uint32_t const magnitude = code & kMagnitude;
  float a = __uint_as_float(magnitude << (23 - QUIRE_FRACTION)) *
            power_of_two(uint32_t(254 - QUIRE_BIAS) << 23);
  if (kSpecial <= kMagnitude && magnitude >= kSpecial) {
    bool const is_infinite = QUIRE_HAS_INFINITY && magnitude == kSpecial;
    a = __uint_as_float(is_infinite ? kExponent : 0x7FC00000u);
  }
  return __uint_as_float(__float_as_uint(a) | (code >> (kBits - 1)) << 31);
#endif
}

// x within -highest..highest, Inf too; NaN stays NaN.
__device__ __forceinline__ float saturated(float x, float highest) {
  x = x < -highest ? -highest : x;
  return x > highest ? highest : x;
}

}  // namespace quire
