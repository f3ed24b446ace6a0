#include "bsp/message_checks.h"

#include <memory>

#include "base/check.h"
#include "bsp/message_checker.h"
#include "bsp/world_state.h"

namespace superstep::bsp {

MessageChecks::MessageChecks(World& world, CallSite site) : world_(world) {
  World::State& state = WorldAccess::state(world);
  const internal::CollectiveCall call(state,
                                      {.kind = internal::CallKind::kMessageChecks, .site = site});
  SUPERSTEP_CHECK(state.messages.checker() == nullptr, "this world is being checked already");
  state.messages.set_checker(std::make_unique<internal::MessageChecker>());
}

MessageChecks::~MessageChecks() {
  WorldAccess::state(world_).messages.set_checker(nullptr);
}

}  // namespace superstep::bsp
