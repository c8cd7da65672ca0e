"""The report of a run as one HTML file that needs nothing else: no network, no scripts."""

from gprann.evaluation.page.page import EvaluatedSet as EvaluatedSet
from gprann.evaluation.page.page import PageContent as PageContent
from gprann.evaluation.page.page import write_page as write_page
