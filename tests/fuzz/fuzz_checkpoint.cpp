// The manifest of a checkpoint, as it is (the first byte is even) or with the length and hash of
// its frame set right (odd), so that the archive inside is reached.
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

#include "base/error.h"
#include "base/hash.h"
#include "paramserver/checkpoint_serialize.h"

namespace {

// Offsets of paramserver/checkpoint_serialize.h.
constexpr std::size_t kLengthAt = 16;
constexpr std::size_t kHashAt = 24;
constexpr std::size_t kPayloadAt = 40;

void put(std::vector<std::byte>& frame, std::size_t offset, std::uint64_t value) {
  static_assert(std::endian::native == std::endian::little);
  std::memcpy(frame.data() + offset, &value, sizeof value);
}

void reseal(std::vector<std::byte>& frame) {
  put(frame, kLengthAt, frame.size() - kPayloadAt);
  std::vector<std::byte> hashed(frame.begin(), frame.begin() + kHashAt);
  hashed.insert(hashed.end(), frame.begin() + kPayloadAt, frame.end());
  const superstep::Hash128 hash = superstep::hash_bytes(hashed);
  put(frame, kHashAt, hash.low);
  put(frame, kHashAt + sizeof hash.low, hash.high);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace superstep;
  if (size == 0) {
    return 0;
  }
  const std::span<const std::byte> bytes = std::as_bytes(std::span(data + 1, size - 1));
  std::vector<std::byte> frame(bytes.begin(), bytes.end());
  if (data[0] % 2 == 1 && frame.size() > kPayloadAt) {
    reseal(frame);
  }
  try {
    const paramserver::Manifest manifest = paramserver::decode_manifest(frame, "MANIFEST");
    // What was accepted must come back the same.
    const std::vector<std::byte> again = paramserver::encode_manifest(manifest);
    if (again != frame) {
      __builtin_trap();
    }
  } catch (const DataError&) {
    // A clear refusal; anything else ends the fuzzer.
  }
  return 0;
}
