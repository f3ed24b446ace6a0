// Texts of clients: lines of JSON, and how each text is divided.
#include <cstddef>
#include <cstdint>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "tests/fuzz/selected_case.h"
#include "worker/data/text.h"

namespace superstep {
namespace {

using testing::require;

void read_texts(std::string_view input) {
  try {
    std::set<std::string> names;
    for (const worker::TextOfClient& client : worker::parse_texts(input, "roles.jsonl")) {
      require(!client.client.empty() && names.insert(client.client).second);
      const std::size_t cut = worker::begin_of_test_part(client.text);
      require(cut <= client.text.size());
      require(cut == client.text.size() || (cut > 0 && client.text[cut - 1] == '\n'));
    }
  } catch (const DataError&) {
    // A clear refusal; anything else ends the fuzzer.
  }
}

}  // namespace
}  // namespace superstep

// NOLINTNEXTLINE(readability-identifier-naming): libFuzzer's name
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  superstep::read_texts({reinterpret_cast<const char*>(data), size});
  return 0;
}
