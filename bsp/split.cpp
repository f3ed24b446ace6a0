// World::split: one exchange of (color, key), then every process builds the teams of its own lanes.
#include <algorithm>
#include <tuple>
#include <utility>

#include "bsp/world_state.h"

namespace superstep::bsp {

namespace {

struct Choice {
  std::int32_t color = 0;
  std::int32_t key = 0;
  std::uint32_t context =
      0;  // reserved by this rank; the first rank of a new world gives it its name
  std::int32_t rank = 0;
};

std::vector<Choice> gather_choices(World::State& state, const Choice& mine) {
  std::vector<Choice> choices(static_cast<std::size_t>(state.size()));
  std::vector<Outgoing> sends;
  std::vector<Incoming> receives;
  for (std::size_t i = 0; i < choices.size(); ++i) {
    sends.push_back({static_cast<int>(i), std::as_bytes(std::span(&mine, 1))});
    receives.push_back({static_cast<int>(i), std::as_writable_bytes(std::span(&choices[i], 1))});
  }
  state.exchange(sends, receives);
  return choices;
}

std::vector<Choice> members_of(std::vector<Choice> choices, int color) {
  std::erase_if(choices, [&](const Choice& choice) { return choice.color != color; });
  std::sort(choices.begin(), choices.end(), [](const Choice& a, const Choice& b) {
    return std::tie(a.key, a.rank) < std::tie(b.key, b.rank);
  });
  return choices;
}

std::shared_ptr<internal::Team> make_team(World::State& parent, std::span<const int> members,
                                          std::uint32_t context) {
  const internal::Topology& topology = parent.team->topology();
  auto sub = std::make_shared<const internal::Topology>(internal::sub_topology(topology, members));
  return std::make_shared<internal::Team>(
      std::move(sub),
      parent.team->transport().subset(internal::processes_of_members(topology, members), context),
      context, parent.team->wait_policy());
}

}  // namespace

World World::split(int color, int key, CallSite site) {
  State& parent = *state_;
  const internal::CollectiveCall call(parent, {.kind = internal::CallKind::kSplit, .site = site});
  const std::vector<Choice> members = members_of(
      gather_choices(parent, {color, key, parent.team->transport().reserve_context(), rank()}),
      color);
  std::vector<int> ranks;
  ranks.reserve(members.size());
  for (const Choice& member : members) {
    ranks.push_back(member.rank);
  }

  // The first lane of the new team in this process makes it; the others copy the pointer, which
  // lives until all have met again.
  const internal::Topology& topology = parent.team->topology();
  const auto in_this_process = [&](int member) {
    return topology.process_of[static_cast<std::size_t>(member)] == process();
  };
  const int maker = *std::find_if(ranks.begin(), ranks.end(), in_this_process);
  std::shared_ptr<internal::Team> team;
  if (rank() == maker) {
    team = make_team(parent, ranks, members.front().context);
  }
  const std::vector<const void*> addresses = parent.allgather_addresses(&team);
  if (rank() != maker) {
    team = *static_cast<const std::shared_ptr<internal::Team>*>(
        addresses[static_cast<std::size_t>(maker)]);
  }
  static_cast<void>(parent.synchronise({}));

  auto state = std::make_unique<State>();
  state->rank = static_cast<int>(std::find(ranks.begin(), ranks.end(), rank()) - ranks.begin());
  state->lane = team->topology().lane_of[static_cast<std::size_t>(state->rank)];
  state->team = std::move(team);
  state->rank_context = parent.rank_context;
  state->deadline = parent.deadline;
  return World(std::move(state));
}

}  // namespace superstep::bsp
