// What mpirun's standard error tells about a job: its number, and which rank or node was lost, was
// late, cannot be reached, computed wrong or found its memory changed.
//
// Fed with the stream as it comes, in pieces of any size. Only whole lines are looked at; nothing
// that mpirun or a rank may print is an error here.
//
//   Diagnosis diagnosis;
//   std::string for_people = diagnosis.feed(bytes);   // without the line that was asked for by us
//   diagnosis.named();                                 // rank 1 on host node-b
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace superstep::cluster {

struct NamedCulprit {
  int rank = -1;     // -1: a whole node
  std::string host;  // may be empty: a rank's message without a node
  std::string what;  // "rank 1 on node-b was ended by signal 9 (Killed)"
};

class Diagnosis {
 public:
  // Returns what is to be shown, line by line: everything but the line of `mpirun --report-uri +`.
  std::string feed(std::string_view bytes);
  // The rest of an unfinished line, at the end of the stream.
  std::string finish();

  // The first rank or node that mpirun named, or the ranks themselves: late ones when all of them
  // are on one host. Else, from finish() on, the first host that ssh could not reach: a rank may
  // print such a line, too, and mpirun then goes on.
  const std::optional<NamedCulprit>& named() const { return named_; }
  // Open MPI's number of the job of mpirun's daemons; the ranks' job is the next number.
  const std::optional<std::uint32_t>& daemon_job() const { return daemon_job_; }

 private:
  std::string take_line(std::string_view line_end);
  bool is_for_people(std::string_view line);
  void look_for_culprit(std::string_view line);
  void look_for_lost_node(std::string_view line);
  void look_for_wrong_rank(std::string_view line);
  void look_for_changed_memory(std::string_view line);
  void look_for_late_ranks(std::string_view line);
  void end_late_ranks();
  void look_for_unreachable_node(std::string_view line);

  std::string unfinished_;
  std::optional<NamedCulprit> named_;
  std::optional<NamedCulprit> unreachable_;
  std::optional<std::uint32_t> daemon_job_;
  bool lost_daemon_ = false;        // the next line with a node names it
  bool in_late_ranks_ = false;      // the lines that follow name them
  std::vector<NamedCulprit> late_;  // so far
};

}  // namespace superstep::cluster
