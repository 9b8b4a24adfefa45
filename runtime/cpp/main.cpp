// codetr_inference: a TensorRT engine of Co-DETR run on pictures, without Python.

#include "benchmark.h"
#include "coco_json.h"
#include "detector.h"
#include "draw.h"
#include "error.h"
#include "files.h"
#include "options.h"
#include "pictures.h"
#include "postprocess.h"

#include <opencv2/core/utils/logger.hpp>

#include <algorithm>
#include <cstdio>
#include <exception>

#include <unistd.h>

namespace {

using namespace codetr;
using Paths = std::vector<std::filesystem::path>;

// Detects in pictures, writes what is found, and counts what could not be read.
class Run {
  public:
    Run(Detector& detector, Options const& options, Paths const& pictures)
        : detector_(detector), options_(options), pictures_(pictures),
          targets_(choose_targets(pictures, options.output)) {}

    void detect() {
        std::vector<cv::Mat> batch;
        std::vector<std::size_t> indices;
        for (std::size_t index = 0; index < pictures_.size(); ++index) {
            try {
                batch.push_back(read_picture(pictures_[index]));
                indices.push_back(index);
            } catch (UserError const& error) {
                std::fprintf(stderr, "error: %s\n", error.what());
                ++failed_;
            }
            if (static_cast<int>(batch.size()) == detector_.spec().batch) {
                finish(batch, indices);
            }
        }
        finish(batch, indices);
        if (isatty(STDERR_FILENO) != 0) {
            std::fputc('\n', stderr);
        }
        write_file(options_.output / "detections.json", to_coco(records_, detector_.classes()));
    }

    std::size_t failed() const { return failed_; }

    std::string summary() const {
        std::size_t detections = 0;
        for (auto const& record : records_) {
            detections += record.detections.size();
        }
        return std::to_string(detections) + " detections in " + std::to_string(records_.size()) +
               " of " + std::to_string(pictures_.size()) + " pictures: results are in " +
               options_.output.string();
    }

  private:
    // Detects in a batch and empties it.
    void finish(std::vector<cv::Mat>& batch, std::vector<std::size_t>& indices) {
        if (batch.empty()) {
            return;
        }
        auto found = detector_(batch);
        for (std::size_t i = 0; i < batch.size(); ++i) {
            auto confident = above(std::move(found[i]), options_.score_threshold);
            draw(batch[i], confident, detector_.classes());
            write_picture(targets_[indices[i]], batch[i]);
            records_.push_back({pictures_[indices[i]].string(), batch[i].cols, batch[i].rows,
                                std::move(confident)});
        }
        if (isatty(STDERR_FILENO) != 0) {
            std::fprintf(stderr, "\r%zu of %zu pictures ", indices.back() + 1, pictures_.size());
        }
        batch.clear();
        indices.clear();
    }

    Detector& detector_;
    Options const& options_;
    Paths const& pictures_;
    Paths targets_;
    std::vector<Record> records_;
    std::size_t failed_ = 0;
};

void check_target(Options const& options, ModelSpec const& spec) {
    auto const check = [](char const* option, std::optional<int> wanted, int size) {
        if (wanted && *wanted != size) {
            throw UserError(std::string("the engine takes ") + std::to_string(size) + " for " +
                            option + ", got " + std::to_string(*wanted) +
                            "; leave it out, or build an engine of that size");
        }
    };
    check("--target-height", options.target_height, spec.height);
    check("--target-width", options.target_width, spec.width);
}

void make_folder(std::filesystem::path const& folder) {
    std::error_code error;
    std::filesystem::create_directories(folder, error);
    if (error || access(folder.c_str(), W_OK) != 0) {
        throw UserError("cannot write to folder " + folder.string() +
                        "; choose another with --output");
    }
}

void benchmark(Detector& detector, Options const& options, Paths const& pictures) {
    auto const times = measure(detector, read_picture(pictures.front()),
                               options.benchmark_iterations);
    std::fputs(times_as_table(times).c_str(), stdout);
    if (!options.json.empty()) {
        write_file(options.json, times_as_json(times));
    }
}

int run(Options const& options) {
    // The decoders' own messages would repeat ours.
    cv::utils::logging::setLogLevel(cv::utils::logging::LOG_LEVEL_SILENT);
    auto const pictures = find_pictures(options.input);
    if (!options.output.empty()) {
        make_folder(options.output);
    }
    Detector detector(options.model);
    check_target(options, detector.spec());
    std::size_t failed = 0;
    if (!options.output.empty()) {
        Run run(detector, options, pictures);
        run.detect();
        failed = run.failed();
        std::puts(run.summary().c_str());
    }
    if (options.benchmark_iterations > 0) {
        benchmark(detector, options, pictures);
    }
    return failed > 0 ? 2 : 0;
}

} // namespace

int main(int count, char const* const* arguments) {
    try {
        auto const options = parse_options({arguments + 1, arguments + count});
        if (options.help) {
            std::fputs(kUsage, stdout);
            return 0;
        }
        return run(options);
    } catch (std::exception const& error) {
        std::string line = error.what();
        std::ranges::replace(line, '\n', ' '); // TensorRT and OpenCV may use several
        std::fprintf(stderr, "codetr_inference: error: %s\n", line.c_str());
        return 2;
    }
}
