// The host's side of a launch: the map by which the copy engine reads x, and the attributes.
#pragma once

#include <cuda.h>
#include <cuda_runtime.h>

#include <algorithm>

#include "tile.cuh"

namespace quire {

static Parameters parameters(void* out, void const* codes, void const* scales,
                             void const* row_scale, void const* bias, int m, int n, int k) {
  return {static_cast<__nv_bfloat16*>(out),
          static_cast<uint8_t const*>(codes),
          static_cast<uint8_t const*>(scales),
          static_cast<float const*>(row_scale),
          static_cast<__nv_bfloat16 const*>(bias),
          m,
          n,
          (k + 127) / 128 * 2};
}

static int current_device() {
  int device = 0;
  cudaGetDevice(&device);
  return device;
}

// A map of x (m, k), rows `stride` values apart, in boxes of `rows` by 64; outside it reads as zero.
static int map_tokens(CUtensorMap& map, void const* x, int m, int k, int stride, int rows) {
  using Encode = decltype(&cuTensorMapEncodeTiled);
  static Encode const encode = [] {
    void* found = nullptr;
    cudaDriverEntryPointQueryResult result;
    cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &found, 12000, cudaEnableDefault,
                                     &result);
    return reinterpret_cast<Encode>(found);
  }();
  if (encode == nullptr) return int(cudaErrorNotSupported);
  cuuint64_t const sizes[2] = {cuuint64_t(k), cuuint64_t(m)};
  cuuint64_t const strides[1] = {cuuint64_t(stride) * sizeof(__nv_bfloat16)};
  cuuint32_t const box[2] = {kChunk, cuuint32_t(rows)}, steps[2] = {1, 1};
  auto make = [&] {
    return encode(&map, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 2, const_cast<void*>(x), sizes, strides,
                  box, steps, CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
                  CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  };
  CUresult made = make();
  if (made == CUDA_ERROR_INVALID_CONTEXT) {  // a thread that has not used the device yet
    cudaSetDevice(current_device());
    made = make();
  }
  return made == CUDA_SUCCESS ? 0 : -1;
}

static int multiprocessors() {
  int count = 0;
  cudaDeviceGetAttribute(&count, cudaDevAttrMultiProcessorCount, current_device());
  return count;
}

// Launch `clusters` clusters of `blocks` blocks. overlap: start while the kernel before still runs.
template <class... Arguments>
static int launch(void (*kernel)(Arguments...), int clusters, int blocks, int threads,
                  size_t bytes, bool overlap, void* stream, Arguments... arguments) {
  static bool allowed[64];  // on each device
  bool& is_allowed = allowed[current_device() % 64];
  if (!is_allowed) {
    cudaError_t const failed =
        cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, int(bytes));
    if (failed != cudaSuccess) return int(failed);
    is_allowed = true;
  }
  cudaLaunchAttribute attributes[2];
  attributes[0].id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attributes[0].val.programmaticStreamSerializationAllowed = overlap;
  attributes[1].id = cudaLaunchAttributeClusterDimension;
  attributes[1].val.clusterDim.x = blocks;
  attributes[1].val.clusterDim.y = attributes[1].val.clusterDim.z = 1;
  cudaLaunchConfig_t config = {};
  config.gridDim = dim3(clusters * blocks);
  config.blockDim = dim3(threads);
  config.dynamicSmemBytes = bytes;
  config.stream = static_cast<cudaStream_t>(stream);
  config.attrs = attributes + (overlap ? 0 : 1);
  config.numAttrs = (overlap ? 1 : 0) + (blocks > 1 ? 1 : 0);
  return int(cudaLaunchKernelEx(&config, kernel, arguments...));
}

}  // namespace quire
