"""The event tables: for each event the listeners that really override it, found once per run, so that a step pays for those alone."""

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from lx.interfaces.callback import EVENTS, Callback
from lx.interfaces.profiler import Profiler, action_name
from lx.kernel import normalise
from lx.kernel.errors import MisconfigurationException
from lx.kernel.registry import KindRegistry

PHASES = ("first", "normal", "monitor", "last")
CHAINS = ("on_before_batch_transfer", "on_after_batch_transfer")
"""The events whose callbacks may each return a batch for the next; the module's hooks of these names stand for themselves."""
AFTER_MODULE = ("monitor", "last")
"""The phases whose `on_train_epoch_end` comes after the module's."""


def overrides(owner: Any, name: str, base: type[Any]) -> bool:
    """Whether an object has its own `name` instead of the one of `base` (or one at all, where `base` has none)."""
    own = getattr(type(owner), name, None)
    return own is not getattr(base, name, None) or name in vars(owner)


def order_callbacks(callbacks: Iterable[Callback], registry: KindRegistry | None = None) -> list[Callback]:
    """The callbacks in the order in which they are called: by phase, then as given, then as `before` and `after` demand.

    Those two hold names of classes, and names under which `registry` has their classes. Raises `MisconfigurationException` for an
    unknown phase and for a cycle.

    >>> class A(Callback): after = ("B",)
    >>> class B(Callback): pass
    >>> [type(callback).__name__ for callback in order_callbacks([A(), B()])]
    ['B', 'A']
    """
    listed = list(callbacks)
    for callback in listed:
        if callback.phase not in PHASES:
            raise MisconfigurationException(
                f"{type(callback).__name__}.phase is {callback.phase!r}; it must be one of {', '.join(PHASES)}."
            )
    rank = {"first": 0, "normal": 1, "monitor": 1, "last": 2}
    waiting = sorted(listed, key=lambda callback: rank[callback.phase])
    if not any(callback.before or callback.after for callback in waiting):
        return waiting
    entries = registry.entries() if registry is not None else []
    names = {
        id(one): _names(one) | {name for entry in entries if entry.class_name == type(one).__name__ for name in entry.spellings}
        for one in waiting
    }
    done: list[Callback] = []
    while waiting:
        ready = next((one for one in waiting if not any(_must_wait(one, other, names) for other in waiting)), None)
        if ready is None:
            raise MisconfigurationException(_cycle(waiting, names))
        waiting = [one for one in waiting if one is not ready]
        done.append(ready)
    return done


def require_distinct_states(callbacks: list[Callback]) -> None:
    """Raises `RuntimeError` if two callbacks would store their states under one key."""
    keys = [callback.state_key for callback in callbacks if type(callback).state_dict is not Callback.state_dict]
    for key in keys:
        if keys.count(key) > 1:
            raise RuntimeError(
                f"two callbacks have the state_key {key!r}, so a checkpoint could not hold both; give them different arguments, or override"
                " state_key."
            )


def _must_wait(one: Callback, other: Callback, names: Mapping[int, set[str]]) -> bool:
    return one is not other and not (
        names[id(other)].isdisjoint(map(normalise, one.after)) and names[id(one)].isdisjoint(map(normalise, other.before))
    )


def _cycle(waiting: list[Callback], names: Mapping[int, set[str]]) -> str:
    """The message for callbacks of which each waits for another, without those that merely stand behind them."""
    while idle := [id(one) for one in waiting if not any(_must_wait(other, one, names) for other in waiting)]:
        waiting = [one for one in waiting if id(one) not in idle]
    found = ", ".join(type(callback).__name__ for callback in waiting)
    return f"the callbacks {found} demand by `before` and `after` to stand before each other; drop one demand."


def _names(callback: Callback) -> set[str]:
    """What `before` and `after` may call a callback: its class in either spelling."""
    name = type(callback).__name__
    snake = "".join(
        f"_{letter}" if letter.isupper() and place and not name[place - 1].isupper() else letter for place, letter in enumerate(name)
    )
    return {normalise(name), normalise(snake)}


_END = object()


def _taken(take: Callable[[], Any]) -> Iterator[Any]:
    while (batch := take()) is not _END:
        yield batch


class Dispatch:
    """The events of one run. `dispatch.on_train_batch_end` is None if nobody listens, else one function that calls all who do.

    An event function takes what the event carries, without trainer and module, and returns what the module's own hook returned.
    While it runs, `log.site` names the event, which is how `self.log` knows where it was called.
    """

    def __init__(
        self,
        trainer: Any,
        module: Any,
        callbacks: Sequence[Callback],
        log: Any,
        *,
        base: type[Any],
        profiler: Profiler | None = None,
        trace: Callable[[str], None] | None = None,
    ) -> None:
        self._trainer, self._module, self._log = trainer, module, log
        self._profiler = profiler if profiler is not None and profiler.active else None
        self._trace = trace
        self._base = base
        self.events: dict[str, Callable[..., Any] | None] = {}
        for event in EVENTS:
            listens = event not in ("setup", "teardown", *CHAINS) and overrides(module, event, base)
            own = getattr(module, event, None) if listens else None
            self.events[event] = self._fan(event, [callback for callback in callbacks if callback.listens_to(event)], own)

    def __getattr__(self, event: str) -> Callable[..., Any] | None:
        try:
            return self.events[event]
        except KeyError:
            raise AttributeError(f"there is no event {event!r}") from None

    def emit(self, event: str, *args: Any) -> Any:
        """Calls all who listen to an event; for events outside of the step."""
        fan = self.events[event]
        return fan(*args) if fan is not None else None

    def timed(self, function: Callable[..., Any], owner: Any, kind: str, hook: str) -> Callable[..., Any]:
        """The function itself, or, under a profiler, one that measures it as an action."""
        return function if self._profiler is None else self.measured(function, action_name(owner, kind, hook))

    def measured(self, function: Callable[..., Any], action: str) -> Callable[..., Any]:
        """The function itself, or, under a profiler, one that measures it as an action of that name."""
        profiler = self._profiler
        if profiler is None:
            return function

        @functools.wraps(function)
        def measured(*args: Any, **kwargs: Any) -> Any:
            with profiler.profile(action):
                return function(*args, **kwargs)

        return measured

    def own(self, hook: str) -> Callable[..., Any] | None:
        """The module's hook, if it overrides it, as a function that tells `self.log` where it is."""
        if not overrides(self._module, hook, self._base):
            return None
        function, log = self.timed(getattr(self._module, hook), self._module, "LightningModule", hook), self._log

        def sited(*args: Any, **kwargs: Any) -> Any:
            outer, log.site = log.site, hook
            try:
                return function(*args, **kwargs)
            finally:
                log.site = outer

        return sited

    def call_own(self, hook: str) -> None:
        """Calls the module's hook, overridden or not; nothing where it has none."""
        function = self.own(hook) or getattr(self._module, hook, None)
        if function is not None:
            function()

    def fetched(self, batches: Iterator[Any], action: str) -> Iterator[Any]:
        """The iterator itself, or, under a profiler, one of which every fetch is measured as an action."""
        return batches if self._profiler is None else _taken(self.measured(lambda: next(batches, _END), action))

    def announce(self, event: str, owners: Iterable[Any]) -> None:
        """Traces an event that the run hands to its owners one by one; nothing without a trace."""
        if self._trace is not None:
            listening = [
                one for one in owners if (one.listens_to(event) if isinstance(one, Callback) else overrides(one, event, self._base))
            ]
            self._trace(trace_line(event, [type(one).__name__ for one in listening]))

    @property
    def profiles(self) -> bool:
        """Whether a profiler measures this run."""
        return self._profiler is not None

    def action(self, name: str) -> AbstractContextManager[Any]:
        """A block that a profiler sees under a name."""
        return self._profiler.profile(name) if self._profiler is not None else nullcontext()

    def _fan(self, event: str, callbacks: Sequence[Callback], own: Callable[..., Any] | None) -> Callable[..., Any] | None:
        late = [callback for callback in callbacks if event == "on_train_epoch_end" and callback.phase in AFTER_MODULE]
        early = [callback for callback in callbacks if not any(callback is one for one in late)]
        before = tuple(self.timed(getattr(callback, event), callback, "Callback", event) for callback in early)
        after = tuple(self.timed(getattr(callback, event), callback, "Callback", event) for callback in late)
        hook = self.timed(own, self._module, "LightningModule", event) if own is not None else None
        if event in CHAINS:
            fan = compile_chain(event, before, self._trainer, self._module, self._log) if before or self._trace else None
        else:
            fan = self._compiled(event, before, hook, after) if before or hook or after else None
        if self._trace is None:
            return fan
        module = [type(self._module).__name__] if hook else []
        return traced(
            self._trace,
            event,
            [*(type(callback).__name__ for callback in early), *module, *(type(callback).__name__ for callback in late)],
            fan,
        )

    def _compiled(
        self,
        event: str,
        before: tuple[Callable[..., Any], ...],
        hook: Callable[..., Any] | None,
        after: tuple[Callable[..., Any], ...],
    ) -> Callable[..., Any]:
        if event in IN_EVERY_STEP:
            return IN_EVERY_STEP[event](before, hook, self._trainer, self._module, self._log)
        return compile_fan(event, before, hook, after, self._trainer, self._module, self._log)


def compile_fan(
    site: str,
    before: tuple[Callable[..., Any], ...],
    hook: Callable[..., Any] | None,
    after: tuple[Callable[..., Any], ...],
    trainer: Any,
    module: Any,
    log: Any,
) -> Callable[..., Any]:
    """One function for all listeners of an event. The site is put back afterwards, since events happen inside of steps."""

    def fan_callbacks(*args: Any) -> None:
        outer, log.site = log.site, site
        try:
            for listener in before:
                listener(trainer, module, *args)
        finally:
            log.site = outer

    if hook is None and not after:
        return fan_callbacks

    def fan(*args: Any) -> Any:
        outer, log.site = log.site, site
        try:
            for listener in before:
                listener(trainer, module, *args)
            result = hook(*args) if hook is not None else None
            if after and (before or hook is not None):  # these look at what the others have just logged
                log.settle()
            for listener in after:
                listener(trainer, module, *args)
            return result
        finally:
            log.site = outer

    return fan


def compile_batch_start(
    before: tuple[Callable[..., Any], ...], hook: Callable[..., Any] | None, trainer: Any, module: Any, log: Any
) -> Callable[[Any, int], Any]:
    """One function for all who listen to `on_train_batch_start`; it returns what the module's hook does."""

    def fan(batch: Any, batch_idx: int) -> Any:
        log.site = "on_train_batch_start"
        for listener in before:
            listener(trainer, module, batch, batch_idx)
        result = hook(batch, batch_idx) if hook is not None else None
        log.site = None
        return result

    return fan


def compile_batch_end(
    before: tuple[Callable[..., Any], ...], hook: Callable[..., Any] | None, trainer: Any, module: Any, log: Any
) -> Callable[[Any, Any, int], None]:
    """One function for all who listen to `on_train_batch_end`."""

    def fan(outputs: Any, batch: Any, batch_idx: int) -> None:
        log.site = "on_train_batch_end"
        for listener in before:
            listener(trainer, module, outputs, batch, batch_idx)
        if hook is not None:
            hook(outputs, batch, batch_idx)
        log.site = None

    return fan


IN_EVERY_STEP: dict[str, Callable[..., Callable[..., Any]]] = {
    "on_train_batch_start": compile_batch_start,
    "on_train_batch_end": compile_batch_end,
}
"""The events of every step, which happen inside of no other. Their arguments are written out: to pass on `*args` costs as much again."""


def compile_chain(site: str, listeners: tuple[Callable[..., Any], ...], trainer: Any, module: Any, log: Any) -> Callable[[Any, int], Any]:
    """One function for all callbacks that may exchange a batch: each gets what the one before returned, if that was not None."""

    def chain(batch: Any, dataloader_idx: int) -> Any:
        outer, log.site = log.site, site
        try:
            for listener in listeners:
                exchanged = listener(trainer, module, batch, dataloader_idx)
                if exchanged is not None:
                    batch = exchanged
            return batch
        finally:
            log.site = outer

    return chain


def trace_line(event: str, names: list[str]) -> str:
    """What a trace says of an event.

    >>> trace_line("on_fit_end", [])
    'event on_fit_end -> nobody'
    """
    return f"event {event} -> {', '.join(names) or 'nobody'}"


def traced(trace: Callable[[str], None], event: str, names: list[str], fan: Callable[..., Any] | None) -> Callable[..., Any]:
    """The same function, which says first which event it is and who listens."""
    line = trace_line(event, names)

    def told(*args: Any) -> Any:
        trace(line)
        return fan(*args) if fan is not None else None

    return told
