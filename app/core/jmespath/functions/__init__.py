"""The functions that transforms can call beside JMESPath's own: `compile_expression(text, functions=FUNCTIONS)`.

docs/functions.md documents each with an example that a test runs. All are pure: results depend only on the arguments
and the Scope. They return null for null (unless null is their purpose), and raise only ExpressionFailed.

Those that replace JMESPath's own compute exactly, or write equal numbers alike; the originals stay in the engine as
they are in jmespath.py, the reference for them.
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
