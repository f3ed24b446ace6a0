#include "bsp/source_path.h"

#include <cstddef>

#include <fmt/format.h>

namespace superstep::bsp {

namespace {

std::string_view last_components(std::string_view path) {
  constexpr int kComponents = 3;
  std::size_t begin = path.size();
  for (int i = 0; i < kComponents && begin != std::string_view::npos && begin > 0; ++i) {
    begin = path.rfind('/', begin - 1);
  }
  return begin == std::string_view::npos || begin == 0 ? path : path.substr(begin + 1);
}

}  // namespace

std::string_view path_in_project(std::string_view path) {
  constexpr std::string_view kThisFile = __FILE__;
  constexpr std::string_view kRoot =
      kThisFile.substr(0, kThisFile.size() - std::string_view("bsp/source_path.cpp").size());
  return path.starts_with(kRoot) ? path.substr(kRoot.size()) : last_components(path);
}

std::string describe_site(const CallSite& site) {
  return fmt::format("{}:{}", path_in_project(site.file), site.line);
}

}  // namespace superstep::bsp
