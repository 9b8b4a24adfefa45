# Sets TENSORRT_LIBRARY, the file libnvinfer.so.N of the same major version as the headers: classes
# differ from one to the next, and a program compiled for the other would crash.
file(STRINGS "${TENSORRT_INCLUDE_DIR}/NvInferVersion.h" version
  REGEX "define (TRT_MAJOR_ENTERPRISE|NV_TENSORRT_MAJOR) +[0-9]+")
string(REGEX MATCH "[0-9]+" major "${version}")

# Where `pip install tensorrt` puts it.
find_program(CODETR_PYTHON NAMES python3 python)
if(CODETR_PYTHON)
  execute_process(
    COMMAND "${CODETR_PYTHON}" -c "import importlib.util as u; \
print(*u.find_spec('tensorrt_libs').submodule_search_locations)"
    OUTPUT_VARIABLE wheel OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
endif()
string(REPLACE ":" ";" library_path "$ENV{LD_LIBRARY_PATH}")
find_file(TENSORRT_LIBRARY "libnvinfer.so.${major}"
  HINTS ENV TENSORRT_LIB_DIR ${TensorRT_ROOT}/lib $ENV{TensorRT_ROOT}/lib
    "${TENSORRT_INCLUDE_DIR}/../lib" ${library_path}
  PATHS /usr/lib /usr/lib64 /usr/local/lib /usr/local/cuda/lib64 ${wheel}
  PATH_SUFFIXES x86_64-linux-gnu aarch64-linux-gnu
  DOC "TensorRT's library libnvinfer.so.N")
if(NOT TENSORRT_LIBRARY)
  message(FATAL_ERROR "found no libnvinfer.so.${major} to go with the headers in \
${TENSORRT_INCLUDE_DIR}; name its folder with the variable TENSORRT_LIB_DIR, or other headers with \
TENSORRT_INCLUDE_DIR, ${or_without}")
endif()
