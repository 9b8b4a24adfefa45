#include "benchmark.h"

#include "coco_json.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <numeric>

namespace codetr {
namespace {

constexpr int kWarmUp = 20;
constexpr std::array<char const*, 6> kFigures{"p50", "p90", "p99", "min", "max", "mean"};

double percentile(std::vector<double> const& sorted, double share) {
    auto const position = share * static_cast<double>(sorted.size() - 1);
    auto const below = static_cast<std::size_t>(position);
    auto const above = std::min(below + 1, sorted.size() - 1);
    return std::lerp(sorted[below], sorted[above], position - static_cast<double>(below));
}

// In the order of kFigures.
std::array<double, 6> summarize(std::vector<double> times) {
    std::ranges::sort(times);
    auto const sum = std::accumulate(times.begin(), times.end(), 0.0);
    return {percentile(times, 0.5), percentile(times, 0.9),
            percentile(times, 0.99), times.front(),
            times.back(), sum / static_cast<double>(times.size())};
}

} // namespace

Times measure(Detector& detector, cv::Mat const& picture, int iterations) {
    using Clock = std::chrono::steady_clock;
    auto const milliseconds = [](Clock::time_point start, Clock::time_point stop) {
        return std::chrono::duration<double, std::milli>(stop - start).count();
    };
    // A fixed batch of several pictures is measured full.
    std::vector<cv::Mat> const batch(static_cast<std::size_t>(detector.spec().batch), picture);
    Times times;
    detector(batch); // the kernels then have something to work on
    for (int run = -kWarmUp; run < iterations; ++run) {
        auto const gpu = detector.engine().time_kernels();
        if (run >= 0) {
            times["gpu"].push_back(gpu);
        }
    }
    for (int run = -kWarmUp; run < iterations; ++run) {
        auto const start = Clock::now();
        auto const scales = detector.prepare(batch);
        auto const prepared = Clock::now();
        detector.infer();
        auto const inferred = Clock::now();
        detector.finish(scales);
        auto const stop = Clock::now();
        if (run >= 0) {
            times["preprocess"].push_back(milliseconds(start, prepared));
            times["infer"].push_back(milliseconds(prepared, inferred));
            times["postprocess"].push_back(milliseconds(inferred, stop));
            times["end_to_end"].push_back(milliseconds(start, stop));
        }
    }
    return times;
}

std::string times_as_table(Times const& times) {
    std::array<char, 128> line{};
    std::snprintf(line.data(), line.size(), "%-12s %9s %9s %9s\n", "ms", "p50", "p90", "p99");
    std::string table = line.data();
    for (auto const& [name, values] : times) {
        auto const figures = summarize(values);
        std::snprintf(line.data(), line.size(), "%-12s %9.3f %9.3f %9.3f\n", name.c_str(),
                      figures[0], figures[1], figures[2]);
        table += line.data();
    }
    return table;
}

std::string times_as_json(Times const& times) {
    std::string json = "{";
    for (auto const& [name, values] : times) {
        json += (json.size() > 1 ? ",\n " : "\n ") + ("\"" + name) + "_ms\": {";
        auto const figures = summarize(values);
        for (std::size_t i = 0; i < figures.size(); ++i) {
            json += (i > 0 ? ", \"" : "\"") + std::string(kFigures[i]) + "\": ";
            json += json_number(std::nearbyint(figures[i] * 1e4) / 1e4);
        }
        json += "}";
    }
    return json + "\n}\n";
}

} // namespace codetr
