// Completion scripts for bash, zsh and fish, made from the grammar of the command line: a new
// option completes without being written twice.
#pragma once

#include <string>
#include <string_view>

// NOLINTNEXTLINE(readability-identifier-naming): the library's own name
namespace CLI {
class App;
}

namespace superstep::cluster {

// `shell` is bash, zsh or fish. Arguments complete as files, values of --set as configuration keys.
std::string completion_script(const CLI::App& program, std::string_view shell);

}  // namespace superstep::cluster
