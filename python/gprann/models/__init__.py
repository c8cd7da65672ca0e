"""Models of atomic energies: pure functions of one flat parameter vector."""

from gprann.models.base import MODELS as MODELS
from gprann.models.base import AtomModel as AtomModel
from gprann.models.base import Model as Model
from gprann.models.base import register_model as register_model
from gprann.models.features import FeatureTable as FeatureTable
from gprann.models.features import Normalisation as Normalisation
from gprann.models.guard import Guard as Guard
from gprann.models.network import Mlp as Mlp
from gprann.models.network import NetworkModel as NetworkModel
from gprann.models.polynomial import Linear as Linear
from gprann.models.polynomial import Polynomial as Polynomial
from gprann.models.polynomial import PolynomialModel as PolynomialModel
from gprann.models.polynomial import Quadratic as Quadratic
