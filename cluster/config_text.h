// Configuration values as TOML text.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace superstep::cluster {

std::string toml_text(std::int64_t value);
std::string toml_text(
    double value);  // shortest text that reads back to the same bits; always a float
std::string toml_text(bool value);
std::string toml_text(const std::string& value);  // a basic string with its escapes
std::string toml_text(const std::vector<std::int64_t>& values);
std::string toml_text(const std::vector<double>& values);

}  // namespace superstep::cluster
