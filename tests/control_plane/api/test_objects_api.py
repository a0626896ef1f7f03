"""Objects over HTTP: apply, read, list, patch, delete, with preconditions, dry runs and idempotency keys."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from shoal.control_plane.api.roles import Role
from shoal.control_plane.documents import from_row, with_status
from shoal.descriptions.kinds import Node
from shoal.descriptions.kinds.node import NodeStatus

APP = {
    "apiVersion": "shoal.dev/v1",
    "kind": "Application",
    "metadata": {"name": "shop"},
    "spec": {"components": [{"name": "web", "process": {"command": ["web"]}}]},
}
NODE = {"apiVersion": "shoal.dev/v1", "kind": "Node", "metadata": {"name": "a"}, "spec": {"layer": "edge"}}

POLICY = {**NODE, "kind": "Policy", "metadata": {"name": "p"}, "spec": {"use": "unknown"}}


@pytest.fixture
def run(serve: Any) -> Callable[[Callable[[Any], Awaitable[None]]], None]:
    """Run a test over a fresh server."""

    def running(test: Callable[[Any], Awaitable[None]]) -> None:
        async def within() -> None:
            async with serve() as served:
                await test(served)

        asyncio.run(within())

    return running


def changed(**spec: object) -> dict[str, object]:
    return {**NODE, "spec": {"layer": "edge", **spec}}


def test_apply_creates_then_replaces(run: Any) -> None:
    async def test(served: Any) -> None:
        made = await served.ask("PUT", "/v1/nodes/a", NODE)
        assert made.status == 201
        metadata = made.json["metadata"]
        assert metadata["generation"] == 1
        assert made.headers["ETag"] == f'"{metadata["resourceVersion"]}"'
        replaced = await served.ask("PUT", "/v1/nodes/a", changed(layer="cloud"))
        assert (replaced.status, replaced.json["metadata"]["generation"]) == (200, 2)
        assert replaced.json["metadata"]["uid"] == metadata["uid"]
        assert replaced.json["spec"]["layer"] == "cloud"
        assert (await served.ask("GET", "/v1/nodes/a")).json == replaced.json

    run(test)


def test_labels_grow_the_version_but_not_the_generation(run: Any) -> None:
    async def test(served: Any) -> None:
        first = (await served.ask("PUT", "/v1/nodes/a", NODE)).json["metadata"]
        labelled = {**NODE, "metadata": {"name": "a", "labels": {"zone": "north"}}}
        second = (await served.ask("PUT", "/v1/nodes/a", labelled)).json["metadata"]
        assert second["resourceVersion"] > first["resourceVersion"]
        assert second["generation"] == first["generation"]

    run(test)


def test_what_is_read_can_be_applied_again(run: Any) -> None:
    """`shoal get -o yaml | shoal apply -f -`: the server's own fields are accepted and mean nothing new."""

    async def test(served: Any) -> None:
        made = (await served.ask("PUT", "/v1/applications/shop", APP)).json
        again = await served.ask("PUT", "/v1/applications/shop", made)
        assert (again.status, again.json) == (200, made)

    run(test)


def test_status_is_not_for_people_to_write(run: Any) -> None:
    async def test(served: Any) -> None:
        told = {**NODE, "status": {"phase": "ready", "uid": "mine"}}
        assert "status" not in (await served.ask("PUT", "/v1/nodes/a", told)).json
        row = await served.store.get("Node", "a")
        kept = with_status(row, NodeStatus(phase="suspect"))
        await served.store.write(lambda tx: tx.put("Node", "a", kept))
        for method, body in (("PUT", told), ("PATCH", {"status": {"phase": "lost"}}), ("PATCH", {"status": None})):
            assert (await served.ask(method, "/v1/nodes/a", body)).status == 200
            assert from_row(await served.store.get("Node", "a"), Node).status == NodeStatus(phase="suspect")

    run(test)


@pytest.mark.parametrize(
    ("path", "body", "told"),
    [
        ("/v1/nodes/b", NODE, "metadata.name"),
        ("/v1/models/a", NODE, "kind"),
        ("/v1/nodes/a", {**NODE, "spec": {"lair": "edge"}}, "layer"),
        ("/v1/nodes/a", {"kind": "Node", "metadata": {"name": "a"}}, "apiVersion"),
        ("/v1/nodes/a", {**NODE, "spec": {"hardware": {"memory": "64Mb"}}}, "memory"),
        (
            "/v1/policies/p",
            {**NODE, "kind": "Policy", "metadata": {"name": "p"}, "spec": {"use": "unknown"}},
            "spec.use",
        ),
    ],
    ids=["other name", "other kind", "unknown key", "no version", "unit", "refused by the services"],
)
def test_a_wrong_description_is_told_where(run: Any, path: str, body: object, told: str) -> None:
    async def test(served: Any) -> None:
        heard = await served.ask("PUT", path, body)
        assert (heard.status, heard.code) == (422, "invalid-description")
        assert told in heard.json["detail"]
        assert heard.json["errors"]

    run(test)


def test_all_mistakes_are_told_at_once_with_their_lines(run: Any) -> None:
    async def test(served: Any) -> None:
        body = b'{\n"apiVersion": "shoal.dev/v1",\n"kind": "Node",\n"metadata": {"name": "a"},\n'
        body += b'"spec": {\n"lair": "edge",\n"hardware": {"cpu": "many"}}}'
        faults = (await served.ask("PUT", "/v1/nodes/a", body)).json["errors"]
        assert [(fault["path"], fault["line"]) for fault in faults] == [("spec.lair", 6), ("spec.hardware.cpu", 7)]
        assert faults[0]["nearest"] == "layer"

    run(test)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"If_Match": "stale"}, 412),
        ({"If_Match": "current"}, 200),
        ({"If_Match": "*"}, 200),
        ({"If_None_Match": "*"}, 412),
        ({"If_Match": "W/x"}, 400),
        ({"If_Match": "*", "If_None_Match": "*"}, 400),
    ],
)
@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE"])
def test_preconditions_hold(run: Any, method: str, headers: dict[str, str], status: int) -> None:
    async def test(served: Any) -> None:
        made = await served.ask("PUT", "/v1/nodes/a", NODE)
        words = {"stale": '"1"', "current": made.headers["ETag"]}
        sent = {name: words.get(value, value) for name, value in headers.items()}
        body = None if method == "DELETE" else {**NODE, "metadata": {"name": "a", "labels": {"new": "yes"}}}
        heard = await served.ask(method, "/v1/nodes/a", body, **sent)
        assert heard.status == status, heard.body
        after = await served.ask("GET", "/v1/nodes/a")
        if status == 200:
            assert (after.status == 404) if method == "DELETE" else (after.json["metadata"]["labels"] == {"new": "yes"})
        else:
            assert after.json == made.json

    run(test)


def test_creating_can_be_asked_for_alone(run: Any) -> None:
    async def test(served: Any) -> None:
        assert (await served.ask("PUT", "/v1/nodes/a", NODE, If_None_Match="*")).status == 201
        assert (await served.ask("PUT", "/v1/nodes/b", {**NODE, "metadata": {"name": "b"}}, If_Match="*")).status == 412

    run(test)


def test_a_version_in_the_body_is_a_precondition_too(run: Any) -> None:
    async def test(served: Any) -> None:
        made = (await served.ask("PUT", "/v1/nodes/a", NODE)).json
        await served.ask("PUT", "/v1/nodes/a", changed(layer="cloud"))
        assert (await served.ask("PUT", "/v1/nodes/a", made)).code == "precondition-failed"
        patch = {"metadata": {"resourceVersion": made["metadata"]["resourceVersion"]}}
        assert (await served.ask("PATCH", "/v1/nodes/a", patch)).code == "precondition-failed"

    run(test)


def test_an_object_that_was_remade_is_not_mistaken_for_the_old_one(run: Any) -> None:
    async def test(served: Any) -> None:
        old = (await served.ask("PUT", "/v1/nodes/a", NODE)).json
        await served.ask("DELETE", "/v1/nodes/a")
        await served.ask("PUT", "/v1/nodes/a", NODE)
        del old["metadata"]["resourceVersion"]
        assert (await served.ask("PUT", "/v1/nodes/a", old)).status == 409

    run(test)


def test_a_merge_patch_changes_what_it_names(run: Any) -> None:
    async def test(served: Any) -> None:
        await served.ask("PUT", "/v1/nodes/a", changed(hardware={"cpu": "2", "memory": "1Gi"}, cordoned=True))
        patch = {
            "spec": {"hardware": {"cpu": None, "memory": "2Gi"}, "cordoned": None},
            "metadata": {"labels": {"x": "y"}},
        }
        heard = await served.ask("PATCH", "/v1/nodes/a", patch)
        assert heard.status == 200
        assert heard.json["spec"]["hardware"] == {"memory": "2Gi"}
        assert heard.json["spec"]["cordoned"] is False
        assert heard.json["metadata"]["labels"] == {"x": "y"}
        assert heard.json["metadata"]["generation"] == 2

    run(test)


@pytest.mark.parametrize(
    ("patch", "status"),
    [([], 422), ("text", 422), ({"metadata": {"name": "b"}}, 422), ({"kind": "Model"}, 422), ({"spec": None}, 200)],
)
def test_a_patch_cannot_make_it_something_else(run: Any, patch: object, status: int) -> None:
    async def test(served: Any) -> None:
        await served.ask("PUT", "/v1/nodes/a", NODE)
        assert (await served.ask("PATCH", "/v1/nodes/a", patch)).status == status
        assert (await served.ask("GET", "/v1/nodes/a")).json["kind"] == "Node"

    run(test)


def test_patches_at_the_same_time_all_count(run: Any) -> None:
    async def test(served: Any) -> None:
        await served.ask("PUT", "/v1/nodes/a", NODE)
        patches = [{"metadata": {"labels": {f"l{index}": "x"}}} for index in range(4)]
        heard = await asyncio.gather(*(served.ask("PATCH", "/v1/nodes/a", patch) for patch in patches))
        assert {one.status for one in heard} == {200}
        assert len((await served.ask("GET", "/v1/nodes/a")).json["metadata"]["labels"]) == 4

    run(test)


@pytest.mark.parametrize(
    ("method", "body"), [("PUT", changed(layer="cloud")), ("PATCH", {"spec": {"layer": "cloud"}}), ("DELETE", None)]
)
def test_a_dry_run_answers_and_changes_nothing(run: Any, method: str, body: object) -> None:
    async def test(served: Any) -> None:
        made = (await served.ask("PUT", "/v1/nodes/a", NODE)).json
        before = served.store.head
        heard = await served.ask(method, "/v1/nodes/a?dryRun=1", body)
        assert heard.status == 200
        assert method == "DELETE" or heard.json["spec"]["layer"] == "cloud"
        assert (await served.ask("GET", "/v1/nodes/a")).json == made
        assert served.store.head == before, "not even an audit row"

    run(test)


def test_the_same_key_gets_the_same_answer(run: Any) -> None:
    async def test(served: Any) -> None:
        first = await served.ask("PUT", "/v1/nodes/a", NODE, Idempotency_Key="k1")
        await served.ask("PUT", "/v1/nodes/a", changed(layer="cloud"))
        again = await served.ask("PUT", "/v1/nodes/a", NODE, Idempotency_Key="k1")
        assert (again.status, again.body, again.headers["ETag"]) == (201, first.body, first.headers["ETag"])
        assert again.headers["Idempotent-Replay"] == "true"
        assert (await served.ask("GET", "/v1/nodes/a")).json["spec"]["layer"] == "cloud", "it was not done again"
        other = await served.ask("PUT", "/v1/nodes/a", changed(), Idempotency_Key="k1")
        assert other.status == 400 or other.headers.get("Idempotent-Replay") == "true"
        clash = await served.ask("PUT", "/v1/nodes/a", changed(layer="far-edge"), Idempotency_Key="k1")
        assert (clash.status, clash.code) == (400, "malformed")
        fresh = await served.ask("PUT", "/v1/nodes/a", NODE, role=Role.NODE_ADMIN, Idempotency_Key="k1")
        assert "Idempotent-Replay" not in fresh.headers, "keys belong to their principal"

    run(test)


def test_a_request_sent_ten_times_at_once_happens_once(run: Any) -> None:
    async def test(served: Any) -> None:
        asked = [served.ask("PUT", "/v1/nodes/a", NODE, Idempotency_Key="once") for _ in range(10)]
        heard = await asyncio.gather(*asked)
        assert {(one.status, one.body) for one in heard} == {(201, heard[0].body)}
        rows = (await served.ask("GET", "/v1/audit?kind=Node&name=a")).json["items"]
        assert len(rows) == 1

    run(test)


def test_deleting_twice_is_told(run: Any) -> None:
    async def test(served: Any) -> None:
        made = (await served.ask("PUT", "/v1/nodes/a", NODE)).json
        gone = await served.ask("DELETE", "/v1/nodes/a")
        assert (gone.status, gone.json["uid"]) == (200, made["metadata"]["uid"])
        assert (await served.ask("DELETE", "/v1/nodes/a")).code == "not-found"
        assert (await served.ask("PATCH", "/v1/nodes/a", {})).code == "not-found"
        assert (await served.ask("GET", "/v1/nodes/a")).code == "not-found"

    run(test)


def test_a_get_may_ask_whether_anything_changed(run: Any) -> None:
    async def test(served: Any) -> None:
        tag = (await served.ask("PUT", "/v1/nodes/a", NODE)).headers["ETag"]
        same = await served.ask("GET", "/v1/nodes/a", If_None_Match=tag)
        assert (same.status, same.body, same.headers["ETag"]) == (304, b"", tag)
        assert (await served.ask("GET", "/v1/nodes/a", If_None_Match='"1"')).status == 200
        head = await served.ask("HEAD", "/v1/nodes/a")
        assert (head.status, head.body, head.headers["ETag"]) == (200, b"", tag)

    run(test)


def test_lists_come_in_pages(run: Any) -> None:
    async def test(served: Any) -> None:
        for name in "edcba":
            await served.put_node(name)
        first = (await served.ask("GET", "/v1/nodes?limit=2")).json
        assert first["kind"] == "NodeList"
        assert [item["metadata"]["name"] for item in first["items"]] == ["a", "b"]
        token = first["metadata"]["continue"]
        second = (await served.ask("GET", f"/v1/nodes?limit=3&continue={token}")).json
        assert [item["metadata"]["name"] for item in second["items"]] == ["c", "d", "e"]
        assert "continue" not in second["metadata"]
        assert second["metadata"]["resourceVersion"] == served.store.head

    run(test)


@pytest.mark.parametrize(
    ("selector", "names"),
    [
        ("", "abc"),
        ("zone=north", "ab"),
        ("zone!=north", "c"),
        ("zone in (south,west)", "c"),
        ("zone notin (south)", "ab"),
        ("gpu", "a"),
        ("!gpu,zone=north", "b"),
        ("zone=north,zone=south", ""),
    ],
)
def test_labels_select(run: Any, selector: str, names: str) -> None:
    async def test(served: Any) -> None:
        labels = {"a": {"zone": "north", "gpu": "1"}, "b": {"zone": "north"}, "c": {"zone": "south"}}
        for name, labelled in labels.items():
            body = {**NODE, "metadata": {"name": name, "labels": labelled}}
            await served.ask("PUT", f"/v1/nodes/{name}", body)
        asked = selector.replace(" ", "%20")
        page = (await served.ask("GET", f"/v1/nodes?labelSelector={asked}&limit=2")).json
        found = [item["metadata"]["name"] for item in page["items"]]
        while token := page["metadata"].get("continue"):
            page = (await served.ask("GET", f"/v1/nodes?labelSelector={asked}&limit=2&continue={token}")).json
            found += [item["metadata"]["name"] for item in page["items"]]
        assert found == list(names)

    run(test)


@pytest.mark.parametrize(
    "query",
    ["limit=0", "limit=1001", "limit=x", "continue=%21", "continue=%E2", "continue=gICA", "foo=1", "limit=1&limit=2",
     "labelSelector=a%20b", "watch=maybe", "resourceVersion=-1", "resourceVersion=99999999999999999999"],
)  # fmt: skip
def test_a_wrong_query_is_refused(run: Any, query: str) -> None:
    async def test(served: Any) -> None:
        assert (await served.ask("GET", f"/v1/nodes?{query}")).code == "malformed"

    run(test)


@pytest.mark.parametrize("name", ["A", "-a", "a" * 64, "a.b", "%2e%2e", "a%2Fb", "%00", "%C3%A4"])
def test_a_name_that_cannot_be_is_refused(run: Any, name: str) -> None:
    async def test(served: Any) -> None:
        for method, body in (("GET", None), ("PUT", NODE), ("DELETE", None)):
            heard = await served.ask(method, f"/v1/nodes/{name}", body)
            assert heard.status in (400, 404), heard.body
            assert heard.code in ("malformed", "not-found")

    run(test)


def test_the_slice_is_this_one_and_stays(run: Any) -> None:
    async def test(served: Any) -> None:
        mine = {"apiVersion": "shoal.dev/v1", "kind": "Slice", "metadata": {"name": "test"}, "spec": {}}
        assert (await served.ask("PUT", "/v1/slices/test", mine)).status == 201
        other = {**mine, "metadata": {"name": "other"}}
        assert (await served.ask("PUT", "/v1/slices/other", other)).code == "refused"
        assert (await served.ask("DELETE", "/v1/slices/test")).code == "refused"

    run(test)


def test_cordon_drain_and_uncordon_change_the_spec(run: Any) -> None:
    async def test(served: Any) -> None:
        await served.put_node("a")
        seen = []
        for verb in ("cordon", "drain", "uncordon", "uncordon"):
            heard = await served.ask("POST", f"/v1/nodes/a/{verb}", role=Role.OPERATOR)
            spec, metadata = heard.json["spec"], heard.json["metadata"]
            seen.append((spec["cordoned"], spec["drained"], metadata["generation"]))
        assert seen == [(True, False, 2), (True, True, 3), (False, False, 4), (False, False, 4)]
        assert (await served.ask("POST", "/v1/nodes/b/drain")).code == "not-found"

    run(test)


def test_each_change_is_audited_once_with_its_request(run: Any) -> None:
    async def test(served: Any) -> None:
        made = await served.ask("PUT", "/v1/nodes/a", NODE, role=Role.NODE_ADMIN, X_Request_Id="my-request")
        assert made.headers["X-Request-Id"] == "my-request"
        await served.ask("PUT", "/v1/nodes/a", {"kind": "Node"})
        await served.ask("POST", "/v1/nodes/a/cordon", role=Role.OPERATOR)
        await served.ask("DELETE", "/v1/nodes/a")
        await served.ask("DELETE", "/v1/nodes/a")
        rows = (await served.ask("GET", "/v1/audit")).json["items"]
        assert [(row["actor"], row["action"], row["kind"], row["name"]) for row in rows] == [
            ("slice-admin", "deleteNode", "Node", "a"),
            ("operator", "cordonNode", "Node", "a"),
            ("node-admin", "applyNode", "Node", "a"),
        ]
        assert rows[-1]["requestId"] == "my-request"
        assert [row["version"] for row in rows] == sorted((row["version"] for row in rows), reverse=True)

    run(test)
