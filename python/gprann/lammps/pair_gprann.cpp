// pair_style gprann: potentials of gprann in LAMMPS. Compiled on the machine that runs it, against the headers of its
// LAMMPS (`gprann lammps --build`), because the C++ interface of LAMMPS changes with every release. It knows gprann by
// the C interface alone, whose library it opens when the style is first used.
//
//     pair_style gprann [threads N] [coulomb off]
//     pair_coeff * * file.gprann Li C H O
#include <dlfcn.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "atom.h"
#include "comm.h"
#include "error.h"
#include "force.h"
#include "gprann.h"
#include "memory.h"
#include "neigh_list.h"
#include "neighbor.h"
#include "pair.h"
#include "update.h"

// What LAMMPS' plugin loader reads; the same in all releases that have it.
extern "C" {
struct gprann_plugin_record {
  const char *version, *style, *name, *info, *author;
  void *(*creator)(void *);
  void *handle;
};
typedef void (*gprann_plugin_register)(gprann_plugin_record *, void *);
__attribute__((visibility("default"))) void lammpsplugin_init(void *lmp, void *handle, void *register_plugin);
__attribute__((visibility("default"))) void gprann_register(void *lmp);
}

namespace {

using namespace LAMMPS_NS;

// The functions of libgprann.
struct Library {
  decltype(&gprann_interface_version) interface_version;
  decltype(&gprann_message) message;
  decltype(&gprann_load) load;
  decltype(&gprann_free) free;
  decltype(&gprann_cutoff) cutoff;
  decltype(&gprann_n_species) n_species;
  decltype(&gprann_species) species;
  decltype(&gprann_n_members) n_members;
  decltype(&gprann_force_std_factor) force_std_factor;
  decltype(&gprann_has_guard) has_guard;
  decltype(&gprann_evaluate) evaluate;

  // Opens the library of the installation that built this style; returns what went wrong.
  std::string open() {
    const char *given = std::getenv("GPRANN_LIBRARY");
    const std::string path = given != nullptr && *given != '\0' ? given : GPRANN_LIBRARY;
    void *handle = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (handle == nullptr)
      return "pair_style gprann: the library of gprann cannot be opened (" + std::string(dlerror()) +
             "); run again: gprann lammps --build";
    bool found = true;
    auto get = [&](auto &function, const char *name) {
      function = reinterpret_cast<std::decay_t<decltype(function)>>(dlsym(handle, name));
      found = found && function != nullptr;
    };
    get(interface_version, "gprann_interface_version");
    get(message, "gprann_message");
    get(load, "gprann_load");
    get(free, "gprann_free");
    get(cutoff, "gprann_cutoff");
    get(n_species, "gprann_n_species");
    get(species, "gprann_species");
    get(n_members, "gprann_n_members");
    get(force_std_factor, "gprann_force_std_factor");
    get(has_guard, "gprann_has_guard");
    get(evaluate, "gprann_evaluate");
    if (found && interface_version() == 0) return message();
    if (!found || interface_version() != GPRANN_INTERFACE_VERSION)
      return "pair_style gprann: " + path + " is of another version of gprann; run again: gprann lammps --build";
    return "";
  }
};

class PairGprann : public Pair {
 public:
  explicit PairGprann(LAMMPS *lmp) : Pair(lmp) {
    single_enable = 0;
    restartinfo = 0;
    one_coeff = 1;
    manybody_flag = 1;
    writedata = 0;
    centroidstressflag = CENTROID_AVAIL;
    const std::string wrong = library_.open();
    if (!wrong.empty()) error->all(FLERR, wrong);
  }

  ~PairGprann() override {
    if (potential_ != nullptr) library_.free(potential_);
    delete[] pvector;
    pvector = nullptr;
    if (copymode || !allocated) return;
    memory->destroy(setflag);
    memory->destroy(cutsq);
  }

  void settings(int narg, char **arg) override {
    threads_ = 0;
    flags_ = 0;
    for (int k = 0; k < narg; k += 2) {
      const std::string value = k + 1 < narg ? arg[k + 1] : "";
      if (std::strcmp(arg[k], "threads") == 0 && std::atoi(value.c_str()) > 0)
        threads_ = std::atoi(value.c_str());
      else if (std::strcmp(arg[k], "coulomb") == 0 && value == "off")
        flags_ |= GPRANN_WITHOUT_COULOMB;
      else
        error->all(FLERR, "pair_style gprann: unknown option '" + std::string(arg[k]) + (value.empty() ? "" : " ") +
                              value + "'; expected: pair_style gprann [threads N] [coulomb off]");
    }
  }

  void coeff(int narg, char **arg) override {
    const int n = atom->ntypes;
    if (narg < 3 || std::strcmp(arg[0], "*") != 0 || std::strcmp(arg[1], "*") != 0 || narg != 3 + n)
      error->all(FLERR, "pair_coeff of gprann: expected * * FILE.gprann and an element for each of the " +
                            std::to_string(n) + " atom types");
    if (!allocated) allocate();
    if (potential_ != nullptr) library_.free(potential_);
    if (library_.load(arg[2], flags_, &potential_) != GPRANN_OK)
      error->all(FLERR, "pair_coeff of gprann: " + std::string(library_.message()));
    members_ = library_.n_members(potential_);
    std::string known;
    for (int s = 0; s < library_.n_species(potential_); s++) known += " " + std::string(library_.species(potential_, s));
    kinds_.assign(n + 1, -1);
    for (int type = 1; type <= n; type++) {
      const char *element = arg[2 + type];
      for (int s = 0; s < library_.n_species(potential_); s++)
        if (std::strcmp(library_.species(potential_, s), element) == 0) kinds_[type] = s;
      if (kinds_[type] >= 0) continue;
      if (std::strcmp(element, "NULL") != 0)
        error->all(FLERR, "pair_coeff of gprann: the potential does not know the element '" + std::string(element) +
                              "' of atom type " + std::to_string(type) + "; it knows" + known);
      if (std::strncmp(force->pair_style, "hybrid", 6) != 0)
        error->all(FLERR, "pair_coeff of gprann: NULL is an element of pair_style hybrid alone; the potential knows" + known);
    }
    for (int i = 1; i <= n; i++)
      for (int j = 1; j <= n; j++) setflag[i][j] = kinds_[i] >= 0 && kinds_[j] >= 0 ? 1 : 0;
    // The energy of each member on this process; compute pair adds up the processes.
    delete[] pvector;
    nextra = members_;
    pvector = new double[nextra];
    std::fill_n(pvector, nextra, 0.0);
    comm_reverse = members_ > 1 ? 3 * members_ : 0;
  }

  void init_style() override {
    if (potential_ == nullptr) error->all(FLERR, "pair_style gprann: no pair_coeff has been given");
    if (std::strcmp(update->unit_style, "metal") != 0)
      error->all(FLERR, "pair_style gprann: units must be metal (eV, Angstrom), not " + std::string(update->unit_style));
    if (force->newton_pair == 0)
      error->all(FLERR, "pair_style gprann: newton must be on, as forces on ghost atoms are sent back; write: newton on");
    for (int k = 1; k < 4 && atom->molecular != Atom::ATOMIC; k++)
      if (force->special_lj[k] != 1.0)
        error->all(FLERR, "pair_style gprann: bonded atoms must stay in the neighbour lists; write: special_bonds lj/coul 1 1 1");
    neighbor->add_request(this, NeighConst::REQ_FULL);
  }

  double init_one(int i, int j) override {
    if (setflag[i][j] == 0) error->all(FLERR, "pair_style gprann: not all pair coefficients are set");
    return library_.cutoff(potential_);
  }

  // `fix pair` sets the flags of what it wants before a step and takes it afterwards.
  void *extract(const char *name, int &dim) override {
    dim = 0;
    if (std::strcmp(name, "energy_std_flag") == 0) return &want_energy_std_;
    if (std::strcmp(name, "force_std_flag") == 0) return &want_force_std_;
    if (std::strcmp(name, "grade_flag") == 0) {
      if (potential_ != nullptr && library_.has_guard(potential_) == 0)
        error->all(FLERR, "pair_style gprann: the potential has no extrapolation guard; give it one in Python: "
                          "gprann.add_guard(potential, data).save(file)");
      return &want_grades_;
    }
    return nullptr;
  }

  void *extract_peratom(const char *name, int &ncol) override {
    ncol = 0;
    if (std::strcmp(name, "energy_std") == 0) return energy_std_.data();
    if (std::strcmp(name, "force_std") == 0) return force_std_.data();
    if (std::strcmp(name, "grade") == 0) return grades_.data();
    return nullptr;
  }

  void compute(int eflag, int vflag) override {
    ev_init(eflag, vflag);
    const int nlocal = atom->nlocal, nall = nlocal + atom->nghost;
    gprann_atoms atoms = GPRANN_ATOMS;
    atoms.n_atoms = nall;
    atoms.n_centres = list->inum;
    atoms.positions = nall > 0 ? atom->x[0] : nullptr;
    kind_.resize(nall);
    for (int i = 0; i < nall; i++) kind_[i] = std::max(kinds_[atom->type[i]], 0);
    atoms.species = kind_.data();
    atoms.centres = list->ilist;
    atoms.n_neighbours = list->numneigh;
    atoms.neighbours = list->firstneigh;
    atoms.neighbour_mask = NEIGHMASK;
    const gprann_results results = prepare_results(nall);
    const int threads = threads_ > 0 ? threads_ : std::max(1, comm->nthreads);
    if (library_.evaluate(potential_, &atoms, threads, &results) != GPRANN_OK)
      error->one(FLERR, "pair_style gprann: " + std::string(library_.message()));
    if (nall > 0) {
      double *f = atom->f[0];
      for (int k = 0; k < 3 * nall; k++) f[k] += forces_[k];
    }
    add_energies();
    add_virials(nall);
    if (want_energy_std_ != 0) spread(energies_std_, energy_std_);
    if (want_force_std_ != 0) reduce_force_std(nall);
    if (want_grades_ != 0) spread(centre_grades_, grades_);
    want_energy_std_ = want_force_std_ = want_grades_ = 0;
    if (vflag_fdotr) virial_fdotr_compute();
  }

  int pack_reverse_comm(int n, int first, double *buffer) override {
    int m = 0;
    for (int i = first; i < first + n; i++)
      for (int member = 0; member < members_; member++)
        for (int d = 0; d < 3; d++) buffer[m++] = member_force(member, i)[d];
    return m;
  }

  void unpack_reverse_comm(int n, int *numbers, double *buffer) override {
    int m = 0;
    for (int k = 0; k < n; k++)
      for (int member = 0; member < members_; member++)
        for (int d = 0; d < 3; d++) member_force(member, numbers[k])[d] += buffer[m++];
  }

  double memory_usage() override {
    return Pair::memory_usage() + sizeof(double) * static_cast<double>(forces_.capacity() + atom_virials_.capacity() +
                                                                       member_forces_.capacity());
  }

 private:
  void allocate() {
    allocated = 1;
    const int n = atom->ntypes;
    memory->create(setflag, n + 1, n + 1, "pair:setflag");
    memory->create(cutsq, n + 1, n + 1, "pair:cutsq");
    for (int i = 0; i <= n; i++)
      for (int j = 0; j <= n; j++) setflag[i][j] = 0;
  }

  gprann_results prepare_results(int nall) {
    gprann_results results = GPRANN_RESULTS;
    forces_.resize(3 * nall);
    results.forces = forces_.data();
    results.energy = &energy_;
    results.virial = virial_;
    results.member_energies = pvector;
    atom_energies_.resize(list->inum);
    if (eflag_atom) results.atom_energies = atom_energies_.data();
    atom_virials_.resize(vflag_atom || cvflag_atom ? 9 * nall : 0);
    if (!atom_virials_.empty()) results.atom_virials = atom_virials_.data();
    energies_std_.resize(list->inum);
    if (want_energy_std_ != 0) results.atom_energies_std = energies_std_.data();
    centre_grades_.resize(list->inum);
    if (want_grades_ != 0) results.grades = centre_grades_.data();
    member_forces_.resize(want_force_std_ != 0 && members_ > 1 ? 3 * static_cast<size_t>(nall) * members_ : 0);
    if (!member_forces_.empty()) results.member_forces = member_forces_.data();
    return results;
  }

  void add_energies() {
    if (eflag_global) eng_vdwl += energy_;
    if (!eflag_atom) return;
    for (int k = 0; k < list->inum; k++) eatom[list->ilist[k]] += atom_energies_[k];
  }

  // The order of LAMMPS: xx, yy, zz, xy, xz, yz, and for the other half yx, zx, zy.
  void add_virials(int nall) {
    static const int rows[9] = {0, 1, 2, 0, 0, 1, 1, 2, 2}, columns[9] = {0, 1, 2, 1, 2, 2, 0, 0, 1};
    for (int k = 0; k < 6 && vflag_global; k++) virial[k] += virial_[3 * rows[k] + columns[k]];
    for (int i = 0; i < nall && vflag_atom; i++)
      for (int k = 0; k < 6; k++)
        vatom[i][k] += 0.5 * (atom_virials_[9 * i + 3 * rows[k] + columns[k]] +
                              atom_virials_[9 * i + 3 * columns[k] + rows[k]]);
    for (int i = 0; i < nall && cvflag_atom; i++)
      for (int k = 0; k < 9; k++) cvatom[i][k] += atom_virials_[9 * i + 3 * rows[k] + columns[k]];
  }

  // Numbers of the centres as numbers of the atoms.
  void spread(const std::vector<double> &of_centres, std::vector<double> &of_atoms) {
    of_atoms.assign(std::max(atom->nmax, 1), 0.0);
    for (int k = 0; k < list->inum; k++) of_atoms[list->ilist[k]] = of_centres[k];
  }

  double *member_force(int member, int i) {
    const size_t nall = atom->nlocal + atom->nghost;
    return member_forces_.data() + 3 * (member * nall + i);
  }

  // Deviations of whole forces: what the members say about ghosts goes to their atoms first.
  void reduce_force_std(int) {
    force_std_.assign(std::max(atom->nmax, 1), 0.0);
    if (members_ < 2) return;
    comm->reverse_comm(this);
    const double factor = library_.force_std_factor(potential_) / std::sqrt(static_cast<double>(members_));
    for (int i = 0; i < atom->nlocal; i++) {
      double squares = 0.0;
      for (int d = 0; d < 3; d++) {
        double mean = 0.0;
        for (int member = 0; member < members_; member++) mean += member_force(member, i)[d];
        mean /= members_;
        for (int member = 0; member < members_; member++) {
          const double difference = member_force(member, i)[d] - mean;
          squares += difference * difference;
        }
      }
      force_std_[i] = factor * std::sqrt(squares);
    }
  }

  Library library_{};
  gprann_potential *potential_ = nullptr;
  int members_ = 1, threads_ = 0, flags_ = 0;
  int want_energy_std_ = 0, want_force_std_ = 0, want_grades_ = 0;
  std::vector<int> kinds_, kind_;  // of atom types and of atoms
  double energy_ = 0.0, virial_[9] = {0.0};
  std::vector<double> forces_, atom_energies_, atom_virials_, member_forces_;
  std::vector<double> energies_std_, energy_std_, force_std_, centre_grades_, grades_;
};

Pair *create_pair(LAMMPS *lmp) { return new PairGprann(lmp); }
void *create(void *lmp) { return create_pair(static_cast<LAMMPS *>(lmp)); }

// Whether this LAMMPS is the one against whose headers this file was compiled: another one would take pressures for
// forces. Asked through its C interface, which does not change.
bool fits(void *lmp) {
  auto version = reinterpret_cast<int (*)(void *)>(dlsym(RTLD_DEFAULT, "lammps_version"));
  if (version == nullptr || version(lmp) == GPRANN_LAMMPS_VERSION) return version != nullptr;
  std::fprintf(stderr,
               "pair_style gprann: built for LAMMPS %d, but this is LAMMPS %d: the style is left out; run again: gprann "
               "lammps --build\n",
               GPRANN_LAMMPS_VERSION, version(lmp));
  return false;
}

}  // namespace

void lammpsplugin_init(void *lmp, void *handle, void *register_plugin) {
  if (!fits(lmp)) return;
  static gprann_plugin_record plugin;
  plugin.version = GPRANN_LAMMPS_NAME;
  plugin.style = "pair";
  plugin.name = "gprann";
  plugin.info = "potentials of gprann, pair_style gprann";
  plugin.author = "the gprann developers";
  plugin.creator = &create;
  plugin.handle = handle;
  reinterpret_cast<gprann_plugin_register>(register_plugin)(&plugin, lmp);
}

// For a LAMMPS without the command plugin.
void gprann_register(void *lmp) {
  if (fits(lmp)) (*static_cast<LAMMPS *>(lmp)->force->pair_map)["gprann"] = &create_pair;
}
