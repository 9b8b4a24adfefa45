// As plugin_check.cpp, of what the plugins say that are others with fp8, a sum or merged neighbours.
#include "plugin_calls.h"

using namespace plugin_calls;

namespace {

using Shapes = std::vector<Dims>; // inputs, then the outputs
using Types = std::vector<DataType>;

constexpr DataType kFp8 = DataType::kFP8;
constexpr DataType kHalf = DataType::kHALF;
constexpr DataType kReal = DataType::kFLOAT;
constexpr Dims kOne{1, {1}};

class Kind {
  public:
    Kind(IPluginCreatorInterface* creator, char const* name, std::vector<PluginField> fields,
         Shapes shapes, Types types, int32_t outputs = 1)
        : name_(name), shapes_(shapes), types_(types), outputs_(outputs) {
        auto& own = *static_cast<IPluginCreatorV3One*>(creator);
        CHECK(std::strcmp(own.getPluginName(), name) == 0);
        plugin_ = create(own, fields);
        CHECK(configure(shapes));
        Types given(outputs);
        CHECK(plugin().getOutputDataTypes(given.data(), outputs, types.data(), inputs()) == 0);
        CHECK(given == Types(types.end() - outputs, types.end()));
    }

    // Of one shape that is wrong.
    void refuses_shape(int tensor, Dims const& dims, std::string const& why) {
        Shapes shapes = shapes_;
        shapes[tensor] = dims;
        CHECK(refuses(name_, why, [&] { return configure(shapes); }));
    }

    // Of one type that is wrong.
    void names_type(int tensor, DataType wrong, std::string const& why) {
        Types types = types_;
        types[tensor] = wrong;
        Types given(outputs_);
        CHECK(said([&] {
                  plugin().getOutputDataTypes(given.data(), outputs_, types.data(), inputs());
              })
              == std::string(name_) + " 'node': " + why + "\n");
    }

    // Of one pointer that is null. The others are of nothing that may be read.
    void refuses_null(int tensor) {
        std::vector<PluginTensorDesc> all(shapes_.size());
        for (size_t i = 0; i < all.size(); ++i) {
            all[i].dims = shapes_[i];
            all[i].type = types_[i];
        }
        void* place = reinterpret_cast<void*>(4096);
        std::vector<void const*> from(inputs(), place);
        std::vector<void*> to(outputs_, place);
        if (tensor < inputs()) {
            from[tensor] = nullptr;
        } else {
            to[tensor - inputs()] = nullptr;
        }
        CHECK(refuses(name_,
                      "the kernel could not be launched: invalid argument (cudaErrorInvalidValue)",
                      [&] {
                          return runtime(*plugin_).enqueue(all.data(), &all[inputs()], from.data(),
                                                           to.data(), place, nullptr)
                                 == 0;
                      }));
    }

  private:
    int32_t inputs() const { return static_cast<int32_t>(shapes_.size()) - outputs_; }
    IPluginV3OneBuild& plugin() { return build(*plugin_); }

    bool configure(Shapes const& shapes) {
        std::vector<DynamicPluginTensorDesc> all(shapes.size());
        for (size_t i = 0; i < all.size(); ++i) {
            all[i].desc.dims = shapes[i];
        }
        return plugin().configurePlugin(all.data(), inputs(), &all[inputs()], outputs_) == 0;
    }

    char const* const name_;
    Shapes const shapes_;
    Types const types_;
    int32_t const outputs_;
    std::unique_ptr<IPluginV3> plugin_;
};

void check_linear(IPluginCreatorInterface* const* creators) {
    int32_t const gelu = 1;
    PluginField const activation{"activation", &gelu, PluginFieldType::kINT32, 1};
    Dims const x{4, {2, 30, 40, 192}}, weight{2, {768, 192}}, bias{1, {768}};
    Dims const sums{4, {2, 30, 40, 768}};

    Kind alone(creators[0], "CoDetrLinearFp8", {activation}, {x, weight, bias, kOne, kOne, sums},
               {kFp8, kFp8, kHalf, kReal, kReal, kHalf});
    alone.refuses_shape(0, {4, {2, 30, 40, 200}},
                        "x is (2, 30, 40, 200); wanted (B, H, W, K) or (B, S, K) with below 2^31 "
                        "rows and K a multiple of 16, where 2400 rows, K=192 N=768\n");
    alone.refuses_shape(1, {2, {760, 192}}, "weight is (760, 192)");
    alone.refuses_shape(3, {1, {2}}, "x_scale is (2); wanted (1)");
    alone.refuses_shape(4, {1, {768}}, "weight_scale is (768); wanted (1)");
    alone.refuses_shape(5, x, "output is (2, 30, 40, 192)");
    alone.names_type(0, kHalf, "x is float16; wanted fp8");
    alone.names_type(2, kFp8, "bias is fp8; wanted float16");
    alone.names_type(4, kHalf, "weight_scale is float16; wanted float32");
    alone.refuses_null(3);
    alone.refuses_null(4);

    Kind adding(creators[1], "CoDetrLinearAddFp8", {activation},
                {x, weight, bias, sums, kOne, kOne, sums},
                {kFp8, kFp8, kHalf, kHalf, kReal, kReal, kHalf});
    adding.refuses_shape(3, x, "residual is (2, 30, 40, 192); wanted as x, with N for K");
    adding.refuses_shape(5, {1, {0}}, "weight_scale is (0)");
    adding.names_type(3, kFp8, "residual is fp8; wanted float16");
    adding.refuses_null(3);

    Kind to_fp8(creators[2], "CoDetrLinearFp8ToFp8", {activation},
                {x, weight, bias, kOne, kOne, kOne, sums},
                {kFp8, kFp8, kHalf, kReal, kReal, kReal, kFp8});
    to_fp8.refuses_shape(5, {1, {2}}, "inverse_scale is (2); wanted (1)");
    to_fp8.refuses_null(5);
}

void check_norms(IPluginCreatorInterface* const* creators) {
    Dims const tokens{3, {2, 1200, 256}}, channels{1, {256}};
    Kind adding(creators[0], "CoDetrAddLayerNorm", {}, {tokens, channels, channels, tokens, tokens},
                {kHalf, kReal, kReal, kHalf, kHalf});
    adding.refuses_shape(3, {3, {2, 1200, 128}}, "added is (2, 1200, 128); wanted as x, where");
    adding.refuses_shape(3, {4, {2, 30, 40, 256}}, "added is (2, 30, 40, 256)");
    adding.refuses_shape(4, {3, {2, 600, 256}}, "output is (2, 600, 256); wanted as x");
    adding.names_type(3, kReal, "added is float32; wanted the type of x");
    adding.refuses_null(3);

    Dims const x{4, {2, 30, 40, 192}}, wide{1, {768}};
    Kind merging(creators[1], "CoDetrMergeLayerNorm", {}, {x, wide, wide, {4, {2, 15, 20, 768}}},
                 {kHalf, kReal, kReal, kHalf});
    merging.refuses_shape(0, {4, {2, 31, 40, 192}}, "x is (2, 31, 40, 192); wanted (B, H, W, C)");
    merging.refuses_shape(0, {4, {2, 30, 41, 192}}, "x is (2, 30, 41, 192)");
    merging.refuses_shape(0, {3, {2, 1200, 192}}, "x has rank 3");
    merging.refuses_shape(1, {1, {192}}, "weight is (192); wanted (4C)");
    merging.refuses_shape(3, {4, {2, 15, 40, 768}}, "output is (2, 15, 40, 768); wanted (B, H/2");
    merging.refuses_shape(3, {4, {2, 15, 20, 192}}, "output is (2, 15, 20, 192)");
    merging.refuses_null(0);

    Kind both(creators[2], "CoDetrLayerNormAndFp8", {},
              {tokens, channels, channels, kOne, tokens, tokens},
              {kHalf, kReal, kReal, kReal, kHalf, kFp8}, 2);
    both.refuses_shape(3, {1, {256}}, "inverse_scale is (256); wanted (1)");
    both.refuses_shape(4, {3, {2, 600, 256}}, "output is (2, 600, 256); wanted as x");
    both.refuses_shape(5, {3, {2, 600, 256}}, "quantised is (2, 600, 256); wanted as x");
    both.names_type(0, DataType::kBF16, "x is bfloat16; wanted float16");
    both.names_type(3, kHalf, "inverse_scale is float16; wanted float32");
    for (int tensor : {3, 4, 5}) {
        both.refuses_null(tensor);
    }
}

} // namespace

// Those that CoDetrWindowAttentionToFp8 begins.
void check_kinds(IPluginCreatorInterface* const* creators) {
    int32_t const window = 12, shift = 6, add_bias = 1;
    Kind windows(creators[0], "CoDetrWindowAttentionToFp8",
                 {{"window_size", &window, PluginFieldType::kINT32, 1},
                  {"shift", &shift, PluginFieldType::kINT32, 1},
                  {"add_bias", &add_bias, PluginFieldType::kINT32, 1}},
                 {{4, {2, 30, 40, 576}}, {1, {576}}, {3, {6, 144, 144}}, kOne,
                  {4, {2, 30, 40, 192}}},
                 {kHalf, kHalf, kHalf, kReal, kFp8});
    windows.refuses_shape(3, {1, {2}}, "inverse_scale is (2); wanted (1)");
    windows.refuses_shape(4, {4, {2, 30, 40, 576}}, "output is (2, 30, 40, 576)");
    windows.names_type(3, kHalf, "inverse_scale is float16; wanted float32");
    windows.refuses_null(3);

    Dims const x{4, {2, 30, 40, 192}}, channels{1, {192}};
    Kind rows(creators[1], "CoDetrLayerNormToFp8", {}, {x, channels, channels, x},
              {kHalf, kReal, kReal, kFp8});
    rows.refuses_shape(3, {4, {2, 30, 40, 96}}, "output is (2, 30, 40, 96)");
    rows.names_type(1, kHalf, "weight is float16; wanted float32");
    rows.refuses_null(2);

    check_linear(creators + 2);
    check_norms(creators + 5);
}
