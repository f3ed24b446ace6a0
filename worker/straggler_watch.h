// Names ranks that are slower than the others, from what their compute phases take.
//
// Every kWindow supersteps all ranks learn each other's median time per sample within the window
// (one superstep that was disturbed does not count). A rank whose median is more than kFactor times
// that of the middle rank in kConfirmations windows one after the other is named, once, until it is
// as fast as the others again: within kWindow * (kConfirmations + 1) supersteps. Ranks without
// samples are not judged. All ranks come to the same findings.
//
// Cost: one allgather of 8 bytes per rank every kWindow supersteps.
#pragma once

#include <cstdint>
#include <iterator>
#include <span>
#include <string>
#include <vector>

namespace superstep::worker {

struct Straggler {
  int rank = 0;
  double slowdown = 1.0;        // of its time per sample, against the middle rank's
  std::string to_text() const;  // "rank 3 takes 2.1 times as long per sample as the middle rank"
};

class StragglerWatch {
 public:
  static constexpr std::int64_t kWindow = 6;
  static constexpr int kConfirmations = 2;
  static constexpr double kFactor = 1.6;

  // After every superstep: what this rank's compute phase took, input included.
  void note(double seconds, std::int64_t num_samples);
  // The window is full: my_median() is to be gathered and judged.
  bool is_due() const { return std::ssize(times_) >= kWindow; }
  double my_median();  // seconds per sample; 0: no samples. Begins the next window

  // medians[rank]: of all ranks. Returns those that are named now.
  std::vector<Straggler> judge(std::span<const double> medians);

 private:
  std::vector<double> times_;
  std::vector<int> slow_windows_;  // by rank, one after the other
};

}  // namespace superstep::worker
