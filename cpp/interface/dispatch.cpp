// The library that programs link with: it opens the build that suits the processor and hands every call on.
// It is compiled for any processor of the architecture.
#include <dlfcn.h>

#include <cstdlib>
#include <string>

#include "../bindings/instruction_set.hpp"
#include "functions.hpp"

namespace {

#ifdef __APPLE__
const char* const suffix = ".dylib";
#else
const char* const suffix = ".so";
#endif

const char* const levels[] = {"base", "v3", "v4"};

/// The build that was opened.
struct Build {
  const gprann_function_table* functions = nullptr;
  std::string level, message;
};

std::string own_folder() {
  Dl_info found;
  if (dladdr(reinterpret_cast<void*>(&own_folder), &found) == 0 || found.dli_fname == nullptr) return "";
  const std::string path = found.dli_fname;
  const std::size_t slash = path.rfind('/');
  return slash == std::string::npos ? "" : path.substr(0, slash + 1);
}

/// Opens the best build that is installed and that the processor runs; GPRANN_INSTRUCTION_SET asks for
/// another one.
Build open_build() {
  Build build;
  const std::string best = instruction_set();
  const char* wanted = std::getenv("GPRANN_INSTRUCTION_SET");
  int highest = 0;
  while (best != levels[highest]) ++highest;
  std::string reasons;
  for (int k = highest; k >= 0; --k) {
    if (wanted != nullptr && *wanted != '\0' && std::string(wanted) != levels[k]) continue;
    const std::string path = own_folder() + "libgprann_" + levels[k] + suffix;
    void* library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (library == nullptr) {
      const char* reason = dlerror();
      if (reasons.empty() && reason != nullptr) reasons = reason;
      continue;
    }
    auto* functions =
        reinterpret_cast<const gprann_function_table* (*)()>(dlsym(library, "gprann_functions"));
    if (functions == nullptr || functions()->interface_version != GPRANN_INTERFACE_VERSION) continue;
    build.functions = functions();
    build.level = levels[k];
    return build;
  }
  build.message =
      "libgprann: there is no build for this processor (" + best + ") beside the library" +
      (wanted == nullptr ? std::string() : std::string(", or not GPRANN_INSTRUCTION_SET=") + wanted) +
      (reasons.empty() ? std::string() : " (" + reasons + ")") +
      "; reinstall gprann on this machine, or for all processors with pip install -C "
      "cmake.define.GPRANN_LEVELS=all .";
  return build;
}

const Build& build() {
  static const Build opened = open_build();
  return opened;
}

}  // namespace

int gprann_interface_version() {
  return build().functions == nullptr ? 0 : build().functions->interface_version;
}

const char* gprann_instruction_set() { return build().level.c_str(); }

const char* gprann_message() {
  return build().functions == nullptr ? build().message.c_str() : build().functions->message();
}

int gprann_load(const char* path, int flags, gprann_potential** potential) {
  if (build().functions != nullptr) return build().functions->load(path, flags, potential);
  if (potential != nullptr) *potential = nullptr;
  return GPRANN_FILE_ERROR;
}

// A potential exists only if there is a build.

void gprann_free(gprann_potential* potential) {
  if (potential != nullptr) build().functions->free(potential);
}

double gprann_cutoff(const gprann_potential* potential) { return build().functions->cutoff(potential); }

int gprann_n_species(const gprann_potential* potential) { return build().functions->n_species(potential); }

const char* gprann_species(const gprann_potential* potential, int species) {
  return build().functions->species(potential, species);
}

int gprann_n_members(const gprann_potential* potential) { return build().functions->n_members(potential); }

double gprann_charge(const gprann_potential* potential, int species) {
  return build().functions->charge(potential, species);
}

double gprann_energy_std_factor(const gprann_potential* potential) {
  return build().functions->energy_std_factor(potential);
}

double gprann_force_std_factor(const gprann_potential* potential) {
  return build().functions->force_std_factor(potential);
}

int gprann_has_guard(const gprann_potential* potential) { return build().functions->has_guard(potential); }

int gprann_evaluate(gprann_potential* potential, const gprann_atoms* atoms, int n_threads,
                    const gprann_results* results) {
  if (build().functions == nullptr) return GPRANN_FILE_ERROR;
  return build().functions->evaluate(potential, atoms, n_threads, results);
}
