// What could be put together from partner copies: the pieces and manifests that the ranks find. Not
// part of the API.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <set>
#include <string>
#include <tuple>
#include <vector>

#include "bsp/world.h"
#include "paramserver/checkpoint.h"
#include "paramserver/partner_piece.h"

namespace superstep::paramserver {

// A checkpoint that somebody has a piece or the manifest of.
struct RestoreCandidate {
  std::int64_t superstep = 0;
  std::string state_hash;
  friend bool operator<(const RestoreCandidate& a, const RestoreCandidate& b) {
    return std::tie(a.superstep, a.state_hash) < std::tie(b.superstep, b.state_hash);
  }
  friend bool operator>(const RestoreCandidate& a, const RestoreCandidate& b) { return b < a; }
};

struct FoundManifest {
  Manifest manifest;
  bool is_own = false;  // from the run's directory, not from a partner
};

// Where a rank looks. One rank of each node looks at its node's pieces, rank 0 also at what the run
// has itself.
struct SurveyPlaces {
  std::filesystem::path pieces;       // of the run; empty: this rank does not look
  std::filesystem::path checkpoints;  // empty: this rank does not look
  std::string run_id;
};

// What one rank finds that is newer than a superstep. Calls nothing collective.
class PartnerSurvey {
 public:
  PartnerSurvey(const SurveyPlaces& places, std::int64_t newer_than);

  // Pieces and directories that cannot be read, and why.
  const std::vector<std::string>& problems() const { return problems_; }
  // nullptr when this rank does not have it.
  const FoundManifest* manifest(const RestoreCandidate& candidate) const;
  std::vector<Piece> pieces(const RestoreCandidate& candidate) const;
  // Collective: the candidates of all ranks, newest first.
  std::vector<RestoreCandidate> candidates_of_all(bsp::World& world) const;

 private:
  void find_pieces(const SurveyPlaces& places, std::int64_t newer_than);
  void find_piece(const std::filesystem::path& directory, const std::string& run_id);
  void find_own_manifests(const SurveyPlaces& places, std::int64_t newer_than);

  std::vector<std::string> problems_;
  std::vector<Piece> pieces_;
  std::map<RestoreCandidate, FoundManifest> manifests_;
};

}  // namespace superstep::paramserver
