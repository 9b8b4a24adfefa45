# Sets TENSORRT_INCLUDE_DIR, the folder of NvInferRuntime.h: the environment variable of that name,
# installed headers, or fetched ones. Only headers are needed, but NVIDIA's wheels hold none.
set(trtx_sys 0.9.1) # a crate that carries the headers of TensorRT 11.4 (Apache-2.0)
set(github https://github.com/NVIDIA/TensorRT.git)
set(github_tag v11.1)

# Sets ${headers} in the caller to the crate's folder, or ${why} to why there is none.
function(fetch_with_cargo folder headers why)
  find_program(CODETR_CARGO cargo)
  if(NOT CODETR_CARGO)
    set(${why} "found no cargo" PARENT_SCOPE)
    return()
  endif()
  file(WRITE "${folder}/src/lib.rs" "")
  file(WRITE "${folder}/Cargo.toml" "[package]\nname = \"headers\"\nversion = \"0.0.0\"\n"
    "edition = \"2021\"\n[workspace]\n[dependencies]\ntrtx-sys = \"=${trtx_sys}\"\n")
  # Downloads and unpacks, compiles nothing.
  execute_process(COMMAND ${CODETR_CARGO} vendor --quiet vendor
    WORKING_DIRECTORY "${folder}" OUTPUT_QUIET ERROR_VARIABLE error)
  file(GLOB found "${folder}/vendor/trtx-sys/TensorRT-Headers/TRT-Enterprise-*")
  set(${headers} "${found}" PARENT_SCOPE)
  set(${why} "cargo: ${error}" PARENT_SCOPE)
endfunction()

# The same with git, of the folder of headers only.
function(fetch_with_git folder headers why)
  find_program(CODETR_GIT git)
  if(NOT CODETR_GIT)
    set(${why} "found no git" PARENT_SCOPE)
    return()
  endif()
  file(REMOVE_RECURSE "${folder}") # what an interrupted run left
  execute_process(COMMAND ${CODETR_GIT} clone --quiet --depth 1 --branch ${github_tag}
    --filter=blob:none --sparse ${github} "${folder}" ERROR_VARIABLE error RESULT_VARIABLE failed)
  if(NOT failed)
    execute_process(COMMAND ${CODETR_GIT} -C "${folder}" sparse-checkout set include
      ERROR_VARIABLE error)
  endif()
  file(GLOB found "${folder}/include")
  set(${headers} "${found}" PARENT_SCOPE)
  set(${why} "git: ${error}" PARENT_SCOPE)
endfunction()

if(DEFINED ENV{TENSORRT_INCLUDE_DIR}) # also when an earlier run found or fetched other ones
  set(TENSORRT_INCLUDE_DIR "$ENV{TENSORRT_INCLUDE_DIR}" CACHE PATH "" FORCE)
endif()
find_path(TENSORRT_INCLUDE_DIR NvInferRuntime.h
  HINTS ${TensorRT_ROOT}/include $ENV{TensorRT_ROOT}/include
  PATH_SUFFIXES x86_64-linux-gnu aarch64-linux-gnu
  DOC "Folder of TensorRT's C++ headers")

if(NOT TENSORRT_INCLUDE_DIR)
  message(STATUS "fetching TensorRT's headers")
  set(folder "${CMAKE_BINARY_DIR}/tensorrt-headers")
  fetch_with_cargo("${folder}" headers cargo_failed)
  if(NOT headers)
    fetch_with_git("${folder}-git" headers git_failed)
  endif()
  if(NOT headers)
    message(FATAL_ERROR "found no TensorRT headers (NvInferRuntime.h) and could fetch none:\n"
      "${cargo_failed}\n${git_failed}\n"
      "name their folder with the variable TENSORRT_INCLUDE_DIR, ${or_without}")
  endif()
  set(TENSORRT_INCLUDE_DIR "${headers}" CACHE PATH "Folder of TensorRT's C++ headers" FORCE)
endif()
if(NOT EXISTS "${TENSORRT_INCLUDE_DIR}/NvInferRuntime.h")
  set(wrong "${TENSORRT_INCLUDE_DIR}")
  unset(TENSORRT_INCLUDE_DIR CACHE) # to look again next time
  message(FATAL_ERROR "TENSORRT_INCLUDE_DIR is ${wrong}, which holds no NvInferRuntime.h; \
name a folder with TensorRT's headers, ${or_without}")
endif()
