"""Tables of the reconcile core: these events give exactly these effects; and no order of messages takes a node back."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shoal.agents.mark import Mark
from shoal.agents.reconcile import PROMOTE_S, REPLICAS_MAX, Reconciler
from shoal.agents.reconcile_events import (
    ApplySetting,
    DesiredReceived,
    DrainRequested,
    Effect,
    Event,
    FenceSeen,
    FetchDesired,
    FetchFailed,
    LeaseChanged,
    Observed,
    PromoteDesired,
    RaiseEvent,
    Refuse,
    ReportChanged,
    SaveDesired,
    SaveMark,
    SettingFinished,
    SettingKey,
    SettingsRemembered,
    StartFinished,
    StartReplica,
    StopReplica,
    UndoSetting,
    UseSettings,
    WakeAt,
    WatchModels,
    Woken,
)
from shoal.descriptions.messages.desired import (
    Desired,
    DesiredSpec,
    MechanismSetting,
    ProcessTask,
    ReplicaSpec,
    Settings,
    digest_of,
)
from shoal.mechanisms.runner import Observation, RunPhase, run_digest

NODE, SLICE = "n-1", "demo"


def replica(name: str = "app.part.0", revision: int = 1, *, interacts: tuple[str, ...] = (), single: bool = False,
            draining: bool = False) -> ReplicaSpec:  # fmt: skip
    return ReplicaSpec(
        id=name, application="app", component="part", revision=revision, task=ProcessTask(command=("sleep", "1")),
        interacts=interacts, single_instance=single, draining=draining,
    )  # fmt: skip


def desired(generation: int, *replicas: ReplicaSpec, epoch: int = 1, fence: int = 1, node: str = NODE,
            spec: DesiredSpec | None = None) -> Desired:  # fmt: skip
    spec = spec or DesiredSpec(replicas=replicas)
    return Desired(
        node=node, slice=SLICE, epoch=epoch, generation=generation, fence=fence, digest=digest_of(spec), spec=spec
    )


def received(document: Desired, *, from_disk: bool = False, id: str = "d") -> DesiredReceived:  # noqa: A002
    return DesiredReceived(id, document, b"sealed", from_disk)


def observed(*found: tuple[ReplicaSpec, RunPhase]) -> Observed:
    return Observed("o", "process", tuple(Observation(s.id, run_digest(s), s.revision, phase) for s, phase in found))


def core(mark: Mark | None = None) -> Reconciler:
    return Reconciler(NODE, SLICE, frozenset({"process"}), mark or Mark(), Random(0))


def run(one: Reconciler, *events: Event, now_s: float = 0.0) -> list[Effect]:
    return [effect for event in events for effect in one.handle(event, now_s)]


def of(effects: Sequence[Effect], *kinds: type[Effect]) -> list[Effect]:
    return [effect for effect in effects if isinstance(effect, kinds)]


def test_a_document_is_durable_before_anything_is_started() -> None:
    one, spec = core(), replica(interacts=("digits",))
    document = desired(7, spec)
    effects = run(one, observed(), received(document))
    assert effects == [
        SaveMark("d", Mark(1, 7, document.digest, 1)),
        SaveDesired("d", b"sealed", document.digest),
        RaiseEvent("d", "Node", "DesiredApplied", "epoch 1, generation 7"),
        UseSettings("d", Settings()),
        WatchModels("d", ("digits",)),
        StartReplica("d", "process", spec, run_digest(spec)),
        ReportChanged("d"),
    ]


def test_the_same_document_again_changes_nothing() -> None:
    one, document = core(), desired(7, replica())
    run(one, observed(), received(document))
    assert run(one, received(document)) == []


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        (desired(6, replica(), fence=2), "(epoch, generation) (1, 6) is below (1, 7)"),
        (desired(9, replica(), epoch=0, fence=2), "(epoch, generation) (0, 9) is below (1, 7)"),
        (desired(7, replica(revision=2), fence=2), "(epoch, generation) (1, 7) was seen with another digest"),
        (desired(8, replica(), fence=1), "fence 1 is below 2: an earlier control plane sent it"),
        (desired(8, replica(), fence=2, node="n-2"), "meant for node 'n-2' of slice 'demo'"),
        (desired(8, replica(), replica(), fence=2), "two replicas have one id"),
        (
            desired(8, *[replica(f"a.b.{n}") for n in range(REPLICAS_MAX + 1)], fence=2),
            "1001 replicas, over the limit of 1000",
        ),
    ],
    ids=["lower generation", "lower epoch", "other digest", "lower fence", "other node", "same id twice", "too many"],
)
def test_refused_documents(document: Desired, reason: str) -> None:
    one = core()
    run(one, observed(), received(desired(7, replica(), fence=2)))
    assert run(one, received(document)) == [Refuse("d", reason)]
    assert one.mark.order == (1, 7)


def test_a_higher_epoch_wins_over_a_higher_generation() -> None:
    one = core()
    run(one, received(desired(900, replica())))
    run(one, received(desired(3, replica(revision=2), epoch=2)))
    assert one.mark.order == (2, 3)


def test_the_fence_of_a_lease_counts_for_documents() -> None:
    one = core()
    run(one, received(desired(1, replica())))
    assert run(one, FenceSeen("f", 5)) == [SaveMark("f", one.mark)]
    assert one.mark.fence == 5
    assert len(of(run(one, received(desired(2))), Refuse)) == 1


def test_the_last_known_good_is_taken_though_a_newer_one_was_seen_and_lost() -> None:
    newer = desired(7, replica(revision=2))
    one = core(Mark(1, 7, newer.digest, 1))
    older = desired(6, replica())
    effects = run(one, observed(), received(older, from_disk=True))
    assert len(of(effects, StartReplica)) == 1
    assert of(effects, SaveMark, SaveDesired, Refuse) == []
    assert one.mark.order == (1, 7)  # never back
    assert len(of(run(one, received(desired(6, replica(revision=3)))), Refuse)) == 1
    assert len(of(run(one, received(newer)), SaveDesired)) == 1


def test_a_document_on_disk_never_displaces_one_from_the_wire() -> None:
    one = core()
    run(one, received(desired(7, replica())))
    assert run(one, received(desired(8), from_disk=True)) == [Refuse("d", "there is a newer document already")]


def test_a_large_document_is_fetched_and_tried_again() -> None:
    one, spec = core(), replica()
    whole = desired(7, spec)
    pointer = msgspec.structs.replace(whole, spec=None, url="/v1/documents/x")
    effects = run(one, observed(), received(pointer))
    assert effects == [FetchDesired("d", pointer)]
    assert one.mark.order == (0, 0)  # not seen until it is here
    assert run(one, received(pointer)) == []  # one at a time
    (wake,) = run(one, FetchFailed("f", pointer, "no route"))
    assert isinstance(wake, WakeAt)
    assert run(one, Woken("w"), now_s=wake.at_s) == [FetchDesired("w", pointer)]
    assert len(of(run(one, received(whole)), StartReplica)) == 1


def test_without_a_document_what_runs_from_before_goes_on() -> None:
    one = core()
    assert run(one, observed((replica(), "ready"))) == []
    assert one.reports() == ()


def test_what_the_first_document_does_not_name_is_stopped() -> None:
    one, stray = core(), replica("old.part.0")
    effects = run(one, observed((stray, "ready")), received(desired(1)))
    assert of(effects, StopReplica) == [StopReplica("d", "process", stray.id, run_digest(stray), 5.0)]
    assert [(report.id, report.phase) for report in one.reports()] == [(stray.id, "stopping")]
    effects = run(one, observed())
    assert of(effects, RaiseEvent) == [RaiseEvent("o", "Replica", "ReplicaStopped", "", stray.id)]
    assert one.is_idle


def test_events_of_a_replicas_life() -> None:
    one, spec = core(), replica()
    run(one, observed(), received(desired(1, spec)))
    found = Observation(spec.id, run_digest(spec), 1, "starting")
    run(one, StartFinished("s", spec.id, run_digest(spec), found))
    effects = run(one, observed((spec, "ready")))
    assert of(effects, RaiseEvent) == [RaiseEvent("o", "Replica", "ReplicaReady", "revision 1", spec.id)]
    assert len(of(effects, ReportChanged)) == 1
    assert run(one, observed((spec, "ready"))) == []  # a quiet node says and does nothing


def test_a_document_is_the_last_known_good_after_a_healthy_minute() -> None:
    one, spec = core(), replica()
    document = desired(1, spec)
    run(one, observed(), received(document))
    run(one, StartFinished("s", spec.id, run_digest(spec), Observation(spec.id, run_digest(spec), 1, "starting")))
    (wake,) = of(run(one, observed((spec, "ready")), now_s=10.0), WakeAt)
    assert wake == WakeAt("o", 10.0 + PROMOTE_S)
    run(one, observed((spec, "notReady")), now_s=20.0)
    assert of(run(one, Woken("w"), now_s=70.0), PromoteDesired) == []
    (wake,) = of(run(one, observed((spec, "ready")), now_s=80.0), WakeAt)
    assert isinstance(wake, WakeAt)
    assert of(run(one, Woken("w"), now_s=wake.at_s), PromoteDesired) == [PromoteDesired("w", document.digest)]
    assert run(one, Woken("w"), now_s=wake.at_s + 1) == []


def test_single_instances_stop_with_the_lease_and_others_do_not() -> None:
    one, single, plain = core(), replica("a.single.0", single=True), replica("a.plain.0")
    effects = run(one, observed(), received(desired(1, single, plain)))
    assert [effect.spec.id for effect in effects if isinstance(effect, StartReplica)] == [plain.id]
    effects = run(one, LeaseChanged("l", held=True))
    assert [effect.spec.id for effect in effects if isinstance(effect, StartReplica)] == [single.id]
    for spec in (single, plain):
        found = Observation(spec.id, run_digest(spec), 1, "ready")
        run(one, StartFinished("s", spec.id, run_digest(spec), found))
    effects = run(one, LeaseChanged("l", held=False))
    assert [effect.replica for effect in effects if isinstance(effect, StopReplica)] == [single.id]


def test_a_local_drain_stops_everything_and_can_be_taken_back() -> None:
    one, spec = core(), replica()
    run(one, observed((spec, "ready")), received(desired(1, spec)))
    assert [effect.drain_s for effect in run(one, DrainRequested("x")) if isinstance(effect, StopReplica)] == [30.0]
    run(one, observed())
    assert one.is_idle
    assert len(of(run(one, DrainRequested("x", wanted=False)), StartReplica)) == 1


# --- settings of mechanisms -----------------------------------------------------------------------------------------

SETTING = MechanismSetting(mechanism="fan", verb="setSpeed", arguments={"speed": msgspec.Raw(b"3")})
KEY = SettingKey("fan", "", "setSpeed")


def with_settings(generation: int, *settings: MechanismSetting) -> DesiredReceived:
    return received(desired(generation, spec=DesiredSpec(mechanisms=settings)), id=f"d{generation}")


def test_a_setting_is_applied_once_changed_and_undone() -> None:
    one = core()
    assert of(run(one, with_settings(1, SETTING)), ApplySetting) == [
        ApplySetting("d1", KEY, SETTING, "d1/fan//setSpeed")
    ]
    run(one, SettingFinished("s", KEY, undone=False, outcome="done"))
    assert of(run(one, with_settings(2, SETTING)), ApplySetting, UndoSetting) == []
    faster = msgspec.structs.replace(SETTING, arguments={"speed": msgspec.Raw(b"5")})
    assert of(run(one, with_settings(3, faster)), ApplySetting, UndoSetting) == [
        ApplySetting("d3", KEY, faster, "d3/fan//setSpeed")
    ]
    run(one, SettingFinished("s", KEY, undone=False, outcome="done"))
    assert of(run(one, with_settings(4)), ApplySetting, UndoSetting) == [UndoSetting("d4", KEY)]
    run(one, SettingFinished("s", KEY, undone=True, outcome="done"))
    assert of(run(one, Woken("w")), ApplySetting, UndoSetting) == []


def test_what_left_the_document_while_it_was_applied_is_undone_afterwards() -> None:
    one = core()
    run(one, with_settings(1, SETTING))
    assert of(run(one, with_settings(2)), UndoSetting) == []
    assert of(run(one, SettingFinished("s", KEY, undone=False, outcome="done")), UndoSetting) == [UndoSetting("s", KEY)]


def test_a_failed_setting_is_tried_again_and_told() -> None:
    one = core()
    run(one, with_settings(1, SETTING))
    effects = run(one, SettingFinished("s", KEY, undone=False, outcome="failed", message="no such file"))
    told = RaiseEvent("s", "Setting", "SettingFailed", "fan setSpeed: no such file", severity="warning")
    assert of(effects, RaiseEvent) == [told]
    assert one.problems() == ("fan setSpeed : no such file",)
    (wake,) = of(effects, WakeAt)
    assert isinstance(wake, WakeAt)
    assert len(of(run(one, Woken("w"), now_s=wake.at_s), ApplySetting)) == 1
    run(one, SettingFinished("s", KEY, undone=False, outcome="done"))
    assert one.problems() == ()


def test_settings_of_an_earlier_run_are_undone_or_applied_again() -> None:
    one, gone = core(), SettingKey("fan", "", "setColour")
    effects = run(one, SettingsRemembered("j", (KEY, gone)), with_settings(1, SETTING))
    assert of(effects, ApplySetting, UndoSetting) == [
        UndoSetting("d1", gone),
        ApplySetting("d1", KEY, SETTING, "d1/fan//setSpeed"),
    ]


# --- properties -----------------------------------------------------------------------------------------------------

DOCUMENTS = st.builds(
    lambda epoch, generation, revision, fence: desired(
        generation, replica(revision=revision), epoch=epoch, fence=fence
    ),
    st.integers(1, 3), st.integers(1, 6), st.integers(1, 3), st.integers(1, 3),
)  # fmt: skip
PHASES: st.SearchStrategy[RunPhase] = st.sampled_from(
    ["fetching", "starting", "ready", "notReady", "failed", "exited", "stopping"]
)
EVENTS = st.one_of(
    DOCUMENTS.map(received),
    st.builds(lambda fence: FenceSeen("f", fence), st.integers(1, 3)),
    st.builds(lambda held: LeaseChanged("l", held), st.booleans()),
    st.builds(lambda rev, phase: observed((replica(revision=rev), phase)), st.integers(1, 3), PHASES),
    st.just(Observed("o", "process", ())),
    st.just(Woken("w")),
    st.builds(
        lambda rev, ok: StartFinished(
            "s",
            "app.part.0",
            run_digest(replica(revision=rev)),
            Observation("app.part.0", run_digest(replica(revision=rev)), rev, "starting") if ok else None,
        ),
        st.integers(1, 3),
        st.booleans(),
    ),
)


@settings(max_examples=400, deadline=None)
@given(st.lists(EVENTS, max_size=30))
def test_no_sequence_of_messages_takes_a_node_back(events: list[Event]) -> None:
    """I2: (epoch, generation) never decreases and an equal pair means an equal digest; I3: nor does the fence."""
    one, now_s = core(), 0.0
    applied: dict[tuple[int, int], str] = {}
    order, fence = (0, 0), 0
    for event in events:
        now_s += 1.0
        effects = one.handle(event, now_s)
        assert one.mark.order >= order
        assert one.mark.fence >= fence
        order, fence = one.mark.order, one.mark.fence
        for effect in effects:
            if isinstance(effect, SaveMark) and effect.mark.digest:
                assert applied.setdefault(effect.mark.order, effect.mark.digest) == effect.mark.digest
            if isinstance(effect, WakeAt):
                assert effect.at_s > now_s  # no busy loop
        started = [effect.digest for effect in effects if isinstance(effect, StartReplica)]
        assert len(started) == len(set(started))


@settings(max_examples=200, deadline=None)
@given(st.lists(EVENTS, max_size=30))
def test_the_same_events_give_the_same_effects(events: list[Event]) -> None:
    first, second = core(), core()
    for now_s, event in enumerate(events):
        assert first.handle(event, float(now_s)) == second.handle(event, float(now_s))
