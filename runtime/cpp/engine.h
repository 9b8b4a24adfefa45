// A TensorRT engine with its memory.
#pragma once

#include "cuda.h"
#include "logger.h"
#include "model.h"

#include <NvInferRuntime.h>

#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace codetr {

// One execution context and one stream. The engine is the authority: names, shapes and types are
// read from it. All memory is allocated once; of a dynamic batch the smallest is used.
class Engine {
  public:
    // Throws UserError if there is no GPU, or the engine is of another version or GPU, damaged, or
    // no Co-DETR model.
    Engine(std::filesystem::path const& path, Manifest const& manifest);
    Engine(Engine const&) = delete; // TensorRT knows the logger's address
    Engine& operator=(Engine const&) = delete;

    ModelSpec const& spec() const { return spec_; }

    // Pinned memory, to be filled before `infer`.
    float* batch_inputs() const; // (B, 3, H, W), see Preprocessor
    float* img_masks() const;    // (B, H, W); null if the model has none

    // Copies the inputs to the GPU, runs the engine, copies the outputs back and waits.
    void infer();

    // What `infer` found in a picture of the batch; holds until it is called again.
    RawOutputs outputs(int row) const;

    // Milliseconds that the GPU takes for the kernels of one run, without copies.
    float time_kernels();

  private:
    struct Tensor {
        std::string name;
        nvinfer1::Dims shape;
        bool input;
        std::size_t bytes;
        PinnedMemory host;
        DeviceMemory device;
    };

    void deserialize(std::filesystem::path const& path, Manifest const& manifest,
                     std::span<char const> plan);
    void read_spec(std::filesystem::path const& path);
    void allocate();
    void compute();
    void enqueue();
    void capture();
    Tensor const& tensor(char const* name) const;
    std::string describe_tensors() const;
    std::string failure(std::string const& problem);

    ModelSpec spec_{};
    Logger logger_; // what TensorRT holds on to comes first, and is destroyed last
    std::unique_ptr<nvinfer1::IRuntime> runtime_;
    std::unique_ptr<nvinfer1::ICudaEngine> engine_;
    Stream stream_;
    std::vector<Tensor> tensors_;
    std::unique_ptr<nvinfer1::IExecutionContext> context_;
    GraphExec graph_;
    bool use_graph_ = true;
};

} // namespace codetr
