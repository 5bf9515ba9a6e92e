// What Triton's launcher asks of NVIDIA's driver: there is one device, its memory is the host's, and a launch is handed on.
#include <cuda.h>

using Launch = int (*)(CUfunction function, unsigned blocks, unsigned threads, unsigned shared, void** arguments);
static Launch hand_on;

// What is asked only by what Driver of on_triton.py does otherwise.
#define ABSENT(name)                         \
    extern "C" CUresult absent_##name() __asm__(#name); \
    CUresult absent_##name() { return CUDA_ERROR_NOT_SUPPORTED; }
ABSENT(cuCtxGetLimit)
ABSENT(cuCtxSetCurrent)
ABSENT(cuCtxSetLimit)
ABSENT(cuDeviceGet)
ABSENT(cuDeviceGetAttribute)
ABSENT(cuDevicePrimaryCtxRetain)
ABSENT(cuDriverGetVersion)
ABSENT(cuFuncGetAttribute)
ABSENT(cuFuncSetAttribute)
ABSENT(cuFuncSetCacheConfig)
ABSENT(cuModuleGetFunction)
ABSENT(cuModuleLoadData)

extern "C" {
void set_launch(Launch launch) { hand_on = launch; }

CUresult cuGetErrorString(CUresult, const char** text) {
    *text = "the launch raised an exception";
    return CUDA_SUCCESS;
}
CUresult cuCtxGetCurrent(CUcontext* context) {
    static int some;
    *context = reinterpret_cast<CUcontext>(&some);
    return CUDA_SUCCESS;
}
CUresult cuPointerGetAttribute(void* value, CUpointer_attribute, CUdeviceptr pointer) {
    *static_cast<CUdeviceptr*>(value) = pointer;
    return CUDA_SUCCESS;
}
CUresult cuLaunchKernelEx(const CUlaunchConfig* how, CUfunction function, void** arguments, void**) {
    const bool done = hand_on(function, how->gridDimX, how->blockDimX, how->sharedMemBytes, arguments);
    return done ? CUDA_SUCCESS : CUDA_ERROR_LAUNCH_FAILED;
}
}
