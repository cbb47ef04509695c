"""What the scheduler is asked for, as predicted from the model; doubled at every retry. Profiles may set their own."""

from safety_heads import resources as predicted


def need_of(wildcards, rulename):
    return predicted.need(config, RESULTS, rulename, wildcards)


def memory(wildcards, attempt, rulename):
    return predicted.memory_mb(need_of(wildcards, rulename), attempt)


def runtime(wildcards, attempt, threads, rulename):
    """Shorter where the job gets a GPU, be it by its rule or by a profile."""
    own = workflow.get_rule(rulename).resources
    asked = [own[name] for name in ("gpu", "gres") if name in own]
    on_gpu = any(one.is_evaluable() or one.value for one in asked)
    return predicted.minutes(need_of(wildcards, rulename), on_gpu, threads, attempt)


def scheduler_options():
    """Cores and resources as profile and command line set them, for the dry run of a plan."""
    asked = workflow.resource_settings
    options = ["--cores", asked.cores or "all"]
    if asked.overwrite_resources:
        options.append("--set-resources")
        for rule, own in asked.overwrite_resources.items():
            options += [f"{rule}:{name}={one.raw}" for name, one in own.items()]
    if asked.overwrite_threads:
        options += ["--set-threads", *(f"{rule}={n.raw}" for rule, n in asked.overwrite_threads.items())]
    return options
