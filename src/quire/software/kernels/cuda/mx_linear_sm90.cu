// out[m, n] = sum_k x[m, k] w[n, k] + bias[n] on Hopper: w in an MX format, x and out in bf16.
//
// The product is computed transposed, w x^T, so that the dequantized operand is the A operand of wgmma
// and comes from registers: codes go memory -> shared memory (bulk copies) -> registers -> bf16 ->
// tensor cores, and never back. A block of threads owns kGroups * 64 rows of w (columns of out) and
// kTokens rows of x. One thread copies, the warpgroups decode and multiply; the decode of one chunk of
// 64 along K overlaps the product of the chunk before, and the loads of a tile the store of the one
// before: blocks stay, and take tile after tile.
// The blocks of a cluster are kSplits shares of K by kShares neighbouring tiles of w. Neighbours each
// load a part of x for all of them (multicast). Shares of K add their sums through distributed shared
// memory, in the order of their ranks: results are deterministic, and no workspace is needed.
//
// Build with: QUIRE_ELEMENT, QUIRE_BLOCK, QUIRE_GROUPS, QUIRE_TOKENS, QUIRE_STAGES, QUIRE_CHUNKS,
// QUIRE_SPLITS, QUIRE_SHARES, QUIRE_RESIDENT (blocks a multiprocessor).
#include <cooperative_groups.h>
#include <cuda.h>
#include <cuda_bf16.h>
#include <cuda_runtime.h>

// CuTe has wgmma of other sizes too, which take three times as long to build.
#if QUIRE_TOKENS & (QUIRE_TOKENS - 1) && QUIRE_TOKENS != 96 && QUIRE_TOKENS != 192
#define CUTE_SM90_EXTENDED_MMA_SHAPES_ENABLED
#endif
#include <cute/arch/cluster_sm90.hpp>
#include <cute/arch/copy_sm90.hpp>
#include <cute/arch/copy_sm90_tma.hpp>
#include <cute/atom/mma_traits_sm90_gmma.hpp>
#include <cute/tensor.hpp>
#include <cutlass/arch/barrier.h>
#include <cutlass/arch/grid_dependency_control.h>
#include <cutlass/arch/reg_reconfig.h>

#include "tile.cuh"

namespace quire {

using namespace cute;
using bf16 = cute::bfloat16_t;

constexpr int kGroups = QUIRE_GROUPS;  // that multiply; 64 rows of w each
constexpr int kTokens = QUIRE_TOKENS;
constexpr int kStages = QUIRE_STAGES;
constexpr int kChunks = QUIRE_CHUNKS;  // of 64 along K in a stage; layout.py pads K to 128
constexpr int kSplits = QUIRE_SPLITS;
constexpr int kShares = QUIRE_SHARES;
constexpr int kCluster = kSplits * kShares;
constexpr int kRows = 64 * kGroups;
#ifndef QUIRE_ARRIVING_LANES  // of a warp that is done with a stage; racecheck follows only 32 of 32
#define QUIRE_ARRIVING_LANES 1
#endif
static_assert(kChunks == 1 || kChunks == 2, "K is padded to two chunks");
static_assert(kTokens / kShares % 8 == 0, "a part of x is whole groups of 8 rows");
static_assert(kTokens == 8 || kTokens % 16 == 0, "results are stored 16 rows of x at a time");

// Big accumulators need more registers than an even share; the copying threads give theirs up.
constexpr bool kReallocates = kGroups * kTokens >= 480;
constexpr int kCopying = kGroups == 2 ? 40 : 32, kMultiplying = kGroups == 2 ? 232 : 160;
constexpr int kConsumers = 128 * kGroups;
constexpr int kThreads = kConsumers + (kReallocates ? 128 : 32);

constexpr int kTokenChunk = kTokens * kChunk * int(sizeof(bf16));

using TokenTile = decltype(tile_to_shape(GMMA::Layout_K_SW128_Atom<bf16>{},
                                         Shape<Int<kTokens>, Int<kChunk>>{}));
using Product = decltype(make_tiled_mma(
    GMMA::rs_op_selector<bf16, bf16, float, Shape<_64, Int<kTokens>, Int<kChunk>>,
                         GMMA::Major::K, GMMA::Major::K>()));
using Fragment = Layout<Shape<Shape<_2, _2, _2>, _1, _4>, Stride<Stride<_1, _2, _4>, _0, _8>>;

// Rows of x whose results a warpgroup transposes at a time: a power of two that divides kTokens.
constexpr int kDivisor = kTokens & -kTokens;
constexpr int kResultTokens = kSplits > 1 ? 1 : kDivisor < 64 ? kDivisor : 64;

struct alignas(1024) Shared {
  struct alignas(1024) Stage {
    uint8_t tokens[kChunks][kTokenChunk];
    alignas(128) uint8_t codes[kGroups][kChunks][kCodeChunk];
    alignas(128) uint8_t scales[kGroups][kChunks][kScaleChunk];
  };
  union {
    Stage stages[kStages];
    float partial[kTokens][kRows + 4];  // + 4: no two lanes of a fragment in one bank
  };
  __nv_bfloat16 result[kGroups][kResultTokens][64 + 8];
  uint64_t full[kStages], empty[kStages];
};

using Full = cutlass::arch::ClusterTransactionBarrier;
using Empty = cutlass::arch::ClusterBarrier;

struct Position {  // in the ring of stages
  int stage = 0;
  uint32_t phase = 0;
  __device__ __forceinline__ void advance() {
    if (++stage == kStages) {
      stage = 0;
      phase ^= 1;
    }
  }
};

struct Tile {  // where it starts
  int row, token;
};

// One thread fills stages with a tile's share of K.
__device__ __forceinline__ void copy_in(Shared& shared, CUtensorMap const& x_map,
                                        Parameters const& p, Tile tile, int rank, int begin,
                                        int end, Position& at) {
  constexpr int kWeightBytes = kGroups * kChunks * (kCodeChunk + kScaleChunk);
  constexpr int kPart = kTokens / kShares;
  int const last = (p.n + 63) / 64 - 1, share = rank % kShares;
  uint16_t const neighbours = ((1 << kShares) - 1) << (rank - share);
  for (int i = begin; i < end; ++i, at.advance()) {
    auto& stage = shared.stages[at.stage];
    uint64_t* full = &shared.full[at.stage];
    Empty::wait(&shared.empty[at.stage], at.phase ^ 1);
    Full::arrive_and_expect_tx(full, kWeightBytes + kChunks * kTokenChunk);
    for (int w = 0; w < kGroups; ++w) {
      // Rows past the end take the last tile again; nothing of them is stored.
      int64_t const chunk = int64_t(min(tile.row / 64 + w, last)) * p.chunks + i * kChunks;
      copy_once(p.codes + chunk * kCodeChunk, full, stage.codes[w], kChunks * kCodeChunk);
      copy_once(p.scales + chunk * kScaleChunk, full, stage.scales[w], kChunks * kScaleChunk);
    }
    if (i == begin) cutlass::arch::wait_on_dependent_grids();  // x may be the last kernel's result
    for (int c = 0; c < kChunks; ++c) {
      void* to = stage.tokens[c] + share * kPart * kChunk * int(sizeof(bf16));
      int const column = (i * kChunks + c) * kChunk, first = tile.token + share * kPart;
      if constexpr (kShares == 1) {
        SM90_TMA_LOAD_2D::copy(&x_map, full, kAgain, to, column, first);
      } else {
        SM90_TMA_LOAD_MULTICAST_2D::copy(&x_map, full, neighbours, kAgain, to, column, first);
      }
    }
  }
}

// Write 8 values of a row of out, as far as they are inside.
__device__ __forceinline__ void store_vector(Parameters const& p, int token, int row,
                                             __nv_bfloat16 const* from) {
  if (token >= p.m || row >= p.n) return;
  __nv_bfloat16* to = p.out + int64_t(token) * p.n + row;
  if (p.n % 8 == 0) {
    *reinterpret_cast<uint4*>(to) = *reinterpret_cast<uint4 const*>(from);
  } else {
    for (int e = 0; e < 8 && row + e < p.n; ++e) to[e] = from[e];
  }
}

template <class Accumulators>
__device__ __forceinline__ void multiply(Shared& shared, Accumulators& sums, int warpgroup,
                                         int thread, int rank, int count, Position& reading,
                                         Position& releasing) {
  Product product;
  auto mine = product.get_slice(thread);
  uint32_t a[2][4][4];
  Packed packed;

  auto load = [&](int chunk) {
    if (chunk % kChunks == 0) Full::wait(&shared.full[reading.stage], reading.phase);
    auto const& stage = shared.stages[reading.stage];
    packed.load(stage.codes[warpgroup][chunk % kChunks], stage.scales[warpgroup][chunk % kChunks],
                thread);
  };
  auto release = [&] {
    if constexpr (kShares == 1) {
      if (thread % 32 < QUIRE_ARRIVING_LANES) Empty::arrive(&shared.empty[releasing.stage]);
    } else {  // every neighbour writes into the stage
      int const neighbour = rank / kShares * kShares + thread % 32;
      Empty::arrive(&shared.empty[releasing.stage], neighbour, thread % 32 < kShares);
    }
    releasing.advance();
  };
  auto issue = [&](uint32_t(&fragment)[4][4], int chunk) {
    Tensor tokens = make_tensor(
        make_smem_ptr(reinterpret_cast<bf16*>(shared.stages[reading.stage].tokens[chunk % kChunks])),
        TokenTile{});
    Tensor b = mine.partition_fragment_B(tokens);
    Tensor fragments = make_tensor(make_rmem_ptr(reinterpret_cast<bf16*>(&fragment[0][0])),
                                   Fragment{});
    warpgroup_fence_operand(fragments);
    warpgroup_fence_operand(sums);
    warpgroup_arrive();
    CUTLASS_PRAGMA_UNROLL
    for (int k = 0; k < 4; ++k)
      cute::gemm(product, fragments(_, _, k), b(_, _, k), sums);
    warpgroup_commit_batch();
    if (chunk % kChunks == kChunks - 1) reading.advance();
  };

  load(0);
  packed.decode(a[0]);
  int const chunks = 2 * count;  // K comes in pairs of chunks
#pragma unroll 1
  for (int i = 0; i < chunks; i += 2) {
    issue(a[0], i % kChunks);
    load((i + 1) % kChunks);
    warpgroup_wait<1>();
    if (i > 0) release();
    packed.decode(a[1]);
    issue(a[1], (i + 1) % kChunks);
    if (i + 2 < chunks) load(i % kChunks);
    warpgroup_wait<1>();
    if (kChunks == 1) release();
    if (i + 2 < chunks) packed.decode(a[0]);
  }
  warpgroup_wait<0>();
  warpgroup_fence_operand(sums);
  release();
}

// Write a warpgroup's 64 rows of a finished tile: through shared memory, where stmatrix transposes them.
template <class Accumulators>
__device__ __forceinline__ void store_tile(Shared& shared, Accumulators const& sums,
                                           Parameters const& p, Tile tile, int warpgroup,
                                           int thread) {
  int const warp = thread / 32, lane = thread % 32, row = tile.row + 64 * warpgroup;
  auto& result = shared.result[warpgroup];
  float2 const top = row_terms(p, row + 16 * warp + lane / 4);
  float2 const bottom = row_terms(p, row + 16 * warp + lane / 4 + 8);
  auto pair = [&](int j, int half) {
    auto sum = [&](int parity) { return sums(make_coord(parity, half, j), 0, 0); };
    float2 const terms = half ? bottom : top;
    return rounded_pair(sum(0) * terms.x + terms.y, sum(1) * terms.x + terms.y);
  };
#pragma unroll
  for (int first = 0; first < kTokens; first += kResultTokens) {
    cutlass::arch::NamedBarrier::sync(128, 1 + warpgroup);  // the rows before are stored
    int const j0 = first / 8;
    if constexpr (kTokens == 8) {
      auto& to = result[lane % 8][16 * warp + lane / 8 % 2 * 8];
      SM90_U16x4_STSM_T::copy(pair(0, 0), pair(0, 1), reinterpret_cast<uint128_t&>(to));
    } else {
#pragma unroll
      for (int j = 0; j < kResultTokens / 8; j += 2) {
        auto& to = result[8 * (j + lane / 16) + lane % 8][16 * warp + lane / 8 % 2 * 8];
        SM90_U16x8_STSM_T::copy(pair(j0 + j, 0), pair(j0 + j, 1), pair(j0 + j + 1, 0),
                                pair(j0 + j + 1, 1), reinterpret_cast<uint128_t&>(to));
      }
    }
    cutlass::arch::NamedBarrier::sync(128, 1 + warpgroup);
    int const column = thread % 8 * 8;
#pragma unroll
    for (int t = thread / 8; t < kResultTokens; t += 16)
      store_vector(p, tile.token + first + t, row + column, &result[t][column]);
  }
}

// Add the partial sums of a cluster, each block a share of the tile.
template <class Accumulators>
__device__ __forceinline__ void store_partial(Shared& shared, Accumulators const& sums, int thread) {
  int const row = 16 * (thread / 32) + thread % 32 / 4, token = 2 * (thread % 4);
  cutlass::arch::NamedBarrier::sync(kConsumers, 1);
#pragma unroll
  for (int j = 0; j < kTokens / 8; ++j)
#pragma unroll
    for (int half = 0; half < 2; ++half)
#pragma unroll
      for (int parity = 0; parity < 2; ++parity)
        shared.partial[8 * j + token + parity][row + 8 * half] =
            sums(make_coord(parity, half, j), 0, 0);
}

__device__ __forceinline__ void add_partials(Shared& shared, Parameters const& p, Tile tile,
                                             int rank) {
  auto cluster = cooperative_groups::this_cluster();
  constexpr int kPairs = kTokens * kRows / 2, kShare = (kPairs + kSplits - 1) / kSplits;
  int const split = rank / kShares, end = min(kPairs, (split + 1) * kShare);
  for (int i = split * kShare + int(threadIdx.x); i < end; i += kThreads) {
    int const t = 2 * i / kRows, column = 2 * i % kRows;
    int const token = tile.token + t, row = tile.row + column;
    if (token >= p.m || row >= p.n) continue;
    float2 sum = make_float2(0.f, 0.f);
#pragma unroll
    for (int s = 0; s < kSplits; ++s) {
      float const* part = &shared.partial[t][column];
      part = cluster.map_shared_rank(part, s * kShares + rank % kShares);
      float2 const value = *reinterpret_cast<float2 const*>(part);
      sum.x += value.x;
      sum.y += value.y;
    }
    store_pair(p, token, row, sum);
  }
}

__host__ __device__ int tile_count(Parameters const& p) {
  int const rows = kRows * kShares;
  return ((p.m + kTokens - 1) / kTokens) * ((p.n + rows - 1) / rows);
}

__global__ void __launch_bounds__(kThreads, QUIRE_RESIDENT)
mx_linear(CUtensorMap const __grid_constant__ x_map, Parameters const p) {
  extern __shared__ __align__(1024) uint8_t raw[];
  Shared& shared = *reinterpret_cast<Shared*>(raw);
  int const rank = blockIdx.x % kCluster, split = rank / kShares;
  int const first = blockIdx.x / kCluster, step = gridDim.x / kCluster, tiles = tile_count(p);
  // Clusters next to each other share rows of w: all of x stays in L2, and w is read once.
  auto tile_at = [&](int i) {
    int const token_tiles = (p.m + kTokens - 1) / kTokens;
    return Tile{(i / token_tiles * kShares + rank % kShares) * kRows, i % token_tiles * kTokens};
  };
  // K is shared out in pairs of chunks.
  int const pairs = p.chunks / 2;
  int const begin = pairs * split / kSplits * 2 / kChunks;
  int const end = pairs * (split + 1) / kSplits * 2 / kChunks;

  if (threadIdx.x == 0) {
    prefetch_tma_descriptor(reinterpret_cast<TmaDescriptor const*>(&x_map));
    for (int s = 0; s < kStages; ++s) {
      Full::init(&shared.full[s], 1);
      Empty::init(&shared.empty[s],
                  kConsumers / 32 * (kShares == 1 ? QUIRE_ARRIVING_LANES : kShares));
    }
    cutlass::arch::fence_barrier_init();
  }
  if constexpr (kShares > 1) {
    cluster_sync();  // neighbours write to each other's barriers
  } else {
    __syncthreads();
  }
  cutlass::arch::launch_dependent_grids();

  int const warpgroup = threadIdx.x / 128;
  if (warpgroup == kGroups) {
    if constexpr (kReallocates) cutlass::arch::warpgroup_reg_dealloc<kCopying>();
    if (threadIdx.x == kConsumers) {
      Position at;
      for (int i = first; i < tiles; i += step)
        copy_in(shared, x_map, p, tile_at(i), rank, begin, end, at);
    }
  } else {
    if constexpr (kReallocates) cutlass::arch::warpgroup_reg_alloc<kMultiplying>();
    int const thread = threadIdx.x % 128;
    Position reading, releasing;
    for (int i = first; i < tiles; i += step) {
      Tensor sums = partition_fragment_C(Product{}, Shape<_64, Int<kTokens>>{});
      clear(sums);
      if (end > begin)
        multiply(shared, sums, warpgroup, thread, rank, (end - begin) * kChunks / 2, reading,
                 releasing);
      cutlass::arch::wait_on_dependent_grids();  // the kernel before may still read out
      if constexpr (kSplits == 1) {
        store_tile(shared, sums, p, tile_at(i), warpgroup, thread);
      } else {
        store_partial(shared, sums, threadIdx.x);
      }
    }
  }
  if constexpr (kCluster > 1) cluster_sync();
  if constexpr (kSplits > 1) {  // one tile a cluster
    add_partials(shared, p, tile_at(first), rank);
    cluster_sync();  // a block's shared memory outlives its readers
  }
}

}  // namespace quire

#include "launch.cuh"

// x: (m, k) bf16, rows `stride` values apart, 16-byte aligned, stride a multiple of 8.
// codes, scales, row_scale: as layout.py tiles them. Returns a cudaError_t, or -1 from the driver.
extern "C" int quire_mx_linear(void* out, void const* x, void const* codes, void const* scales,
                               void const* row_scale, void const* bias, int m, int n, int k,
                               int stride, int overlap, void* stream) {
  using namespace quire;
  CUtensorMap x_map;
  if (int const failed = map_tokens(x_map, x, m, k, stride, kTokens / kShares)) return failed;
  Parameters const p = parameters(out, codes, scales, row_scale, bias, m, n, k);
  int const fit = multiprocessors() * QUIRE_RESIDENT / kCluster;
  int const clusters = kSplits > 1 ? tile_count(p) : std::min(tile_count(p), fit);
  return launch(mx_linear, clusters, kCluster, kThreads, sizeof(Shared), overlap != 0, stream,
                x_map, p);
}
