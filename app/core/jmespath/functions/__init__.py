"""The functions that transforms can call beside JMESPath's own: `compile_expression(text, functions=FUNCTIONS)`.

docs/functions.md has each of them, with an example that a test runs. All are pure: what they give follows from their
arguments and the Scope. They give null for null (where nulls are not the point), and raise ExpressionFailed only.

Those that take the place of JMESPath's own make numbers exactly, or write equal ones alike; the engine's stay as they
are in jmespath.py, which judges them.
"""

from collections.abc import Mapping

from app.core.jmespath.call import Function
from app.core.jmespath.functions.choices import CHOICE
from app.core.jmespath.functions.numeric import NUMBER
from app.core.jmespath.functions.objects import OBJECT
from app.core.jmespath.functions.regex import REGEX
from app.core.jmespath.functions.scopes import SCOPE, Scope
from app.core.jmespath.functions.strings import TEXT
from app.core.jmespath.functions.times import TIME

__all__ = ["FUNCTIONS", "Scope"]

FUNCTIONS: Mapping[str, Function] = {
    function.name: function for group in (CHOICE, TEXT, REGEX, NUMBER, TIME, OBJECT, SCOPE) for function in group
}
