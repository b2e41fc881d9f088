"""Whether growth pays: five small tasks with eight arms each, and rules of state on a language model.

    python -m tools.experiments.pays --task rbf --seeds 5       # resumable; parts in runs/pays
    python -m tools.experiments.pays --data-root DIR            # all tasks; DIR holds cifar-10-batches-py
    python -m tools.experiments.pays --tables                   # tables and picture of the results that are there

EXPERIMENTS, protocol: all arms of a seed start from one trunk and one stream of batches, and end when
they have spent the FLOPs of ``Task.steps`` training steps of the widest network, whatever they spent
them on. On the small tasks the optimizer begins anew after every growth, in all arms, and ``zero``,
``net2net`` and ``scratch`` get the neurons that ``firefly`` chose with the same seed. On ``lm`` all arms
get the same neurons, and differ in how the optimizer goes on.

The analysis was written before the runs:

1. Every arm's learning rate is the one of least mean log error over ``Task.tuning_seeds``, which are not
   in the result. An arm at the edge of the rates is marked.
2. Per task and arm, over the seeds: log(error / error of the first arm, firefly on the small tasks), its
   mean and its standard error. An arm is *worse* if the mean is above two standard errors, *better* if
   below minus two.
3. Capacity: without ``scratch`` clearly below ``narrow`` the task cannot show anything.
"""
