"""Plans made ahead: that of the request that most likely comes next, while there is nothing else to do.

A text that grows by a token asks for one plan after the other, and each takes longer than most steps of the
run. A plan is a function of what is public, so client and servers can make the next one while they wait: for
the answer, for words of a peer, for the next request. A request that continues kept values asks most likely
for what its last two steps lead to (question.py). If it does not, nothing is planned ahead for it until it
does again; a plan that nobody asks for is displaced like any other.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from onnxpuma.plan.budget import Budget
from onnxpuma.roles.request.plans import Begun, Plans
from onnxpuma.roles.request.question import MOST, Question, following

SEEN = 64  # requests whose kept values may be continued
WAITING = 16  # plans to make; more displace the oldest


@dataclass(frozen=True)
class _Seen:
    """A request that keeps values."""

    question: Question
    # The key of the question that was expected next.
    expected: bytes


class Ahead:
    """Makes plans ahead for one thread.

    budget: what a plan may cost.
    """

    def __init__(self, budget: Callable[[], Budget] = Budget.unlimited) -> None:
        self._budget = budget
        self._seen: OrderedDict[bytes, _Seen] = OrderedDict()
        self._waiting: deque[tuple[Plans, Question]] = deque(maxlen=WAITING)
        self._begun: tuple[Plans, Begun] | None = None

    def saw(self, plans: Plans, question: Question, handle: bytes, held: Iterable[bytes]) -> None:
        """Note a request that is planned.

        handle: of the values that it keeps, if any. held: those of the values that it continues.
        """
        if not handle or any(array.size > MOST for array in question.public.values()):
            return
        public = {name: array.copy() for name, array in question.public.items()}  # no views of a request
        question = Question(question.shapes, public, question.selection)
        earlier = [seen for one in dict.fromkeys(held) if (seen := self._seen.get(one)) is not None]
        before = next((s for s in earlier if s.question.selection == question.selection), None)
        after = None if before is None else following(before.question, question)
        self._seen[handle] = _Seen(question, b"" if after is None else after.key)
        self._seen.move_to_end(handle)
        if len(self._seen) > SEEN:
            self._seen.popitem(last=False)
        if before is not None and after is not None and before.expected in (b"", question.key):
            self._waiting.append((plans, after))

    @property
    def busy(self) -> bool:
        """Whether there is a plan to make."""
        return bool(self._begun or self._waiting)

    def go_on(self, until: Callable[[], bool]) -> None:
        """Make plans until the condition holds, which is asked often, or none is left to make."""
        while self.busy and not until():
            if self._begun is None:
                plans, question = self._waiting.popleft()
                begun = plans.begin(question, self._budget())
                self._begun = None if begun is None else (plans, begun)
            elif self._begun[0].go_on(self._begun[1], until):
                return
            else:
                self._begun = None
