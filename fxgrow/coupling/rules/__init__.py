"""The rules of coupling, by family of operators; ``table`` is where they are listed."""

from fxgrow.coupling.rules.table import FAMILIES, RULES, Rule, rule_for

__all__ = ["FAMILIES", "RULES", "Rule", "rule_for"]
