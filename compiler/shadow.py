"""Now and then a query runs on both executors, and the two answers are compared.

The answer that goes out is the compiled one either way. The second execution is graphql-core's, on
the same context, so that it reads what the first one read. Mutations are never run twice.
"""

import inspect
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from graphql import DocumentNode
from strawberry import Schema

from compiler.info import Run
from compiler.outcome import to_json
from compiler.reference import reference_executor


@dataclass(frozen=True, slots=True)
class Shadow:
    """How many queries run twice, and who is told.

    Attributes:
        share: of the queries that are answered compiled, 0 to 1.
        tell: called with "equal", "different" or "failed" (the second execution alone) and with
            the text of the document.
    """

    share: float
    tell: Callable[[str, str], None]

    async def compare(
        self,
        schema: Schema,
        document: DocumentNode,
        run: Run,
        given: Mapping[str, Any],
        operation_name: str | None,
        data: Any,
    ) -> None:
        """Sometimes execute a query that was answered with `data` again, and tell what came."""
        if random.random() >= self.share:  # noqa: S311  # no secret
            return
        answer = to_json(data)
        try:
            executor = reference_executor(schema, document, run, given, operation_name)
            result: Any = executor.execute_operation()
            result = await result if inspect.isawaitable(result) else result
            is_equal = not result.errors and to_json(result.data) == answer
        except Exception:  # noqa: BLE001  # whatever it is, the answer is there already
            how = "failed"
        else:
            how = "equal" if is_equal else "different"
        self.tell(how, document.loc.source.body if document.loc else "")
