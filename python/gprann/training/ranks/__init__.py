"""Training of one potential over the ranks of MPI: each keeps its share of the structures, the first one decides.

Rank 0 runs the program, optimiser and all, as a process alone does, and writes all files. What takes the time -
descriptors, energies, gradients, normal equations - it asks of all ranks, which do it for their own structures; the
results are summed. Decisions are taken once, so that ranks on unlike processors cannot take different ways.
"""

from gprann.training.ranks.team import Team as Team
from gprann.training.ranks.team import lead as lead
