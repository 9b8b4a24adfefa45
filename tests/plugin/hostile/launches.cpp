// What TensorRT calls when an engine runs, up to the launch itself (launch_on_cpu.h).
#include "hostile.h"

namespace hostile {

namespace {

constexpr std::array<DataType, 3> kReal = {DataType::kFLOAT, DataType::kHALF, DataType::kBF16};

// The right shapes of which each letter is any of these, wherever it stands.
template <typename Visit> void for_all_letters(Case const& of, Visit const& visit) {
    constexpr std::array<int64_t, 8> kSizes = {-1, 0, 1, 5, 256, 1 << 16, 1 << 23, kMax32};
    size_t combinations = 1;
    for (size_t i = 0; i < of.letters.size(); ++i) {
        combinations *= kSizes.size();
    }
    Shapes shapes = of.shapes;
    for (size_t combination = 0; combination < combinations; ++combination) {
        size_t rest = combination;
        for (auto const& places : of.letters) {
            for (auto const& [tensor, dimension] : places) {
                shapes[tensor].d[dimension] = kSizes[rest % kSizes.size()];
            }
            rest /= kSizes.size();
        }
        visit(shapes);
    }
}

bool runs(IPluginV3& plugin, Case const& of, PluginTensorDesc const* in, void const* const* from,
          void* const* to) {
    PluginTensorDesc const out{};
    return accepts(of, [&] {
        return runtime(plugin).enqueue(in, &out, from, to, nullptr, nullptr) == 0;
    });
}

} // namespace

void check_launches(IPluginCreatorV3One& creator, Case const& of) {
    std::vector<PluginTensorDesc> in(of.inputs());
    std::vector<void const*> const from(of.inputs(), reinterpret_cast<void const*>(4096));
    auto const to = std::make_unique<void*>(reinterpret_cast<void*>(4096));
    int64_t launches = 0;
    for (Values const values : {of.values, Values{1 << 18, 4}, Values{kMax32, kMax32},
                                Values{kMax32 - 1, of.lowest[1]}, Values{of.lowest[0], kMax32}}) {
        auto const plugin = make(creator, of, values);
        for_all_letters(of, [&](Shapes const& shapes) {
            for (int i = 0; i < of.inputs(); ++i) {
                in[i].dims = shapes[i];
            }
            for (DataType const type : kReal) {
                in[0].type = type;
                launches += runs(*plugin, of, in.data(), from.data(), to.get());
            }
        });
    }
    CHECK(launches > 0);
    auto const plugin = make(creator, of, of.values);
    CHECK(!runs(*plugin, of, nullptr, from.data(), to.get()));
    CHECK(!runs(*plugin, of, in.data(), nullptr, to.get()));
    CHECK(!runs(*plugin, of, in.data(), from.data(), nullptr));
}

} // namespace hostile
