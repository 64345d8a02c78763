"""Python source out of a plan, with everything known written out.

The source is made of functions that get the run `R` of an execution. `bind` computes its arguments,
`root` completes the root object; of an awaited field `r…` calls the resolver, and `w…` completes
the values of all parents together. Objects are written into the function that meets them, as far
as they go; others have functions `f…`.

In the source: `o` a parent, `p…` the place of an object, `x…` values, `d…` answers, `T` the kinds
of classes, `Z` the zone whose moments are written later; `C…` are constants. `D…`, `O…` and `P…`
collect the answers, objects and places of a level `L…`; `F…` is a synchronous field whose value may
have to be awaited.
"""

from collections.abc import Callable
from dataclasses import dataclass
from keyword import iskeyword
from typing import Any

from graphql import GraphQLNonNull, Undefined, is_leaf_type
from strawberry import Info, Schema

from compiler.arguments import MISSING_REQUIRED, Arguments
from compiler.codegen_values import Function, ValueWriter, deeper, has_places
from compiler.fields import FieldClass
from compiler.info import RawInfo, Run
from compiler.plan import Plan, PlanField, PlanObject
from compiler.values import Bail
from compiler.waves import AsyncField, AwaitedField, Landing, Level


@dataclass(frozen=True, slots=True)
class RootField:
    """One root field that is called and completed on its own: `(run, parent, place)`."""

    field: PlanField
    call: Callable[[Run, Any, None], Any]
    land: Landing


@dataclass(frozen=True, slots=True)
class Code:
    """The code of a plan.

    Attributes:
        bind: computes the arguments of an execution; raises where graphql-core has to.
        root: completes the root value; None where the root fields are run one by one.
        roots: those fields.
        source: the text.
    """

    bind: Callable[[Run], None]
    root: Callable[[Run, Any], dict[str, Any]] | None
    roots: tuple[RootField | PlanField, ...]
    source: str


def generate(schema: Schema, plan: Plan, *, separate_roots: bool) -> Code:
    """Compile a plan.

    Args:
        schema: Strawberry's.
        plan: the plan.
        separate_roots: whether the root fields are run one by one (mutations, subscriptions)
            instead of together.
    """
    writer = _Writer(schema, plan)
    source = writer.write(separate_roots=separate_roots)
    names = writer.names
    roots = tuple(
        RootField(part, names[f"r{part.number}"], names[f"w{part.number}"]) if part.call else part
        for part in (plan.root.fields if separate_roots else ())
    )
    return Code(names["bind"], names.get("root"), roots, source)


class _Writer(ValueWriter):
    def __init__(self, schema: Schema, plan: Plan) -> None:
        super().__init__()
        self.plan = plan
        # A class is called in half the time without keywords, which its own signature may need.
        made_as_ours = schema.config.info_class.__init__ is Info.__init__
        self._info_call = "INFO({}, {})" if made_as_ours else "INFO(_raw_info={}, _field={})"
        self.names.update(RAW=RawInfo, INFO=schema.config.info_class, Bail=Bail, U=Undefined)
        self._arguments: dict[str, list[str]] = {}
        self._defined: set[int] = set()
        self._async: list[tuple[Level, PlanField]] = []

    def write(self, *, separate_roots: bool) -> str:
        """Write everything; the source."""
        root = self.plan.root
        if separate_roots:
            for part in root.fields:
                if part.call is not None:
                    self._caller(part)
                    self._landing(part)
        else:
            inside = Function()
            lines = inside.around(self.object_lines(root, "o", inside))
            self.define("root(R, o)", [f"p{root.number} = None", *lines, f"return d{root.number}"])
        values = "".join(f"a{number}, " for number in range(len(self._arguments)))
        lines = [line for bound in self._arguments.values() for line in bound]
        self.define("bind(R)", ["V = R.variables", *lines, f"R.arguments = ({values})"])
        return self._execute()

    def late(self, part: PlanField) -> Landing:
        """Write how to complete what a synchronous resolver left to be awaited."""
        self._landing(part)
        self._execute()
        landing: Landing = self.names[f"w{part.number}"]
        return landing

    def _execute(self) -> str:
        source = "\n".join(self.body) + "\n"
        self.body.clear()
        code = compile(source, "<compiled GraphQL>", "exec")
        exec(code, self.names)  # noqa: S102  # written here, out of a validated document; see the module
        for level, part in self._async:
            call, land = (self.names[f"{letter}{part.number}"] for letter in "rw")
            level.fields.append(AsyncField(land=land, call=call, is_batch=_is_batch(part)))
        self._async.clear()
        return source

    def object_lines(self, made: PlanObject, x: str, inside: Function) -> list[str]:
        """See `ValueWriter`."""
        d = f"d{made.number}"
        p = f"p{made.number}"
        pairs, lines = [], []
        may_wait = False
        for part in made.fields:
            value = f"x{part.number}"
            if part.call is None:
                value = repr(made.type.name)
            elif part.call.is_async:
                self._await(made, part, inside)
                value = "None"
            elif part.call.kind is FieldClass.ATTRIBUTE:
                lines.append(f"{value} = {_attribute(part, x)}")
                lines += self.completion(part, value, p, inside)
            else:
                may_wait = True
                lines += self._called_in_line(made, part, x, inside)
            pairs.append(f"{part.key!r}: {value}")
        display = "{" + ", ".join(pairs) + "}"
        if may_wait:
            # A field that turns out to be awaited needs the answer before it is complete.
            lines = [f"{d} = None", *lines, f"e = {display}"]
            lines += [f"if {d} is None: {d} = e", f"else: {d}.update(e)"]
        else:
            lines.append(f"{d} = {display}")
        if made.number in inside.levels:
            place = p if made.needs_place else "None"
            number = made.number
            lines.append(f"D{number}.append({d}); O{number}.append({x}); P{number}.append({place})")
        return lines

    # Fields with resolvers

    def _called_in_line(
        self, made: PlanObject, part: PlanField, x: str, inside: Function
    ) -> list[str]:
        """Statements that call a synchronous resolver and complete its value, or put it off."""
        d, p, value = f"d{made.number}", f"p{made.number}", f"x{part.number}"
        self.names.setdefault(f"F{part.number}", AwaitedField(_Late(self, part)))
        wants_info = part.call is not None and part.call.wants_info
        lines = [self.info_line(part, p)] if wants_info else []
        lines.append(f"{value} = {self._call(part, x)}")
        place = p if part.needs_place else "None"
        put_off = [
            f"if {d} is None: {d} = {{}}",
            f"R.late.append((F{part.number}, {d}, {value}, {place}))",
            f"{value} = None",
        ]
        unless = [f"if T[type({value})] == 2:", *deeper(put_off), "else:"]
        quick, slow = self._quick_leaf(part, value, inside)
        if quick:
            # What is usual is asked first, which is cheaper.
            return [*lines, *quick, *deeper([*unless, *deeper(slow)])]
        done = self.completion(part, value, p, inside, has_info=wants_info)
        return [*lines, *unless, *deeper(done)]

    def _quick_leaf(
        self, part: PlanField, value: str, inside: Function
    ) -> tuple[list[str], list[str]]:
        assert part.definition is not None  # noqa: S101  # the caller knows its class
        type_: Any = part.definition.type
        nullable = not isinstance(type_, GraphQLNonNull)
        leaf = type_ if nullable else type_.of_type
        if not is_leaf_type(leaf):
            return [], []
        return self.leaf(leaf, value, inside, nullable=nullable)

    def _call(self, part: PlanField, x: str) -> str:
        """The expression that calls a field's resolver on a parent."""
        call = part.call
        assert call is not None  # noqa: S101  # the caller knows its class
        arguments: list[str] = []
        if call.kind is FieldClass.WRAPPED:
            arguments = [x, f"i{part.number}"]
        else:
            if call.wants_self:
                arguments.append(x)
            arguments.extend(f"{name}={x}" for name in call.parents_as)
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
        return self._info_call.format(f"i{part.number}", self.constant(part.call.strawberry))

    def _keywords(self, part: PlanField) -> list[str]:
        """The arguments as `**…`; computes once per execution what calls may share."""
        if part.arguments is None:
            return []
        if part.arguments.is_constant:
            return [f"**{self.constant(part.arguments.keywords(part.arguments.values({})))}"]
        compiled = self.constant(part.arguments)
        number = len(self._arguments)
        shared = part.arguments.is_shared
        if compiled in self._arguments:
            number = list(self._arguments).index(compiled)
        elif shared:
            self._arguments[compiled] = self._bound(part.arguments, f"a{number}")
        else:
            self._arguments[compiled] = [f"a{number} = {compiled}.values(V)"]
        found = f"R.arguments[{number}]"
        return [f"**{found}" if shared else f"**{compiled}.keywords({found})"]

    def _bound(self, arguments: Arguments, a: str) -> list[str]:
        """Statements that put `keywords(values(V))` of arguments without converters into `a`."""
        names = {name: python_name for name, python_name, _ in arguments.converters}
        lines = [f"{a} = {{}}"]
        for source in arguments.sources:
            put = f"{a}[{names[source.name]!r}]" if source.name in names else "v"
            variable = repr(source.variable)
            if source.default is MISSING_REQUIRED:
                lines.append(f"{put} = v = V.get({variable})")
                lines.append(f"if v is None: raise Bail({source.name + ' is required'!r})")
            elif source.variable is not None and source.default is Undefined:
                lines.append(f"if {variable} in V: {put} = V[{variable}]")
            else:
                lines.append(f"v = {self.constant(source)}.value(V)")
                lines.append(f"if v is not U: {put} = v")
        return lines

    # Fields that may have to be awaited

    def _await(self, made: PlanObject, part: PlanField, inside: Function) -> None:
        """Note an asynchronous field of an object."""
        number = made.number
        if number not in inside.levels:
            inside.levels.append(number)
        if part.number not in self._defined:
            self._defined.add(part.number)
            self._async.append((self.names.setdefault(f"L{number}", Level([])), part))
            self._caller(part)
            self._landing(part)

    def _caller(self, part: PlanField) -> None:
        """Define how to call a field, or all fields of a level at once."""
        call = part.call
        assert call is not None  # noqa: S101  # the caller knows its class
        if call.kind is FieldClass.ATTRIBUTE:
            lines, value = [], _attribute(part, "o")
        else:
            lines = [self.info_line(part, "p")] if call.wants_info else []
            value = self._batch_call(part) if _is_batch(part) else self._call(part, "o")
        self.define(f"r{part.number}(R, o, p)", [*lines, f"return {value}"])

    def _landing(self, part: PlanField) -> None:
        """Define how to complete the values of a field that were awaited."""
        inside = Function()
        body = [*self.completion(part, "x", "p", inside), f"d[{part.key!r}] = x"]
        needs_place = part.completes_with_info or has_places(part)
        begin = "for d, p, x in zip(D, P, X):" if needs_place else "for d, x in zip(D, X):"
        loop = [begin, *deeper(body)]
        self.define(f"w{part.number}(R, D, P, X)", inside.around(loop))


class _Late:
    """A landing that is written when it is needed first: few synchronous resolvers leave any."""

    __slots__ = ("_landing", "_part", "_writer")

    def __init__(self, writer: _Writer, part: PlanField) -> None:
        self._writer = writer
        self._part = part
        self._landing: Landing | None = None

    def __call__(self, run: Run, answers: Any, places: Any, values: Any) -> None:
        if self._landing is None:
            self._landing = self._writer.late(self._part)
        self._landing(run, answers, places, values)


def _is_batch(part: PlanField) -> bool:
    call = part.call
    return call is not None and call.batch is not None and call.kind is FieldClass.ASYNC


def _attribute(part: PlanField, x: str) -> str:
    name = (part.call.attribute if part.call else None) or ""
    return f"getattr({x}, {name!r})" if iskeyword(name) else f"{x}.{name}"
