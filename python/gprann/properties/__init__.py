"""Properties of materials from potentials and trajectories, to be compared with experiments and other calculations."""

from gprann.properties.crystals import ElasticConstants as ElasticConstants
from gprann.properties.crystals import EquationOfState as EquationOfState
from gprann.properties.crystals import elastic_constants as elastic_constants
from gprann.properties.crystals import equation_of_state as equation_of_state
from gprann.properties.defects import Surface as Surface
from gprann.properties.defects import Vacancy as Vacancy
from gprann.properties.defects import surface_energy as surface_energy
from gprann.properties.defects import vacancy as vacancy
from gprann.properties.lattice_dynamics import Phonons as Phonons
from gprann.properties.lattice_dynamics import ThermalConductivity as ThermalConductivity
from gprann.properties.lattice_dynamics import phonons as phonons
from gprann.properties.lattice_dynamics import thermal_conductivity as thermal_conductivity
from gprann.properties.molecules import Vibrations as Vibrations
from gprann.properties.molecules import vibrations as vibrations
from gprann.properties.trajectories import Diffusion as Diffusion
from gprann.properties.trajectories import Rdf as Rdf
from gprann.properties.trajectories import diffusion as diffusion
from gprann.properties.trajectories import mean_squared_displacement as mean_squared_displacement
from gprann.properties.trajectories import rdf as rdf
