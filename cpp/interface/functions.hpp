#pragma once

#include "gprann.h"

/// The functions of one build, which the library that programs link with calls: `gprann_functions` of it
/// returns them.
struct gprann_function_table {
  int interface_version;
  const char* (*message)();
  int (*load)(const char*, int, gprann_potential**);
  void (*free)(gprann_potential*);
  double (*cutoff)(const gprann_potential*);
  int (*n_species)(const gprann_potential*);
  const char* (*species)(const gprann_potential*, int);
  int (*n_members)(const gprann_potential*);
  double (*charge)(const gprann_potential*, int);
  double (*energy_std_factor)(const gprann_potential*);
  double (*force_std_factor)(const gprann_potential*);
  int (*evaluate)(gprann_potential*, const gprann_atoms*, int, const gprann_results*);
  int (*has_guard)(const gprann_potential*);
};
