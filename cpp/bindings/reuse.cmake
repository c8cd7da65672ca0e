# An installation keeps the compiled modules in build/modules/ of the source tree, and the next one from the same tree
# takes them, unless anything they depend on has changed: pip builds in a temporary environment each time, in which
# nothing of an ordinary build directory would be up to date.
#
# Sets `GPRANN_REUSED`, the kept modules if they fit, and defines `gprann_keep_modules(target...)`.

set(GPRANN_REUSED)
if(NOT DEFINED SKBUILD)  # a build by hand has its own directory
  function(gprann_keep_modules)
  endfunction()
  return()
endif()

file(GLOB_RECURSE GPRANN_INPUTS CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/cpp/*.cpp ${PROJECT_SOURCE_DIR}/cpp/*.hpp
     ${PROJECT_SOURCE_DIR}/cpp/*.cmake ${PROJECT_SOURCE_DIR}/python/gprann/include/*.h)
set(GPRANN_KEY "${CMAKE_CXX_COMPILER} ${CMAKE_CXX_COMPILER_ID} ${CMAKE_CXX_COMPILER_VERSION}"
    "${CMAKE_CXX_FLAGS} ${CMAKE_BUILD_TYPE} ${CMAKE_SHARED_LINKER_FLAGS} ${CMAKE_MODULE_LINKER_FLAGS}"
    "${CMAKE_OSX_ARCHITECTURES} ${CMAKE_OSX_DEPLOYMENT_TARGET} ${GPRANN_ARCHITECTURE}"
    "${Python_SOABI} ${Python_VERSION} pybind11 ${pybind11_VERSION} Eigen ${Eigen3_VERSION}"
    "${GPRANN_BUILDS} interface ${GPRANN_INTERFACE} native ${GPRANN_NATIVE} werror ${GPRANN_WERROR}"
    "sanitize ${GPRANN_SANITIZE}")
foreach(file ${PROJECT_SOURCE_DIR}/CMakeLists.txt ${GPRANN_INPUTS})
  file(SHA256 ${file} GPRANN_HASH)
  list(APPEND GPRANN_KEY "${file} ${GPRANN_HASH}")
endforeach()
string(SHA256 GPRANN_KEY "${GPRANN_KEY}")
string(SUBSTRING ${GPRANN_KEY} 0 16 GPRANN_KEY)
set(GPRANN_KEPT ${PROJECT_SOURCE_DIR}/build/modules)
set(GPRANN_KEPT_HERE ${GPRANN_KEPT}/${Python_SOABI}-${GPRANN_KEY})
if(IS_DIRECTORY ${GPRANN_KEPT_HERE})
  file(GLOB GPRANN_REUSED ${GPRANN_KEPT_HERE}/*)
  message(STATUS "gprann: nothing has changed since the last installation: its modules are taken again")
endif()

function(gprann_keep_modules)
  set(files)
  foreach(target ${ARGN})
    list(APPEND files "\${CMAKE_INSTALL_PREFIX}/gprann/$<TARGET_FILE_NAME:${target}>")
  endforeach()
  # Renamed when complete. A source tree that cannot be written to keeps nothing.
  install(CODE "
    file(GLOB old \"${GPRANN_KEPT}/${Python_SOABI}-*\")
    execute_process(COMMAND \"${CMAKE_COMMAND}\" -E rm -rf \${old} ERROR_QUIET)
    execute_process(
      COMMAND \"${CMAKE_COMMAND}\" -E make_directory \"${GPRANN_KEPT_HERE}.new\"
      ERROR_QUIET)
    execute_process(
      COMMAND \"${CMAKE_COMMAND}\" -E copy ${files} \"${GPRANN_KEPT_HERE}.new\" RESULT_VARIABLE status ERROR_QUIET)
    if(status EQUAL 0)
      execute_process(
        COMMAND \"${CMAKE_COMMAND}\" -E rename \"${GPRANN_KEPT_HERE}.new\" \"${GPRANN_KEPT_HERE}\" ERROR_QUIET)
    endif()")
endfunction()
