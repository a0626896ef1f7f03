"""The two faces of every constraint agree: the mask over all nodes, and the explanation of each one."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import HealthCheck, given, settings

from shoal.control_plane.planner.constraint import Question
from shoal.control_plane.planner.evaluation import Evaluation
from shoal.control_plane.planner.snapshot import Need, Snapshot
from shoal.control_plane.planner.table import Table, model_of
from shoal.policies.request import request_of

from .random_slices import slices_with_needs


def question_of(table: Table, need: Need) -> Question:
    found = table.component(need.application, need.component)
    assert found is not None
    application, component = found
    model = model_of(component, table.models)
    request, relations = request_of(component, model), table.relations(application)
    return Question(table, need, application, component, relations, model, request, need.count)


@settings(max_examples=400, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(slices_with_needs)
def test_masks_equal_explanations(count_case: Callable[[], None], drawn: tuple[Snapshot, list[Need]]) -> None:
    there, needs = drawn
    table = Table(there)
    for need in needs:
        evaluation = Evaluation(question_of(table, need))
        count_case()
        for constraint in evaluation.constraints.all:
            mask = constraint.mask(evaluation.question)
            for row, passes in enumerate(mask.tolist()):
                failure = constraint.failure(evaluation.question, row)
                assert passes == (failure is None), (constraint, row, failure)
                assert failure is None or (failure.constraint == constraint.name and failure.reason)
        allowed = evaluation.allowed().tolist()
        assert allowed == [not evaluation.failures(row) for row in range(len(table.nodes))]
