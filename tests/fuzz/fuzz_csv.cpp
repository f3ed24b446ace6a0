// CSV: the first byte of the input says as what it is read. Even: a table, of columns with a header
// or, by the second bit, without one; odd: a schema file.
#include <cstddef>
#include <cstdint>
#include <filesystem>

#include "base/error.h"
#include "bsp/environment.h"
#include "bsp/world.h"
#include "tests/fuzz/input_file.h"
#include "worker/data/table.h"

namespace {

using namespace superstep;

void read(const std::filesystem::path& path, bool has_header) {
  const worker::MappedFile file(path);
  const worker::CsvDialect dialect;
  worker::SchemaRequest request;
  if (!has_header) {
    request.columns = {"a", "b"};
  }
  const worker::CsvSchema schema = worker::infer_schema(file, dialect, request);
  worker::to_text(schema);
  static bsp::Environment environment;
  const int code = environment.run({}, [&](bsp::World& world) {
    try {
      const worker::Table table = worker::read_table(world, file, schema, dialect);
      for (const worker::TableColumn& column : table.columns) {
        if (column.values.size() != static_cast<std::size_t>(table.num_rows)) {
          __builtin_trap();
        }
      }
    } catch (const DataError&) {
    }
  });
  if (code != 0) {
    __builtin_trap();  // something else was thrown
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static testing::InputFile file;
  if (size == 0) {
    return 0;
  }
  const auto path = file.hold(data + 1, size - 1);
  try {
    if (data[0] % 2 == 1) {
      worker::read_schema_file(path);
    } else {
      read(path, data[0] % 4 == 0);
    }
  } catch (const DataError&) {
    // A clear refusal; anything else ends the fuzzer.
  }
  return 0;
}
