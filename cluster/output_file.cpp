#include "cluster/output_file.h"

#include <string>

#include <fmt/format.h>

#include "base/error.h"
#include "base/file.h"

namespace superstep::cluster {

void require_output(std::string_view command, std::string_view option,
                    const std::filesystem::path& file, IfExists if_exists) {
  const PathStatus status = look_at(file);
  std::string problem;
  if (status.kind == PathKind::kUnknown) {
    problem = status.problem;
  } else if (status.exists() && status.kind != PathKind::kFile) {
    problem = "exists and is not a file: choose another name";
  } else if (status.exists() && if_exists == IfExists::kRefuse) {
    problem = "exists: choose another name, or replace it with --force";
  }
  if (!problem.empty()) {
    throw InvalidArgument(command, fmt::format("{} {}: {}", option, file.string(), problem));
  }
}

}  // namespace superstep::cluster
