// Warm start: the entries of a layout from an .npz file.

#include <algorithm>
#include <cmath>
#include <set>
#include <utility>

#include <fmt/format.h>

#include "base/check.h"
#include "base/error.h"
#include "base/text.h"
#include "paramserver/npz.h"

namespace superstep::paramserver {

namespace {

namespace fs = std::filesystem;

// Checks names first, and shapes with the values at hand, before the buffer is touched.
class WeightLoader {
 public:
  WeightLoader(const fs::path& path, const ParameterLayout& layout)
      : reader_(path), path_(path), layout_(layout) {}

  LoadedWeights load(std::span<float> buffer, MissingEntries missing) {
    match_names();
    if (missing == MissingEntries::kRefuse && !report_.kept.empty()) {
      fail(fmt::format("lacks {} of {} entries: {}", report_.kept.size(), layout_.entries().size(),
                       shortened(report_.kept)));
    }
    if (report_.loaded.empty()) {
      fail(fmt::format("has no entry of the model; it has {}", shortened(reader_.names())));
    }
    std::vector<NamedArray> arrays;
    std::vector<std::string> problems;
    for (const std::string& name : report_.loaded) {
      arrays.push_back(reader_.read(name));
      const kernels::Shape& expected = layout_.entry(name).shape;
      if (arrays.back().shape != expected) {
        problems.push_back(fmt::format("{}: got {}, expected {}", name,
                                       arrays.back().shape.to_string(), expected.to_string()));
      }
    }
    if (!problems.empty()) {
      fail("other shapes: " + shortened(problems));
    }
    for (const NamedArray& array : arrays) {
      require_usable(array);
    }
    for (const NamedArray& array : arrays) {
      const auto offset = static_cast<std::size_t>(layout_.entry(array.name).offset);
      std::copy(array.values.begin(), array.values.end(), buffer.subspan(offset).begin());
    }
    return std::move(report_);
  }

 private:
  // A root is taken of variances.
  void require_usable(const NamedArray& array) const {
    const bool is_variance =
        layout_.entry(array.name).role == EntryRole::kStatistic && array.name.ends_with("variance");
    for (std::size_t i = 0; i < array.values.size(); ++i) {
      const float value = array.values[i];
      if (!std::isfinite(value) || (is_variance && value < 0.0F)) {
        fail(fmt::format("entry {}, value {}: got {}, expected a {}number", array.name, i, value,
                         is_variance ? "finite, non-negative " : "finite "));
      }
    }
  }

  void match_names() {
    const std::set<std::string> available(reader_.names().begin(), reader_.names().end());
    std::set<std::string> known;
    for (const LayoutEntry& entry : layout_.entries()) {
      known.insert(entry.name);
      (available.contains(entry.name) ? report_.loaded : report_.kept).push_back(entry.name);
    }
    for (const std::string& name : reader_.names()) {
      if (!known.contains(name)) {
        report_.unused.push_back(name);
      }
    }
  }

  static std::string shortened(const std::vector<std::string>& parts) {
    constexpr std::size_t kMostShown = 5;
    const std::size_t shown = std::min(parts.size(), kMostShown);
    std::string text = join(std::span(parts).first(shown));
    return shown < parts.size() ? text + fmt::format(" and {} more", parts.size() - shown) : text;
  }

  [[noreturn]] void fail(std::string_view what) const {
    throw DataError("read_weights", path_.native(), -1, what, ExitCode::kBadCheckpoint);
  }

  NpzReader reader_;
  const fs::path& path_;
  const ParameterLayout& layout_;
  LoadedWeights report_;
};

}  // namespace

LoadedWeights read_weights(const fs::path& path, const ParameterLayout& layout,
                           std::span<float> buffer, MissingEntries missing) {
  SUPERSTEP_CHECK(static_cast<std::int64_t>(buffer.size()) == layout.size(), "read_weights into",
                  buffer.size(), "elements, expected", layout.size());
  return WeightLoader(path, layout).load(buffer, missing);
}

}  // namespace superstep::paramserver
