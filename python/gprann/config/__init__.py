"""Configuration: typed sections, read from TOML, with errors that name file, key and remedy."""

from gprann.config.exploration import ExploreConfig as ExploreConfig
from gprann.config.exploration import default_exploration as default_exploration
from gprann.config.exploration import load_exploration as load_exploration
from gprann.config.files import find_config as find_config
from gprann.config.sections import AugmentationSection as AugmentationSection
from gprann.config.sections import Config as Config
from gprann.config.sections import DataSection as DataSection
from gprann.config.sections import DescriptorSection as DescriptorSection
from gprann.config.sections import OutputSection as OutputSection
from gprann.config.sections import ResourcesSection as ResourcesSection
from gprann.config.sections import SurrogateSection as SurrogateSection
from gprann.config.sections import TrainingSection as TrainingSection
from gprann.config.sections import default_config as default_config
from gprann.config.sections import load_config as load_config
from gprann.config.template import to_toml as to_toml
from gprann.config.template import toml_value as toml_value
