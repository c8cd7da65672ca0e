"""Potentials of the ænet program: networks (`.nn`, `.nn.ascii`) and set-ups of its descriptor (`.stp`)."""

from gprann.formats.aenet.exchange import check_document as check_document
from gprann.formats.aenet.exchange import holds_networks as holds_networks
from gprann.formats.aenet.exchange import read_aenet as read_aenet
from gprann.formats.aenet.exchange import write_aenet as write_aenet
from gprann.formats.aenet.setup_file import read_aenet_setup as read_aenet_setup
