// Where the elements of an image tensor lie in memory.
//
// A Tensor is plain: row-major (N, C, H, W). Inside a recorded program an image may lie in channel
// blocks, (N, C / b, H, W, b) with b = kChannelBlock, the layout in which oneDNN's convolutions run
// at full speed; kernels/layout_plan.h decides for each value and converts where it must. The
// number of bytes is the same, only C % b == 0 is served, and a kernel for channel blocks has the
// bits of the plain one. Outside programs, and in their inputs and outputs, everything is plain.
#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include "kernels/dtype.h"
#include "kernels/shape.h"

namespace superstep::kernels {

struct OpSignature;
class Kernel;
enum class Backend : std::uint8_t;

enum class Layout : std::uint8_t { kPlain, kChannelBlocks };

// Floats of the widest register; 0 where the build has no use for blocks.
#if defined(__AVX512F__)
inline constexpr std::int64_t kChannelBlock = 16;
#elif defined(__AVX2__)
inline constexpr std::int64_t kChannelBlock = 8;
#else
inline constexpr std::int64_t kChannelBlock = 0;
#endif

// Whether a tensor of this type may lie in channel blocks: four axes, elements of four bytes, whole
// blocks.
inline bool may_be_blocked(DType dtype, const Shape& shape) {
  return kChannelBlock > 0 && shape.rank() == 4 && size_of(dtype) == 4 &&
         shape[1] % (kChannelBlock > 0 ? kChannelBlock : 1) == 0 && shape.num_elements() > 0;
}

// What an op offers for operands in channel blocks.
struct BlockedKernel {
  enum class Operands : std::uint8_t {
    kUniform,  // all images in blocks (or none)
    kAny,      // each one as it comes
  };
  using Make = std::unique_ptr<Kernel> (*)(const OpSignature&, std::span<const Layout> inputs,
                                           std::span<const Layout> outputs);

  Operands operands = Operands::kUniform;
  Backend backend{};
  Make make = nullptr;  // null, or a null result: plain operands only
};

}  // namespace superstep::kernels
