#include "options.h"

#include "error.h"

#include <charconv>
#include <functional>
#include <map>
#include <string>
#include <string_view>

namespace codetr {

char const* const kUsage = R"(usage: codetr_inference --model FILE --input PATH --output FOLDER

Detects objects in pictures with a TensorRT engine of Co-DETR. Writes into FOLDER:

  NAME.png          the picture with its detections drawn in
  detections.json   all detections in COCO's layout

options:
  --model FILE                 engine; its manifest FILE.json lies beside it
  --input PATH                 picture, or folder of pictures (not of its sub-folders)
  --output FOLDER              made if need be; may be left out to measure only
  --target-height PIXELS       height that the engine has to have; refused if it has another
  --target-width PIXELS        the same for the width
  --score-threshold SCORE      leave out detections with a lower score, 0 to 1 (default: 0.3)
  --benchmark-iterations N     measure with the first picture: N runs after 20 that do not count
  --json FILE                  write the measured times there too
  --help                       show this

Pictures that cannot be read are told, counted and left out; the exit code is then 2.
)";

namespace {

int whole_number(std::string const& option, std::string_view text) {
    int number = 0;
    auto const [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
    if (error != std::errc() || end != text.data() + text.size() || number < 1) {
        throw UserError(option + " takes a whole number from 1 up, got " + std::string(text));
    }
    return number;
}

float score(std::string const& option, std::string_view text) {
    double number = -1;
    auto const [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
    if (error != std::errc() || end != text.data() + text.size() || !(number >= 0 && number <= 1)) {
        throw UserError(option + " must be a number from 0 to 1, got " + std::string(text));
    }
    return static_cast<float>(number);
}

// By its name, how an option's value is taken over.
using Setter = std::function<void(Options&, std::string const& option, std::string const& value)>;

std::map<std::string, Setter, std::less<>> const& setters() {
    auto const path = [](std::filesystem::path Options::*member) -> Setter {
        return [member](Options& options, auto const&, auto const& value) {
            options.*member = value;
        };
    };
    static std::map<std::string, Setter, std::less<>> const all{
        {"--model", path(&Options::model)},
        {"--input", path(&Options::input)},
        {"--output", path(&Options::output)},
        {"--json", path(&Options::json)},
        {"--target-height",
         [](Options& o, auto const& name, auto const& v) {
             o.target_height = whole_number(name, v);
         }},
        {"--target-width",
         [](Options& o, auto const& name, auto const& v) {
             o.target_width = whole_number(name, v);
         }},
        {"--score-threshold",
         [](Options& o, auto const& name, auto const& v) { o.score_threshold = score(name, v); }},
        {"--benchmark-iterations",
         [](Options& o, auto const& name, auto const& v) {
             o.benchmark_iterations = whole_number(name, v);
         }},
    };
    return all;
}

void check(Options const& options) {
    if (options.model.empty() || options.input.empty()) {
        throw UserError("--model and --input are needed; see --help");
    }
    if (options.output.empty() && options.benchmark_iterations == 0) {
        throw UserError("--output is needed, or --benchmark-iterations to measure only");
    }
    if (!options.json.empty() && options.benchmark_iterations == 0) {
        throw UserError("--json takes what --benchmark-iterations measures; give both");
    }
}

} // namespace

Options parse_options(std::span<char const* const> arguments) {
    Options options;
    for (std::size_t i = 0; i < arguments.size(); ++i) {
        std::string_view const argument = arguments[i];
        if (argument == "--help") {
            options.help = true;
            return options;
        }
        auto const equals = argument.find('='); // --name=value, or --name value
        std::string const name(argument.substr(0, equals));
        auto const setter = setters().find(name);
        if (setter == setters().end()) {
            throw UserError("there is no option " + name + "; see --help");
        }
        std::string value;
        if (equals != std::string_view::npos) {
            value = argument.substr(equals + 1);
        } else if (i + 1 < arguments.size()) {
            value = arguments[++i];
        }
        if (value.empty()) {
            throw UserError(name + " takes a value; see --help");
        }
        setter->second(options, name, value);
    }
    check(options);
    return options;
}

} // namespace codetr
