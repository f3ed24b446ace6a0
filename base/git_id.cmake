# Writes the header with the commit this source tree is at; run at every build, rewrites only on change.
#   cmake -D SOURCE=<repository> -D OUTPUT=<header> -P git_id.cmake
# A tree made by `git archive` carries its commit in .git-archive-id (see .gitattributes).

set(id "unknown")
if(EXISTS ${SOURCE}/.git)
  execute_process(COMMAND git --no-optional-locks -C ${SOURCE} describe --always --abbrev=12 --dirty --exclude=*
    OUTPUT_VARIABLE described OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET RESULT_VARIABLE failed)
  if(NOT failed)
    set(id ${described})
  endif()
elseif(EXISTS ${SOURCE}/.git-archive-id)
  file(STRINGS ${SOURCE}/.git-archive-id line LIMIT_COUNT 1)
  if(line MATCHES "^[0-9a-f]+$")
    string(SUBSTRING ${line} 0 12 id)
  endif()
endif()

set(text "#pragma once\n\n#include <string_view>\n\nnamespace superstep::internal {\ninline constexpr std::string_view kGitId = \"${id}\";\n}  // namespace superstep::internal\n")
if(EXISTS ${OUTPUT})
  file(READ ${OUTPUT} old)
endif()
if(NOT "${old}" STREQUAL "${text}")
  file(WRITE ${OUTPUT} "${text}")
endif()
