# Sets CMAKE_CUDA_COMPILER: CUDACXX or a CUDA toolkit if there is one, otherwise the compiler that
# PyPI has, installed under a folder of CMAKE_PREFIX_PATH or in the build environment of pip.
if(DEFINED CMAKE_CUDA_COMPILER OR DEFINED ENV{CUDACXX})
  return()
endif()
set(wheels ${CMAKE_PREFIX_PATH})
list(TRANSFORM wheels APPEND /nvidia)
if(SKBUILD)
  # pip's build environment has several folders, of which its Python knows all.
  execute_process(
    COMMAND "${Python_EXECUTABLE}" -c "import nvidia; print(*nvidia.__path__, sep=';')"
    OUTPUT_VARIABLE packages OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
  list(APPEND wheels ${packages})
endif()
list(TRANSFORM wheels APPEND /cu13/bin)
find_program(CODETR_NVCC nvcc HINTS ENV CUDA_HOME ENV CUDA_PATH PATH_SUFFIXES bin
  PATHS /usr/local/cuda/bin ${wheels})
if(NOT CODETR_NVCC)
  message(FATAL_ERROR "found no nvcc; install a CUDA toolkit and set CUDACXX=/path/to/nvcc, \
or run `python -m plugin build`, which fetches the compiler from PyPI, ${or_without}")
endif()
set(CMAKE_CUDA_COMPILER "${CODETR_NVCC}")
# nvcc looks into lib64, the wheels have lib.
cmake_path(GET CODETR_NVCC PARENT_PATH bin)
cmake_path(GET bin PARENT_PATH toolkit)
if(EXISTS "${toolkit}/lib/libcudart_static.a")
  set(CMAKE_CUDA_FLAGS_INIT "-L${toolkit}/lib")
endif()
