/* gprann.h: potentials of gprann in any program that can call C.
 *
 * One potential is loaded from a .gprann file and evaluated for atoms and neighbour lists that the program has, ghosts
 * (periodic images, atoms of other processes) included. Link with libgprann, which picks the build that suits the
 * processor (base, v3 with AVX2, v4 with AVX-512) when it is first called. `gprann interface` prints where header and library
 * are.
 *
 * Units: eV, Angstrom. Functions that can fail return GPRANN_OK (0) or another code, and then `gprann_message` gives one
 * sentence about what was wrong. No C++ exception leaves the library, and nothing that is read from a file is executed.
 *
 * A potential may be used by one thread at a time; different potentials at the same time by different threads.
 */
#ifndef GPRANN_H
#define GPRANN_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(_WIN32) || !defined(__GNUC__)
#define GPRANN_PUBLIC
#else
#define GPRANN_PUBLIC __attribute__((visibility("default")))
#endif

/* Version of this interface. Structures only grow at their ends, and `size` tells how much of them a program knows, so
 * that a program that was compiled with an older header of the same version goes on working. */
#define GPRANN_INTERFACE_VERSION 1

/* Error codes. */
enum {
  GPRANN_OK = 0,
  GPRANN_FILE_ERROR = 1,     /* a file or library is missing or cannot be read */
  GPRANN_FORMAT_ERROR = 2,   /* a file is damaged, hostile, of a newer format, or no potential */
  GPRANN_UNSUPPORTED = 3,    /* the potential has parts that exist in Python alone, or that the program must compute */
  GPRANN_ARGUMENT_ERROR = 4, /* an argument is impossible */
  GPRANN_MEMORY_ERROR = 5,   /* the memory does not suffice */
  GPRANN_INTERNAL_ERROR = 6  /* anything else */
};

/* Flags of `gprann_load`. */
enum {
  GPRANN_WITHOUT_COULOMB = 1 /* leave the electrostatics of fixed charges to the program, see `gprann_charge` */
};

/* A potential with the memory that its evaluations need. */
typedef struct gprann_potential gprann_potential;

/* What is evaluated. Begin with
 *
 *     gprann_atoms atoms = GPRANN_ATOMS;
 *
 * which sets `size` and makes all else zero. */
typedef struct {
  size_t size;                  /* sizeof(gprann_atoms) */
  int n_atoms;                  /* atoms of which there are positions, ghosts included */
  int n_centres;                /* atoms whose energies are wanted, each with a neighbour list */
  const double *positions;      /* n_atoms x 3, Angstrom; of ghosts where they are, images are not looked for */
  const int *species;           /* n_atoms: index of the element in the order of `gprann_species` */
  const int *centres;           /* n_centres: which atoms these are; NULL: 0, 1, ..., n_centres - 1 */
  const int *n_neighbours;      /* of each atom: length of its list (read for centres alone) */
  const int *const *neighbours; /* of each atom: indices of its neighbours (read for centres alone): all atoms within
                                   `gprann_cutoff`, each once, not the atom itself; more distant ones do no harm */
  int neighbour_mask;           /* if not 0: indices are these bits of the numbers in the lists (LAMMPS: NEIGHMASK) */
} gprann_atoms;

/* Where results go. Begin with
 *
 *     gprann_results results = GPRANN_RESULTS;
 *
 * and set the pointers of what is wanted; NULL is not computed. All arrays are overwritten. With a committee these are
 * means over its members, and the standard deviations those that Python gives, the factors of their calibration
 * included; of a single network they are zero. */
typedef struct {
  size_t size;               /* sizeof(gprann_results) */
  double *energy;            /* 1: sum over the centres, eV */
  double *atom_energies;     /* n_centres, in the order of `centres` */
  double *forces;            /* n_atoms x 3, eV/Angstrom: minus the derivative of `energy`. What a ghost gets belongs to
                                the atom of which it is an image. */
  double *virial;            /* 9, eV: -dE/d(strain), row by row; minus the stress times the volume. A third of its trace
                                over the volume is the pressure. */
  double *atom_virials;      /* n_atoms x 9, eV: W_j = -sum over centres i of r_ij (x) dE_i/dr_ij, r_ij = R_j - R_i, which
                                belongs to the neighbour j; [3 a + b]: component a of r, b of the derivative. Their sum
                                is the virial, and sum_j W_j v_j the potential part of the heat flux (Fan et al., Phys.
                                Rev. B 92, 094301 (2015)). What a ghost gets belongs to its atom. */
  double *energy_std;        /* 1: standard deviation of the members' energies */
  double *atom_energies_std; /* n_centres */
  double *forces_std;        /* n_atoms x 3: of each component, of what this call computes. Where ghosts belong to atoms
                                of other calls, add up `member_forces` first and take `gprann_force_std_factor`. */
  double *member_energies;   /* members: `energy` of each */
  double *member_forces;     /* members x n_atoms x 3: `forces` of each */
  double *grades;            /* n_centres: extrapolation grades, how far the environment of each centre lies outside those
                                of the training set: 1 is the edge of what it has shown, from 2 on do not trust. Zeros
                                without a guard, see `gprann_has_guard`. */
} gprann_results;

#define GPRANN_ATOMS {sizeof(gprann_atoms), 0, 0, NULL, NULL, NULL, NULL, NULL, 0}
#define GPRANN_RESULTS {sizeof(gprann_results), NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL}

/* GPRANN_INTERFACE_VERSION of the library; 0 if there is no build for this processor, see `gprann_message`. */
GPRANN_PUBLIC int gprann_interface_version(void);

/* Which build runs: "base", "v3" or "v4"; "" if there is none. */
GPRANN_PUBLIC const char *gprann_instruction_set(void);

/* What was wrong with the last call of this thread that failed: one sentence, valid until the next call. */
GPRANN_PUBLIC const char *gprann_message(void);

/* Reads a .gprann file. flags: 0, or GPRANN_WITHOUT_COULOMB. On success *potential is to be freed by `gprann_free`, else
 * it is NULL. Descriptors and calculators that are written in Python are refused. */
GPRANN_PUBLIC int gprann_load(const char *path, int flags, gprann_potential **potential);

/* Frees a potential; NULL is allowed. */
GPRANN_PUBLIC void gprann_free(gprann_potential *potential);

/* Distance beyond which atoms do not see each other, Angstrom. Lists must hold all atoms that are nearer. */
GPRANN_PUBLIC double gprann_cutoff(const gprann_potential *potential);

/* Number of elements that the potential knows. */
GPRANN_PUBLIC int gprann_n_species(const gprann_potential *potential);

/* Symbol of an element, 0 <= species < gprann_n_species; NULL beyond. */
GPRANN_PUBLIC const char *gprann_species(const gprann_potential *potential, int species);

/* Number of members of the committee; 1: a single network. */
GPRANN_PUBLIC int gprann_n_members(const gprann_potential *potential);

/* Charge of an element (e) in the Coulomb baseline that GPRANN_WITHOUT_COULOMB left to the program; 0 without one. */
GPRANN_PUBLIC double gprann_charge(const gprann_potential *potential, int species);

/* Factors on standard deviations of energies and of forces over the members, by which they were calibrated. */
GPRANN_PUBLIC double gprann_energy_std_factor(const gprann_potential *potential);
GPRANN_PUBLIC double gprann_force_std_factor(const gprann_potential *potential);

/* Whether the potential has an extrapolation guard: 0 in files of programs that knew none. */
GPRANN_PUBLIC int gprann_has_guard(const gprann_potential *potential);

/* Evaluates the potential on up to `n_threads` threads, which wait for the next call instead of being started again.
 * Results have the same bits for any number of threads. */
GPRANN_PUBLIC int gprann_evaluate(gprann_potential *potential, const gprann_atoms *atoms, int n_threads,
                                  const gprann_results *results);

#ifdef __cplusplus
}
#endif

#endif
