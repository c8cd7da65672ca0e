"""Properties of materials from potentials and trajectories, to be compared with experiments and other calculations."""

from gprann.properties.crystals import ElasticConstants as ElasticConstants
from gprann.properties.crystals import EquationOfState as EquationOfState
from gprann.properties.crystals import elastic_constants as elastic_constants
from gprann.properties.crystals import equation_of_state as equation_of_state
from gprann.properties.trajectories import Diffusion as Diffusion
from gprann.properties.trajectories import Rdf as Rdf
from gprann.properties.trajectories import diffusion as diffusion
from gprann.properties.trajectories import mean_squared_displacement as mean_squared_displacement
from gprann.properties.trajectories import rdf as rdf
