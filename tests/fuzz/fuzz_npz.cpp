// .npz archives (the first byte is even) and single .npy files (odd).
#include <cstddef>
#include <cstdint>
#include <string>

#include "base/error.h"
#include "paramserver/npz.h"
#include "tests/fuzz/input_file.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace superstep;
  static testing::InputFile file;
  if (size == 0) {
    return 0;
  }
  const auto path = file.hold(data + 1, size - 1);
  try {
    if (data[0] % 2 == 1) {
      paramserver::read_npy(path);
      return 0;
    }
    const paramserver::NpzReader reader(path);
    for (const std::string& name : reader.names()) {
      reader.read(name);
    }
  } catch (const DataError&) {
    // A clear refusal; anything else ends the fuzzer.
  }
  return 0;
}
