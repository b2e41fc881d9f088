import pytest

from fxgrow.continual import MasterSettings, TrainSettings
from fxgrow.continual.master_strategy import MasterStrategy
from fxgrow.continual.registry import STRATEGIES, StrategySetup
from fxgrow.growth import Budget
from tests.continual.tiny import INPUTS, model, tasks


@pytest.mark.parametrize("name", STRATEGIES)
def test_every_strategy_learns_from_one_setup(name: str) -> None:
    master, (task, _) = (
        MasterSettings(train=TrainSettings(epochs=1, batch_size=16, lr=0.1)),
        tasks(),
    )
    strategy = STRATEGIES[name](
        StrategySetup(model(), model(), INPUTS, master, Budget(neurons=2), target=0.1)
    )
    strategy.learn(task)
    assert strategy.network(task.name)(task.test.images).shape == (len(task.test), task.classes)
    assert strategy.parameters > 0
    if isinstance(strategy, MasterStrategy):
        assert (strategy.budget, strategy.target, strategy.master.settings) == (
            Budget(neurons=2),
            0.1,
            master,
        )


def test_what_grows_grows_in_its_own_way() -> None:
    setup = StrategySetup(model(), model(), INPUTS, MasterSettings(), Budget(neurons=2))
    growing = [
        strategy
        for name in STRATEGIES
        if isinstance(strategy := STRATEGIES[name](setup), MasterStrategy)
    ]
    assert len({repr(strategy.master.expansion) for strategy in growing}) == len(growing)
