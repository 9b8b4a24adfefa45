#include "engine.h"

#include "error.h"
#include "files.h"
#include "manifest.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <set>

namespace codetr {
namespace {

using nvinfer1::DataType;
using nvinfer1::Dims;
using Version = std::array<int, 3>;

// "10.6.0.post1" -> {10, 6, 0}: what follows does not decide what can be loaded.
Version version_numbers(std::string const& text) {
    Version numbers{};
    std::sscanf(text.c_str(), "%d.%d.%d", &numbers[0], &numbers[1], &numbers[2]);
    return numbers;
}

void require_gpu() {
    int count = 0;
    auto const error = cudaGetDeviceCount(&count);
    if (error != cudaSuccess || count == 0) {
        throw UserError(std::string("found no NVIDIA GPU (") + cudaGetErrorString(error) +
                        "); engines run on one only");
    }
}

void require_version(std::filesystem::path const& path, Manifest const& manifest) {
    Version const here{getInferLibMajorVersion(), getInferLibMinorVersion(),
                       getInferLibPatchVersion()};
    auto const built = version_numbers(manifest.tensorrt_version);
    auto const later = manifest.version_compatible && here[0] == built[0] && here >= built;
    if (here != built && !later) {
        auto const installed = std::to_string(here[0]) + "." + std::to_string(here[1]) + "." +
                               std::to_string(here[2]);
        throw UserError(path.string() + " was built by TensorRT " + manifest.tensorrt_version +
                        " and " + installed + " is installed; build it again, or install TensorRT " +
                        manifest.tensorrt_version);
    }
}

std::size_t item_size(DataType type) { return type == DataType::kINT64 ? 8 : 4; }

std::size_t volume(Dims const& shape) {
    std::size_t product = 1;
    for (int axis = 0; axis < shape.nbDims; ++axis) {
        product *= static_cast<std::size_t>(shape.d[axis]);
    }
    return product;
}

std::string type_name(DataType type) {
    switch (type) {
    case DataType::kFLOAT: return "float32";
    case DataType::kHALF: return "float16";
    case DataType::kINT32: return "int32";
    case DataType::kINT64: return "int64";
    default: return "another type";
    }
}

std::string shape_text(Dims const& shape) {
    std::string text;
    for (int axis = 0; axis < shape.nbDims; ++axis) {
        auto const size = shape.d[axis];
        text += (axis > 0 ? ", " : "") + (size < 0 ? "?" : std::to_string(size));
    }
    return "(" + text + ")";
}

} // namespace

Engine::Engine(std::filesystem::path const& path, Manifest const& manifest) {
    require_version(path, manifest);
    auto const plan = read_file(path);
    require_engine_of(manifest, path, plan); // it holds code: no other one is run
    require_gpu();
    deserialize(path, manifest, plan);
    read_spec(path);
    allocate();
}

void Engine::deserialize(std::filesystem::path const& path, Manifest const& manifest,
                         std::span<char const> plan) {
    runtime_.reset(nvinfer1::createInferRuntime(logger_));
    if (runtime_ == nullptr) {
        throw std::runtime_error(failure("TensorRT does not start"));
    }
    // A version-compatible engine brings code of its own along.
    runtime_->setEngineHostCodeAllowed(manifest.version_compatible);
    engine_.reset(runtime_->deserializeCudaEngine(plan.data(), plan.size()));
    if (engine_ == nullptr) {
        throw UserError(
            failure("TensorRT cannot load " + path.string() + "; build it again on this machine"));
    }
    context_.reset(engine_->createExecutionContext());
    if (context_ == nullptr) {
        throw std::runtime_error(failure(path.string() + " gives no execution context"));
    }
}

void Engine::read_spec(std::filesystem::path const& path) {
    // Asked for by name only if they are there: TensorRT would log an error.
    std::set<std::string> names;
    for (int index = 0; index < engine_->getNbIOTensors(); ++index) {
        names.insert(engine_->getIOTensorName(index));
    }
    auto const is = [&](char const* name, nvinfer1::TensorIOMode mode, DataType type, int rank) {
        return names.contains(name) && engine_->getTensorIOMode(name) == mode &&
               engine_->getTensorDataType(name) == type &&
               engine_->getTensorShape(name).nbDims == rank;
    };
    auto const input = nvinfer1::TensorIOMode::kINPUT;
    auto const output = nvinfer1::TensorIOMode::kOUTPUT;
    spec_.has_mask = is("img_masks", input, DataType::kFLOAT, 3);
    auto right = is("batch_inputs", input, DataType::kFLOAT, 4) &&
                 is("boxes", output, DataType::kFLOAT, 3) &&
                 is("scores", output, DataType::kFLOAT, 2) &&
                 is("labels", output, DataType::kINT64, 2) &&
                 names.size() == (spec_.has_mask ? 5 : 4);
    if (right) {
        auto const shape = engine_->getTensorShape("batch_inputs"); // -1 where dynamic
        spec_.height = static_cast<int>(shape.d[2]);
        spec_.width = static_cast<int>(shape.d[3]);
        right = shape.d[1] == 3 && spec_.height > 0 && spec_.width > 0;
    }
    if (!right) {
        throw UserError(path.string() + " is not a Co-DETR engine of fixed height and width: its "
                                        "inputs and outputs are " +
                        describe_tensors());
    }
}

void Engine::allocate() {
    stream_ = make_stream();
    std::vector<std::string> names;
    for (int index = 0; index < engine_->getNbIOTensors(); ++index) {
        names.emplace_back(engine_->getIOTensorName(index));
    }
    auto const is_input = [this](std::string const& name) {
        return engine_->getTensorIOMode(name.c_str()) == nvinfer1::TensorIOMode::kINPUT;
    };
    // Inputs first: the shapes of the outputs follow from theirs.
    std::ranges::stable_partition(names, is_input);
    for (auto const& name : names) {
        auto const* const key = name.c_str();
        if (is_input(name)) {
            auto shape = engine_->getTensorShape(key);
            if (shape.d[0] < 0) {
                shape = engine_->getProfileShape(key, 0, nvinfer1::OptProfileSelector::kMIN);
            }
            if (!context_->setInputShape(key, shape)) {
                throw std::runtime_error(failure("TensorRT does not take the shape of " + name));
            }
        }
        auto const shape = context_->getTensorShape(key);
        auto const bytes = volume(shape) * item_size(engine_->getTensorDataType(key));
        tensors_.push_back({name, shape, is_input(name), bytes, make_pinned_memory(bytes),
                            make_device_memory(bytes)});
        context_->setTensorAddress(key, tensors_.back().device.get());
    }
    spec_.batch = static_cast<int>(tensor("scores").shape.d[0]);
    spec_.detections = static_cast<int>(tensor("scores").shape.d[1]);
}

float* Engine::batch_inputs() const {
    return static_cast<float*>(tensor("batch_inputs").host.get());
}

float* Engine::img_masks() const {
    return spec_.has_mask ? static_cast<float*>(tensor("img_masks").host.get()) : nullptr;
}

void Engine::infer() {
    for (auto const& [name, shape, input, bytes, host, device] : tensors_) {
        if (input) {
            check(cudaMemcpyAsync(device.get(), host.get(), bytes, cudaMemcpyHostToDevice,
                                  stream_.get()));
        }
    }
    compute();
    for (auto const& [name, shape, input, bytes, host, device] : tensors_) {
        if (!input) {
            check(cudaMemcpyAsync(host.get(), device.get(), bytes, cudaMemcpyDeviceToHost,
                                  stream_.get()));
        }
    }
    check(cudaStreamSynchronize(stream_.get()));
}

RawOutputs Engine::outputs(int row) const {
    auto const n = static_cast<std::size_t>(spec_.detections);
    auto const first = static_cast<std::size_t>(row) * n;
    auto const* const boxes = static_cast<float const*>(tensor("boxes").host.get());
    auto const* const scores = static_cast<float const*>(tensor("scores").host.get());
    auto const* const labels = static_cast<std::int64_t const*>(tensor("labels").host.get());
    return {{boxes + 4 * first, 4 * n}, {scores + first, n}, {labels + first, n}};
}

float Engine::time_kernels() {
    auto const start = make_event();
    auto const stop = make_event();
    check(cudaEventRecord(start.get(), stream_.get()));
    compute();
    check(cudaEventRecord(stop.get(), stream_.get()));
    check(cudaStreamSynchronize(stream_.get()));
    float milliseconds = 0;
    check(cudaEventElapsedTime(&milliseconds, start.get(), stop.get()));
    return milliseconds;
}

// The kernels alone, as one CUDA graph; does not wait.
void Engine::compute() {
    if (graph_ != nullptr) {
        check(cudaGraphLaunch(graph_.get(), stream_.get()));
        return;
    }
    enqueue();
    if (use_graph_) {
        // The first run sets things up that a capture must not contain.
        check(cudaStreamSynchronize(stream_.get()));
        capture();
    }
}

void Engine::enqueue() {
    if (!context_->enqueueV3(stream_.get())) {
        throw std::runtime_error(failure("TensorRT could not enqueue the engine"));
    }
}

// Where that fails, every run is enqueued anew.
void Engine::capture() {
    check(cudaStreamBeginCapture(stream_.get(), cudaStreamCaptureModeThreadLocal));
    auto const enqueued = context_->enqueueV3(stream_.get());
    cudaGraph_t captured = nullptr;
    auto error = cudaStreamEndCapture(stream_.get(), &captured);
    Graph const graph(captured);
    cudaGraphExec_t executable = nullptr;
    if (enqueued && error == cudaSuccess) {
        error = cudaGraphInstantiateWithFlags(&executable, graph.get(), 0);
        graph_.reset(executable);
    }
    use_graph_ = graph_ != nullptr;
    if (!use_graph_) {
        cudaGetLastError(); // else the next call would report it
        auto const reason = failure(cudaGetErrorString(error));
        std::fprintf(stderr, "warning: no CUDA graph, every run is enqueued anew: %s\n",
                     reason.c_str());
    }
}

Engine::Tensor const& Engine::tensor(char const* name) const {
    return *std::ranges::find(tensors_, name, &Tensor::name);
}

std::string Engine::describe_tensors() const {
    std::string text;
    for (int index = 0; index < engine_->getNbIOTensors(); ++index) {
        auto const* const name = engine_->getIOTensorName(index);
        text += (index > 0 ? ", " : "") + std::string(name) + " " +
                type_name(engine_->getTensorDataType(name)) +
                shape_text(engine_->getTensorShape(name));
    }
    return text;
}

// The problem, with the errors that TensorRT logged.
std::string Engine::failure(std::string const& problem) {
    auto const errors = logger_.take_errors();
    return errors.empty() ? problem : problem + " (" + errors + ")";
}

} // namespace codetr
