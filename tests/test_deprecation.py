"""Old spellings work for one version, and say what the new one is."""

import pytest

from fxgrow.deprecation import renamed_arguments, renamed_attributes


def test_an_old_name_gives_the_new_object_and_warns() -> None:
    attribute = renamed_attributes("math", {"square_root": "sqrt", "product": "operator:mul"})
    with pytest.warns(DeprecationWarning, match=r"math.square_root is math.sqrt now"):
        assert attribute("square_root")(9.0) == 3.0
    with pytest.warns(DeprecationWarning, match=r"math.product is operator.mul now"):
        assert attribute("product")(2, 3) == 6
    with pytest.raises(AttributeError, match="'math' has no attribute 'cube'"):
        attribute("cube")


def test_an_old_argument_is_passed_on_under_its_new_name() -> None:
    @renamed_arguments(loss="loss_fn")
    def grow(model: int, *, loss_fn: int) -> tuple[int, int]:
        return model, loss_fn

    assert grow(1, loss_fn=2) == (1, 2)
    with pytest.warns(DeprecationWarning, match=r"loss= of grow\(\) is loss_fn= now"):
        assert grow(1, loss=2) == (1, 2)
    with pytest.raises(TypeError, match="got both 'loss' and 'loss_fn'"):
        grow(1, loss=2, loss_fn=2)
