// As plugin_check.cpp, of what window attention does otherwise than the sampling.
#include "plugin_calls.h"

using namespace plugin_calls;

namespace {

constexpr int kTensors = 4;
using Shapes = std::vector<Dims>;

// Inputs, then the output: batch 2, a map of 30 x 40, 6 heads, windows of 12.
Shapes const kGood{{4, {2, 30, 40, 576}}, {1, {576}}, {3, {6, 144, 144}}, {4, {2, 30, 40, 192}}};

template <typename Call> bool refuses(std::string const& why, Call const& call) {
    return plugin_calls::refuses("CoDetrWindowAttention", why, call);
}

std::unique_ptr<IPluginV3> make(IPluginCreatorV3One& creator, int32_t window, int32_t shift,
                                int32_t add_bias = 0) {
    return create(creator, {{"add_bias", &add_bias, PluginFieldType::kINT32, 1},
                            {"shift", &shift, PluginFieldType::kINT32, 1},
                            {"window_size", &window, PluginFieldType::kINT32, 1}});
}

Shapes with(int tensor, Dims dims) {
    Shapes shapes = kGood;
    shapes[tensor] = dims;
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
    CHECK(std::strcmp(creator.getPluginName(), "CoDetrWindowAttention") == 0);
    auto plugin = make(creator, 12, 0, 1);
    CHECK(plugin != nullptr && make(creator, 12, 6) != nullptr);
    PluginFieldCollection const& fields = *runtime(*plugin).getFieldsToSerialize();
    CHECK(fields.nbFields == 3 && std::strcmp(fields.fields[2].name, "add_bias") == 0);
    CHECK(*static_cast<int32_t const*>(fields.fields[2].data) == 1);
    CHECK(std::strcmp(build(*plugin).getTimingCacheID(), "12,0,1") == 0);
    int32_t const twelve = 12;
    PluginField const window{"window_size", &twelve, PluginFieldType::kINT32, 1};
    PluginField const wrong{"size", &twelve, PluginFieldType::kINT32, 1};
    CHECK(refuses("got an attribute size; wanted window_size, shift and add_bias\n",
                  [&] { return create(creator, {window, wrong}) != nullptr; }));
    CHECK(refuses("attribute shift is missing\n",
                  [&] { return create(creator, {window}) != nullptr; }));
    CHECK(std::strcmp(fields.fields[0].name, "window_size") == 0);
    CHECK(*static_cast<int32_t const*>(fields.fields[0].data) == 12);
    CHECK(*static_cast<int32_t const*>(fields.fields[1].data) == 0);
    CHECK(refuses("attribute shift is -1; wanted 0 or more",
                  [&] { return make(creator, 12, -1) != nullptr; }));
    CHECK(refuses("attribute window_size is 0; wanted a positive number",
                  [&] { return make(creator, 0, 0) != nullptr; }));
    CHECK(refuses("attribute add_bias is 2; wanted 0 to 1",
                  [&] { return make(creator, 12, 0, 2) != nullptr; }));
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
            CHECK(!fits || all[i].desc.type == all[0].desc.type);
        }
        count += fits;
    }
    CHECK(count == 2); // all of one half precision
}

void check_shapes(IPluginV3& plugin) {
    CHECK(accepted(plugin, kGood));
    struct {
        char const* why;
        Shapes shapes;
    } const refused[] = {
        {"qkv is (2, 30, 40, 575); wanted (B, H, W, 3C), where B=2 H=30 W=40 M=6 N=144\n",
         with(0, {4, {2, 30, 40, 575}})},
        {"qkv has rank 3; wanted (B, H, W, 3C)", with(0, {3, {2, 1200, 576}})},
        {"padding is (192); wanted (3C)", with(1, {1, {192}})},
        {"bias is (6, 49, 49); wanted (M, N, N)", with(2, {3, {6, 49, 49}})},
        {"bias is (8, 144, 144)", with(2, {3, {8, 144, 144}})},
        {"output is (2, 30, 40, 576); wanted (B, H, W, C)", with(3, {4, {2, 30, 40, 576}})},
        {"output is (2, 36, 40, 192)", with(3, {4, {2, 36, 40, 192}})},
    };
    for (auto const& [why, shapes] : refused) {
        CHECK(refuses(why, [&, &shapes = shapes] { return accepted(plugin, shapes); }));
    }
    Shapes unknown = kGood;
    unknown[0].d[0] = unknown[3].d[0] = -1;
    CHECK(accepted(plugin, unknown));
}

// The kernel's launcher refuses these windows, so nothing reaches a GPU, be there one or not.
void check_launch(IPluginCreatorV3One& creator) {
    auto plugin = make(creator, 5, 0);
    PluginTensorDesc all[kTensors]{};
    for (int i = 0; i < kTensors; ++i) {
        all[i].dims = with(2, {3, {6, 25, 25}})[i];
        all[i].type = DataType::kHALF;
    }
    void* pointers[kTensors]{};
    CHECK(refuses("the kernel could not be launched: invalid argument", [&] {
        return runtime(*plugin).enqueue(all, all + 3, pointers, pointers, nullptr, nullptr) == 0;
    }));
}

} // namespace

void check_window_attention(IPluginCreatorV3One& creator) {
    check_creation(creator);
    auto plugin = make(creator, 12, 6);
    check_formats(build(*plugin));
    check_shapes(*plugin);
    check_launch(creator);
}
