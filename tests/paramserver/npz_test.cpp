#include "paramserver/npz.h"

#include <cmath>
#include <cstring>
#include <limits>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "base/hash.h"
#include "paramserver/npy_header.h"
#include "tests/base/temporary_directory.h"
#include "tests/paramserver/checkpoint_fixture.h"
#include "tests/paramserver/handmade_zip.h"
#include "tests/support/error_text.h"

namespace superstep::paramserver {
namespace {

namespace fs = std::filesystem;
using ::superstep::testing::crc32_of;
using ::superstep::testing::deflated;
using ::superstep::testing::error_text;
using ::superstep::testing::little_endian;
using ::superstep::testing::npy_file;
using ::superstep::testing::overwrite_byte;
using ::superstep::testing::read_bytes;
using ::superstep::testing::write_bytes;
using ::superstep::testing::zip_file;
using ::superstep::testing::zip_member;
using ::superstep::testing::ZipMemberSpec;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr const char* kTwoByTwo = "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 2), }";

template <typename T>
std::string bytes_of(const std::vector<T>& values) {
  return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T)};
}

std::string two_by_two() {
  return npy_file(kTwoByTwo, bytes_of<float>({1.0F, -2.0F, 0.5F, 3.25F}));
}

ParameterLayout test_layout() {
  ParameterLayout layout;
  layout.add({.name = "dense1/weight", .shape = {2, 3}});
  layout.add({.name = "dense1/bias", .shape = {3}, .decayed = false});
  layout.add({.name = "scale", .shape = {}});
  layout.freeze();
  return layout;
}

// Entries count from 1; padding is NaN, so that it would show.
std::vector<float> test_buffer(const ParameterLayout& layout) {
  std::vector<float> buffer(static_cast<std::size_t>(layout.size()),
                            std::numeric_limits<float>::quiet_NaN());
  float next = 1.0F;
  for (const LayoutEntry& entry : layout.entries()) {
    for (std::int64_t i = 0; i < entry.num_elements(); ++i) {
      buffer[static_cast<std::size_t>(entry.offset + i)] = next++;
    }
  }
  return buffer;
}

class Npz : public ::testing::Test {
 protected:
  fs::path make(std::string_view bytes) {
    const fs::path path = directory_ / "made";
    write_bytes(path, bytes);
    return path;
  }
  // The message for what is read; empty when all of it is good.
  std::string problem_of_npz(std::string_view bytes) {
    return error_text<DataError>([&] {
      const NpzReader reader(make(bytes));
      for (const std::string& name : reader.names()) {
        reader.read(name);
      }
    });
  }
  std::string problem_of_npy(std::string_view bytes) {
    return error_text<DataError>([&] { read_npy(make(bytes)); });
  }
  std::string problem_of_header(const char* dictionary) {
    return problem_of_npy(npy_file(dictionary, std::string(16, '\0')));
  }

  testing::TemporaryDirectory directory_;
};

// A member of a plain archive, found by walking over the local headers.
struct Found {
  std::string name;
  std::string data;
};

std::uint64_t number_at(const std::string& file, std::size_t offset, std::size_t count) {
  std::uint64_t number = 0;
  std::memcpy(&number, file.data() + offset, count);
  return number;
}

std::vector<Found> walk(const std::string& file) {
  std::vector<Found> members;
  std::size_t at = 0;
  while (file.compare(at, 4, "PK\3\4") == 0) {
    EXPECT_EQ(number_at(file, at + 6, 2) & 1, 0U) << "encrypted";
    EXPECT_EQ(number_at(file, at + 8, 2), 0U) << "compressed";
    EXPECT_EQ(number_at(file, at + 10, 2), 0U) << "time of day";
    EXPECT_EQ(number_at(file, at + 12, 2), 0x21U) << "1980-01-01";
    const std::size_t size = number_at(file, at + 18, 4);
    EXPECT_EQ(number_at(file, at + 22, 4), size);
    const std::size_t name_size = number_at(file, at + 26, 2);
    const std::size_t data = at + 30 + name_size + number_at(file, at + 28, 2);
    members.push_back({file.substr(at + 30, name_size), file.substr(data, size)});
    EXPECT_EQ(number_at(file, at + 14, 4), crc32_of(members.back().data));
    at = data + size;
  }
  EXPECT_EQ(file.compare(at, 4, "PK\1\2"), 0) << "no central directory after the last member";
  return members;
}

// What numpy writes for this array: header of 128 or fewer bytes, a multiple of 64.
std::string expected_npy(const std::string& shape, const std::vector<float>& values) {
  std::string dictionary = "{'descr': '<f4', 'fortran_order': False, 'shape': " + shape + ", }";
  while ((10 + dictionary.size() + 1) % 64 != 0) {
    dictionary += ' ';
  }
  return npy_file(dictionary, bytes_of(values));
}

TEST_F(Npz, IsWrittenAsPlainMembersInLayoutOrder) {
  const ParameterLayout layout = test_layout();
  write_npz(directory_ / "w.npz", layout, test_buffer(layout));
  const std::vector<Found> members = walk(read_bytes(directory_ / "w.npz"));
  ASSERT_EQ(members.size(), 3U);
  EXPECT_EQ(members[0].name, "dense1/weight.npy");
  EXPECT_EQ(members[0].data, expected_npy("(2, 3)", {1, 2, 3, 4, 5, 6}));
  EXPECT_EQ(members[1].name, "dense1/bias.npy");
  EXPECT_EQ(members[1].data, expected_npy("(3,)", {7, 8, 9}));
  EXPECT_EQ(members[2].name, "scale.npy");
  EXPECT_EQ(members[2].data, expected_npy("()", {10}));
}

TEST_F(Npz, HasTheSameBytesEveryTime) {
  const ParameterLayout layout = test_layout();
  write_npz(directory_ / "a.npz", layout, test_buffer(layout));
  ::setenv("TZ", "Pacific/Auckland", 1);
  write_npz(directory_ / "b.npz", layout, test_buffer(layout));
  ::unsetenv("TZ");
  EXPECT_EQ(read_bytes(directory_ / "a.npz"), read_bytes(directory_ / "b.npz"));
}

TEST_F(Npz, ReplacesAnOlderFileAndLeavesNothingElse) {
  const ParameterLayout layout = test_layout();
  write_bytes(directory_ / "w.npz", "old");
  write_npz(directory_ / "w.npz", layout, test_buffer(layout));
  EXPECT_EQ(NpzReader(directory_ / "w.npz").names().size(), 3U);
  EXPECT_EQ(std::distance(fs::directory_iterator(directory_.path()), {}), 1);
}

TEST_F(Npz, SaysWhyItCannotBeWritten) {
  const ParameterLayout layout = test_layout();
  const auto write_to = [&](const fs::path& path) {
    return error_text<DataError>([&] { write_npz(path, layout, test_buffer(layout)); });
  };
  EXPECT_THAT(write_to(directory_ / "nothing" / "w.npz"), HasSubstr("w.npz: cannot"));
  fs::create_directory(directory_ / "folder");
  EXPECT_THAT(write_to(directory_ / "folder"), HasSubstr("Is a directory"));
  EXPECT_EQ(std::distance(fs::directory_iterator(directory_.path()), {}), 1);
}

TEST_F(Npz, BringsBackWhatWasWritten) {
  const ParameterLayout layout = test_layout();
  const std::vector<float> written = test_buffer(layout);
  write_npz(directory_ / "w.npz", layout, written);
  std::vector<float> buffer(written.size(), -1.0F);
  const LoadedWeights report = read_weights(directory_ / "w.npz", layout, buffer);
  EXPECT_EQ(layout.parameters_hash(buffer), layout.parameters_hash(written));
  EXPECT_EQ(buffer[6], -1.0F) << "padding was touched";
  EXPECT_THAT(report.loaded, ElementsAre("dense1/weight", "dense1/bias", "scale"));
  EXPECT_THAT(report.kept, IsEmpty());
  EXPECT_THAT(report.unused, IsEmpty());
}

TEST_F(Npz, ReadsStoredAndDeflatedMembers) {
  ZipMemberSpec compressed = zip_member("b.npy", two_by_two());
  compressed.stored = deflated(two_by_two());
  compressed.method = 8;
  const NpzReader reader(make(zip_file({zip_member("a/b/c.npy", two_by_two()), compressed})));
  EXPECT_THAT(reader.names(), ElementsAre("a/b/c", "b"));
  for (const char* name : {"b", "a/b/c"}) {
    const NamedArray array = reader.read(name);
    EXPECT_EQ(array.name, name);
    EXPECT_EQ(array.shape, (kernels::Shape{2, 2}));
    EXPECT_THAT(array.values, ElementsAre(1.0F, -2.0F, 0.5F, 3.25F));
  }
  EXPECT_THROW(reader.read("c"), InvalidArgument);
}

TEST_F(Npz, RefusesUnsafeAndUnexpectedMembers) {
  const auto named = [&](const char* name) {
    return problem_of_npz(zip_file({zip_member(name, two_by_two())}));
  };
  for (const char* name : {"../a.npy", "a/../../b.npy", "/etc/a.npy", "a\\b.npy", ".."}) {
    EXPECT_THAT(named(name), HasSubstr("unsafe name")) << name;
  }
  EXPECT_EQ(named("a..b.npy"), "");
  EXPECT_THAT(named("readme.txt"), HasSubstr("not an array"));
  EXPECT_THAT(named(".npy"), HasSubstr("not an array"));
  EXPECT_THAT(problem_of_npz(
                  zip_file({zip_member("a.npy", two_by_two()), zip_member("a.npy", two_by_two())})),
              HasSubstr("two members have the same name"));
}

TEST_F(Npz, RefusesEncryptedAndUnknownCompression) {
  ZipMemberSpec member = zip_member("a.npy", two_by_two());
  member.flags = 1;
  EXPECT_THAT(problem_of_npz(zip_file({member})), HasSubstr("encrypted"));
  member.flags = 0;
  member.method = 12;  // bzip2
  EXPECT_THAT(problem_of_npz(zip_file({member})), HasSubstr("compression method: got 12"));
}

TEST_F(Npz, RefusesSizesThatCannotBe) {
  ZipMemberSpec bomb = zip_member("a.npy", two_by_two());
  bomb.stored = deflated(two_by_two());
  bomb.method = 8;
  bomb.size = 0xF0000000;
  EXPECT_THAT(problem_of_npz(zip_file({bomb})), HasSubstr("impossible size: got 4026531840"));
  // A header that promises more than the member has.
  const std::string huge =
      npy_file("{'descr': '<f4', 'fortran_order': False, 'shape': (1099511627776,)}", "1234");
  EXPECT_THAT(problem_of_npz(zip_file({zip_member("a.npy", huge)})),
              HasSubstr("got 4 bytes, expected 1099511627776 elements"));
}

TEST_F(Npz, RefusesDamagedContents) {
  ZipMemberSpec member = zip_member("a.npy", two_by_two());
  member.crc ^= 1;
  EXPECT_THAT(problem_of_npz(zip_file({member})), HasSubstr("CRC"));
  const std::string good = zip_file({zip_member("a.npy", two_by_two())});
  EXPECT_EQ(problem_of_npz(good), "");
  for (std::size_t size = 0; size < good.size(); ++size) {
    ASSERT_NE(problem_of_npz(std::string_view(good).substr(0, size)), "") << size;
  }
  EXPECT_THAT(problem_of_npz("this is no archive"), HasSubstr("not a sound zip archive"));
}

// Flips that matter change data or structure; the rest is fields that nothing depends on. None of
// them may give other values silently.
TEST_F(Npz, NeverGivesOtherValuesAfterABitFlip) {
  const std::string good = zip_file({zip_member("a.npy", two_by_two())});
  const fs::path path = make(good);
  for (std::size_t bit = 0; bit < 8 * good.size(); ++bit) {
    overwrite_byte(path, bit / 8, static_cast<char>(good[bit / 8] ^ (1 << (bit % 8))));
    try {
      const NpzReader reader(path);
      for (const std::string& name : reader.names()) {
        EXPECT_THAT(reader.read(name).values, ElementsAre(1.0F, -2.0F, 0.5F, 3.25F)) << bit;
      }
    } catch (const DataError&) {
    }
    overwrite_byte(path, bit / 8, good[bit / 8]);
  }
}

TEST_F(Npz, ReadsEveryHeaderThatNumpyWrites) {
  const std::string data = bytes_of<float>({1.0F, -2.0F, 0.5F, 3.25F});
  const auto values = [&](const std::string& file) { return read_npy(make(file)).values; };
  EXPECT_THAT(values(npy_file(kTwoByTwo, data, 2)), ElementsAre(1.0F, -2.0F, 0.5F, 3.25F));
  EXPECT_THAT(values(npy_file(kTwoByTwo, data, 3)), ElementsAre(1.0F, -2.0F, 0.5F, 3.25F));
  EXPECT_THAT(
      values(npy_file("{\"shape\":(4,),\"fortran_order\":False,\"descr\":\"<f4\"}   ", data)),
      ElementsAre(1.0F, -2.0F, 0.5F, 3.25F));
  const NamedArray scalar = read_npy(make(npy_file(
      "{'descr': '<f4', 'fortran_order': False, 'shape': (), }", bytes_of<float>({1.0F}))));
  EXPECT_EQ(scalar.shape.rank(), 0);
  const NamedArray empty =
      read_npy(make(npy_file("{'descr': '<f4', 'fortran_order': False, 'shape': (3, 0), }", "")));
  EXPECT_THAT(empty.values, IsEmpty());
}

TEST_F(Npz, RoundsDoublesAndRefusesThoseThatDoNotFit) {
  const char* header = "{'descr': '<f8', 'fortran_order': False, 'shape': (3,), }";
  const double infinity = std::numeric_limits<double>::infinity();
  EXPECT_THAT(read_npy(make(npy_file(header, bytes_of<double>({0.1, -infinity, 1e-60})))).values,
              ElementsAre(0.1F, -std::numeric_limits<float>::infinity(), 0.0F));
  EXPECT_THAT(problem_of_npy(npy_file(header, bytes_of<double>({0.1, 1e39, 1.0}))),
              HasSubstr("element 1 does not fit float32: got 1e+39"));
}

TEST_F(Npz, SaysWhichKindOfArrayItRefuses) {
  const auto of_type = [&](const std::string& type) {
    return problem_of_header(
        ("{'descr': '" + type + "', 'fortran_order': False, 'shape': (2, 2), }").c_str());
  };
  EXPECT_THAT(of_type("|O"), HasSubstr("pickled objects are never read"));
  EXPECT_THAT(of_type(">f4"), HasSubstr("big-endian array: got type '>f4'"));
  EXPECT_THAT(of_type("<i8"), HasSubstr("got type '<i8', expected '<f4' or '<f8'"));
  EXPECT_THAT(of_type("<f2"), HasSubstr("got type '<f2'"));
  EXPECT_THAT(problem_of_header("{'descr': '<f4', 'fortran_order': True, 'shape': (2, 2), }"),
              HasSubstr("Fortran order"));
  EXPECT_THAT(problem_of_header("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (4,)}"),
              HasSubstr("structured type"));
}

TEST_F(Npz, RefusesHeadersThatAreNoDictionary) {
  for (const char* text :
       {"", "{", "{}", "[]", "{'descr': '<f4'}", "{'descr': '<f4', 'fortran_order': False}",
        "{'descr': '<f4', 'fortran_order': 0, 'shape': (4,)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (-4,)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': 4}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (4L,)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (4,)} x",
        "{'descr': '<f4', 'descr': '<f4', 'fortran_order': False, 'shape': (4,)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (4,), 'more': 1}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999,)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (4294967296, 4294967296, 4)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (1, 1, 1, 1, 1, 1, 1, 1, 4)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (4,"}) {
    EXPECT_NE(problem_of_header(text), "") << text;
  }
}

TEST_F(Npz, ChecksSizesOfPlainFiles) {
  const std::string good = two_by_two();
  EXPECT_EQ(problem_of_npy(good), "");
  for (std::size_t size = 0; size < good.size(); ++size) {
    ASSERT_NE(problem_of_npy(std::string_view(good).substr(0, size)), "") << size;
  }
  EXPECT_THAT(problem_of_npy(good + "x"), HasSubstr("got 17 bytes, expected 4 elements"));
  EXPECT_THAT(problem_of_npy("\x93NUMPX" + good.substr(6)), HasSubstr("wrong magic number"));
  EXPECT_THAT(problem_of_npy("\x93NUMPY\x04" + good.substr(7)), HasSubstr("got 4.0"));
  const std::string long_header =
      std::string("\x93NUMPY\2\0", 8) + little_endian(0x7FFFFFFF, 4) + good.substr(10);
  EXPECT_THAT(problem_of_npy(long_header), HasSubstr("header too long"));
  EXPECT_THAT(error_text<DataError>([&] { read_npy(directory_ / "nothing"); }),
              HasSubstr("No such file"));
}

TEST_F(Npz, ListsMissingEntriesAndOtherShapesBeforeTouchingAnything) {
  const ParameterLayout layout = test_layout();
  const fs::path path = make(zip_file(
      {zip_member("dense1/weight.npy", two_by_two()), zip_member("head.npy", two_by_two())}));
  const std::vector<float> before(static_cast<std::size_t>(layout.size()), 5.0F);
  std::vector<float> buffer = before;
  EXPECT_THAT(error_text<DataError>([&] { read_weights(path, layout, buffer); }),
              HasSubstr("lacks 2 of 3 entries: dense1/bias, scale"));
  EXPECT_THAT(
      error_text<DataError>([&] { read_weights(path, layout, buffer, MissingEntries::kKeep); }),
      HasSubstr("other shapes: dense1/weight: got (2, 2), expected (2, 3)"));
  EXPECT_THAT(error_text<DataError>([&] {
                read_weights(make(zip_file({zip_member("head.npy", two_by_two())})), layout, buffer,
                             MissingEntries::kKeep);
              }),
              HasSubstr("has no entry of the model; it has head"));
  EXPECT_EQ(buffer, before);
}

TEST_F(Npz, RefusesWeightsThatNoTrainingCouldStartFrom) {
  ParameterLayout layout;
  layout.add({.name = "norm1/running_variance",
              .shape = {3},
              .role = EntryRole::kStatistic,
              .fold = 0.1F,
              .decayed = false});
  layout.add({.name = "dense1/bias", .shape = {3}});
  layout.freeze();
  const auto file = [](std::vector<float> values) {
    return npy_file("{'descr': '<f4', 'fortran_order': False, 'shape': (3,)}", bytes_of(values));
  };
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const std::vector<float> before(static_cast<std::size_t>(layout.size()), 5.0F);
  std::vector<float> buffer = before;
  const auto problem_with = [&](std::vector<float> variance, std::vector<float> bias) {
    const fs::path path = make(zip_file({zip_member("norm1/running_variance.npy", file(variance)),
                                         zip_member("dense1/bias.npy", file(bias))}));
    return error_text<DataError>([&] { read_weights(path, layout, buffer); });
  };
  EXPECT_THAT(problem_with({1.0F, -0.5F, 1.0F}, {0.0F, 0.0F, 0.0F}),
              HasSubstr("made: entry norm1/running_variance, value 1: got -0.5, expected a finite, "
                        "non-negative number"));
  EXPECT_THAT(problem_with({1.0F, 1.0F, 1.0F}, {0.0F, -1.0F, nan}),
              HasSubstr("made: entry dense1/bias, value 2: got nan, expected a finite number"));
  EXPECT_EQ(buffer, before);
  EXPECT_EQ(problem_with({1.0F, 0.0F, 1.0F}, {0.0F, -1.0F, 2.0F}), "");
}

TEST_F(Npz, KeepsWhatTheFileDoesNotHaveWhenAsked) {
  const ParameterLayout layout = test_layout();
  const std::string bias = npy_file("{'descr': '<f4', 'fortran_order': False, 'shape': (3,)}",
                                    bytes_of<float>({1.0F, 2.0F, 3.0F}));
  const fs::path path =
      make(zip_file({zip_member("head.npy", two_by_two()), zip_member("dense1/bias.npy", bias)}));
  std::vector<float> buffer(static_cast<std::size_t>(layout.size()), 5.0F);
  const LoadedWeights report = read_weights(path, layout, buffer, MissingEntries::kKeep);
  EXPECT_THAT(report.loaded, ElementsAre("dense1/bias"));
  EXPECT_THAT(report.kept, ElementsAre("dense1/weight", "scale"));
  EXPECT_THAT(report.unused, ElementsAre("head"));
  EXPECT_EQ(buffer[0], 5.0F);
  EXPECT_EQ(buffer[16], 1.0F);
  EXPECT_EQ(buffer[18], 3.0F);
  EXPECT_EQ(buffer[19], 5.0F);
}

}  // namespace
}  // namespace superstep::paramserver
