// What TensorRT asks while it builds: types and formats, and type and shape of the output.
#include "hostile.h"

#include <algorithm>
#include <deque>

namespace hostile {

namespace {

// All there are, and some that there are not.
template <typename Enum> std::vector<Enum> all_of() {
    std::vector<Enum> all;
    for (int32_t i = 0; i < EnumMax<Enum>(); ++i) {
        all.push_back(static_cast<Enum>(i));
    }
    for (int32_t const wrong : {kMin32, -1, EnumMax<Enum>(), kMax32}) {
        all.push_back(static_cast<Enum>(wrong));
    }
    return all;
}
std::vector<DataType> const kTypes = all_of<DataType>();
std::vector<TensorFormat> const kFormats = all_of<TensorFormat>();

using Tensors = std::vector<DynamicPluginTensorDesc>;

// It answers without a word.
bool supports(IPluginV3OneBuild& plugin, int32_t position, DynamicPluginTensorDesc const* all,
              int32_t inputs, int32_t outputs) {
    ++calls;
    ear.forget();
    bool const supported = plugin.supportsFormatCombination(position, all, inputs, outputs);
    CHECK(ear.heard().empty());
    return supported;
}

// Every pair of own and first tensor, of all types and formats; how many are taken.
int64_t check_pairs(IPluginV3OneBuild& plugin, Case const& of, int32_t position, Tensors& all) {
    int64_t taken = 0;
    PluginTensorDesc& first = all[0].desc;
    PluginTensorDesc& own = all[position].desc;
    for (DataType const first_type : kTypes) {
        for (TensorFormat const first_format : kFormats) {
            first.type = first_type, first.format = first_format;
            // The first tensor is its own first.
            for (DataType const type : position == 0 ? std::vector{first_type} : kTypes) {
                for (TensorFormat const format :
                     position == 0 ? std::vector{first_format} : kFormats) {
                    own.type = type, own.format = format;
                    bool const fits = format == TensorFormat::kLINEAR
                                      && of.type_fits(position, type, first_type);
                    CHECK(supports(plugin, position, all.data(), of.inputs(), of.outputs) == fits);
                    taken += fits;
                }
            }
        }
    }
    return taken;
}

void check_no_combination(IPluginV3OneBuild& plugin, Case const& of, Tensors const& all) {
    for (int32_t const position : kCounts) {
        for (int32_t const inputs : kCounts) {
            for (int32_t const outputs : kCounts) {
                CHECK(!supports(plugin, position, nullptr, inputs, outputs));
                bool const right = inputs == of.inputs() && outputs == of.outputs;
                bool const there = position >= 0 && position < of.tensors();
                if (!right || !there) {
                    CHECK(!supports(plugin, position, all.data(), inputs, outputs));
                }
            }
        }
    }
}

// Types are taken whatever they are, since TensorRT refuses them by itself; wrong ones are named.
void check_types(IPluginV3OneBuild& plugin, Case const& of) {
    std::vector<DataType> in(of.inputs());
    std::vector<DataType> out(of.outputs);
    for (DataType const first : kTypes) {
        for (DataType const type : kTypes) {
            for (int32_t tensor = 0; tensor < of.inputs(); ++tensor) {
                std::fill(in.begin(), in.end(), first);
                in[tensor] = type;
                ++calls;
                ear.forget();
                CHECK(plugin.getOutputDataTypes(out.data(), of.outputs, in.data(), of.inputs())
                      == 0);
                CHECK(out[0] == of.output_type(in[0]));
                CHECK(out.size() == 1 || out[1] == DataType::kFP8);
                int64_t wrong = 0;
                for (int32_t i = 0; i < of.inputs(); ++i) {
                    wrong += !of.type_fits(i, in[i], in[0]);
                }
                std::string const said = ear.heard();
                CHECK(std::count(said.begin(), said.end(), '\n') == wrong);
            }
        }
    }
    std::fill(in.begin(), in.end(), DataType::kHALF);
    for (int32_t const inputs : kCounts) {
        for (int32_t const outputs : kCounts) {
            auto const asked = [&](DataType* to, DataType const* from) {
                return accepts(of, [&] {
                    return plugin.getOutputDataTypes(to, outputs, from, inputs) == 0;
                });
            };
            if (inputs != of.inputs() || outputs != of.outputs) {
                CHECK(!asked(out.data(), in.data()));
            }
            CHECK(!asked(nullptr, in.data()));
            CHECK(!asked(out.data(), nullptr));
        }
    }
}

class Size final : public IDimensionExpr, public apiv::VDimensionExpr {
  public:
    explicit Size(int64_t value) : value_(value) { mImpl = this; }
    bool isConstant() const noexcept override { return value_ != -1; }
    int64_t getConstantValue() const noexcept override { return value_; }
    bool isSizeTensor() const noexcept override { return false; }

  private:
    int64_t const value_; // -1: not known
};

// Computes at once what TensorRT does when it knows the sizes.
class Builder final : public IExprBuilder, public apiv::VExprBuilder {
  public:
    Builder() { mImpl = this; }
    IDimensionExpr const* constant(int64_t value) noexcept override {
        return &sizes_.emplace_back(value);
    }
    IDimensionExpr const* operation(DimensionOperation operation, IDimensionExpr const& first,
                                    IDimensionExpr const& second) noexcept override {
        CHECK(operation == DimensionOperation::kFLOOR_DIV);
        bool const known = first.isConstant() && second.isConstant();
        return constant(known ? first.getConstantValue() / second.getConstantValue() : -1);
    }
    IDimensionExpr const* declareSizeTensor(int32_t, IDimensionExpr const&,
                                            IDimensionExpr const&) noexcept override {
        return nullptr;
    }

  private:
    std::deque<Size> sizes_; // stay where they are
};

std::vector<DimsExprs> expressions(Case const& of, Shapes const& shapes, Builder& builder) {
    std::vector<DimsExprs> all(of.inputs());
    for (size_t i = 0; i < all.size(); ++i) {
        all[i].nbDims = shapes[i].nbDims;
        for (int j = 0; j < shapes[i].nbDims && j < Dims::MAX_DIMS; ++j) {
            all[i].d[j] = builder.constant(shapes[i].d[j]);
        }
    }
    return all;
}

void check_output_sizes(IPluginV3OneBuild& plugin, Case const& of) {
    std::vector<DimsExprs> out(of.outputs);
    for_all_sizes(of, [&](Shapes const& shapes) {
        Builder builder;
        std::vector<DimsExprs> const in = expressions(of, shapes, builder);
        CHECK(accepts(of, [&] {
            return plugin.getOutputShapes(in.data(), of.inputs(), nullptr, 0, out.data(), of.outputs,
                                          builder)
                   == 0;
        }));
        Dims const wanted = of.output(shapes);
        for (DimsExprs const& each : out) {
            CHECK(each.nbDims == wanted.nbDims);
            for (int i = 0; i < wanted.nbDims; ++i) {
                CHECK(each.d[i]->getConstantValue() == wanted.d[i]);
            }
        }
    });
}

void check_output_ranks(IPluginV3OneBuild& plugin, Case const& of) {
    Builder builder;
    std::vector<DimsExprs> const good = expressions(of, of.shapes, builder);
    std::vector<DimsExprs> out(of.outputs);
    auto const asked = [&](DimsExprs const* in, int32_t inputs, DimsExprs* to, int32_t outputs) {
        return accepts(of, [&] {
            return plugin.getOutputShapes(in, inputs, nullptr, 0, to, outputs, builder) == 0;
        });
    };
    for (int32_t tensor = 0; tensor < of.inputs(); ++tensor) {
        std::vector<DimsExprs> in = good;
        for (int32_t const rank : kCounts) {
            in[tensor].nbDims = rank;
            CHECK(asked(in.data(), of.inputs(), out.data(), of.outputs) == of.rank_fits(tensor, rank));
        }
    }
    for (int32_t const inputs : kCounts) {
        for (int32_t const outputs : kCounts) {
            bool const right = inputs == of.inputs() && outputs == of.outputs;
            CHECK(asked(good.data(), inputs, out.data(), outputs) == right);
            CHECK(!asked(nullptr, inputs, out.data(), outputs));
            CHECK(!asked(good.data(), inputs, nullptr, outputs));
        }
    }
}

} // namespace

void check_formats(IPluginCreatorV3One& creator, Case const& of) {
    auto const plugin = make(creator, of, of.values());
    int64_t taken = 0;
    for (int32_t position = 0; position < of.tensors(); ++position) {
        Tensors all(of.shapes.size());
        taken += check_pairs(build(*plugin), of, position, all);
    }
    auto const pairs = static_cast<int64_t>(kTypes.size() * kFormats.size());
    CHECK(taken == (of.tensors() - 1) * pairs + of.first_types);
    check_no_combination(build(*plugin), of, Tensors(of.shapes.size()));
}

void check_outputs(IPluginCreatorV3One& creator, Case const& of) {
    auto const plugin = make(creator, of, of.values());
    check_types(build(*plugin), of);
    check_output_sizes(build(*plugin), of);
    check_output_ranks(build(*plugin), of);
}

} // namespace hostile
