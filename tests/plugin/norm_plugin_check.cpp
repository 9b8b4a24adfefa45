// As plugin_check.cpp, of what group normalisation does otherwise than the sampling.
#include "plugin_calls.h"

using namespace plugin_calls;

namespace {

constexpr int kTensors = 4;
using Shapes = std::vector<Dims>;

// Inputs, then the output: batch 2, a map of 30 x 40, 256 channels in 32 groups.
Shapes const kGood{{4, {2, 30, 40, 256}}, {1, {256}}, {1, {256}}, {4, {2, 30, 40, 256}}};

template <typename Call> bool refuses(std::string const& why, Call const& call) {
    return plugin_calls::refuses("CoDetrGroupNorm", why, call);
}

std::unique_ptr<IPluginV3> make(IPluginCreatorV3One& creator, int32_t groups) {
    return create(creator, {{"num_groups", &groups, PluginFieldType::kINT32, 1}});
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

void check_creation(IPluginCreatorV3One& creator) {
    CHECK(std::strcmp(creator.getPluginName(), "CoDetrGroupNorm") == 0);
    CHECK(creator.getFieldNames()->nbFields == 1);
    auto plugin = make(creator, 32);
    CHECK(plugin != nullptr);
    PluginFieldCollection const& fields = *runtime(*plugin).getFieldsToSerialize();
    CHECK(fields.nbFields == 1 && std::strcmp(fields.fields[0].name, "num_groups") == 0);
    CHECK(*static_cast<int32_t const*>(fields.fields[0].data) == 32);
    CHECK(refuses("attribute num_groups is 0; wanted a positive number",
                  [&] { return make(creator, 0) != nullptr; }));
    CHECK(refuses("attribute num_groups is missing", [&] { return create(creator, {}) != nullptr; }));
    int32_t const groups = 32;
    for (char const* name : {"groups", static_cast<char const*>(nullptr)}) {
        std::string const got = name != nullptr ? name : "without a name";
        CHECK(refuses("got an attribute " + got + "; wanted num_groups\n", [&] {
            return create(creator, {{name, &groups, PluginFieldType::kINT32, 1}}) != nullptr;
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

void check_shapes(IPluginCreatorV3One& creator) {
    auto plugin = make(creator, 32);
    for (int64_t channels : {128, 256, 512, 2048}) {
        CHECK(accepted(*plugin, with_channels(channels)));
    }
    struct {
        char const* why;
        Shapes shapes;
    } const refused[] = {
        {"x is (2, 30, 40, 384); wanted (B, H, W, C) with C / G of 4 or a multiple of 8, at most "
         "2048, where B=2 H=30 W=40 C=384 G=32\n",
         with_channels(384)}, // 12 of a group
        {"x is (2, 30, 40, 64)", with_channels(64)},
        {"x is (2, 30, 40, 260)", with_channels(260)},
        {"x is (2, 30, 40, 4096)", with_channels(4096)},
        {"x has rank 3; wanted (B, H, W, C)", with(0, {3, {2, 1200, 256}})},
        {"weight is (128); wanted (C)", with(1, {1, {128}})},
        {"bias is (32); wanted (C)", with(2, {1, {32}})},
        {"output is (2, 30, 20, 256); wanted (B, H, W, C)", with(3, {4, {2, 30, 20, 256}})},
    };
    for (auto const& [why, shapes] : refused) {
        CHECK(refuses(why, [&, &shapes = shapes] { return accepted(*plugin, shapes); }));
    }
    // Three groups of four channels are no whole vectors.
    CHECK(refuses("x is (2, 30, 40, 12)",
                  [&] { return accepted(*make(creator, 3), with_channels(12)); }));
    Shapes unknown = kGood;
    unknown[0].d[0] = unknown[3].d[0] = -1;
    CHECK(accepted(*plugin, unknown));
}

// Enough for the largest batch, be it known or bounded.
void check_workspace(IPluginV3OneBuild& plugin) {
    auto const bytes = [&](int64_t batch, int64_t most) {
        DynamicPluginTensorDesc all[kTensors]{};
        for (int i = 0; i < kTensors; ++i) {
            all[i].desc.dims = all[i].min = all[i].max = kGood[i];
        }
        all[0].desc.dims.d[0] = batch;
        all[0].max.d[0] = most;
        return plugin.getWorkspaceSize(all, 3, all + 3, 1);
    };
    size_t const of_one = bytes(1, 1);
    CHECK(of_one >= 32 * 128 * 2 * sizeof(float)); // mean and squares of a group of every chunk
    CHECK(bytes(-1, 8) == 8 * of_one && bytes(4, 4) == 4 * of_one && bytes(4, 1) == 4 * of_one);
}

// The kernel's launcher refuses these channels, so nothing reaches a GPU, be there one or not.
void check_launch(IPluginV3& plugin) {
    PluginTensorDesc all[kTensors]{};
    for (int i = 0; i < kTensors; ++i) {
        all[i].dims = with_channels(384)[i];
        all[i].type = DataType::kHALF;
    }
    void* pointers[kTensors]{};
    CHECK(refuses("the kernel could not be launched: invalid argument", [&] {
        return runtime(plugin).enqueue(all, all + 3, pointers, pointers, nullptr, nullptr) == 0;
    }));
}

} // namespace

void check_group_norm(IPluginCreatorV3One& creator) {
    check_creation(creator);
    auto plugin = make(creator, 32);
    check_formats(build(*plugin));
    check_shapes(creator);
    check_workspace(build(*plugin));
    check_launch(*plugin);
}
