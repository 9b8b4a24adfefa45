// As plugin_check.cpp, of what linear layers do otherwise than the sampling.
#include "plugin_calls.h"

using namespace plugin_calls;

namespace {

constexpr int kTensors = 4;
using Shapes = std::vector<Dims>;

// Inputs, then the output: batch 2, a map of 30 x 40, 192 channels to 768.
Shapes const kGood{{4, {2, 30, 40, 192}}, {2, {768, 192}}, {1, {768}}, {4, {2, 30, 40, 768}}};

template <typename Call> bool refuses(std::string const& why, Call const& call) {
    return plugin_calls::refuses("CoDetrLinear", why, call);
}

std::unique_ptr<IPluginV3> make(IPluginCreatorV3One& creator, int32_t activation) {
    return create(creator, {{"activation", &activation, PluginFieldType::kINT32, 1}});
}

Shapes with(int tensor, Dims dims) {
    Shapes shapes = kGood;
    shapes[tensor] = dims;
    return shapes;
}

// At build: at run time it would look for cuBLASLt and a GPU too.
bool accepted(IPluginV3& plugin, Shapes const& shapes) {
    DynamicPluginTensorDesc all[kTensors]{};
    for (int i = 0; i < kTensors; ++i) {
        all[i].desc.dims = shapes[i];
    }
    return build(plugin).configurePlugin(all, 3, all + 3, 1) == 0;
}

void check_creation(IPluginCreatorV3One& creator) {
    CHECK(std::strcmp(creator.getPluginName(), "CoDetrLinear") == 0);
    for (int32_t activation : {0, 1, 2}) {
        CHECK(make(creator, activation) != nullptr);
    }
    for (int32_t other : {-1, 3}) {
        std::string const why =
            "attribute activation is " + std::to_string(other) + "; wanted 0 to 2\n";
        CHECK(refuses(why, [&] { return make(creator, other) != nullptr; }));
    }
    auto plain = make(creator, 0);
    auto with_gelu = make(creator, 1);
    CHECK(std::strcmp(build(*plain).getTimingCacheID(), build(*with_gelu).getTimingCacheID()) != 0);
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
        {"x is (2, 30, 40, 196); wanted (B, H, W, K) or (B, S, K) with below 2^31 rows and K a "
         "multiple of 8, where 2400 rows, K=192 N=768\n",
         with(0, {4, {2, 30, 40, 196}})},
        {"x is (2, 32768, 32768, 192)", with(0, {4, {2, 1 << 15, 1 << 15, 192}})},
        {"x has rank 2; wanted (B, H, W, K)", with(0, {2, {2400, 192}})},
        {"weight is (192, 768); wanted (N, K)", with(1, {2, {192, 768}})},
        {"weight is (764, 192)", with(1, {2, {764, 192}})},
        {"bias is (192); wanted (N)", with(2, {1, {192}})},
        {"output is (2, 30, 40, 192); wanted as x, with N for K", with(3, {4, {2, 30, 40, 192}})},
        {"output is (2, 30, 20, 768)", with(3, {4, {2, 30, 20, 768}})},
        {"output is (2, 1200, 768)", with(3, {3, {2, 1200, 768}})},
    };
    for (auto const& [why, shapes] : refused) {
        CHECK(refuses(why, [&, &shapes = shapes] { return accepted(plugin, shapes); }));
    }
    Shapes unknown = kGood;
    unknown[0].d[0] = unknown[3].d[0] = -1;
    CHECK(accepted(plugin, unknown));
    Shapes const tokens = {{{3, {2, 1200, 192}}, kGood[1], kGood[2], {3, {2, 1200, 768}}}};
    CHECK(accepted(plugin, tokens));
}

void check_output(IPluginV3OneBuild& plugin) {
    class NoExpressions final : public IExprBuilder {} builder;
    // Only passed on, so places do for expressions.
    IDimensionExpr const* places[8];
    DimsExprs in[3]{};
    for (int i = 0; i < 3; ++i) {
        in[i].nbDims = kGood[i].nbDims;
    }
    in[0].d[2] = reinterpret_cast<IDimensionExpr const*>(&places[0]);
    in[1].d[0] = reinterpret_cast<IDimensionExpr const*>(&places[1]);
    DimsExprs out{};
    CHECK(plugin.getOutputShapes(in, 3, nullptr, 0, &out, 1, builder) == 0);
    CHECK(out.nbDims == 4 && out.d[2] == in[0].d[2] && out.d[3] == in[1].d[0]);
}

void check_workspace(IPluginV3OneBuild& plugin) {
    DynamicPluginTensorDesc all[kTensors]{};
    for (int i = 0; i < kTensors; ++i) {
        all[i].desc.dims = kGood[i];
    }
    CHECK(plugin.getWorkspaceSize(all, 3, all + 3, 1) == size_t{32} << 20);
}

// Null pointers are refused before cuBLASLt is asked for.
void check_launch(IPluginV3& plugin) {
    PluginTensorDesc all[kTensors]{};
    for (int i = 0; i < kTensors; ++i) {
        all[i].dims = kGood[i];
        all[i].type = DataType::kHALF;
    }
    void* pointers[kTensors]{};
    CHECK(refuses("the kernel could not be launched: ", [&] {
        return runtime(plugin).enqueue(all, all + 3, pointers, pointers, nullptr, nullptr) == 0;
    }));
}

} // namespace

void check_linear(IPluginCreatorV3One& creator) {
    check_creation(creator);
    auto plugin = make(creator, 1);
    check_formats(build(*plugin));
    check_shapes(*plugin);
    check_output(build(*plugin));
    check_workspace(build(*plugin));
    check_launch(*plugin);
}

// With the residual between the bias and the output.
void check_linear_add(IPluginCreatorV3One& creator) {
    CHECK(std::strcmp(creator.getPluginName(), "CoDetrLinearAdd") == 0);
    auto plugin = make(creator, 0);
    auto const configure = [&plugin](Dims const& residual, int32_t inputs) {
        DynamicPluginTensorDesc all[kTensors + 1]{};
        for (int i = 0; i < 3; ++i) {
            all[i].desc.dims = kGood[i];
        }
        all[3].desc.dims = residual;
        all[4].desc.dims = kGood[3];
        return build(*plugin).configurePlugin(all, inputs, all + inputs, 1) == 0;
    };
    auto const is_refused = [&configure](std::string const& why, Dims const& residual, int inputs) {
        return plugin_calls::refuses("CoDetrLinearAdd", why,
                                     [&] { return configure(residual, inputs); });
    };
    CHECK(configure(kGood[3], 4));
    CHECK(is_refused("got 3 inputs and 1 outputs; wanted 4 and 1", kGood[3], 3));
    CHECK(is_refused("residual is (2, 30, 40, 192); wanted as x, with N for K", kGood[0], 4));
    CHECK(is_refused("residual is (2, 1200, 768)", {3, {2, 1200, 768}}, 4));
    CHECK(is_refused("residual has rank 1", {1, {768}}, 4));
    // Only the residual is missing: with none to add, cuBLASLt would be asked.
    PluginTensorDesc all[kTensors + 1]{};
    for (int i = 0; i < kTensors + 1; ++i) {
        all[i].dims = kGood[i < 3 ? i : 3];
        all[i].type = DataType::kHALF;
    }
    void* const place = reinterpret_cast<void*>(4096);
    void const* const from[] = {place, place, place, nullptr};
    CHECK(plugin_calls::refuses("CoDetrLinearAdd", "the kernel could not be launched: ", [&] {
        return runtime(*plugin).enqueue(all, all + 4, from, &place, place, nullptr) == 0;
    }));
}
