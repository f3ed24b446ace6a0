#include "worker/gradient_recheck.h"

#include <algorithm>
#include <array>
#include <utility>

#include <fmt/format.h>

#include "base/as_size.h"
#include "base/check.h"
#include "base/error.h"
#include "base/philox.h"

namespace superstep::worker {

namespace {

// Of a unit in the table of all slots, at its first slot: owner + 1, end, hash.
constexpr std::size_t kClaimWords = 4;

// What a rank says when a gradient is in doubt: the hash of what it computed first (the partner),
// of what it computed now, and of its parameters.
struct Statement {
  Hash128 first = {};
  Hash128 second = {};
  Hash128 parameters = {};
};
constexpr std::size_t kStatementWords = 6;

std::vector<Statement> share_statements(bsp::World& world, const Statement& mine) {
  const std::array<std::uint64_t, kStatementWords> words{mine.first.low,      mine.first.high,
                                                         mine.second.low,     mine.second.high,
                                                         mine.parameters.low, mine.parameters.high};
  const auto num_ranks = as_size(world.size());
  std::vector<std::uint64_t> all(kStatementWords * num_ranks);
  const std::vector<std::int64_t> counts(num_ranks, kStatementWords);
  world.allgather(std::span<const std::uint64_t>(words), std::span<std::uint64_t>(all), counts);
  std::vector<Statement> statements;
  for (std::size_t i = 0; i < all.size(); i += kStatementWords) {
    statements.push_back({.first = {.low = all[i], .high = all[i + 1]},
                          .second = {.low = all[i + 2], .high = all[i + 3]},
                          .parameters = {.low = all[i + 4], .high = all[i + 5]}});
  }
  return statements;
}

// Who computes a gradient in doubt.
struct Trio {
  int owner = 0;
  int checker = 0;  // the owner, where it is alone
  int third = -1;   // -1: nobody

  bool has(int rank) const { return rank == owner || rank == checker || rank == third; }
};

// In the order in which they were made. A third rank with other parameters cannot decide.
std::vector<Computation> computations_of(const Trio& ranks, const Hash128& owners_first,
                                         std::span<const Statement> said) {
  const Statement& owner = said[as_size(ranks.owner)];
  const Statement& checker = said[as_size(ranks.checker)];
  std::vector<Computation> all{{.rank = ranks.owner, .hash = owners_first},
                               {.rank = ranks.checker, .hash = checker.first},
                               {.rank = ranks.owner, .hash = owner.second}};
  if (ranks.checker != ranks.owner) {
    all.push_back({.rank = ranks.checker, .hash = checker.second});
  }
  if (ranks.third >= 0 && said[as_size(ranks.third)].parameters == owner.parameters) {
    all.push_back({.rank = ranks.third, .hash = said[as_size(ranks.third)].second});
  }
  return all;
}

// So that every rank is checked by one of another node, where no node has more than half of the
// ranks: those of a node follow each other.
int shift_between_nodes(const bsp::World& world) {
  if (world.num_nodes() == 1) {
    return 1;
  }
  std::vector<int> sizes(as_size(world.num_nodes()), 0);
  for (int rank = 0; rank < world.size(); ++rank) {
    ++sizes[as_size(world.node_of(rank))];
  }
  return *std::max_element(sizes.begin(), sizes.end());
}

std::string slots_text(bsp::SlotRange unit) {
  return unit.length() == 1 ? fmt::format("slot {}", unit.begin)
                            : fmt::format("slots {} to {}", unit.begin, unit.end - 1);
}

std::string computations_text(std::span<const Computation> computations) {
  std::string text;
  for (const Computation& one : computations) {
    text += fmt::format("{}rank {} {}", text.empty() ? "" : ", ", one.rank, to_text(one.hash));
  }
  return text;
}

}  // namespace

bool is_rechecked(const RecheckOptions& options, std::int64_t superstep) {
  return options.share > 0.0 &&
         PhiloxStream(options.seed, stream_id("gradient recheck"), superstep).uniform_double() <
             options.share;
}

GradientRecheck::GradientRecheck(bsp::World& world, const paramserver::ParameterLayout& layout,
                                 std::span<const float> parameters, RecheckOptions options,
                                 Recompute recompute)
    : world_(world),
      layout_(layout),
      parameters_(parameters),
      options_(options),
      recompute_(std::move(recompute)),
      shift_(shift_between_nodes(world)) {}

int GradientRecheck::checker_of(int owner) const {
  return (owner + shift_) % world_.size();
}

// The one that shares least with the two; -1: there is none.
int GradientRecheck::third_of(int owner, int checker) const {
  int best = -1;
  int most_apart = -1;
  for (int rank = 0; rank < world_.size(); ++rank) {
    if (rank == owner || rank == checker) {
      continue;
    }
    const int node = world_.node_of(rank);
    const int apart =
        (node != world_.node_of(owner) ? 1 : 0) + (node != world_.node_of(checker) ? 1 : 0);
    if (apart > most_apart) {
      best = rank;
      most_apart = apart;
    }
  }
  return best;
}

void GradientRecheck::begin(std::int64_t superstep) {
  superstep_ = superstep;
  is_drawn_ = is_rechecked(options_, superstep);
  notes_.clear();
}

void GradientRecheck::note(bsp::SlotRange unit, std::span<const float> gradient,
                           std::span<const paramserver::SlotSummary> summaries) {
  if (is_drawn_) {
    notes_.push_back({.unit = unit, .fingerprint = fingerprint_of(layout_, gradient, summaries)});
  }
}

// The units of all ranks, ascending: they are known to their owners alone where slots are stolen.
std::vector<GradientRecheck::Claim> GradientRecheck::share_claims() {
  std::vector<std::uint64_t> table(kClaimWords * as_size(options_.num_slots), 0);
  for (const Note& note : notes_) {
    const Hash128& hash = note.fingerprint.hash;
    const std::array<std::uint64_t, kClaimWords> words{
        static_cast<std::uint64_t>(world_.rank()) + 1, static_cast<std::uint64_t>(note.unit.end),
        hash.low, hash.high};
    std::copy(words.begin(), words.end(),
              table.begin() + static_cast<std::ptrdiff_t>(kClaimWords) * note.unit.begin);
  }
  world_.allreduce(std::span<const std::uint64_t>(table), std::span<std::uint64_t>(table),
                   bsp::ReduceOp::kSum);
  std::vector<Claim> claims;
  for (int slot = 0; slot < options_.num_slots; slot = claims.back().unit.end) {
    const std::span<const std::uint64_t> words =
        std::span<const std::uint64_t>(table).subspan(kClaimWords * as_size(slot), kClaimWords);
    SUPERSTEP_CHECK(words[0] > 0 && static_cast<int>(words[1]) > slot, "nobody noted slot", slot);
    claims.push_back({.unit = {slot, static_cast<int>(words[1])},
                      .owner = static_cast<int>(words[0]) - 1,
                      .hash = {.low = words[2], .high = words[3]}});
  }
  return claims;
}

GradientFingerprint GradientRecheck::recomputed(bsp::SlotRange unit, std::span<float> gradient) {
  summaries_.assign(as_size(unit.length()), {});
  recompute_(unit, gradient, summaries_);
  return fingerprint_of(layout_, gradient, summaries_);
}

std::optional<GradientRecheck::Claim> GradientRecheck::first_mismatch(
    std::span<const Claim> claims) {
  if (again_.size() == 0) {
    again_ = AlignedBuffer<float>(layout_.size());
  }
  for (const Claim& claim : claims) {
    if (checker_of(claim.owner) != world_.rank()) {
      continue;
    }
    again_hash_ = recomputed(claim.unit, again_.span()).hash;
    if (again_hash_ != claim.hash) {
      return claim;
    }
  }
  return std::nullopt;
}

void GradientRecheck::compare() {
  if (!is_drawn_) {
    return;
  }
  world_.set_phase("recheck");
  const std::vector<Claim> claims = share_claims();
  const std::optional<Claim> mine = first_mismatch(claims);
  const int first =
      world_.allreduce(mine ? mine->unit.begin : options_.num_slots, bsp::ReduceOp::kMin);
  if (first < options_.num_slots) {
    blame(*std::find_if(claims.begin(), claims.end(),
                        [&](const Claim& claim) { return claim.unit.begin == first; }));
  }
  world_.set_phase("compute");
}

// Who was wrong? Every rank comes to the same words.
void GradientRecheck::blame(const Claim& claim) {
  const Trio ranks{.owner = claim.owner,
                   .checker = checker_of(claim.owner),
                   .third = third_of(claim.owner, checker_of(claim.owner))};
  AlignedBuffer<float> second;
  Statement mine{.first = again_hash_, .parameters = layout_.parameters_hash(parameters_)};
  if (ranks.has(world_.rank())) {
    second = AlignedBuffer<float>(layout_.size());
    mine.second = recomputed(claim.unit, second.span()).hash;
  }
  const std::vector<Statement> said = share_statements(world_, mine);
  const std::vector<Computation> computations = computations_of(ranks, claim.hash, said);
  const bool same_parameters =
      said[as_size(ranks.owner)].parameters == said[as_size(ranks.checker)].parameters;
  const RecheckVerdict verdict = same_parameters
                                     ? judge(computations)
                                     : RecheckVerdict{.kind = RecheckVerdict::Kind::kUndecided,
                                                      .rank = ranks.owner,
                                                      .other = ranks.checker};
  const std::vector<std::string> texts = world_.allgather_string(difference(claim, second.span()));
  throw DataError(
      "GradientRecheck", fmt::format("gradients of superstep {}", superstep_), -1,
      fmt::format("{} computed a wrong gradient: {}, {}{}. {}. Computed: {}", suspects(verdict),
                  slots_text(claim.unit), texts[as_size(ranks.checker)],
                  same_parameters ? "" : "; their parameters differ, too", explain(verdict),
                  computations_text(computations)),
      ExitCode::kCorruption);
}

// Collective: the owner sends the partner what it has; the partner's text says where they differ.
std::string GradientRecheck::difference(const Claim& claim, std::span<const float> second) {
  const int owner = claim.owner;
  const int checker = checker_of(owner);
  const bool is_owner = world_.rank() == owner;
  const bool is_checker = world_.rank() == checker;
  std::vector<std::uint64_t> lines;
  if (is_owner) {
    const auto note = std::find_if(notes_.begin(), notes_.end(),
                                   [&](const Note& one) { return one.unit == claim.unit; });
    SUPERSTEP_CHECK(note != notes_.end(), "a claim without a note", claim.unit.begin);
    lines = note->fingerprint.lines;
  }
  std::vector<float> received;
  std::vector<bsp::Outgoing> outgoing;
  std::vector<bsp::Incoming> incoming;
  if (is_owner && !is_checker) {
    outgoing = {{.to = checker, .bytes = std::as_bytes(std::span<const std::uint64_t>(lines))},
                {.to = checker, .bytes = std::as_bytes(second)}};
  }
  if (is_checker && !is_owner) {
    lines.resize(as_size(num_fingerprint_lines(layout_)));
    received.resize(as_size(layout_.size()));
    incoming = {{.from = owner, .bytes = std::as_writable_bytes(std::span<std::uint64_t>(lines))},
                {.from = owner, .bytes = std::as_writable_bytes(std::span<float>(received))}};
  }
  world_.exchange(outgoing, incoming);
  return is_checker ? what_differs(claim, lines, is_owner ? second : received) : std::string();
}

std::string GradientRecheck::what_differs(const Claim& claim, std::span<const std::uint64_t> lines,
                                          std::span<const float> second) const {
  const std::optional<GradientDifference> found =
      first_difference(layout_, lines, second, again_.span());
  if (!found) {
    return "loss or counts differ";
  }
  if (!found->theirs) {
    return fmt::format("somewhere from {0}[{1}] to [{2}], where rank {3} has {4} at [{1}]",
                       found->entry, found->first, found->last, world_.rank(), found->ours);
  }
  return fmt::format("{}[{}] is {} by rank {} and {} by rank {}", found->entry, found->first,
                     *found->theirs, claim.owner, found->ours, world_.rank());
}

std::string GradientRecheck::suspects(const RecheckVerdict& verdict) const {
  const auto rank_on_host = [&](int rank) {
    return fmt::format("rank {} on {}", rank, world_.host_of(rank));
  };
  return rank_on_host(verdict.rank) + (verdict.kind == RecheckVerdict::Kind::kUndecided
                                           ? " or " + rank_on_host(verdict.other)
                                           : "");
}

std::string GradientRecheck::explain(const RecheckVerdict& verdict) const {
  const std::string host = world_.host_of(verdict.rank);
  switch (verdict.kind) {
    case RecheckVerdict::Kind::kTransient:
      return fmt::format(
          "It was wrong once, and right when repeated. Suspect the processor or the "
          "memory of {0}; continue from the newest checkpoint, without {0} if it is "
          "named again",
          host);
    case RecheckVerdict::Kind::kPersistent:
      return fmt::format(
          "It is wrong each time. Suspect the processor or the memory of {0}; "
          "continue from the newest checkpoint without {0}",
          host);
    case RecheckVerdict::Kind::kUndecided:
      break;
  }
  return fmt::format(
      "Which of the two is not decided. Suspect processor and memory of both; "
      "continue from the newest checkpoint{}",
      world_.size() > 2 ? "" : ", on 3 ranks or more, where a third one decides");
}

}  // namespace superstep::worker
