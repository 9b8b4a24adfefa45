# Sets TENSORRT_INCLUDE_DIR, the folder of NvInferRuntime.h. Only headers are needed, but neither
# NVIDIA's wheels nor its pip packages hold them.
set(trtx_sys 0.9.1) # a crate that carries the headers of TensorRT 11.4 (Apache-2.0)
set(github_tag v11.1)

find_path(TENSORRT_INCLUDE_DIR NvInferRuntime.h
  HINTS ENV TENSORRT_INCLUDE_DIR ${TensorRT_ROOT}/include $ENV{TensorRT_ROOT}/include
  PATH_SUFFIXES x86_64-linux-gnu aarch64-linux-gnu
  DOC "Folder of TensorRT's C++ headers")
if(TENSORRT_INCLUDE_DIR)
  return()
endif()

find_program(CODETR_CARGO cargo)
if(CODETR_CARGO)
  set(package "${CMAKE_BINARY_DIR}/tensorrt-headers")
  file(WRITE "${package}/src/lib.rs" "")
  file(WRITE "${package}/Cargo.toml" "[package]\nname = \"headers\"\nversion = \"0.0.0\"\n"
    "edition = \"2021\"\n[dependencies]\ntrtx-sys = \"=${trtx_sys}\"\n")
  # Downloads and unpacks, compiles nothing.
  execute_process(COMMAND ${CODETR_CARGO} vendor --quiet vendor
    WORKING_DIRECTORY "${package}" OUTPUT_QUIET ERROR_VARIABLE cargo_error RESULT_VARIABLE failed)
  if(failed)
    message(STATUS "cargo could not fetch trtx-sys ${trtx_sys}: ${cargo_error}")
  endif()
  file(GLOB headers "${package}/vendor/trtx-sys/TensorRT-Headers/TRT-Enterprise-*")
endif()

if(NOT headers)
  message(STATUS "fetching TensorRT's headers (${github_tag}) from GitHub")
  include(FetchContent)
  FetchContent_Declare(tensorrt_headers GIT_REPOSITORY https://github.com/NVIDIA/TensorRT.git
    GIT_TAG ${github_tag} GIT_SHALLOW ON GIT_SUBMODULES "" SOURCE_SUBDIR include)
  FetchContent_MakeAvailable(tensorrt_headers)
  set(headers "${tensorrt_headers_SOURCE_DIR}/include")
endif()
if(NOT EXISTS "${headers}/NvInferRuntime.h")
  message(FATAL_ERROR "found no TensorRT headers (NvInferRuntime.h); name their folder with "
    "-DTENSORRT_INCLUDE_DIR=… or the variable TENSORRT_INCLUDE_DIR, "
    "or leave the plugin out with -DCODETR_BUILD_PLUGIN=OFF")
endif()
set(TENSORRT_INCLUDE_DIR "${headers}" CACHE PATH "Folder of TensorRT's C++ headers" FORCE)
