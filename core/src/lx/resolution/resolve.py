"""From what the user asked for to what will run: a table of small steps over the registry, each choice kept with its reason.

Nothing is constructed here: an error is raised before anything was built, and what is built then does not fail for want of a part.
"""

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from difflib import get_close_matches
from typing import Any

from lx.kernel import ComponentSpec, Entry, Registry, normalise, parse
from lx.kernel.errors import ArgumentValueError, ComponentError, ComponentTypeError, MisconfigurationException, NotInstalledError
from lx.kernel.known import COMPONENTS
from lx.rank_zero import rank_zero_info, rank_zero_warn
from lx.resolution.choose import Chooser
from lx.resolution.request import Choice, Request, Resolution


def resolve(request: Request, registry: Registry, trace: Callable[[str], None] | None = None) -> Resolution:
    """Decides every part of a run; raises what `lx.kernel.errors` names, with the cure, and builds nothing.

    `trace` is told each decision when it is made, also of a run that is refused later.
    """
    return _Resolver(request, registry, trace).run()


_TOPICS = {"checkpoint_io": "checkpoint I/O", "layer_sync": "layer sync"}


class _Resolver:
    """The steps, in the order of `run`; each reads the request and what earlier steps decided."""

    def __init__(self, request: Request, registry: Registry, trace: Callable[[str], None] | None) -> None:
        self.request = request
        self.registry = registry
        self.chooser = Chooser(registry, trace)
        self.plugins = self._sort_plugins()

    def run(self) -> Resolution:
        accelerator = self._accelerator()
        self._tell_of_better(accelerator)
        devices = self._devices(accelerator)
        strategy = self._strategy(len(devices))
        resolution = Resolution(
            self.request,
            accelerator,
            devices,
            self._brought("parallel_devices") or accelerator.cls.get_parallel_devices(devices),
            strategy,
            self._precision(strategy, accelerator.cls.capabilities.device_type),
        )
        resolution.environment = self._environment(strategy)
        resolution.launcher = self._launcher(strategy)
        resolution.checkpoint_io = self._part("checkpoint_io") or self.chooser.take("checkpoint_io", "default", "checkpoint I/O")
        resolution.layer_sync = self._layer_sync(strategy)
        if self.request.trainer:
            resolution.profiler = self._profiler()
            resolution.loggers = self._loggers()
            resolution.callbacks = self._callbacks()
        else:
            resolution.loggers = self._each("logger", "loggers", self.request.logger)
        _check_combination(resolution)
        resolution.decisions = self.chooser.decisions
        return resolution

    # -- parts -----------------------------------------------------------------------------------------------------------

    def _sort_plugins(self) -> dict[str, Choice]:
        kinds = ("precision", "checkpoint_io", "environment", "layer_sync")
        found: dict[str, Choice] = {}
        for given in _listed(self.request.plugins, *(self.registry.kind(kind).interface for kind in kinds)):
            if isinstance(given, str | Mapping):
                kind = next((kind for kind in kinds if parse(given).name in self.registry.kind(kind)), None)
            else:
                kind = next((kind for kind in kinds if isinstance(given, self.registry.kind(kind).interface)), None)
            if kind is None:
                raise _no_plugin(self.registry, given, kinds)
            if kind in found:
                raise MisconfigurationException(f"plugins: {given!r} is the second {kind}; pass at most one of a kind.")
            found[kind] = self.chooser.choose(kind, given, _TOPICS.get(kind, kind), "given in plugins", "plugins")
        return found

    def _each(self, kind: str, argument: str, given: Any) -> list[Choice]:
        """The choices for an argument that takes one component or several."""
        return [self.chooser.choose(kind, one, kind, None, argument) for one in _listed(given, self.registry.kind(kind).interface)]

    def _brought(self, part: str) -> Any:
        """A part that a strategy instance brings with it, None where it leaves the choice open."""
        strategy = self.request.strategy
        return None if isinstance(strategy, str | Mapping) else getattr(strategy, part, None)

    def _part(self, kind: str, attribute: str | None = None) -> Choice | None:
        """A part that was given in `plugins` or comes with the strategy, where it is called `attribute`."""
        own = self._brought(attribute or kind)
        if kind in self.plugins or own is None:
            return self.plugins.get(kind)
        return self.chooser.choose(kind, own, _TOPICS.get(kind, kind), "the strategy brings it")

    def _accelerator(self) -> Choice:
        wanted = self.request.accelerator
        own, types = self._brought("accelerator"), {device.type for device in self._brought("parallel_devices") or ()}
        if own is not None and wanted == "auto":
            wanted = own
        if isinstance(wanted, str) and wanted.strip().lower() in ("auto", "gpu"):
            role = wanted.strip().lower()

            def objection(cls: Any) -> str:
                if types and cls.capabilities.device_type not in types:
                    return f"the strategy was given devices of another kind, {', '.join(sorted(types))}"
                return "" if cls.is_available() else "no such device here"

            try:
                return self.chooser.need("accelerator", role, "accelerator", usable=objection)
            except NotInstalledError:
                raise
            except MisconfigurationException as error:
                raise MisconfigurationException(f"accelerator={wanted!r}: {error} {_available(self.registry)}") from None
        choice = self.chooser.choose("accelerator", wanted, "accelerator", "the strategy brings it" if wanted is own else None)
        if not choice.cls.is_available():
            raise MisconfigurationException(
                f"accelerator={wanted!r}: this machine has no such device that torch can use. {_available(self.registry)}"
            )
        return choice

    def _tell_of_better(self, chosen: Choice) -> None:
        """Says which accelerators are there that `"auto"` would prefer; no warning, since another one was asked for."""
        better: list[str] = []
        for entry in self.registry.accelerator.standing_for("auto") if self.request.trainer else ():
            with suppress(Exception):  # a plugin that nobody named must not end a run that can do without it
                cls = self.registry.accelerator.load(entry)
                if cls is chosen.cls:
                    for reason in better:
                        self.chooser.decide("accelerator", "-", "-", reason)
                        rank_zero_info(f"{reason}; {chosen.name} was asked for, and accelerator='auto' takes the best.")
                    return
                if cls.is_available():
                    better.append(f"not used: {entry.name}, with {cls.auto_device_count()} device(s)")

    def _devices(self, accelerator: Choice) -> list[int]:
        wanted, nodes, cls = self.request.devices, self.request.num_nodes, accelerator.cls
        if isinstance(nodes, bool) or not isinstance(nodes, int) or nodes < 1:
            raise ArgumentValueError(f"num_nodes={nodes!r}: it must be an integer, 1 or more.")
        if isinstance(wanted, int | str | list | tuple) and (wanted in (0, "0") or not wanted):
            raise MisconfigurationException(
                f"devices={wanted!r}: a run needs at least one device; give a number, a list of indices or 'auto'."
            )
        own = self._brought("parallel_devices")
        if own and wanted == "auto":
            devices, reason = list(range(len(own))), "the strategy brings them"
        elif wanted == "auto":
            devices = cls.parse_devices(cls.auto_device_count())
            reason = f"devices='auto' is {len(devices)} on {accelerator.name}"
        else:
            devices, reason = cls.parse_devices(wanted), f"devices={wanted!r}"
        if own and (len(own) != len(devices) or any(device.type != cls.capabilities.device_type for device in own)):
            raise MisconfigurationException(
                f"accelerator={accelerator.name!r} and devices={wanted!r} do not go with the devices of the strategy"
                f" {type(self.request.strategy).__name__}, {', '.join(map(str, own))}; give them once."
            )
        most = cls.capabilities.max_devices
        if most and len(devices) * self.request.num_nodes > most:
            raise ValueError(
                f"devices={wanted!r}: the accelerator {accelerator.name} works with {most} device(s) only; use another accelerator."
            )
        self.chooser.decide("devices", f"{len(devices)} (index {', '.join(map(str, devices))})", accelerator.provider, reason)
        return devices

    def _strategy(self, num_devices: int) -> Choice:
        wanted = self.request.strategy
        if isinstance(wanted, str) and wanted.strip().lower() == "auto":
            many = num_devices * self.request.num_nodes > 1
            why = f"{num_devices} device(s) on {self.request.num_nodes} node(s)"
            return self.chooser.need("strategy", "many-devices" if many else "one-device", "strategy", why=why)
        choice = self.chooser.choose("strategy", wanted, "strategy")
        if not isinstance(wanted, str | Mapping):
            self._refuse_double(wanted)
        return choice

    def _refuse_double(self, strategy: Any) -> None:
        """A strategy instance may bring parts of its own, unless the same part is asked for beside it."""
        asked = {
            "accelerator": self.request.accelerator not in ("auto", None),
            "precision": self.request.precision is not None or "precision" in self.plugins,
            "checkpoint_io": "checkpoint_io" in self.plugins,
            "cluster_environment": "environment" in self.plugins,
        }
        for part, also_asked in asked.items():
            if also_asked and getattr(strategy, part, None) is not None:
                raise MisconfigurationException(
                    f"{part} is given twice: in the strategy {type(strategy).__name__} and beside it; give it once."
                )

    def _precision(self, strategy: Choice, device_type: str) -> Choice:
        wanted = self.request.precision
        if wanted is not None and "precision" in self.plugins:
            raise ValueError(f"precision={wanted!r} and a precision in plugins: give one of the two.")
        spec = str(wanted) if isinstance(wanted, int) and not isinstance(wanted, bool) else wanted
        if wanted is None:
            choice = self._part("precision") or self.chooser.need("precision", "default", "precision")
        else:
            choice = self.chooser.choose("precision", spec, "precision")
        if isinstance(spec, str):
            self._warn_of_ambiguity(spec, choice)
            choice = _of_use(choice, device_type, self.chooser)
        allowed = strategy.cls.capabilities.precisions
        if allowed and choice.name not in allowed:
            raise ValueError(
                f"precision={choice.name!r} does not go with strategy={strategy.name!r}, which takes {', '.join(sorted(allowed))}."
            )
        return choice

    def _warn_of_ambiguity(self, wanted: str, choice: Choice) -> None:
        """Says how `"16"` was read; known names count too, so that it does not depend on what is installed."""
        names = {name.replace("_", "-") for name in (*map(normalise, self.registry.precision.names()), *COMPONENTS["precision"])}
        alike = sorted(name for name in names if name.startswith(f"{wanted}-"))
        if len(alike) > 1:
            rank_zero_warn(f"precision={wanted!r} may mean {' or '.join(alike)}; it is read as {choice.name!r}. Write which one you mean.")

    def _environment(self, strategy: Choice) -> Choice | None:
        given = self._part("environment", "cluster_environment")
        if given is not None:
            return given
        detected = [entry for entry in self.registry.environment.standing_for("detect") if self._detects(entry)]
        if detected:
            return self.chooser.of_entry(
                "environment", ComponentSpec(detected[0].name, detected[0].provider), detected[0], "environment", "it was detected"
            )
        if not strategy.cls.capabilities.distributed:
            self.chooser.decide("environment", "-", "-", f"no cluster was detected, and {strategy.name} works in one process")
            return None
        return self.chooser.need("environment", "default", "environment", why="no cluster was detected")

    def _detects(self, entry: Entry) -> bool:
        try:
            return bool(self.registry.environment.load(entry).detect())
        except Exception as error:  # a plugin that nobody named must not end a run that can do without it
            reason = str(error) if isinstance(error, ComponentError) else f"{type(error).__name__}: {error}"
            self.chooser.decide("environment", "-", entry.provider, f"passed over: {entry.name} ({reason})")
            return False

    def _launcher(self, strategy: Choice) -> Choice | None:
        name = strategy.cls.capabilities.launcher
        if name is None:
            self.chooser.decide("launcher", "-", "-", f"{strategy.name} starts no processes")
            return None
        return self.chooser.choose("launcher", name, "launcher", f"{strategy.name} starts its processes with it")

    def _layer_sync(self, strategy: Choice) -> Choice | None:
        given = self.plugins.get("layer_sync")
        if not self.request.sync_batchnorm:
            if given is None:
                self.chooser.decide("layer sync", "-", "-", "sync_batchnorm=False")
            return given
        wanted = self.chooser.need("layer_sync", "sync-batchnorm", "layer sync", why="sync_batchnorm=True")
        if given is not None and given.cls is not wanted.cls:
            raise MisconfigurationException(
                "sync_batchnorm=True and another layer sync in plugins exclude each other; give one of the two."
            )
        if not strategy.cls.capabilities.sync_batchnorm:
            self.chooser.decide("layer sync", "-", strategy.provider, f"not synchronised: {strategy.name} does not work on several devices")
            return None
        return given or wanted

    def _profiler(self) -> Choice | None:
        if self.request.profiler is None:
            return self.chooser.take("profiler", "default", "profiler")
        return self.chooser.choose("profiler", self.request.profiler, "profiler")

    def _loggers(self) -> list[Choice]:
        wanted = self.request.logger
        if wanted is False or (isinstance(wanted, list | tuple) and not wanted) or (self.request.quiet and wanted in (None, True)):
            self.chooser.decide("logger", "-", "-", "barebones or fast_dev_run" if self.request.quiet else f"logger={wanted!r}")
            return []
        if wanted is None or wanted is True:
            choice = (self.chooser.take if wanted is None else self.chooser.need)("logger", "default", "logger")
            return [choice] if choice else []
        return self._each("logger", "logger", wanted)

    def _callbacks(self) -> list[Choice]:
        request = self.request
        chosen = self._each("callback", "callbacks", request.callbacks)
        taken: set[str] = set().union(*(choice.cls.roles for choice in chosen))
        bars = [choice.name for choice in chosen if "progress-bar" in choice.cls.roles]
        if len(bars) > 1:
            raise MisconfigurationException(f"callbacks holds {len(bars)} progress bars ({', '.join(bars)}); give one.")
        switches = {
            "progress-bar": ("enable_progress_bar", request.enable_progress_bar),
            "model-summary": ("enable_model_summary", request.enable_model_summary),
            "checkpoint": ("enable_checkpointing", request.enable_checkpointing),
        }
        for role, (argument, wanted) in switches.items():
            if role in taken:
                if wanted is False and role != "model-summary":
                    names = ", ".join(choice.name for choice in chosen if role in choice.cls.roles)
                    raise MisconfigurationException(f"{argument}=False, and callbacks holds {names}; drop one of the two.")
            elif wanted is False or (request.quiet and not wanted and not (request.keeps_bar and role != "checkpoint")):
                self.chooser.decide(
                    role.replace("-", " "), "-", "-", f"{argument}=False" if wanted is False else "barebones or fast_dev_run"
                )
            else:
                choice = (self.chooser.take if wanted is None else self.chooser.need)("callback", role, role.replace("-", " "))
                if choice is not None:
                    chosen.append(choice)
        if request.max_time is not None and "timer" not in taken:
            limit = {"duration": request.max_time, "interval": "step"}
            chosen.append(self.chooser.need("callback", "timer", "timer", why="max_time is given", arguments=limit))
        return chosen


def _of_use(choice: Choice, device_type: str, chooser: Chooser) -> Choice:
    """The precision, or the one that takes its place on such a device, which is warned of."""
    instead = choice.cls.instead_of(choice.name, device_type)
    if instead is None:
        return choice
    name, why = instead
    rank_zero_warn(f"precision={choice.name!r}: {why}, so {name!r} is used; write that to silence this.")
    return chooser.choose("precision", name, "precision", f"in place of {choice.name}: {why}")


def _check_combination(resolution: Resolution) -> None:
    runs_on = resolution.strategy.cls.capabilities.device_types
    device_type = resolution.accelerator.cls.capabilities.device_type
    if runs_on and device_type not in runs_on:
        raise ValueError(
            f"strategy={resolution.strategy.name!r} does not run on accelerator={resolution.accelerator.name!r}, only on"
            f" {', '.join(sorted(runs_on))}."
        )
    profiler = resolution.profiler
    if profiler is not None and profiler.cls.device_types and device_type not in profiler.cls.device_types:
        raise MisconfigurationException(
            f"profiler={profiler.name!r} measures {', '.join(sorted(profiler.cls.device_types))} only, and the accelerator is"
            f" {resolution.accelerator.name!r}; use the accelerator of such a device, or another profiler."
        )
    processes = len(resolution.devices) * resolution.request.num_nodes
    if processes > 1 and not resolution.strategy.cls.capabilities.distributed:
        raise MisconfigurationException(
            f"strategy={resolution.strategy.name!r} works on one device, and devices={resolution.request.devices!r},"
            f" num_nodes={resolution.request.num_nodes} ask for {processes}; give devices=1 or a strategy for several."
        )


def _available(registry: Registry) -> str:
    names = []
    for entry in registry.accelerator.entries():
        with suppress(Exception):  # a plugin that cannot tell is none to choose
            if registry.accelerator.load(entry).is_available():
                names.append(entry.name)
    return f"Choose one of those that can be used here ({', '.join(names) or 'none'}), or 'auto' for the best of them."


def _no_plugin(registry: Registry, given: Any, kinds: tuple[str, ...]) -> ComponentError:
    """What to raise for an entry of `plugins` that is none: with the cure, where a plugin that is missing, blocked or broken brings it."""
    interfaces = [registry.kind(kind).interface for kind in kinds]
    if isinstance(given, str | Mapping):
        name = parse(given).name
        if reason := next(filter(None, (registry.diagnosis.missing(kind, name) for kind in kinds)), None):
            return reason
        near = get_close_matches(name, [name for kind in kinds for name in registry.kind(kind).names()], n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
    else:
        called = isinstance(given, type) and issubclass(given, tuple(interfaces))
        hint = f" Did you mean {given.__name__}(...)?" if called else ""
    offers = "; ".join(f"{kind}: {', '.join(registry.kind(kind).names()) or 'none'}" for kind in kinds)
    names = ", ".join(interface.__name__ for interface in interfaces)
    return ComponentTypeError(f"plugins: {given!r} is no registered name, and no object of {names}.{hint} Installed: {offers}.")


def _listed(value: Any, *interfaces: type[Any]) -> list[Any]:
    """None as nothing, one component as a list of one; any other iterable holds components."""
    if value is None or value is False:
        return []
    one = isinstance(value, (str, Mapping, type, *interfaces)) or not isinstance(value, Iterable)
    return [value] if one else list(value)
