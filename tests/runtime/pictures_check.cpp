// Runs the parts of codetr_inference that need no GPU on what test_cpp_pictures.py sends.
//
// codetr_pictures_check COMMAND [PATH…] reads numbers from stdin, as they lie in memory, and writes
// its results to stdout in the same way.
#include "coco_json.h"
#include "draw.h"
#include "error.h"
#include "files.h"
#include "manifest.h"
#include "pictures.h"
#include "postprocess.h"
#include "preprocess.h"
#include "sha256.h"

#include <cstdio>
#include <cstring>
#include <string>

namespace {

using namespace codetr;

template <typename T> std::vector<T> read(std::size_t count) {
    std::vector<T> values(count);
    if (std::fread(values.data(), sizeof(T), count, stdin) != count) {
        throw std::runtime_error("stdin ended early");
    }
    return values;
}

template <typename T> T read() { return read<T>(1)[0]; }

template <typename T> void write(std::vector<T> const& values) {
    std::fwrite(values.data(), sizeof(T), values.size(), stdout);
}

cv::Mat read_bgr() {
    auto const height = read<int>();
    auto const width = read<int>();
    cv::Mat picture(height, width, CV_8UC3);
    auto const pixels = read<unsigned char>(picture.total() * 3);
    std::memcpy(picture.data, pixels.data(), pixels.size());
    return picture;
}

// H, W, has_mask, h, w, picture -> batch_inputs, img_masks, scale
void preprocess(std::filesystem::path const& engine) {
    ModelSpec spec{.batch = 1, .height = 0, .width = 0, .detections = 0, .has_mask = false};
    spec.height = read<int>();
    spec.width = read<int>();
    spec.has_mask = read<int>() != 0;
    auto const picture = read_bgr();
    auto const pixels = static_cast<std::size_t>(spec.height) * spec.width;
    std::vector<float> inputs(3 * pixels, 99); // what is not written shows
    std::vector<float> masks(pixels, 99);
    auto const scale = Preprocessor(spec, read_manifest(engine))(
        picture, inputs.data(), spec.has_mask ? masks.data() : nullptr);
    write(inputs);
    write(masks);
    write(std::vector{scale.x, scale.y});
}

std::vector<Detection> read_detections() {
    auto const n = static_cast<std::size_t>(read<int>());
    auto const scale = read<double>(2);
    auto const boxes = read<float>(4 * n);
    auto const scores = read<float>(n);
    auto const labels = read<std::int64_t>(n);
    return postprocess({boxes, scores, labels}, {scale[0], scale[1]});
}

void write_detections(std::vector<Detection> const& found) {
    write(std::vector{static_cast<int>(found.size())});
    for (auto const& detection : found) {
        write(std::vector(detection.box.begin(), detection.box.end()));
    }
    for (auto const& detection : found) {
        write(std::vector{detection.score});
    }
    for (auto const& detection : found) {
        write(std::vector{detection.label});
    }
}

// cases, each: N, scale, boxes, scores, labels -> each: K, boxes, scores, labels
void detections() {
    for (auto cases = read<int>(); cases > 0; --cases) {
        write_detections(read_detections());
    }
}

// threshold, then a case as for detections -> JSON
void coco(std::filesystem::path const& engine, std::string const& name) {
    auto const threshold = read<float>();
    auto const found = above(read_detections(), threshold);
    auto const classes = read_manifest(engine).classes;
    std::fputs(to_coco({{name, 640, 480, found}, {"empty", 1, 2, {}}}, classes).c_str(), stdout);
}

// picture, then a case as for detections -> picture
void drawn(std::filesystem::path const& engine) {
    auto picture = read_bgr();
    draw(picture, read_detections(), read_manifest(engine).classes);
    write(std::vector(picture.datastart, picture.dataend));
}

// -> mean, std, version_compatible, then classes and TensorRT's version as text
void manifest(std::filesystem::path const& engine) {
    auto const found = read_manifest(engine);
    write(std::vector(found.mean.begin(), found.mean.end()));
    write(std::vector(found.std.begin(), found.std.end()));
    write(std::vector{static_cast<int>(found.version_compatible)});
    for (auto const& name : found.classes) {
        std::printf("%s\n", name.c_str());
    }
    std::printf("%s\n", found.tensorrt_version.c_str());
}

// -> its SHA-256
void hashed(std::filesystem::path const& path) {
    std::fputs(sha256(read_file(path)).c_str(), stdout);
}

// -> h, w, picture
void decoded(std::filesystem::path const& path) {
    auto const picture = read_picture(path);
    write(std::vector{picture.rows, picture.cols});
    write(std::vector(picture.datastart, picture.dataend));
}

// -> a line for each picture: its path, and that of its result
void targets(std::filesystem::path const& input, std::filesystem::path const& output) {
    auto const pictures = find_pictures(input);
    auto const chosen = choose_targets(pictures, output);
    for (std::size_t i = 0; i < pictures.size(); ++i) {
        std::printf("%s\t%s\n", pictures[i].c_str(), chosen[i].c_str());
    }
}

void run(std::vector<std::string> const& arguments) {
    auto const& command = arguments.at(1);
    if (command == "preprocess") {
        preprocess(arguments.at(2));
    } else if (command == "detections") {
        detections();
    } else if (command == "coco") {
        coco(arguments.at(2), arguments.at(3));
    } else if (command == "drawn") {
        drawn(arguments.at(2));
    } else if (command == "manifest") {
        manifest(arguments.at(2));
    } else if (command == "sha256") {
        hashed(arguments.at(2));
    } else if (command == "decoded") {
        decoded(arguments.at(2));
    } else if (command == "targets") {
        targets(arguments.at(2), arguments.at(3));
    } else {
        throw std::runtime_error("no command " + command);
    }
}

} // namespace

int main(int count, char** arguments) {
    try {
        run({arguments, arguments + count});
        return 0;
    } catch (std::exception const& error) {
        std::fprintf(stderr, "%s\n", error.what());
        return 2;
    }
}
