#include "sha256.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <vector>

namespace codetr {
namespace {

constexpr std::size_t kBlock = 64; // bytes
using State = std::array<std::uint32_t, 8>;

// The first 32 bits of the fractional parts of the square and cube roots of the first primes.
constexpr State kStart = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                          0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
constexpr std::array<std::uint32_t, 64> kRounds = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

std::uint32_t big_endian(char const* bytes) {
    std::uint32_t word = 0;
    for (int i = 0; i < 4; ++i) {
        word = word << 8 | static_cast<unsigned char>(bytes[i]);
    }
    return word;
}

// The 16 words of a block, and 48 that follow from them.
std::array<std::uint32_t, 64> schedule(char const* block) {
    std::array<std::uint32_t, 64> words{};
    for (std::size_t i = 0; i < 16; ++i) {
        words[i] = big_endian(block + 4 * i);
    }
    for (std::size_t i = 16; i < words.size(); ++i) {
        auto const a = words[i - 15];
        auto const b = words[i - 2];
        auto const mixed_a = std::rotr(a, 7) ^ std::rotr(a, 18) ^ a >> 3;
        auto const mixed_b = std::rotr(b, 17) ^ std::rotr(b, 19) ^ b >> 10;
        words[i] = words[i - 16] + mixed_a + words[i - 7] + mixed_b;
    }
    return words;
}

void add_block(char const* block, State& state) {
    auto const words = schedule(block);
    auto [a, b, c, d, e, f, g, h] = state;
    for (std::size_t i = 0; i < words.size(); ++i) {
        auto const chosen = (e & f) ^ (~e & g);
        auto const most = (a & b) ^ (a & c) ^ (b & c);
        auto const first = h + (std::rotr(e, 6) ^ std::rotr(e, 11) ^ std::rotr(e, 25)) + chosen
                           + kRounds[i] + words[i];
        auto const second = (std::rotr(a, 2) ^ std::rotr(a, 13) ^ std::rotr(a, 22)) + most;
        h = g, g = f, f = e, e = d + first;
        d = c, c = b, b = a, a = first + second;
    }
    State const added = {a, b, c, d, e, f, g, h};
    std::ranges::transform(state, added, state.begin(), std::plus{});
}

// What is left of the message, a bit that is set, zeros, and the message's length in bits.
std::vector<char> end_of(std::span<char const> left, std::uint64_t message_bytes) {
    std::vector<char> end(left.begin(), left.end());
    end.push_back('\x80');
    end.resize((end.size() + 8 + kBlock - 1) / kBlock * kBlock);
    for (std::size_t i = 0; i < 8; ++i) {
        end[end.size() - 1 - i] = static_cast<char>(message_bytes * 8 >> 8 * i);
    }
    return end;
}

} // namespace

std::string sha256(std::span<char const> bytes) {
    auto state = kStart;
    auto const whole = bytes.size() / kBlock * kBlock;
    for (std::size_t at = 0; at < whole; at += kBlock) {
        add_block(bytes.data() + at, state);
    }
    auto const end = end_of(bytes.subspan(whole), bytes.size());
    for (std::size_t at = 0; at < end.size(); at += kBlock) {
        add_block(end.data() + at, state);
    }
    std::string text;
    for (auto const word : state) {
        for (int shift = 28; shift >= 0; shift -= 4) {
            text += "0123456789abcdef"[word >> shift & 15];
        }
    }
    return text;
}

} // namespace codetr
