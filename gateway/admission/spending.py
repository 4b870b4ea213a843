"""What is spent of a budget in its period, and what of that a request has reserved. Pure: periods are passed in.

A sum that is reserved counts as spent. It is given back in its own period only. What an answer costs beyond it is
charged to the period in which that is known.
"""

from gateway.admission.limits import Wish


class Spending:
    """Of one budget. `over` is the end of the period: see `periods`."""

    __slots__ = ("amount", "open", "over", "spent")

    def __init__(self) -> None:
        self.amount = 0  # of the budget, as it was last used
        self.open = 0  # requests that may give something back
        self.over = 0
        self.spent = 0

    def rest(self, over: int) -> int:
        """What is left in the period that ends at `over`. Less than nothing, if more was spent than was reserved."""
        return self.amount - (self.spent if over == self.over else 0)

    def take(self, wish: Wish, over: int) -> int | None:
        """Charges as much of the wish as is left. None, without a charge, if that is less than the least of it."""
        granted = min(wish.most, self.rest(over))
        if granted < wish.least:
            return None
        self.add(granted, over)
        return granted

    def add(self, money: int, over: int) -> None:
        """Charges it, whatever is left."""
        self.learn(self.spent + money if over == self.over else money, over)

    def give_back(self, money: int, over: int) -> None:
        if over == self.over:
            self.spent = max(0, self.spent - money)

    def learn(self, spent: int, over: int) -> None:
        """This is what was spent by all."""
        self.spent, self.over = spent, over


class Charged:
    """The sums that a request has reserved. `over` is the end of the period of the last one."""

    __slots__ = ("_last", "over", "total")

    def __init__(self, money: int, over: int) -> None:
        self.total = money
        self.over = over
        self._last = money  # of the total, what was reserved in the last period

    def add(self, money: int, over: int) -> None:
        self._last = self._last + money if over == self.over else money
        self.total += money
        self.over = over

    def correction(self, cost: int) -> int:
        """What is charged beyond the total, or less than nothing for what is given back in the period `over`."""
        return max(cost - self.total, -self._last)
