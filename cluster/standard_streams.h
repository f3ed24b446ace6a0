// Standard input, output and error of the program, whatever state it was started with them in.
//
// A program that is started with a closed standard stream would give its number to the next file it
// opens, and lines for people would go into that file. A reader that has gone away (`superstep
// train
// ... | head -1`) must not end a training, and a result that could not be written (a full disk)
// must not look like success.
#pragma once

#include <cstdio>
#include <optional>
#include <string>
#include <string_view>

namespace superstep::cluster {

// Opens /dev/null in the place of standard streams that are closed. First thing in main.
void open_missing_standard_streams();

// Writing to a reader that has gone away becomes an error like any other (no SIGPIPE).
void survive_lost_readers();

// The text, at once and whole where the system allows it. A failure is not reported here: see
// unwritten_output(). Never throws.
void write_line(std::FILE* stream, std::string_view line);

// What kept standard output from being written completely, or nothing. A reader that has gone away
// wanted no more: that is no failure.
std::optional<std::string> unwritten_output();

}  // namespace superstep::cluster
