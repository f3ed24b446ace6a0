# The ways a test becomes a ctest entry. Every *_test.cpp under tests/ is named in one of these calls
# (scripts/check_targets.py proves it).
#
#   superstep_add_test_program(bsp_tests SOURCES a_test.cpp b_test.cpp LINK superstep::bsp)
#       one GoogleTest program, whose files are compiled eight at a time (CMAKE_UNITY_BUILD): helpers of the same
#       name in two of them collide, so each has a name of its own, or they are one in a header
#   superstep_add_unit_test(bsp.unit PROGRAM bsp_tests [FILTER "Suite.*"] [LABELS slow threads] [TIMEOUT s])
#       runs it in one process; the label threads makes it part of the thread sanitizer's leg
#   superstep_add_world_test(bsp.world PROGRAM bsp_world_tests [LANES 1 2 3 4 7] [PROCESSES 1 2 3 4]
#                            [MIXED 2x2 3x2] [FILTER ...] [LABELS ...] [TIMEOUT s])
#       runs an SPMD test program once per topology: ctest names carry it (bsp.world.lanes3,
#       bsp.world.mpi.np3, bsp.world.mixed.2x2). The program reads SUPERSTEP_TEST_LANES and
#       SUPERSTEP_TEST_RANKS (processes x lanes) and fails when the world it finds has another size.

find_package(fmt REQUIRED)
find_package(GTest REQUIRED)
find_package(MPI REQUIRED COMPONENTS CXX)

set(SUPERSTEP_TEST_ENVIRONMENT
  "OMPI_ALLOW_RUN_AS_ROOT=1" "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1" "OMPI_MCA_mpi_yield_when_idle=1"
  "OMPI_MCA_rmaps_base_oversubscribe=1"
  "LSAN_OPTIONS=suppressions=${PROJECT_SOURCE_DIR}/cmake/lsan.supp:print_suppressions=0"
  "UBSAN_OPTIONS=print_stacktrace=1"
  "TSAN_OPTIONS=halt_on_error=1:second_deadlock_stack=1")
# The suppressions of Open MPI's leaks only match whole stacks, whose unwinding makes each allocation a hundred
# times slower (kernels.table: 467 s instead of seconds): for tests that start MPI only.
set(SUPERSTEP_ASAN_MPI "ASAN_OPTIONS=fast_unwind_on_malloc=0:detect_stack_use_after_return=0")
set(SUPERSTEP_ASAN_PLAIN "ASAN_OPTIONS=detect_stack_use_after_return=0")
set(SUPERSTEP_MPIRUN ${MPIEXEC_EXECUTABLE} --oversubscribe --bind-to none)
if(SUPERSTEP_SANITIZE)
  set(SUPERSTEP_TIMEOUT_FACTOR 5)
else()
  set(SUPERSTEP_TIMEOUT_FACTOR 1)
endif()

# Tests are compiled for speed of compilation: at -O1 they take 40 % less of it than at -O3, and with sanitizers at
# -O0 40 % less than at -O1.
add_library(superstep_test_options INTERFACE)
target_link_libraries(superstep_test_options INTERFACE superstep_options)
target_compile_options(superstep_test_options INTERFACE ${SUPERSTEP_QUICK_COMPILATION})

# GoogleTest's and the common headers, precompiled once for all test programs (7 s of compilation).
file(CONFIGURE OUTPUT ${PROJECT_BINARY_DIR}/generated/tests/precompiled.cpp CONTENT "")
add_library(superstep_test_headers OBJECT ${PROJECT_BINARY_DIR}/generated/tests/precompiled.cpp)
target_link_libraries(superstep_test_headers PRIVATE superstep_test_options GTest::gmock GTest::gtest fmt::fmt)
target_precompile_headers(superstep_test_headers PRIVATE ${SUPERSTEP_COMMON_HEADERS} <gmock/gmock.h> <gtest/gtest.h>)

# Everything with threads in it: what the thread sanitizer's leg builds and runs (labels lanes, threads).
add_custom_target(threaded_tests)

function(superstep_add_test_program name)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "" "SOURCES;LINK")
  add_executable(${name} ${arg_SOURCES})
  target_link_libraries(${name} PRIVATE superstep_test_options ${arg_LINK} GTest::gmock GTest::gtest)
  target_precompile_headers(${name} REUSE_FROM superstep_test_headers)
endfunction()

# Shared tail of the functions below.
function(superstep_register_test test processors)
  cmake_parse_arguments(PARSE_ARGV 2 arg "" "TIMEOUT;LANES;RANKS" "COMMAND;LABELS")
  if(NOT arg_TIMEOUT)
    set(arg_TIMEOUT 120)
  endif()
  math(EXPR timeout "${arg_TIMEOUT} * ${SUPERSTEP_TIMEOUT_FACTOR}")
  set(asan_options ${SUPERSTEP_ASAN_PLAIN})
  if("mpi" IN_LIST arg_LABELS)
    set(asan_options ${SUPERSTEP_ASAN_MPI})
  endif()
  add_test(NAME ${test} COMMAND ${arg_COMMAND})
  set_tests_properties(${test} PROPERTIES LABELS "${arg_LABELS}" PROCESSORS ${processors} TIMEOUT ${timeout}
    ENVIRONMENT "${SUPERSTEP_TEST_ENVIRONMENT};${asan_options};SUPERSTEP_TEST_LANES=${arg_LANES};SUPERSTEP_TEST_RANKS=${arg_RANKS}")
endfunction()

function(superstep_add_unit_test name)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "PROGRAM;FILTER;TIMEOUT" "LABELS")
  if(arg_FILTER)
    set(filter --gtest_filter=${arg_FILTER})
  endif()
  superstep_register_test(${name} 1 COMMAND ${arg_PROGRAM} ${filter} LABELS unit ${arg_LABELS}
    TIMEOUT ${arg_TIMEOUT} LANES 1 RANKS 1)
  if("threads" IN_LIST arg_LABELS)
    add_dependencies(threaded_tests ${arg_PROGRAM})
  endif()
endfunction()

function(superstep_add_world_test name)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "PROGRAM;FILTER;TIMEOUT" "LANES;PROCESSES;MIXED;LABELS")
  if(arg_FILTER)
    set(filter --gtest_filter=${arg_FILTER})
  endif()
  if(arg_LANES)
    add_dependencies(threaded_tests ${arg_PROGRAM})
  endif()
  foreach(lanes IN LISTS arg_LANES)
    superstep_register_test(${name}.lanes${lanes} ${lanes} COMMAND ${arg_PROGRAM} ${filter}
      LABELS lanes ${arg_LABELS} TIMEOUT ${arg_TIMEOUT} LANES ${lanes} RANKS ${lanes})
  endforeach()
  foreach(processes IN LISTS arg_PROCESSES)
    superstep_register_test(${name}.mpi.np${processes} ${processes}
      COMMAND ${SUPERSTEP_MPIRUN} -n ${processes} $<TARGET_FILE:${arg_PROGRAM}> ${filter}
      LABELS mpi np${processes} ${arg_LABELS} TIMEOUT ${arg_TIMEOUT} LANES 1 RANKS ${processes})
  endforeach()
  foreach(mixed IN LISTS arg_MIXED)
    string(REPLACE "x" ";" pair ${mixed})
    list(GET pair 0 processes)
    list(GET pair 1 lanes)
    math(EXPR ranks "${processes} * ${lanes}")
    superstep_register_test(${name}.mixed.${mixed} ${ranks}
      COMMAND ${SUPERSTEP_MPIRUN} -n ${processes} $<TARGET_FILE:${arg_PROGRAM}> ${filter}
      LABELS mpi mixed ${arg_LABELS} TIMEOUT ${arg_TIMEOUT} LANES ${lanes} RANKS ${ranks})
  endforeach()
endfunction()
