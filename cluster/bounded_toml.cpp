#include "cluster/bounded_toml.h"

#include <algorithm>
#include <cstddef>
#include <memory>
#include <string>

namespace superstep::cluster {

namespace {

static_assert(kMostKeyLevels == 32);  // the message says so

// Of the string that `text` begins with, quotes included. A string on one line ends with the line
// at the latest: what follows is no TOML then.
std::size_t string_length(std::string_view text) {
  const char quote = text.front();
  const std::string three(3, quote);
  const bool is_long = text.starts_with(three);
  std::size_t at = is_long ? three.size() : 1;
  while (at < text.size() &&
         (is_long ? !text.substr(at).starts_with(three) : text[at] != quote && text[at] != '\n')) {
    at += quote == '"' && text[at] == '\\' ? 2 : 1;
  }
  at += is_long ? three.size() : 1;
  // The end of a long string may have two quotes of its content before it.
  const std::size_t most = at + (is_long ? 2 : 0);
  while (at < std::min(most, text.size()) && text[at] == quote) {
    ++at;
  }
  return std::min(at, text.size());
}

// Of a string, a comment, or one character of anything else.
std::size_t token_length(std::string_view text) {
  switch (text.front()) {
    case '"':
    case '\'':
      return string_length(text);
    case '#':
      return std::min(text.find('\n'), text.size());
    default:
      return 1;
  }
}

// The line of the first key with too many levels; 0 when there is none.
toml::source_index line_of_deep_key(std::string_view text) {
  constexpr std::string_view kAroundKeys = ",=[]{}\n";
  toml::source_index line = 1;
  int levels = 1;
  while (!text.empty()) {
    const std::string_view token = text.substr(0, token_length(text));
    text.remove_prefix(token.size());
    if (token == ".") {
      ++levels;
    } else if (token.size() == 1 && kAroundKeys.find(token.front()) != std::string_view::npos) {
      levels = 1;
    }
    if (levels > kMostKeyLevels) {
      return line;
    }
    line += static_cast<toml::source_index>(std::count(token.begin(), token.end(), '\n'));
  }
  return 0;
}

}  // namespace

toml::table parse_bounded_toml(std::string_view text, std::string_view source_path) {
  if (const toml::source_index line = line_of_deep_key(text); line > 0) {
    throw toml::parse_error("a key of more than 32 levels", {line, 1},
                            std::make_shared<const std::string>(source_path));
  }
  return toml::parse(text, source_path);
}

}  // namespace superstep::cluster
