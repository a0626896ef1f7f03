"""What every command shares: which control plane, and how an error becomes a message and an exit code.

Exit codes: 0 done, 1 failed, 2 usage, 3 not found, 4 refused.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import ParamSpec, TypeVar

import typer

from ...descriptions.errors import DescriptionError, RefusedError, ShoalError, TransportError
from ...descriptions.kinds import KINDS, Kind
from ..api.client import ApiError, BlockingClient
from .contexts import Target, resolve
from .output import errors

P = ParamSpec("P")
T = TypeVar("T")

FAILED, USAGE, NOT_FOUND, REFUSED = 1, 2, 3, 4
INTERRUPTED = 130


@dataclass
class Chosen:
    """The global options."""

    url: str = ""
    token_file: str = ""
    context: str = ""


def target(context: typer.Context) -> Target:
    """The control plane that the global options choose."""
    chosen = context.obj if isinstance(context.obj, Chosen) else Chosen()
    return resolve(chosen.url, chosen.token_file, chosen.context)


def connect(context: typer.Context) -> BlockingClient:
    """A client for it."""
    to = target(context)
    return BlockingClient(to.url, to.token, ca=to.ca)


def guarded(command: Callable[P, T]) -> Callable[P, T]:
    """Turn the errors of a command into a message that says what to do, and an exit code."""

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return command(*args, **kwargs)
        except ApiError as error:
            _tell_problem(error)
            raise typer.Exit(
                NOT_FOUND if error.status == 404 else USAGE if error.status in {400, 422} else REFUSED
            ) from None
        except DescriptionError as error:
            for one in error.all:
                errors.print(f"[red]error:[/] {one}", markup=True, soft_wrap=True)
            raise typer.Exit(USAGE) from None
        except RefusedError as error:
            errors.print(f"[red]refused:[/] {error}", soft_wrap=True)
            raise typer.Exit(REFUSED) from None
        except TransportError as error:
            errors.print(f"[red]error:[/] {error}", soft_wrap=True)
            errors.print(
                "[dim]does it run? `shoal doctor` looks; --url, SHOAL_URL or `shoal context use` choose another[/]"
            )
            raise typer.Exit(FAILED) from None
        except ShoalError as error:
            errors.print(f"[red]error:[/] {error}", soft_wrap=True)
            raise typer.Exit(FAILED) from None
        except KeyboardInterrupt:
            sys.stderr.write("\n")
            raise typer.Exit(INTERRUPTED) from None

    return run


def _tell_problem(error: ApiError) -> None:
    problem = error.problem
    errors.print(f"[red]{problem.title.lower() or 'refused'}:[/] {problem.detail}", soft_wrap=True)
    for fault in problem.errors:
        place = ":".join(str(part) for part in (fault.file, fault.line, fault.column) if part)
        told = ": ".join(part for part in (place, fault.path, fault.message) if part)
        expected = f"; expected {fault.expected}" if fault.expected else ""
        nearest = f"; did you mean {fault.nearest!r}?" if fault.nearest else ""
        errors.print(f"  {told}{expected}{nearest}", soft_wrap=True)
    errors.print(f"[dim]code {problem.code}, request {problem.request_id}[/]")


def kind_named(word: str) -> type[Kind]:
    """`node`, `nodes`, `Node`, `apps`, … as a kind."""
    wanted = word.lower()
    for name, model in KINDS.items():
        singular = name.lower()
        plural = singular[:-1] + "ies" if singular.endswith("y") else singular + "s"
        if wanted in {singular, plural} or (wanted in {"app", "apps"} and name == "Application"):
            return model
    known = ", ".join(name.lower() for name in KINDS if name != "Secret")
    raise DescriptionError(f"there is no kind {word!r}", expected=known)


def component_named(word: str) -> tuple[str, str]:
    """`application/component` (or `application.component`) as the two names."""
    application, _, component = word.partition("/" if "/" in word else ".")
    if not application or not component:
        raise DescriptionError(
            f"{word!r} names no component", expected="APPLICATION/COMPONENT, such as digits/classifier"
        )
    return application, component
