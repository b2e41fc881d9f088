"""Whether growth pays: five small tasks, rules of state on a language model, and convolutions.

    python -m tools.experiments.pays --task rbf --seeds 5       # resumable; parts in runs/pays
    python -m tools.experiments.pays --data-root DIR            # all tasks; DIR holds cifar-10-batches-py
    python -m tools.experiments.pays --lengths --task conv      # is the task long enough?
    python -m tools.experiments.pays --tables                   # tables and picture of the results that are there

EXPERIMENTS, protocol: all arms of a seed start from one trunk and one stream of batches, and end when
they have spent the FLOPs of ``Task.steps`` training steps of the widest network, whatever they spent
them on. In all arms the optimizer goes on after growth, by the default rule where the arm names none.
``zero``, ``net2net`` and ``scratch`` get the neurons that the first arm chose with the same seed.

The analysis was written before the runs:

1. Every arm's learning rate is the one of least mean log error over ``Task.tuning_seeds``, which are not
   in the result. While it is at the edge of the rates, these are made longer, up to ``Task.extensions``
   times; an arm that is at the edge even then is marked. At that rate, every arm that grows chooses when
   it grows by the same seeds, if the task gives it the choice (``Task.moments``).
2. Per task and arm, over the seeds: log(error / error of the first arm, on the small tasks what ``fxgrow.grow`` does by default), its
   mean and its standard error. An arm is *worse* if the mean is above two standard errors, *better* if
   below minus two.
3. Capacity: without ``scratch`` clearly below ``narrow`` the task cannot show anything.
4. FLOPs saved: the share of the FLOPs that is left when a run first has the error that ``scratch`` of the
   same seed ends with, 0 if it never has it.
"""
