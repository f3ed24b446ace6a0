// Weights as NumPy files: .npz (a zip of .npy members, one per layout entry) and single .npy files.
//
// Written: members in layout order, stored uncompressed, .npy format 1.0, float32, C order, no time
// stamps, so equal weights give equal files; numpy.load(path)["dense1/weight"] reads them. The file
// appears whole or not at all.
//
// Read: float32 and float64 (rounded to float32), little-endian, C order; stored or deflated
// members. Everything else is a DataError that says what was found: other types, big-endian and
// Fortran order, object arrays (never unpickled), encrypted members, two members of one name, names
// that leave the archive, damaged archives. Sizes in headers are checked against the real size of
// the member before anything is allocated.
//
//   write_npz(run / "weights.npz", layout, server.pull().buffer());
//
//   std::vector<float> buffer(layout.size());
//   LoadedWeights report = read_weights("pretrained.npz", layout, buffer);       // warm start
//
//   NpzReader reader("pretrained.npz");
//   NamedArray kernel = reader.read("dense1/weight");
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "kernels/shape.h"
#include "paramserver/layout.h"

namespace superstep::paramserver {

// buffer.size() == layout.size(). An existing file is replaced.
void write_npz(const std::filesystem::path& path, const ParameterLayout& layout,
               std::span<const float> buffer);

struct NamedArray {
  std::string name;  // of the member without ".npy"; "" for a single .npy file
  kernels::Shape shape;
  std::vector<float> values;
};

NamedArray read_npy(const std::filesystem::path& path);

// One open .npz. Move-only, one thread at a time.
class NpzReader {
 public:
  // Verifies the directory of the archive; contents (and their CRC-32) are verified by read().
  explicit NpzReader(std::filesystem::path path);
  NpzReader(NpzReader&&) noexcept;
  NpzReader& operator=(NpzReader&&) noexcept;
  ~NpzReader();

  const std::vector<std::string>& names() const;  // in the archive's order
  // Throws InvalidArgument with the nearest name for one that is not there.
  NamedArray read(const std::string& name) const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

enum class MissingEntries : std::uint8_t {
  kRefuse,  // every entry of the layout must be in the file
  kKeep,    // entries that are not there keep what the buffer holds (a new head on old layers)
};

struct LoadedWeights {
  std::vector<std::string> loaded;  // entries of the layout, in order
  std::vector<std::string> kept;    // entries of the layout that the file does not have
  std::vector<std::string> unused;  // names in the file that the layout does not have
};

// Reads the entries of `layout` by name into buffer (size layout.size()). Throws DataError (exit
// code kBadCheckpoint) that lists missing entries and shapes that differ; the buffer is unchanged
// then.
LoadedWeights read_weights(const std::filesystem::path& path, const ParameterLayout& layout,
                           std::span<float> buffer,
                           MissingEntries missing = MissingEntries::kRefuse);

}  // namespace superstep::paramserver
