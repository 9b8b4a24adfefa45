#include "logger.h"

#include <cstdio>
#include <cstring>
#include <utility>

namespace codetr {
namespace {

// Labels are int64, as in ONNX; TensorRT warns of every such output, and nothing is wrong.
constexpr char const* kHarmless = "Make sure output labels has Int64 binding.";

} // namespace

void Logger::log(Severity severity, nvinfer1::AsciiChar const* message) noexcept {
    if (severity == Severity::kINTERNAL_ERROR || severity == Severity::kERROR) {
        errors_ += (errors_.empty() ? "" : "; ") + std::string(message);
    } else if (severity == Severity::kWARNING && std::strstr(message, kHarmless) == nullptr) {
        std::fprintf(stderr, "tensorrt: warning: %s\n", message);
    }
}

std::string Logger::take_errors() { return std::exchange(errors_, {}); }

} // namespace codetr
