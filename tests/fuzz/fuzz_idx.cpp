// IDX files, plain or gzip: the first byte of the input says what the file is read as.
#include <cstddef>
#include <cstdint>

#include "base/error.h"
#include "tests/fuzz/input_file.h"
#include "worker/data/idx.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace superstep;
  static testing::InputFile file;
  if (size == 0) {
    return 0;
  }
  const bool labels = data[0] % 2 == 1;
  try {
    const worker::IdxArray array =
        worker::read_idx(file.hold(data + 1, size - 1),
                         labels ? worker::IdxContent::kLabels : worker::IdxContent::kImages);
    if (labels) {
      worker::check_labels(array, 10);
    }
  } catch (const DataError&) {
    // A clear refusal; anything else ends the fuzzer.
  }
  return 0;
}
