// The least that needs what every kernel needs: nvcc, its host compiler, and both sets of headers.
#include <cuda_bf16.h>
#include <cuda_runtime.h>
#include <cutlass/version.h>

#if CUDART_VERSION < 12050  // launch.cuh: cudaGetDriverEntryPointByVersion
#error "CUDA 12.5 or newer is needed"
#endif

extern "C" int quire_probe() { return CUTLASS_MAJOR; }
