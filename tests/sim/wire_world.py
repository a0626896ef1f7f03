"""A network with a broker and clients that write down what happens to them; for the tests of the simulated wire."""

from __future__ import annotations

from dataclasses import dataclass, field

from shoal.sim.broker import Broker
from shoal.sim.kernel import Kernel
from shoal.sim.link import Link, LinkOptions, Message, Presence
from shoal.sim.network import Network
from shoal.sim.packets import Publish, Will


@dataclass
class Client:
    """The owner of a link: acknowledges everything unless told not to."""

    acks: bool = True
    messages: list[Message] = field(default_factory=list)
    states: list[str] = field(default_factory=list)

    def link_up(self, session: str) -> None:
        self.states.append("up")

    def link_down(self, reason: str) -> None:
        self.states.append(f"down: {reason}")

    def received(self, message: Message) -> None:
        self.messages.append(message)
        if self.acks:
            message.ack()

    @property
    def texts(self) -> list[str]:
        return [f"{message.topic}={message.payload.decode()}" for message in self.messages]


def anyone(username: str, topic: str, is_write: bool) -> bool:
    return True


class Wire:
    """Kernel, network and broker, and clients by name."""

    def __init__(self, seed: int = 1, save_s: float = 1800.0) -> None:
        self.kernel = Kernel(seed)
        self.network = Network(self.kernel)
        self.broker = Broker(self.kernel, self.network, anyone, save_s)

    def client(self, name: str, *subscriptions: str, clean: bool = True, acks: bool = True) -> tuple[Link, Client]:
        def presence(session: str) -> Presence:
            will = Will(f"state/{name}", f"gone {session}".encode())
            return Presence(will, Publish(f"state/{name}", f"here {session}".encode(), 1, True))

        owner = Client(acks)
        options = LinkOptions(name, name, tuple((one, 1) for one in subscriptions), presence, clean)
        link = Link(name, self.kernel, self.network, self.broker, options, owner)
        link.start()
        return link, owner

    def run(self, for_s: float) -> None:
        end_s = self.kernel.now_s + for_s
        while (next_s := self.kernel.next_s()) is not None and next_s <= end_s:
            self.kernel.step()
        self.kernel.now_s = end_s
