#include "paramserver/partner_survey.h"

#include <algorithm>
#include <functional>
#include <iterator>
#include <sstream>
#include <utility>

#include <fmt/format.h>

#include "base/error.h"
#include "base/error_detail.h"
#include "paramserver/checkpoint_serialize.h"
#include "paramserver/partner_blocks.h"

namespace superstep::paramserver {

namespace {

RestoreCandidate candidate_of(const Manifest& manifest) {
  return {manifest.position.superstep, to_text(manifest.state_hash)};
}

}  // namespace

PartnerSurvey::PartnerSurvey(const SurveyPlaces& places, std::int64_t newer_than) {
  if (!places.checkpoints.empty()) {
    find_own_manifests(places, newer_than);
  }
  if (!places.pieces.empty()) {
    find_pieces(places, newer_than);
  }
}

void PartnerSurvey::find_own_manifests(const SurveyPlaces& places, std::int64_t newer_than) {
  for (const auto& [superstep, directory] : own_directories(places.checkpoints)) {
    if (superstep <= newer_than) {
      continue;
    }
    try {
      Manifest manifest = read_manifest(directory);
      if (manifest.run_id == places.run_id && manifest.position.superstep == superstep) {
        RestoreCandidate candidate = candidate_of(manifest);
        manifests_.try_emplace(std::move(candidate), FoundManifest{std::move(manifest), true});
      }
    } catch (const DataError&) {
      // A partner may have it.
    }
  }
}

// A piece that cannot be read is as good as lost; so is a disk.
void PartnerSurvey::find_pieces(const SurveyPlaces& places, std::int64_t newer_than) {
  try {
    for (const auto& [superstep, directory] : pieces_in(places.pieces)) {
      if (superstep > newer_than) {
        find_piece(directory, places.run_id);
      }
    }
  } catch (const DataError& error) {
    problems_.emplace_back(detail_of(error));
  }
}

void PartnerSurvey::find_piece(const std::filesystem::path& directory, const std::string& run_id) {
  try {
    Piece piece = read_piece(directory, run_id);
    if (!piece.checkpoint_manifest.empty()) {
      Manifest manifest = decode_manifest(piece.checkpoint_manifest, directory);
      if (manifest.run_id == run_id && manifest.position.superstep == piece.superstep) {
        RestoreCandidate candidate = candidate_of(manifest);
        manifests_.try_emplace(std::move(candidate), FoundManifest{std::move(manifest), false});
      }
    }
    pieces_.push_back(std::move(piece));
  } catch (const DataError& error) {
    problems_.emplace_back(detail_of(error));
  }
}

const FoundManifest* PartnerSurvey::manifest(const RestoreCandidate& candidate) const {
  const auto found = manifests_.find(candidate);
  return found == manifests_.end() ? nullptr : &found->second;
}

std::vector<Piece> PartnerSurvey::pieces(const RestoreCandidate& candidate) const {
  std::vector<Piece> found;
  std::copy_if(pieces_.begin(), pieces_.end(), std::back_inserter(found), [&](const Piece& piece) {
    return piece.superstep == candidate.superstep &&
           to_text(piece.state_hash) == candidate.state_hash;
  });
  return found;
}

std::vector<RestoreCandidate> PartnerSurvey::candidates_of_all(bsp::World& world) const {
  std::string mine;
  for (const auto& [candidate, manifest] : manifests_) {
    mine += fmt::format("{} {}\n", candidate.superstep, candidate.state_hash);
  }
  for (const Piece& piece : pieces_) {
    mine += fmt::format("{} {}\n", piece.superstep, to_text(piece.state_hash));
  }
  std::set<RestoreCandidate, std::greater<>> all;
  for (const std::string& text : world.allgather_string(mine)) {
    std::istringstream words(text);
    RestoreCandidate candidate;
    while (words >> candidate.superstep >> candidate.state_hash) {
      all.insert(candidate);
    }
  }
  return {all.begin(), all.end()};
}

}  // namespace superstep::paramserver
