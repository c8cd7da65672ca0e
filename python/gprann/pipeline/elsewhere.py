"""Surrogates and labels of subsets by the calls of an executor, on this machine or on others."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import replace
from typing import TYPE_CHECKING

from gprann.augmentation.gpr import label_subset
from gprann.augmentation.policies import CopyOptions
from gprann.runtime.executors import Call, run_calls
from gprann.runtime.messages import SharedBar, progress_bar
from gprann.surrogate.sets.surrogate_set import Subset

if TYPE_CHECKING:
    from gprann.pipeline.subsets import SubsetStore, SurrogateTest

_log = logging.getLogger(__name__)


def label_elsewhere(
    subsets: Sequence[Subset],
    options: CopyOptions,
    store: SubsetStore | None,
    test: SurrogateTest | None,
    workers: str | Executor,
) -> None:
    """Label subsets by the calls of an executor; what they leave in the store is taken up from there.

    Parameters
    ----------
    subsets : sequence of Subset
    options : CopyOptions
    store : SubsetStore or None
        In a folder that all workers see; without one nothing is done elsewhere.
    test : SurrogateTest or None
    workers : str or Executor
    """
    if store is None:
        return
    store = replace(store, stages=store.stages.absolute())  # workers may run in other folders
    test = None if test is None else replace(test, stages=test.stages.absolute())
    missing = [subset for subset in subsets if not store.has(subset)]
    calls = [Call(_label_and_keep, (subset, options, store, test)) for subset in missing]
    _log.info("%d subsets go to the executor", len(calls))
    run_calls(workers, calls, lambda k, _: _log.info("subset %d of %d is labelled", k + 1, len(calls)))


def _label_and_keep(
    subset: Subset, options: CopyOptions, store: SubsetStore, test: SurrogateTest | None
) -> None:
    with progress_bar(options.total(subset.data), "labelling", show=False) as bar:
        label_subset(subset, options, SharedBar(bar), store, None if test is None else test.predict)
