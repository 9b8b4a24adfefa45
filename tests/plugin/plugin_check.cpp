// Calls the plugin as TensorRT does, without TensorRT and without a GPU:
//     codetr_plugin_check path/to/libcodetr_plugin.so
// prints what is wrong; the exit code is the number of wrong things.
#include "plugin_calls.h"

#include <dlfcn.h>
#include <initializer_list>

using namespace plugin_calls;

int failures = 0;

void check_window_attention(IPluginCreatorV3One& creator); // window_plugin_check.cpp
void check_group_norm(IPluginCreatorV3One& creator);       // norm_plugin_check.cpp
void check_linear(IPluginCreatorV3One& creator);           // linear_plugin_check.cpp
void check_linear_add(IPluginCreatorV3One& creator);       // the same
void check_layer_norm(IPluginCreatorV3One& creator);       // layer_norm_plugin_check.cpp
void check_kinds(IPluginCreatorInterface* const* creators); // kinds_plugin_check.cpp

namespace {

// Whether `call` returns false and says why.
template <typename Call> bool refuses(std::string const& why, Call const& call) {
    return plugin_calls::refuses("CoDetrMSDeformAttn", why, call);
}

constexpr int kTensors = 6;
int32_t const kEight = 8;
int32_t const kFour = 4;
PluginField const kHeads{"num_heads", &kEight, PluginFieldType::kINT32, 1};
PluginField const kPoints{"num_points", &kFour, PluginFieldType::kINT32, 1};

void check_creation(IPluginCreatorV3One& creator) {
    CHECK(std::strcmp(creator.getPluginName(), "CoDetrMSDeformAttn") == 0);
    CHECK(std::strcmp(creator.getPluginVersion(), "1") == 0);
    CHECK(std::strcmp(creator.getPluginNamespace(), "") == 0);
    CHECK(creator.getFieldNames()->nbFields == 2);
    CHECK(create(creator, {kHeads, kPoints}) != nullptr);
    CHECK(create(creator, {kPoints, kHeads}) != nullptr);

    int32_t const zero = 0;
    int32_t const negative = -8;
    float const real = 8.0F;
    int64_t const wide = 8;
    struct {
        char const* why;
        std::vector<PluginField> fields;
    } const refused[] = {
        {"attribute num_heads is missing", {}},
        {"attribute num_heads is missing", {kPoints}},
        {"attribute num_points is missing", {kHeads}},
        {"attribute num_heads is given twice", {kHeads, kHeads}},
        {"attribute num_points is given twice", {kHeads, kPoints, kPoints}},
        {"got an attribute num_head; wanted num_heads and num_points",
         {{"num_head", &kEight, PluginFieldType::kINT32, 1}, kPoints}},
        {"got an attribute without a name; wanted num_heads and num_points",
         {{nullptr, &kEight, PluginFieldType::kINT32, 1}, kPoints}},
        {"attribute num_heads is float32; wanted int32",
         {{"num_heads", &real, PluginFieldType::kFLOAT32, 1}, kPoints}},
        {"attribute num_points is int64; wanted int32",
         {kHeads, {"num_points", &wide, PluginFieldType::kINT64, 1}}},
        {"attribute num_heads has 2 values; wanted one",
         {{"num_heads", &kEight, PluginFieldType::kINT32, 2}, kPoints}},
        {"attribute num_heads has 0 values; wanted one",
         {{"num_heads", &kEight, PluginFieldType::kINT32, 0}, kPoints}},
        {"attribute num_heads has 0 values; wanted one",
         {{"num_heads", nullptr, PluginFieldType::kINT32, 1}, kPoints}},
        {"attribute num_heads is 0; wanted a positive number",
         {{"num_heads", &zero, PluginFieldType::kINT32, 1}, kPoints}},
        {"attribute num_points is -8; wanted a positive number",
         {kHeads, {"num_points", &negative, PluginFieldType::kINT32, 1}}},
    };
    for (auto const& [why, fields] : refused) {
        CHECK(refuses(why, [&, &fields = fields] { return create(creator, fields) != nullptr; }));
    }
    CHECK(refuses("attribute num_heads is missing", [&] {
        return creator.createPlugin("node", nullptr, TensorRTPhase::kBUILD) != nullptr;
    }));
    PluginFieldCollection const none{};
    for (char const* name : {static_cast<char const*>(nullptr), ""}) {
        CHECK(said([&] { creator.createPlugin(name, &none, TensorRTPhase::kRUNTIME); })
              == "CoDetrMSDeformAttn: attribute num_heads is missing\n");
    }
}

bool same_fields(PluginFieldCollection const& a, PluginFieldCollection const& b) {
    if (a.nbFields != b.nbFields) {
        return false;
    }
    for (int i = 0; i < a.nbFields; ++i) {
        PluginField const &x = a.fields[i], &y = b.fields[i];
        if (std::strcmp(x.name, y.name) != 0 || x.type != y.type || x.length != y.length
            || x.data == y.data || std::memcmp(x.data, y.data, sizeof(int32_t)) != 0) {
            return false; // each plugin owns its fields
        }
    }
    return true;
}

void check_serialization(IPluginCreatorV3One& creator) {
    auto plugin = create(creator, {kPoints, kHeads});
    PluginFieldCollection const& fields = *runtime(*plugin).getFieldsToSerialize();
    std::vector<PluginField> const stored(fields.fields, fields.fields + fields.nbFields);
    auto loaded = create(creator, stored, TensorRTPhase::kRUNTIME);
    auto clone = std::unique_ptr<IPluginV3>(loaded->clone());
    auto attached = std::unique_ptr<IPluginV3>(runtime(*clone).attachToContext(nullptr));
    loaded.reset();
    clone.reset();
    CHECK(same_fields(*runtime(*attached).getFieldsToSerialize(), fields));
    CHECK(*static_cast<int32_t const*>(fields.fields[0].data) == 8);
    CHECK(*static_cast<int32_t const*>(fields.fields[1].data) == 4);

    auto other = create(creator, {kHeads, {"num_points", &kEight, PluginFieldType::kINT32, 1}});
    CHECK(std::strcmp(build(*plugin).getTimingCacheID(), build(*attached).getTimingCacheID()) == 0);
    CHECK(std::strcmp(build(*plugin).getTimingCacheID(), build(*other).getTimingCacheID()) != 0);
}

bool supported(IPluginV3OneBuild& plugin, DynamicPluginTensorDesc const* all) {
    for (int position = 0; position < kTensors; ++position) {
        if (!plugin.supportsFormatCombination(position, all, 5, 1)) {
            return false;
        }
    }
    return true;
}

void check_formats(IPluginV3OneBuild& plugin) {
    constexpr int kTypes = 10; // of nvinfer1::DataType, from 0
    int count = 0;
    for (int combination = 0; combination < 1000000; ++combination) {
        DynamicPluginTensorDesc all[kTensors]{};
        for (int i = 0, rest = combination; i < kTensors; ++i, rest /= kTypes) {
            all[i].desc.type = static_cast<DataType>(rest % kTypes);
            all[i].desc.format = TensorFormat::kLINEAR;
        }
        if (!supported(plugin, all)) {
            continue;
        }
        ++count;
        DataType const type = all[0].desc.type;
        CHECK(type == DataType::kFLOAT || type == DataType::kHALF || type == DataType::kBF16);
        CHECK(all[1].desc.type == type && all[5].desc.type == type);
        CHECK(all[2].desc.type == DataType::kFLOAT);
        CHECK(all[3].desc.type == DataType::kINT32 && all[4].desc.type == DataType::kINT32);
        for (auto& tensor : all) {
            tensor.desc.format = TensorFormat::kHWC8;
            CHECK(!supported(plugin, all));
            tensor.desc.format = TensorFormat::kLINEAR;
        }
        CHECK(!plugin.supportsFormatCombination(0, all, 4, 1));
        CHECK(!plugin.supportsFormatCombination(6, all, 5, 1));
        CHECK(!plugin.supportsFormatCombination(-1, all, 5, 1));
    }
    CHECK(count == 3);
}

using Shapes = std::vector<Dims>;

// Inputs, then the output: batch 2, 85 tokens of 3 levels, 7 queries.
Shapes const kGood{
    {3, {2, 85, 256}}, {3, {2, 7, 288}}, {3, {2, 7, 4}}, {2, {3, 2}}, {3, {2, 3, 2}}, {3, {2, 7, 256}}};

Shapes with(int tensor, Dims dims) {
    Shapes shapes = kGood;
    shapes[tensor] = dims;
    return shapes;
}

bool accepted_at_run(IPluginV3& plugin, Shapes const& shapes) {
    PluginTensorDesc all[kTensors]{};
    for (int i = 0; i < kTensors; ++i) {
        all[i].dims = shapes[i];
    }
    return runtime(plugin).onShapeChange(all, 5, all + 5, 1) == 0;
}

bool accepted_at_build(IPluginV3& plugin, Shapes const& shapes) {
    DynamicPluginTensorDesc all[kTensors]{};
    for (int i = 0; i < kTensors; ++i) {
        all[i].desc.dims = shapes[i];
    }
    return build(plugin).configurePlugin(all, 5, all + 5, 1) == 0;
}

void check_shapes(IPluginV3& plugin) {
    for (Shapes const& shapes :
         {kGood, with(2, {3, {1, 7, 4}}), with(2, {3, {2, 7, 2}}), with(4, {3, {1, 3, 2}})}) {
        CHECK(accepted_at_run(plugin, shapes));
        CHECK(accepted_at_build(plugin, shapes));
    }
    struct {
        char const* why;
        Shapes shapes;
    } const refused[] = {
        {"value has rank 4; wanted (B, S, C)", with(0, {4, {2, 85, 8, 32}})},
        {"sampling is (2, 7, 288); wanted (B, Q, M*L*P*3), where B=1 C=256 Q=7 M=8 L=3 P=4\n",
         with(0, {3, {1, 85, 256}})},
        {"value is (2, 85, 252); wanted (B, S, C) with C a multiple of M, where B=2 C=252 Q=7 M=8",
         with(0, {3, {2, 85, 252}})},
        {"value is (2, 2147483648, 256); wanted sizes from 0 to 2^31 - 1",
         with(0, {3, {2, int64_t{1} << 31, 256}})},
        {"sampling is (1, 7, 288)", with(1, {3, {1, 7, 288}})},
        {"reference is (2, 7, 4)", with(1, {3, {2, 8, 288}})},
        {"sampling is (2, 7, 287)", with(1, {3, {2, 7, 287}})},
        {"reference is (3, 7, 4)", with(2, {3, {3, 7, 4}})},
        {"reference is (2, 8, 4)", with(2, {3, {2, 8, 4}})},
        {"reference is (2, 7, 3); wanted (B or 1, Q, 2 or 4)", with(2, {3, {2, 7, 3}})},
        {"sampling is (2, 7, 288)", with(3, {2, {4, 2}})},
        {"level_sizes is (3, 3); wanted (L, 2)", with(3, {2, {3, 3}})},
        {"level_sizes has rank 1; wanted (L, 2)", with(3, {1, {3}})},
        {"valid_sizes is (3, 3, 2)", with(4, {3, {3, 3, 2}})},
        {"valid_sizes is (2, 4, 2); wanted (B or 1, L, 2)", with(4, {3, {2, 4, 2}})},
        {"valid_sizes is (2, 3, 1)", with(4, {3, {2, 3, 1}})},
        {"output is (2, 7, 128); wanted (B, Q, C)", with(5, {3, {2, 7, 128}})},
        {"output is (2, 8, 256)", with(5, {3, {2, 8, 256}})},
        {"output is (1, 7, 256)", with(5, {3, {1, 7, 256}})},
    };
    for (auto const& [why, shapes] : refused) {
        CHECK(refuses(why, [&, &shapes = shapes] { return accepted_at_run(plugin, shapes); }));
        CHECK(refuses(why, [&, &shapes = shapes] { return accepted_at_build(plugin, shapes); }));
    }
    Shapes unknown = kGood;
    for (Dims& dims : unknown) {
        dims.d[0] = dims.d[1] = -1;
    }
    CHECK(accepted_at_build(plugin, unknown));
    PluginTensorDesc none[kTensors]{};
    CHECK(refuses("got 4 inputs and 1 outputs; wanted 5 and 1",
                  [&] { return runtime(plugin).onShapeChange(none, 4, none, 1) == 0; }));
    CHECK(refuses("got 5 inputs and 2 outputs; wanted 5 and 1",
                  [&] { return runtime(plugin).onShapeChange(none, 5, none, 2) == 0; }));
}

class NoExpressions final : public IExprBuilder {};

void check_output(IPluginV3OneBuild& plugin) {
    DataType types[] = {DataType::kHALF, DataType::kHALF, DataType::kFLOAT, DataType::kINT32,
                        DataType::kINT32};
    DataType type{};
    auto const ask_type = [&] { CHECK(plugin.getOutputDataTypes(&type, 1, types, 5) == 0); };
    CHECK(said(ask_type).empty() && type == DataType::kHALF);
    types[1] = DataType::kFLOAT;
    types[4] = DataType::kINT64;
    CHECK(said(ask_type)
          == "CoDetrMSDeformAttn 'node': sampling is float32; wanted the type of value\n"
             "CoDetrMSDeformAttn 'node': valid_sizes is int64; wanted int32\n");
    CHECK(refuses("got 4 inputs",
                  [&] { return plugin.getOutputDataTypes(&type, 1, types, 4) == 0; }));

    DimsExprs in[5]{}; // the expressions are only passed on, so none has to be there
    for (int i = 0; i < 5; ++i) {
        in[i].nbDims = kGood[i].nbDims;
    }
    DimsExprs out{};
    NoExpressions builder;
    auto const ask_shape = [&] {
        return plugin.getOutputShapes(in, 5, nullptr, 0, &out, 1, builder) == 0;
    };
    CHECK(ask_shape() && out.nbDims == 3);
    in[3].nbDims = 1;
    CHECK(refuses("level_sizes has rank 1; wanted (L, 2)", ask_shape));
}

// The kernel's launcher refuses these sizes, so nothing reaches a GPU, be there one or not.
void check_launch(IPluginV3& plugin) {
    for (Dims const& value : {Dims{3, {2, 85, 252}}, Dims{3, {2, (1 << 24) + 1, 256}}}) {
        PluginTensorDesc all[kTensors]{};
        for (int i = 0; i < kTensors; ++i) {
            all[i].dims = with(0, value)[i];
        }
        void* pointers[kTensors]{};
        auto const launch = [&] {
            return runtime(plugin).enqueue(all, all + 5, pointers, pointers, nullptr, nullptr) == 0;
        };
        CHECK(refuses("the kernel could not be launched: invalid argument (cudaErrorInvalidValue)",
                      launch));
    }
}

} // namespace

int main(int count, char** arguments) {
    void* library = count == 2 ? dlopen(arguments[1], RTLD_NOW | RTLD_LOCAL) : nullptr;
    if (library == nullptr) {
        std::printf("%s\n", count == 2 ? dlerror() : "give one library");
        return 1;
    }
    using GetCreators = IPluginCreatorInterface* const*(int32_t&);
    auto* get_creators = reinterpret_cast<GetCreators*>(dlsym(library, "getCreators"));
    int32_t creators = 0;
    auto& creator = *static_cast<IPluginCreatorV3One*>(get_creators(creators)[0]);
    CHECK(creators == 14);
    CHECK(std::strcmp(creator.getInterfaceInfo().kind, "PLUGIN CREATOR_V3ONE") == 0);
    check_creation(creator);
    check_serialization(creator);
    auto plugin = create(creator, {kHeads, kPoints});
    check_formats(build(*plugin));
    check_shapes(*plugin);
    check_output(build(*plugin));
    check_launch(*plugin);
    check_window_attention(*static_cast<IPluginCreatorV3One*>(get_creators(creators)[1]));
    check_group_norm(*static_cast<IPluginCreatorV3One*>(get_creators(creators)[2]));
    check_linear(*static_cast<IPluginCreatorV3One*>(get_creators(creators)[3]));
    check_linear_add(*static_cast<IPluginCreatorV3One*>(get_creators(creators)[4]));
    check_layer_norm(*static_cast<IPluginCreatorV3One*>(get_creators(creators)[5]));
    check_kinds(get_creators(creators) + 6);
    return failures;
}
