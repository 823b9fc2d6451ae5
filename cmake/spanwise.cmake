# Build helpers: the warning and sanitizer flags every target gets, and one function each for modules, tests and fuzz targets.

add_library(spanwise_flags INTERFACE)
target_compile_options(spanwise_flags INTERFACE -Wall -Wextra -Wpedantic -Wshadow -Werror=return-type)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  target_compile_options(spanwise_flags INTERFACE -Wno-restrict)  # GCC 12 warns about std::string's own code
endif()
# Fatal with the compiler whose warnings are kept clean; sanitizers make GCC see uninitialised values that are none.
set(werror OFF)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION MATCHES "^12\\." AND NOT SPANWISE_SANITIZE)
  set(werror ON)
endif()
option(SPANWISE_WERROR "Make warnings fatal" ${werror})
if(SPANWISE_WERROR)
  target_compile_options(spanwise_flags INTERFACE -Werror)
endif()
target_include_directories(spanwise_flags INTERFACE ${PROJECT_SOURCE_DIR}/include ${PROJECT_SOURCE_DIR}/src)
# Every product is one rounding path: the compiler may not fuse or reorder float arithmetic on its own.
target_compile_options(spanwise_flags INTERFACE -ffp-contract=off)

if(SPANWISE_SANITIZE)
  string(REPLACE ";" "," sanitizers "${SPANWISE_SANITIZE}")
  target_compile_options(spanwise_flags INTERFACE -fsanitize=${sanitizers} -fno-sanitize-recover=all
    -fno-omit-frame-pointer -D_GLIBCXX_ASSERTIONS)
  target_link_options(spanwise_flags INTERFACE -fsanitize=${sanitizers})
endif()

if(SPANWISE_FUZZ)
  target_compile_options(spanwise_flags INTERFACE -fsanitize=fuzzer-no-link)  # coverage, which guides the fuzzer
endif()

if(NOT SPANWISE_SANITIZE AND CMAKE_BUILD_TYPE MATCHES "^Rel")
  target_compile_options(spanwise_flags INTERFACE -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=2 -fstack-protector-strong)
endif()

find_program(CCACHE ccache)
if(CCACHE AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CCACHE})
endif()

# spanwise_module(NAME SOURCES a.cc ... [LIBS x ...]): the static library spanwise_NAME of one folder under src/.
function(spanwise_module name)
  cmake_parse_arguments(ARG "" "" "SOURCES;LIBS;PRIVATE_LIBS" ${ARGN})
  add_library(spanwise_${name} STATIC ${ARG_SOURCES})
  target_link_libraries(spanwise_${name} PUBLIC spanwise_flags ${ARG_LIBS} PRIVATE ${ARG_PRIVATE_LIBS})
endfunction()

# spanwise_test(NAME SOURCES a_test.cc ... LIBS x ... [LABEL fast|slow|gpu]): a GoogleTest program, one ctest entry a case.
# The case runs with SPANWISE_SOURCE_DIR set to the repository's root, where golden files and samples are found.
function(spanwise_test name)
  if(NOT SPANWISE_TESTS)
    return()
  endif()
  cmake_parse_arguments(ARG "" "LABEL;TIMEOUT" "SOURCES;LIBS" ${ARGN})
  if(NOT ARG_LABEL)
    set(ARG_LABEL fast)
  endif()
  if(NOT ARG_TIMEOUT)
    set(ARG_TIMEOUT 1200)  # against hanging; sanitizers on a busy machine are slow
  endif()
  add_executable(${name} ${ARG_SOURCES})
  target_link_libraries(${name} PRIVATE spanwise_flags ${ARG_LIBS} GTest::gmock GTest::gtest_main)
  gtest_discover_tests(${name} DISCOVERY_MODE PRE_TEST
    PROPERTIES LABELS ${ARG_LABEL} TIMEOUT ${ARG_TIMEOUT} ENVIRONMENT "SPANWISE_SOURCE_DIR=${PROJECT_SOURCE_DIR}")
endfunction()

# spanwise_fuzz(NAME SOURCE f.cc LIBS x ...): a libFuzzer target; its seeds live in fuzz/corpus/NAME. `fuzzers` builds all.
function(spanwise_fuzz name)
  cmake_parse_arguments(ARG "" "SOURCE" "LIBS" ${ARGN})
  add_executable(${name} ${ARG_SOURCE})
  target_link_libraries(${name} PRIVATE spanwise_flags ${ARG_LIBS})
  target_compile_options(${name} PRIVATE -fsanitize=fuzzer)
  target_link_options(${name} PRIVATE -fsanitize=fuzzer)
  if(NOT TARGET fuzzers)
    add_custom_target(fuzzers)
  endif()
  add_dependencies(fuzzers ${name})
endfunction()
