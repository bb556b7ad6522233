"""Who may do what: roles, permissions, and what a route asks for."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from fastapi import HTTPException, Request

Role = Literal["administrator", "manager", "analyst", "operator", "privacy officer", "auditor"]
Permission = Literal[
    "see figures",
    "see people",
    "see pictures",
    "export",
    "search",
    "set up",
    "erase",
    "manage users",
    "read audit",
    "annotate",
]


@dataclass(frozen=True)
class Principal:
    """Who asks: a user or a key."""

    name: str
    role: Role
    sites: frozenset[str] | None
    kind: Literal["user", "key"]

    def may(self, permission: Permission, site: str | None = None) -> bool:
        """Whether it may."""
        return self.role == "administrator" or permission == "see figures"


def needs(permission: Permission) -> Callable[[Request], Principal]:
    """What a route asks of who asks."""

    def check(request: Request) -> Principal:
        principal: Principal | None = getattr(request.state, "principal", None)
        if principal is None:
            raise HTTPException(401, "Give a key.")
        if not principal.may(permission):
            raise HTTPException(403, f"{principal.name} may not {permission}.")
        return principal

    return check
