"""What may leave a budget or a rule, each with its reason. A test fails for an entry that is not needed any more."""

METHODS = {
    "lx.fabric:Fabric": "the methods that users know",
    "lx.module:LightningModule": "a list of hooks for users",
    "lx.interfaces.strategy:Strategy": "the interface for devices, processes and checkpoints; five members are abstract",
}
"""Classes with more than 20 methods, events and tests not counted."""

PARAMETERS = {
    "lx.export:_log_nothing": "the arguments of LightningModule.log, which TorchScript wants spelt out",
    "lx.export:_log_nothing_of": "the arguments of LightningModule.log_dict, which TorchScript wants spelt out",
    "lx.fabric:Fabric.__init__": "the arguments that users know",
    "lx.logging.log:RunLog.log": "the arguments of LightningModule.log, handed on by place since that is the way of every logged value",
    "lx.module:LightningModule.log": "the arguments that users know",
    "lx.trainer:Trainer.__init__": "the arguments that users know",
    "lx_plugin_tuner.tuner:Tuner.lr_find": "the arguments that users know",
    "lx_plugin_tuner.tuner:Tuner.scale_batch_size": "the arguments that users know",
}
"""Functions with more than 8 parameters, beside the constructors of components, which mirror what they wrap."""

PRIVATE = {
    "lx.export torch._inductor.aoti_compile_and_package": "what torch documents for compiled packages; it has no public name",
    "lx.data.combined hasattr(loader, '_iterator')": "torch has no other way to end persistent workers",
    "lx.logging.meters getattr(metric, '_forward_cache', metric)": "what a metric object returned for the last step; it has no public name",
    "lx.running.compiled getattr(model, '_orig_mod', model)": "how torch.compile marks what it wraps; it has no public name",
    "lx.running.compiled getattr(part, '_compiled_call_impl', None)": "how torch marks a module compiled in place; it has no public name",
    "lx.running.compiled hasattr(step, '_torchdynamo_orig_callable')": "how torch marks a compiled function; it has no public name",
}
"""Private names of other packages, as `module expression`."""

WORDS = {
    "cpu": "torch's type of a device",
    "cuda": "torch's type of a device",
    "early-stopping": "a role of callbacks",
    "model_summary": "the module in which Lightning has what `lx.utilities.model_summary` offers",
    "script": "a way to make TorchScript",
    "torch": "the package",
}
"""Strings in lx-core that are names of components, and mean something else there."""
