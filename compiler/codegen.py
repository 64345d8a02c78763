"""Python source out of a plan: one function per object, with everything known written out.

The source is one function `bind(R)`, called once per execution. It computes the arguments, defines
the functions and returns the roots and the asynchronous groups. In the source: `o` a parent,
`p` its place, `x…` values, `T` the kinds of classes, `R` the run, `Z` the zone whose moments are
written later; `C…` are constants.
"""

from collections.abc import Callable
from dataclasses import dataclass
from keyword import iskeyword
from typing import Any

from graphql import GraphQLNonNull, is_leaf_type
from strawberry import Schema

from compiler.codegen_values import ValueWriter
from compiler.fields import FieldClass
from compiler.info import RawInfo, Run
from compiler.plan import Plan, PlanField, PlanObject
from compiler.values import Bail, asks_each, exact_test
from compiler.waves import Group


@dataclass(slots=True)
class RootField:
    """One root field during one execution: called and completed on its own."""

    field: PlanField
    call: Callable[[Any, None], Any]
    complete: Callable[[Any, None], Any]


@dataclass(slots=True)
class Bound:
    """A compiled plan during one execution."""

    root: Callable[[Any], dict[str, Any]] | None
    roots: list[RootField | PlanField]
    groups: list[Group]


Bind = Callable[[Run], Bound]


def generate(schema: Schema, plan: Plan, *, separate_roots: bool) -> tuple[Bind, str]:
    """Compile a plan.

    Args:
        schema: Strawberry's.
        plan: the plan.
        separate_roots: whether the root fields are run one by one (mutations, subscriptions)
            instead of together.

    Returns:
        The function to call for each execution, and its source.
    """
    writer = _Writer(schema, plan)
    source = writer.write(separate_roots=separate_roots)
    names = writer.names
    code = compile(source, "<compiled GraphQL>", "exec")
    exec(code, names)  # noqa: S102  # written here, out of a validated document; see the module
    return names["bind"], source


class _Writer(ValueWriter):
    def __init__(self, schema: Schema, plan: Plan) -> None:
        super().__init__()
        self.plan = plan
        self.names.update(
            RAW=RawInfo,
            INFO=schema.config.info_class,
            Bail=Bail,
            Group=Group,
            Bound=Bound,
            RootField=RootField,
        )
        self.head: list[str] = ["Z = R.spelled_zone"]
        self.groups: list[str] = []

    def write(self, *, separate_roots: bool) -> str:
        """The whole source."""
        root = self.plan.root
        first = "None" if separate_roots else self.object_function(root, uniform=False)
        items = [self._root(part) for part in root.fields] if separate_roots else []
        lines = [
            *self.head,
            *self.body,
            f"return Bound({first}, [{', '.join(items)}], [{', '.join(self.groups)}])",
        ]
        return "\n".join(["def bind(R):", *(f"    {line}" for line in lines)]) + "\n"

    def object_function(self, made: PlanObject, *, uniform: bool) -> str:
        """Define the function of an object; its name. See `ValueWriter`."""
        name = f"f{made.number}"
        lines: list[str] = []
        places: dict[str, list[str]] = {}
        pairs = [f"{part.key!r}: {self._field(made, part, lines, places)}" for part in made.fields]
        later = []
        for place, groups in places.items():
            parent = f"(d, o, {place})"
            if len(groups) > 1:
                later.append(f"t = {parent}")
                parent = "t"
            later.extend(f"{group}({parent})" for group in groups)
        display = "{" + ", ".join(pairs) + "}"
        self.define(f"{name}({self._parameters(made, uniform=uniform)})", self._before(made))
        if any(_may_wait(part) and not _is_async(part) for part in made.fields):
            # A field that turns out to be awaited needs the answer before it is complete.
            merge = [f"e = {display}", "if d is None: d = e", "else: d.update(e)"]
            self.indent(["d = None", *lines, *merge, *later, "return d"])
        elif later:
            self.indent([*lines, f"d = {display}", *later, "return d"])
        else:
            self.indent([*lines, f"return {display}"])
        return name

    def _parameters(self, made: PlanObject, *, uniform: bool) -> str:
        if made is self.plan.root:
            return "o"
        if uniform:
            return "o, p, i"
        place = ", p" if made.needs_place else ""
        return f"o{place}, i" if asks_each(made.type.is_type_of) else f"o{place}"

    def _before(self, made: PlanObject) -> list[str]:
        if made is self.plan.root:
            return ["p = None"]
        if not made.type.is_type_of:
            return []
        test = self.constant(made.type.is_type_of)
        refuse = f"if k is not True: untyped(k, {made.type.name!r})"
        if asks_each(made.type.is_type_of):
            return [f"k = {test}(o, i)", refuse]
        known = self.constant(set())
        ask = [f"k = {test}(o, None)", refuse, f"{known}.add(type(o))"]
        return [f"if type(o) not in {known}:", *_deeper(ask)]

    # Fields

    def _field(
        self, made: PlanObject, part: PlanField, lines: list[str], places: dict[str, list[str]]
    ) -> str:
        """Write one field of an object; the expression of its value.

        What adds a parent to an asynchronous field's group is put into `places`, by place.
        """
        if part.call is None:
            return repr(made.type.name)
        number = part.number
        place = "p" if part.needs_place else "None"
        if _may_wait(part):
            self._group(part)
        if _is_async(part):
            places.setdefault(place, []).append(f"g{number}")
            return "None"
        variable = f"x{number}"
        if part.call.kind is FieldClass.ATTRIBUTE:
            lines.append(f"{variable} = {_attribute(part)}")
            lines.extend(self.completion(part, variable))
            return variable
        lines.extend(self._info_for_call(part))
        lines.append(f"{variable} = {self._call(part)}")
        wait = [
            "if d is None: d = {}",
            f"h{number}((d, {variable}, {place}))",
            f"{variable} = None",
        ]
        done = self.completion(part, variable, has_info=part.call.wants_info)
        unless = [f"if T[type({variable})] == 2:", *_deeper(wait), "else:", *_deeper(done)]
        if _is_exact_leaf(part):
            # The first line asks whether the value is complete already, which is cheaper.
            unless = [f"if T[type({variable})] == 2:", *_deeper(wait), "else:", *done[1:]]
            unless = [done[0], *_deeper(unless)]
        lines.extend(unless)
        return variable

    def _info_for_call(self, part: PlanField) -> list[str]:
        wanted = part.call is not None and part.call.wants_info
        return [self.info_line(part)] if wanted else []

    def _call(self, part: PlanField) -> str:
        """The expression that calls a field's resolver on `o`."""
        call = part.call
        assert call is not None  # noqa: S101  # the caller knows its class
        arguments: list[str] = []
        if call.kind is FieldClass.WRAPPED:
            arguments = ["o", f"i{part.number}"]
        else:
            if call.wants_self:
                arguments.append("o")
            arguments.extend(f"{name}=o" for name in call.parents_as)
            if call.info_as is not None:
                arguments.append(f"{call.info_as}={self._strawberry_info(part)}")
        arguments.extend(self._keywords(part))
        return f"{self.constant(call.resolver)}({', '.join(arguments)})"

    def _batch_call(self, part: PlanField) -> str:
        call = part.call
        assert call is not None  # noqa: S101  # the caller knows its class
        arguments = ["o", self._strawberry_info(part), *self._keywords(part)]
        return f"{self.constant(call.batch)}({', '.join(arguments)})"

    def _strawberry_info(self, part: PlanField) -> str:
        assert part.call is not None  # noqa: S101  # the caller knows its class
        return f"INFO(_raw_info=i{part.number}, _field={self.constant(part.call.strawberry)})"

    def _keywords(self, part: PlanField) -> list[str]:
        """The arguments as `**…`; computes once per execution what calls may share."""
        if part.arguments is None:
            return []
        name = f"a{part.number}"
        compiled = self.constant(part.arguments)
        values = f"{compiled}.values(R.variables)"
        shared = part.arguments.is_shared
        line = f"{name} = {compiled}.keywords({values})" if shared else f"{name} = {values}"
        if line not in self.head:
            self.head.append(line)
        return [f"**{name}" if shared else f"**{compiled}.keywords({name})"]

    # Fields that may have to be awaited

    def _group(self, part: PlanField) -> None:
        """Define how to call and complete a field that may have to be awaited."""
        number = part.number
        call = part.call
        assert call is not None  # noqa: S101  # the caller knows its class
        self.head.append(f"w{number} = []; g{number} = w{number}.append")
        self.head.append(f"v{number} = []; h{number} = v{number}.append")
        is_batch = call.batch is not None and call.kind is FieldClass.ASYNC
        if call.is_async:
            self._caller(part, is_batch=is_batch)
        self._completer(part)
        caller = f"r{number}" if call.is_async else "None"
        self.groups.append(
            f"Group({part.key!r}, {caller}, c{number}, w{number}, v{number}, is_batch={is_batch})"
        )

    def _caller(self, part: PlanField, *, is_batch: bool) -> None:
        call = part.call
        assert call is not None  # noqa: S101  # the caller knows its class
        if call.kind is FieldClass.ATTRIBUTE:
            lines, value = [], _attribute(part)
        elif is_batch:
            lines, value = [self.info_line(part)], self._batch_call(part)
        else:
            lines, value = self._info_for_call(part), self._call(part)
        self.define(f"r{part.number}(o, p)", [*lines, f"return {value}"])

    def _completer(self, part: PlanField) -> None:
        self.define(f"c{part.number}(x, p)", [*self.completion(part, "x"), "return x"])

    def _root(self, part: PlanField) -> str:
        """Define a root field that is run on its own; its expression."""
        if part.call is None:
            return self.constant(part)
        self._caller(part, is_batch=False)
        self._completer(part)
        return f"RootField({self.constant(part)}, r{part.number}, c{part.number})"


def _is_async(part: PlanField) -> bool:
    return part.call is not None and part.call.is_async


def _may_wait(part: PlanField) -> bool:
    return part.call is not None and part.call.kind is not FieldClass.ATTRIBUTE


def _attribute(part: PlanField) -> str:
    name = (part.call.attribute if part.call else None) or ""
    return f"getattr(o, {name!r})" if iskeyword(name) else f"o.{name}"


def _is_exact_leaf(part: PlanField) -> bool:
    assert part.definition is not None  # noqa: S101  # the caller knows its class
    type_ = part.definition.type
    leaf = type_.of_type if isinstance(type_, GraphQLNonNull) else type_
    return is_leaf_type(leaf) and exact_test(leaf) is not None


def _deeper(lines: list[str]) -> list[str]:
    return ["    " + line for line in lines]
