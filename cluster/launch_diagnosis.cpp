#include "cluster/launch_diagnosis.h"

#include <algorithm>
#include <charconv>
#include <system_error>
#include <utility>

#include <fmt/format.h>

namespace superstep::cluster {

namespace {

// A line of this length is passed on before it ends: mpirun writes none, but a rank may.
constexpr std::size_t kLongestLine = std::size_t{1} << 16;

// A number at the beginning of `text`, which is moved past it.
template <typename Number>
std::optional<Number> take_number(std::string_view& text) {
  Number number{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc()) {
    return std::nullopt;
  }
  text.remove_prefix(static_cast<std::size_t>(end - text.data()));
  return number;
}

// What follows `marker`; nullopt when it is not there.
std::optional<std::string_view> after(std::string_view text, std::string_view marker) {
  const std::size_t at = text.find(marker);
  if (at == std::string_view::npos) {
    return std::nullopt;
  }
  return text.substr(at + marker.size());
}

std::string_view first_word(std::string_view text) {
  text.remove_prefix(std::min(text.find_first_not_of(" \t"), text.size()));
  return text.substr(0, text.find_first_of(" \t\r"));
}

}  // namespace

std::string Diagnosis::feed(std::string_view bytes) {
  std::string shown;
  for (std::size_t end = bytes.find('\n'); end != std::string_view::npos; end = bytes.find('\n')) {
    unfinished_ += bytes.substr(0, end);
    bytes.remove_prefix(end + 1);
    shown += take_line("\n");
  }
  unfinished_ += bytes;
  return unfinished_.size() < kLongestLine ? shown : shown + take_line("");
}

std::string Diagnosis::take_line(std::string_view line_end) {
  std::string line = std::exchange(unfinished_, {});
  return is_for_people(line) ? line.append(line_end) : std::string();
}

std::string Diagnosis::finish() {
  std::string rest = take_line("");
  end_late_ranks();
  if (!named_) {
    named_ = std::move(unreachable_);
  }
  return rest;
}

bool Diagnosis::is_for_people(std::string_view line) {
  std::string_view rest = line;
  if (!daemon_job_) {
    const std::optional<std::uint32_t> job = take_number<std::uint32_t>(rest);
    if (job && rest.starts_with(".0;tcp")) {  // "714473472.0;tcp://192.0.2.2:51541;..."
      daemon_job_ = job;
      return false;
    }
  }
  if (!named_) {
    look_for_culprit(line);
    look_for_lost_node(line);
  }
  if (!named_) {
    look_for_wrong_rank(line);
  }
  if (!named_) {
    look_for_changed_memory(line);
  }
  if (!named_) {
    look_for_late_ranks(line);
  }
  if (!unreachable_) {
    look_for_unreachable_node(line);
  }
  return true;
}

// "mpirun noticed that process rank 1 with PID 0 on node b exited on signal 9 (Killed)."
void Diagnosis::look_for_culprit(std::string_view line) {
  std::optional<std::string_view> rest = after(line, "mpirun noticed that process rank ");
  if (!rest) {
    return;
  }
  const std::optional<int> rank = take_number<int>(*rest);
  const std::optional<std::string_view> node = after(*rest, " on node ");
  if (!rank || !node) {
    return;
  }
  const std::string host(first_word(*node));
  std::string_view how = after(*node, " exited on ").value_or("an unknown reason");
  how = how.ends_with('.') ? how.substr(0, how.size() - 1) : how;
  named_ = {.rank = *rank,
            .host = host,
            .what = fmt::format("rank {} on {} was ended by {}", *rank, host, how)};
}

// "ORTE has lost communication with a remote daemon." ... "  Remote daemon: [[..],1] on node b"
void Diagnosis::look_for_lost_node(std::string_view line) {
  if (after(line, "lost communication with a remote daemon")) {
    lost_daemon_ = true;
  }
  const std::optional<std::string_view> daemon = after(line, "Remote daemon:");
  if (!lost_daemon_ || !daemon) {
    return;
  }
  if (const std::optional<std::string_view> node = after(*daemon, " on node ")) {
    const std::string host(first_word(*node));
    named_ = {.rank = -1, .host = host, .what = fmt::format("the connection to {} was lost", host)};
  }
}

// Of the ranks (worker/gradient_recheck.cpp), where they came to know which of them it is:
// "... gradients of superstep 12: rank 1 on b computed a wrong gradient: slots 2 to 3, ..."
void Diagnosis::look_for_wrong_rank(std::string_view line) {
  constexpr std::string_view kWhat = " computed a wrong gradient";
  std::optional<std::string_view> rest = after(line, "[GradientRecheck] gradients of superstep ");
  rest = rest ? after(*rest, ": rank ") : rest;
  const std::optional<int> rank = rest ? take_number<int>(*rest) : std::nullopt;
  const std::optional<std::string_view> node = rank ? after(*rest, " on ") : std::nullopt;
  if (!node) {
    return;
  }
  const std::string_view host = first_word(*node);
  if (node->substr(host.size()).starts_with(kWhat)) {
    named_ = {.rank = *rank,
              .host = std::string(host),
              .what = fmt::format("rank {} on {}{}", *rank, host, kWhat)};
  }
}

// Of the ranks (paramserver/shard_guard.cpp):
// "[ShardGuard] memory of b: rank 1 found parameters changed since update 12, ..."
void Diagnosis::look_for_changed_memory(std::string_view line) {
  const std::optional<std::string_view> rest = after(line, "[ShardGuard] memory of ");
  if (!rest) {
    return;
  }
  const std::string_view host = rest->substr(0, rest->find(": rank "));
  std::optional<std::string_view> finder = after(*rest, ": rank ");
  const std::optional<int> rank = finder ? take_number<int>(*finder) : std::nullopt;
  if (rank && !host.empty() && finder->starts_with(" found ") &&
      after(*finder, " changed since update ")) {
    named_ = {
        .rank = *rank,
        .host = std::string(host),
        .what = fmt::format("rank {} on {} found memory changed where nobody wrote", *rank, host)};
  }
}

// Of the ranks that wait (bsp/status_board.cpp):
// "... ranks {1, 2} did not arrive:"
// "  rank 1: computing in superstep 4, ...; host b"
void Diagnosis::look_for_late_ranks(std::string_view line) {
  if (after(line, "} did not arrive:") || after(line, "} arrived, but do not run:")) {
    in_late_ranks_ = true;
    late_.clear();
    return;
  }
  std::optional<std::string_view> rest = in_late_ranks_ ? after(line, "  rank ") : std::nullopt;
  const std::optional<int> rank = rest ? take_number<int>(*rest) : std::nullopt;
  const std::optional<std::string_view> host = rank ? after(*rest, "; host ") : std::nullopt;
  if (!host) {
    end_late_ranks();
    return;
  }
  late_.push_back({.rank = *rank,
                   .host = std::string(first_word(*host)),
                   .what = fmt::format("rank {} on {} did not arrive", *rank, first_word(*host))});
}

// Late ranks of several hosts accuse none: it may be what is between them.
void Diagnosis::end_late_ranks() {
  const auto is_elsewhere = [&](const NamedCulprit& late) {
    return late.host != late_.front().host;
  };
  if (!named_ && !late_.empty() && std::none_of(late_.begin(), late_.end(), is_elsewhere)) {
    named_ = late_.front();
  }
  in_late_ranks_ = false;
  late_.clear();
}

// Of ssh; mpirun's own text about a daemon that it could not start has no host:
// "ssh: connect to host b port 22: No route to host"
// "ssh: Could not resolve hostname b: Name or service not known"
void Diagnosis::look_for_unreachable_node(std::string_view line) {
  constexpr std::string_view kColon = ": ";
  if (!line.starts_with("ssh: ")) {
    return;
  }
  std::optional<std::string_view> rest = after(line, "connect to host ");
  if (!rest) {
    rest = after(line, "Could not resolve hostname ");
  }
  if (!rest) {
    return;
  }
  std::string_view host = first_word(*rest);
  host = host.ends_with(':') ? host.substr(0, host.size() - 1) : host;
  std::string_view why = after(*rest, kColon).value_or("an unknown reason");
  why = why.substr(0, why.find('\r'));
  unreachable_ = {.rank = -1,
                  .host = std::string(host),
                  .what = fmt::format("{} cannot be reached: {}", host, why)};
}

}  // namespace superstep::cluster
