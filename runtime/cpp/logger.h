// What TensorRT says, for people.
#pragma once

#include <NvInferRuntime.h>

#include <string>

namespace codetr {

// Prints warnings to stderr, less those that are known to be harmless, and keeps errors: the call
// that failed says them in its own words.
class Logger final : public nvinfer1::ILogger {
  public:
    void log(Severity severity, nvinfer1::AsciiChar const* message) noexcept override;

    // The errors so far, on one line; forgets them.
    std::string take_errors();

  private:
    std::string errors_;
};

} // namespace codetr
