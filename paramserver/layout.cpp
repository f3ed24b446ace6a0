#include "paramserver/layout.h"

#include <algorithm>
#include <charconv>
#include <limits>
#include <utility>

#include <fmt/format.h>

#include "base/aligned.h"
#include "base/check.h"
#include "base/error.h"
#include "base/text.h"

namespace superstep::paramserver {

namespace {

constexpr std::string_view kFoldKey = "fold=";

bool is_name_character(char c) {
  return c > ' ' && c <= '~' && c != '"' && c != '\'' && c != '\\';
}

// Whether every "/"-separated level is a proper file name.
bool has_proper_levels(std::string_view name) {
  while (true) {
    const std::size_t end = name.find('/');
    const std::string_view level = name.substr(0, end);
    if (level.empty() || level == "." || level == "..") {
      return false;
    }
    if (end == std::string_view::npos) {
      return true;
    }
    name.remove_prefix(end + 1);
  }
}

void check_entry(const LayoutEntry& entry) {
  constexpr std::string_view kWhere = "ParameterLayout::add";
  if (!std::all_of(entry.name.begin(), entry.name.end(), is_name_character) ||
      !has_proper_levels(entry.name)) {
    throw InvalidArgument(kWhere, fmt::format("bad entry name: got \"{}\", expected levels of "
                                              "printable characters separated by \"/\"",
                                              entry.name));
  }
  if (entry.num_elements() == 0) {
    throw InvalidArgument(kWhere, fmt::format("entry \"{}\" has no elements: got shape {}",
                                              entry.name, entry.shape.to_string()));
  }
  if (entry.role == EntryRole::kStatistic && !(entry.fold > 0.0F && entry.fold <= 1.0F)) {
    throw InvalidArgument(kWhere, fmt::format("entry \"{}\": fold: got {}, expected 0 < fold <= 1",
                                              entry.name, entry.fold));
  }
}

[[noreturn]] void throw_bad_line(std::size_t number, std::string_view line, std::string_view what) {
  throw InvalidArgument("ParameterLayout::parse",
                        fmt::format("line {}: {}: got \"{}\"", number, what, line));
}

// Takes the text up to `separator` off the front, the separator too.
std::string_view take(std::string_view& text, std::string_view separator) {
  const std::size_t end = text.find(separator);
  const std::string_view token = text.substr(0, end);
  text.remove_prefix(end == std::string_view::npos ? text.size() : end + separator.size());
  return token;
}

template <typename Number>
bool parse_number(std::string_view text, Number& number) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  return error == std::errc() && end == text.data() + text.size();
}

// "784, 200" -> (784, 200); the empty text is the scalar shape.
bool parse_shape(std::string_view text, kernels::Shape& shape) {
  std::vector<std::int64_t> sizes;
  while (!text.empty()) {
    std::int64_t size = 0;
    if (!parse_number(take(text, ", "), size) || size < 0) {
      return false;
    }
    sizes.push_back(size);
  }
  shape = kernels::Shape(std::move(sizes));
  return true;
}

bool parse_role(std::string_view text, LayoutEntry& entry) {
  const std::string_view role = take(text, " ");
  if (role == name_of(EntryRole::kTrainable)) {
    entry.role = EntryRole::kTrainable;
    entry.decayed = text == "decayed";
    return entry.decayed || text == "undecayed";
  }
  if (role == name_of(EntryRole::kStatistic) && text.starts_with(kFoldKey)) {
    entry.role = EntryRole::kStatistic;
    text.remove_prefix(kFoldKey.size());
    return parse_number(text, entry.fold);
  }
  return false;
}

std::string describe_entry(const LayoutEntry& entry) {
  std::string line = fmt::format("{} (", entry.name);
  for (std::size_t axis = 0; axis < entry.shape.sizes().size(); ++axis) {
    line += fmt::format("{}{}", axis == 0 ? "" : ", ", entry.shape.sizes()[axis]);
  }
  line += fmt::format(") {} ", name_of(entry.role));
  if (entry.role == EntryRole::kStatistic) {
    return line + fmt::format("{}{:.9g}\n", kFoldKey, entry.fold);  // 9 digits: exact for a float
  }
  return line + (entry.decayed ? "decayed\n" : "undecayed\n");
}

// floor(rank * num_blocks / num_ranks) without overflow.
std::int64_t first_block(std::int64_t rank, std::int64_t num_ranks, std::int64_t num_blocks) {
  return rank * (num_blocks / num_ranks) + rank * (num_blocks % num_ranks) / num_ranks;
}

}  // namespace

std::string_view name_of(EntryRole role) {
  return role == EntryRole::kTrainable ? "trainable" : "statistic";
}

int ParameterLayout::add(LayoutEntry entry) {
  constexpr std::string_view kWhere = "ParameterLayout::add";
  SUPERSTEP_CHECK(!frozen_, "add to a frozen layout", entry.name);
  check_entry(entry);
  if (find(entry.name) != nullptr) {
    throw InvalidArgument(kWhere, fmt::format("two entries are named \"{}\"", entry.name));
  }
  // Room for the padding of this entry and of the last block.
  const std::int64_t most = std::numeric_limits<std::int64_t>::max() - 2 * kBlockElements - used_;
  if (entry.num_elements() > most / static_cast<std::int64_t>(sizeof(float))) {
    throw InvalidArgument(kWhere, fmt::format("entry \"{}\" makes the layout too large: got {} "
                                              "elements after {}",
                                              entry.name, entry.num_elements(), used_));
  }
  entry.offset = used_;
  used_ += padded_size<float>(entry.num_elements());
  entries_.push_back(std::move(entry));
  return static_cast<int>(entries_.size()) - 1;
}

void ParameterLayout::freeze() {
  if (entries_.empty()) {
    throw InvalidArgument("ParameterLayout::freeze", "the layout has no entries");
  }
  frozen_ = true;
}

ParameterLayout ParameterLayout::parse(std::string_view description) {
  ParameterLayout layout;
  for (std::size_t number = 1; !description.empty(); ++number) {
    const std::string_view line = take(description, "\n");
    std::string_view rest = line;
    LayoutEntry entry;
    entry.name = take(rest, " (");
    if (!parse_shape(take(rest, ") "), entry.shape)) {
      throw_bad_line(number, line, "bad shape");
    }
    if (!parse_role(rest, entry)) {
      throw_bad_line(number, line, "bad role");
    }
    layout.add(std::move(entry));
  }
  layout.freeze();
  return layout;
}

const LayoutEntry* ParameterLayout::find(std::string_view name) const {
  const auto found =
      std::find_if(entries_.begin(), entries_.end(),
                   [name](const LayoutEntry& candidate) { return candidate.name == name; });
  return found == entries_.end() ? nullptr : &*found;
}

const LayoutEntry& ParameterLayout::entry(std::string_view name) const {
  if (const LayoutEntry* found = find(name); found != nullptr) {
    return *found;
  }
  std::vector<std::string> names;
  for (const LayoutEntry& candidate : entries_) {
    names.push_back(candidate.name);
  }
  throw InvalidArgument("ParameterLayout::entry",
                        fmt::format("unknown entry \"{}\"{}", name, did_you_mean(name, names)));
}

std::int64_t ParameterLayout::num_parameters() const {
  std::int64_t sum = 0;
  for (const LayoutEntry& entry : entries_) {
    sum += entry.role == EntryRole::kTrainable ? entry.num_elements() : 0;
  }
  return sum;
}

std::int64_t ParameterLayout::size() const {
  SUPERSTEP_CHECK(frozen_, "size of a layout that is not frozen");
  return (used_ + kBlockElements - 1) / kBlockElements * kBlockElements;
}

ElementRange ParameterLayout::shard(int rank, int num_ranks) const {
  SUPERSTEP_CHECK(rank >= 0 && rank < num_ranks, "shard of rank", rank, "of", num_ranks);
  return {.begin = first_block(rank, num_ranks, num_blocks()) * kBlockElements,
          .end = first_block(rank + 1, num_ranks, num_blocks()) * kBlockElements};
}

std::vector<std::int64_t> ParameterLayout::shard_cuts(int num_ranks) const {
  std::vector<std::int64_t> cuts{0};
  for (int rank = 0; rank < num_ranks; ++rank) {
    cuts.push_back(shard(rank, num_ranks).end);
  }
  return cuts;
}

std::string ParameterLayout::describe() const {
  std::string text;
  for (const LayoutEntry& entry : entries_) {
    text += describe_entry(entry);
  }
  return text;
}

Hash128 ParameterLayout::parameters_hash(std::span<const float> buffer) const {
  SUPERSTEP_CHECK(static_cast<std::int64_t>(buffer.size()) == size(), "parameters_hash of",
                  buffer.size(), "elements, expected", size());
  Hasher hasher;
  for (const LayoutEntry& entry : entries_) {
    hasher.update(std::as_bytes(buffer.subspan(static_cast<std::size_t>(entry.offset),
                                               static_cast<std::size_t>(entry.num_elements()))));
  }
  return hasher.digest();
}

}  // namespace superstep::paramserver
