#include "paramserver/partner_restore.h"

#include <algorithm>
#include <functional>
#include <optional>
#include <set>
#include <sstream>
#include <system_error>
#include <utility>

#include <fmt/format.h>

#include "base/aligned.h"
#include "base/error.h"
#include "paramserver/checkpoint.h"
#include "paramserver/checkpoint_files.h"
#include "paramserver/checkpoint_list.h"
#include "paramserver/checkpoint_notes.h"
#include "paramserver/checkpoint_protocol.h"
#include "paramserver/checkpoint_serialize.h"
#include "paramserver/partner_blocks.h"
#include "paramserver/partner_survey.h"

namespace superstep::paramserver {

namespace {

namespace fs = std::filesystem;

constexpr std::string_view kRestore = "restore_from_partners";
constexpr std::int64_t kMostBlocksInMemory = 256;  // 4 MiB

bool is_first_of_its_node(const bsp::World& world) {
  return world.ranks_at(bsp::Level::kNode).front() == world.rank();
}

std::span<float> values_of_block(std::span<float> values, const Manifest::Array& array,
                                 std::int64_t block) {
  return values.first(static_cast<std::size_t>(block_range(array, block).length()));
}

// One checkpoint that is put together. Every public member is collective.
class Restoration {
 public:
  Restoration(bsp::World& world, const PartnerSources& sources, const PartnerSurvey& survey,
              const RestoreCandidate& candidate)
      : world_(world),
        checkpoints_(sources.checkpoints),
        target_(checkpoints_ / step_directory_name(candidate.superstep)),
        temporary_(target_.native() + ".tmp"),
        pieces_(survey.pieces(candidate)) {
    share_manifest(survey.manifest(candidate));
  }

  const fs::path& target() const { return target_; }

  // For each block the lowest rank that has it. Returns what is nowhere; empty: all is there.
  std::string find_owners() {
    if (!has_manifest_) {
      return "its manifest";
    }
    const std::vector<Piece> sources = sources_of_this_rank();
    std::vector<float> values(kBlockElements);
    std::string lost;
    for (const Manifest::Array& array : manifest_.arrays) {
      std::vector<std::int32_t> owners(array.blocks.size(), world_.size());
      for (std::int64_t block = 0; block < num_blocks(array.num_elements); ++block) {
        if (find_block(sources, array, block, values_of_block(values, array, block)) != nullptr) {
          owners[static_cast<std::size_t>(block)] = world_.rank();
        }
      }
      world_.allreduce<std::int32_t>(owners, owners, bsp::ReduceOp::kMin);
      if (const auto count = std::count(owners.begin(), owners.end(), world_.size()); count > 0) {
        lost += fmt::format("{}{} of {} blocks of {}", lost.empty() ? "" : ", ", count,
                            owners.size(), array.name);
      }
      owners_.push_back(std::move(owners));
    }
    return lost;
  }

  // After find_owners() found everything. Returns a line about it.
  std::string write() {
    const std::string problem = is_root() ? problem_of_target() : "";
    together([&] {
      if (is_root()) {
        Manifest made = manifest_;
        prepare(temporary_, target_, made);
      }
    });
    together([&] { write_blocks(); });
    together([&] {
      if (is_root()) {
        seal(temporary_, target_, manifest_);
      }
    });
    return report(world_.allgather_string(problem).front());
  }

 private:
  bool is_root() const { return world_.rank() == 0; }

  // From the lowest rank that has it to all.
  void share_manifest(const FoundManifest* mine) {
    const int provider =
        world_.allreduce(mine != nullptr ? world_.rank() : world_.size(), bsp::ReduceOp::kMin);
    has_manifest_ = provider < world_.size();
    if (!has_manifest_) {
      return;
    }
    std::vector<std::byte> frame;
    if (world_.rank() == provider) {
      frame = encode_manifest(mine->manifest);
      gave_manifest_ = !mine->is_own;
    }
    std::int64_t size[] = {static_cast<std::int64_t>(frame.size())};
    world_.broadcast<std::int64_t>(size, provider);
    frame.resize(static_cast<std::size_t>(size[0]));
    world_.broadcast<std::uint8_t>({reinterpret_cast<std::uint8_t*>(frame.data()), frame.size()},
                                   provider);
    manifest_ = decode_manifest(frame, target_ / kManifestName);
  }

  // What the run has itself comes first. Looked for each time: prepare() moves it aside.
  std::vector<Piece> sources_of_this_rank() const {
    std::vector<Piece> sources =
        is_root() ? own_pieces(checkpoints_, manifest_) : std::vector<Piece>{};
    sources.insert(sources.end(), pieces_.begin(), pieces_.end());
    return sources;
  }

  std::string problem_of_target() const {
    std::error_code error;
    return fs::exists(fs::symlink_status(target_, error)) ? problem_of_checkpoint(target_)
                                                          : "it was missing";
  }

  // All ranks go on, or all throw.
  void together(const std::function<void()>& piece) {
    if (const std::optional<Note> problem = first_problem(world_, note_of(piece))) {
      if (is_root()) {
        std::error_code ignored;
        fs::remove_all(temporary_, ignored);
      }
      throw DataError(kRestore, target_.native(), -1,
                      fmt::format("not restored: {}", problem->problem), problem->exit_code);
    }
  }

  // The blocks that this rank is the owner of, in runs that fit the buffer.
  void write_blocks() {
    const std::vector<Piece> sources = sources_of_this_rank();
    AlignedBuffer<float> buffer(kMostBlocksInMemory * kBlockElements, Fill::kTailOnly);
    for (std::size_t a = 0; a < owners_.size(); ++a) {
      const auto size = static_cast<std::int64_t>(owners_[a].size());
      for (std::int64_t first = 0; first < size;) {
        std::int64_t last = first;
        while (last < size && last - first < kMostBlocksInMemory && is_owner(a, last)) {
          ++last;
        }
        if (last > first) {
          write_run(manifest_.arrays[a], first, last, sources, buffer.span());
        }
        first = std::max(last, first + 1);
      }
    }
  }

  bool is_owner(std::size_t array, std::int64_t block) const {
    return owners_[array][static_cast<std::size_t>(block)] == world_.rank();
  }

  // Blocks [first, last) of an array.
  void write_run(const Manifest::Array& array, std::int64_t first, std::int64_t last,
                 std::span<const Piece> sources, std::span<float> buffer) {
    const ElementRange range{block_range(array, first).begin, block_range(array, last - 1).end};
    const std::span<float> values = buffer.first(static_cast<std::size_t>(range.length()));
    for (std::int64_t block = first; block < last; ++block) {
      const auto offset = static_cast<std::size_t>((block - first) * kBlockElements);
      const Piece* source =
          find_block(sources, array, block, values_of_block(values.subspan(offset), array, block));
      if (source == nullptr) {
        throw DataError(kRestore, target_.native(), -1,
                        fmt::format("block {} of {} was there and is gone", block, array.name),
                        ExitCode::kBadCheckpoint);
      }
      blocks_from_partners_ += source->is_own ? 0 : 1;
    }
    const std::vector<ArrayPart> part = {
        {.name = array.name, .num_elements = array.num_elements, .range = range, .values = values}};
    write_parts(temporary_, part, manifest_.file_elements);
    reread_parts(temporary_, part, manifest_.file_elements);
  }

  std::string report(const std::string& problem) {
    const bool helped = gave_manifest_ || blocks_from_partners_ > 0;
    std::set<std::string> hosts;
    for (const std::string& host :
         world_.allgather_string(helped ? world_.host_of(world_.rank()) : "")) {
      hosts.insert(host);
    }
    hosts.erase("");
    std::size_t num_all = 0;
    for (const std::vector<std::int32_t>& owners : owners_) {
      num_all += owners.size();
    }
    return fmt::format("restored {} with {} of {} blocks from partner copies on {} ({})",
                       target_.native(),
                       world_.allreduce(blocks_from_partners_, bsp::ReduceOp::kSum), num_all,
                       fmt::join(hosts, ", "), problem);
  }

  bsp::World& world_;
  fs::path checkpoints_;
  fs::path target_;
  fs::path temporary_;
  std::vector<Piece> pieces_;  // of partners, on this node
  Manifest manifest_;
  bool has_manifest_ = false;                      // somebody has
  bool gave_manifest_ = false;                     // this rank, from a partner's piece
  std::vector<std::vector<std::int32_t>> owners_;  // by array and block
  std::int64_t blocks_from_partners_ = 0;          // written by this rank
};

PartnerSurvey look_around(bsp::World& world, const PartnerSources& sources) {
  SurveyPlaces places{.pieces = {}, .checkpoints = {}, .run_id = sources.run_id};
  if (world.rank() == 0) {
    places.checkpoints = sources.checkpoints;
  }
  if (is_first_of_its_node(world)) {
    places.pieces = pieces_of_run(sources.partner_directory, sources.run_id);
  }
  std::int64_t newer_than[] = {sources.newer_than};
  world.broadcast<std::int64_t>(newer_than, 0);
  return {places, newer_than[0]};
}

// Of all ranks; each once, when nodes share the directory.
std::vector<std::string> lines_about_problems(bsp::World& world,
                                              std::span<const std::string> problems) {
  std::string mine;
  for (const std::string& problem : problems) {
    mine += fmt::format("skipped partner copies on {}: {}\n", world.host_of(world.rank()), problem);
  }
  std::set<std::string> lines;
  for (const std::string& text : world.allgather_string(mine)) {
    std::istringstream stream(text);
    for (std::string line; std::getline(stream, line);) {
      lines.insert(line);
    }
  }
  return {lines.begin(), lines.end()};
}

}  // namespace

RestoredFromPartners restore_from_partners(bsp::World& world, const PartnerSources& sources) {
  const PartnerSurvey survey = look_around(world, sources);
  RestoredFromPartners result;
  result.lines = lines_about_problems(world, survey.problems());
  for (const RestoreCandidate& candidate : survey.candidates_of_all(world)) {
    Restoration restoration(world, sources, survey, candidate);
    if (const std::string lost = restoration.find_owners(); !lost.empty()) {
      result.lines.push_back(fmt::format("cannot restore {} from partner copies: missing {}",
                                         restoration.target().native(), lost));
      continue;
    }
    result.lines.push_back(restoration.write());
    result.any = true;
    break;
  }
  return result;
}

}  // namespace superstep::paramserver
