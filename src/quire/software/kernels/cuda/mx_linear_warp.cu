// out[m, n] = sum_k x[m, k] w[n, k] + bias[n] for few rows of x: w in an MX format, x and out in bf16.
//
// What counts is to stream w. A block of threads owns kTiles * 64 rows of w, and its warps share K:
// each has a ring of stages of its own, fills it, and multiplies by mma.m16n8k16 what it holds, w being
// the left operand so that a lane's 16 bytes of codes are its fragment. No warp waits for another
// before the sums are added, in a fixed order, through shared memory; with kSplits > 1 the blocks of
// a cluster share K as well. On Hopper a stage is filled by bulk copies, before it by cp.async.
//
// Build with: QUIRE_ELEMENT, QUIRE_BLOCK, QUIRE_TOKENS, QUIRE_WARPS, QUIRE_TILES, QUIRE_STAGES,
// QUIRE_SPLITS, QUIRE_RESIDENT (blocks a multiprocessor), QUIRE_HOPPER (0 or 1).
#include <cooperative_groups.h>
#include <cuda.h>
#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <cute/arch/cluster_sm90.hpp>
#include <cute/arch/copy_sm75.hpp>
#include <cute/arch/copy_sm80.hpp>
#include <cute/arch/copy_sm90_tma.hpp>
#include <cute/arch/mma_sm80.hpp>
#include <cute/tensor.hpp>
#include <cutlass/arch/barrier.h>
#include <cutlass/arch/grid_dependency_control.h>

#include "tile.cuh"

namespace quire {

using namespace cute;

constexpr bool kHopper = QUIRE_HOPPER;
constexpr int kTokens = QUIRE_TOKENS;
constexpr int kWarps = QUIRE_WARPS;
constexpr int kTiles = QUIRE_TILES;
constexpr int kStages = QUIRE_STAGES;
constexpr int kSplits = QUIRE_SPLITS;
constexpr int kRows = 64 * kTiles;
constexpr int kThreads = 32 * kWarps;
static_assert(kHopper || kSplits == 1, "clusters came with Hopper");

using TokenTile = uint8_t[kTokens][128];  // 64 values of each row of x, 16-byte units swizzled

struct Shared {
  union {
    struct {
      alignas(1024) TokenTile tokens[kWarps][kStages];
      alignas(128) uint8_t codes[kWarps][kStages][kTiles][kCodeChunk];
      alignas(128) uint8_t scales[kWarps][kStages][kTiles][kScaleChunk];
    };
    float partial[kWarps][kTokens][kRows + 4];  // + 4: no two lanes of a fragment in one bank
  };
  uint64_t full[kWarps][kStages];
};

// The 16-byte unit of a row of 128 bytes at which unit `u` lies (the copy engine's 128-byte swizzle).
__device__ __forceinline__ int swizzled(int row, int u) { return u ^ (row & 7); }

// One warp's ring of stages. A stage holds one chunk of 64 along K.
struct Ring {
  Shared& shared;
  Parameters const& p;
  CUtensorMap const& x_map;
  __nv_bfloat16 const* x;
  int warp, lane, row, token, k, stride;

  __device__ __forceinline__ int64_t chunk(int tile, int c) const {
    // Rows past the end take the last tile again; nothing of them is stored.
    return int64_t(min(row / 64 + tile, (p.n + 63) / 64 - 1)) * p.chunks + c;
  }

  __device__ __forceinline__ void fill_weights(int slot, int c) const {
    auto& codes = shared.codes[warp][slot];
    auto& scales = shared.scales[warp][slot];
    if constexpr (kHopper) {
      if (!elect_one_sync()) return;
      uint64_t* full = &shared.full[warp][slot];
      constexpr int kBytes = kTiles * (kCodeChunk + kScaleChunk) + int(sizeof(TokenTile));
      cutlass::arch::ClusterTransactionBarrier::arrive_and_expect_tx(full, kBytes);
      for (int i = 0; i < kTiles; ++i) {
        copy_once(p.codes + chunk(i, c) * kCodeChunk, full, codes[i], kCodeChunk);
        copy_once(p.scales + chunk(i, c) * kScaleChunk, full, scales[i], kScaleChunk);
      }
    } else {
#pragma unroll
      for (int i = 0; i < kTiles; ++i) {
        copy_units(p.codes + chunk(i, c) * kCodeChunk, codes[i], kCodeChunk);
        copy_units(p.scales + chunk(i, c) * kScaleChunk, scales[i], kScaleChunk);
      }
    }
  }

  __device__ __forceinline__ void fill_tokens(int slot, int c) const {
    auto& tokens = shared.tokens[warp][slot];
    if constexpr (kHopper) {
      if (elect_one_sync())
        SM90_TMA_LOAD_2D::copy(&x_map, &shared.full[warp][slot], kAgain, tokens, c * kChunk, token);
    } else {
#pragma unroll
      for (int i = lane; i < kTokens * 8; i += 32) {
        int const t = i / 8, u = i % 8, column = c * kChunk + 8 * u;
        bool const inside = token + t < p.m && column < k;  // k is a multiple of 8
        auto const from = x + (inside ? int64_t(token + t) * stride + column : 0);
        SM80_CP_ASYNC_CACHEALWAYS_ZFILL<uint128_t>::copy(
            *reinterpret_cast<uint128_t const*>(from),
            *reinterpret_cast<uint128_t*>(&tokens[t][16 * swizzled(t, u)]), inside);
      }
    }
  }

  __device__ __forceinline__ void copy_units(uint8_t const* from, uint8_t* to, int bytes) const {
#pragma unroll
    for (int i = 16 * lane; i < bytes; i += 512)
      SM80_CP_ASYNC_CACHEGLOBAL<uint128_t>::copy(*reinterpret_cast<uint128_t const*>(from + i),
                                                 *reinterpret_cast<uint128_t*>(to + i));
  }

  __device__ __forceinline__ void close() const {
    if constexpr (!kHopper) cp_async_fence();
  }

  __device__ __forceinline__ void wait(int slot, uint32_t phase) const {
    if constexpr (kHopper) {
      cutlass::arch::ClusterTransactionBarrier::wait(&shared.full[warp][slot], phase);
    } else {
      cp_async_wait<kStages - 1>();
      __syncwarp();
    }
  }
};

using Sums = float[4 * kTiles][kTokens / 8][4];

// sums += the product of one stage.
__device__ __forceinline__ void multiply(Shared const& shared, Sums& sums, int warp, int slot,
                                         int lane) {
  auto const& tokens = shared.tokens[warp][slot];
  uint32_t b[kTokens / 8][4][2];  // [8 rows of x][step of k16]
#pragma unroll
  for (int j = 0; j < kTokens / 8; ++j)
#pragma unroll
    for (int s = 0; s < 4; s += 2) {
      int const t = 8 * j + lane % 8;
      auto const& unit = tokens[t][16 * swizzled(t, 2 * s + lane / 8)];
      SM75_U32x4_LDSM_N::copy(reinterpret_cast<uint128_t const&>(unit), b[j][s][0], b[j][s][1],
                              b[j][s + 1][0], b[j][s + 1][1]);
    }
#pragma unroll
  for (int i = 0; i < 4 * kTiles; ++i) {
    Packed packed;
    packed.load(shared.codes[warp][slot][i / 4], shared.scales[warp][slot][i / 4],
                i % 4 * 32 + lane);
    uint32_t a[4][4];
    packed.decode(a);
#pragma unroll
    for (int s = 0; s < 4; ++s)
#pragma unroll
      for (int j = 0; j < kTokens / 8; ++j) {
        float(&c)[4] = sums[i][j];
        SM80_16x8x16_F32BF16BF16F32_TN::fma(c[0], c[1], c[2], c[3], a[s][0], a[s][1], a[s][2],
                                            a[s][3], b[j][s][0], b[j][s][1], c[0], c[1], c[2],
                                            c[3]);
      }
  }
}

// Put a warp's sums where the others find them.
__device__ __forceinline__ void share(Shared& shared, Sums const& sums, int warp, int lane) {
  int const row = lane / 4, token = 2 * (lane % 4);
#pragma unroll
  for (int i = 0; i < 4 * kTiles; ++i)
#pragma unroll
    for (int j = 0; j < kTokens / 8; ++j)
#pragma unroll
      for (int e = 0; e < 4; ++e)
        shared.partial[warp][8 * j + token + e % 2][16 * i + row + e / 2 * 8] = sums[i][j][e];
}

constexpr int kPairs = kTokens * kRows / 2;  // of rows of w, in a tile

// The sum over the warps of pair `i`.
__device__ __forceinline__ float2 sum_of_warps(Shared const& shared, int i) {
  float2 sum = make_float2(0.f, 0.f);
#pragma unroll
  for (int w = 0; w < kWarps; ++w) {
    float const* part = &shared.partial[w][2 * i / kRows][2 * i % kRows];
    float2 const value = *reinterpret_cast<float2 const*>(part);
    sum.x += value.x;
    sum.y += value.y;
  }
  return sum;
}

// The sum over the blocks of a cluster of pair `i`, each block's being in place of its first warp's.
__device__ __forceinline__ float2 sum_of_blocks(Shared& shared, int i) {
  float2 sum = make_float2(0.f, 0.f);
#if QUIRE_HOPPER
  auto cluster = cooperative_groups::this_cluster();
#pragma unroll
  for (int s = 0; s < kSplits; ++s) {
    float const* part = &shared.partial[0][2 * i / kRows][2 * i % kRows];
    float2 const value = *reinterpret_cast<float2 const*>(cluster.map_shared_rank(part, s));
    sum.x += value.x;
    sum.y += value.y;
  }
#endif
  return sum;
}

__global__ void __launch_bounds__(kThreads, QUIRE_RESIDENT)
mx_linear(CUtensorMap const __grid_constant__ x_map, __nv_bfloat16 const* x, int k, int stride,
          Parameters const p) {
  extern __shared__ __align__(1024) uint8_t raw[];
  Shared& shared = *reinterpret_cast<Shared*>(raw);
  int const warp = __shfl_sync(0xFFFFFFFFu, threadIdx.x / 32, 0);  // the same for every lane
  int const lane = threadIdx.x % 32;
  int const token_tiles = (p.m + kTokens - 1) / kTokens;
  int const tile = blockIdx.x / kSplits, rank = blockIdx.x % kSplits;
  int const token = tile % token_tiles * kTokens, row = tile / token_tiles * kRows;
  int const first = p.chunks * rank / kSplits + warp, last = p.chunks * (rank + 1) / kSplits;
  Ring const ring{shared, p, x_map, x, warp, lane, row, token, k, stride};

  if (kHopper && lane == 0) {
    if (warp == 0) prefetch_tma_descriptor(reinterpret_cast<TmaDescriptor const*>(&x_map));
    for (int s = 0; s < kStages; ++s)
      cutlass::arch::ClusterTransactionBarrier::init(&shared.full[warp][s], 1);
    cutlass::arch::fence_barrier_init();
  }
  __syncwarp();
  cutlass::arch::launch_dependent_grids();
  // Weights are nobody's result; x may be that of the kernel before, which is waited for.
  if constexpr (kHopper) {
    for (int s = 0; s < kStages; ++s)
      if (first + s * kWarps < last) ring.fill_weights(s, first + s * kWarps);
    cutlass::arch::wait_on_dependent_grids();
  }
#pragma unroll
  for (int s = 0; s < kStages; ++s) {
    int const c = first + s * kWarps;
    if (c < last) {
      if constexpr (!kHopper) ring.fill_weights(s, c);
      ring.fill_tokens(s, c);
    }
    ring.close();
  }

  Sums sums = {};
  int slot = 0;
  uint32_t phase = 0;
#pragma unroll 1
  for (int c = first; c < last; c += kWarps) {
    ring.wait(slot, phase);
    multiply(shared, sums, warp, slot, lane);
    __syncwarp();  // every lane has read the stage
    int const next = c + kStages * kWarps;
    if (next < last) {
      ring.fill_weights(slot, next);
      ring.fill_tokens(slot, next);
    }
    ring.close();
    if (++slot == kStages) {
      slot = 0;
      phase ^= 1;
    }
  }

  __syncthreads();  // the sums take the place of the stages
  share(shared, sums, warp, lane);
  __syncthreads();
  if constexpr (kSplits == 1) {
    for (int i = threadIdx.x; i < kPairs; i += kThreads) {
      int const t = token + 2 * i / kRows, r = row + 2 * i % kRows;
      if (t < p.m && r < p.n) store_pair(p, t, r, sum_of_warps(shared, i));
    }
  } else {
    for (int i = threadIdx.x; i < kPairs; i += kThreads) {
      float2 const sum = sum_of_warps(shared, i);  // read by this thread alone
      *reinterpret_cast<float2*>(&shared.partial[0][2 * i / kRows][2 * i % kRows]) = sum;
    }
    cluster_sync();
    constexpr int kShare = (kPairs + kSplits - 1) / kSplits;
    int const end = min(kPairs, (rank + 1) * kShare);
    for (int i = rank * kShare + int(threadIdx.x); i < end; i += kThreads) {
      int const t = token + 2 * i / kRows, r = row + 2 * i % kRows;
      if (t < p.m && r < p.n) store_pair(p, t, r, sum_of_blocks(shared, i));
    }
    cluster_sync();  // a block's shared memory outlives its readers
  }
}

}  // namespace quire

#include "launch.cuh"

// x: (m, k) bf16, rows `stride` values apart, 16-byte aligned, k and stride multiples of 8.
// codes, scales, row_scale: as layout.py tiles them. Returns a cudaError_t, or -1 from the driver.
extern "C" int quire_mx_linear(void* out, void const* x, void const* codes, void const* scales,
                               void const* row_scale, void const* bias, int m, int n, int k,
                               int stride, int overlap, void* stream) {
  using namespace quire;
  CUtensorMap x_map = {};
  if (kHopper)
    if (int const failed = map_tokens(x_map, x, m, k, stride, kTokens)) return failed;
  int const tiles = ((m + kTokens - 1) / kTokens) * ((n + kRows - 1) / kRows);
  Parameters const p = parameters(out, codes, scales, row_scale, bias, m, n, k);
  return launch(mx_linear, tiles, kSplits, kThreads, sizeof(Shared), kHopper && overlap, stream,
                x_map, static_cast<__nv_bfloat16 const*>(x), k, stride, p);
}
