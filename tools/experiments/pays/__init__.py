"""Whether growth pays where neurons are scarce: five small tasks, seven ways to get the neurons.

    python -m tools.experiments.pays --task rbf --seeds 5       # resumable; parts in runs/pays
    python -m tools.experiments.pays --data-root DIR            # all tasks; DIR holds cifar-10-batches-py

EXPERIMENTS, protocol: all arms of a seed start from one trunk and one stream of batches, and end when
they have spent the FLOPs of ``Task.steps`` training steps of the widest network, whatever they spent
them on. The optimizer begins anew after every growth, in all arms. ``zero``, ``net2net`` and
``scratch`` get the neurons that ``firefly`` chose with the same seed.

The analysis was written before the runs:

1. Every arm's learning rate is the one of least mean log error over ``TUNING_SEEDS``, which are not
   in the result. An arm at the edge of the rates is marked.
2. Per task and arm, over the seeds: log(error / error of firefly), its mean and its standard error. An
   arm is *worse* than firefly if the mean is above two standard errors, *better* if below minus two.
3. Capacity: without ``scratch`` clearly below ``narrow`` the task cannot show anything.
"""
