"""GraphQL documents compiled to Python over the same Strawberry resolvers."""

from compiler.events import CompiledSelection, compile_selection
from compiler.execute import CompiledExecutor, Fallback, Options
from compiler.fields import BATCH, CARRIED, CARRIES
from compiler.front import CompiledSchema, execute_function
from compiler.guard import Guard, SimpleGuard
from compiler.info import constant_of
from compiler.outcome import Outcome, Reason
from compiler.selection import Carried, Selection, carried_of, selection_of
from compiler.shadow import Shadow
from compiler.values import by_class

__all__ = [
    "BATCH",
    "CARRIED",
    "CARRIES",
    "Carried",
    "CompiledExecutor",
    "CompiledSchema",
    "CompiledSelection",
    "Fallback",
    "Guard",
    "Options",
    "Outcome",
    "Reason",
    "Selection",
    "Shadow",
    "SimpleGuard",
    "by_class",
    "carried_of",
    "compile_selection",
    "constant_of",
    "execute_function",
    "selection_of",
]
