#include "paramserver/partner_copy.h"

#include <algorithm>
#include <system_error>
#include <utility>

#include <fmt/format.h>

#include "base/error_detail.h"
#include "base/file.h"
#include "paramserver/checkpoint_files.h"
#include "paramserver/checkpoint_list.h"
#include "paramserver/checkpoint_serialize.h"
#include "paramserver/partner_piece.h"

namespace superstep::paramserver {

namespace {

namespace fs = std::filesystem;

fs::path unfinished(fs::path target) {
  target += ".tmp";
  return target;
}

std::vector<int> nodes_of(const bsp::World& world) {
  std::vector<int> nodes;
  for (int rank = 0; rank < world.size(); ++rank) {
    nodes.push_back(world.node_of(rank));
  }
  return nodes;
}

}  // namespace

std::vector<int> partners_of(std::span<const int> node_of_rank) {
  std::vector<std::vector<int>> nodes;
  for (std::size_t rank = 0; rank < node_of_rank.size(); ++rank) {
    const auto node = static_cast<std::size_t>(node_of_rank[rank]);
    nodes.resize(std::max(nodes.size(), node + 1));
    nodes[node].push_back(static_cast<int>(rank));
  }
  std::vector<int> partners(node_of_rank.size());
  for (std::size_t node = 0; node < nodes.size(); ++node) {
    const std::vector<int>& next = nodes[(node + 1) % nodes.size()];
    const std::size_t shift = nodes.size() == 1 ? 1 : 0;
    for (std::size_t place = 0; place < nodes[node].size(); ++place) {
      partners[static_cast<std::size_t>(nodes[node][place])] = next[(place + shift) % next.size()];
    }
  }
  return partners;
}

void PartnerCopies::begin(const PartnerOptions& options, const Manifest& manifest,
                          std::span<const ArrayPart> parts, const AllRanges& ranges) {
  options_ = options;
  if (!is_on()) {
    kept_.clear();
    return;
  }
  world_.require_same("run of the checkpoint", manifest.run_id);
  root_ = pieces_of_run(options.directory, manifest.run_id);
  run_id_ = manifest.run_id;
  program_version_ = manifest.program_version;
  position_ = manifest.position;
  rank_ = world_.rank();
  num_ranks_ = world_.size();
  host_ = world_.host_of(rank_);
  partners_ = partners_of(nodes_of(world_));
  make_room(parts, ranges);
  std::vector<bsp::Outgoing> outgoing;
  for (const ArrayPart& part : parts) {
    if (!part.values.empty()) {
      outgoing.push_back({partners_[static_cast<std::size_t>(rank_)], std::as_bytes(part.values)});
    }
  }
  std::vector<bsp::Incoming> incoming;
  for (Kept& kept : kept_) {
    for (KeptPart& part : kept.parts) {
      incoming.push_back({kept.owner, std::as_writable_bytes(part.values.span())});
    }
  }
  world_.exchange(outgoing, incoming);
}

// Buffers of the last checkpoint are used again: parts seldom change.
void PartnerCopies::make_room(std::span<const ArrayPart> parts, const AllRanges& ranges) {
  std::vector<Kept> before = std::exchange(kept_, {});
  for (int owner = 0; owner < num_ranks_; ++owner) {
    if (partners_[static_cast<std::size_t>(owner)] != rank_) {
      continue;
    }
    const std::size_t index = kept_.size();
    Kept kept = index < before.size() ? std::move(before[index]) : Kept{};
    kept.owner = owner;
    std::size_t used = 0;
    for (std::size_t a = 0; a < parts.size(); ++a) {
      const ElementRange range = ranges[a][static_cast<std::size_t>(owner)];
      if (range.length() == 0) {
        continue;
      }
      kept.parts.resize(std::max(kept.parts.size(), used + 1));
      KeptPart& part = kept.parts[used++];
      if (part.values.size() != range.length()) {
        part.values = AlignedBuffer<float>(range.length(), Fill::kTailOnly);
      }
      part.array = a;
      part.part = {.name = parts[a].name,
                   .num_elements = parts[a].num_elements,
                   .range = range,
                   .values = part.values.span()};
    }
    kept.parts.resize(used);
    kept_.push_back(std::move(kept));
  }
}

void PartnerCopies::take_hashes(std::span<const std::vector<std::uint64_t>> hashes,
                                const AllRanges& ranges) {
  if (!is_on()) {
    return;
  }
  std::vector<bsp::Outgoing> outgoing;
  for (std::size_t a = 0; a < hashes.size(); ++a) {
    if (ranges[a][static_cast<std::size_t>(rank_)].length() > 0) {
      outgoing.push_back(
          {partners_[static_cast<std::size_t>(rank_)], std::as_bytes(std::span(hashes[a]))});
    }
  }
  std::vector<bsp::Incoming> incoming;
  for (Kept& kept : kept_) {
    for (KeptPart& part : kept.parts) {
      part.hashes.resize(static_cast<std::size_t>(2 * num_blocks(part.part.range.length())));
      incoming.push_back({kept.owner, std::as_writable_bytes(std::span(part.hashes))});
    }
  }
  world_.exchange(outgoing, incoming);
}

void PartnerCopies::take_manifest(const Manifest& manifest) {
  if (!is_on()) {
    return;
  }
  file_elements_ = manifest.file_elements;
  state_hash_ = manifest.state_hash;
  std::vector<std::byte> frame;
  if (rank_ == 0) {
    frame = encode_manifest(manifest);
  }
  std::int64_t size[] = {static_cast<std::int64_t>(frame.size())};
  world_.broadcast<std::int64_t>(size, 0);
  std::vector<bsp::Outgoing> outgoing;
  std::vector<bsp::Incoming> incoming;
  if (rank_ == 0) {
    for (int rank = 1; rank < num_ranks_; ++rank) {
      if (world_.node_of(rank) != world_.node_of(rank - 1)) {
        outgoing.push_back({rank, frame});
      }
    }
  } else if (is_first_of_node()) {
    frame.resize(static_cast<std::size_t>(size[0]));
    incoming.push_back({0, frame});
  }
  world_.exchange(outgoing, incoming);
  checkpoint_manifest_.assign(reinterpret_cast<const char*>(frame.data()), frame.size());
}

bool PartnerCopies::has_manifest(const Kept& kept) const {
  return !checkpoint_manifest_.empty() && &kept == &kept_.front();
}

fs::path PartnerCopies::target_of(const Kept& kept) const {
  return root_ / owner_directory_name(kept.owner, num_ranks_) /
         step_directory_name(position_.superstep);
}

Manifest PartnerCopies::manifest_of(const Kept& kept) const {
  Manifest manifest;
  manifest.run_id = run_id_;
  manifest.program_version = program_version_;
  manifest.position = position_;
  manifest.file_elements = file_elements_;
  PieceDescription description{.state_hash = state_hash_, .begins = {}, .checkpoint_manifest = {}};
  if (has_manifest(kept)) {
    description.checkpoint_manifest = checkpoint_manifest_;
  }
  for (const KeptPart& part : kept.parts) {
    Manifest::Array array{
        .name = part.part.name, .num_elements = part.part.range.length(), .blocks = {}};
    for (std::size_t i = 0; i < part.hashes.size(); i += 2) {
      array.blocks.push_back({.low = part.hashes[i], .high = part.hashes[i + 1]});
    }
    manifest.arrays.push_back(std::move(array));
    description.begins[part.part.name] = part.part.range.begin;
  }
  describe_piece(description, manifest);
  return manifest;
}

void PartnerCopies::write_piece(const Kept& kept) const {
  const fs::path target = target_of(kept);
  std::vector<ArrayPart> parts;
  for (const KeptPart& part : kept.parts) {
    if (hash_blocks(part.part.values) != part.hashes) {
      throw DataError(kWriteCheckpoint, target.native(), -1,
                      fmt::format("\"{}\" of rank {} arrived with other bytes than were sent",
                                  part.part.name, kept.owner),
                      ExitCode::kCorruption);
    }
    const std::int64_t length = part.part.range.length();
    parts.push_back({.name = part.part.name,
                     .num_elements = length,
                     .range = {0, length},
                     .values = part.part.values});
  }
  make_directories(target.parent_path());
  if (fs::exists(fs::symlink_status(target))) {
    // Of an attempt that could not be resumed from: this superstep would not be done again.
    remove_checkpoint(target);
  }
  Manifest manifest = manifest_of(kept);
  prepare(unfinished(target), target, manifest);
  write_parts(unfinished(target), parts, file_elements_);
  reread_parts(unfinished(target), parts, file_elements_);
  seal(unfinished(target), target, manifest);
}

void PartnerCopies::write() const {
  try {
    for (const Kept& kept : kept_) {
      if (!kept.parts.empty() || has_manifest(kept)) {
        write_piece(kept);
      }
    }
  } catch (const Error& error) {
    throw DataError(kWriteCheckpoint, fmt::format("partner copy on host {}", host_), -1,
                    detail_of(error), error.exit_code());
  } catch (const fs::filesystem_error& error) {
    throw DataError(kWriteCheckpoint, fmt::format("partner copy on host {}", host_), -1,
                    error.what(), ExitCode::kFailure);
  }
}

void PartnerCopies::prune() const {
  if (is_on() && is_first_of_node()) {
    prune_pieces(root_, position_.superstep, std::max(1, options_.keep), options_.pinned);
  }
}

void PartnerCopies::remove_unfinished() const {
  for (const Kept& kept : kept_) {
    std::error_code ignored;
    std::filesystem::remove_all(unfinished(target_of(kept)), ignored);
  }
}

}  // namespace superstep::paramserver
