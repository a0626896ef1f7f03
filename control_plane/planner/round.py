"""One round of decisions over one table: each need in turn sees what the needs before it took.

`decide.py` runs a round for a proposal; `replay.py` and `explain.py` run one over the same columns to see the same
again.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from ...descriptions.errors import PluginError
from ...descriptions.kinds import Application
from ...descriptions.kinds.application import Component
from ...policies.request import request_of
from ...policies.view import View
from ..placement import Reservation
from .constraint import Question, everywhere
from .evaluation import Evaluation
from .panel import Panel, Panels
from .policies import BUILT_IN, Policies
from .preferences import preferences_of
from .ranking import Ranking
from .record import Choice, Scored
from .scoring import Changed, Scoring
from .snapshot import Decision, Need, PolicyFault
from .table import Table, model_of
from .writing import Written, write, write_undescribed

TOP_KEPT = 3
"""Best nodes whose scores a record keeps."""


@dataclass
class Trial:
    """One need being decided."""

    question: Question
    evaluation: Evaluation
    scoring: Scoring
    panel: Panel
    counts: dict[str, int]
    """Nodes that fail each constraint, before the first replica or when no node was left."""
    feasible: int = 0
    """Nodes that could take the first replica."""
    choices: list[Choice] = field(default_factory=list)
    rows: list[int] = field(default_factory=list)
    reserved: list[Reservation] = field(default_factory=list)
    top: tuple[Scored, ...] = ()


class Round:
    """Decides needs over a table that nothing else uses meanwhile."""

    def __init__(
        self,
        table: Table,
        policies: Policies,
        seed: int,
        broken: Mapping[str, str] | None = None,
        position: int = 0,
    ) -> None:
        """`broken` are policies that are not to be asked, with why; a replay takes it and `position` from a record."""
        self.table = table
        self.inputs = table.digest()
        told = f"{table.snapshot.version}/{seed}/".encode() + self.inputs
        self.proposal = hashlib.blake2b(told, digest_size=8).hexdigest()
        self._policies = policies
        self._panels = Panels(table.snapshot, policies, broken or {})
        self._seed = seed
        self._position = position

    @property
    def faults(self) -> tuple[PolicyFault, ...]:
        """What went wrong with policies so far."""
        return tuple(self._panels.faults.values())

    def decide(self, need: Need) -> Decision:
        """Place as many replicas as fit, and write down why."""
        written = Written(self.table, self.inputs, self.proposal, self._position, self._seed)
        self._position += 1
        found = self.table.component(need.application, need.component)
        if found is None:
            return write_undescribed(written, need)
        trial = self.run(need, *found)
        decision = write(written, trial)
        self.close_trial(trial)
        return decision

    def run(
        self, need: Need, application: Application, component: Component, look: Callable[[Trial], None] | None = None
    ) -> Trial:
        """Decide without writing. Where a policy fails, the need is started again without it, so it can be replayed.

        `look` is called before the first replica is placed; with it, policies are asked about every node and for
        reasons.
        """
        mark = self.table.mark()
        broken: dict[str, str] = {}
        while True:
            try:
                trial = self.open_trial(need, application, component, broken, is_asking_all=look is not None)
                if look is not None:
                    look(trial)
                self.choose(trial, need.count)
                self._panels.good(trial.panel)
                return trial
            except PluginError as error:
                if error.plugin == BUILT_IN or error.plugin in broken:
                    raise
                broken[error.plugin] = error.message
                self._panels.strike(error.plugin, error.message)
                self.table.roll_back(mark)
                self.table.ledger.siblings[:] = 0

    def open_trial(
        self,
        need: Need,
        application: Application,
        component: Component,
        broken: Mapping[str, str],
        *,
        is_asking_all: bool = False,
    ) -> Trial:
        """Evaluate and score all nodes for the first replica of a need; `close_trial` must follow."""
        panel = self._panels.of(application, broken)
        question = self._question(need, application, component)
        evaluation = Evaluation(question)
        deciders = [*panel.deciders, *preferences_of(question, panel.deciders)]
        asked = everywhere(question, True) if is_asking_all else evaluation.open
        scoring = Scoring(deciders, component, self._view(question), asked, reasons=is_asking_all)
        evaluation.refuse(scoring.refusals)
        return Trial(question, evaluation, scoring, panel, evaluation.counts())

    def choose(self, trial: Trial, count: int) -> None:
        """Place up to `count` replicas, each on the node with the highest total at that moment."""
        ranking, names = self.ranked(trial), self.table.nodes.names
        trial.feasible = len(ranking.rows)
        leading = ranking.leading(TOP_KEPT)
        trial.top = _top(trial, ranking, leading, names)
        for at in range(count):
            if not leading:
                trial.counts = trial.evaluation.counts_now()
                break
            best = leading[0]
            trial.choices.append(_choice(ranking, leading, names))
            is_more = at + 1 < count
            changed = self._place(trial, int(ranking.rows[best]), is_more)
            if changed == "all":
                ranking = self.ranked(trial)
            elif changed == "row":
                ranking.changed(best, trial.scoring.scorers)
            if is_more and changed != "nothing":
                leading = ranking.leading(2)

    def choose_more(self, trial: Trial, count: int) -> None:
        """Go on after all that a need wants was placed; what is told of the need stays as it is."""
        trial.question.left = count
        if trial.rows and trial.scoring.placed(trial.rows[-1]) == "all":
            trial.evaluation.refuse(trial.scoring.refusals)
        before = trial.feasible, trial.top, trial.counts
        self.choose(trial, count)
        trial.feasible, trial.top, trial.counts = before

    def ranked(self, trial: Trial) -> Ranking:
        """The nodes that can take the next replica."""
        rows = trial.evaluation.allowed().nonzero()[0]
        return Ranking(rows, trial.scoring.scorers, self.table.nodes.names)

    def close_trial(self, trial: Trial) -> None:
        """Leave the table ready for the next need."""
        need = trial.question.need
        for replica in self.table.replicas.of(need.application, need.component):
            self.table.ledger.siblings[replica.row] = 0

    def _place(self, trial: Trial, row: int, is_more: bool) -> Changed:
        """Take what a replica needs; what may have changed for the next one."""
        table, need = self.table, trial.question.need
        held = table.ledger.take(row, trial.question.request)
        trial.rows.append(row)
        trial.reserved.append(held)
        table.ledger.siblings[row] += 1
        table.place(need.application, need.component, row, held)
        is_other = trial.evaluation.placed(row)
        if not is_more:
            return "nothing"
        changed = trial.scoring.placed(row)
        if changed == "all":
            trial.evaluation.refuse(trial.scoring.refusals)
        return "all" if is_other else changed

    def _question(self, need: Need, application: Application, component: Component) -> Question:
        table = self.table
        for replica_id in need.replaces:
            table.retire(replica_id)
        for replica in table.replicas.of(need.application, need.component):
            table.ledger.siblings[replica.row] += 1
        table.nodes.moved()
        model = model_of(component, table.models)
        relations, request = table.relations(application), request_of(component, model)
        return Question(table, need, application, component, relations, model, request, need.count)

    def _view(self, question: Question) -> View:
        snapshot, table = self.table.snapshot, self.table
        return View(
            now_s=snapshot.now_s,
            wall=snapshot.wall,
            seed=zlib.crc32(question.need.key.encode(), self._seed & 0xFFFFFFFF),
            slice=snapshot.slice,
            application=question.application,
            request=question.request,
            relations=question.relations,
            nodes=table.nodes,
            network=table.network,
            replicas=table.replicas,
            metrics=snapshot.metrics,
            reports=table.layout.reports,
        )


def _choice(ranking: Ranking, leading: list[int], names: tuple[str, ...]) -> Choice:
    """The best node and the one after it."""
    best, rows = leading[0], ranking.rows
    if len(leading) == 1:
        return Choice(names[rows[best]], ranking.total(best))
    second = leading[1]
    return Choice(names[rows[best]], ranking.total(best), names[rows[second]], ranking.total(second))


def _top(trial: Trial, ranking: Ranking, leading: list[int], names: tuple[str, ...]) -> tuple[Scored, ...]:
    """The best nodes, with what each policy said."""
    raws, rows = trial.scoring.raws, ranking.rows
    return tuple(
        [Scored(names[rows[at]], ranking.total(at), tuple([float(raw[rows[at]]) for raw in raws])) for at in leading]
    )
