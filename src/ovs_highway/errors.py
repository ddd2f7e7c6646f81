# SPDX-License-Identifier: Apache-2.0
"""The errors this package raises, as one tree.

::

    HighwayError
    ├── SetupError       the machine lacks something: huge pages, a package, the driver
    ├── SandboxError     a daemon of a sandbox, or a lab VNF, does not do what it should
    ├── RegionError      a shared-memory region is missing, too small or malformed
    ├── ProtocolError    a peer sent a control message that breaks the protocol
    ├── VmError          a virtual machine, or what runs it, refuses or does not answer
    ├── GraphError       a service graph makes no sense, or the machine cannot carry it
    └── CommandError     a command cannot be carried out as asked

Every message is one line and says what to do next; the `highway` command prints it as it is.
"""

from __future__ import annotations


class HighwayError(Exception):
    """The root of all errors of this package."""


class SetupError(HighwayError):
    """The machine lacks something that has to be set up first."""


class SandboxError(HighwayError):
    """A process of a sandbox did not start, answer or end as it should."""


class RegionError(HighwayError):
    """A shared-memory region is missing, too small, or has a wrong magic, version or geometry."""


class ProtocolError(HighwayError):
    """A peer sent a control message that breaks the protocol."""


class VmError(HighwayError):
    """A virtual machine, or what runs it, refuses something or does not answer."""


class GraphError(HighwayError):
    """A service graph makes no sense, or the machine cannot carry it.

    Attributes:
        problems: everything that is wrong, one line each; the message is the first of them.
    """

    def __init__(self, *problems: str) -> None:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        super().__init__(problems[0] + more)
        self.problems = problems


class CommandError(HighwayError):
    """A command of the user cannot be carried out as asked."""
