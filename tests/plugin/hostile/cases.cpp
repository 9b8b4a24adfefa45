// What the operators take, in numbers that cannot overflow.
#include "hostile.h"

#include <algorithm>

namespace hostile {

namespace {

using Wide = __int128;

bool agree(Wide a, Wide b) { return a == b || a == -1 || b == -1; }

bool all_are_sizes(Shapes const& shapes) {
    for (Dims const& dims : shapes) {
        for (int i = 0; i < dims.nbDims; ++i) {
            if (dims.d[i] < -1 || dims.d[i] > kMax32) {
                return false;
            }
        }
    }
    return true;
}

bool sampling_fits(Shapes const& s, Values const& values) {
    Wide const heads = values[0], points = values[1];
    Wide const batch = s[0].d[0], channels = s[0].d[2], queries = s[1].d[1], levels = s[3].d[0];
    return all_are_sizes(s) && (channels == -1 || channels % heads == 0)
           && agree(s[1].d[0], batch)
           && (levels == -1 || agree(s[1].d[2], heads * levels * points * 3))
           && (s[2].d[0] == 1 || agree(s[2].d[0], batch)) && agree(s[2].d[1], queries)
           && (s[2].d[2] == -1 || s[2].d[2] == 2 || s[2].d[2] == 4) && agree(s[3].d[1], 2)
           && (s[4].d[0] == 1 || agree(s[4].d[0], batch)) && agree(s[4].d[1], levels)
           && agree(s[4].d[2], 2) && agree(s[5].d[0], batch) && agree(s[5].d[1], queries)
           && agree(s[5].d[2], channels);
}

bool sampling_type_fits(int tensor, DataType own, DataType first) {
    switch (tensor) {
    case 0: return own == DataType::kFLOAT || own == DataType::kHALF || own == DataType::kBF16;
    case 2: return own == DataType::kFLOAT;
    case 3:
    case 4: return own == DataType::kINT32;
    default: return own == first;
    }
}

bool windows_fit(Shapes const& s, Values const& values) {
    Wide const tokens = Wide{values[0]} * values[0], heads = s[2].d[0];
    auto const& output = s.back().d; // after the scale, if there is one
    bool fits = all_are_sizes(s) && (s[0].d[3] == -1 || s[0].d[3] % 96 == 0)
                && agree(s[1].d[0], s[0].d[3]) && agree(s[2].d[1], tokens)
                && agree(s[2].d[2], tokens);
    for (int i = 0; i < 3; ++i) {
        fits = fits && agree(output[i], s[0].d[i]);
    }
    return fits && (s.size() == 4 || agree(s[3].d[0], 1))
           && (heads == -1 || (agree(s[0].d[3], 96 * heads) && agree(output[3], 32 * heads)));
}

bool window_type_fits(int tensor, DataType own, DataType first) {
    return tensor == 0 ? own == DataType::kHALF || own == DataType::kBF16 : own == first;
}

bool normalised(Shapes const& s, Values const& values) {
    Wide const channels = s[0].d[3], groups = values[0];
    bool fits = all_are_sizes(s) && agree(s[1].d[0], channels) && agree(s[2].d[0], channels);
    for (int i = 0; i < 4; ++i) {
        fits = fits && agree(s[3].d[i], s[0].d[i]);
    }
    return fits
           && (channels == -1
               || (channels <= 2048 && channels % 8 == 0
                   && (channels == 4 * groups || channels % (8 * groups) == 0)));
}

bool rows_normalised(Shapes const& s, Values const&) {
    if (!all_are_sizes(s)) {
        return false;
    }
    int const last = s[0].nbDims - 1;
    Wide const channels = s[0].d[last];
    Wide rows = 1; // three sizes at most, so there is room
    bool fits = agree(s[1].d[0], channels) && agree(s[2].d[0], channels);
    for (int i = 0; i <= last; ++i) {
        rows *= i == last || s[0].d[i] == -1 ? 1 : s[0].d[i];
        fits = fits && agree(s[3].d[i], s[0].d[i]);
    }
    return fits && rows <= kMax32 && (channels == -1 || (channels <= 4096 && channels % 8 == 0));
}

bool sums_normalised(Shapes const& s, Values const& values) {
    if (!rows_normalised({s[0], s[1], s[2], s[4]}, values) || s[3].nbDims != s[0].nbDims) {
        return false;
    }
    for (int i = 0; i < s[0].nbDims; ++i) {
        if (!agree(s[3].d[i], s[0].d[i])) {
            return false;
        }
    }
    return s[3].d[0] >= -1 && all_are_sizes(s);
}

bool merged_normalised(Shapes const& s, Values const&) {
    if (!all_are_sizes(s)) {
        return false;
    }
    auto const& x = s[0].d;
    auto const& output = s[3].d;
    Wide const channels = x[3] == -1 ? Wide{-1} : 4 * Wide{x[3]};
    Wide rows = 1;
    for (int i = 0; i < 3; ++i) {
        rows *= x[i] == -1 ? 1 : x[i];
    }
    bool fits = rows <= kMax32 && channels <= 4096 && (channels == -1 || x[3] % 8 == 0)
                && agree(s[1].d[0], channels) && agree(s[2].d[0], channels)
                && agree(output[0], x[0]) && agree(output[3], channels);
    for (int i = 1; i < 3; ++i) {
        fits = fits && (x[i] == -1 || (x[i] % 2 == 0 && agree(output[i], x[i] / 2)));
    }
    return fits;
}

bool norm_type_fits(int tensor, DataType own, DataType first) {
    switch (tensor) {
    case 0: return own == DataType::kHALF || own == DataType::kBF16;
    case 3: return own == first;
    default: return own == DataType::kFLOAT;
    }
}

// 128 chunks of a group of a picture have 8 bytes each.
size_t norm_workspace(Shapes const& s, Values const& values) {
    auto const batch = static_cast<size_t>(std::clamp<Wide>(s[0].d[0], 0, 65535));
    return batch * static_cast<size_t>(values[0]) * 128 * 8;
}

// `step` is what numbers of channels are multiples of.
template <int step> bool multiplied(Shapes const& s, Values const&) {
    if (!all_are_sizes(s)) {
        return false;
    }
    int const last = s[0].nbDims - 1;
    Wide const inputs = s[0].d[last], outputs = s[1].d[0];
    Wide rows = 1; // three sizes at most, so there is room
    bool fits = (inputs == -1 || inputs % step == 0) && (outputs == -1 || outputs % step == 0)
                && agree(s[1].d[1], inputs) && agree(s[2].d[0], outputs);
    for (int i = 0; i < last; ++i) {
        rows *= s[0].d[i] == -1 ? 1 : s[0].d[i];
    }
    for (size_t sums = 3; sums < s.size(); ++sums) { // the residual and scales, if any; the output
        if (s[sums].nbDims == 1) {
            fits = fits && agree(s[sums].d[0], 1);
            continue;
        }
        fits = fits && agree(s[sums].d[last], outputs);
        for (int i = 0; i < last; ++i) {
            fits = fits && agree(s[sums].d[i], s[0].d[i]);
        }
    }
    return fits && rows <= kMax32;
}

Case linear(char const* op, Shapes const& shapes,
            std::vector<std::vector<std::array<int, 2>>> const& letters,
            int32_t other_rank) {
    return {
        op,
        {{{"activation", 0, 1, 2}}},
        shapes,
        letters,
        multiplied<8>,
        [](Shapes const& s) {
            Dims output = s[0];
            output.d[output.nbDims - 1] = s[1].d[0];
            return output;
        },
        window_type_fits, // the same
        2,
        other_rank,
        [](Shapes const& s) {
            auto const& weight = s[1].d;
            return weight[0] > 0 && weight[1] > 0 && weight[1] % 8 == 0;
        },
        [](Shapes const&, Values const&) { return size_t{32} << 20; },
        8,
    };
}

// Where the output is fp8.
DataType to_fp8(DataType) { return DataType::kFP8; }
DataType to_half(DataType) { return DataType::kHALF; }

// Of fp8, with `residual` sums to add, to an output of `type`.
template <int residual, int inputs, DataType type>
bool fp8_type_fits(int tensor, DataType own, DataType) {
    if (tensor < 2) {
        return own == DataType::kFP8;
    }
    if (tensor == inputs) {
        return own == type;
    }
    return own == (tensor < 3 + residual ? DataType::kHALF : DataType::kFLOAT);
}

Case of_fp8(Case of, char const* op, bool (*type_fits)(int, DataType, DataType),
            DataType (*output_type)(DataType), int scales) {
    of.op = op;
    of.shapes.insert(of.shapes.end() - 1, scales, Dims{1, {1}});
    of.type_fits = type_fits;
    of.output_type = output_type;
    of.first_types = 1;
    return of;
}

Case linear_of_fp8(Case const& of, char const* op, bool (*type_fits)(int, DataType, DataType),
                   DataType (*output_type)(DataType), int scales) {
    Case made = of_fp8(of, op, type_fits, output_type, scales);
    made.shapes_fit = multiplied<16>;
    made.can_run = [](Shapes const& s) {
        auto const& weight = s[1].d;
        return weight[0] > 0 && weight[1] > 0 && weight[1] % 16 == 0;
    };
    return made;
}

} // namespace

// Batch 2, 85 tokens of 3 levels, 7 queries.
Case const kSampling{
    "CoDetrMSDeformAttn",
    {{{"num_heads", 1, 8, kMax32}, {"num_points", 1, 4, kMax32}}},
    {{3, {2, 85, 256}}, {3, {2, 7, 288}}, {3, {2, 7, 4}}, {2, {3, 2}}, {3, {2, 3, 2}},
     {3, {2, 7, 256}}},
    {{{0, 0}, {1, 0}, {2, 0}, {4, 0}}, // B, S, Q, C, L
     {{0, 1}},
     {{1, 1}, {2, 1}},
     {{0, 2}},
     {{3, 0}, {4, 1}}},
    sampling_fits,
    [](Shapes const& s) { return Dims{3, {s[0].d[0], s[1].d[1], s[0].d[2]}}; },
    sampling_type_fits,
    3,
};

// Batch 2, a map of 30 x 40, 6 heads, windows of 12.
Case const kWindows{
    "CoDetrWindowAttention",
    {{{"window_size", 1, 12, kMax32}, {"shift", 0, 6, kMax32}, {"add_bias", 0, 1, 1}}},
    {{4, {2, 30, 40, 576}}, {1, {576}}, {3, {6, 144, 144}}, {4, {2, 30, 40, 192}}},
    {{{0, 0}}, {{0, 1}}, {{0, 2}}, {{2, 0}}}, // B, H, W, M
    windows_fit,
    [](Shapes const& s) {
        auto const& qkv = s[0].d;
        return Dims{4, {qkv[0], qkv[1], qkv[2], qkv[3] == -1 ? -1 : qkv[3] / 3}};
    },
    window_type_fits,
    2,
};

// Batch 2, a map of 30 x 40, 256 channels in groups of 4.
Case const kNorm{
    "CoDetrGroupNorm",
    {{{"num_groups", 1, 64, kMax32}}},
    {{4, {2, 30, 40, 256}}, {1, {256}}, {1, {256}}, {4, {2, 30, 40, 256}}},
    {{{0, 0}}, {{0, 1}}, {{0, 2}}, {{0, 3}, {1, 0}, {2, 0}}}, // B, H, W, C
    normalised,
    [](Shapes const& s) { return s[0]; },
    norm_type_fits,
    2,
    0,
    [](Shapes const&) { return true; },
    norm_workspace,
};

// Batch 2, a map of 30 x 40, 192 channels.
Case const kRows{
    "CoDetrLayerNorm",
    {},
    {{4, {2, 30, 40, 192}}, {1, {192}}, {1, {192}}, {4, {2, 30, 40, 192}}},
    {{{0, 0}}, {{0, 1}}, {{0, 2}}, {{0, 3}, {1, 0}, {2, 0}}}, // B, H, W, C
    rows_normalised,
    [](Shapes const& s) { return s[0]; },
    norm_type_fits,
    2,
    3,
};

// Batch 2, a map of 30 x 40, 192 channels to 768.
Case const kMaps = linear(
    "CoDetrLinear",
    {{4, {2, 30, 40, 192}}, {2, {768, 192}}, {1, {768}}, {4, {2, 30, 40, 768}}},
    {{{0, 0}}, {{0, 1}}, {{0, 2}}, {{0, 3}, {1, 1}}, {{1, 0}, {2, 0}}}, // B, H, W, K, N
    3);

// Batch 2, 1200 tokens.
Case const kTokens = linear(
    "CoDetrLinearAdd",
    {{3, {2, 1200, 192}}, {2, {768, 192}}, {1, {768}}, {3, {2, 1200, 768}}, {3, {2, 1200, 768}}},
    {{{0, 0}}, {{0, 1}}, {{0, 2}, {1, 1}}, {{1, 0}, {2, 0}}}, // B, S, K, N
    4);

// Batch 2, a map of 30 x 40, 192 channels.
Case const kSums{
    "CoDetrAddLayerNorm",
    {},
    {{4, {2, 30, 40, 192}}, {1, {192}}, {1, {192}}, {4, {2, 30, 40, 192}}, {4, {2, 30, 40, 192}}},
    {{{0, 0}}, {{0, 1}}, {{0, 2}}, {{0, 3}, {1, 0}, {2, 0}}}, // B, H, W, C
    sums_normalised,
    [](Shapes const& s) { return s[0]; },
    [](int tensor, DataType own, DataType first) {
        return tensor == 4 ? own == first : norm_type_fits(tensor, own, first);
    },
    2,
    3,
};

// Batch 2, a map of 30 x 40, 192 channels.
Case const kMerged{
    "CoDetrMergeLayerNorm",
    {},
    {{4, {2, 30, 40, 192}}, {1, {768}}, {1, {768}}, {4, {2, 15, 20, 768}}},
    {{{0, 0}}, {{0, 1}}, {{0, 2}}, {{1, 0}, {2, 0}}}, // B, H, W, 4C
    merged_normalised,
    [](Shapes const& s) {
        auto const& x = s[0].d;
        auto const half = [](int64_t size) { return size == -1 ? -1 : size / 2; };
        return Dims{4, {x[0], half(x[1]), half(x[2]), s[1].d[0]}};
    },
    norm_type_fits,
    2,
};

// The same with fp8.
Case const kWindowsToFp8 = of_fp8(
    kWindows, "CoDetrWindowAttentionToFp8",
    [](int tensor, DataType own, DataType first) {
        switch (tensor) {
        case 0: return own == DataType::kHALF;
        case 3: return own == DataType::kFLOAT;
        case 4: return own == DataType::kFP8;
        default: return own == first;
        }
    },
    to_fp8, 1);

Case const kRowsToFp8 = of_fp8(
    kRows, "CoDetrLayerNormToFp8",
    [](int tensor, DataType own, DataType) {
        switch (tensor) {
        case 0: return own == DataType::kHALF;
        case 3: return own == DataType::kFP8;
        default: return own == DataType::kFLOAT;
        }
    },
    to_fp8, 0);

Case const kRowsAndFp8 = [] {
    Case made = of_fp8(
        kRows, "CoDetrLayerNormAndFp8",
        [](int tensor, DataType own, DataType first) {
            switch (tensor) {
            case 0: return own == DataType::kHALF;
            case 4: return own == first;
            case 5: return own == DataType::kFP8;
            default: return own == DataType::kFLOAT;
            }
        },
        kRows.output_type, 1);
    made.shapes.push_back(made.shapes.back());
    made.outputs = 2;
    made.shapes_fit = [](Shapes const& s, Values const& values) {
        return all_are_sizes(s) && agree(s[3].d[0], 1)
               && rows_normalised({s[0], s[1], s[2], s[4]}, values)
               && rows_normalised({s[0], s[1], s[2], s[5]}, values);
    };
    return made;
}();

Case const kMapsFp8 = linear_of_fp8(kMaps, "CoDetrLinearFp8",
                                    fp8_type_fits<0, 5, DataType::kHALF>, to_half, 2);

Case const kTokensFp8 = linear_of_fp8(kTokens, "CoDetrLinearAddFp8",
                                      fp8_type_fits<1, 6, DataType::kHALF>, to_half, 2);

Case const kMapsFp8ToFp8 = linear_of_fp8(kMaps, "CoDetrLinearFp8ToFp8",
                                         fp8_type_fits<0, 6, DataType::kFP8>, to_fp8, 3);

} // namespace hostile
