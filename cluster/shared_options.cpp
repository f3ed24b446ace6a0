#include "cluster/shared_options.h"

namespace superstep::cluster {

CLI::Option* add_path(CLI::App& app, const std::string& name, std::string& path,
                      const std::string& help) {
  return app.add_option(name, path, help)->check([](const std::string& given) {
    return given.empty() ? std::string("got an empty path") : std::string();
  });
}

void add_lanes(CLI::App& app, std::optional<int>& lanes) {
  app.add_option("--lanes", lanes, "Ranks per process, as threads; overrides bsp.lanes")
      ->check(CLI::Range(1, kMostLanes))
      ->type_name("N");
}

}  // namespace superstep::cluster
