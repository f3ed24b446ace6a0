// Environment variables, read in one place.
//
// Reading is safe from any thread as long as nobody writes; set_environment belongs at the start of
// main, before any thread exists (setenv is not thread-safe).
//
//   int lanes = environment_integer("SUPERSTEP_TEST_LANES").value_or(1);
#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace superstep {

// nullopt when unset; an empty value is a value.
std::optional<std::string> environment_variable(const std::string& name);

// nullopt when unset. Anything but a decimal integer throws InvalidArgument with name and value.
std::optional<std::int64_t> environment_integer(const std::string& name);

// Overwrites. Throws InvalidArgument for an impossible name (empty, or containing '=').
void set_environment(const std::string& name, const std::string& value);
void unset_environment(const std::string& name);

}  // namespace superstep
