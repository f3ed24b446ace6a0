// A configuration file; up to the first zero byte it is the file, behind it one override a line. A
// few overrides do: each that is unknown is compared with every key there is, which takes most of
// the time.
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "cluster/config_reader.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace superstep;
  std::string_view text(reinterpret_cast<const char*>(data), size);
  std::vector<std::string> overrides;
  if (const std::size_t end = text.find('\0'); end != std::string_view::npos) {
    std::string_view rest = text.substr(end + 1);
    text = text.substr(0, end);
    constexpr std::size_t kMostOverrides = 4;
    while (!rest.empty() && overrides.size() < kMostOverrides) {
      const std::size_t line = rest.find('\n');
      overrides.emplace_back(rest.substr(0, line));
      rest = line == std::string_view::npos ? std::string_view() : rest.substr(line + 1);
    }
  }
  const cluster::ParsedConfig parsed = cluster::parse_config(text, "run.toml", overrides);
  if (parsed.problems.empty()) {
    // What was accepted is written out and read again, to the same configuration.
    const cluster::ParsedConfig again =
        cluster::parse_config(cluster::to_toml(parsed.config), "config.toml");
    if (!again.problems.empty() || !(again.config == parsed.config)) {
      __builtin_trap();
    }
  }
  return 0;
}
