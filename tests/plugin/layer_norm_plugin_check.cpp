// As plugin_check.cpp, of what layer normalisation does otherwise than the sampling.
#include "plugin_calls.h"

using namespace plugin_calls;

namespace {

constexpr int kTensors = 4;
using Shapes = std::vector<Dims>;

// Inputs, then the output: batch 2, a map of 30 x 40, 192 channels.
Shapes const kGood{{4, {2, 30, 40, 192}}, {1, {192}}, {1, {192}}, {4, {2, 30, 40, 192}}};
Shapes const kTokens{{3, {2, 900, 256}}, {1, {256}}, {1, {256}}, {3, {2, 900, 256}}};

template <typename Call> bool refuses(std::string const& why, Call const& call) {
    return plugin_calls::refuses("CoDetrLayerNorm", why, call);
}

Shapes with(int tensor, Dims dims) {
    Shapes shapes = kGood;
    shapes[tensor] = dims;
    return shapes;
}

Shapes with_channels(int64_t channels) {
    Shapes shapes = kGood;
    for (Dims& dims : shapes) {
        dims.d[dims.nbDims - 1] = channels;
    }
    return shapes;
}

bool accepted(IPluginV3& plugin, Shapes const& shapes) {
    PluginTensorDesc all[kTensors]{};
    for (int i = 0; i < kTensors; ++i) {
        all[i].dims = shapes[i];
    }
    return runtime(plugin).onShapeChange(all, 3, all + 3, 1) == 0;
}

// It has no attributes: nothing to give, to store and to mistake.
void check_creation(IPluginCreatorV3One& creator) {
    CHECK(std::strcmp(creator.getPluginName(), "CoDetrLayerNorm") == 0);
    CHECK(creator.getFieldNames() != nullptr && creator.getFieldNames()->nbFields == 0);
    auto plugin = create(creator, {});
    CHECK(plugin != nullptr);
    PluginFieldCollection const* fields = runtime(*plugin).getFieldsToSerialize();
    CHECK(fields != nullptr && fields->nbFields == 0);
    std::unique_ptr<IPluginV3> const of_a_plan(
        creator.createPlugin("node", nullptr, TensorRTPhase::kRUNTIME));
    CHECK(of_a_plan != nullptr);
    int32_t const value = 1;
    for (char const* name : {"epsilon", static_cast<char const*>(nullptr)}) {
        std::string const got = name != nullptr ? name : "without a name";
        CHECK(refuses("got an attribute " + got + "; wanted none\n", [&] {
            return create(creator, {{name, &value, PluginFieldType::kINT32, 1}}) != nullptr;
        }));
    }
}

void check_formats(IPluginV3OneBuild& plugin) {
    int count = 0;
    for (int combination = 0; combination < 10000; ++combination) {
        DynamicPluginTensorDesc all[kTensors]{};
        bool fits = true;
        for (int i = 0, rest = combination; i < kTensors; ++i, rest /= 10) {
            all[i].desc.type = static_cast<DataType>(rest % 10);
            all[i].desc.format = TensorFormat::kLINEAR;
        }
        for (int i = 0; i < kTensors; ++i) {
            fits = fits && plugin.supportsFormatCombination(i, all, 3, 1);
        }
        count += fits;
        CHECK(!fits || (all[1].desc.type == DataType::kFLOAT && all[2].desc.type == DataType::kFLOAT
                        && all[0].desc.type != DataType::kFLOAT
                        && all[3].desc.type == all[0].desc.type));
    }
    CHECK(count == 2); // either half precision
}

void check_shapes(IPluginV3& plugin) {
    for (int64_t channels : {8, 192, 200, 3072, 4096}) {
        CHECK(accepted(plugin, with_channels(channels)));
    }
    CHECK(accepted(plugin, kTokens));
    struct {
        char const* why;
        Shapes shapes;
    } const refused[] = {
        {"x is (2, 30, 40, 260); wanted (B, H, W, C) or (B, S, C) with below 2^31 rows and C a "
         "multiple of 8, at most 4096, where 2400 rows, C=260\n",
         with_channels(260)},
        {"x is (2, 30, 40, 4104)", with_channels(4104)},
        {"x is (2, 32768, 32768, 192)", with(0, {4, {2, 32768, 32768, 192}})},
        {"x has rank 2; wanted (B, H, W, C) or (B, S, C)", with(0, {2, {1200, 192}})},
        {"weight is (128); wanted (C)", with(1, {1, {128}})},
        {"bias is (32); wanted (C)", with(2, {1, {32}})},
        {"output is (2, 30, 20, 192); wanted as x", with(3, {4, {2, 30, 20, 192}})},
        {"output is (2, 1200, 192); wanted as x", with(3, {3, {2, 1200, 192}})},
    };
    for (auto const& [why, shapes] : refused) {
        CHECK(refuses(why, [&, &shapes = shapes] { return accepted(plugin, shapes); }));
    }
    Shapes longer = kTokens;
    longer[3] = {4, {2, 900, 256, 1}};
    CHECK(refuses("output is (2, 900, 256, 1); wanted as x", [&] { return accepted(plugin, longer); }));
    Shapes unknown = kGood;
    unknown[0].d[0] = unknown[3].d[0] = unknown[0].d[3] = -1;
    CHECK(accepted(plugin, unknown));
}

// The kernel's launcher refuses these channels, so nothing reaches a GPU, be there one or not.
void check_launch(IPluginV3& plugin) {
    PluginTensorDesc all[kTensors]{};
    for (int i = 0; i < kTensors; ++i) {
        all[i].dims = with_channels(260)[i];
        all[i].type = DataType::kHALF;
    }
    void* pointers[kTensors]{};
    CHECK(refuses("the kernel could not be launched: invalid argument", [&] {
        return runtime(plugin).enqueue(all, all + 3, pointers, pointers, nullptr, nullptr) == 0;
    }));
}

} // namespace

void check_layer_norm(IPluginCreatorV3One& creator) {
    check_creation(creator);
    auto plugin = create(creator, {});
    check_formats(build(*plugin));
    check_shapes(*plugin);
    check_launch(*plugin);
}
