#include "functions.hpp"

#include <algorithm>
#include <cstring>
#include <new>

#include "evaluation.hpp"
#include "failure.hpp"

struct gprann_potential {
  gprann::Evaluation evaluation;
};

namespace {

using gprann::Failure;

thread_local std::string last_message;

/// Calls work() and makes a code and a message of what it throws; before the message stands `where`.
template <class Work>
int guarded(const std::string& where, Work&& work) noexcept {
  try {
    try {
      work();
      return GPRANN_OK;
    } catch (const Failure& failure) {
      last_message = where + failure.what();
      return failure.code();
    } catch (const std::bad_alloc&) {
      last_message = where + "the memory does not suffice";
      return GPRANN_MEMORY_ERROR;
    } catch (const std::length_error&) {
      last_message = where + "the memory does not suffice";
      return GPRANN_MEMORY_ERROR;
    } catch (const std::invalid_argument& error) {
      last_message = where + error.what();
      return GPRANN_ARGUMENT_ERROR;
    } catch (const std::exception& error) {
      last_message = where + error.what();
      return GPRANN_INTERNAL_ERROR;
    }
  } catch (...) {  // no memory for the message
    return GPRANN_MEMORY_ERROR;
  }
}

const char* message() { return last_message.c_str(); }

int load(const char* path, int flags, gprann_potential** potential) {
  if (potential != nullptr) *potential = nullptr;
  return guarded(path == nullptr ? "" : std::string(path) + ": ", [&] {
    if (path == nullptr || potential == nullptr)
      throw Failure(GPRANN_ARGUMENT_ERROR, "gprann_load needs a path and a place for the potential");
    if ((flags & ~GPRANN_WITHOUT_COULOMB) != 0)
      throw Failure(GPRANN_ARGUMENT_ERROR, "gprann_load does not know the flags " + std::to_string(flags));
    try {
      *potential = new gprann_potential{
          gprann::Evaluation(gprann::read_potential(path, (flags & GPRANN_WITHOUT_COULOMB) != 0))};
    } catch (const std::invalid_argument& error) {  // of the core: no descriptor with such options
      throw gprann::damaged(error.what());
    }
  });
}

void release(gprann_potential* potential) { delete potential; }

double cutoff(const gprann_potential* potential) { return potential->evaluation.cutoff(); }

int n_species(const gprann_potential* potential) {
  return static_cast<int>(potential->evaluation.potential().species.size());
}

bool has(const gprann_potential* potential, int species) {
  return species >= 0 && species < n_species(potential);
}

const char* species(const gprann_potential* potential, int species) {
  if (!has(potential, species)) return nullptr;
  return potential->evaluation.potential().species[static_cast<std::size_t>(species)].c_str();
}

int n_members(const gprann_potential* potential) {
  return static_cast<int>(potential->evaluation.potential().members);
}

double charge(const gprann_potential* potential, int species) {
  if (!has(potential, species)) return 0.0;
  return potential->evaluation.potential().charges[static_cast<std::size_t>(species)];
}

double energy_std_factor(const gprann_potential* potential) {
  return potential->evaluation.potential().energy_std_factor;
}

double force_std_factor(const gprann_potential* potential) {
  return potential->evaluation.potential().force_std_factor;
}

int has_guard(const gprann_potential* potential) {
  return potential->evaluation.potential().guard_factors.empty() ? 0 : 1;
}

/// A structure of a program as this library knows it: what the program does not know is zero.
template <class Structure>
Structure adopt(const Structure* given, const char* name) {
  std::size_t size = 0;
  if (given != nullptr) std::memcpy(&size, given, sizeof(size));
  if (size < sizeof(size) || size > 4096)
    throw Failure(GPRANN_ARGUMENT_ERROR,
                  std::string(name) + ".size is not set; begin with " +
                      (std::strcmp(name, "atoms") == 0 ? "GPRANN_ATOMS" : "GPRANN_RESULTS"));
  Structure own{};
  std::memcpy(&own, given, std::min(size, sizeof(own)));
  return own;
}

int evaluate(gprann_potential* potential, const gprann_atoms* atoms, int n_threads,
             const gprann_results* results) {
  return guarded("", [&] {
    if (potential == nullptr) throw Failure(GPRANN_ARGUMENT_ERROR, "gprann_evaluate needs a potential");
    const gprann_atoms given = adopt(atoms, "atoms");
    const gprann_results wanted = adopt(results, "results");
    potential->evaluation.run(given, std::clamp(n_threads, 1, 1024), wanted);
  });
}

const gprann_function_table table = {GPRANN_INTERFACE_VERSION,
                                     &message,
                                     &load,
                                     &release,
                                     &cutoff,
                                     &n_species,
                                     &species,
                                     &n_members,
                                     &charge,
                                     &energy_std_factor,
                                     &force_std_factor,
                                     &evaluate,
                                     &has_guard};

}  // namespace

extern "C" GPRANN_PUBLIC const gprann_function_table* gprann_functions() { return &table; }
