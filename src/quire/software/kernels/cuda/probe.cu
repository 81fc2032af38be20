// The least that needs what every kernel needs: nvcc, its host compiler, and both sets of headers.
#include <cuda_bf16.h>
#include <cutlass/version.h>

extern "C" int quire_probe() { return CUTLASS_MAJOR; }
