# Sets CUDA_RUNTIME_INCLUDE_DIR and CUDA_RUNTIME_LIBRARY (static, as in TensorRT: one program serves
# machines with CUDA 12 and 13). Not CMake's FindCUDAToolkit, which wants nvcc as well.
set(toolkits "$ENV{CUDA_HOME}" "$ENV{CUDA_PATH}" /usr/local/cuda)
foreach(prefix IN LISTS CMAKE_PREFIX_PATH)
  list(APPEND toolkits "${prefix}/nvidia/cu13" "${prefix}/nvidia/cuda_runtime") # PyPI's wheels
endforeach()
# The header that cuda_runtime_api.h includes: some of PyPI's wheels lack it.
find_path(CUDA_RUNTIME_INCLUDE_DIR crt/host_defines.h
  HINTS ${toolkits} PATH_SUFFIXES include DOC "Folder of the CUDA runtime's headers")
find_library(CUDA_RUNTIME_LIBRARY libcudart_static.a
  HINTS ${toolkits} PATH_SUFFIXES lib64 lib DOC "The CUDA runtime, libcudart_static.a")
if(NOT CUDA_RUNTIME_INCLUDE_DIR OR NOT CUDA_RUNTIME_LIBRARY)
  message(FATAL_ERROR "found no CUDA runtime (crt/host_defines.h, libcudart_static.a); install a \
CUDA toolkit and set CUDA_HOME=/path/to/it, ${or_without}")
endif()
