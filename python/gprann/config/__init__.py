"""Configuration: typed sections, read from TOML, with errors that name file, key and remedy."""

from gprann.config.sections import (
    AugmentationSection,
    Config,
    DataSection,
    DescriptorSection,
    OutputSection,
    ResourcesSection,
    SurrogateSection,
    TrainingSection,
    default_config,
    find_config,
    load_config,
)
from gprann.config.template import to_toml, toml_value

__all__ = [
    "AugmentationSection",
    "Config",
    "DataSection",
    "DescriptorSection",
    "OutputSection",
    "ResourcesSection",
    "SurrogateSection",
    "TrainingSection",
    "default_config",
    "find_config",
    "load_config",
    "to_toml",
    "toml_value",
]
