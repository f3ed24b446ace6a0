# Compiler options and the one way a folder becomes a library.
#
#   superstep_add_library(bsp [FUZZED] SOURCES world.cpp ... DEPENDS base [LINK MPI::MPI_CXX] [PRIVATE_LINK ...])
#
# makes the target superstep_bsp (alias superstep::bsp), whose include root is the repository. FUZZED says that targets of
# tests/fuzz read with it: libFuzzer sees its branches, which would make arithmetic several times slower.
# The headers that nearly every file includes are precompiled for each library; every file still includes what it
# uses (clang-tidy's leg reads the files without them).

find_package(Threads REQUIRED)

add_library(superstep_options INTERFACE)
target_include_directories(superstep_options INTERFACE ${PROJECT_SOURCE_DIR} ${PROJECT_BINARY_DIR}/generated)
target_compile_options(superstep_options INTERFACE
  -Wall -Wextra -Wpedantic -Wshadow -Wnon-virtual-dtor -Woverloaded-virtual -Wcast-qual
  -march=${SUPERSTEP_ARCH} -ffp-contract=off)
target_link_libraries(superstep_options INTERFACE Threads::Threads)
if(CMAKE_UNITY_BUILD)  # there a source is an included file, whose class members must not have unnamed types
  target_compile_options(superstep_options INTERFACE $<$<CXX_COMPILER_ID:GNU>:-Wno-subobject-linkage>)
endif()
if(SUPERSTEP_WERROR)
  target_compile_options(superstep_options INTERFACE -Werror)
endif()
if(SUPERSTEP_SANITIZE)
  target_compile_options(superstep_options INTERFACE -fsanitize=${SUPERSTEP_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=all -g1)
  target_link_options(superstep_options INTERFACE -fsanitize=${SUPERSTEP_SANITIZE})
endif()
if(SUPERSTEP_FAILPOINTS)
  target_compile_definitions(superstep_options INTERFACE SUPERSTEP_FAILPOINTS)
endif()
if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE Release CACHE STRING "Build type" FORCE)
endif()
string(REPLACE "-O2" "-O3" CMAKE_CXX_FLAGS_RELEASE "${CMAKE_CXX_FLAGS_RELEASE}")

# For code that is not hot.
if(SUPERSTEP_SANITIZE)
  set(SUPERSTEP_QUICK_COMPILATION -O0)
else()
  set(SUPERSTEP_QUICK_COMPILATION $<$<CONFIG:Release>:-O1>)
endif()

set(SUPERSTEP_COMMON_HEADERS <algorithm> <array> <chrono> <filesystem> <functional> <memory> <optional> <span> <string>
  <string_view> <utility> <vector> <fmt/format.h>)

function(superstep_add_library name)
  cmake_parse_arguments(PARSE_ARGV 1 arg "FUZZED" "" "SOURCES;DEPENDS;LINK;PRIVATE_LINK")
  set(target superstep_${name})
  add_library(${target} STATIC ${arg_SOURCES})
  add_library(superstep::${name} ALIAS ${target})
  target_link_libraries(${target} PUBLIC superstep_options)
  foreach(dependency IN LISTS arg_DEPENDS)
    target_link_libraries(${target} PUBLIC superstep::${dependency})
  endforeach()
  target_link_libraries(${target} PUBLIC ${arg_LINK} PRIVATE ${arg_PRIVATE_LINK})
  target_precompile_headers(${target} PRIVATE ${SUPERSTEP_COMMON_HEADERS})
  if(SUPERSTEP_FUZZ AND arg_FUZZED)
    target_compile_options(${target} PRIVATE -fsanitize=fuzzer-no-link)
  endif()
endfunction()
